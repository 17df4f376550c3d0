//! Which rows are held out, and whether the labels can be learned from.

use super::options::{Split, TrainOptions};
use crate::error::{Error, Result};
use crate::examples::{Block, Examples};

/// Rows whose split column decides where the last ones begin: the first of all, which are a random sample.
const SAMPLE: usize = 1 << 22;

/// The parts of the rows.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// One bit per row each: trained on, held out. A row may be neither.
    trained: Bits,
    held: Bits,
    pub(crate) training: usize,
    /// Rows with label 1 among those trained on, of each label.
    pub(crate) positives: Vec<u64>,
    pub(crate) validation: usize,
}

/// One bit per row.
#[derive(Debug, Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(rows: usize) -> Self {
        Self(vec![0; rows.div_ceil(64)])
    }

    fn set(&mut self, row: usize) {
        self.0[row / 64] |= 1 << (row % 64);
    }

    fn has(&self, row: usize) -> bool {
        self.0[row / 64] >> (row % 64) & 1 == 1
    }
}

impl Parts {
    /// Chooses the rows to hold out: with a random split the same share of each stratum. `strata` counts their rows, and `stratum` tells by
    /// the labels of a row which one is its own.
    pub(crate) fn new(examples: &Examples, options: &TrainOptions, strata: &[u64], stratum: impl Fn(&[f32]) -> usize) -> Result<Self> {
        let (rows, tasks) = (examples.rows(), examples.tasks());
        let mut parts = Self { trained: Bits::new(rows), held: Bits::new(rows), training: 0, positives: vec![0; tasks], validation: 0 };
        let mut rule = Rule::new(examples, options, strata)?;
        for index in 0..examples.windows() {
            let window = examples.window(index)?;
            for row in window.first..window.first + window.rows {
                let labels = &window.block.labels[row * tasks..][..tasks];
                let at = window.start + row - window.first;
                if rule.holds_out(&window.block, row, stratum(labels)) {
                    parts.held.set(at);
                    parts.validation += 1;
                    continue;
                }
                parts.trained.set(at);
                parts.training += 1;
                for (count, label) in parts.positives.iter_mut().zip(labels) {
                    *count += u64::from(*label > 0.5);
                }
            }
        }
        Ok(parts)
    }

    /// The parts as they are, without the rows that `keep` leaves out; `label` gives the only label that counts.
    pub(crate) fn narrowed(&self, rows: usize, keep: impl Fn(usize) -> bool, label: impl Fn(usize) -> f32) -> Self {
        let mut own = Self { trained: Bits::new(rows), held: Bits::new(rows), training: 0, positives: vec![0], validation: 0 };
        for row in (0..rows).filter(|row| keep(*row)) {
            if self.is_held(row) {
                own.held.set(row);
                own.validation += 1;
            } else if self.is_trained(row) {
                own.trained.set(row);
                own.training += 1;
                own.positives[0] += u64::from(label(row) > 0.5);
            }
        }
        own
    }

    /// Whether a row (by its number among all) is held out.
    pub(crate) fn is_held(&self, row: usize) -> bool {
        self.held.has(row)
    }

    /// Whether a row (by its number among all) is trained on.
    pub(crate) fn is_trained(&self, row: usize) -> bool {
        self.trained.has(row)
    }

    /// The logarithm of the share of each class in the training part, where the labels are classes.
    pub(crate) fn class_logits(&self) -> Vec<f32> {
        let of = self.training.max(1) as f64;
        self.positives.iter().map(|rows| ((*rows as f64).max(0.5) / of).ln() as f32).collect()
    }

    /// The share of the rows with each label in the training part, as a logit, where a row may have several.
    pub(crate) fn label_logits(&self) -> Vec<f32> {
        let of = self.training as f64;
        let logit = |rows: f64| (rows.max(0.5) / (of - rows).max(0.5)).ln() as f32;
        self.positives.iter().map(|rows| logit(*rows as f64)).collect()
    }

