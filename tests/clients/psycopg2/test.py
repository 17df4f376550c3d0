"""psycopg2: transactions, named cursors, COPY, errors."""

import io
import sys

import psycopg2
import psycopg2.extras

connection = psycopg2.connect(sys.argv[1])
cursor = connection.cursor()
cursor.execute("CREATE TABLE two (id bigint, name text)")
psycopg2.extras.execute_values(cursor, "INSERT INTO two (id, name) VALUES %s", [(n, f"n{n}") for n in range(5)])
print("inserted", cursor.rowcount)
connection.commit()
cursor.execute("UPDATE two SET name = %s WHERE id = ANY(%s)", ("x", [1, 2]))
print("updated", cursor.rowcount)
connection.rollback()
cursor.execute("SELECT name FROM two WHERE id IN %s ORDER BY id", ((1, 2),))
print("rolled back", cursor.fetchall())
try:
    cursor.execute("SELECT nothing FROM two")
except psycopg2.Error as error:
    print("error", error.pgcode, error.diag.severity)
try:
    cursor.execute("SELECT 1")
except psycopg2.Error as error:
    print("aborted", error.pgcode)
connection.rollback()

named = connection.cursor("named", cursor_factory=psycopg2.extras.DictCursor)
named.itersize = 2
named.execute("SELECT id, name FROM two ORDER BY id")
print("named", [dict(row) for row in named])
connection.commit()

cursor.copy_expert("COPY two FROM STDIN (FORMAT csv)", io.StringIO('7,"se,ven"\n8,\n'))
print("copied", cursor.rowcount)
out = io.StringIO()
cursor.copy_expert("COPY (SELECT * FROM two WHERE id > 6 ORDER BY id) TO STDOUT (FORMAT csv, HEADER)", out)
print("copy", out.getvalue().splitlines())
connection.commit()
cursor.execute("DELETE FROM two WHERE id > 6")
print("deleted", cursor.rowcount, cursor.statusmessage)
cursor.execute("DROP TABLE two")
connection.commit()
connection.set_session(readonly=True, autocommit=True)
try:
    cursor.execute("CREATE TABLE two (id bigint)")
except psycopg2.Error as error:
    print("read only", error.pgcode)
connection.close()
