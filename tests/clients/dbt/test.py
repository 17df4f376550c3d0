"""dbt: a seed, a view, a table, incremental models run twice, tests, a snapshot of changed rows, the catalog of the documentation."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlparse

import psycopg2
from dbt.cli.main import dbtRunner

url = urlparse(sys.argv[1])
os.environ |= {
    "CLIENT_HOST": url.hostname,
    "CLIENT_PORT": str(url.port),
    "CLIENT_USER": url.username,
    "CLIENT_DATABASE": url.path[1:],
    "DO_NOT_TRACK": "1",
}
connection = psycopg2.connect(sys.argv[1])
connection.autocommit = True
cursor = connection.cursor()


def rows(sql):
    cursor.execute(sql)
    return cursor.fetchall()


with tempfile.TemporaryDirectory() as folder:
    project = Path(folder) / "project"
    shutil.copytree(Path(__file__).parent / "project", project)
    runner = dbtRunner()

    def dbt(*arguments):
        done = runner.invoke([*arguments, "--quiet", "--project-dir", str(project), "--profiles-dir", str(project)])
        if done.exception:
            raise done.exception
        results = getattr(done.result, "results", [])
        print(" ".join(arguments), sorted((r.node.name, str(r.status)) for r in results))
        for result in results:
            if str(result.status) in ("error", "fail"):
                print("  ", result.node.name, result.message)

    dbt("seed")
    dbt("run")
    print("customers", rows("SELECT customer, orders, amount, last_on FROM customers ORDER BY customer"))
    print("log", rows("SELECT id, run FROM log ORDER BY id"))
    dbt("run", "--vars", "{run: 2}")
    print("log", rows("SELECT id, run FROM log ORDER BY id"))
    print("once", rows("SELECT orders FROM once"))
    dbt("run", "--full-refresh", "--select", "log", "--vars", "{run: 3}")
    print("log", rows("SELECT id, run FROM log ORDER BY id"))
    dbt("test")
    dbt("snapshot")
    cursor.execute("UPDATE orders SET amount = 99 WHERE id = 2")
    dbt("snapshot")
    print("history", rows("SELECT id, amount, dbt_valid_to IS NULL FROM orders_history ORDER BY id, amount"))
    done = runner.invoke(["docs", "generate", "--quiet", "--project-dir", str(project), "--profiles-dir", str(project)])
    if done.exception:
        raise done.exception
    for name, node in sorted((done.result.nodes | done.result.sources).items()):
        columns = sorted(node.columns.values(), key=lambda column: column.index)
        print("catalog", name, node.metadata.type, node.metadata.comment, [(c.index, c.name, c.type, c.comment) for c in columns])
    cursor.execute("DROP VIEW paid CASCADE")
    for table in ("orders", "customers", "log", "once", "orders_history"):
        cursor.execute(f"DROP TABLE {table} CASCADE")
