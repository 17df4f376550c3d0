//! `accuracy`, the F1 family, `matthews` and `cohen_kappa`: predicted classes against actual ones.

use stratagem_models::metrics::confusion::{Answer, Classified};

use super::Metric;
use super::parameters::{HIGH, LEVEL, LOW, VALUE, WEIGHT, level};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};

pub(super) static ACCURACY: Metric = Metric { declaration: &RIGHT, template: |_| Ok(Classified::template(Answer::Accuracy)) };
pub(super) static ACCURACY_CI: Metric =
    Metric { declaration: &RIGHT_INTERVAL, template: |options| Ok(Classified::template(Answer::AccuracyInterval(level(options)?))) };
pub(super) static MACRO_F1: Metric = Metric { declaration: &MACRO, template: |_| Ok(Classified::template(Answer::MacroF1)) };
pub(super) static MICRO_F1: Metric = Metric { declaration: &MICRO, template: |_| Ok(Classified::template(Answer::MicroF1)) };
pub(super) static WEIGHTED_F1: Metric = Metric { declaration: &WEIGHTED, template: |_| Ok(Classified::template(Answer::WeightedF1)) };
pub(super) static MATTHEWS: Metric = Metric { declaration: &CORRELATION, template: |_| Ok(Classified::template(Answer::Matthews)) };
pub(super) static COHEN_KAPPA: Metric = Metric { declaration: &AGREEMENT, template: |_| Ok(Classified::template(Answer::CohenKappa)) };

const LABEL: Parameter = Parameter::value("label", Type::Any, "The class of the row: a text, a number, a boolean.");
const PREDICTED: Parameter = Parameter::value(
    "predicted",
    Type::Any,
    "The predicted class. Numbers are compared by value, whatever their type; a boolean is 1 or 0 beside a number.",
);

static RIGHT: Function = Function {
    name: "accuracy",
    kind: Kind::Aggregate,
    parameters: &[LABEL, PREDICTED, WEIGHT],
    returns: Returns::Value(Type::Double),
    summary: "Accuracy: the share of rows whose class was predicted",
    docs: "The (weighted) share of rows in which `predicted` equals `label`. For probabilities, compare first: `accuracy(click, p > 0.5)`. Where classes \
           are of unequal size, `macro_f1` or `matthews` tell more.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT accuracy(label, predicted) FROM (VALUES ('cat', 'cat'), ('dog', 'cat'), ('dog', 'dog')) AS t (label, predicted)",
    errors: &[
        Failure { sqlstate: "22023", when: "a weight is negative or not finite" },
        Failure { sqlstate: "42804", when: "a class is a list or a row, or a weight is not a number" },
    ],
};

static RIGHT_INTERVAL: Function = Function {
    name: "accuracy_ci",
    parameters: &[LABEL, PREDICTED, LEVEL],
    returns: Returns::Struct(&[VALUE, LOW, HIGH]),
    summary: "Accuracy with a confidence interval",
    docs: "`accuracy` with the score interval of a share (Wilson 1927), which holds for few rows and for shares near 0 or 1. Rows are taken as \
           independent.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT (accuracy_ci(label, predicted)).low FROM (VALUES ('cat', 'cat'), ('dog', 'cat'), ('dog', 'dog')) AS t (label, predicted)",
    errors: &[
        Failure { sqlstate: "22023", when: "the level is not a constant from 0.5 to 0.9999" },
        Failure { sqlstate: "42804", when: "a class is a list or a row" },
    ],
    ..RIGHT
};

static MACRO: Function = Function {
    name: "macro_f1",
    summary: "F1 averaged over classes: small classes count as much as large ones",
    docs: "F1, the harmonic mean of precision and recall, of each class that is actual or predicted anywhere, averaged over classes: scikit-learn's \
           `f1_score(average='macro')`. A class without a hit has F1 0.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT macro_f1(label, predicted) FROM (VALUES ('cat', 'cat'), ('dog', 'cat'), ('dog', 'dog')) AS t (label, predicted)",
    ..RIGHT
};

static MICRO: Function = Function {
    name: "micro_f1",
    summary: "F1 of all decisions together; with one class per row it is the accuracy",
    docs: "F1 from the hits and misses of all classes added up: scikit-learn's `f1_score(average='micro')`. With one class per row every miss counts \
           once for precision and once for recall, so it equals `accuracy`; it is here for reports that ask for it.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT micro_f1(label, predicted) FROM (VALUES ('cat', 'cat'), ('dog', 'cat'), ('dog', 'dog')) AS t (label, predicted)",
    ..RIGHT
};

static WEIGHTED: Function = Function {
    name: "weighted_f1",
    summary: "F1 averaged over classes, weighted by their rows",
    docs: "F1 of each class, averaged with the number of its actual rows as weight: scikit-learn's `f1_score(average='weighted')`. A class without a hit \
           has F1 0.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT weighted_f1(label, predicted) FROM (VALUES ('cat', 'cat'), ('dog', 'cat'), ('dog', 'dog')) AS t (label, predicted)",
    ..RIGHT
};

static CORRELATION: Function = Function {
    name: "matthews",
    summary: "Matthews correlation coefficient: the correlation of actual and predicted classes",
    docs: "1 is perfect, 0 is chance, -1 is all wrong (of two classes), however unequal the classes are (Matthews 1975; several classes: Gorodkin 2004): \
           scikit-learn's `matthews_corrcoef`.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when all rows have one class, or when one class was predicted for all; \
           scikit-learn says 0 there.",
    example: "SELECT matthews(label, predicted) FROM (VALUES ('cat', 'cat'), ('dog', 'cat'), ('dog', 'dog')) AS t (label, predicted)",
    ..RIGHT
};

static AGREEMENT: Function = Function {
    name: "cohen_kappa",
    summary: "Cohen's kappa: agreement of actual and predicted classes beyond chance",
    docs: "How much more often both agree than two independent choices with the same shares of classes would, per the most that is possible (Cohen 1960): \
           scikit-learn's `cohen_kappa_score`. 1 is perfect, 0 is chance.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left, or when all rows have one class and it was predicted for \
           all.",
    example: "SELECT cohen_kappa(label, predicted) FROM (VALUES ('cat', 'cat'), ('dog', 'cat'), ('dog', 'dog')) AS t (label, predicted)",
    ..RIGHT
};
