//! `switch_dr(reward, target_probability, logged_propensity, q_logged, q_new, threshold)`, and `switch_dr_ci` with an interval: doubly
//! robust where weights are small, the model alone where they are large.

use stratagem_models::metrics::policy::{Estimator, Policy};

use super::Metric;
use super::off_policy::{ERRORS, INTERVAL, LOGGED, Q_LOGGED, Q_NEW, REWARD, TARGET};
use super::parameters::{LEVEL, level};
use crate::declaration::{Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

const THRESHOLD: Parameter = Parameter::value("threshold", Type::Double, "The largest weight that is used, from 0. A constant.").or("1");

fn estimator(options: &Options) -> Result<Estimator, Error> {
    Ok(Estimator::SwitchDr { threshold: options.double("threshold", 0.0..=f64::MAX)? })
}

/// `switch_dr`.
pub(super) static VALUE: Metric = Metric { declaration: &DECLARATION, template: |options| Ok(Policy::template(estimator(options)?, None)) };

/// `switch_dr_ci`.
pub(super) static WITH_INTERVAL: Metric =
    Metric { declaration: &INTERVAL_DECLARATION, template: |options| Ok(Policy::template(estimator(options)?, Some(level(options)?))) };

static DECLARATION: Function = Function {
    name: "switch_dr",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED, Q_LOGGED, Q_NEW, THRESHOLD],
    returns: Returns::Value(Type::Double),
    summary: "Doubly robust where weights are small, the model alone where they are large",
    docs: "`dr` without the correction of rows whose weight `target_probability / logged_propensity` is above `threshold` (Wang, Agarwal \
           and Dudík 2017): a threshold of 0 leaves `dm`, one above all weights `dr`. What it saves in variance it may pay in bias. \
           Equal to `SwitchDoublyRobust` of Open Bandit Pipeline, whose default is 1 as well.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT switch_dr(click, p_new, p_logged, q_logged, q_new, threshold => 3)\n\
              FROM (VALUES (1, 0.9, 0.25, 0.6, 0.55), (0, 0.1, 0.5, 0.2, 0.5), (0, 0.8, 0.25, 0.6, 0.5))\n\
              \x20    AS log (click, p_new, p_logged, q_logged, q_new)",
    errors: ERRORS,
};

static INTERVAL_DECLARATION: Function = Function {
    name: "switch_dr_ci",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED, Q_LOGGED, Q_NEW, THRESHOLD, LEVEL],
    returns: Returns::Struct(INTERVAL),
    summary: "`switch_dr` with its standard error and an interval",
    docs: "The estimate of `switch_dr` as `value`. The standard error is that of the mean over rows (their sample standard deviation \
           over the square root of their number), and the interval is that of a normal distribution. It supposes independent rows. The \
           bias of the threshold is not in it.",
    example: "SELECT (switch_dr_ci(click, p_new, p_logged, q_logged, q_new, threshold => 3)).low\n\
              FROM (VALUES (1, 0.9, 0.25, 0.6, 0.55), (0, 0.1, 0.5, 0.2, 0.5), (0, 0.8, 0.25, 0.6, 0.5))\n\
              \x20    AS log (click, p_new, p_logged, q_logged, q_new)",
    errors: ERRORS,
};
