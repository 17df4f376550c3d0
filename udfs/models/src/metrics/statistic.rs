//! Statistics that are computed in parts: what the metric aggregates of SQL are made of.
//!
//! Rows come in batches of columns, partial results travel between partitions and processes as bytes, and the result does not depend on how the
//! rows were cut or ordered (beyond the last digits of a sum).

use std::fmt::{self, Debug, Display};
use std::ops::Range;
use std::sync::Arc;

use super::groups::{Groups, Many};
use super::part::{Reader, Writer};

/// One argument of the rows of a batch. Rows with a NULL are left out before.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    /// An argument that was left out, such as a weight.
    Absent,
    /// Numbers; a boolean is 0 or 1, and -0 is 0.
    Numbers(&'a [f64]),
    /// Values that are compared and named, nothing else: classes, variants. The same number has the same text, whatever its type.
    Texts(&'a [&'a str]),
    /// Values that are only compared, such as groups: equal values have equal keys.
    Keys(&'a [u128]),
}

impl<'a> Column<'a> {
    /// The numbers; none of a column of another kind or of one that was left out.
    pub fn numbers(self) -> &'a [f64] {
        if let Self::Numbers(values) = self { values } else { &[] }
    }

    /// The texts; none of a column of another kind or of one that was left out.
    pub fn texts(self) -> &'a [&'a str] {
        if let Self::Texts(values) = self { values } else { &[] }
    }

    /// The keys; none of a column of another kind or of one that was left out.
    pub fn keys(self) -> &'a [u128] {
        if let Self::Keys(values) = self { values } else { &[] }
    }

    /// How many rows there are; none of a column that was left out.
    pub fn len(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Numbers(values) => values.len(),
            Self::Texts(values) => values.len(),
            Self::Keys(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Some of the rows.
    #[must_use]
    pub fn slice(self, rows: Range<usize>) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::Numbers(values) => Self::Numbers(&values[rows]),
            Self::Texts(values) => Self::Texts(&values[rows]),
            Self::Keys(values) => Self::Keys(&values[rows]),
        }
    }
}

/// The values of a [`Column`] that were brought together from elsewhere.
#[derive(Debug, Clone)]
pub enum Values<'a> {
    /// See [`Column::Absent`].
    Absent,
    /// See [`Column::Numbers`].
    Numbers(Vec<f64>),
    /// See [`Column::Texts`].
    Texts(Vec<&'a str>),
    /// See [`Column::Keys`].
    Keys(Vec<u128>),
}

impl<'a> Values<'a> {
    /// The rows of a column in this order.
    pub fn gathered(column: Column<'a>, order: &[usize]) -> Self {
        match column {
            Column::Absent => Self::Absent,
            Column::Numbers(values) => Self::Numbers(order.iter().map(|&row| values[row]).collect()),
            Column::Texts(values) => Self::Texts(order.iter().map(|&row| values[row]).collect()),
            Column::Keys(values) => Self::Keys(order.iter().map(|&row| values[row]).collect()),
        }
    }

    /// The column.
    pub fn column(&self) -> Column<'_> {
        match self {
            Self::Absent => Column::Absent,
            Self::Numbers(values) => Column::Numbers(values),
            Self::Texts(values) => Column::Texts(values),
            Self::Keys(values) => Column::Keys(values),
        }
    }
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

impl Invalid {
    /// The argument, its value and what is allowed.
    pub fn new(argument: &'static str, value: impl Display, allowed: &'static str) -> Self {
        Self { argument, value: value.to_string(), allowed }
    }
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

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, T::into)
    }
}

/// A statistic over rows.
pub trait Statistic: Debug + Send + Sync {
    /// Adds the rows of a batch. There is a column for every parameter that is not an option, in the order of the declaration.
    ///
    /// # Errors
    /// The first value that is not accepted.
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid>;

    /// Writes the rows so far; the statistic is empty afterwards.
    fn take(&mut self, part: &mut Writer);

    /// Adds what [`Statistic::take`] wrote elsewhere.
    fn merge(&mut self, part: &mut Reader<'_>);

    /// Appends the result so far: one value, or one per field of a result with fields. A window asks repeatedly.
    ///
    /// # Errors
    /// A value that turns out not to fit the rows.
    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid>;

    /// Bytes on the heap, for the memory limit; cheap to ask.
    fn heap(&self) -> usize;
}

/// An empty statistic with its options, from which as many are made as there are groups.
///
/// Make it in this crate: the loops over groups are compiled, and optimised, where it is made.
#[derive(Clone)]
pub struct Template(Arc<dyn Blank>);

impl Template {
    /// Makes copies of an empty statistic.
    pub fn new<S: Statistic + Clone + 'static>(empty: S) -> Self {
        Self(Arc::new(empty))
    }

    /// One statistic.
    pub fn one(&self) -> Box<dyn Statistic> {
        self.0.one()
    }

    /// A statistic per group.
    pub fn groups(&self) -> Box<dyn Groups> {
        self.0.groups()
    }
}

impl Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.0).finish()
    }
}

trait Blank: Debug + Send + Sync {
    fn one(&self) -> Box<dyn Statistic>;
    fn groups(&self) -> Box<dyn Groups>;
}

impl<S: Statistic + Clone + 'static> Blank for S {
    fn one(&self) -> Box<dyn Statistic> {
        Box::new(self.clone())
    }

    fn groups(&self) -> Box<dyn Groups> {
        Box::new(Many::new(self.clone()))
    }
}

/// A label as a class.
///
/// # Errors
/// Anything but 0 and 1.
#[inline]
pub fn label(argument: &'static str, value: f64) -> Result<bool, Invalid> {
    if value == 1.0 {
        return Ok(true);
    }
    if value == 0.0 {
        return Ok(false);
    }
    Err(Invalid::new(argument, value, "0 or 1"))
}

/// A weight.
///
/// # Errors
/// A negative number, or one that is not finite.
#[inline]
pub fn weight(argument: &'static str, value: f64) -> Result<f64, Invalid> {
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err(Invalid::new(argument, value, "a number from 0")) }
}

/// A probability.
///
/// # Errors
/// A number that is not from 0 to 1.
#[inline]
pub fn probability(argument: &'static str, value: f64) -> Result<f64, Invalid> {
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(Invalid::new(argument, value, "from 0 to 1")) }
}

/// A score: anything that has an order.
///
/// # Errors
/// NaN.
#[inline]
pub fn score(argument: &'static str, value: f64) -> Result<f64, Invalid> {
    if value.is_nan() { Err(Invalid::new(argument, value, "a number")) } else { Ok(value) }
}

/// A number to calculate with.
///
/// # Errors
/// NaN, or an infinite number.
#[inline]
pub fn finite(argument: &'static str, value: f64) -> Result<f64, Invalid> {
    if value.is_finite() { Ok(value) } else { Err(Invalid::new(argument, value, "a finite number")) }
}

/// The numbers with -0 as 0, so that equal numbers have equal bits.
pub fn unsigned_zero(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value + 0.0).collect()
}
