#!/usr/bin/env python3
"""The server beside a PostgreSQL of its own on the same machine, each asked by the same program over the same table.

`--measure asyncpg`, `psql` and `adbc` fetch two million rows of eight columns: in binary, as text through psql, by binary COPY into Arrow, and
`copy` reads the bytes of the same COPY and does nothing with them. The servers take turns. `busy` and `peer_busy` are the share of the time in
which the client itself computed: near 1 the client is what is measured, and no server can be much faster. `clients` has 200 connections ask small queries at once, and gives the wait of the slowest hundredth. `connect` opens connections one after
the other. `idle` is the memory of a connection that does nothing: of the server's process, and of PostgreSQL's process for it, where memory
that processes share counts in parts. /proc is read, so this needs Linux.
"""

import argparse
import asyncio
import contextlib
import glob
import io
import json
import os
import pwd
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import run
import server

ROWS, ROUNDS, CLIENTS, QUERIES, CONNECTIONS = 2_000_000, 8, 200, 25, 400
COLUMNS = "id, number, price, rating, name, at, day, ok"
TABLE = "CREATE TABLE wire (id bigint, number integer, price double precision, rating real, name text, at timestamp, day date, ok boolean)"


class PostgreSQL:
    """A PostgreSQL with its defaults, in a folder of its own. It does not run as root."""

    def __init__(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb")]
        if not found[-1]:
            raise run.Skipped("there is no PostgreSQL to compare with (Debian: apt-get install postgresql)")
        self.programs = Path(found[-1]).parent
        self.folder = Path(tempfile.mkdtemp(prefix="stratagem-bench-"))
        self.port = 54_000 + os.getpid() % 1000

    def run(self, *command):
        user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        change = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, **change)

    def __enter__(self):
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self.run(self.programs / "initdb", "-D", self.folder / "data", "-U", "bench", "-A", "trust", "--no-sync", "--locale=C.UTF-8")
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=500"
        self.run(self.programs / "pg_ctl", "-D", self.folder / "data", "-w", "-o", options, "-l", self.folder / "log", "start")
        self.pid = int((self.folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        return self

    def __exit__(self, *_):
        self.run(self.programs / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def fill(self, rows):
        import psycopg

        with psycopg.connect(f"postgresql://bench@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            connection.execute(TABLE)
            with connection.cursor().copy(f"COPY wire ({COLUMNS}) FROM STDIN (FORMAT csv)") as copy:
                import pyarrow.csv

                for batch in rows.to_batches(100_000):
                    sink = io.BytesIO()
                    pyarrow.csv.write_csv(batch, sink, pyarrow.csv.WriteOptions(include_header=False))
                    copy.write(sink.getvalue())
            # what a table that has been there for a while has
            connection.execute("VACUUM (ANALYZE) wire")


def table():
    import numpy
    import pyarrow

    random = numpy.random.default_rng(7)
    ids = numpy.arange(ROWS)
    return pyarrow.table(
        {
            "id": ids,
            "number": pyarrow.array(random.integers(0, 1_000_000, ROWS), pyarrow.int32()),
            "price": numpy.round(random.uniform(0, 1000, ROWS), 2),
            "rating": pyarrow.array(numpy.round(random.uniform(0, 5, ROWS), 1), pyarrow.float32()),
            "name": pyarrow.array([None if n % 50 == 0 else f"product {n % 5000}" for n in range(ROWS)]),
            "at": pyarrow.array(1_700_000_000_000_000 + ids * 1_000_003, pyarrow.timestamp("us")),
            "day": pyarrow.array(19_000 + ids % 1000, pyarrow.int32()).cast(pyarrow.date32()),
            "ok": ids % 3 == 0,
        }
    )


def asyncpg_rows(url):
    import asyncpg

    async def fetch():
        connection = await asyncpg.connect(url)
        started = time.perf_counter()
        rows = await connection.fetch(f"SELECT {COLUMNS} FROM wire")
        seconds = time.perf_counter() - started
        await connection.close()
        return len(rows), seconds

    return asyncio.run(fetch())


def psql_rows(url):
    query = f"SELECT {COLUMNS} FROM wire"
    started = time.perf_counter()
    command = ["psql", "-X", "-At", "-c", query, url]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as psql:
        lines = sum(piece.count(b"\n") for piece in iter(lambda: psql.stdout.read(1 << 20), b""))
    return lines, time.perf_counter() - started


def adbc_rows(url):
    import adbc_driver_postgresql.dbapi

    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        cursor.execute(f"SELECT {COLUMNS} FROM wire")
        rows = cursor.fetch_arrow_table().num_rows
        return rows, time.perf_counter() - started


def copy_rows(url):
    """The bytes of a COPY as they come. The rows are counted by the tag at the end."""
    address = urllib.parse.urlsplit(url)

    def message(body, kind=b""):
        return kind + struct.pack(">i", len(body) + 4) + body

    with socket.create_connection((address.hostname, address.port)) as connection:
        version, names = struct.pack(">i", 3 << 16), b"user\0bench\0database\0" + address.path[1:].encode()
        connection.sendall(message(version + names + b"\0\0"))
        buffer = memoryview(bytearray(1 << 20))

        def until_ready():
            tail = b""
            while not tail.endswith(b"Z\0\0\0\5I"):
                size = connection.recv_into(buffer)
                if size == 0:
                    raise run.Problem("the connection ended before the rows did")
                tail = (tail + bytes(buffer[max(0, size - 32) : size]))[-32:]
            return tail

        until_ready()
        started = time.perf_counter()
        connection.sendall(message(f"COPY (SELECT {COLUMNS} FROM wire) TO STDOUT (FORMAT binary)\0".encode(), b"Q"))
        tag = until_ready()
        seconds = time.perf_counter() - started
    return int(tag.rpartition(b"COPY ")[2].partition(b"\0")[0]), seconds


FETCH = {"asyncpg": asyncpg_rows, "psql": psql_rows, "adbc": adbc_rows, "copy": copy_rows}


def fetched(url, measure):
    """Rows per second, and the share of the time in which the client computed."""
    before = os.times()
    rows, seconds = FETCH[measure](url)
    if rows != ROWS:
        raise run.Problem(f"{measure} got {rows} rows, not {ROWS}")
    after = os.times()
    return rows / seconds, (sum(after[:4]) - sum(before[:4])) / seconds


def slowest_hundredth(url):
    """Milliseconds: a point query of each of the clients, again and again."""
    import asyncpg

    async def client(start, waits):
        connection = await asyncpg.connect(url)
        statement = await connection.prepare("SELECT $1::int + 1, $2::text")
        await start.wait()
        for n in range(QUERIES):
            begun = time.perf_counter()
            await statement.fetchrow(n, "x")
            waits.append((time.perf_counter() - begun) * 1e3)
        await connection.close()

    async def all_clients():
        waits, start = [], asyncio.Event()
        tasks = [asyncio.create_task(client(start, waits)) for _ in range(CLIENTS)]
        await asyncio.sleep(3)
        start.set()
        await asyncio.gather(*tasks)
        return waits

    return statistics.quantiles(asyncio.run(all_clients()), n=100)[98]


def connect_ms(url):
    import psycopg

    def once():
        begun = time.perf_counter()
        psycopg.connect(url, sslmode="disable", gssencmode="disable").close()
        return (time.perf_counter() - begun) * 1e3

    for _ in range(20):
        once()
    return statistics.median(once() for _ in range(CONNECTIONS))


def proportional(pid):
    """KiB of a process, where what it shares counts in parts."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def idle_kib(url, processes):
    """KiB that a connection adds to the processes of a server."""
    import psycopg

    def connected():
        connection = psycopg.connect(url, sslmode="disable", gssencmode="disable")
        connection.execute("SELECT 1")
        connection.rollback()
        return connection

    with contextlib.ExitStack() as open_ones:
        for _ in range(50):
            open_ones.enter_context(contextlib.closing(connected()))
        before = sum(map(proportional, processes()))
        for _ in range(100):
            open_ones.enter_context(contextlib.closing(connected()))
        return (sum(map(proportional, processes())) - before) / 100


def children(pid):
    listed = subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, text=True, check=False).stdout
    return [pid, *map(int, listed.split())]


def main():
    parser = argparse.ArgumentParser(description="The server beside PostgreSQL.")
    parser.add_argument("--measure", required=True, choices=[*FETCH, "clients", "connect", "idle"])
    parser.add_argument("--binary", default=run.values()["stratagem"], help="the built server [default: where make builds it]")
    arguments = parser.parse_args()
    os.environ["STRATAGEM_LIMITS__CONNECTIONS"] = "500"
    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as folder, PostgreSQL() as peer:
        data = Path(folder) / "data"
        data.mkdir()
        if arguments.measure in FETCH:
            import pyarrow.parquet

            rows = table()
            pyarrow.parquet.write_table(rows, data / "wire.parquet")
            peer.fill(rows)
            del rows
        with server.Server(arguments.binary, data) as ours:
            urls = {
                "stratagem": f"postgresql://bench@127.0.0.1:{ours.client.info.port}/stratagem",
                "peer": f"postgresql://bench@127.0.0.1:{peer.port}/postgres",
            }
            processes = {"stratagem": lambda: [ours.process.pid], "peer": lambda: children(peer.pid)}
            measured, busy = {side: [] for side in urls}, {side: [] for side in urls}
            # the first round warms the files and the program
            for round in range(ROUNDS if arguments.measure in FETCH else 3):
                for side, url in urls.items():
                    if arguments.measure in FETCH:
                        found, share = fetched(url, arguments.measure)
                        busy[side].append(share)
                    elif arguments.measure == "clients":
                        found = slowest_hundredth(url)
                    elif arguments.measure == "connect":
                        found = connect_ms(url)
                    else:
                        found = idle_kib(url, processes[side])
                    measured[side].append(found)
                    print(f"wire: round {round}, {side}: {found:.4g}", file=sys.stderr)
            told = {side: statistics.median(found[1:]) for side, found in measured.items()}
            if arguments.measure in FETCH:
                told |= {"busy": statistics.median(busy["stratagem"][1:]), "peer_busy": statistics.median(busy["peer"][1:])}
            print(json.dumps(told))


if __name__ == "__main__":
    run.reported(main)
