//! What every training of a text model begins with: its options, its rows, and which of them are held out.

use super::{Task, Text};
use crate::click::split::{self, Parts};
use crate::click::{Calibrate, Metric, TrainOptions};
use crate::error::{Error, Result};
use crate::examples::{Examples, Window};
use crate::net::ModelType;

/// Checked rows and options.
pub(crate) struct Ready {
    /// What is learned; of a number with its mean and scale.
    pub(crate) task: Task,
    /// With every choice made, but for the weight of the classes, which [`Ready::balance`] has.
    pub(crate) options: TrainOptions,
    pub(crate) parts: Parts,
    /// What a row (a token) of each class counts; empty where all count the same.
    pub(crate) balance: Vec<f32>,
    /// The logits that give the shares of the classes.
    pub(crate) bias: Vec<f32>,
}

/// Checks options and rows. `refused` are further options that mean nothing, each with whether it is set; `batch` gives the rows of a step by those
/// that are trained on.
pub(crate) fn ready(
    examples: &Examples,
    options: &TrainOptions,
    text: &Text,
    refused: &[(&str, bool)],
    batch: impl FnOnce(usize) -> usize,
) -> Result<Ready> {
    options.check()?;
    check_options(options, text.task, refused)?;
    split::check_rows(examples)?;
    let (task, classes) = (text.task, text.classes.as_slice());
    let options = TrainOptions { classes: classes.len(), several: task == Task::Labels, ..options.clone() };
    let counts = counts(examples, task, classes.len(), |_| true)?;
    check_counts(task, classes, &counts, examples.rows())?;
    let parts = parts(examples, &options, task, &counts)?;
    let own = match task {
        Task::Class | Task::Labels => parts.positives.clone(),
        Task::Tags => self::counts(examples, task, classes.len(), |row| parts.is_trained(row))?,
        Task::Number { .. } | Task::Pairs | Task::Likeness => Vec::new(),
    };
    // A tag may be so rare that its rows are held out by chance.
    if let Some(class) = own.iter().position(|rows| *rows == 0 && task != Task::Tags) {
        let reason = format!("all rows of class \"{}\" are held out", classes[class]);
        return Err(Error::data(reason, "choose another split, or a smaller validation share"));
    }
    let batch_size = options.batch_size.or_else(|| Some(batch(parts.training)));
    let positive_weight = options.positive_weight;
    let balance = if positive_weight.is_none() { balance(&own) } else { Vec::new() };
    let bias = match task {
        // Balanced classes are equally likely.
        Task::Class | Task::Tags if !balance.is_empty() => vec![0.0; own.len()],
        Task::Class => parts.class_logits(),
        Task::Labels => parts.label_logits(),
        Task::Tags => logs(&own),
        Task::Number { .. } => vec![0.0],
        Task::Pairs | Task::Likeness => Vec::new(),
    };
    let task = if let Task::Number { .. } = task { number(examples, &parts)? } else { task };
    let options = TrainOptions { positive_weight, ..TrainOptions { batch_size, ..options }.filled(parts.training, 0.5) };
    Ok(Ready { task, options, parts, balance, bias })
}

/// Options that mean nothing for texts.
fn check_options(options: &TrainOptions, task: Task, refused: &[(&str, bool)]) -> Result<()> {
    if options.positive_weight.is_some_and(|weight| weight != 1.0) {
        return Err(Error::option("positive_weight", "of a text model it is NULL, which balances the classes, or 1"));
    }
    let classes = matches!(task, Task::Class | Task::Tags);
    let always = [
        ("model_type", options.model_type != ModelType::Dcnv2),
        ("metric", options.metric == Metric::Auc),
        ("positive_weight", options.positive_weight.is_none() && !classes),
        ("label_smoothing", options.label_smoothing > 0.0 && !classes && task != Task::Labels),
        ("negative_sampling", options.negative_sampling < 1.0),
        ("calibration", options.calibration != Calibrate::None),
    ];
    match always.iter().chain(refused).find(|(_, refused)| *refused) {
        Some((name, _)) => Err(Error::option(*name, "it is not for this training of a text model: leave it out")),
        None => Ok(()),
    }
}

/// The class of a row's labels.
pub(crate) fn class(labels: &[f32]) -> usize {
    labels.iter().position(|label| *label > 0.5).unwrap_or(0)
}

