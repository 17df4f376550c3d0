"""ADBC: results by binary COPY, ingest of Arrow tables, schemas and what is in them."""

import sys

import adbc_driver_postgresql.dbapi
import pyarrow

with adbc_driver_postgresql.dbapi.connect(sys.argv[1]) as connection, connection.cursor() as cursor:
    cursor.execute("SELECT 1::bigint AS a, 'x'::text AS b, 0.5::float8 AS c, true AS d, NULL::integer AS e, DATE '2024-02-29' AS f")
    table = cursor.fetch_arrow_table()
    print("row", table.to_pylist(), [str(field.type) for field in table.schema])
    cursor.execute("SELECT $1::bigint + 1 AS a, $2::text AS b", (41, "y"))
    print("parameters", cursor.fetch_arrow_table().to_pylist())
    data = pyarrow.table({"id": pyarrow.array([1, 2, 3], pyarrow.int64()), "name": ["a", None, "c"], "price": [0.5, 1.5, None]})
    print("ingested", cursor.adbc_ingest("adbc", data, mode="create"))
    print("appended", cursor.adbc_ingest("adbc", data, mode="append"))
    connection.commit()
    cursor.execute("SELECT count(*) AS n, sum(price) AS s FROM adbc")
    print("sum", cursor.fetch_arrow_table().to_pylist())
    print("schema", [(field.name, str(field.type)) for field in connection.adbc_get_table_schema("adbc")])
    for depth in ("catalogs", "db_schemas", "tables", "columns", "all"):
        objects = connection.adbc_get_objects(depth=depth, catalog_filter="stratagem", db_schema_filter="work", table_name_filter="adbc%")
        for catalog in objects.read_all().to_pylist():
            print("objects", depth, catalog)
    cursor.execute("DELETE FROM adbc")
    connection.rollback()
    cursor.execute("SELECT count(*) AS n FROM adbc")
    print("kept", cursor.fetchone())
    cursor.execute("DROP TABLE adbc")
    connection.commit()
