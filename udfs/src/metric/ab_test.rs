//! `ab_test(outcome, variant)`, and `ab_test_sequential` for a look at any time: the test of a difference between two variants.

use stratagem_models::metrics::experiment::{AbTest, Design, Names};

use super::Metric;
use super::parameters::{LEVEL, level};
use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// `ab_test`.
pub(super) static FIXED: Metric = Metric { declaration: &DECLARATION, template: |options| template(options, Design::Fixed) };

/// `ab_test_sequential`.
pub(super) static SEQUENTIAL: Metric = Metric {
    declaration: &SEQUENTIAL_DECLARATION,
    template: |options| {
        if options.is_null("effect") {
            let hint = "give the difference that matters, such as effect => 0.005";
            return Err(Error::InvalidValue {
                object: options.object("effect"),
                reason: "is missing".to_owned(),
                hint: Some(hint.to_owned()),
            });
        }
        template(options, Design::Sequential { effect: options.double("effect", 1e-12..=1e12)? })
    },
};

fn template(options: &Options, design: Design) -> Result<stratagem_models::metrics::statistic::Template, Error> {
    Ok(AbTest::template(design, names(options)?, level(options)?))
}

/// Which variants are compared.
pub(super) fn names(options: &Options) -> Result<Names, Error> {
    let name = |argument| if options.is_null(argument) { Ok(None) } else { options.text(argument).map(Some) };
    Ok(Names { control: name("control")?, treatment: name("treatment")? })
}

pub(super) const OUTCOME: Parameter = Parameter::value("outcome", Type::Outcome, "What the row brought: 0 or 1, or an amount.");
pub(super) const VARIANT: Parameter = Parameter::value("variant", Type::Any, "The variant that the row saw.");
pub(super) const CONTROL: Parameter = Parameter::value(
    "control",
    Type::Text,
    "The variant that is compared with. NULL: the one whose name is smaller (of a boolean: false). A constant.",
)
.or("NULL");
pub(super) const TREATMENT: Parameter = Parameter::value(
    "treatment",
    Type::Text,
    "The variant that is judged. NULL: the other one. With both given, rows of further variants do not count. A constant.",
)
.or("NULL");

pub(super) const ERRORS: &[Failure] = &[
    Failure {
        sqlstate: "22023",
        when: "there are more than two variants and not both are named, an outcome or a covariate is not finite, or an option is out of \
               range",
    },
    Failure { sqlstate: "42804", when: "an argument has a type that it cannot have" },
];

/// The fields up to the interval.
pub(super) const FIELDS: [Column; 12] = [
    Column::new("control", Type::Text, "The variant that is compared with.").nullable(),
    Column::new("treatment", Type::Text, "The variant that is judged.").nullable(),
    Column::new("control_rows", Type::BigInt, "Rows of the control.").nullable(),
    Column::new("treatment_rows", Type::BigInt, "Rows of the treatment.").nullable(),
    Column::new("control_mean", Type::Double, "Mean outcome of the control: a rate where outcomes are 0 or 1.").nullable(),
    Column::new("treatment_mean", Type::Double, "Mean outcome of the treatment.").nullable(),
    Column::new("difference", Type::Double, "`treatment_mean - control_mean`.").nullable(),
    Column::new("relative_lift", Type::Double, "`difference / control_mean`; NULL when that is 0.").nullable(),
    Column::new("std_error", Type::Double, "The standard error of the difference.").nullable(),
    Column::new("low", Type::Double, "The lower end of the interval for the difference.").nullable(),
    Column::new("high", Type::Double, "The upper end of the interval for the difference.").nullable(),
    Column::new("p_value", Type::Double, "How likely a difference as large or larger is when there is none, on either side.").nullable(),
];

const METHOD: Column = Column::new("method", Type::Text, "The test.").nullable();

static RESULT: [Column; 13] = {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = FIELDS;
    [a, b, c, d, e, f, g, h, i, j, k, l, METHOD]
};

static DECLARATION: Function = Function {
    name: "ab_test",
    kind: Kind::Aggregate,
    parameters: &[OUTCOME, VARIANT, CONTROL, TREATMENT, LEVEL],
    returns: Returns::Struct(&RESULT),
    summary: "The test of a difference between two variants of an experiment",
    docs: "Where all outcomes are 0 or 1: the z-test of two proportions, with the variance of both variants together for the p value and \
           their own ones for the interval (statsmodels' `proportions_ztest`, and `confint_proportions_2indep` with the method `wald`). \
           For amounts: Welch's t-test, which does not suppose equal variances (SciPy's `ttest_ind` with `equal_var=False`). Both are \
           two-sided and suppose independent rows: one per user, and one look at the planned end. `ab_test_sequential` may be looked at \
           any time, `srm_test` says whether the split can be trusted, and `ab_test_cuped` sees smaller differences.\n\n\
           Rows with a NULL argument are skipped. All fields are NULL when a variant is missing.",
    example: "SELECT (ab_test(bought, page)).p_value FROM (VALUES (0, 'old'), (1, 'old'), (1, 'new'), (1, 'new')) AS visits (bought, page)",
    errors: ERRORS,
};

static SEQUENTIAL_DECLARATION: Function = Function {
    name: "ab_test_sequential",
    kind: Kind::Aggregate,
    parameters: &[
        OUTCOME,
        VARIANT,
        Parameter::value(
            "effect",
            Type::Double,
            "The size of difference that matters, in units of the outcome: there the interval is about as short as it can be. It must be \
             given, before the experiment. A constant.",
        )
        .or("NULL"),
        CONTROL,
        TREATMENT,
        LEVEL,
    ],
    returns: Returns::Struct(&RESULT),
    summary: "The test of a difference between two variants that may be looked at any time",
    docs: "The mixture sequential probability ratio test with a normal mixture over differences of standard deviation `effect` (Johari, \
           Koomen, Pekelis and Walsh, Always Valid Inference, Operations Research 2022): look after every day, stop when you like, and \
           the interval still holds the true difference with probability `level` at all looks together, and the p value may be compared \
           with `1 - level` at each. The price is an interval that is wider than that of `ab_test`. Means are taken as normal, so begin \
           after some hundred rows per variant.\n\n\
           Rows with a NULL argument are skipped. All fields are NULL when a variant is missing; the interval and the p value are NULL \
           when the outcomes of a variant never differ.",
    example: "SELECT (ab_test_sequential(bought, page, effect => 0.1)).low\n\
              FROM (VALUES (0, 'old'), (1, 'old'), (0, 'new'), (1, 'new')) AS visits (bought, page)",
    errors: ERRORS,
};
