"""pg8000: a driver without libpq."""

import io
import sys
from urllib.parse import urlparse

import pg8000.dbapi
import pg8000.native

url = urlparse(sys.argv[1])
place = {"host": url.hostname, "port": url.port, "database": url.path[1:]}
with pg8000.native.Connection(url.username, **place) as connection:
    print("row", connection.run("SELECT :a::bigint AS a, :b::text AS b, NULL::integer AS c", a=7, b="x"), [c["name"] for c in connection.columns])
    connection.run("CREATE TABLE p8 (id bigint, name text)")
    connection.run("COPY p8 FROM STDIN", stream=io.StringIO("1\tone\n2\t\\N\n"))
    print("copied", connection.row_count, connection.run("SELECT * FROM p8 ORDER BY id"))
    connection.run("START TRANSACTION")
    connection.run("DELETE FROM p8")
    connection.run("ROLLBACK")
    print("kept", connection.run("SELECT count(*) FROM p8"))
    try:
        connection.run("SELECT 1 / 0")
    except pg8000.native.DatabaseError as error:
        print("error", error.args[0]["C"])

connection = pg8000.dbapi.connect(url.username, **place)
cursor = connection.cursor()
cursor.execute("UPDATE p8 SET name = %s WHERE name IS NULL", ("two",))
print("updated", cursor.rowcount)
connection.commit()
cursor.execute("SELECT name FROM p8 ORDER BY id")
print("rows", cursor.fetchall())
cursor.execute("DROP TABLE p8")
connection.commit()
connection.close()
