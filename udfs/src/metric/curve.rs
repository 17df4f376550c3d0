//! `pr_auc(label, score [, weight])` and `ks(label, score [, weight])`: numbers of the curves of a ranking.

use stratagem_models::metrics::curve::Curve;

use super::Metric;
use super::parameters::{HIGH, LABEL, LEVEL, LOW, SCORE, VALUE, WEIGHT, WRONG_TYPE, level};
use crate::declaration::{Failure, Function, Kind, Returns, Type};

pub(super) static PR_AUC: Metric = Metric { declaration: &AVERAGE_PRECISION, template: |_| Ok(Curve::average_precision()) };
pub(super) static PR_AUC_CI: Metric =
    Metric { declaration: &INTERVAL, template: |options| Ok(Curve::average_precision_interval(level(options)?)) };
pub(super) static KS: Metric = Metric { declaration: &KOLMOGOROV_SMIRNOV, template: |_| Ok(Curve::kolmogorov_smirnov()) };

static AVERAGE_PRECISION: Function = Function {
    name: "pr_auc",
    kind: Kind::Aggregate,
    parameters: &[LABEL, SCORE, WEIGHT],
    returns: Returns::Value(Type::Double),
    summary: "Area under the precision-recall curve, as average precision",
    docs: "The precision among the rows that score at least as high as a positive row, averaged over the positive rows: scikit-learn's \
           `average_precision_score`. Chance is the share of positive rows, not 0.5; where positive rows are rare it tells more than `auc`. The \
           curve is summed in steps, because straight lines between its points would be too optimistic (Davis and Goadrich 2006).\n\n\
           Rows with a NULL argument are skipped. The result is NULL without a positive row (of weight above 0). Memory is that of `auc`.",
    example: "SELECT pr_auc(click, p) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure { sqlstate: "22023", when: "a label is not 0 or 1, a score is NaN, or a weight is negative or not finite" },
        WRONG_TYPE,
    ],
};

static INTERVAL: Function = Function {
    name: "pr_auc_ci",
    parameters: &[LABEL, SCORE, LEVEL],
    returns: Returns::Struct(&[VALUE, LOW, HIGH]),
    summary: "Area under the precision-recall curve with a confidence interval",
    docs: "`pr_auc` with the logit interval of Boyd, Eng and Page (2013): normal limits on the scale of log odds, with the number of positive \
           rows as the number of trials, so they stay between 0 and 1.\n\n\
           Rows with a NULL argument are skipped. The result is NULL without a positive row; a value of 0 or 1 is its own limit.",
    example: "SELECT pr_auc_ci(click, p, level => 0.9) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure { sqlstate: "22023", when: "a label is not 0 or 1, a score is NaN, or the level is not a constant from 0.5 to 0.9999" },
        WRONG_TYPE,
    ],
    ..AVERAGE_PRECISION
};

static KOLMOGOROV_SMIRNOV: Function = Function {
    name: "ks",
    summary: "Kolmogorov-Smirnov statistic: how far apart the scores of positive and negative rows lie",
    docs: "The largest difference between the share of positive rows and the share of negative rows up to a score, which is the largest distance \
           of the ROC curve from the diagonal: 0 when both classes are scored alike, 1 when a threshold separates them. Equal to the statistic \
           of SciPy's `ks_2samp`.\n\n\
           Rows with a NULL argument are skipped. The result is NULL without both classes (of weight above 0). Memory is that of `auc`.",
    example: "SELECT ks(click, p) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    ..AVERAGE_PRECISION
};
