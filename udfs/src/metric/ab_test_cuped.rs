//! `ab_test_cuped(outcome, variant, covariate)`: the test of a difference with what was known before taken out.

use stratagem_models::metrics::experiment::Cuped;

use super::Metric;
use super::ab_test::{CONTROL, ERRORS, FIELDS, OUTCOME, TREATMENT, VARIANT, names};
use super::parameters::{LEVEL, level};
use crate::declaration::{Column, Function, Kind, Parameter, Returns, Type};

pub(super) static METRIC: Metric =
    Metric { declaration: &DECLARATION, template: |options| Ok(Cuped::template(names(options)?, level(options)?)) };

const THETA: Column = Column::new("theta", Type::Double, "By how much the outcome rises with the covariate.").nullable();
const REDUCTION: Column =
    Column::new("variance_reduction", Type::Double, "The share of the variance of the difference that the covariate has taken out.")
        .nullable();

static RESULT: [Column; 14] = {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = FIELDS;
    [a, b, c, d, e, f, g, h, i, j, k, l, THETA, REDUCTION]
};

static DECLARATION: Function = Function {
    name: "ab_test_cuped",
    kind: Kind::Aggregate,
    parameters: &[
        OUTCOME,
        VARIANT,
        Parameter::value(
            "covariate",
            Type::Outcome,
            "What was known of the row before the experiment, best the same number for the time before.",
        ),
        CONTROL,
        TREATMENT,
        LEVEL,
    ],
    returns: Returns::Struct(&RESULT),
    summary: "The test of a difference between two variants, with what was known before taken out",
    docs: "CUPED (Deng, Xu, Kohavi and Walker 2013): Welch's t-test of `outcome - theta * covariate`, which has the same mean difference \
           and less variance. The means are adjusted to the mean covariate of all rows. `theta` is the slope within the variants, so the \
           difference equals that of a linear regression on variant and covariate. The covariate must not be moved by the treatment.\n\n\
           Rows with a NULL argument are skipped, so give 0 or the mean where there was no time before. All fields are NULL when a \
           variant is missing.",
    example: "SELECT (ab_test_cuped(spend, page, spend_before)).difference\n\
              FROM (VALUES (3, 'old', 2), (9, 'old', 8), (5, 'new', 3), (8, 'new', 6)) AS users (spend, page, spend_before)",
    errors: ERRORS,
};
