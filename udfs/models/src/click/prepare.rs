//! From examples to what the steps read: checked labels, a split, table rows and standardised numbers.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::TrainOptions;
use crate::error::{Error, Result};
use crate::features::{self, Examples, Feature, Layout, table_row};

/// The rows of a training, ready for its steps.
pub(super) struct Prepared {
    pub(super) features: Vec<Feature>,
    pub(super) layout: Layout,
    pub(super) table_rows: usize,
    /// rows x hashed: rows of the embedding table.
    pub(super) rows: Vec<u32>,
    /// rows x dense: standardised numbers and indicators.
    pub(super) numbers: Vec<f32>,
    pub(super) labels: Vec<f32>,
    pub(super) training: Vec<u32>,
    /// Empty without validation.
    pub(super) validation: Vec<u32>,
    pub(super) positives: u64,
}

impl Prepared {
    pub(super) fn new(examples: &Examples, options: &TrainOptions, rng: &mut ChaCha8Rng) -> Result<Self> {
        let positives = check(examples)?;
        // The widths must fit before anything indexes into the rows.
        let hashed = examples.columns.iter().filter(|c| !c.numeric).count();
        features::check_width(&examples.batch, hashed, examples.columns.len() - hashed)?;
        let (training, validation) = split(&examples.labels, positives, options.validation, rng);
        let features = features::learn(&examples.columns, &examples.batch, &training);
        let layout = Layout::new(&features);
        let table_rows = match options.table_rows {
            _ if layout.hashed == 0 => 0,
            Some(rows) => rows,
            None => table_size(&examples.batch.ids, layout.hashed),
        };
        let ids = examples.batch.ids.chunks_exact(layout.hashed.max(1));
        let rows = ids.flat_map(|row| row.iter().enumerate().map(|(f, id)| table_row(f, *id, table_rows))).collect();
        let mut numbers = vec![0.0; examples.batch.rows * layout.dense];
        if layout.numeric() > 0 {
            let raw = examples.batch.numbers.chunks_exact(layout.numeric());
            for (raw, out) in raw.zip(numbers.chunks_exact_mut(layout.dense)) {
                layout.standardise(raw, out);
            }
        }
        let labels = examples.labels.clone();
        Ok(Self { features, layout, table_rows, rows, numbers, labels, training, validation, positives })
    }

    /// The share of positive rows in the training part, as a logit.
    pub(super) fn base_logit(&self) -> f32 {
        let count = self.training.len() as f64;
        let positives = self.training.iter().filter(|row| self.labels[**row as usize] > 0.5).count() as f64;
        let rate = positives.clamp(0.5, count - 0.5) / count;
        (rate / (1.0 - rate)).ln() as f32
    }
}

/// Checks that the rows can be trained on, and counts the positive ones.
fn check(examples: &Examples) -> Result<u64> {
    let Examples { columns, batch, labels } = examples;
    if columns.is_empty() {
        return Err(Error::data("the training query has no column besides the label", "select the columns the model should learn from"));
    }
    if batch.rows == 0 {
        return Err(Error::data("the training query returned no rows", "check its WHERE clause"));
    }
    if u32::try_from(batch.rows).is_err() {
        return Err(Error::data(format!("{} training rows are too many", batch.rows), "train on a sample of the rows"));
    }
    if labels.len() != batch.rows {
        return Err(Error::data(format!("{} rows have {} labels", batch.rows, labels.len()), "give every row one label"));
    }
    if let Some(row) = labels.iter().position(|label| *label != 0.0 && *label != 1.0) {
        let what = if labels[row].is_nan() { "NULL or NaN".to_owned() } else { labels[row].to_string() };
        return Err(Error::data(format!("the label of row {} is {what}", row + 1), "labels must be 0 or 1 (or false or true)"));
    }
    let numeric: Vec<&str> = columns.iter().filter(|c| c.numeric).map(|c| c.name.as_str()).collect();
    if let Some(position) = batch.numbers.iter().position(|number| number.is_infinite()) {
        let (row, column) = (position / numeric.len().max(1), position % numeric.len().max(1));
        let name = numeric.get(column).copied().unwrap_or_default();
        let reason = format!("column \"{name}\" of row {} is infinite", row + 1);
        return Err(Error::data(reason, "turn such numbers into NULL, for example with NULLIF"));
    }
    let positives = labels.iter().filter(|label| **label > 0.5).count();
    if positives == 0 || positives == labels.len() {
        let reason = format!("all {} labels are {}", labels.len(), labels[0]);
        return Err(Error::data(reason, "training needs rows with label 0 and rows with label 1"));
    }
    Ok(positives as u64)
}

