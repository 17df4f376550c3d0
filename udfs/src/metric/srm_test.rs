//! `srm_test(variant)`: whether the variants of an experiment have as many rows as they should.

use stratagem_models::metrics::experiment::{Expected, SrmTest};

use super::Metric;
use super::ab_test::VARIANT;
use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;

pub(super) static METRIC: Metric = Metric {
    declaration: &DECLARATION,
    template: |options| {
        let text = if options.is_null("expected") { String::new() } else { options.text("expected")? };
        let expected = Expected::parse(&text).map_err(|reason| Error::InvalidValue {
            object: options.object("expected"),
            reason,
            hint: Some("write it like 'a: 0.5, b: 0.5'".to_owned()),
        })?;
        Ok(SrmTest::template(expected))
    },
};

static DECLARATION: Function = Function {
    name: "srm_test",
    kind: Kind::Aggregate,
    parameters: &[
        VARIANT,
        Parameter::value(
            "expected",
            Type::Text,
            "The share of each variant, such as `'a: 0.9, b: 0.1'`; only the ratios count. NULL: equal shares of the variants that are \
             there. A constant.",
        )
        .or("NULL"),
    ],
    returns: Returns::Struct(&[
        Column::new("p_value", Type::Double, "How likely numbers as far from the shares or further are when nothing is wrong.").nullable(),
        Column::new("chi_square", Type::Double, "Pearson's statistic.").nullable(),
        Column::new("degrees_of_freedom", Type::BigInt, "The number of variants less 1.").nullable(),
        Column::new("rows", Type::BigInt, "All rows.").nullable(),
        Column::new("observed", Type::Text, "The rows of each variant.").nullable(),
    ]),
    summary: "Sample ratio mismatch: whether the variants of an experiment have as many rows as they should",
    docs: "Pearson's chi-square test of the numbers of rows against the shares they should have (SciPy's `chisquare`). A p value below \
           0.001 says that rows were lost or sent wrongly, and that no result of the experiment can be trusted until it is known why \
           (Fabijan et al. 2019). Count what was assigned, one row per user, not what was seen.\n\n\
           Rows with a NULL argument are skipped. All fields are NULL without rows or with one variant only.",
    example: "SELECT (srm_test(page, expected => 'old: 0.5, new: 0.5')).p_value FROM (VALUES ('old'), ('new'), ('new')) AS visits (page)",
    errors: &[
        Failure { sqlstate: "22023", when: "`expected` is not a list of names and shares, or there is a variant that it does not name" },
        Failure { sqlstate: "42804", when: "the variant is a list or a row" },
    ],
};
