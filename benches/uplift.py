#!/usr/bin/env python3
"""Do the uplift models of `finetune`, with no setting but treatment and outcome, order customers as well as models in Python do?

    uplift.py --binary PATH                      every learner and every peer, best Qini first, then hardware and date
    uplift.py --binary PATH --keep               and a line for each in benches/results/uplift_learners.csv
    uplift.py --binary PATH --side stratagem     the default learner (or a peer's name), ends with a JSON object for run.py

The rows are a randomised e-mail test: any e-mail or none, and whether the customer visited the shop in the two weeks after. Customers with
an even number are held out and scored, then those with an odd number; training and scores of ours are SQL. The peers get the same rows
from the same server: two logistic regressions, one per arm, on standardised numbers and one-hot categories, the same with LightGBM, and
one LightGBM with the treatment as a feature. Both figures are those of scikit-uplift, the mean of the two halves; `se` is the standard
error of the difference to the two logistic regressions, by a paired bootstrap over the held-out customers. Without the data folder the
benchmark says so and measures nothing. The Python needs benches/uplift.txt; one that lacks it makes an environment that has it.
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import run
from server import Server

RESAMPLES = 200
PEER = "logistic_t"
DEFAULT = "x"
COLUMNS = ["date", "model", "qini", "difference", "se", "auuc", "predicted", "ate", "rows", "held_out", "seconds", "commit", "cpu", "cores", "system"]

FEATURES = """months_since_last_purchase, past_year_spend_band, past_year_spend_usd, bought_mens, bought_womens, zip_code, new_customer,
    channel"""
EXPERIMENT = f"""CREATE TABLE experiment AS SELECT customer_id, customer_id % 2 AS half, arm <> 'No E-Mail' AS treated, visit, {FEATURES}
    FROM experiment.email_experiment_train"""


class Data:
    """The customers, by number."""

    def __init__(self, server):
        import numpy

        self.server = server
        server.rows(EXPERIMENT)
        self.columns = server.rows("SELECT * FROM experiment ORDER BY customer_id")
        self.features = [column for column in self.columns if column not in ("customer_id", "half", "treated", "visit")]
        self.half = numpy.asarray(self.columns["half"])
        self.treated = numpy.asarray(self.columns["treated"], dtype=int)
        self.visit = numpy.asarray(self.columns["visit"], dtype=int)


def ours(learner):
    def scores(data, half):
        query = f"SELECT treated, visit, {FEATURES} FROM experiment WHERE half <> {half}"
        data.server.rows(
            f"""SELECT * FROM finetune(model => 'who_{learner}', task => 'uplift', treatment => 'treated', outcome => 'visit',
                learner => '{learner}', query => $${query}$$)"""
        )
        scored = data.server.rows(f"SELECT predict_uplift('who_{learner}', e) AS uplift FROM experiment e WHERE half = {half} ORDER BY customer_id")
        return scored["uplift"]

    return scores


def matrix(data, one_hot):
    """The features as numbers: a category as its code, or as a column for each of its values but the first."""
    import numpy

    made, categories = [], []
    for feature in data.features:
        values = data.columns[feature]
        if not isinstance(values[0], str):
            made.append(numpy.asarray(values, dtype=float)[:, None])
            continue
        known = sorted(set(values))
        codes = numpy.asarray([known.index(value) for value in values])
        if one_hot:
            made.append((codes[:, None] == numpy.arange(1, len(known))).astype(float))
        else:
            categories.append(sum(part.shape[1] for part in made))
            made.append(codes[:, None].astype(float))
    return numpy.concatenate(made, axis=1), categories


def logistic_t(data, half):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, _ = matrix(data, True)
    arms = []
    for arm in (1, 0):
        rows = (data.half != half) & (data.treated == arm)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[rows], data.visit[rows])
        arms.append(model.predict_proba(x[data.half == half])[:, 1])
    return arms[0] - arms[1]


def boosted(x, y, categories):
    import lightgbm

    options = {"objective": "binary", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 100, "seed": 0, "verbose": -1, "num_threads": os.cpu_count()}
    return lightgbm.train(options, lightgbm.Dataset(x, y, categorical_feature=categories), 100)


def lightgbm_t(data, half):
    x, categories = matrix(data, False)
    arms = []
    for arm in (1, 0):
        rows = (data.half != half) & (data.treated == arm)
        arms.append(boosted(x[rows], data.visit[rows], categories).predict(x[data.half == half]))
    return arms[0] - arms[1]


def lightgbm_s(data, half):
    import numpy

    x, categories = matrix(data, False)
    x = numpy.concatenate([x, data.treated[:, None]], axis=1)
    model = boosted(x[data.half != half], data.visit[data.half != half], categories)
    held = x[data.half == half]
    arms = [model.predict(numpy.concatenate([held[:, :-1], numpy.full((len(held), 1), arm)], axis=1)) for arm in (1.0, 0.0)]
    return arms[0] - arms[1]


MODELS = {f"stratagem_{learner}": ours(learner) for learner in "stxr"}
MODELS |= {"logistic_t": logistic_t, "lightgbm_t": lightgbm_t, "lightgbm_s": lightgbm_s}


def qini(visit, treated, uplift):
    """The Qini coefficient of scikit-uplift, without its checks."""
    import numpy

    def area(order, score):
        y, t, s = visit[order], treated[order], score[order]
        ends = numpy.append(numpy.flatnonzero(numpy.diff(s)), len(s) - 1)
        n_t, y_t, y_c = numpy.cumsum(t)[ends], numpy.cumsum(y * t)[ends], numpy.cumsum(y * (1 - t))[ends]
        n_c = ends + 1 - n_t
        height = numpy.append(0, y_t - y_c * numpy.divide(n_t, n_c, out=numpy.zeros(len(ends)), where=n_c > 0))
        return numpy.trapezoid(height, numpy.append(0, ends + 1)), height[-1] * len(s) / 2

    own, random = area(numpy.argsort(-uplift, kind="stable"), uplift)
    ideal = visit * treated - visit * (1 - treated)
    best, _ = area(numpy.argsort(-ideal, kind="stable"), ideal)
    return (own - random) / (best - random)


def measure(data, names):
    """name -> the scores of each half, and the seconds of a training."""
    import numpy

    found = {}
    for name in names:
        started = time.perf_counter()
        scores = [numpy.asarray(MODELS[name](data, half), dtype=float) for half in (0, 1)]
        found[name] = (scores, (time.perf_counter() - started) / 2)
        run.say(f"uplift: {name}, {found[name][1]:.1f} s per training")
    return found


def figures(data, found):
    """name -> the figures of a row of the results."""
    import numpy
    from sklift.metrics import qini_auc_score, uplift_auc_score

    halves = [(data.visit[data.half == half], data.treated[data.half == half]) for half in (0, 1)]
    random, samples = numpy.random.default_rng(0), []
    for _ in range(RESAMPLES if PEER in found else 0):
        drawn = [random.integers(0, len(visit), len(visit)) for visit, _ in halves]
        samples.append({name: numpy.mean([qini(v[rows], t[rows], s[rows]) for (v, t), s, rows in zip(halves, scores, drawn)]) for name, (scores, _) in found.items()})
    rows = {}
    for name, (scores, seconds) in found.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            pairs = [(qini_auc_score(v, s, t), uplift_auc_score(v, s, t)) for (v, t), s in zip(halves, scores)]
        for (v, t), s, (theirs, _) in zip(halves, scores, pairs):
            assert abs(qini(v, t, s) - theirs) < 1e-9, f"{name}: {qini(v, t, s)} instead of {theirs}"
        mean = numpy.mean(pairs, axis=0)
        ate = numpy.mean([v[t == 1].mean() - v[t == 0].mean() for v, t in halves])
        rows[name] = {"model": name, "qini": f"{mean[0]:.4f}", "auuc": f"{mean[1]:.4f}", "seconds": f"{seconds:.1f}"}
        rows[name] |= {"predicted": f"{numpy.mean(numpy.concatenate(scores)):.4f}", "ate": f"{ate:.4f}", "rows": len(data.visit), "held_out": len(data.visit)}
        if samples:
            rows[name]["se"] = f"{numpy.std([sample[name] - sample[PEER] for sample in samples]):.4f}"
    for row in rows.values() if samples else []:
        row["difference"] = f"{float(row['qini']) - float(rows[PEER]['qini']):+.4f}"
    return rows


def report(rows):
    shown = ["qini", "difference", "se", "auuc", "predicted", "ate", "seconds"]
    run.say(f"\nQini of scikit-uplift on held-out customers, and the difference to {PEER}")
    run.say("  ".join([f"{'model':<14}", *(f"{column:>10}" for column in shown)]))
    for row in sorted(rows, key=lambda row: -float(row["qini"])):
        run.say("  ".join([f"{row['model']:<14}", *(f"{row[column]:>10}" for column in shown)]))
    first = rows[0]
    run.say(f"{first['cpu']}, {first['cores']} cores, {first['system']}; commit {first['commit']}; {first['date']} UTC")


def benchmark(arguments):
    side = {"stratagem": f"stratagem_{DEFAULT}"}.get(arguments.side, arguments.side)
    with Server(arguments.binary, arguments.data) as server:
        data = Data(server)
        found = figures(data, measure(data, [side] if side else MODELS))
    if side:
        run.say(json.dumps({"side": arguments.side, "qini": float(found[side]["qini"])}))
        return
    here = run.circumstances()
    rows = [row | here for row in found.values()]
    report(rows)
    if arguments.keep:
        run.keep("uplift_learners", COLUMNS, rows)


def main():
    default_data = run.REPOSITORY / ".." / "shared" / "data"
    parser = argparse.ArgumentParser(description="Compares the uplift learners with models in Python on a randomised e-mail test.")
    parser.add_argument("--binary", default=run.values()["stratagem"], help="the built server [default: where make builds it]")
    parser.add_argument("--data", type=Path, default=default_data, help="the folder with the Parquet tables [default: ../shared/data]")
    parser.add_argument("--side", choices=["stratagem", *MODELS], help="measure one model and end with a JSON object")
    parser.add_argument("--keep", action="store_true", help="add the lines to benches/results/uplift_learners.csv")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        run.say(f"uplift: SKIPPED, nothing was measured: the data folder {arguments.data} is missing (name it with --data)")
        sys.exit(1 if arguments.side else 0)
    if any(importlib.util.find_spec(module) is None for module in ("lightgbm", "numpy", "psycopg", "sklearn", "sklift")):
        python = run.environment_for("uplift.txt")
        os.execv(python, [python, __file__, *sys.argv[1:]])
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # LightGBM's threads do not spin where cores are shared
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends too
    try:
        benchmark(arguments)
    except run.Problem as problem:
        run.say(f"uplift: {problem}")
        sys.exit(1)


if __name__ == "__main__":
    main()
