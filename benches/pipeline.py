#!/usr/bin/env python3
"""Rows scored per second from Parquet to a sum: `--side sql` by one statement, `--side python` by pyarrow, pandas and ONNX Runtime.

The Python side is what one writes with the exported model: read the columns, fill NULLs as signature.json says, run the graph in chunks
with the threads ONNX Runtime chooses; `--calls N` is for those who know to run N calls at a time with one thread each. Several chunk
sizes are tried on a part of the rows, the fastest is taken. Starting Python, loading the model and, on the other side, starting the
server do not count.
"""

import argparse
import concurrent.futures
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import run
import server

COPIES = 20
ROWS = COPIES * server.SAMPLE_ROWS
CHUNKS = [256, 1024, 4096, 16384, 65536]
# The first run warms up, the median of the others counts.
RUNS = 4


def through_sql(bench):
    started = time.perf_counter()
    total = bench.rows("SELECT sum(predict_ctr('scoring', r)) AS total FROM open_bandit.repeated r")["total"][0]
    return time.perf_counter() - started, total


def read(table, inputs):
    """The inputs of the graph for all rows."""
    import pyarrow.parquet

    frame = pyarrow.parquet.read_table(table, columns=[entry["column"] for entry in inputs]).to_pandas()
    feeds = {}
    for entry in inputs:
        values = frame[entry["column"]].fillna(entry["null"])
        feeds[entry["name"]] = values.to_numpy(object if entry["dtype"] == "str" else entry["dtype"])
    return feeds


def scored(session, calls, feeds, chunk, rows):
    def part(first):
        (probabilities,) = session.run(None, {name: values[first : first + chunk] for name, values in feeds.items()})
        return probabilities.sum(dtype=float)

    if calls is None:
        return sum(map(part, range(0, rows, chunk)))
    with concurrent.futures.ThreadPoolExecutor(calls) as pool:
        return sum(pool.map(part, range(0, rows, chunk)))


def timed(work, *arguments):
    started = time.perf_counter()
    done = work(*arguments)
    return time.perf_counter() - started, done


def through_python(exported, table, calls):
    """Seconds and sum of each run, and the chunk size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if calls:
        options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported / "model.onnx", options, providers=["CPUExecutionProvider"])
    inputs = json.loads((exported / "signature.json").read_text(encoding="utf-8"))["inputs"]
    feeds = read(table, inputs)
    part = ROWS // 10
    scored(session, calls, feeds, CHUNKS[0], part)
    tries = {chunk: timed(scored, session, calls, feeds, chunk, part)[0] for chunk in CHUNKS}
    chunk = min(tries, key=tries.get)
    del feeds
    print("pipeline: rows/s by rows per call:", ", ".join(f"{size} {part / seconds:.0f}" for size, seconds in tries.items()), file=sys.stderr)
    runs = []
    for _ in range(RUNS - 1):
        reading, feeds = timed(read, table, inputs)
        scoring, total = timed(scored, session, calls, feeds, chunk, ROWS)
        print(f"pipeline: {reading:.2f} s to read, {scoring:.2f} s to score", file=sys.stderr)
        runs.append((reading + scoring, total))
    return runs, chunk


def main():
    parser = argparse.ArgumentParser(description="Rows scored per second, from Parquet to a sum.")
    parser.add_argument("--binary", default=run.values()["stratagem"], help="the built server [default: where make builds it]")
    parser.add_argument("--side", choices=["sql", "python"], required=True)
    parser.add_argument("--calls", type=int, help="calls of ONNX Runtime at a time, each with one thread [default: one, with the threads it chooses]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as folder:
        folder = Path(folder)
        data, state, exported = (folder / name for name in ("data", "state", "exported"))
        data.mkdir()
        table = server.impressions(data, COPIES)
        chunk = None
        with server.Server(arguments.binary, data, state) as bench:
            server.train(bench, "scoring")
            if arguments.side == "sql":
                runs = [through_sql(bench) for _ in range(RUNS)][1:]
        if arguments.side == "python":
            server.export(arguments.binary, "scoring", state, exported)
            runs, chunk = through_python(exported, table, arguments.calls)
    seconds = statistics.median(seconds for seconds, _ in runs)
    line = {"side": arguments.side, "rows": ROWS, "rows_per_second": round(ROWS / seconds), "sum": round(runs[0][1], 3), "chunk": chunk}
    print(json.dumps(line))


if __name__ == "__main__":
    run.reported(main)
