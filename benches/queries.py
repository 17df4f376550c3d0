#!/usr/bin/env python3
"""The queries of benches/queries.sql through the server beside DataFusion alone, over the same files: ten million rows each of order lines and
clicks, drawn with a seed from real ones.

The figure is the queries per second that the median times of all queries make, each query counting alike (by the geometric mean).
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import run
import server

ROWS, FILES, SEED, RUNS = 10_000_000, 4, 7, 4
SOURCES = {"orders": "orders/orders.parquet", "clickstream": "behaviour/clickstream_train.parquet"}


def drawn(source, table, file):
    """Rows of a file: drawn from the real ones, those of another copy being of other customers and sessions, at other times of the day."""
    import numpy
    import pyarrow
    import pyarrow.compute as compute

    random = numpy.random.default_rng([SEED, file, len(table)])
    count = ROWS // FILES
    picked = source.take(pyarrow.array(random.integers(0, source.num_rows, count)))
    copy = random.integers(0, ROWS // source.num_rows, count)

    def changed(name, values):
        nonlocal picked
        picked = picked.set_column(picked.column_names.index(name), name, values)

    if table == "clickstream":
        sessions = picked["session_id"]
        most = compute.max(source["session_id"]).as_py() + 1
        changed("session_id", compute.add(sessions, pyarrow.array(copy * most).cast(sessions.type)))
    else:
        times = picked["ordered_at"]
        moved = pyarrow.array(random.integers(0, 3_600, count), pyarrow.duration("s")).cast(pyarrow.duration(times.type.unit))
        changed("ordered_at", compute.add(times, moved))
    return picked


def tables(data):
    """The folder of the tables, made once in the cache folder."""
    import pyarrow.parquet

    folder = run.cache_root() / "bench" / f"queries-{ROWS}-{SEED}"
    ready = folder / "ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        for table, path in SOURCES.items():
            source = pyarrow.parquet.read_table(data / path).combine_chunks()
            (folder / "data" / table).mkdir(parents=True)
            for file in range(FILES):
                print(f"queries: writing {table}, {file + 1} of {FILES}", file=sys.stderr)
                pyarrow.parquet.write_table(drawn(source, table, file), folder / "data" / table / f"{file}.parquet", compression="zstd")
        ready.touch()
    return folder / "data"


def queries():
    lines = (run.BENCHES / "queries.sql").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("--")]


def through_the_server(binary, data):
    """Milliseconds and rows of each query."""
    times, rows = [], []
    with server.Server(binary, data) as ours:
        ours.client.prepare_threshold = None
        for query in queries():
            runs = []
            for _ in range(RUNS):
                begun = time.perf_counter()
                found = ours.client.execute(query).fetchall()
                runs.append((time.perf_counter() - begun) * 1e3)
            times.append(statistics.median(runs[1:]))
            rows.append(len(found))
    return times, rows


def alone(program, data):
    done = subprocess.run([program, data], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return answer["milliseconds"], answer["rows"]


def main():
    known = run.values()
    parser = argparse.ArgumentParser(description="Analytical queries through the server beside DataFusion alone.")
    parser.add_argument("--binary", default=known["stratagem"], help="the built server [default: where make builds it]")
    parser.add_argument("--alone", default=str(Path(known["examples"]) / "queries"), help="the built example [default: where make builds it]")
    parser.add_argument("--data", default=str(run.REPOSITORY.parent / "shared" / "data"), help="the folder of the real data")
    arguments = parser.parse_args()
    data = tables(Path(arguments.data))
    ours, our_rows = through_the_server(arguments.binary, data)
    theirs, their_rows = alone(arguments.alone, data)
    if our_rows != their_rows:
        raise run.Problem(f"the server has {our_rows} rows, DataFusion {their_rows}")
    for query, mine, peers in zip(queries(), ours, theirs):
        print(f"queries: {peers / mine:5.2f}  {mine:7.1f} ms, alone {peers:7.1f} ms: {query[:110]}", file=sys.stderr)

    def rate(times):
        return 1e3 / math.exp(statistics.fmean(map(math.log, times)))

    worst = min(peers / mine for mine, peers in zip(ours, theirs))
    print(json.dumps({"stratagem": rate(ours), "peer": rate(theirs), "worst": worst, "all_ms": sum(ours), "all_ms_alone": sum(theirs)}))


if __name__ == "__main__":
    run.reported(main)
