//! `ate(outcome, treated)`, and `ate_ci` with an interval: the average effect of a treatment.

use stratagem_models::metrics::uplift::Ate;

use super::Metric;
use super::off_policy::INTERVAL;
use super::parameters::{LEVEL, level};
use super::uplift::{ERRORS, OUTCOME, PROPENSITY, TREATED};
use crate::declaration::{Function, Kind, Returns, Type};

/// `ate`.
pub(super) static VALUE: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Ate::template(None)) };

/// `ate_ci`.
pub(super) static WITH_INTERVAL: Metric =
    Metric { declaration: &INTERVAL_DECLARATION, template: |options| Ok(Ate::template(Some(level(options)?))) };

static DECLARATION: Function = Function {
    name: "ate",
    kind: Kind::Aggregate,
    parameters: &[OUTCOME, TREATED, PROPENSITY],
    returns: Returns::Value(Type::Double),
    summary: "Average treatment effect: the mean outcome of treated rows less that of untreated ones",
    docs: "The difference of the mean outcomes. With propensities, each mean is weighted by the inverse of the probability of the arm \
           and divided by the sum of these weights (Hájek 1971), which takes out what the propensities depend on.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when treated or untreated rows are missing.",
    example: "SELECT ate(visit, treated)\n\
              FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS experiment (visit, treated, uplift)",
    errors: ERRORS,
};

static INTERVAL_DECLARATION: Function = Function {
    name: "ate_ci",
    kind: Kind::Aggregate,
    parameters: &[OUTCOME, TREATED, LEVEL, PROPENSITY],
    returns: Returns::Struct(INTERVAL),
    summary: "`ate` with its standard error and an interval",
    docs: "The value of `ate`. Its standard error is the root of the sum of the squared errors of both means, each from the variance of \
           its own rows; a weighted mean is a ratio, whose error is found by the delta method with the propensities taken as known. The \
           interval is that of a normal distribution. `ab_test` adds a test.",
    example: "SELECT (ate_ci(visit, treated)).high\n\
              FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS experiment (visit, treated, uplift)",
    errors: ERRORS,
};
