"""SQLAlchemy over psycopg and psycopg2: inspector, reflection, DDL and DML of its core, pandas in both directions."""

import sys

import pandas
import sqlalchemy as sa

for driver in ("psycopg", "psycopg2"):
    engine = sa.create_engine(sys.argv[1].replace("postgresql://", f"postgresql+{driver}://"))
    metadata = sa.MetaData(schema="work")
    people = sa.Table(
        "people",
        metadata,
        sa.Column("id", sa.BigInteger),
        sa.Column("name", sa.Text),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("at", sa.DateTime),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(people.insert(), [{"id": n, "name": f"n{n}", "price": n} for n in range(4)])
        print(driver, "updated", connection.execute(people.update().where(people.c.id > 1).values(name="x")).rowcount)
        print(driver, "deleted", connection.execute(people.delete().where(people.c.id == 0)).rowcount)
    with engine.connect() as connection:
        print(driver, "rows", connection.execute(sa.select(people.c.id, people.c.name).order_by(people.c.id)).all())
        with connection.begin_nested():
            connection.execute(people.delete())
        connection.rollback()
        print(driver, "left", connection.execute(sa.select(sa.func.count()).select_from(people)).scalar())

    with engine.begin() as connection:
        connection.execute(sa.text("CREATE VIEW work.names AS SELECT name FROM work.people"))
        connection.execute(sa.text("COMMENT ON TABLE work.people IS 'who buys'"))
        connection.execute(sa.text("COMMENT ON COLUMN work.people.id IS 'the key'"))
    inspector = sa.inspect(engine)
    print(driver, "default", inspector.default_schema_name)
    print(driver, "tables", inspector.get_table_names(schema="work"), inspector.get_view_names(schema="work"))
    print(driver, "columns", [(c["name"], str(c["type"]), c["nullable"], c["comment"]) for c in inspector.get_columns("people", schema="work")])
    print(driver, "keys", inspector.get_pk_constraint("people", schema="work")["constrained_columns"], inspector.get_foreign_keys("people", schema="work"))
    print(driver, "indexes", inspector.get_indexes("people", schema="work"), inspector.get_unique_constraints("people", schema="work"))
    print(driver, "comment", inspector.get_table_comment("people", schema="work"))
    print(driver, "definition", "people" in inspector.get_view_definition("names", schema="work"))
    print(driver, "has", inspector.has_table("people", schema="work"), inspector.has_table("nothing", schema="work"))
    reflected = sa.Table("people", sa.MetaData(), schema="work", autoload_with=engine)
    print(driver, "reflected", [(c.name, repr(c.type)) for c in reflected.columns])
    with engine.begin() as connection:
        connection.execute(sa.text("DROP VIEW work.names"))

    frame = pandas.DataFrame({"id": [1, 2, 3], "name": ["a", None, "c"], "price": [0.5, None, 2.5]})
    print(driver, "written", frame.to_sql("frame", engine, schema="work", if_exists="replace", index=False))
    print(driver, "appended", frame.to_sql("frame", engine, schema="work", if_exists="append", index=False))
    read = pandas.read_sql("SELECT id, name, price FROM work.frame ORDER BY id, price", engine)
    print(driver, "read", read.to_dict("list"), list(map(str, read.dtypes)))
    print(driver, "table", pandas.read_sql_table("frame", engine, schema="work").shape)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE work.frame"))
    metadata.drop_all(engine)
    engine.dispose()
