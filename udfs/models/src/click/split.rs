//! Which rows are held out, and whether the labels can be learned from.

use super::options::{Split, TrainOptions};
use crate::error::{Error, Result};
use crate::examples::{Block, Examples};

/// Rows whose split column decides where the last ones begin: the first of all, which are a random sample.
const SAMPLE: usize = 1 << 22;

/// The parts of the rows.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// One bit per row: held out.
    held: Vec<u64>,
    pub(super) training: usize,
    /// Rows with label 1 among those trained on, of each task.
    pub(super) positives: Vec<u64>,
    pub(super) validation: usize,
    /// Rows with (first) label 1 among all.
    pub(super) all_positives: u64,
}

impl Parts {
    /// Checks the labels and chooses the rows to hold out.
    pub(super) fn new(examples: &Examples, options: &TrainOptions) -> Result<Self> {
        let tasks = examples.tasks();
        let classes = check(examples)?;
        let mut parts = Self {
            held: vec![0; examples.rows().div_ceil(64)],
            training: 0,
            positives: vec![0; tasks],
            validation: 0,
            all_positives: classes[1],
        };
        let mut rule = Rule::new(examples, options, classes)?;
        for index in 0..examples.windows() {
            let window = examples.window(index)?;
            for row in window.first..window.first + window.rows {
                let labels = &window.block.labels[row * tasks..][..tasks];
                if rule.holds_out(&window.block, row, labels[0] > 0.5) {
                    let at = window.start + row - window.first;
                    parts.held[at / 64] |= 1 << (at % 64);
                    parts.validation += 1;
                    continue;
                }
                parts.training += 1;
                for (count, label) in parts.positives.iter_mut().zip(labels) {
                    *count += u64::from(*label > 0.5);
                }
            }
        }
        let clicks = parts.positives[0];
        if clicks == 0 || clicks == parts.training as u64 {
            let what = if clicks == 0 { 0 } else { 1 };
            let reason = format!("all {} rows that are not held out have label {what}", parts.training);
            return Err(Error::data(reason, "choose another split, or a smaller validation share"));
        }
        Ok(parts)
    }

    /// Whether a row (by its number among all) is held out.
    pub(super) fn is_held(&self, row: usize) -> bool {
        self.held[row / 64] >> (row % 64) & 1 == 1
    }

    /// The share of positive rows in the training part, as a logit, of each task; for a second task among the positive rows of the first.
    pub(super) fn base_logits(&self) -> Vec<f32> {
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
    /// Of each class every row at which the running share passes a whole number: rows are in random order.
    Share {
        share: f64,
        passed: [f64; 2],
    },
    From(f64),
    Marked,
}

impl Rule {
    fn new(examples: &Examples, options: &TrainOptions, classes: [u64; 2]) -> Result<Self> {
        let share = f64::from(options.validation);
        if options.split == Split::Column {
            return Ok(Self::Marked);
        }
        if share <= 0.0 || classes.iter().any(|count| *count < 2) {
            return Ok(Self::Nothing);
        }
        if options.split == Split::Random {
            // Started so that at least one row of each class is held out, and one is not.
            const LITTLE: f64 = 1e-6;
            let start = |count: u64| {
                let held = count as f64 * share;
                0.5_f64.max(1.0 - held + LITTLE).min(count as f64 - held - LITTLE)
            };
            return Ok(Self::Share { share, passed: classes.map(start) });
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

    fn holds_out(&mut self, block: &Block, row: usize, positive: bool) -> bool {
        match self {
            Self::Nothing => false,
            Self::Share { share, passed } => {
                let passed = &mut passed[usize::from(positive)];
                let before = passed.floor();
                *passed += *share;
                passed.floor() > before
            }
            Self::From(from) => block.split[row] >= *from,
            Self::Marked => block.split[row] == 1.0,
        }
    }
}

/// Checks that the rows can be trained on, and counts those with label 0 and 1.
fn check(examples: &Examples) -> Result<[u64; 2]> {
    if examples.columns.is_empty() {
        return Err(Error::data("the training query has no column besides the label", "select the columns the model should learn from"));
    }
    if examples.rows() == 0 {
        return Err(Error::data("the training query returned no rows", "check its WHERE clause"));
    }
    let tasks = examples.tasks();
    let mut ones = vec![0; tasks];
    let mut unclicked = 0;
    for index in 0..examples.windows() {
        let window = examples.window(index)?;
        let Block { batch, labels, .. } = &*window.block;
        batch.check(examples.columns.iter().map(|column| column.values))?;
        if labels.len() != batch.rows * tasks {
            let reason = format!("{} rows have {} labels", batch.rows, labels.len());
            return Err(Error::data(reason, "give every row one label for each task"));
        }
        for labels in labels[window.first * tasks..][..window.rows * tasks].chunks_exact(tasks) {
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
        Parts::new(examples, &TrainOptions::default()).expect_err("the rows are unusable").to_string()
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
        let parts = Parts::new(&examples, &TrainOptions::default()).unwrap();
        assert_eq!((parts.positives[0], parts.all_positives), (3, 4));
        assert!((99..=101).contains(&parts.validation), "{}", parts.validation);
        assert_eq!(parts.training + parts.validation, 1000);
        assert_eq!((0..1000).filter(|row| parts.is_held(*row)).count(), parts.validation);
    }

    #[test]
    fn the_last_rows_or_the_marked_rows_are_held_out() {
        let labels: Vec<f32> = (0..100).map(|row| (row % 2) as f32).collect();
        let held = |split: &[f64], options: &TrainOptions| {
            let examples = examples(&labels, split);
            let parts = Parts::new(&examples, options).unwrap();
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
