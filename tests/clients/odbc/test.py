"""psqlODBC: the catalog functions of ODBC, which BI tools list tables and columns with, parameters, types and transactions."""

import datetime
import glob
import sys
from decimal import Decimal
from urllib.parse import urlparse

import pyodbc

url = urlparse(sys.argv[1])
driver = glob.glob("/usr/lib/*/odbc/psqlodbcw.so")[0]
parts = {"Driver": driver, "Servername": url.hostname, "Port": url.port, "Database": url.path[1:], "Username": url.username, "SSLmode": "disable"}
text = ";".join(f"{name}={value}" for name, value in parts.items())
with pyodbc.connect(text, autocommit=True) as connection:
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE odbc (id bigint, name text, price numeric(10,2), at timestamp, ok boolean)")
    cursor.executemany(
        "INSERT INTO odbc VALUES (?, ?, ?, ?, ?)",
        [(n, f"n{n}", Decimal(n) / 4, datetime.datetime(2024, 2, 29, 12), n % 2 == 0) for n in range(4)],
    )
    cursor.execute("SELECT * FROM odbc WHERE id > ? ORDER BY id", 1)
    print("columns", [(column[0], column[1].__name__, column[4:6]) for column in cursor.description])
    print("rows", cursor.fetchall())
    print("values", cursor.execute("SELECT 1, 2147483648, 1.5::float8, 'x'::text, NULL, DATE '2024-02-29', true").fetchone())
    print("tables", [tuple(row)[:5] for row in cursor.tables(schema="work", table="odbc")])
    print("described", [(row.column_name, row.type_name, row.column_size, row.decimal_digits, row.nullable) for row in cursor.columns(table="odbc", schema="work")])
    print("keys", [tuple(row) for row in cursor.primaryKeys("odbc", schema="work")])
    print("foreign", [tuple(row) for row in cursor.foreignKeys(table="odbc", schema="work")])
    print("statistics", [row.index_name for row in cursor.statistics("odbc", schema="work") if row.index_name])
    print("types", {"int8", "text", "bool"} <= {row.type_name for row in cursor.getTypeInfo()})
    for sql in ("SELEC", "SELECT * FROM nowhere", "SELECT 1 / 0"):
        try:
            cursor.execute(sql)
        except pyodbc.Error as error:
            print("error", error.args[0])
    connection.autocommit = False
    print("changed", cursor.execute("UPDATE odbc SET name = ? WHERE id < ?", "low", 2).rowcount)
    connection.rollback()
    print("back", cursor.execute("SELECT name FROM odbc WHERE id = 0").fetchval())
    connection.commit()
    connection.autocommit = True
    cursor.execute("DROP TABLE odbc")
