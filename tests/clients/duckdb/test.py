"""DuckDB's postgres extension: a database that is attached, its tables read with conditions pushed down, joined and written."""

import sys
from pathlib import Path
from urllib.parse import urlparse

import duckdb
import duckdb_extension_postgres_scanner as extension

url = urlparse(sys.argv[1])
address = f"host={url.hostname} port={url.port} user={url.username} dbname={url.path[1:]}"
connection = duckdb.connect(config={"threads": 2})
file = next(Path(extension.__file__).parent.rglob("*.duckdb_extension"))
connection.execute(f"LOAD '{file}'")

def show(what, sql):
    connection.execute(sql)
    rows = connection.fetchall()
    print(what, rows, [f"{name} {kind}" for name, kind, *_ in connection.description or []])

connection.execute(f"ATTACH '{address}' AS far (TYPE postgres)")
connection.execute("CALL postgres_execute('far', 'DROP TABLE IF EXISTS work.duck; DROP TABLE IF EXISTS work.duck_copy')")
connection.execute("CREATE TABLE far.work.duck (id BIGINT, name VARCHAR, price DOUBLE, day DATE, seen TIMESTAMP, ok BOOLEAN, small INTEGER)")
connection.execute(
    "INSERT INTO far.work.duck SELECT n, 'n' || n, n / 4, DATE '2024-01-01' + n::INTEGER, TIMESTAMP '2024-01-01 10:00:00' + n * INTERVAL 1 HOUR,"
    " n % 2 = 0, n % 7 FROM range(1000) t (n)"
)
show("read", "SELECT count(*), sum(price), min(day), max(seen) FROM far.work.duck")
show("rows", "SELECT * FROM far.work.duck WHERE id BETWEEN 10 AND 12 ORDER BY id")
show("pushed", "SELECT name FROM far.work.duck WHERE name = 'n77' AND ok = false")
show("limited", "SELECT id FROM far.work.duck ORDER BY id LIMIT 3")
show("joined", "SELECT count(*) FROM far.work.duck d JOIN (SELECT unnest([1, 2, 3000]) AS id) l USING (id)")
show("listed", "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'far' AND table_name = 'duck' ORDER BY column_index")
show("asked there", "SELECT * FROM postgres_query('far', 'SELECT count(*) AS n, avg(price) AS a FROM work.duck WHERE id < 10')")
show("scanned", f"SELECT sum(id)::BIGINT FROM postgres_scan('{address}', 'work', 'duck')")
show("by filters", f"SELECT count(*) FROM postgres_scan_pushdown('{address}', 'work', 'duck') WHERE id > 900")
connection.execute("CREATE TABLE far.work.duck_copy AS SELECT id, name FROM far.work.duck WHERE small = 3")
show("copied", "SELECT count(*), max(name) FROM far.work.duck_copy")
connection.execute("BEGIN")
connection.execute("INSERT INTO far.work.duck_copy VALUES (5000, 'more')")
show("inside", "SELECT count(*) FROM far.work.duck_copy")
connection.execute("ROLLBACK")
show("rolled back", "SELECT count(*) FROM far.work.duck_copy")
connection.execute("CREATE VIEW far.work.duck_view AS SELECT id FROM work.duck WHERE ok")
show("view", "SELECT count(*) FROM far.work.duck_view")
connection.execute("DROP VIEW far.work.duck_view")
connection.execute("ALTER TABLE far.work.duck_copy RENAME TO duck_other")

show("tables", "SELECT table_name FROM duckdb_tables() WHERE database_name = 'far' AND table_name LIKE 'duck%' ORDER BY 1")
connection.execute("DROP TABLE far.work.duck_other")
connection.execute("DROP TABLE far.work.duck")
print("done")
