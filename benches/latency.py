#!/usr/bin/env python3
"""What scoring one row costs: `--side simple` and `--side prepared` through SQL on one connection, `--side graph` by ONNX Runtime in Python.

Every query is a row of its own. `cpu_ms` is processor time per query: of the server's process on the SQL sides, of all of Python on the
other, where a query is a call of the exported graph with one row and the threads ONNX Runtime chooses. `p50_ms` and `p99_ms` are what the
client waits. /proc is read, so this needs Linux.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import run
import server

WARM_UP, REPEATS = 300, 2000
TYPES = ["int", "int", "text", "text", "text", "text"]


def some_rows(bench):
    columns = bench.rows(f"SELECT {server.FEATURES} FROM open_bandit.impressions_random ORDER BY impression_id LIMIT {REPEATS}")
    return list(zip(*columns.values()))


def waits(ask, rows):
    """The milliseconds each answer takes."""
    found = []
    for row in rows:
        started = time.perf_counter()
        answer = ask(row)
        found.append((time.perf_counter() - started) * 1e3)
        if not 0 < answer < 1:
            raise run.Problem(f"{answer} is no probability")
    return found


def through_sql(bench, rows, prepared):
    """Milliseconds per query: the waits, and the processor time of the server."""
    import psycopg

    names = server.FEATURES.split(", ")
    if prepared:
        arguments = ", ".join(f"{name} => %s::{kind}" for name, kind in zip(names, TYPES))
        statement = f"SELECT predict_ctr('scoring', {arguments})"
        cursor = bench.client.cursor()

        def ask(row):
            return cursor.execute(statement, row, prepare=True).fetchone()[0]
    else:
        arguments = ", ".join(f"{name} => %s" for name in names)
        statement = f"SELECT predict_ctr('scoring', {arguments})"
        cursor = psycopg.ClientCursor(bench.client)

        def ask(row):
            return cursor.execute(statement, row).fetchone()[0]

    waits(ask, rows[:WARM_UP])
    before = bench.cpu_seconds()
    found = waits(ask, rows)
    return found, (bench.cpu_seconds() - before) * 1e3 / len(rows)


def through_graph(exported, rows):
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = json.loads((exported / "signature.json").read_text(encoding="utf-8"))["inputs"]
    places = {name: place for place, name in enumerate(server.FEATURES.split(", "))}

    def ask(row):
        feeds = {}
        for entry in inputs:
            value = row[places[entry["column"]]]
            kind = object if entry["dtype"] == "str" else entry["dtype"]
            feeds[entry["name"]] = numpy.array([entry["null"] if value is None else value], kind)
        return float(session.run(None, feeds)[0][0, 0])

    waits(ask, rows[:WARM_UP])
    before = time.process_time()
    found = waits(ask, rows)
    return found, (time.process_time() - before) * 1e3 / len(rows)


def main():
    parser = argparse.ArgumentParser(description="Milliseconds to score one row.")
    parser.add_argument("--binary", default=run.values()["stratagem"], help="the built server [default: where make builds it]")
    parser.add_argument("--side", choices=["simple", "prepared", "graph"], required=True)
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        raise run.Problem("processor time is read from /proc, which this system lacks")
    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as folder:
        folder = Path(folder)
        data, state, exported = (folder / name for name in ("data", "state", "exported"))
        data.mkdir()
        server.impressions(data, 1)
        with server.Server(arguments.binary, data, state) as bench:
            server.train(bench, "scoring")
            rows = some_rows(bench)
            if arguments.side != "graph":
                found, cpu = through_sql(bench, rows, arguments.side == "prepared")
        if arguments.side == "graph":
            server.export(arguments.binary, "scoring", state, exported)
            found, cpu = through_graph(exported, rows)
    found.sort()
    p50, p99 = found[len(found) // 2], found[len(found) * 99 // 100]
    print(json.dumps({"side": arguments.side, "queries": len(found), "cpu_ms": round(cpu, 3), "p50_ms": round(p50, 3), "p99_ms": round(p99, 3)}))


if __name__ == "__main__":
    run.reported(main)
