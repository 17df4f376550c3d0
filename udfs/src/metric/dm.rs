//! `dm(q_new)`, and `dm_ci` with an interval: direct method: what a model expects of another policy per row of the log.

use stratagem_models::metrics::policy::{Estimator, Policy};

use super::Metric;
use super::off_policy::{ERRORS, INTERVAL, Q_NEW};
use super::parameters::{LEVEL, level};
use crate::declaration::{Function, Kind, Returns, Type};

/// `dm`.
pub(super) static VALUE: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Policy::template(Estimator::Dm, None)) };

/// `dm_ci`.
pub(super) static WITH_INTERVAL: Metric =
    Metric { declaration: &INTERVAL_DECLARATION, template: |options| Ok(Policy::template(Estimator::Dm, Some(level(options)?))) };

static DECLARATION: Function = Function {
    name: "dm",
    kind: Kind::Aggregate,
    parameters: &[Q_NEW],
    returns: Returns::Value(Type::Double),
    summary: "Direct method: what a model expects of another policy per row of the log",
    docs: "The mean of `q_new`: no better than the model, but without the variance of weights. Equal to `DirectMethod` of Open Bandit \
           Pipeline. `dr` corrects it by what really happened.\n\n\
           Rows with NULL are skipped. The result is NULL when no row is left.",
    example: "SELECT dm(q_new)\n\
              FROM (VALUES (1, 0.9, 0.25, 0.6, 0.55), (0, 0.1, 0.5, 0.2, 0.5), (0, 0.8, 0.25, 0.6, 0.5))\n\
              \x20    AS log (click, p_new, p_logged, q_logged, q_new)",
    errors: ERRORS,
};

static INTERVAL_DECLARATION: Function = Function {
    name: "dm_ci",
    kind: Kind::Aggregate,
    parameters: &[Q_NEW, LEVEL],
    returns: Returns::Struct(INTERVAL),
    summary: "`dm` with its standard error and an interval",
    docs: "The estimate of `dm` as `value`. The standard error is that of the mean over rows (their sample standard deviation over the \
           square root of their number), and the interval is that of a normal distribution. It supposes independent rows. The error of \
           the model is not in it: the interval is about the rows, and the model is taken as given.",
    example: "SELECT (dm_ci(q_new)).low\n\
              FROM (VALUES (1, 0.9, 0.25, 0.6, 0.55), (0, 0.1, 0.5, 0.2, 0.5), (0, 0.8, 0.25, 0.6, 0.5))\n\
              \x20    AS log (click, p_new, p_logged, q_logged, q_new)",
    errors: ERRORS,
};
