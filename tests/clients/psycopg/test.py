"""psycopg 3: transactions, savepoints, parameters in text and binary, pipelines, named cursors, COPY."""

import datetime
import sys
from decimal import Decimal

import psycopg
from psycopg import errors

url = sys.argv[1]

with psycopg.connect(url) as connection:
    # no autocommit: the first statement begins a transaction
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE psy (id integer, name text, price numeric(10,2), day date, at timestamp, seen timestamptz, ok boolean, raw bytea)")
    print("status", connection.info.transaction_status.name)
    connection.rollback()
    try:
        cursor.execute("SELECT * FROM psy")
    except errors.UndefinedTable as error:
        print("rolled back", error.sqlstate)
    connection.rollback()

    cursor.execute("CREATE TABLE psy (id integer, name text, price numeric(10,2), day date, at timestamp, seen timestamptz, ok boolean, raw bytea)")
    row = (
        1,
        "ä 'quoted'",
        Decimal("12.50"),
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 30, 15, 250000),
        datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
        True,
        b"\x00\xff",
    )
    cursor.execute("INSERT INTO psy VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", row)
    print("inserted", cursor.rowcount, cursor.statusmessage)
    cursor.executemany("INSERT INTO psy (id, name) VALUES (%s, %s)", [(n, f"n{n}") for n in range(2, 6)])
    print("many", cursor.rowcount)
    connection.commit()

    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute("SELECT * FROM psy WHERE id = %s", (1,))
        print("row", cursor.fetchone())
        print("types", [(column.name, column.type_code) for column in cursor.description])
        cursor.execute("SELECT %s::bigint, %s::double precision, %s::text, %s::smallint, NULL::integer", (2**40, 0.1, "x", 7))
        print("values", cursor.fetchone())
        cursor.execute("SELECT ARRAY[1::bigint, 2, NULL], ARRAY['a', 'b c', NULL]::text[]")
        print("arrays", cursor.fetchone())

    # a failure in a savepoint leaves the rest
    with connection.transaction():
        connection.execute("UPDATE psy SET name = 'changed' WHERE id = 2")
        try:
            with connection.transaction():
                connection.execute("DELETE FROM psy")
                connection.execute("SELECT 1 / 0")
        except errors.DivisionByZero as error:
            print("savepoint", error.sqlstate, connection.info.transaction_status.name)
    print("after", connection.execute("SELECT id, name FROM psy ORDER BY id").fetchall())
    connection.commit()

    with connection.pipeline():
        first = connection.execute("SELECT id::bigint FROM psy ORDER BY id LIMIT 2")
        second = connection.execute("DELETE FROM psy WHERE id > 3")
        print("pipeline", first.fetchall(), second.rowcount)
    connection.commit()

    with connection.cursor(name="named") as named:
        named.execute("SELECT generate_series(1::bigint, 10::bigint)")
        print("named", named.fetchmany(3), named.fetchone())
    connection.commit()

    with connection.cursor() as cursor:
        with cursor.copy("COPY psy (id, name) FROM STDIN") as copy:
            copy.write_row((10, "tab\there"))
            copy.write_row((11, None))
        print("copied", cursor.rowcount)
        with cursor.copy("COPY (SELECT id, name FROM psy WHERE id >= 10 ORDER BY id) TO STDOUT") as copy:
            print("copy", list(copy.rows()))
        with cursor.copy("COPY (SELECT id, name FROM psy WHERE id >= 10 ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            print("binary", list(copy.rows()))
    connection.rollback()
    print("left", connection.execute("SELECT count(*) FROM psy").fetchone())

    connection.commit()
    connection.autocommit = True
    connection.execute("TRUNCATE psy")
    connection.execute("CREATE TEMPORARY TABLE psy_temp AS SELECT 1::bigint AS a")
    print("temporary", connection.execute("SELECT a FROM psy_temp").fetchone())
    connection.execute("DROP TABLE psy")

with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as other:
    one.execute("CREATE TABLE psy (id bigint)")
    one.execute("INSERT INTO psy VALUES (1)")
    one.isolation_level = other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    one.autocommit = other.autocommit = False
    print("snapshot", one.execute("SELECT sum(id)::bigint FROM psy").fetchone())
    other.execute("UPDATE psy SET id = 2")
    other.commit()
    print("still", one.execute("SELECT sum(id)::bigint FROM psy").fetchone())
    try:
        one.execute("UPDATE psy SET id = 3")
        one.commit()
    except errors.SerializationFailure as error:
        print("conflict", error.sqlstate)
    one.rollback()
    print("now", one.execute("SELECT sum(id)::bigint FROM psy").fetchone())
    one.rollback()
    one.autocommit = True
    one.execute("DROP TABLE psy")
