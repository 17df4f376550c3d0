//! A training of a text model.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::ngrams::ngrams;
use super::{Evaluation, Text};
use crate::click::model;
use crate::click::split::{self, Parts};
use crate::click::target::Target;
use crate::click::trainer::{self, Job, Outcome};
use crate::click::{Calibrate, Metric, Progress, TrainOptions, Trained, learn, search};
use crate::error::{Error, Result};
use crate::examples::Examples;
use crate::features::encode::Encoding;
use crate::features::{Bag, Batch, Column, Treatment, Values};
use crate::metrics;
use crate::net::ModelType;
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
    TrainOptions { epochs: 30, embedding_dim: 32, token_dropout: 0.7, ..TrainOptions::default() }
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

/// Trains a text model. The examples have the columns of [`columns()`] and a label for each class, of which one is 1. Else as
/// [`crate::click::train`].
///
/// Errors: [`Error::Data`] when the rows cannot be used, [`Error::InvalidOption`], [`Error::Runtime`], [`Error::Canceled`].
pub fn train(
    runtime: &Arc<Runtime>,
    examples: &Examples,
    options: &TrainOptions,
    mut text: Text,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    stop: &AtomicBool,
) -> Result<Trained> {
    options.check()?;
    check_options(options)?;
    split::check_rows(examples)?;
    let options = TrainOptions { classes: text.classes.len(), ..options.clone() };
    let strata = strata(examples, &text.classes)?;
    let parts = Parts::new(examples, &options, &strata, class)?;
    if let Some(class) = parts.positives.iter().position(|rows| *rows == 0) {
        let reason = format!("all rows of class \"{}\" are held out", text.classes[class]);
        return Err(Error::data(reason, "choose another split, or a smaller validation share"));
    }
    // Classes need no two of a kind in every step, so a few hundred texts get steps enough too.
    let batch = (parts.training / STEPS).next_power_of_two().clamp(16, 512);
    let options = TrainOptions { batch_size: options.batch_size.or(Some(batch)), ..options };
    let options = options.filled(parts.training, 0.5);
    let learned = learn(examples, &parts, &options, None)?;
    let encoding = Encoding::new(&learned.features, &learned.known, true);
    let target = Target::labels(text.classes.len());
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
    for member in 1..options.ensembles {
        let own = TrainOptions { seed: options.seed.wrapping_add(u64::from(member)), ..options.clone() };
        let stamp = Progress { trial: kept.trial, member: member + 1, ..Progress::default() };
        outcomes.push(trainer::fit(&job, &own, &net, None, &stamp, &mut on_epoch)?);
    }
    text.evaluation = evaluate(&outcomes, text.classes.len());
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

/// Options that mean nothing for classes.
fn check_options(options: &TrainOptions) -> Result<()> {
    let refused = [
        ("model_type", options.model_type != ModelType::Dcnv2),
        ("metric", options.metric == Metric::Auc),
        ("positive_weight", options.positive_weight != Some(1.0)),
        ("negative_sampling", options.negative_sampling < 1.0),
        ("calibration", options.calibration != Calibrate::None),
    ];
    match refused.into_iter().find(|(_, refused)| *refused) {
        Some((name, _)) => Err(Error::option(name, "it is not for text classification: leave it out")),
        None => Ok(()),
    }
}

/// The class of a row's labels.
pub(crate) fn class(labels: &[f32]) -> usize {
    labels.iter().position(|label| *label > 0.5).unwrap_or(0)
}

/// The rows of each class.
pub(crate) fn strata(examples: &Examples, classes: &[String]) -> Result<Vec<u64>> {
    let mut strata = vec![0; classes.len()];
    for index in 0..examples.windows() {
        let window = examples.window(index)?;
        let rows = window.block.labels[window.first * classes.len()..].chunks_exact(classes.len()).take(window.rows);
        rows.for_each(|labels| strata[class(labels)] += 1);
    }
    if let [_] | [] = classes {
        let reason = format!("all {} rows have the same label", examples.rows());
        return Err(Error::data(reason, "training needs rows of two classes or more"));
    }
    if let Some(few) = strata.iter().position(|rows| *rows < 2) {
        let reason = format!("class \"{}\" has {} row", classes[few], strata[few]);
        return Err(Error::data(reason, "training needs 2 rows of every class: add rows, or leave the class out"));
    }
    Ok(strata)
}

/// How good the mean of the nets is.
fn evaluate(outcomes: &[Outcome], classes: usize) -> Option<Evaluation> {
    let labels = outcomes.first().map(|outcome| &outcome.labels).filter(|labels| !labels.is_empty())?;
    let share = 1.0 / outcomes.len() as f32;
    let logits: Vec<f32> = (0..labels.len()).map(|at| outcomes.iter().map(|outcome| outcome.logits[at] * share).sum()).collect();
    Some(judge(&logits, labels, classes))
}

/// How good logits are, rows x classes.
pub(crate) fn judge(logits: &[f32], labels: &[f32], classes: usize) -> Evaluation {
    let rows = labels.len() / classes;
    let mut counts = vec![[0u64; 3]; classes];
    let mut right = 0;
    for (logits, labels) in logits.chunks_exact(classes).zip(labels.chunks_exact(classes)) {
        let (given, own) = (likeliest(logits), class(labels));
        right += u64::from(given == own);
        counts[own][0] += u64::from(given == own);
        counts[own][1] += 1;
        counts[given][2] += 1;
    }
    // The F1 of a class is twice its hits over its rows and the rows that got it.
    let f1 = counts.iter().map(|[hits, own, given]| 2.0 * *hits as f64 / (own + given).max(1) as f64);
    Evaluation {
        rows: rows as u64,
        logloss: metrics::class_log_loss(logits, labels, classes),
        accuracy: right as f64 / rows as f64,
        macro_f1: f1.sum::<f64>() / classes as f64,
    }
}

/// The class with the highest value, of equals the first.
fn likeliest(values: &[f32]) -> usize {
    let highest = values.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    highest.map_or(0, |(class, _)| class)
}