    /// The share of positive rows in the training part, as a logit, of each task; for a second task among the positive rows of the first.
    pub(crate) fn base_logits(&self) -> Vec<f32> {
        let mut of = self.training as f64;
        let mut logits = Vec::new();
        for positives in &self.positives {
            let positives = *positives as f64;
            let rate = positives.clamp(0.5_f64.min(of / 2.0), (of - 0.5).max(of / 2.0)) / of.max(1.0);
            logits.push((rate / (1.0 - rate)).ln() as f32);
            of = positives.max(1.0);
        }
        logits
    }
}

/// How a row is chosen.
enum Rule {
    Nothing,
    /// Of each stratum every row at which the running share passes a whole number: rows are in random order.
    Share {
        share: f64,
        passed: Vec<f64>,
    },
    From(f64),
    Marked,
}

impl Rule {
    fn new(examples: &Examples, options: &TrainOptions, strata: &[u64]) -> Result<Self> {
        let share = f64::from(options.validation);
        if options.split == Split::Column {
            return Ok(Self::Marked);
        }
        if share <= 0.0 || strata.contains(&1) {
            return Ok(Self::Nothing);
        }
        if options.split == Split::Random {
            // Started so that at least one row of each stratum is held out, and one is not.
            const LITTLE: f64 = 1e-6;
            let start = |count: u64| {
                let held = count as f64 * share;
                0.5_f64.max(1.0 - held + LITTLE).min(count as f64 - held - LITTLE)
            };
            return Ok(Self::Share { share, passed: strata.iter().map(|count| start(*count)).collect() });
        }
        let mut values = Vec::new();
        for index in 0..examples.windows() {
            let window = examples.window(index)?;
            values.extend_from_slice(&window.block.split[window.first..window.first + window.rows]);
            if values.len() >= SAMPLE {
                break;
            }
        }
        values.sort_unstable_by(f64::total_cmp);
        let cut = (values.len() as f64 * (1.0 - share)).round() as usize;
        let from = values[cut.min(values.len() - 1)];
        if values[0].total_cmp(&from).is_ge() {
            return Err(Error::data("the split column has one value only", "choose another split_col, or split => 'random'"));
        }
        Ok(Self::From(from))
    }

    fn holds_out(&mut self, block: &Block, row: usize, stratum: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Share { share, passed } => {
                let passed = &mut passed[stratum];
                let before = passed.floor();
                *passed += *share;
                passed.floor() > before
            }
            Self::From(from) => block.split[row] >= *from,
            Self::Marked => block.split[row] == 1.0,
        }
    }
}

/// The parts of rows whose labels are clicks, and conversions.
///
/// Errors: [`Error::Data`] when the labels cannot be learned from.
pub(super) fn clicks(examples: &Examples, options: &TrainOptions) -> Result<(Parts, [u64; 2])> {
    let classes = check(examples)?;
    let parts = Parts::new(examples, options, &classes, |labels| usize::from(labels[0] > 0.5))?;
    let clicks = parts.positives[0];
    if clicks == 0 || clicks == parts.training as u64 {
        let what = if clicks == 0 { 0 } else { 1 };
        let reason = format!("all {} rows that are not held out have label {what}", parts.training);
        return Err(Error::data(reason, "choose another split, or a smaller validation share"));
    }
    Ok((parts, classes))
}

/// Checks that there are rows with columns.
pub(crate) fn check_rows(examples: &Examples) -> Result<()> {
    if examples.columns.is_empty() {
        return Err(Error::data("the training query has no column besides the label", "select the columns the model should learn from"));
    }
    if examples.rows() == 0 {
        return Err(Error::data("the training query returned no rows", "check its WHERE clause"));
    }
    let tasks = examples.tasks();
    for index in 0..examples.windows() {
        let window = examples.window(index)?;
        let Block { batch, labels, .. } = &*window.block;
        batch.check(examples.columns.iter().map(|column| column.values))?;
        if labels.len() != batch.rows * tasks {
            let reason = format!("{} rows have {} labels", batch.rows, labels.len());
            return Err(Error::data(reason, "give every row one label for each task"));
        }
    }
    Ok(())
}

