//! `ips(reward, target_probability, logged_propensity)`, and `ips_ci` with an interval: inverse propensity score: what another policy would
//! have earned per row of the log.

use stratagem_models::metrics::policy::{Estimator, Policy};

use super::Metric;
use super::off_policy::{ERRORS, INTERVAL, LOGGED, REWARD, TARGET};
use super::parameters::{LEVEL, level};
use crate::declaration::{Function, Kind, Returns, Type};

/// `ips`.
pub(super) static VALUE: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Policy::template(Estimator::Ips, None)) };

/// `ips_ci`.
pub(super) static WITH_INTERVAL: Metric =
    Metric { declaration: &INTERVAL_DECLARATION, template: |options| Ok(Policy::template(Estimator::Ips, Some(level(options)?))) };

static DECLARATION: Function = Function {
    name: "ips",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED],
    returns: Returns::Value(Type::Double),
    summary: "Inverse propensity score: what another policy would have earned per row of the log",
    docs: "The mean of `reward * target_probability / logged_propensity` over the rows of a log: an unbiased estimate of the mean reward \
           if the new policy had chosen instead of the logging policy, as long as the logging policy showed every action the new one \
           would show with some probability (Horvitz and Thompson 1952). Equal to `InverseProbabilityWeighting` of Open Bandit Pipeline. \
           For a policy without randomness the target probability is 1 where it agrees with the log and 0 elsewhere.\n\n\
           The variance grows as propensities shrink: compare few policies on many rows, and look at `ess` first. Rows with a NULL \
           argument are skipped. The result is NULL when no row is left.",
    example: "SELECT ips(click, p_new, p_logged)\n\
              FROM (VALUES (1, 0.9, 0.25), (0, 0.1, 0.5), (0, 0.8, 0.25)) AS log (click, p_new, p_logged)",
    errors: ERRORS,
};

static INTERVAL_DECLARATION: Function = Function {
    name: "ips_ci",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED, LEVEL],
    returns: Returns::Struct(INTERVAL),
    summary: "`ips` with its standard error and an interval",
    docs: "The estimate of `ips` as `value`. The standard error is that of the mean over rows (their sample standard deviation over the \
           square root of their number), and the interval is that of a normal distribution. It supposes independent rows: when a user \
           has many, give one row per user with the mean of `reward * target_probability / logged_propensity`. With few effective rows \
           (see `ess`) or rare rewards it is too short.",
    example: "SELECT (ips_ci(click, p_new, p_logged)).low\n\
              FROM (VALUES (1, 0.9, 0.25), (0, 0.1, 0.5), (0, 0.8, 0.25)) AS log (click, p_new, p_logged)",
    errors: ERRORS,
};
