//! The columns a click model reads, the rows it is given, and how they enter a net.
//!
//! A column of a table gives one or several raw [`Column`]s (a bigint is an id and a number; a text is an id and its n-grams). From the
//! training rows a training decides what becomes of each: a [`Feature`]. Scoring replays these decisions on any rows.

pub(crate) mod dictionary;
pub(crate) mod encode;
pub(crate) mod id;
pub(crate) mod learn;
mod texts;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::id::id_of;
pub use self::texts::Texts;
use crate::error::{Error, Result};

/// The part of a source column that a raw column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The value itself.
    Whole,
    /// The hour of a timestamp, 0 to 23.
    Hour,
    /// The weekday of a date or timestamp, Monday is 0.
    Weekday,
    /// The month of a date, January is 1.
    Month,
    /// The days from a date or timestamp to a reference time (1970), as a number.
    Age,
}

/// What a raw column holds for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// A 64-bit hash of the value; 0 is NULL.
    Id,
    /// A number; NaN is NULL.
    Number,
    /// The hashes of a list's items.
    Items,
    /// The numbers of a list by position.
    Vector,
    /// The hashes of a text's n-grams.
    Tokens,
}

impl Values {
    /// Whether the values of a row are many ([`Batch::bags`]).
    pub fn is_bag(self) -> bool {
        matches!(self, Self::Items | Self::Vector | Self::Tokens)
    }
}

/// What the user wants of a column instead of what its values suggest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// A category with a row of its own for every value.
    Category,
    /// A category hashed into this many rows.
    Hash(u32),
    /// A number, standardised only.
    Standard,
    /// A number, standardised after a logarithm.
    Log,
    /// A number in this many buckets of equal counts, each with an embedding.
    Quantile(u32),
    /// A number by a piecewise linear encoding.
    Piecewise,
    /// The n-grams of a text.
    Ngrams,
}

/// A raw column as the trainer is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The source column's name.
    pub column: String,
    /// Which part of it.
    pub part: Part,
    /// The source column's SQL type, kept for the checks at scoring time.
    pub sql_type: String,
    /// What each row holds.
    pub values: Values,
    /// What the user wants.
    pub treatment: Option<Treatment>,
}

impl Column {
    /// A whole column without a wish.
    pub fn new(column: &str, sql_type: &str, values: Values) -> Self {
        Self { column: column.to_owned(), part: Part::Whole, sql_type: sql_type.to_owned(), values, treatment: None }
    }
}

/// The rows of the embedding table that belong to a feature: the first is NULL's (or that of an empty list). With a dictionary the second
/// is that of rare and unseen values, then each known value has one; without, the others are buckets or bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vocabulary {
    /// The first row.
    pub offset: u32,
    /// The number of known values, buckets or bins.
    pub size: u32,
    /// Whether there are buckets or bins instead of known values.
    pub hashed: bool,
}

impl Vocabulary {
    /// Rows in the table.
    pub fn rows(&self) -> u32 {
        self.size + if self.hashed { 1 } else { 2 }
    }
}

/// How a number enters the net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Number {
    /// sign(x) ln(1 + |x|) is taken first.
    pub log: bool,
    /// Mean of the training rows (after the logarithm).
    pub mean: f32,
    /// Standard deviation of the training rows; 1 for a constant.
    pub std: f32,
    /// The training rows held NULLs, so a further input tells whether the number is missing.
    pub nullable: bool,
    /// Edges of bins with about equal counts, strictly rising, in the column's own unit.
    pub edges: Vec<f32>,
    /// What the edges are for.
    pub bins: Bins,
}

/// What the bins of a number are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bins {
    /// There are none.
    None,
    /// A row of the table per bin, summed over the bins below the number, its own bin by the share that is below (piecewise linear encoding
    /// with a linear layer, Gorishniy et al. 2022).
    Piecewise(Vocabulary),
    /// An embedding per bin.
    Quantile(Vocabulary),
}

