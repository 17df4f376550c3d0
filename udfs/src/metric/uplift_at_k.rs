//! `uplift_at_k(outcome, treated, uplift, k)`: what treatment adds among the rows with the best scores.

use stratagem_models::metrics::uplift::Score;

use super::Metric;
use super::uplift::{ERRORS, OUTCOME, PROPENSITY, TREATED, UPLIFT};
use crate::declaration::{Function, Kind, Parameter, Returns, Type};

pub(super) static METRIC: Metric = Metric {
    declaration: &DECLARATION,
    template: |options| {
        let by_group = options.word("strategy", &["overall", "by_group"])? == "by_group";
        Ok(Score::at(options.double("k", 0.0..=1e15)?, by_group).template())
    },
};

static DECLARATION: Function = Function {
    name: "uplift_at_k",
    kind: Kind::Aggregate,
    parameters: &[
        OUTCOME,
        TREATED,
        UPLIFT,
        Parameter::value("k", Type::Double, "The share of the rows, up to 1; above 1 their number. A constant.").or("0.3"),
        Parameter::value(
            "strategy",
            Type::Text,
            "`'overall'`: the best rows of all; `'by_group'`: the best treated and the best untreated rows. A constant.",
        )
        .or("'overall'"),
        PROPENSITY,
    ],
    returns: Returns::Value(Type::Double),
    summary: "What treatment adds among the rows with the highest predicted uplift",
    docs: "The mean outcome of the treated less that of the untreated rows among the best `k` by `uplift`, a share being rounded down to \
           a number of rows: scikit-uplift's `uplift_at_k`. Where rows of equal uplift stand on the border, each counts by the share of \
           them that fits, so the order of the rows does not matter; a `k` above the number of rows takes all.\n\n\
           With propensities, each row counts by the inverse of the probability of the arm it came to. Rows with a NULL argument are \
           skipped. The result is NULL when treated or untreated rows are missing among the best rows. It needs memory for three numbers \
           per row of a group.",
    example: "SELECT uplift_at_k(visit, treated, uplift, k => 0.5)\n\
              FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS experiment (visit, treated, uplift)",
    errors: ERRORS,
};
