//! The columns a click model reads, and the rows it is given.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Standardised numbers are cut off here, so that one outlier cannot leave the range the net was trained on.
const LIMIT: f32 = 8.0;

/// How a column enters the net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A category: its 64-bit hash picks a row of the embedding table. A value that was never trained has its own (mostly untrained, zero) row.
    Hashed,
    /// A number: standardised with the statistics of the training rows.
    Numeric {
        /// Mean of the training rows that are not NULL.
        mean: f32,
        /// Standard deviation of the training rows that are not NULL; 1 for a constant column.
        std: f32,
        /// The training rows held NULLs, so a second input tells whether the number is missing.
        nullable: bool,
    },
}

/// One input column of a trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Column name, as in the training query.
    pub name: String,
    /// SQL type in the training query, such as `text`, `bigint`, `double precision`, `boolean`, `timestamp`.
    pub sql_type: String,
    /// How the column enters the net.
    pub kind: Kind,
}

impl Feature {
    /// Whether the column's values are in [`Batch::numbers`] (otherwise in [`Batch::ids`]).
    pub fn is_numeric(&self) -> bool {
        matches!(self.kind, Kind::Numeric { .. })
    }
}

/// A column as the trainer is told of it; its statistics are learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Column name.
    pub name: String,
    /// SQL type, kept for the checks at scoring time.
    pub sql_type: String,
    /// A number (true) or a category (false).
    pub numeric: bool,
}

/// Rows, split into categories and numbers. The columns of each part are in the order of the features.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// `rows` x hashed features, row-major: a 64-bit hash of the value, 0 = NULL.
    pub ids: Vec<u64>,
    /// `rows` x numeric features, row-major, raw; NaN = NULL.
    pub numbers: Vec<f32>,
}

/// Rows with their outcome.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Examples {
    /// The input columns.
    pub columns: Vec<Column>,
    /// The rows.
    pub batch: Batch,
    /// One label per row, 0 or 1.
    pub labels: Vec<f32>,
}

/// The positions of the features in the net's first layer: `[embeddings | numbers | missing indicators]`.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) hashed: usize,
    /// Mean, 1/std and the column of the missing indicator, of every numeric feature.
    numeric: Vec<(f32, f32, Option<usize>)>,
    /// Width of numbers and indicators together.
    pub(crate) dense: usize,
}

impl Layout {
    pub(crate) fn new(features: &[Feature]) -> Self {
        let count = features.iter().filter(|f| f.is_numeric()).count();
        let mut dense = count;
        let mut numeric = Vec::with_capacity(count);
        for feature in features {
            let Kind::Numeric { mean, std, nullable } = feature.kind else { continue };
            let indicator = nullable.then_some(dense);
            dense += usize::from(nullable);
            numeric.push((mean, 1.0 / std, indicator));
        }
        Self { hashed: features.len() - count, numeric, dense }
    }

    pub(crate) fn numeric(&self) -> usize {
        self.numeric.len()
    }

    /// Writes one row of standardised numbers and indicators: `raw` has [`Layout::numeric`] values, `out` has `dense`.
    pub(crate) fn standardise(&self, raw: &[f32], out: &mut [f32]) {
        for (column, (&value, &(mean, scale, indicator))) in raw.iter().zip(&self.numeric).enumerate() {
            let missing = value.is_nan();
            out[column] = if missing { 0.0 } else { ((value - mean) * scale).clamp(-LIMIT, LIMIT) };
            if let Some(indicator) = indicator {
                out[indicator] = f32::from(u8::from(missing));
            }
        }
    }

    /// Checks that a batch has as many values as these features need.
    pub(crate) fn check(&self, batch: &Batch) -> Result<()> {
        check_width(batch, self.hashed, self.numeric())
    }
}

/// Checks that a batch has this many categories and numbers per row.
pub(crate) fn check_width(batch: &Batch, hashed: usize, numeric: usize) -> Result<()> {
    let fits = |have: usize, width: usize| batch.rows.checked_mul(width) == Some(have);
    if fits(batch.ids.len(), hashed) && fits(batch.numbers.len(), numeric) {
        return Ok(());
    }
    let (ids, numbers) = (batch.ids.len(), batch.numbers.len());
    Err(Error::data(
        format!(
            "a batch of {} rows holds {ids} ids and {numbers} numbers, but {hashed} categories and {numeric} numbers per row are needed",
            batch.rows
        ),
        "pass every feature of the model, in its order",
    ))
}

