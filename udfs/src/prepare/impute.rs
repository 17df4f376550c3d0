//! `ml.impute(x, strategy)`: NULL replaced by what is usual.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array, Scalar, StringArray};
use datafusion::arrow::compute::{cast, is_not_null, kernels::zip::zip};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use serde::{Deserialize, Serialize};
use stratagem_models::metrics::sum::Sum;

use super::categories::Categories;
use super::fit::{Fit, State};
use super::number::Number;
use super::quantiles::Quantiles;
use super::values::{counts, numbers, texts};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type, sql_type};
use crate::error::Error;
use crate::options::Options;

/// The declaration of `ml.impute`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.impute",
    kind: Kind::Window,
    parameters: &[
        Parameter::value("x", Type::Any, "The value that may be NULL."),
        Parameter::value("strategy", Type::Text, "What replaces it: `mean`, `median` or `most_frequent`; a constant.").or("'mean'"),
    ],
    returns: Returns::Value(Type::Any),
    summary: "NULL replaced by the mean, the median or the most frequent value",
    docs: "Equal to scikit-learn's `SimpleImputer`. Numbers come back as `double precision`, and NaN counts as missing too; a value of another \
           type keeps its type and takes `most_frequent` only. Of several most frequent values the smallest is taken. Where every value is \
           missing the result is NULL.\n\n\
           For an integer that is a category write `CAST(ml.impute(x, 'most_frequent') OVER () AS bigint)`. The median and the most frequent \
           number are exact up to 131072 different numbers, and very close beyond.",
    example: "SELECT ml.impute(nullif(price, 0), strategy => 'median') OVER (PARTITION BY slot) AS price FROM impressions",
    errors: &[
        Failure { sqlstate: "42883", when: "it stands without `OVER`, outside of a model's `TRANSFORM`" },
        Failure {
            sqlstate: "22023",
            when: "the strategy is not one of the three or does not fit the type, or there are too many different texts",
        },
        Failure { sqlstate: "42804", when: "the argument is a list or a row" },
    ],
};

/// What was seen so far, by strategy.
#[derive(Debug)]
pub(super) enum Impute {
    /// The mean of numbers.
    Mean { rows: u64, sum: Sum },
    /// The median of numbers.
    Median(Quantiles),
    /// The most frequent number.
    Mode(Quantiles),
    /// The most frequent value of another type, as text.
    Frequent(Categories<u64>),
}

/// What replaces NULL.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Usual {
    /// A number.
    Number(Option<Number>),
    /// Another value, as text.
    Text(Option<String>),
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type.is_null()
}

impl Fit for Impute {
    const DECLARATION: &'static Function = &DECLARATION;
    type State = Usual;

    fn returns(argument: &DataType) -> DataType {
        match argument {
            number if is_number(number) => DataType::Float64,
            DataType::Dictionary(_, values) => Self::returns(values),
            other => other.clone(),
        }
    }

    fn start(argument: &DataType, options: &Options) -> Result<Self, Error> {
        let number = Self::returns(argument) == DataType::Float64;
        let strategy = options.text("strategy")?;
        match (strategy.as_str(), number) {
            ("mean", true) => Ok(Self::Mean { rows: 0, sum: Sum::default() }),
            ("median", true) => Ok(Self::Median(Quantiles::default())),
            ("most_frequent", true) => Ok(Self::Mode(Quantiles::default())),
            ("most_frequent", false) => Ok(Self::Frequent(Categories::new(&DECLARATION))),
            ("mean" | "median", false) => Err(Error::InvalidValue {
                object: options.object("strategy"),
                reason: format!("is '{strategy}', but {} has no {strategy}", sql_type(argument)),
                hint: Some("write strategy => 'most_frequent'".to_owned()),
            }),
            _ => Err(Error::InvalidValue {
                object: options.object("strategy"),
                reason: format!("cannot be '{strategy}'"),
                hint: Some("strategies: mean, median, most_frequent".to_owned()),
            }),
        }
    }

    fn update(&mut self, values: &ArrayRef) -> Result<()> {
        if let Self::Frequent(categories) = self {
            texts(values)?.iter().flatten().try_for_each(|text| categories.count(text, |count| *count += 1))?;
            return Ok(());
        }
        for number in numbers(values)?.iter().flatten().filter(|number| counts(*number)) {
            match self {
                Self::Mean { rows, sum } => {
                    *rows += 1;
                    sum.add(number);
                }
                Self::Median(seen) | Self::Mode(seen) => seen.add(number),
                Self::Frequent(_) => {}
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        match (self, other) {
            (Self::Mean { rows, sum }, Self::Mean { rows: more, sum: other }) => {
                *rows += more;
                other.parts().into_iter().for_each(|part| sum.add(part));
            }
            (Self::Median(seen), Self::Median(other)) | (Self::Mode(seen), Self::Mode(other)) => seen.merge(other),
            (Self::Frequent(categories), Self::Frequent(other)) => categories.merge(other, |count, more| *count += more)?,
            _ => unreachable!("fits of one call have one strategy"),
        }
        Ok(())
    }

    fn finish(self) -> Result<Usual> {
        Ok(match self {
            Self::Mean { rows, sum } => Usual::Number((rows > 0).then(|| Number(sum.value() / rows as f64))),
            Self::Median(seen) => Usual::Number(seen.cuts(2).first().copied().map(Number)),
            Self::Mode(seen) => Usual::Number(seen.mode().map(Number)),
            Self::Frequent(categories) => Usual::Text(categories.top(1).pop().map(|(text, _)| text)),
        })
    }
}

impl State for Usual {
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match self {
            Self::Number(usual) => {
                let usual = usual.map(|usual| usual.0);
                let filled =
                    numbers(values)?.iter().map(|number| number.filter(|number| !number.is_nan()).or(usual)).collect::<Float64Array>();
                Ok(Arc::new(filled))
            }
            Self::Text(usual) => {
                let values = cast(values, &Impute::returns(values.data_type()))?;
                let Some(usual) = usual else { return Ok(values) };
                let usual = cast(&StringArray::from(vec![usual.as_str()]), values.data_type())?;
                Ok(zip(&is_not_null(&values)?, &values, &Scalar::new(usual))?)
            }
        }
    }
}
