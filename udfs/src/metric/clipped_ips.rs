//! `clipped_ips(reward, target_probability, logged_propensity, max_weight)`, and `clipped_ips_ci` with an interval: inverse propensity
//! score with cut weights: what another policy would have earned, carefully.

use stratagem_models::metrics::policy::{Estimator, Policy};

use super::Metric;
use super::off_policy::{ERRORS, INTERVAL, LOGGED, REWARD, TARGET};
use super::parameters::{LEVEL, level};
use crate::declaration::{Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

const MAX_WEIGHT: Parameter = Parameter::value("max_weight", Type::Double, "The largest weight, from 0. A constant.").or("10");

fn estimator(options: &Options) -> Result<Estimator, Error> {
    Ok(Estimator::ClippedIps { max_weight: options.double("max_weight", 0.0..=f64::MAX)? })
}

/// `clipped_ips`.
pub(super) static VALUE: Metric = Metric { declaration: &DECLARATION, template: |options| Ok(Policy::template(estimator(options)?, None)) };

/// `clipped_ips_ci`.
pub(super) static WITH_INTERVAL: Metric =
    Metric { declaration: &INTERVAL_DECLARATION, template: |options| Ok(Policy::template(estimator(options)?, Some(level(options)?))) };

static DECLARATION: Function = Function {
    name: "clipped_ips",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED, MAX_WEIGHT],
    returns: Returns::Value(Type::Double),
    summary: "Inverse propensity score with cut weights: what another policy would have earned, carefully",
    docs: "`ips` with weights `target_probability / logged_propensity` above `max_weight` cut down to it (Ionides 2008). Less variable, \
           and for rewards that are not negative never too high on average: what it leaves out is earned where the log has little to \
           say.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT clipped_ips(click, p_new, p_logged, max_weight => 2)\n\
              FROM (VALUES (1, 0.9, 0.25), (0, 0.1, 0.5), (0, 0.8, 0.25)) AS log (click, p_new, p_logged)",
    errors: ERRORS,
};

static INTERVAL_DECLARATION: Function = Function {
    name: "clipped_ips_ci",
    kind: Kind::Aggregate,
    parameters: &[REWARD, TARGET, LOGGED, MAX_WEIGHT, LEVEL],
    returns: Returns::Struct(INTERVAL),
    summary: "`clipped_ips` with its standard error and an interval",
    docs: "The estimate of `clipped_ips` as `value`. The standard error is that of the mean over rows (their sample standard deviation \
           over the square root of their number), and the interval is that of a normal distribution. It supposes independent rows. The \
           bias of the cut is not in it.",
    example: "SELECT (clipped_ips_ci(click, p_new, p_logged, max_weight => 2)).low\n\
              FROM (VALUES (1, 0.9, 0.25), (0, 0.1, 0.5), (0, 0.8, 0.25)) AS log (click, p_new, p_logged)",
    errors: ERRORS,
};
