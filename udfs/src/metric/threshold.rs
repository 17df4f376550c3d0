//! `precision_at`, `recall_at` and `f1_at`: the rows whose score reaches a threshold.

use stratagem_models::metrics::threshold::{Answer, Threshold};

use super::Metric;
use super::parameters::{HIGH, LABEL, LEVEL, LOW, SCORE, VALUE, WEIGHT, WRONG_TYPE, level};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Result;
use crate::options::Options;

pub(super) static PRECISION_AT: Metric =
    Metric { declaration: &PRECISION, template: |options| Ok(Threshold::template(threshold(options)?, Answer::Precision, None)) };
pub(super) static PRECISION_AT_CI: Metric = Metric {
    declaration: &PRECISION_INTERVAL,
    template: |options| Ok(Threshold::template(threshold(options)?, Answer::Precision, Some(level(options)?))),
};
pub(super) static RECALL_AT: Metric =
    Metric { declaration: &RECALL, template: |options| Ok(Threshold::template(threshold(options)?, Answer::Recall, None)) };
pub(super) static RECALL_AT_CI: Metric = Metric {
    declaration: &RECALL_INTERVAL,
    template: |options| Ok(Threshold::template(threshold(options)?, Answer::Recall, Some(level(options)?))),
};
pub(super) static F1_AT: Metric =
    Metric { declaration: &F1, template: |options| Ok(Threshold::template(threshold(options)?, Answer::F1, None)) };

fn threshold(options: &Options) -> Result<f64> {
    options.double("threshold", f64::MIN..=f64::MAX)
}

const THRESHOLD: Parameter =
    Parameter::value("threshold", Type::Double, "A row is predicted positive when its score is at least this constant.").or("0.5");

static PRECISION: Function = Function {
    name: "precision_at",
    kind: Kind::Aggregate,
    parameters: &[LABEL, SCORE, THRESHOLD, WEIGHT],
    returns: Returns::Value(Type::Double),
    summary: "Precision at a threshold: the share of predicted positive rows that are positive",
    docs: "Of the rows whose score is at least the threshold, the (weighted) share with a positive label: scikit-learn's `precision_score` of \
           `score >= threshold`.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row reaches the threshold.",
    example: "SELECT precision_at(click, p, 0.7) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, a score is NaN, a weight is negative or not finite, or the threshold is no constant",
        },
        WRONG_TYPE,
    ],
};

static RECALL: Function = Function {
    name: "recall_at",
    summary: "Recall at a threshold: the share of positive rows that are predicted positive",
    docs: "Of the rows with a positive label, the (weighted) share whose score is at least the threshold: scikit-learn's `recall_score` of \
           `score >= threshold`.\n\n\
           Rows with a NULL argument are skipped. The result is NULL without a positive row.",
    example: "SELECT recall_at(click, p, threshold => 0.7) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    ..PRECISION
};

static F1: Function = Function {
    name: "f1_at",
    summary: "F1 at a threshold: the harmonic mean of precision and recall",
    docs: "Twice the positive rows whose score is at least the threshold, per the positive rows and the rows that reach it: scikit-learn's `f1_score` \
           of `score >= threshold`.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is positive and none reaches the threshold.",
    example: "SELECT f1_at(click, p) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    ..PRECISION
};

static PRECISION_INTERVAL: Function = Function {
    name: "precision_at_ci",
    parameters: &[LABEL, SCORE, THRESHOLD, LEVEL],
    returns: Returns::Struct(&[VALUE, LOW, HIGH]),
    summary: "Precision at a threshold with a confidence interval",
    docs: "`precision_at` with the score interval of a share (Wilson 1927), which holds for few rows and for shares near 0 or 1. Rows are taken as \
           independent.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row reaches the threshold.",
    example: "SELECT precision_at_ci(click, p, 0.7) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure { sqlstate: "22023", when: "a label is not 0 or 1, a score is NaN, or an option is not a constant within its limits" },
        WRONG_TYPE,
    ],
    ..PRECISION
};

static RECALL_INTERVAL: Function = Function {
    name: "recall_at_ci",
    summary: "Recall at a threshold with a confidence interval",
    docs: "`recall_at` with the score interval of a share (Wilson 1927), which holds for few rows and for shares near 0 or 1. Rows are taken as \
           independent.\n\n\
           Rows with a NULL argument are skipped. The result is NULL without a positive row.",
    example: "SELECT recall_at_ci(click, p, 0.7) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    ..PRECISION_INTERVAL
};
