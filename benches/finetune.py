#!/usr/bin/env python3
"""How much of a `finetune` is the training itself? The whole statement from Parquet to the saved model, and the sum of its epochs.

A million rows: the impressions of the sample fifty times over. The epochs are as the server measured them (`ml.training_metrics`, which
include the validation of each). What is left is shared out: before the training began (the statement is planned, the rows are read and
encoded), from there to the first epoch (the rows get their order, the features are learned), after the last epoch (evaluation, saving).
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import run
import server

COPIES, EPOCHS = 50, 3
ROWS = COPIES * server.SAMPLE_ROWS


def main():
    parser = argparse.ArgumentParser(description="Seconds of a finetune, and of its epochs.")
    parser.add_argument("--binary", default=run.values()["stratagem"], help="the built server [default: where make builds it]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stratagem-bench-") as folder:
        server.impressions(folder, COPIES)
        with server.Server(arguments.binary, folder, Path(folder) / "state") as bench:
            notices = []
            bench.client.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
            server.train(bench, "warm_up")
            notices.clear()
            query = f"SELECT {server.FEATURES}, click FROM open_bandit.repeated"
            settings = f"ensembles => 1, epochs => {EPOCHS}, early_stop => false, seed => 7"
            started = time.perf_counter()
            rows = bench.rows(f"SELECT * FROM finetune(model => 'whole', label => 'click', {settings}, query => $${query}$$)")
            whole = time.perf_counter() - started
            logged = "SELECT value FROM ml.training_metrics WHERE run = (SELECT max(run) FROM ml.training_runs WHERE model = 'whole')"
            epochs = bench.rows(f"{logged} AND split = 'train' AND metric = 'seconds' ORDER BY epoch")["value"]
    since = rows["seconds"]
    if len(epochs) != EPOCHS or len(since) != EPOCHS + 1:
        raise run.Problem(f"{EPOCHS} epochs gave {len(since)} rows and {len(epochs)} logged times")
    loop = sum(epochs)
    parts = {
        "reading": whole - since[-1],
        "preparing": since[0] - epochs[0],
        "finishing": since[-1] - since[-2],
    }
    print("finetune:", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items()), file=sys.stderr)
    line = {"rows": ROWS, "seconds": round(whole, 3), "loop_seconds": round(loop, 3), "share": round(loop / whole, 3)}
    line |= {f"{name}_seconds": round(seconds, 3) for name, seconds in parts.items()}
    line["rows_per_second"] = round(ROWS * EPOCHS / whole)
    line["place"] = "temporary files" if any("temporary files" in notice for notice in notices) else "memory"
    print(json.dumps(line))


if __name__ == "__main__":
    run.reported(main)
