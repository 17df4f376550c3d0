//! `ml.hash_bucketize(value, buckets)`: a value as one of so many buckets, by its hash.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::Result;

use super::hash::hashes;
use super::map::Map;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// The declaration of `ml.hash_bucketize`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.hash_bucketize",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("value", Type::Any, "The value of a category with very many values."),
        Parameter::value("buckets", Type::BigInt, "How many buckets there are; a constant."),
    ],
    returns: Returns::Value(Type::BigInt),
    summary: "A value as one of a fixed number of buckets, by its hash",
    docs: "The hashing trick (Weinberger et al. 2009): a category of any number of values, also ones not seen yet, becomes a number from 0 to \
           `buckets - 1`. Nothing is learned. Values that share a bucket cannot be told apart, so take more buckets than there are values \
           that matter.\n\n\
           The bucket is the xxHash64 of the value (seed 0), as an unsigned number, modulo `buckets`. Hashed are: the UTF-8 bytes of text, the \
           bytes of bytea, one byte (0 or 1) for a boolean, and 8 bytes, the lowest first, for the others: an integer of any width as \
           bigint, any other number as double precision, a date as days and a timestamp as microseconds since 1970, a time as nanoseconds. \
           NULL stays NULL.",
    example: "SELECT item_id, ml.hash_bucketize(item_id, 1000) AS item_h FROM impressions",
    errors: &[
        Failure { sqlstate: "22023", when: "`buckets` is not a constant from 1" },
        Failure { sqlstate: "42804", when: "the value is a list or a row" },
    ],
};

/// The map of `ml.hash_bucketize`.
pub(super) struct HashBucketize;

fn buckets(options: &Options) -> Result<u64, Error> {
    Ok(options.whole("buckets", 1..=i64::MAX)?.unsigned_abs())
}

impl Map for HashBucketize {
    const DECLARATION: &'static Function = &DECLARATION;
    const COLUMNS: usize = 1;

    fn check(options: &Options) -> Result<(), Error> {
        buckets(options).map(drop)
    }

    fn map(options: &Options, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let buckets = buckets(options)?;
        Ok(Arc::new(hashes(&columns[0], 0)?.unary::<_, Int64Type>(|hash| (hash % buckets).cast_signed())))
    }
}
