//! `ml.split(key, fraction, seed)`: whether a row belongs to the training part.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::common::Result;

use super::hash::hashes;
use super::map::Map;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// The declaration of `ml.split`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.split",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value(
            "key",
            Type::Any,
            "What stays together: rows with the same key are in the same part. A user, say, or the row's own id.",
        ),
        Parameter::value("fraction", Type::Double, "The share of keys in the training part, from 0 to 1; a constant.").or("0.8"),
        Parameter::value("seed", Type::BigInt, "Another seed is another split; a constant.").or("0"),
    ],
    returns: Returns::Value(Type::Boolean),
    summary: "Whether a row belongs to the training part, by the hash of a key",
    docs: "True for about `fraction` of the keys, and for the same ones every time: train with `WHERE ml.split(user_id)` and judge with \
           `WHERE NOT ml.split(user_id)`. A key that is in the training part stays there when the fraction grows. New keys do not move \
           old ones.\n\n\
           The key's xxHash64 with the seed, divided by 2^64, is compared with the fraction; what is hashed is described at \
           `ml.hash_bucketize`. A NULL key gives NULL and is in neither part.",
    example: "SELECT ml.split(user_id, fraction => 0.9) AS training, count(*) FROM impressions GROUP BY 1",
    errors: &[
        Failure { sqlstate: "22023", when: "`fraction` is not a constant from 0 to 1, or `seed` not a constant" },
        Failure { sqlstate: "42804", when: "the key is a list or a row" },
    ],
};

/// The map of `ml.split`.
pub(super) struct Split;

fn given(options: &Options) -> Result<(f64, u64), Error> {
    Ok((options.double("fraction", 0.0..=1.0)?, options.whole("seed", i64::MIN..=i64::MAX)?.cast_unsigned()))
}

impl Map for Split {
    const DECLARATION: &'static Function = &DECLARATION;
    const COLUMNS: usize = 1;

    fn check(options: &Options) -> Result<(), Error> {
        given(options).map(drop)
    }

    fn map(options: &Options, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let (fraction, seed) = given(options)?;
        // The 53 highest bits are a number from 0 to below 1 without rounding.
        let place = |hash: u64| (hash >> 11) as f64 / (1_u64 << 53) as f64;
        Ok(Arc::new(BooleanArray::from_unary(&hashes(&columns[0], seed)?, |hash| place(hash) < fraction)))
    }
}
