"""asyncpg: everything is prepared and in binary; types it does not know it looks up in the catalog."""

import asyncio
import datetime
import sys
from decimal import Decimal

import asyncpg


async def main():
    connection = await asyncpg.connect(sys.argv[1])
    print("typed", await connection.fetchrow("SELECT $1::int AS i, $2::text AS t, $3::float8 AS f, $4::bool AS b", 7, "x", 0.5, True))
    print("numeric", await connection.fetchval("SELECT $1::numeric(12,3)", Decimal("3.125")))
    when = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)
    print("times", await connection.fetchrow("SELECT $1::timestamptz AS a, $2::date AS b, $3::time AS c", when, when.date(), when.time()))
    await connection.execute("CREATE TABLE apg (id bigint, name text, price double precision)")
    print("many", await connection.executemany("INSERT INTO apg VALUES ($1, $2, $3)", [(n, f"n{n}", n / 2) for n in range(100)]))
    print("update", await connection.execute("UPDATE apg SET name = $1 WHERE id < $2", "low", 3))
    print("records", await connection.copy_records_to_table("apg", records=[(200, "copied", None), (201, None, 1.5)]))
    print("sum", await connection.fetchrow("SELECT count(*), max(price) FROM apg"))
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM apg")
            async with connection.transaction():
                await connection.execute("INSERT INTO apg VALUES (1, 'in', 1)")
            print("inside", await connection.fetchval("SELECT count(*) FROM apg"))
            raise RuntimeError
    except RuntimeError:
        print("outside", await connection.fetchval("SELECT count(*) FROM apg"))
    async with connection.transaction():
        cursor = await connection.cursor("SELECT id FROM apg ORDER BY id")
        print("cursor", await cursor.fetch(2), await cursor.forward(10), await cursor.fetchrow())
    statement = await connection.prepare("SELECT id, name FROM apg WHERE id = $1")
    print("prepared", statement.get_parameters()[0].name, [a.type.name for a in statement.get_attributes()], await statement.fetchval(5))
    print("lists", await connection.fetchrow("SELECT ARRAY[1, 2, NULL] AS a, ARRAY['x', 'y z'] AS b, ARRAY[0.5::float8] AS c, $1::bigint[] AS d", [1, None]))
    print("any", await connection.fetch("SELECT id FROM apg WHERE id = ANY($1::bigint[]) ORDER BY id", [3, 5, 1000]))
    print("many texts", await connection.fetchval("SELECT array_length($1::text[], 1)", ["a", "b{}", ""]))
    print("row", await connection.fetchval("SELECT ROW(1, 'x')"))
    for sql in ("SELECT * FROM nowhere", "SELECT 1 / 0", "SELEC"):
        try:
            await connection.fetch(sql)
        except asyncpg.PostgresError as error:
            print("error", error.sqlstate)
    await connection.execute("DROP TABLE apg")
    await connection.reset()
    await connection.close()


asyncio.run(main())
