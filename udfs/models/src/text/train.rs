//! A training of a text model.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::ngrams::ngrams;
use super::ready::{Ready, ready};
use super::{Held, Task, Text, judge, linear};
use crate::click::model;
use crate::click::target::Target;
use crate::click::trainer::{self, Job, Outcome};
use crate::click::{Progress, TrainOptions, Trained, learn, search};
use crate::error::Result;
use crate::examples::{Examples, Window};
use crate::features::encode::Encoding;
use crate::features::{Bag, Batch, Column, Treatment, Values};
use crate::registry::Kind;
use crate::runtime::Runtime;

/// The steps of an epoch, at least, where the number of rows allows.
const STEPS: usize = 64;

/// The columns of the examples: of n-grams, or with `dimension` the numbers of vectors. `name` is that of the texts.
pub fn columns(name: &str, dimension: Option<usize>) -> Vec<Column> {
    match dimension {
        None => vec![Column { treatment: Some(Treatment::Ngrams), ..Column::new(name, "text", Values::Tokens) }],
        Some(dimension) => {
            vec![Column { treatment: Some(Treatment::Standard), ..Column::new(name, "real[]", Values::Number) }; dimension]
        }
    }
}

/// The options of a training that suit n-grams. Most of a text is left out in a step, so that no few of its n-grams tell all by themselves.
pub fn usual() -> TrainOptions {
    TrainOptions { epochs: 30, embedding_dim: 32, token_dropout: 0.85, ensembles: 5, ..TrainOptions::default() }
}

/// The n-grams of texts, and of how many only the beginning was read.
pub fn grams<'t>(texts: impl IntoIterator<Item = &'t str>) -> (Batch, u64) {
    let (mut bag, mut truncated) = (Bag::default(), 0);
    for text in texts {
        truncated += u64::from(ngrams(text, &mut bag.ids));
        bag.end_row();
    }
    (Batch { rows: bag.offsets.len() - 1, bags: vec![bag], ..Batch::default() }, truncated)
}

/// The vectors of texts.
pub fn numbers<'v>(vectors: impl IntoIterator<Item = &'v [f32]>) -> Batch {
    let mut batch = Batch::default();
    for vector in vectors {
        batch.numbers.extend_from_slice(vector);
        batch.rows += 1;
    }
    batch
}

/// Trains a text model of a class, of labels or of a number. The examples have the columns of [`columns()`], and a label for each class, of which one or,
/// for labels, any is 1; or the number. Else as [`crate::click::train`].
///
/// Errors: those of [`crate::click::train`].
pub fn train(
    runtime: &Arc<Runtime>,
    examples: &Examples,
    options: &TrainOptions,
    mut text: Text,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    stop: &AtomicBool,
) -> Result<Trained> {
    // Classes need no two of a kind in every step, so a few hundred texts get steps enough too.
    let batch = |rows: usize| (rows / STEPS).next_power_of_two().clamp(16, 512);
    let refused = [("task", matches!(text.task, Task::Tags | Task::Pairs | Task::Likeness))];
    let Ready { task, options, parts, balance, .. } = ready(examples, options, &text, &refused, batch)?;
    text.task = task;
    let learned = learn(examples, &parts, &options, None)?;
    let encoding = Encoding::new(&learned.features, &learned.known, true);
    let numbers = if let Task::Number { mean, scale } = task { standardised(examples, mean, scale)? } else { Vec::new() };
    let target = match task {
        Task::Number { .. } => Target::numbers(&numbers, &[]),
        Task::Labels => Target::labels(text.classes.len()),
        _ => Target::classes(text.classes.len(), &balance),
    };
    let job = Job { runtime, examples, parts: &parts, target, encoding: &encoding, uses: &learned.uses, stop };
    let mut epochs = Vec::new();
    let mut on_epoch = |progress: &Progress| {
        epochs.push(progress.clone());
        on_epoch(progress)
    };
    let (best, trials, first) = search::best(&job, &options, &[], None, &mut on_epoch)?;
    let options = trials[best].clone();
    let net = model::net(&encoding, &options);
    let kept = first.kept.clone();
    let mut outcomes = vec![first];
    let linear = linear::fits(&net, &options);
    for member in 1..options.ensembles - u32::from(linear) {
        let own = TrainOptions { seed: options.seed.wrapping_add(u64::from(member)), ..options.clone() };
        let stamp = Progress { trial: kept.trial, member: member + 1, ..Progress::default() };
        outcomes.push(trainer::fit(&job, &own, &net, None, &stamp, &mut on_epoch)?);
    }
    if linear {
        linear::join(&job, &net, &options, task, &mut outcomes)?;
    }
    let labels = match (task, outcomes.first()) {
        (Task::Number { mean, scale }, Some(first)) => first.labels.iter().map(|label| (f64::from(*label) * scale + mean) as f32).collect(),
        (_, first) => first.map(|first| first.labels.clone()).unwrap_or_default(),
    };
    text.evaluation = judge(task, &text.classes, &held(&outcomes, labels));
    Ok(Trained {
        runtime: Arc::clone(runtime),
        net,
        features: learned.features,
        texts: BTreeMap::new(),
        weights: model::Weights { known: learned.known, members: outcomes.into_iter().map(|outcome| outcome.member).collect() },
        calibration: Vec::new(),
        options,
        trials,
        epochs,
        kept,
        evaluation: None,
        leaks: Vec::new(),
        parent: None,
        rows: examples.rows() as u64,
        positives: 0,
        kind: Kind::Text(text),
    })
}

/// What the mean of the nets gives for the held-out rows.
pub(super) fn held(outcomes: &[Outcome], labels: Vec<f32>) -> Held {
    let share = 1.0 / outcomes.len() as f32;
    let count = outcomes.first().map_or(0, |outcome| outcome.logits.len());
    let values = (0..count).map(|at| outcomes.iter().map(|outcome| outcome.logits[at] * share).sum()).collect();
    Held { values, labels, tokens: Vec::new() }
}

/// The standardised numbers of all rows.
fn standardised(examples: &Examples, mean: f64, scale: f64) -> Result<Vec<f32>> {
    let mut values = Vec::with_capacity(examples.rows());
    for index in 0..examples.windows() {
        let Window { block, first, rows, .. } = examples.window(index)?;
        values.extend(block.labels[first..first + rows].iter().map(|label| ((f64::from(*label) - mean) / scale) as f32));
    }
    Ok(values)
}