/// Holds out the same share of each class, so that rare positives are in both parts. Without two rows of each class nothing is held out.
fn split(labels: &[f32], positives: u64, share: f32, rng: &mut ChaCha8Rng) -> (Vec<u32>, Vec<u32>) {
    let mut training: Vec<u32> = (0..labels.len() as u32).collect();
    if share <= 0.0 || positives < 2 || labels.len() as u64 - positives < 2 {
        return (training, Vec::new());
    }
    training.shuffle(rng);
    let (hits, misses): (Vec<u32>, Vec<u32>) = training.iter().partition(|row| labels[**row as usize] > 0.5);
    let mut validation = Vec::new();
    training.clear();
    for class in [hits, misses] {
        let held = ((class.len() as f64 * f64::from(share)).round() as usize).clamp(1, class.len() - 1);
        validation.extend(&class[..held]);
        training.extend(&class[held..]);
    }
    training.sort_unstable();
    validation.sort_unstable();
    (training, validation)
}

/// About four rows per distinct value of the data, estimated by linear counting (Whang et al. 1990).
fn table_size(ids: &[u64], hashed: usize) -> usize {
    const SMALLEST: usize = 1 << 12;
    const LARGEST: usize = 1 << 22;
    const BITS: usize = 1 << 24;
    let mut seen = vec![0u64; BITS / 64];
    for row in ids.chunks_exact(hashed) {
        for (feature, id) in row.iter().enumerate() {
            let bit = table_row(feature, *id, BITS) as usize;
            seen[bit / 64] |= 1 << (bit % 64);
        }
    }
    let set: u32 = seen.iter().map(|word| word.count_ones()).sum();
    let empty = (BITS as f64 - f64::from(set)).max(1.0) / BITS as f64;
    let distinct = -(BITS as f64) * empty.ln();
    ((distinct * 4.0) as usize).next_power_of_two().clamp(SMALLEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::features::{Batch, Column};

    fn examples(labels: &[f32], numbers: &[f32]) -> Examples {
        let column = |name: &str, numeric| Column { name: name.to_owned(), sql_type: "x".to_owned(), numeric };
        let rows = labels.len();
        let ids = (0..rows as u64).collect();
        Examples {
            columns: vec![column("item", false), column("price", true)],
            batch: Batch { rows, ids, numbers: numbers.to_vec() },
            labels: labels.to_vec(),
        }
    }

    fn refusal(examples: &Examples) -> (String, String) {
        let prepared = Prepared::new(examples, &TrainOptions::default(), &mut ChaCha8Rng::seed_from_u64(0));
        let error = prepared.err().expect("the rows are unusable");
        (error.to_string(), error.hint().unwrap_or_default())
    }

    #[test]
    fn unusable_rows_are_refused_with_the_row_and_what_to_do() {
        let (reason, hint) = refusal(&examples(&[0.0, 2.0], &[1.0, 1.0]));
        assert_eq!((reason.as_str(), hint.as_str()), ("the label of row 2 is 2", "labels must be 0 or 1 (or false or true)"));
        assert_eq!(refusal(&examples(&[f32::NAN, 1.0], &[1.0, 1.0])).0, "the label of row 1 is NULL or NaN");
        assert_eq!(refusal(&examples(&[1.0, 1.0], &[1.0, 1.0])).0, "all 2 labels are 1");
        assert_eq!(refusal(&examples(&[], &[])).0, "the training query returned no rows");
        let (reason, hint) = refusal(&examples(&[0.0, 1.0], &[1.0, f32::INFINITY]));
        assert_eq!(reason, "column \"price\" of row 2 is infinite");
        assert!(hint.contains("NULL"));
        assert!(refusal(&examples(&[0.0, 1.0], &[1.0])).0.contains("2 rows holds 2 ids and 1 numbers"));
        assert!(refusal(&Examples::default()).0.contains("no column"));
    }

    #[test]
    fn both_parts_of_the_split_hold_positives_and_no_row_twice() {
        let labels: Vec<f32> = (0..1000).map(|row| f32::from(u8::from(row % 250 == 0))).collect();
        let (training, validation) = split(&labels, 4, 0.1, &mut ChaCha8Rng::seed_from_u64(3));
        let hits = |rows: &[u32]| rows.iter().filter(|row| labels[**row as usize] > 0.5).count();
        assert_eq!((hits(&training), hits(&validation)), (3, 1));
        let mut all = [training, validation].concat();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..1000));
    }

    #[test]
    fn the_table_grows_with_the_distinct_values_not_with_the_rows() {
        let few: Vec<u64> = (0..100_000).map(|row| row % 50).collect();
        assert_eq!(table_size(&few, 2), 1 << 12);
        let many: Vec<u64> = (0..100_000).collect();
        assert_eq!(table_size(&many, 1), 1 << 19);
    }
}
