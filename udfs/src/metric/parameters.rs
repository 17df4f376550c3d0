//! Parameters, fields and options that several metrics have.

use std::ops::RangeInclusive;

use crate::declaration::{Column, Failure, Parameter, Type};
use crate::error::Result;
use crate::options::Options;

pub(super) const LABEL: Parameter =
    Parameter::value("label", Type::Label, "The outcome: true or 1 for a positive row, false or 0 for a negative one.");
pub(super) const SCORE: Parameter = Parameter::value("score", Type::Number, "The score to judge. Only its order matters.");
pub(super) const PROBABILITY: Parameter =
    Parameter::value("probability", Type::Number, "The predicted probability of a positive row, from 0 to 1.");
pub(super) const WEIGHT: Parameter =
    Parameter::value("weight", Type::Number, "How much the row counts, from 0. Left out, every row counts once.").optional();
pub(super) const LEVEL: Parameter =
    Parameter::value("level", Type::Double, "The coverage of the interval, a constant from 0.5 to 0.9999.").or("0.95");

pub(super) const VALUE: Column = Column::new("value", Type::Double, "The metric.").nullable();
pub(super) const LOW: Column = Column::new("low", Type::Double, "The lower limit.").nullable();
pub(super) const HIGH: Column = Column::new("high", Type::Double, "The upper limit.").nullable();

pub(super) const WRONG_TYPE: Failure =
    Failure { sqlstate: "42804", when: "an argument has a type that is not a number (or boolean, for the label)" };

/// The value of [`LEVEL`].
pub(super) fn level(options: &Options) -> Result<f64> {
    options.double("level", 0.5..=0.9999)
}

/// A number of things.
pub(super) fn size(options: &Options, name: &str, limits: RangeInclusive<i64>) -> Result<usize> {
    Ok(usize::try_from(options.whole(name, limits)?).unwrap_or(usize::MAX))
}
