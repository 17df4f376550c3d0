#!/usr/bin/env python3
"""Does scoring take memory that grows with the table? Peak memory of a server that scores ten million rows, and of one that scores a tenth.

The rows are the impressions of the sample many times over, read from one Parquet file each time; the model is an ensemble of the default
size; the result is a sum. Every table has a server of its own, whose peak counts from its start. /proc is read, so this needs Linux.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import run
import server

LARGE, SMALL = 500, 50


def main():
    parser = argparse.ArgumentParser(description="Peak memory of scoring a large and a small table.")
    parser.add_argument("--binary", default=run.values()["stratagem"], help="the built server [default: where make builds it]")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        raise run.Problem("memory is read from /proc, which this system lacks")
    peaks, rates = {}, {}
    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as folder:
        data, state = Path(folder) / "data", Path(folder) / "state"
        data.mkdir()
        for copies in (SMALL, LARGE):
            server.impressions(data, copies, f"copies_{copies}")
        with server.Server(arguments.binary, data, state) as bench:
            server.train(bench, "scoring")
        for copies in (SMALL, LARGE):
            with server.Server(arguments.binary, data, state) as bench:
                bench.rows("SELECT sum(predict_ctr('scoring', r)) FROM open_bandit.impressions_random r")
                idle, started = bench.peak_mib(), time.perf_counter()
                bench.rows(f"SELECT sum(predict_ctr('scoring', r)) FROM open_bandit.copies_{copies} r")
                rates[copies] = copies * server.SAMPLE_ROWS / (time.perf_counter() - started)
                peaks[copies] = bench.peak_mib()
                print(f"scan: {copies * server.SAMPLE_ROWS} rows: {idle:.0f} MiB before, {peaks[copies]:.0f} MiB at most", file=sys.stderr)
    line = {"rows": LARGE * server.SAMPLE_ROWS, "peak_mib": round(peaks[LARGE], 1), "peak_mib_of_a_tenth": round(peaks[SMALL], 1)}
    print(json.dumps(line | {"rows_per_second": round(rates[LARGE])}))


if __name__ == "__main__":
    run.reported(main)
