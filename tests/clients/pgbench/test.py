"""pgbench: scripts of one's own in each of its ways to ask, by several clients at once."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlparse

import psycopg

SCRIPTS = {
    "point": "\\set id random(1, 100)\nSELECT id, name FROM bench WHERE id = :id;\n",
    "sum": "\\set low random(1, 50)\nSELECT count(*), sum(price) FROM bench WHERE id BETWEEN :low AND :low + 10;\n",
    "block": "BEGIN;\nSELECT id AS found FROM bench WHERE name = 'n7' \\gset\nSELECT :found + 1;\nINSERT INTO bench_log VALUES (:client_id);\nEND;\n",
}

url = urlparse(sys.argv[1])
with psycopg.connect(sys.argv[1], autocommit=True) as connection, tempfile.TemporaryDirectory() as folder:
    connection.execute("CREATE TABLE bench AS SELECT n AS id, 'n' || n AS name, n / 4.0::float8 AS price FROM generate_series(1, 100) n")
    connection.execute("CREATE TABLE bench_log (client bigint)")
    for name, script in SCRIPTS.items():
        file = Path(folder) / name
        file.write_text(script, encoding="utf-8")
        for mode in ("simple", "extended", "prepared"):
            command = ["pgbench", "-n", "-h", url.hostname, "-p", str(url.port), "-U", url.username, "-M", mode, "-c", "4", "-t", "25", "-f", str(file), url.path[1:]]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            processed = re.findall(r"transactions actually processed: (\S+)|number of failed transactions: (\S+)", done.stdout)
            print(name, mode, done.returncode, processed, done.stderr.strip()[-200:])
    print("logged", connection.execute("SELECT client, count(*) FROM bench_log GROUP BY 1 ORDER BY 1").fetchall())
    connection.execute("DROP TABLE bench")
    connection.execute("DROP TABLE bench_log")
