//! `ml.quantile_bucketize(x, buckets)`: the number of the interval that holds a number, with as many rows in each.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int32Array};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::common::Result;
use serde::{Deserialize, Serialize};

use super::bucketize::bucket;
use super::fit::{Fit, State};
use super::number::Number;
use super::quantiles::Quantiles;
use super::values::{counts, numbers};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// The declaration of `ml.quantile_bucketize`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.quantile_bucketize",
    kind: Kind::Window,
    parameters: &[
        Parameter::value("x", Type::Number, "The number."),
        Parameter::value("buckets", Type::Integer, "How many buckets there are at most, from 2 to 65536; a constant."),
    ],
    returns: Returns::Value(Type::Integer),
    summary: "The number of the bucket that holds a number, with about as many rows in each bucket",
    docs: "The boundaries are the quantiles of `x`, as NumPy's `quantile` computes them; what they hold is numbered from 0 as in \
           `ml.bucketize`, and equals scikit-learn's `KBinsDiscretizer(strategy='quantile', encode='ordinal')`. Equal boundaries count once, \
           so a number that fills several buckets leaves fewer of them (unlike in scikit-learn, the largest number then still has a bucket of \
           its own). Numbers outside of what was learned are in the first or the last bucket.\n\n\
           Exact up to 131072 different numbers; beyond that the boundaries are within a thousandth of their value or closer. NULL stays NULL, \
           and is left out with NaN and infinities. NaN is in the last bucket. Without any number the result is NULL.",
    example: "SELECT price, ml.quantile_bucketize(price, 10) OVER () AS price_b FROM impressions",
    errors: &[
        Failure { sqlstate: "42883", when: "it stands without `OVER`, outside of a model's `TRANSFORM`" },
        Failure { sqlstate: "22023", when: "`buckets` is not a constant from 2 to 65536" },
        Failure { sqlstate: "42804", when: "the argument is not a number" },
    ],
};

/// The distribution so far.
#[derive(Debug)]
pub(super) struct QuantileBucketize {
    buckets: u64,
    seen: Quantiles,
}

/// The boundaries, if there were numbers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Boundaries {
    boundaries: Option<Vec<Number>>,
}

impl Fit for QuantileBucketize {
    const DECLARATION: &'static Function = &DECLARATION;
    type State = Boundaries;

    fn returns(_: &DataType) -> DataType {
        DataType::Int32
    }

    fn start(_: &DataType, options: &Options) -> Result<Self, Error> {
        Ok(Self { buckets: options.whole("buckets", 2..=65_536)?.unsigned_abs(), seen: Quantiles::default() })
    }

    fn update(&mut self, values: &ArrayRef) -> Result<()> {
        numbers(values)?.iter().flatten().filter(|number| counts(*number)).for_each(|number| self.seen.add(number));
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.seen.merge(other.seen);
        Ok(())
    }

    fn finish(self) -> Result<Boundaries> {
        let mut cuts = self.seen.cuts(self.buckets);
        let Some(smallest) = cuts.pop() else { return Ok(Boundaries { boundaries: None }) };
        // Nothing is below the smallest number, so a boundary there would leave bucket 0 empty.
        cuts.retain(|cut| *cut > smallest);
        cuts.dedup();
        Ok(Boundaries { boundaries: Some(cuts.into_iter().map(Number).collect()) })
    }
}

impl State for Boundaries {
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let Some(boundaries) = &self.boundaries else { return Ok(Arc::new(Int32Array::new_null(values.len()))) };
        let boundaries: Vec<f64> = boundaries.iter().map(|boundary| boundary.0).collect();
        Ok(Arc::new(numbers(values)?.unary::<_, Int32Type>(|number| bucket(&boundaries, number))))
    }
}
