#!/usr/bin/env python3
"""The peers of benches/metrics.rs, as one line of JSON: rows per second over as many rows as there, in memory.

    metrics.py auc            scikit-learn's roc_auc_score over ten million rows
    metrics.py gauc_apply     pandas: groupby, and roc_auc_score for each group; a fiftieth of the groups, as it takes minutes
    metrics.py gauc_rank      pandas: groupby, ranks within groups, and sums of them; what those write who know the formula
"""

import json
import statistics
import sys
import time

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

ROWS = 10_000_000
GROUPS = 1_000_000
RUNS = 2


def rows(count, groups):
    random = np.random.default_rng(1)
    score = random.random(count)
    return pd.DataFrame({
        "label": (random.random(count) < score).astype(np.int64),
        "score": score,
        "user_id": random.integers(0, groups, count),
    })


def auc(frame):
    return roc_auc_score(frame["label"].to_numpy(), frame["score"].to_numpy())


def gauc_apply(frame):
    def area(part):
        return roc_auc_score(part["label"], part["score"]) if part["label"].nunique() == 2 else np.nan

    by_user = frame.groupby("user_id")
    areas, sizes = by_user[["label", "score"]].apply(area), by_user.size()
    known = areas.notna()
    return (areas * sizes)[known].sum() / sizes[known].sum()


def gauc_rank(frame):
    rank = frame.groupby("user_id")["score"].rank()
    sums = frame.assign(of_positives=rank * frame["label"]).groupby("user_id").agg(
        rows=("label", "size"), positives=("label", "sum"), ranks=("of_positives", "sum"))
    sums = sums[(sums["positives"] > 0) & (sums["positives"] < sums["rows"])]
    positives, negatives = sums["positives"], sums["rows"] - sums["positives"]
    areas = (sums["ranks"] - positives * (positives + 1) / 2) / (positives * negatives)
    return (areas * sums["rows"]).sum() / sums["rows"].sum()


def main():
    verb = sys.argv[1]
    part = 50 if verb == "gauc_apply" else 1
    frame = rows(ROWS // part, GROUPS // part)
    work = {"auc": auc, "gauc_apply": gauc_apply, "gauc_rank": gauc_rank}[verb]
    times = []
    for _ in range(1 if verb == "gauc_apply" else RUNS):
        started = time.perf_counter()
        value = work(frame)
        times.append(time.perf_counter() - started)
    seconds = statistics.median(times)
    print(json.dumps({"side": verb, "rows": len(frame), "rows_per_second": len(frame) / seconds, "seconds": seconds, "value": value}))


if __name__ == "__main__":
    main()
