//! `dr(reward, target_probability, logged_propensity, q_logged, q_new)`, and `dr_ci` with an interval: doubly robust: a model's expectation
//! of another policy, corrected by the log.

use stratagem_models::metrics::policy::{Estimator, Policy};

use super::Metric;
use super::off_policy::{ERRORS, INTERVAL, LOGGED, Q_LOGGED, Q_NEW, REWARD, TARGET};
use super::parameters::{LEVEL, level};
use crate::declaration::{Function, Kind, Returns, Type};

/// `dr`.
pub(super) static VALUE: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Policy::template(Estimator::Dr, None)) };

/// `dr_ci`.
pub(super) static WITH_INTERVAL: Metric =
    Metric { declaration: &INTERVAL_DECLARATION, template: |options| Ok(Policy::template(Estimator::Dr, Some(level(options)?))) };

static DECLARATION: Function = Function {
    name: "dr",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED, Q_LOGGED, Q_NEW],
    returns: Returns::Value(Type::Double),
    summary: "Doubly robust: a model's expectation of another policy, corrected by the log",
    docs: "The mean of `q_new + target_probability / logged_propensity * (reward - q_logged)` over the rows of a log: right when the \
           propensities or the model are, and less variable than `ips` when the model is good (Dudík, Erhan, Langford and Li 2014). \
           Equal to `DoublyRobust` of Open Bandit Pipeline. Fit the model on other rows than these.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT dr(click, p_new, p_logged, q_logged, q_new)\n\
              FROM (VALUES (1, 0.9, 0.25, 0.6, 0.55), (0, 0.1, 0.5, 0.2, 0.5), (0, 0.8, 0.25, 0.6, 0.5))\n\
              \x20    AS log (click, p_new, p_logged, q_logged, q_new)",
    errors: ERRORS,
};

static INTERVAL_DECLARATION: Function = Function {
    name: "dr_ci",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED, Q_LOGGED, Q_NEW, LEVEL],
    returns: Returns::Struct(INTERVAL),
    summary: "`dr` with its standard error and an interval",
    docs: "The estimate of `dr` as `value`. The standard error is that of the mean over rows (their sample standard deviation over the \
           square root of their number), and the interval is that of a normal distribution. It supposes independent rows. With few \
           effective rows (see `ess`) or rare rewards it is too short.",
    example: "SELECT (dr_ci(click, p_new, p_logged, q_logged, q_new)).low\n\
              FROM (VALUES (1, 0.9, 0.25, 0.6, 0.55), (0, 0.1, 0.5, 0.2, 0.5), (0, 0.8, 0.25, 0.6, 0.5))\n\
              \x20    AS log (click, p_new, p_logged, q_logged, q_new)",
    errors: ERRORS,
};
