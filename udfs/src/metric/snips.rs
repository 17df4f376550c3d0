//! `snips(reward, target_probability, logged_propensity)`, and `snips_ci` with an interval: self-normalized inverse propensity score: what
//! another policy would have earned per row of the log.

use stratagem_models::metrics::policy::{Estimator, Policy};

use super::Metric;
use super::off_policy::{ERRORS, INTERVAL, LOGGED, REWARD, TARGET};
use super::parameters::{LEVEL, level};
use crate::declaration::{Function, Kind, Returns, Type};

/// `snips`.
pub(super) static VALUE: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Policy::template(Estimator::Snips, None)) };

/// `snips_ci`.
pub(super) static WITH_INTERVAL: Metric =
    Metric { declaration: &INTERVAL_DECLARATION, template: |options| Ok(Policy::template(Estimator::Snips, Some(level(options)?))) };

static DECLARATION: Function = Function {
    name: "snips",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED],
    returns: Returns::Value(Type::Double),
    summary: "Self-normalized inverse propensity score: what another policy would have earned per row of the log",
    docs: "The mean reward weighted by `target_probability / logged_propensity`: `ips` divided by the mean weight, which is 1 on average \
           (Swaminathan and Joachims 2015). Slightly biased on few rows, but mostly far less variable than `ips`, never outside of the \
           range of the rewards, and the same when a constant is added to all rewards. Equal to \
           `SelfNormalizedInverseProbabilityWeighting` of Open Bandit Pipeline.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left, or when all weights are 0.",
    example: "SELECT snips(click, p_new, p_logged)\n\
              FROM (VALUES (1, 0.9, 0.25), (0, 0.1, 0.5), (0, 0.8, 0.25)) AS log (click, p_new, p_logged)",
    errors: ERRORS,
};

static INTERVAL_DECLARATION: Function = Function {
    name: "snips_ci",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED, LEVEL],
    returns: Returns::Struct(INTERVAL),
    summary: "`snips` with its standard error and an interval",
    docs: "The estimate of `snips` as `value`. The standard error is that of a ratio of two means by the delta method: the rows' `weight \
           * (reward - value)` are taken as the sample, their standard deviation is divided by the mean weight and the square root of \
           the number of rows. The interval is that of a normal distribution. It supposes independent rows. With few effective rows (see \
           `ess`) or rare rewards it is too short.",
    example: "SELECT (snips_ci(click, p_new, p_logged)).low\n\
              FROM (VALUES (1, 0.9, 0.25), (0, 0.1, 0.5), (0, 0.8, 0.25)) AS log (click, p_new, p_logged)",
    errors: ERRORS,
};