/// Checks that the rows can be trained on, and counts those with label 0 and 1.
fn check(examples: &Examples) -> Result<[u64; 2]> {
    check_rows(examples)?;
    let tasks = examples.tasks();
    let mut ones = vec![0; tasks];
    let mut unclicked = 0;
    for index in 0..examples.windows() {
        let window = examples.window(index)?;
        for labels in window.block.labels[window.first * tasks..][..window.rows * tasks].chunks_exact(tasks) {
            if let Some(label) = labels.iter().find(|label| **label != 0.0 && **label != 1.0) {
                let what = if label.is_nan() { "NULL or NaN".to_owned() } else { label.to_string() };
                return Err(Error::data(format!("a label is {what}"), "labels must be 0 or 1 (or false or true)"));
            }
            ones.iter_mut().zip(labels).for_each(|(ones, label)| *ones += u64::from(*label > 0.5));
            unclicked += u64::from(tasks > 1 && labels[1] > labels[0]);
        }
    }
    let rows = examples.rows() as u64;
    if let Some(task) = ones.iter().position(|ones| *ones == 0 || *ones == rows) {
        let which = if task == 0 { "labels" } else { "conversion labels" };
        let reason = format!("all {rows} {which} are {}", u8::from(ones[task] > 0));
        return Err(Error::data(reason, "training needs rows with label 0 and rows with label 1"));
    }
    if unclicked > 0 {
        let reason = format!("{unclicked} rows have a conversion without a click");
        return Err(Error::data(reason, "a conversion counts where its row was clicked: click AND conversion AS conversion"));
    }
    Ok([rows - ones[0], ones[0]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Batch, Column, Values};

    fn examples(labels: &[f32], split: &[f64]) -> Examples {
        let batch = Batch { rows: labels.len(), ids: (1..=labels.len() as u64).collect(), ..Batch::default() };
        let block = Block { batch, labels: labels.to_vec(), split: split.to_vec() };
        Examples::new(vec![Column::new("item", "bigint", Values::Id)], &block, 3)
    }

    fn refusal(examples: &Examples) -> String {
        clicks(examples, &TrainOptions::default()).expect_err("the rows are unusable").to_string()
    }

    #[test]
    fn unusable_labels_are_refused() {
        assert_eq!(refusal(&examples(&[0.0, 2.0], &[])), "a label is 2");
        assert_eq!(refusal(&examples(&[f32::NAN, 1.0], &[])), "a label is NULL or NaN");
        assert_eq!(refusal(&examples(&[1.0, 1.0], &[])), "all 2 labels are 1");
        assert_eq!(refusal(&examples(&[], &[])), "the training query returned no rows");
    }

    #[test]
    fn both_parts_hold_positives_in_their_share() {
        let labels: Vec<f32> = (0..1000).map(|row| f32::from(u8::from(row % 250 == 0))).collect();
        let examples = examples(&labels, &[]);
        let (parts, classes) = clicks(&examples, &TrainOptions::default()).unwrap();
        assert_eq!((parts.positives[0], classes), (3, [996, 4]));
        assert!((99..=101).contains(&parts.validation), "{}", parts.validation);
        assert_eq!(parts.training + parts.validation, 1000);
        assert_eq!((0..1000).filter(|row| parts.is_held(*row)).count(), parts.validation);
    }

    #[test]
    fn the_last_rows_or_the_marked_rows_are_held_out() {
        let labels: Vec<f32> = (0..100).map(|row| (row % 2) as f32).collect();
        let held = |split: &[f64], options: &TrainOptions| {
            let examples = examples(&labels, split);
            let (parts, _) = clicks(&examples, options).unwrap();
            let window = examples.window(0).unwrap();
            let mut held: Vec<f64> = (0..100).filter(|row| parts.is_held(*row)).map(|row| window.block.split[row]).collect();
            held.sort_unstable_by(f64::total_cmp);
            held
        };
        let time: Vec<f64> = (0..100).map(f64::from).collect();
        let by_time = TrainOptions { split: Split::Time, validation: 0.2, ..TrainOptions::default() };
        assert_eq!(held(&time, &by_time), time[80..]);
        let marks: Vec<f64> = (0..100).map(|row| f64::from(u8::from(row < 7))).collect();
        assert_eq!(held(&marks, &TrainOptions { split: Split::Column, ..TrainOptions::default() }), [1.0; 7]);
    }
}
