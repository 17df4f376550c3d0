//! `rmse`, `mae`, `wape`, `smape` and `rmsse`: predicted amounts against actual ones.

use stratagem_models::metrics::ratio;

use super::Metric;
use super::parameters::WEIGHT;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};

pub(super) static RMSE: Metric = Metric { declaration: &SQUARED, template: |_| Ok(ratio::rmse()) };
pub(super) static MAE: Metric = Metric { declaration: &ABSOLUTE, template: |_| Ok(ratio::mae()) };
pub(super) static WAPE: Metric = Metric { declaration: &PER_ACTUAL, template: |_| Ok(ratio::wape()) };
pub(super) static SMAPE: Metric = Metric { declaration: &SYMMETRIC, template: |_| Ok(ratio::smape()) };
pub(super) static RMSSE: Metric = Metric { declaration: &SCALED, template: |_| Ok(ratio::rmsse()) };

const ACTUAL: Parameter = Parameter::value("actual", Type::Number, "What happened.");
const PREDICTED: Parameter = Parameter::value("predicted", Type::Number, "What was predicted.");

static SQUARED: Function = Function {
    name: "rmse",
    kind: Kind::Aggregate,
    parameters: &[ACTUAL, PREDICTED, WEIGHT],
    returns: Returns::Value(Type::Double),
    summary: "Root mean squared error, in the unit of the values",
    docs: "The square root of the (weighted) mean of `(actual - predicted)^2`: scikit-learn's `root_mean_squared_error`. Large errors count most.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row (of weight above 0) is left.",
    example: "SELECT rmse(units, forecast) FROM (VALUES (12, 10.5), (0, 1.0), (7, 9.0)) AS sales (units, forecast)",
    errors: &[
        Failure { sqlstate: "22023", when: "a value is NaN or infinite, or a weight is negative or not finite" },
        Failure { sqlstate: "42804", when: "an argument has a type that is not a number" },
    ],
};

static ABSOLUTE: Function = Function {
    name: "mae",
    summary: "Mean absolute error, in the unit of the values",
    docs: "The (weighted) mean of `|actual - predicted|`: scikit-learn's `mean_absolute_error`. The best constant prediction is the median.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row (of weight above 0) is left.",
    example: "SELECT mae(units, forecast) FROM (VALUES (12, 10.5), (0, 1.0), (7, 9.0)) AS sales (units, forecast)",
    ..SQUARED
};

static PER_ACTUAL: Function = Function {
    name: "wape",
    summary: "Weighted absolute percentage error: absolute errors per actual amount",
    docs: "The sum of `|actual - predicted|` divided by the sum of `|actual|`, as a fraction (0.2 is 20 %). Unlike the mean of percentages it is not \
           upset by rows whose actual value is near 0.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left, or when all actual values are 0.",
    example: "SELECT wape(units, forecast) FROM (VALUES (12, 10.5), (0, 1.0), (7, 9.0)) AS sales (units, forecast)",
    ..SQUARED
};

static SYMMETRIC: Function = Function {
    name: "smape",
    summary: "Symmetric mean absolute percentage error, from 0 to 2",
    docs: "The (weighted) mean of `2 |actual - predicted| / (|actual| + |predicted|)` as a fraction (0.2 is the 20 % of the M4 competition's formula); a \
           row with both 0 has no error.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row (of weight above 0) is left.",
    example: "SELECT smape(units, forecast) FROM (VALUES (12, 10.5), (0, 1.0), (7, 9.0)) AS sales (units, forecast)",
    ..SQUARED
};

static SCALED: Function = Function {
    name: "rmsse",
    parameters: &[
        ACTUAL,
        PREDICTED,
        Parameter::value(
            "scale",
            Type::Number,
            "The squared error that is usual for the row's series, above 0: the mean of `(actual - previous)^2` over its history.",
        ),
        WEIGHT,
    ],
    summary: "Root mean squared scaled error: errors in units of a naive forecast's",
    docs: "The square root of the (weighted) mean of `(actual - predicted)^2 / scale`. With the scale of its history, a series gets the RMSSE of Hyndman \
           and Koehler (2006) as the M5 competition used it: below 1 the forecast beats predicting the value before. Series of different size can \
           be put together.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row (of weight above 0) is left.",
    example: "SELECT rmsse(units, forecast, scale)\n\
              FROM (VALUES (12, 10.5, 4.0), (0, 1.0, 4.0), (7, 9.0, 2.5)) AS sales (units, forecast, scale)",
    errors: &[
        Failure { sqlstate: "22023", when: "a value is NaN or infinite, a scale is not above 0, or a weight is negative or not finite" },
        Failure { sqlstate: "42804", when: "an argument has a type that is not a number" },
    ],
    ..SQUARED
};