/// The rows of each class, or the tokens of each tag, among the rows that are wanted by their number.
fn counts(examples: &Examples, task: Task, classes: usize, wanted: impl Fn(usize) -> bool) -> Result<Vec<u64>> {
    let mut counts = vec![0; classes];
    for index in 0..examples.windows() {
        let Window { block, first, rows, start } = examples.window(index)?;
        for row in (first..first + rows).filter(|row| wanted(start - first + row)) {
            match task {
                Task::Class | Task::Labels => {
                    counts.iter_mut().zip(&block.labels[row * classes..]).for_each(|(count, label)| *count += u64::from(*label > 0.5));
                }
                Task::Tags => {
                    let bag = &block.batch.bags[1];
                    bag.ids[bag.row(row)].iter().filter(|tag| **tag > 0).for_each(|tag| counts[*tag as usize - 1] += 1);
                }
                Task::Number { .. } | Task::Pairs | Task::Likeness => {}
            }
        }
    }
    Ok(counts)
}

/// Checks that there is something to learn.
fn check_counts(task: Task, classes: &[String], counts: &[u64], rows: usize) -> Result<()> {
    let refused = |reason: String, hint: &str| Err(Error::data(reason, hint));
    let few = || counts.iter().position(|count| *count < 2);
    match task {
        Task::Class => {
            if let [_] | [] = classes {
                return refused(format!("all {rows} rows have the same label"), "training needs rows of two classes or more");
            }
            if let Some(few) = few() {
                let reason = format!("class \"{}\" has {} row", classes[few], counts[few]);
                return refused(reason, "training needs 2 rows of every class: add rows, or leave the class out");
            }
        }
        Task::Labels => {
            if counts.iter().all(|count| *count == rows as u64) {
                return refused(format!("all {rows} rows have the same labels"), "training needs rows with a label and rows without it");
            }
            if let Some(few) = few() {
                let reason = format!("label \"{}\" has {} row", classes[few], counts[few]);
                return refused(reason, "training needs 2 rows of every label: add rows, or leave the label out");
            }
        }
        Task::Tags => {
            if counts.iter().filter(|count| **count > 0).count() < 2 {
                let reason = format!("all tokens of {rows} rows have the same tag");
                return refused(reason, "training needs tokens of two tags or more, such as O and B-brand");
            }
        }
        Task::Pairs if rows < 2 => return refused(format!("there is {rows} pair"), "training needs 2 pairs of texts or more"),
        Task::Number { .. } | Task::Pairs | Task::Likeness => {}
    }
    Ok(())
}

/// Chooses the rows to hold out: of each class the same share; where a row has several labels, of those whose rarest label is the same.
fn parts(examples: &Examples, options: &TrainOptions, task: Task, counts: &[u64]) -> Result<Parts> {
    let rarest = |labels: &[f32]| {
        let own = (0..counts.len()).filter(|label| labels[*label] > 0.5);
        own.min_by_key(|label| counts[*label]).unwrap_or(counts.len())
    };
    match task {
        Task::Class => Parts::new(examples, options, counts, class),
        Task::Labels => {
            let mut strata = vec![0u64; counts.len() + 1];
            for index in 0..examples.windows() {
                let window = examples.window(index)?;
                let rows = window.block.labels[window.first * counts.len()..].chunks_exact(counts.len()).take(window.rows);
                rows.for_each(|labels| strata[rarest(labels)] += 1);
            }
            // Of one row alone nothing can be held out.
            let strata: Vec<u64> = strata.into_iter().map(|rows| if rows == 1 { 0 } else { rows }).collect();
            Parts::new(examples, options, &strata, rarest)
        }
        _ => Parts::new(examples, options, &[examples.rows() as u64], |_| 0),
    }
}

/// The mean and the scale of the numbers that are trained on.
fn number(examples: &Examples, parts: &Parts) -> Result<Task> {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for index in 0..examples.windows() {
        let Window { block, first, rows, start } = examples.window(index)?;
        for row in (first..first + rows).filter(|row| parts.is_trained(start - first + row)) {
            let value = f64::from(block.labels[row]);
            if !value.is_finite() {
                return Err(Error::data(format!("a label is {value}"), "labels must be finite numbers"));
            }
            count += 1.0;
            let off = value - mean;
            mean += off / count;
            squares += off * (value - mean);
        }
    }
    let scale = (squares / f64::max(count, 1.0)).sqrt();
    if scale <= f64::EPSILON * mean.abs() {
        return Err(Error::data(format!("all {count} rows that are trained on have the same label"), "training needs different numbers"));
    }
    Ok(Task::Number { mean, scale })
}

/// All over classes times those of the class: all classes together count the same.
fn balance(counts: &[u64]) -> Vec<f32> {
    let all: u64 = counts.iter().sum();
    counts.iter().map(|own| (all as f64 / (counts.len() as f64 * (*own).max(1) as f64)) as f32).collect()
}

/// The logarithm of each share.
fn logs(counts: &[u64]) -> Vec<f32> {
    let all = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|own| ((*own as f64).max(0.5) / all).ln() as f32).collect()
}
