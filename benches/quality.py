#!/usr/bin/env python3
"""Are the click models of `finetune`, with no setting but the label, as good as LightGBM?

    quality.py --binary PATH                          every table; differences first, then hardware and date
    quality.py --binary PATH --tables shop,search     some of them
    quality.py --binary PATH --keep                   and a line per table in benches/results/quality_tables.csv
    quality.py --binary PATH --side stratagem         one side (or lightgbm), ends with a JSON object for run.py

A server is started over the data folder, with a temporary state folder. The split by a key, the training with
`finetune(model => .., query => .., label => ..)` and the scores of the held-out rows with `predict_ctr` are SQL. LightGBM gets the
same rows from the same server, and its best chance: integers as numbers or as categories, two learning rates, early stopping on a
tenth of the training rows; the validation loss picks one of the four.

A table with few rows or clicks is trained once per fold: its AUC is the mean over the folds (a fold with many clicks leaves few to
train on, so scores of different folds do not compare), its other figures are over the rows of all folds. `auc_se` is the standard
error of the AUC difference, by a paired bootstrap over the held-out rows. Without the data folder the benchmark says so and measures nothing.
The Python needs benches/quality.txt; one that lacks it makes an environment that has it, as run.py does, and goes on there.
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

import run
from server import Server

PARTS = 5
BINS = 15
RESAMPLES = 200

# By how much ours may fall short of the peer; the calibration error is within its bound or the peer's.
AUC_BELOW, LOGLOSS_ABOVE, ECE = 0.005, 0.002, 0.02

COLUMNS = ["date", "table", "auc_difference", "auc_se", "logloss_difference", "auc", "auc_peer", "logloss", "logloss_peer", "ece", "ece_peer"]
COLUMNS += ["rows", "held_out", "folds", "seconds", "seconds_peer", "met", "peer_name", "commit", "cpu", "cores", "system"]

SHOP = """session_id AS key, session_id % 5 AS part, revenue AS label, administrative, administrative_duration, informational,
    informational_duration, product_related, product_related_duration, bounce_rates, exit_rates, {page_values}special_day, month,
    operating_systems, browser, region, traffic_type, visitor_type, weekend FROM conversion.shop_sessions_train"""

BANDIT = """number AS key, number % 5 AS part, click AS label, campaign, item_id, position, user_feature_0, user_feature_1, user_feature_2,
    user_feature_3, affinity_shown_item, user_item_affinity
    FROM (SELECT *, row_number() OVER (ORDER BY impression_id) AS number FROM bandit.impressions_{policy}) AS numbered"""

# name -> the rows and the folds that are measured. `key` orders the rows, `part` (0 to PARTS - 1) is the fold they are held out in,
# `label` is the outcome, the rest are features.
TABLES = {
    "search": (
        """row_id AS key, row_id % 5 AS part, clicked AS label, impressions, url_hash, ad_id, advertiser_id, ads_in_session, position,
        query_id, keyword_id, title_id, description_id, user_id FROM ctr.search_ads_train""",
        2,
    ),
    "shop": (SHOP.format(page_values="page_values, "), 5),
    "shop_early": (SHOP.format(page_values=""), 5),
    "bandit_random": (BANDIT.format(policy="random"), 5),
    "bandit_bts": (BANDIT.format(policy="bts"), 5),
    "clickstream": (
        """session_id * 1000 + click_order AS key, session_id % 5 AS part,
        CASE WHEN lead(click_order) OVER (PARTITION BY session_id ORDER BY click_order) IS NULL THEN 0 ELSE 1 END AS label,
        click_order, country_code, category, product_model, colour, photo_location, photo_profile, price_usd, price_above_category_mean,
        page_number FROM behaviour.clickstream_train""",
        1,
    ),
    "email": (
        """customer_id AS key, customer_id % 5 AS part, visit AS label, months_since_last_purchase, past_year_spend_band, past_year_spend_usd,
        bought_mens, bought_womens, zip_code, new_customer, channel, arm FROM experiment.email_experiment_train""",
        2,
    ),
    "orders": (
        """invoice AS key, invoice / 8 % 5 AS part, CASE WHEN quantity >= 12 THEN 1 ELSE 0 END AS label, stock_code, customer_id, country,
        unit_price_gbp, CAST(extract(hour FROM ordered_at) AS integer) AS hour, CAST(extract(dow FROM ordered_at) AS integer) AS dow
        FROM (SELECT *, CASE WHEN invoice_no ~ '^[0-9]+$' THEN CAST(invoice_no AS bigint) END AS invoice FROM orders.orders) AS numbered
        WHERE invoice % 8 = 0 AND quantity > 0 AND unit_price_gbp > 0""",
        1,
    ),
    "sales": (
        """day * 1000 + item AS key, (day / 4 + item) % 5 AS part, CASE WHEN on_promotion THEN 1 ELSE 0 END AS label, brand, sku, units,
        CAST(extract(month FROM sale_date) AS integer) AS month, CAST(extract(dow FROM sale_date) AS integer) AS dow,
        CAST(extract(year FROM sale_date) AS integer) AS year
        FROM (SELECT *, CAST(extract(epoch FROM sale_date) AS bigint) / 86400 AS day, dense_rank() OVER (ORDER BY brand, sku) AS item
        FROM sales.daily_sales_train) AS dated WHERE day % 4 = 0""",
        1,
    ),
}


class Table:
    """The rows of a benchmark, as a table of the server."""

    def __init__(self, server, name):
        query, self.folds = TABLES[name]
        self.server, self.name = server, f"rows_{name}"
        server.rows(f"CREATE TABLE {self.name} AS SELECT *, row_number() OVER (ORDER BY key) AS number FROM (SELECT {query}) AS source")
        self.columns = server.rows(f"SELECT * FROM {self.name} ORDER BY number")
        self.features = [column for column in self.columns if column not in ("key", "part", "label", "number")]

    def held(self, fold):
        import numpy

        return numpy.asarray(self.columns["part"]) == fold

    def labels(self):
        import numpy

        return numpy.asarray(self.columns["label"], dtype=float)


def stratagem(table, fold):
    """Probabilities of the held-out rows, and the seconds of the training."""
    import numpy

    features, model = ", ".join(table.features), f"{table.name}_{fold}"
    started = time.perf_counter()
    table.server.rows(
        f"SELECT * FROM finetune(model => '{model}', query => $$SELECT {features}, label FROM {table.name} WHERE part <> {fold}$$, label => 'label')"
    )
    seconds = time.perf_counter() - started
    scored = table.server.rows(f"SELECT predict_ctr('{model}', t) AS p FROM {table.name} AS t WHERE part = {fold} ORDER BY number")
    return numpy.asarray(scored["p"], dtype=float), seconds


def matrix(columns, integers):
    """The features as LightGBM takes them, with the positions of the categories. A list becomes one number per position."""
    import numpy

    made, categories = [], []
    for values in columns:
        first = next((value for value in values if value is not None), None)
        if isinstance(first, list):
            width = max(len(value) for value in values if value is not None)
            padded = [[] if value is None else value for value in values]
            made.append(numpy.array([value + [None] * (width - len(value)) for value in padded], dtype=float))
        elif isinstance(first, str) or isinstance(first, int) and integers == "categories":
            codes = {value: code for code, value in enumerate(sorted({value for value in values if value is not None}))}
            categories.append(sum(part.shape[1] for part in made))
            made.append(numpy.array([[codes.get(value, numpy.nan)] for value in values], dtype=float))
        else:
            made.append(numpy.array([[numpy.nan if value is None else value] for value in values], dtype=float))
    return numpy.concatenate(made, axis=1), categories


def lightgbm(table, fold):
    """The same from LightGBM; the seconds are those of one of the four trainings."""
    import lightgbm as peer
    import numpy

    held, labels = table.held(fold), table.labels()
    random = numpy.random.default_rng(0)
    training, validation = [], []
    for outcome in (0, 1):
        rows = random.permutation(numpy.flatnonzero(~held & (labels == outcome)))
        validation.append(rows[: len(rows) // 10])
        training.append(rows[len(rows) // 10 :])
    training, validation = (numpy.sort(numpy.concatenate(rows)) for rows in (training, validation))
    started, best = time.perf_counter(), None
    for integers in ("numbers", "categories"):
        x, categories = matrix([table.columns[feature] for feature in table.features], integers)
        for rate in (0.05, 0.1):
            data = peer.Dataset(x[training], labels[training], categorical_feature=categories)
            checks = peer.Dataset(x[validation], labels[validation], reference=data)
            options = {"objective": "binary", "learning_rate": rate, "num_leaves": 31, "seed": 0, "verbose": -1, "num_threads": os.cpu_count()}
            stop = peer.early_stopping(50, verbose=False)
            model = peer.train(options, data, 3000, [checks], callbacks=[stop])
            loss = model.best_score["valid_0"]["binary_logloss"]
            if best is None or loss < best[0]:
                best = (loss, model.predict(x[held]))
    return best[1], (time.perf_counter() - started) / 4


SIDES = {"stratagem": stratagem, "lightgbm": lightgbm}


def auc(labels, scores, folds):
    """By the rank sum, ties counted half; the mean over the folds that have both outcomes."""
    import numpy
    from scipy.stats import rankdata

    found = []
    for fold in numpy.unique(folds):
        hits, part = labels[folds == fold] > 0.5, scores[folds == fold]
        positives, negatives = hits.sum(), (~hits).sum()
        if positives and negatives:
            found.append((rankdata(part)[hits].sum() - positives * (positives + 1) / 2) / (positives * negatives))
    return float(numpy.mean(found))


def logloss(labels, scores, _):
    import numpy

    bounded = numpy.clip(scores, 1e-7, 1 - 1e-7)
    return float(-numpy.mean(labels * numpy.log(bounded) + (1 - labels) * numpy.log(1 - bounded)))


def ece(labels, scores, _):
    """The expected calibration error over bins of equal width (Naeini et al. 2015)."""
    import numpy

    bins = numpy.minimum((scores * BINS).astype(int), BINS - 1)
    gaps = numpy.abs(numpy.bincount(bins, scores, BINS) - numpy.bincount(bins, labels, BINS))
    return float(gaps.sum() / len(labels))


def standard_error(labels, ours, peers, folds):
    import numpy

    random, differences = numpy.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(labels), len(labels))
        differences.append(auc(labels[rows], ours[rows], folds[rows]) - auc(labels[rows], peers[rows], folds[rows]))
    return float(numpy.std(differences))


def measure(table, sides):
    """Labels and folds of all held-out rows; side -> their scores and the seconds per training."""
    import numpy

    parts = [table.labels()[table.held(fold)] for fold in range(table.folds)]
    labels, folds = numpy.concatenate(parts), numpy.repeat(numpy.arange(table.folds), [len(part) for part in parts])
    found = {}
    for side in sides:
        scores, seconds = zip(*(SIDES[side](table, fold) for fold in range(table.folds)))
        found[side] = (numpy.concatenate(scores), sum(seconds) / table.folds)
    return labels, folds, found


def compared(name, table, labels, folds, found):
    """A row of the results."""
    (ours, seconds), (peers, seconds_peer) = found["stratagem"], found["lightgbm"]
    row = {"table": name, "rows": len(table.labels()), "held_out": len(labels), "folds": table.folds}
    figures = {}
    for metric in (auc, logloss, ece):
        mine, theirs = metric(labels, ours, folds), metric(labels, peers, folds)
        figures[metric] = (mine, theirs)
        row[metric.__name__], row[f"{metric.__name__}_peer"] = f"{mine:.5f}", f"{theirs:.5f}"
    below = figures[auc][0] - figures[auc][1]
    above = figures[logloss][0] - figures[logloss][1]
    calibrated = figures[ece][0] <= max(ECE, figures[ece][1])
    row |= {"auc_difference": f"{below:+.4f}", "auc_se": f"{standard_error(labels, ours, peers, folds):.4f}", "logloss_difference": f"{above:+.5f}"}
    row |= {"seconds": f"{seconds:.1f}", "seconds_peer": f"{seconds_peer:.1f}"}
    row["met"] = "yes" if below >= -AUC_BELOW and above <= LOGLOSS_ABOVE and calibrated else "no"
    return row


def report(rows):
    shown = ["auc_difference", "auc_se", "logloss_difference", "ece", "ece_peer", "auc", "auc_peer", "logloss", "logloss_peer"]
    shown += ["seconds", "seconds_peer", "met"]
    run.say(f"\nStratagem less LightGBM (wanted: AUC at least -{AUC_BELOW}, log loss at most +{LOGLOSS_ABOVE}, ECE within {ECE} or the peer's)")
    widths = [max(len(column), *(len(row[column]) for row in rows)) for column in shown]
    run.say("  ".join([f"{'table':<14}", *(f"{column:>{width}}" for column, width in zip(shown, widths))]))
    for row in rows:
        run.say("  ".join([f"{row['table']:<14}", *(f"{row[column]:>{width}}" for column, width in zip(shown, widths))]))
    met = sum(row["met"] == "yes" for row in rows)
    ratio = sum(float(row["auc"]) for row in rows) / sum(float(row["auc_peer"]) for row in rows)
    run.say(f"mean AUC {ratio:.4f} of LightGBM's; {met} of {len(rows)} tables within the bounds")
    first = rows[0]
    run.say(f"{first['cpu']}, {first['cores']} cores, {first['system']}; {first['peer_name']}; commit {first['commit']}; {first['date']} UTC")


def circumstances():
    import lightgbm as peer

    return {"peer_name": f"LightGBM {peer.__version__}", **run.circumstances()}


def benchmark(arguments, names):
    """Measures every table; returns what went wrong. A table that fails does not stop the others."""
    sides = [arguments.side] if arguments.side else list(SIDES)
    rows, means, problems = [], [], []
    with Server(arguments.binary, arguments.data) as server:
        for name in names:
            try:
                table = Table(server, name)
                labels, folds, found = measure(table, sides)
            except run.Problem as problem:
                problems.append(f"{name}: {problem}")
                continue
            for side, (scores, seconds) in found.items():
                figures = f"AUC {auc(labels, scores, folds):.4f}, log loss {logloss(labels, scores, folds):.5f}"
                run.say(f"quality: {name}, {side}: {figures}, {seconds:.1f} s per training")
            if arguments.side:
                means.append(auc(labels, found[arguments.side][0], folds))
            else:
                rows.append(compared(name, table, labels, folds, found) | circumstances())
    if rows:
        report(rows)
    if rows and arguments.keep:
        run.keep("quality_tables", COLUMNS, rows)
    if means and not problems:
        run.say(json.dumps({"side": arguments.side, "tables": len(means), "mean_auc": round(sum(means) / len(means), 5)}))
    return problems


def main():
    default_data = run.REPOSITORY / ".." / "shared" / "data"
    parser = argparse.ArgumentParser(description="Compares the default click model with LightGBM on real tables.")
    parser.add_argument("--binary", default=run.values()["stratagem"], help="the built server [default: where make builds it]")
    parser.add_argument("--data", type=Path, default=default_data, help="the folder with the Parquet tables [default: ../shared/data]")
    parser.add_argument("--tables", help=f"some of {','.join(TABLES)}")
    parser.add_argument("--side", choices=list(SIDES), help="measure one side and end with a JSON object")
    parser.add_argument("--keep", action="store_true", help="add the lines to benches/results/quality_tables.csv")
    arguments = parser.parse_args()
    names = arguments.tables.split(",") if arguments.tables else list(TABLES)
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        parser.error(f"no table {unknown[0]}; there are {', '.join(TABLES)}")
    if not arguments.data.is_dir():
        run.say(f"quality: SKIPPED, nothing was measured: the data folder {arguments.data} is missing (name it with --data)")
        sys.exit(1 if arguments.side else 0)
    if any(importlib.util.find_spec(module) is None for module in ("lightgbm", "numpy", "psycopg", "scipy")):
        python = run.environment_for("quality.txt")
        os.execv(python, [python, __file__, *sys.argv[1:]])
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # LightGBM's threads do not spin where cores are shared
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends too
    try:
        problems = benchmark(arguments, names)
    except run.Problem as problem:
        problems = [str(problem)]
    for problem in problems:
        run.say(f"quality: {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
