"""postgres_fdw: a PostgreSQL of its own imports the tables of the server, and asks it for what its queries need of them."""

import glob
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlparse

import psycopg

url = urlparse(sys.argv[1])
programs = Path(glob.glob("/usr/lib/postgresql/*/bin/initdb")[-1]).parent


def as_user(*command):
    """PostgreSQL does not run as root."""
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    change = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, **change)


folder = Path(tempfile.mkdtemp(prefix="fdw-"))
try:
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    as_user(programs / "initdb", "-D", folder / "data", "-U", "near", "-A", "trust", "--no-sync", "--locale=C.UTF-8")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    as_user(programs / "pg_ctl", "-D", folder / "data", "-w", "-o", options, "-l", folder / "log", "start")
    try:
        with psycopg.connect(sys.argv[1], autocommit=True) as there:
            there.execute("CREATE TABLE far (id bigint, name text, price double precision, at timestamp)")
            there.execute("INSERT INTO far SELECT n, 'n' || n, n / 4.0::float8, '2024-02-29 12:00:00'::timestamp FROM generate_series(1, 100) n")
            there.execute("INSERT INTO far VALUES (NULL, NULL, NULL, NULL)")
        with psycopg.connect(host=str(folder), user="near", dbname="postgres", autocommit=True) as here:
            here.execute("CREATE EXTENSION postgres_fdw")
            here.execute(
                f"CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{url.hostname}', port '{url.port}', dbname '{url.path[1:]}')"
            )
            here.execute(f"CREATE USER MAPPING FOR near SERVER there OPTIONS (user '{url.username}', password_required 'false')")
            here.execute("IMPORT FOREIGN SCHEMA work LIMIT TO (far) FROM SERVER there INTO public")
            print("columns", here.execute("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'far'::regclass AND attnum > 0").fetchall())
            for sql in (
                "SELECT name FROM far WHERE id = 3",
                "SELECT * FROM far WHERE price > 24 AND name LIKE 'n9%' ORDER BY id",
                "SELECT count(*), sum(price), min(at) FROM far WHERE id IN (1, 2, 3) OR name IS NULL",
                "SELECT id % 2 AS odd, count(*) FROM far GROUP BY 1 ORDER BY 1 NULLS LAST LIMIT 3",
                "SELECT a.id FROM far a JOIN far b USING (id) WHERE a.price BETWEEN 1 AND 2 ORDER BY 1",
            ):
                plan = [line for (line,) in here.execute(f"EXPLAIN (VERBOSE, COSTS OFF) {sql}") if "Remote SQL" in line]
                print("asked", *map(str.strip, plan))
                print("rows", here.execute(sql).fetchall())
            here.execute("ANALYZE far")
            print("analysed", here.execute("SELECT reltuples FROM pg_class WHERE relname = 'far'").fetchone())
            with here.transaction():
                print("cursor", len(here.execute("SELECT * FROM far").fetchmany(10)))
            print("inserted", here.execute("INSERT INTO far (id, name) VALUES (200, 'near')").rowcount)
            print("there", here.execute("SELECT name FROM far WHERE id = 200").fetchall())
    finally:
        as_user(programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
        with psycopg.connect(sys.argv[1], autocommit=True) as there:
            there.execute("DROP TABLE far")
finally:
    shutil.rmtree(folder, ignore_errors=True)
