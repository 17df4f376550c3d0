//! `logloss` and `brier`: what probabilities cost, per row.

use stratagem_models::metrics::ratio;

use super::Metric;
use super::parameters::{HIGH, LABEL, LEVEL, LOW, PROBABILITY, VALUE, WEIGHT, WRONG_TYPE, level};
use crate::declaration::{Failure, Function, Kind, Returns, Type};

pub(super) static LOGLOSS: Metric = Metric { declaration: &LOG, template: |_| Ok(ratio::logloss()) };
pub(super) static LOGLOSS_CI: Metric =
    Metric { declaration: &LOG_INTERVAL, template: |options| Ok(ratio::logloss_interval(level(options)?)) };
pub(super) static BRIER: Metric = Metric { declaration: &SQUARED, template: |_| Ok(ratio::brier()) };
pub(super) static BRIER_CI: Metric =
    Metric { declaration: &SQUARED_INTERVAL, template: |options| Ok(ratio::brier_interval(level(options)?)) };

static LOG: Function = Function {
    name: "logloss",
    kind: Kind::Aggregate,
    parameters: &[LABEL, PROBABILITY, WEIGHT],
    returns: Returns::Value(Type::Double),
    summary: "Logarithmic loss of predicted probabilities: lower is better",
    docs: "The weighted mean of `-ln(p)` over positive rows and `-ln(1 - p)` over negative ones. Unlike `auc` it punishes probabilities that \
           are too high or too low, not only a wrong order. Probabilities are clipped to [2.2e-16, 1 - 2.2e-16] (the machine epsilon), as \
           scikit-learn's `log_loss` does, so that one certain mistake costs 36 and not infinity.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row (of weight above 0) is left.",
    example: "SELECT logloss(click, p) FROM (VALUES (true, 0.9), (false, 0.2), (false, 0.4)) AS scored (click, p)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, a probability is not from 0 to 1, or a weight is negative or not finite",
        },
        WRONG_TYPE,
    ],
};

static LOG_INTERVAL: Function = Function {
    name: "logloss_ci",
    parameters: &[LABEL, PROBABILITY, LEVEL],
    returns: Returns::Struct(&[VALUE, LOW, HIGH]),
    summary: "Logarithmic loss with a confidence interval",
    docs: "`logloss` with the normal interval of a mean (central limit theorem): the value plus and minus the standard error of the losses of the \
           rows, which are taken as independent. It needs constant memory.\n\n\
           Rows with a NULL argument are skipped. The value is NULL when no row is left, the limits when fewer than two are.",
    example: "SELECT logloss_ci(click, p, level => 0.9) FROM (VALUES (true, 0.9), (false, 0.2), (false, 0.4)) AS scored (click, p)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, a probability or the level is not within its limits, or the level is no constant",
        },
        WRONG_TYPE,
    ],
    ..LOG
};

static SQUARED: Function = Function {
    name: "brier",
    summary: "Brier score: the mean squared error of predicted probabilities",
    docs: "The weighted mean of `(p - label)^2` (Brier 1950), equal to scikit-learn's `brier_score_loss`: 0 is perfect, 0.25 is what a constant \
           prediction of 0.5 gets. Like `logloss` it rewards honest probabilities, but a certain mistake costs no more than 1.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row (of weight above 0) is left.",
    example: "SELECT brier(click, p) FROM (VALUES (true, 0.9), (false, 0.2), (false, 0.4)) AS scored (click, p)",
    ..LOG
};

static SQUARED_INTERVAL: Function = Function {
    name: "brier_ci",
    summary: "Brier score with a confidence interval",
    docs: "`brier` with the normal interval of a mean (central limit theorem): the value plus and minus the standard error of the squared errors of \
           the rows, which are taken as independent. It needs constant memory.\n\n\
           Rows with a NULL argument are skipped. The value is NULL when no row is left, the limits when fewer than two are.",
    example: "SELECT (brier_ci(click, p)).value FROM (VALUES (true, 0.9), (false, 0.2), (false, 0.4)) AS scored (click, p)",
    ..LOG_INTERVAL
};
