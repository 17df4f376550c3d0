"""Prints the numbers of sql/evaluate.sql that no model has a part in, computed with pandas and SciPy apart from the server: the rows of the
fixtures in evaluate.rs.

    python -m venv /tmp/venv && /tmp/venv/bin/pip install pandas pyarrow scipy
    /tmp/venv/bin/python evaluate.py OPEN_BANDIT_FOLDER EXPERIMENT_FOLDER
"""

import sys
from pathlib import Path

import pandas
from scipy.stats import chisquare, norm, ttest_ind

Z = norm.ppf(0.975)


def number(value):
    """As psql shows a number: 1.0 is 1."""
    return f"{value:.6g}"


def percent(value):
    return number(round(100 * value, 2))


def off_policy(folder):
    logs = {policy: pandas.read_parquet(folder / f"impressions_{name}.parquet") for policy, name in (("random", "random"), ("thompson", "bts"))}
    items = pandas.read_parquet(folder / "items.parquet").groupby("campaign").size()
    keys = ["campaign", "position", "item_id"]
    shown = logs["thompson"].groupby(keys).size()
    target = (shown / shown.groupby(["campaign", "position"]).transform("sum")).rename("target").reset_index()
    random = logs["random"].merge(target, how="left", on=keys).fillna({"target": 0.0})
    even = logs["thompson"].assign(target=1.0 / logs["thompson"].campaign.map(items))
    for campaign in ("all", "men"):
        for policy, log in (("random", even), ("thompson", random)):
            rows = log[log.campaign == campaign]
            weight = rows.target / rows.propensity
            each = weight * rows.click
            ips, error = each.mean(), each.std() / len(rows) ** 0.5
            snips = each.sum() / weight.sum()
            ess = weight.sum() ** 2 / (weight**2).sum()
            earned = logs[policy][logs[policy].campaign == campaign].click.mean()
            low, high = percent(ips - Z * error), percent(ips + Z * error)
            print(campaign, policy, percent(ips), low, high, percent(snips), round(ess), round(weight.max()), percent(earned), sep=" | ")


def experiment(folder):
    rows = pandas.read_parquet(folder / "email_experiment_train.parquet")
    print("srm", f"{chisquare(rows.arm.value_counts()).pvalue:.3f}", sep=" | ")
    none = rows[rows.arm == "No E-Mail"]
    for outcome in ("visit", "spend"):
        for arm in ("Mens E-Mail", "Womens E-Mail"):
            mail = rows[rows.arm == arm]
            a, b = none[outcome], mail[outcome]
            difference = b.mean() - a.mean()
            if outcome == "visit":
                pooled = (a.sum() + b.sum()) / (len(a) + len(b))
                p = 2 * norm.sf(abs(difference) / (pooled * (1 - pooled) * (1 / len(a) + 1 / len(b))) ** 0.5)
                error = (a.mean() * (1 - a.mean()) / len(a) + b.mean() * (1 - b.mean()) / len(b)) ** 0.5
            else:
                p = ttest_ind(b, a, equal_var=False).pvalue
                error = (a.var() / len(a) + b.var() / len(b)) ** 0.5
            print(arm, outcome, *(number(round(value, 4)) for value in (a.mean(), b.mean(), difference, difference - Z * error, difference + Z * error)), number(round(p, 5)), sep=" | ")
    held = rows[rows.customer_id % 2 == 0]
    treated = held.arm != "No E-Mail"
    print("ate", f"{held.visit[treated].mean() - held.visit[~treated].mean():.4f}", sep=" | ")


off_policy(Path(sys.argv[1]))
experiment(Path(sys.argv[2]))
