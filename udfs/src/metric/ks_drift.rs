//! `ks_drift(value, is_actual)`: whether two samples of numbers come from one distribution.

use stratagem_models::metrics::drift::{Distance, Drift};

use super::Metric;
use super::psi::{ERRORS, IS_ACTUAL};
use crate::declaration::{Column, Function, Kind, Parameter, Returns, Type};

pub(super) static METRIC: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Drift::template(Distance::KolmogorovSmirnov)) };

static DECLARATION: Function = Function {
    name: "ks_drift",
    kind: Kind::Aggregate,
    parameters: &[Parameter::value("value", Type::Number, "The number."), IS_ACTUAL],
    returns: Returns::Struct(&[
        Column::new("statistic", Type::Double, "The largest distance of the two distribution functions, from 0 to 1.").nullable(),
        Column::new("p_value", Type::Double, "How likely one as large or larger is when the distributions are the same.").nullable(),
        Column::new("expected_rows", Type::BigInt, "Rows of the earlier sample.").nullable(),
        Column::new("actual_rows", Type::BigInt, "Rows of the later sample.").nullable(),
    ]),
    summary: "Kolmogorov-Smirnov test: whether two samples of numbers come from one distribution",
    docs: "The two-sample test of Kolmogorov and Smirnov, without bins. The p value is that of the limit for many rows, \
           `kolmogorov(statistic * sqrt(n * m / (n + m)))` in SciPy's words: about right from some dozens of rows on, and too high where \
           many values are equal. With very many rows every small shift is significant, so judge by the statistic, or by `psi`.\n\n\
           Rows with a NULL argument are skipped. All fields are NULL when a sample has no rows. It needs memory for one number per row \
           of a group.",
    example: "SELECT (ks_drift(price, is_new)).statistic\n\
              FROM (VALUES (1.0, false), (2.0, false), (2.5, true), (9.0, true)) AS t (price, is_new)",
    errors: ERRORS,
};
