//! `ece`, `mce` and `copc`: whether predicted probabilities are what happens.

use stratagem_models::metrics::calibration::{self, Answer, Binning};
use stratagem_models::metrics::ratio;
use stratagem_models::metrics::statistic::Template;

use super::Metric;
use super::parameters::{self, LABEL, PROBABILITY, WEIGHT, WRONG_TYPE};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Result;
use crate::options::Options;

pub(super) static ECE: Metric = Metric { declaration: &EXPECTED, template: |options| template(Answer::Expected, options) };
pub(super) static MCE: Metric = Metric { declaration: &MAXIMUM, template: |options| template(Answer::Maximum, options) };
pub(super) static COPC: Metric = Metric { declaration: &CLICKS, template: |_| Ok(ratio::copc()) };

fn template(answer: Answer, options: &Options) -> Result<Template> {
    let binning = if options.word("binning", &["width", "mass"])? == "mass" { Binning::Mass } else { Binning::Width };
    Ok(calibration::template(answer, parameters::size(options, "bins", 1..=10_000)?, binning))
}

static EXPECTED: Function = Function {
    name: "ece",
    kind: Kind::Aggregate,
    parameters: &[
        LABEL,
        PROBABILITY,
        Parameter::value("bins", Type::Integer, "How many bins, a constant from 1 to 10000.").or("15"),
        Parameter::value("binning", Type::Text, "Bins of equal `width`, or of equally many rows (`mass`).").or("'width'"),
    ],
    returns: Returns::Value(Type::Double),
    summary: "Expected calibration error: the mean gap between predicted probability and outcome",
    docs: "Rows are put into bins by their probability; the gap between the mean probability and the share of positive rows of a bin is averaged \
           over bins, weighted by their rows (Naeini, Cooper and Hauskrecht 2015). 0 is a calibrated model. Bins of equal width suit probabilities \
           that are spread over 0 to 1; click rates are not, and with `binning => 'mass'` the limits of bins are percentiles. Limits are those of \
           scikit-learn's `calibration_curve` (`uniform` and `quantile`): a probability at a limit belongs to the lower bin, equal probabilities \
           share a bin.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left. Equal width needs constant memory, equal mass that of \
           `auc`.",
    example: "SELECT ece(click, p, bins => 10) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, a probability is not from 0 to 1, or an option is not a constant within its limits",
        },
        WRONG_TYPE,
    ],
};

static MAXIMUM: Function = Function {
    name: "mce",
    summary: "Maximum calibration error: the largest gap between predicted probability and outcome",
    docs: "The same bins as `ece`, and the largest gap between the mean probability and the share of positive rows of a bin, whatever the number of its \
           rows (Naeini, Cooper and Hauskrecht 2015). Bins of few rows make it large; `binning => 'mass'` avoids them.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT mce(click, p, binning => 'mass', bins => 2) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    ..EXPECTED
};

static CLICKS: Function = Function {
    name: "copc",
    parameters: &[LABEL, PROBABILITY, WEIGHT],
    summary: "Clicks over predicted clicks: 1 is calibrated on average",
    docs: "The number of positive rows divided by the sum of their predicted probabilities: above 1 the model predicts too little, below 1 too much. \
           It says nothing about single rows: errors in both directions cancel, which `ece` does not allow.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left, or when all probabilities are 0.",
    example: "SELECT copc(click, p) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, a probability is not from 0 to 1, or a weight is negative or not finite",
        },
        WRONG_TYPE,
    ],
    ..EXPECTED
};
