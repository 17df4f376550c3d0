//! Statistics that are computed in parts: what the metric aggregates of SQL are made of.
//!
//! Rows come in batches of columns, partial results travel between partitions and processes as bytes, and the result does not depend on how the
//! rows were cut or ordered (beyond the last digits of a sum).

use std::fmt::Debug;

/// One argument of the rows of a batch. Rows with a NULL are left out before.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    /// Numbers; a boolean is 0 or 1.
    Numbers(&'a [f64]),
    /// Values that are compared and named, nothing else: groups, classes, variants.
    Texts(&'a [&'a str]),
}

/// A value that a statistic does not accept: `argument score of auc is NaN, but must be a number`.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// The argument.
    pub argument: &'static str,
    /// Its value, as text.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

/// One value of a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No answer: SQL's NULL.
    Null,
    /// A number.
    Number(f64),
    /// A count.
    Count(i64),
    /// A text.
    Text(String),
}

/// A statistic over rows.
pub trait Statistic: Debug + Send + Sync {
    /// Adds the rows of a batch. The columns have one length; one that was not given (a weight) is absent at the end.
    ///
    /// # Errors
    /// The first value that is not accepted.
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid>;

    /// The rows so far as bytes (see [`super::part`]); leaves the statistic empty.
    fn take(&mut self) -> Vec<u8>;

    /// Adds what [`Statistic::take`] gave elsewhere.
    fn merge(&mut self, part: &[u8]);

    /// The result so far: one value, or one per field of a result with fields. A window asks repeatedly.
    fn evaluate(&mut self) -> Vec<Value>;

    /// Bytes on the heap, for the memory limit.
    fn heap(&self) -> usize;
}
