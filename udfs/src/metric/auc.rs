//! `auc(label, score [, weight])`: the area under the ROC curve, exact, ties counted half; with an interval, and in constant memory.

use stratagem_models::metrics::approx_auc::ApproxAuc;
use stratagem_models::metrics::auc::{Auc, AucInterval};

use super::parameters::{HIGH, LABEL, LEVEL, LOW, SCORE, VALUE, WEIGHT, WRONG_TYPE, level};
use super::{Metric, parameters};
use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};

pub(super) static AUC: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Auc::template()) };
pub(super) static AUC_CI: Metric = Metric { declaration: &INTERVAL, template: |options| Ok(AucInterval::template(level(options)?)) };
pub(super) static APPROX_AUC: Metric =
    Metric { declaration: &APPROXIMATE, template: |options| Ok(ApproxAuc::template(parameters::size(options, "bins", 2..=1 << 20)?)) };

static DECLARATION: Function = Function {
    name: "auc",
    kind: Kind::Aggregate,
    parameters: &[LABEL, SCORE, WEIGHT],
    returns: Returns::Value(Type::Double),
    summary: "Area under the ROC curve: how often a positive row scores higher than a negative one",
    docs: "The probability that a random positive row has a higher score than a random negative row, ties counted half: 1 is a perfect order, \
           0.5 is chance. It is computed exactly from all rows (the Mann-Whitney statistic), not from a histogram, and equals scikit-learn's \
           `roc_auc_score`.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left, or when all labels (of weight above 0) are the \
           same. It needs memory for one number per row of a group, and less where scores repeat: equal rows are counted, so memory grows with \
           the number of distinct scores only. `approx_auc` needs constant memory.",
    example: "SELECT auc(click, p) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure { sqlstate: "22023", when: "a label is not 0 or 1, a score is NaN, or a weight is negative or not finite" },
        WRONG_TYPE,
    ],
};

static INTERVAL: Function = Function {
    name: "auc_ci",
    parameters: &[LABEL, SCORE, LEVEL],
    returns: Returns::Struct(&[VALUE, LOW, HIGH]),
    summary: "Area under the ROC curve with a confidence interval",
    docs: "`auc` with the interval of DeLong, DeLong and Clarke-Pearson (1988): the variance of the area from the ranks of the positive rows \
           among the negative ones and the reverse, computed from sorted scores as Sun and Xu (2014) show, and normal limits that end at 0 and \
           1. It takes rows as independent; where a user has many rows, `gauc_ci` resamples whole users.\n\n\
           Rows with a NULL argument are skipped. The value is NULL without both classes, the limits when a class has less than two rows.",
    example: "SELECT (auc_ci(click, p)).low, (auc_ci(click, p)).high\n\
              FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure { sqlstate: "22023", when: "a label is not 0 or 1, a score is NaN, or the level is not a constant from 0.5 to 0.9999" },
        WRONG_TYPE,
    ],
    ..DECLARATION
};

static APPROXIMATE: Function = Function {
    name: "approx_auc",
    parameters: &[
        LABEL,
        SCORE,
        Parameter::value("bins", Type::Integer, "How many bins of scores are kept, from 2 to 1048576: memory is 25 bytes for each.")
            .or("4096"),
    ],
    returns: Returns::Struct(&[
        VALUE,
        Column::new("low", Type::Double, "A limit below which the exact area certainly is not.").nullable(),
        Column::new("high", Type::Double, "A limit above which the exact area certainly is not.").nullable(),
    ]),
    summary: "Area under the ROC curve in constant memory, between limits that are certain",
    docs: "`auc` from a histogram of scores that fits itself to them: scores that are equal but for their lowest bits share a bin, and as many \
           bits are dropped as it takes to keep the number of bins. Every pair of rows in different bins is counted exactly, and the pairs \
           within a bin make the distance of the limits: `low` and `high` are guaranteed, not probable. With 4096 bins they are commonly less \
           than 0.001 apart; as long as there are no more distinct scores than bins, the value is exact.\n\n\
           The result does not depend on the order of rows or on partitions. Rows with a NULL argument are skipped. The result is NULL without \
           both classes.",
    example: "SELECT approx_auc(click, p) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, a score is NaN, or the number of bins is not a constant from 2 to 1048576",
        },
        WRONG_TYPE,
    ],
    ..DECLARATION
};