/// How a raw column enters the net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An embedding by value.
    Category(Vocabulary),
    /// The mean of the embeddings of the items of a list, or the n-grams of a text.
    Bag(Vocabulary),
    /// The sum of an embedding per position, weighted by the list's numbers over `scale`.
    Vector {
        /// One known value per position.
        vocabulary: Vocabulary,
        /// Root of the mean square of the numbers.
        scale: f32,
    },
    /// The items of a list, attended with the feature at this position.
    History {
        /// The vocabulary of the target, which is shared.
        vocabulary: Vocabulary,
        /// The position of the target among the features.
        target: usize,
    },
    /// Inputs computed from the number.
    Number(Number),
    /// Left out, for this reason.
    Unused(String),
}

/// What became of a raw column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// The source column's name.
    pub column: String,
    /// Which part of it.
    pub part: Part,
    /// The source column's SQL type in the training query, such as `text`, `bigint`, `timestamp`.
    pub sql_type: String,
    /// What each row holds.
    pub values: Values,
    /// How it enters the net.
    pub kind: Kind,
    /// Share of the training rows without a value.
    pub missing: f64,
    /// Distinct values in the training rows, as far as they were counted.
    pub distinct: u64,
}

impl Feature {
    /// Whether the net reads it.
    pub fn is_used(&self) -> bool {
        !matches!(self.kind, Kind::Unused(_))
    }

    /// The name in errors and tables: `price`, `ts.hour`.
    pub fn name(&self) -> String {
        match self.part {
            Part::Whole => self.column.clone(),
            part => format!("{}.{part}", self.column),
        }
    }

    /// The rows of the table that belong to it.
    pub fn vocabulary(&self) -> Option<Vocabulary> {
        match &self.kind {
            Kind::Category(vocabulary) | Kind::Bag(vocabulary) => Some(*vocabulary),
            Kind::Vector { vocabulary, .. } | Kind::History { vocabulary, .. } => Some(*vocabulary),
            Kind::Number(Number { bins: Bins::Piecewise(vocabulary) | Bins::Quantile(vocabulary), .. }) => Some(*vocabulary),
            Kind::Number(_) | Kind::Unused(_) => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "value",
            Self::Hour => "hour",
            Self::Weekday => "weekday",
            Self::Month => "month",
            Self::Age => "age",
        })
    }
}

/// The values of a raw column of lists: those of row `r` are at `offsets[r]..offsets[r + 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Bag {
    /// One more than there are rows, rising from 0.
    pub offsets: Vec<u32>,
    /// Hashes of items, or positions from 1; never 0.
    pub ids: Vec<u64>,
    /// The number at each position; empty when every value counts the same.
    pub weights: Vec<f32>,
}

impl Default for Bag {
    fn default() -> Self {
        Self { offsets: vec![0], ids: Vec::new(), weights: Vec::new() }
    }
}

impl Bag {
    /// Ends a row.
    pub fn end_row(&mut self) {
        self.offsets.push(self.ids.len() as u32);
    }

    /// The values of a row.
    pub fn row(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }
}

/// Rows, a raw column at a time by kind. Within each kind the columns are in the order of the features.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// `rows` x id columns, row-major; 0 = NULL.
    pub ids: Vec<u64>,
    /// `rows` x number columns, row-major, raw; NaN = NULL.
    pub numbers: Vec<f32>,
    /// One for each column of lists.
    pub bags: Vec<Bag>,
}

impl Batch {
    /// Appends the rows of another batch of the same columns.
    pub fn append(&mut self, other: &Self) {
        if self.rows == 0 {
            self.clone_from(other);
            return;
        }
        self.rows += other.rows;
        self.ids.extend_from_slice(&other.ids);
        self.numbers.extend_from_slice(&other.numbers);
        for (bag, other) in self.bags.iter_mut().zip(&other.bags) {
            let base = bag.ids.len() as u32;
            bag.offsets.extend(other.offsets[1..].iter().map(|offset| base + offset));
            bag.ids.extend_from_slice(&other.ids);
            bag.weights.extend_from_slice(&other.weights);
        }
    }