/// The row of the embedding table for a value: features share one table, so the feature's position is mixed into the hash
/// (the finaliser of SplitMix64, Steele et al. 2014), then scaled to the table's size without a division.
pub(crate) fn table_row(feature: usize, id: u64, rows: usize) -> u32 {
    let mut hash = id ^ (feature as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    ((u128::from(hash) * rows as u128) >> 64) as u32
}

/// Learns the statistics of the numeric columns from the given rows.
pub(crate) fn learn(columns: &[Column], batch: &Batch, rows: &[u32]) -> Vec<Feature> {
    let width = columns.iter().filter(|c| c.numeric).count();
    let mut position = 0;
    columns
        .iter()
        .map(|column| {
            let kind = if column.numeric {
                position += 1;
                numeric_kind(rows.iter().map(|&row| batch.numbers[row as usize * width + position - 1]))
            } else {
                Kind::Hashed
            };
            Feature { name: column.name.clone(), sql_type: column.sql_type.clone(), kind }
        })
        .collect()
}

/// Mean and standard deviation in one pass (Welford 1962), in f64.
fn numeric_kind(values: impl Iterator<Item = f32>) -> Kind {
    let (mut count, mut mean, mut squares, mut nullable) = (0.0, 0.0, 0.0, false);
    for value in values {
        if value.is_nan() {
            nullable = true;
            continue;
        }
        let value = f64::from(value);
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    let variance: f64 = if count > 0.0 { squares / count } else { 0.0 };
    let std = variance.sqrt() as f32;
    Kind::Numeric { mean: mean as f32, std: if std > f32::MIN_POSITIVE && std.is_finite() { std } else { 1.0 }, nullable }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(name: &str) -> Column {
        Column { name: name.to_owned(), sql_type: "double precision".to_owned(), numeric: true }
    }

    #[test]
    fn a_missing_number_becomes_the_mean_and_raises_its_indicator() {
        let batch = Batch { rows: 4, ids: vec![], numbers: vec![1.0, 5.0, 3.0, f32::NAN, 5.0, 5.0, 7.0, 5.0] };
        let features = learn(&[numeric("price"), numeric("age")], &batch, &[0, 1, 2, 3]);
        assert_eq!(features[0].kind, Kind::Numeric { mean: 4.0, std: 5f32.sqrt(), nullable: false });
        assert_eq!(features[1].kind, Kind::Numeric { mean: 5.0, std: 1.0, nullable: true });
        let layout = Layout::new(&features);
        let mut row = vec![9.0; layout.dense];
        layout.standardise(&[f32::NAN, f32::NAN], &mut row);
        assert_eq!(row, [0.0, 0.0, 1.0]);
        layout.standardise(&[f32::INFINITY, 5.0], &mut row);
        assert_eq!(row, [LIMIT, 0.0, 0.0]);
    }

    #[test]
    fn a_huge_number_gives_finite_statistics() {
        let batch = Batch { rows: 2, ids: vec![], numbers: vec![f32::MAX, f32::MIN] };
        let features = learn(&[numeric("x")], &batch, &[0, 1]);
        let mut row = [0.0];
        Layout::new(&features).standardise(&[f32::MAX], &mut row);
        assert!(row[0].is_finite());
    }

    #[test]
    fn equal_values_of_two_features_have_their_own_rows() {
        assert_ne!(table_row(0, 42, 1 << 20), table_row(1, 42, 1 << 20));
        assert!((0..1000).all(|id| table_row(3, id, 10) < 10));
    }

    #[test]
    fn a_batch_of_the_wrong_width_is_refused() {
        let layout = Layout::new(&learn(&[numeric("x")], &Batch { rows: 1, ids: vec![], numbers: vec![1.0] }, &[0]));
        let error = layout.check(&Batch { rows: 2, ids: vec![], numbers: vec![1.0] }).unwrap_err();
        assert!(error.to_string().contains("2 rows holds 0 ids and 1 numbers"), "{error}");
    }
}
