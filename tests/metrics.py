#!/usr/bin/env python3
"""Compares the metric aggregates of a running server with scikit-learn and SciPy on random rows, until a difference or the end.

    pip install scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6 pandas==3.1.1 'psycopg[binary]==3.3.9'
    make serve
    python tests/metrics.py --port 5433 --rounds 200 --seed 1

Every round draws its own number of rows, ties, shares of positive rows, weights, classes, groups and NULLs, and asks for all metrics in one
statement. The references are those of udfs/tests/fixtures/metrics.py. A difference is printed with the seed of its round and ends the program.
"""

import argparse
import math
import pathlib
import sys
import warnings

import numpy as np
import pandas as pd
import psycopg

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "udfs" / "tests" / "fixtures"))
import metrics as reference

TOLERANCE = 1e-9


def drawn_scores(rng, rows):
    """Scores between 0 and 1 with few, some or no ties, near one end or spread out."""
    score = rng.random(rows) ** rng.choice([1, 1, 8])
    ties = rng.choice([0, 2, 7, 50])
    return np.round(score * ties) / ties if ties else score


def drawn_labels(rng, rows):
    label = (rng.random(rows) < rng.choice([0.05, 0.5, 0.9])).astype(int)
    label[:2] = [0, 1]
    return label


def cases(rng):
    """Pairs of columns and what the metrics of them are."""
    rows = int(rng.integers(12, 400))
    label, score, weight = drawn_labels(rng, rows), drawn_scores(rng, rows), rng.integers(0, 5, rows) / 2
    weight[:2] = 1
    # A threshold that some rows reach, positive ones among them, and others do not.
    threshold = float(score[label == 1].max())
    chosen = score >= threshold
    # Where the chosen rows weigh nothing, scikit-learn says 0 and we say NULL.
    weight[chosen] = np.maximum(weight[chosen], 0.5)
    if not chosen.all():
        yield "binary", [label, score, weight], reference.binary(label, score, weight, threshold)
        shifted = score - 0.5
        yield "negative scores", [label, shifted, weight], reference.binary(label, shifted, weight, threshold - 0.5)
    yield "probabilities", [label, score, weight], reference.probabilities(label, score, weight)
    predicted, actual = rng.integers(0, 4, rows), rng.integers(0, int(rng.integers(2, 6)), rows)
    predicted[: rows // 2] = actual[: rows // 2]
    actual[:2] = predicted[:2] = [0, 1]
    yield "classes", [actual, predicted, weight], reference.classes(actual, predicted, weight)
    amounts = [rng.normal(3, 10, rows), rng.normal(3, 10, rows), weight]
    yield "amounts", amounts, reference.amounts(*amounts)
    ties = bool(rng.integers(0, 2))
    ranks = rng.integers(0, 4, rows) / 4 if ties else rng.permutation(rows) / rows
    frame = pd.DataFrame({"a": rng.integers(0, max(rows // 8, 2), rows), "b": rng.integers(0, 3, rows) * rng.integers(0, 2, rows), "c": ranks})
    found = reference.ranking(frame, "a", "b", "c", ties)
    clicked = frame.assign(d=(frame["b"] > 0).astype(int))
    if any(part["d"].nunique() == 2 for _, part in clicked.groupby("a")):
        detail = reference.gauc(clicked, "d", "c", "a")
        found |= {call.replace("d,", "CAST(b > 0 AS int),"): value for call, value in detail.items()}
    yield "groups", [frame["a"], frame["b"], frame["c"]], found


def statement(rng, columns, calls):
    """All calls over the rows in a random order, with some rows that have a NULL and do not count."""
    rows = [[repr(float(value)) + "::double precision" for value in row] for row in zip(*columns)]
    for _ in range(int(rng.integers(0, 4))):
        bad = list(rows[int(rng.integers(0, len(rows)))])
        # The third column is optional in many calls, so only the first two make a row not count in all of them.
        bad[int(rng.integers(0, 2))] = "NULL::double precision"
        rows.append(bad)
    rng.shuffle(rows)
    values = ", ".join(f"({', '.join(row)})" for row in rows)
    return f"SELECT {', '.join(calls)} FROM (VALUES {values}) AS t (a, b, c)"


def differs(ours, theirs):
    if ours is None or math.isnan(theirs):
        return not (ours is None and math.isnan(theirs))
    return abs(float(ours) - theirs) > TOLERANCE * max(1, abs(theirs))


def main():
    parser = argparse.ArgumentParser(description="Compares metrics with scikit-learn and SciPy on random rows.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5433)
    parser.add_argument("--user", default="analyst")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    compared = 0
    with psycopg.connect(host=arguments.host, port=arguments.port, user=arguments.user, dbname="stratagem", autocommit=True) as client:
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            rng = np.random.default_rng(seed)
            for name, columns, expected in cases(rng):
                calls = list(expected)
                row = client.execute(statement(rng, columns, calls)).fetchone()
                for call, ours in zip(calls, row):
                    if differs(ours, float(expected[call])):
                        sys.exit(f"seed {seed}, {name}, {len(columns[0])} rows: {call} is {ours}, the reference says {expected[call]}")
                compared += len(calls)
    print(f"{compared} values of {arguments.rounds} rounds are equal to {TOLERANCE}")


if __name__ == "__main__":
    main()