    /// These rows, in this order.
    pub fn take(&self, rows: &[u32]) -> Self {
        let width = |values: usize| values.checked_div(self.rows).unwrap_or(0);
        let (ids, numbers) = (width(self.ids.len()), width(self.numbers.len()));
        let bag = |bag: &Bag| {
            let mut taken = Bag::default();
            for row in rows {
                let range = bag.row(*row as usize);
                taken.ids.extend_from_slice(&bag.ids[range.clone()]);
                if !bag.weights.is_empty() {
                    taken.weights.extend_from_slice(&bag.weights[range]);
                }
                taken.end_row();
            }
            taken
        };
        Self {
            rows: rows.len(),
            ids: rows.iter().flat_map(|row| &self.ids[*row as usize * ids..][..ids]).copied().collect(),
            numbers: rows.iter().flat_map(|row| &self.numbers[*row as usize * numbers..][..numbers]).copied().collect(),
            bags: self.bags.iter().map(bag).collect(),
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let bags: usize = self.bags.iter().map(|bag| bag.offsets.len() * 4 + bag.ids.len() * 8 + bag.weights.len() * 4).sum();
        self.ids.len() * 8 + self.numbers.len() * 4 + bags
    }

    /// Checks that there are as many columns of each kind as `values` lists.
    pub(crate) fn check(&self, values: impl Iterator<Item = Values> + Clone) -> Result<()> {
        let count = |wanted: fn(Values) -> bool| values.clone().filter(|values| wanted(*values)).count();
        let ids = count(|values| values == Values::Id);
        let numbers = count(|values| values == Values::Number);
        let bags = count(Values::is_bag);
        let fits = self.rows.checked_mul(ids) == Some(self.ids.len())
            && self.rows.checked_mul(numbers) == Some(self.numbers.len())
            && self.bags.len() == bags
            && self.bags.iter().all(|bag| bag.offsets.len() == self.rows + 1);
        if fits {
            return Ok(());
        }
        let reason = format!(
            "a batch of {} rows holds {} ids, {} numbers and {} lists, but {ids} ids, {numbers} numbers and {bags} lists per row are needed",
            self.rows,
            self.ids.len(),
            self.numbers.len(),
            self.bags.len()
        );
        Err(Error::data(reason, "pass every feature of the model, in its order"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let bag = Bag { offsets: vec![0, 2, 2, 3], ids: vec![7, 8, 9], weights: vec![0.5, 1.0, 2.0] };
        Batch { rows: 3, ids: vec![1, 2, 3], numbers: vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6], bags: vec![bag] }
    }

    #[test]
    fn rows_taken_and_appended_keep_their_values_together() {
        let taken = batch().take(&[2, 0]);
        assert_eq!((taken.ids.as_slice(), taken.numbers.as_slice()), ([3, 1].as_slice(), [0.5, 0.6, 0.1, 0.2].as_slice()));
        assert_eq!(taken.bags[0], Bag { offsets: vec![0, 1, 3], ids: vec![9, 7, 8], weights: vec![2.0, 0.5, 1.0] });
        let mut both = batch().take(&[0, 1]);
        both.append(&batch().take(&[2]));
        assert_eq!(both, batch());
    }

    #[test]
    fn a_batch_of_the_wrong_width_is_refused() {
        let error = batch().check([Values::Id, Values::Number].into_iter()).unwrap_err();
        assert!(error.to_string().contains("3 ids, 6 numbers and 1 lists, but 1 ids, 1 numbers and 0 lists per row"), "{error}");
        batch().check([Values::Number, Values::Items, Values::Id, Values::Number].into_iter()).unwrap();
    }
}
