//! `ml.bucketize(x, boundaries)`: the number of the interval that holds a number.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::Int32Type;
use datafusion::common::Result;

use super::map::Map;
use super::values::numbers;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// The declaration of `ml.bucketize`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.bucketize",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("x", Type::Number, "The number."),
        Parameter::value("boundaries", Type::Doubles, "Where one bucket ends and the next begins, ascending; a constant."),
    ],
    returns: Returns::Value(Type::Integer),
    summary: "The number of the interval between given boundaries that holds a number",
    docs: "How many boundaries are not above `x`: 0 below the first, 1 from the first to below the second, and so on. A boundary belongs to the \
           bucket above it, as in NumPy's `digitize`. NaN is above all numbers, as in PostgreSQL; NULL stays NULL.",
    example: "SELECT price, ml.bucketize(price, ARRAY[1, 2.5, 4]) AS price_b FROM impressions",
    errors: &[
        Failure { sqlstate: "22023", when: "`boundaries` is not a constant, is empty, has a NULL in it, or does not ascend" },
        Failure { sqlstate: "42804", when: "an argument has a type that is not a number or a list of numbers" },
    ],
};

/// The map of `ml.bucketize`.
pub(super) struct Bucketize;

/// How many of the ascending boundaries are not above a number.
pub(super) fn bucket(boundaries: &[f64], number: f64) -> i32 {
    // One zero and one NaN, the largest.
    let number = if number.is_nan() { f64::NAN } else { number + 0.0 };
    boundaries.partition_point(|boundary| boundary.total_cmp(&number).is_le()) as i32
}

fn boundaries(options: &Options) -> Result<Vec<f64>, Error> {
    let boundaries: Vec<f64> = options.doubles("boundaries")?.into_iter().map(|boundary| boundary + 0.0).collect();
    let ascending = boundaries.windows(2).all(|pair| pair[0] < pair[1]) && !boundaries.iter().any(|boundary| boundary.is_nan());
    match (boundaries.is_empty(), ascending) {
        (true, _) => Err(Error::value(options.object("boundaries"), "is empty")),
        (_, false) => Err(Error::value(options.object("boundaries"), "must be different numbers in ascending order")),
        _ => Ok(boundaries),
    }
}

impl Map for Bucketize {
    const DECLARATION: &'static Function = &DECLARATION;
    const COLUMNS: usize = 1;

    fn check(options: &Options) -> Result<(), Error> {
        boundaries(options).map(drop)
    }

    fn map(options: &Options, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let boundaries = boundaries(options)?;
        Ok(Arc::new(numbers(&columns[0])?.unary::<_, Int32Type>(|number| bucket(&boundaries, number))))
    }
}
