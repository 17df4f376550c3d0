"""Polars: reads by connectorx and by ADBC, writes by ADBC."""

import sys

import polars

url = sys.argv[1]
frame = polars.DataFrame({"id": [1, 2, 3], "name": ["a", None, "c"], "price": [0.5, 1.5, None]})
print("written", frame.write_database("polars", url, engine="adbc", if_table_exists="replace"))
print("appended", frame.write_database("polars", url, engine="adbc", if_table_exists="append"))
for engine in ("adbc", "connectorx"):
    read = polars.read_database_uri("SELECT id, name, price FROM polars ORDER BY id, name", url, engine=engine)
    print(engine, read.schema, read.rows())
frame.head(1).write_database("polars", url, engine="adbc", if_table_exists="replace")
print("replaced", polars.read_database_uri("SELECT count(*) AS n FROM polars", url, engine="adbc").rows())
polars.read_database_uri("SELECT 1::bigint AS a", url, engine="adbc")
import adbc_driver_postgresql.dbapi

with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
    cursor.execute("DROP TABLE polars")
    connection.commit()
