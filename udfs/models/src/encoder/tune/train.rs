//! The steps and epochs of a training.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;

use super::super::config::Config;
use super::super::graph::{self, WORDS};
use super::net::{self, port};
use super::padded::{Padded, WordGradients};
use super::{Base, Tuned, feature};
use crate::click::split::{self, Parts};
use crate::click::trainer::{Stream, random};
use crate::click::{Metric, ModelType, Progress, TrainOptions};
use crate::error::{Error, Result};
use crate::examples::{Block, Examples, Window};
use crate::features::Feature;
use crate::metrics;
use crate::net::Parameter;
use crate::optimizer::{AdamW, Pace};
use crate::runtime::Runtime;
use crate::text::{Text, class, judge, strata};

/// The length of a step's gradient, at most (Pascanu et al. 2013).
const LONGEST_GRADIENT: f64 = 1.0;

/// Steps whose rows are put in order of their length together, so that little goes into padding.
const POOL: usize = 32;

/// Tokens of a call when held-out rows are scored.
const EVALUATION_TOKENS: usize = 2048;

/// A trained model that is not saved yet.
#[derive(Debug)]
pub struct Trained {
    pub(super) runtime: Arc<Runtime>,
    pub(super) text: Text,
    pub(super) features: Vec<Feature>,
    pub(super) options: TrainOptions,
    pub(super) epochs: Vec<Progress>,
    pub(super) kept: Progress,
    pub(super) rows: u64,
    /// What was trained.
    pub(super) weights: Vec<Parameter>,
    pub(super) tokenizer: Vec<u8>,
}

impl Trained {
    /// What it is.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// Figures of every epoch.
    pub fn epochs(&self) -> &[Progress] {
        &self.epochs
    }

    /// Figures of the epoch whose weights were kept.
    pub fn kept(&self) -> &Progress {
        &self.kept
    }

    /// The options of the training, with every default filled in.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }
}

/// Trains an encoder and a head. The examples have the columns of [`super::columns`] with the tokens by [`Base::read`], and a label for each class,
/// of which one is 1. Else as [`crate::click::train`].
///
/// Errors: [`Error::Data`] when the rows cannot be used, [`Error::InvalidOption`], [`Error::Runtime`], [`Error::Canceled`].
pub fn train(
    runtime: &Arc<Runtime>,
    base: &Base,
    examples: &Examples,
    options: &TrainOptions,
    mut text: Text,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    stop: &AtomicBool,
) -> Result<Trained> {
    options.check()?;
    check_options(options)?;
    base.tune.check()?;
    split::check_rows(examples)?;
    let options = TrainOptions { classes: text.classes.len(), ..options.clone() };
    let strata = strata(examples, &text.classes)?;
    let parts = Parts::new(examples, &options, &strata, class)?;
    if let Some(class) = parts.positives.iter().position(|rows| *rows == 0) {
        let reason = format!("all rows of class \"{}\" are held out", text.classes[class]);
        return Err(Error::data(reason, "choose another split, or a smaller validation share"));
    }
    let batch = if parts.training < 2048 { 16 } else { 32 };
    let options = TrainOptions { batch_size: options.batch_size.or(Some(batch)), ..options }.filled(parts.training, 0.5);
    let mut trainer = Trainer::new(runtime, base, examples, &parts, &options, stop)?;
    let mut epochs = Vec::new();
    let mut best: Option<(f64, Kept)> = None;
    for epoch in 1..=options.epochs {
        let (progress, logits, labels) = trainer.epoch(epoch)?;
        epochs.push(progress.clone());
        if on_epoch(&progress).is_break() {
            return Err(Error::Canceled);
        }
        // Without held-out rows the last epoch is the best one.
        let figure = progress.validation_loss.unwrap_or(-f64::from(epoch));
        match &best {
            Some((lowest, kept)) if *lowest <= figure => {
                if options.early_stop && epoch - kept.progress.epoch >= options.patience {
                    break;
                }
            }
            _ => best = Some((figure, Kept { weights: trainer.trained(), progress, logits, labels })),
        }
    }
    let Some((_, kept)) = best else { return Err(Error::option("epochs", "0 is not within 1 to 1000")) };
    let config = base.encoder.config().clone();
    let own: usize = kept.weights.iter().map(|weight| weight.values.len()).sum();
    text.evaluation = (!kept.labels.is_empty()).then(|| judge(&kept.logits, &kept.labels, text.classes.len()));
    text.tuned = Some(Box::new(Tuned {
        tune: base.tune.clone(),
        base_sha256: base.encoder.source_sha256().to_owned(),
        trainable: own as u64,
        parameters: trainer.parameters(),
        facts: base.facts.clone(),
        config,
    }));
    Ok(Trained {
        runtime: Arc::clone(runtime),
        text,
        features: examples.columns.iter().map(|column| feature(column, &base.facts)).collect(),
        options: options.clone(),
        epochs,
        kept: kept.progress,
        rows: examples.rows() as u64,
        weights: kept.weights,
        tokenizer: base.encoder.tokenizer()?,
    })
}

/// What is kept of the best epoch.
struct Kept {
    weights: Vec<Parameter>,
    progress: Progress,
    logits: Vec<f32>,
    labels: Vec<f32>,
}

/// Options that mean nothing here.
fn check_options(options: &TrainOptions) -> Result<()> {
    let refused = [
        ("model_type", options.model_type != ModelType::Dcnv2),
        ("metric", options.metric == Metric::Auc),
        ("positive_weight", options.positive_weight != Some(1.0)),
        ("negative_sampling", options.negative_sampling < 1.0),
        ("calibration", options.calibration != crate::click::Calibrate::None),
        ("adversarial", options.adversarial > 0.0),
        ("ensembles", options.ensembles != 1),
        ("trials", options.trials != 1),
    ];
    match refused.into_iter().find(|(_, refused)| *refused) {
        Some((name, _)) => Err(Error::option(name, "it is not for the training of an encoder: leave it out")),
        None => Ok(()),
    }
}

/// An encoder under training.
struct Trainer<'a> {
    base: &'a Base,
    examples: &'a Examples,
    parts: &'a Parts,
    options: &'a TrainOptions,
    stop: &'a AtomicBool,
    config: Config,
    training: Session,
    scoring: Session,
    /// All weights that the graph takes, and whether they are trained.
    weights: Vec<(Parameter, bool)>,
    words: Parameter,
    masks: Vec<usize>,
    adam: AdamW,
    order: ChaCha8Rng,
    choices: ChaCha8Rng,
    step: usize,
    steps: usize,
    /// Buffers that are kept between steps.
    padded: Padded,
    sums: WordGradients,
    labels: Vec<f32>,
    dropped: Vec<Vec<f32>>,
}

impl<'a> Trainer<'a> {
    fn new(
        runtime: &Arc<Runtime>,
        base: &'a Base,
        examples: &'a Examples,
        parts: &'a Parts,
        options: &'a TrainOptions,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let (tune, config) = (&base.tune, base.encoder.config().clone());
        let mut found = base.encoder.weights()?;
        let words = found.iter().position(|weight| weight.name == WORDS).ok_or_else(|| Error::graph("an encoder without words"))?;
        let words = found.swap_remove(words);
        let net::Training { graph, weights, masks } = net::training(&config, tune, options.classes, options.dropout > 0.0)?;
        let mut rng = random(options.seed, Stream::Weights);
        let mut weight = |weight: net::Weight| -> (Parameter, bool) {
            let net::Weight { name, shape, trained } = weight;
            let known = found.iter().position(|known| known.name == name).map(|place| found.swap_remove(place).values);
            let values = known.unwrap_or_else(|| first(&name, &shape, parts, &mut rng));
            (Parameter { name, shape, values }, trained)
        };
        let weights: Vec<(Parameter, bool)> = weights.into_iter().map(&mut weight).collect();
        let mut lengths: Vec<usize> = weights.iter().filter(|(_, trained)| *trained).map(|(weight, _)| weight.values.len()).collect();
        lengths.extend(net::trains_words(tune).then_some(words.values.len()));
        let threads = options.threads.max(1);
        Ok(Self {
            training: runtime.session_for_training(&graph.model(), threads)?,
            scoring: runtime.session_for_training(&net::evaluation(&config, tune, options.classes)?.model(), threads)?,
            adam: AdamW::new(options.learning_rate, options.weight_decay, lengths),
            order: random(options.seed, Stream::Order),
            choices: random(options.seed, Stream::Choices),
            step: 0,
            steps: options.epochs as usize * parts.training.div_ceil(options.batch_size.unwrap_or(1)),
            padded: Padded::default(),
            sums: WordGradients::default(),
            labels: Vec::new(),
            dropped: Vec::new(),
            base,
            examples,
            parts,
            options,
            stop,
            config,
            weights,
            words,
            masks,
        })
    }

    /// All weights, of the encoder and the head, but for the changes, which become part of the encoder's.
    fn parameters(&self) -> u64 {
        let all = self.weights.iter().map(|(weight, _)| weight.values.len()).sum::<usize>() + self.words.values.len();
        all as u64
    }

    /// The weights that are trained, as they are now.
    fn trained(&self) -> Vec<Parameter> {
        let words = net::trains_words(&self.base.tune).then(|| self.words.clone());
        words.into_iter().chain(self.weights.iter().filter(|(_, trained)| *trained).map(|(weight, _)| weight.clone())).collect()
    }

    fn canceled(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { Ok(()) }
    }

    /// One pass over the rows; gives its figures, and the logits and labels of the held-out rows.
    fn epoch(&mut self, epoch: u32) -> Result<(Progress, Vec<f32>, Vec<f32>)> {
        let started = Instant::now();
        let (examples, size) = (self.examples, self.options.batch_size.unwrap_or(1));
        let mut windows: Vec<usize> = (0..examples.windows()).collect();
        windows.shuffle(&mut self.order);
        let (mut sum, mut count) = (0.0, 0);
        for window in windows {
            let Window { block, first, rows, start } = examples.window(window)?;
            let before = start - first;
            let mut rows: Vec<u32> =
                (first..first + rows).filter(|row| self.parts.is_trained(before + row)).map(|row| row as u32).collect();
            rows.shuffle(&mut self.order);
            for pool in rows.chunks_mut(size * POOL) {
                pool.sort_by_key(|row| length(&block, *row));
            }
            let mut batches: Vec<&[u32]> = rows.chunks(size).collect();
            batches.shuffle(&mut self.order);
            for batch in batches {
                self.canceled()?;
                let loss = self.step(&block, batch)?;
                if !loss.is_finite() {
                    return Err(Error::data(format!("the training diverged in epoch {epoch}"), "use a lower learning_rate"));
                }
                sum += loss * batch.len() as f64;
                count += batch.len();
            }
        }
        let (logits, labels) = self.score()?;
        let validation_loss = (!labels.is_empty()).then(|| metrics::class_log_loss(&logits, &labels, self.options.classes));
        let progress = Progress {
            trial: 1,
            member: 1,
            epoch,
            epochs: self.options.epochs,
            rows: count as u64,
            train_loss: sum / count.max(1) as f64,
            validation_loss,
            seconds: started.elapsed().as_secs_f64(),
            ..Progress::default()
        };
        Ok((progress, logits, labels))
    }

    /// One step; returns the mean loss of the batch before it.
    fn step(&mut self, block: &Block, batch: &[u32]) -> Result<f64> {
        let (options, hidden) = (self.options, self.config.hidden);
        let pace = options.rate(self.step, self.steps);
        self.step += 1;
        self.padded.fill(block, batch, &self.words.values, &self.base.facts, hidden);
        self.label(block, batch);
        self.drop_out();
        let Self { training, weights, words, adam, padded, sums, labels, dropped, base: Base { tune, .. }, .. } = self;
        let [rows, longest] = padded.shape();
        let share = vec![1.0 / rows as f32; rows];
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            padded.inputs(hidden)?.into_iter().map(|(name, value)| (name.into(), value)).collect();
        inputs.push((port::LABELS.into(), TensorRef::from_array_view(([rows, options.classes], labels.as_slice()))?.into()));
        inputs.push((port::ROW_WEIGHTS.into(), TensorRef::from_array_view(([rows, 1], share.as_slice()))?.into()));
        if let Some((pooled, masks)) = dropped.split_last() {
            inputs.push((port::POOLED.into(), TensorRef::from_array_view(([rows, hidden], pooled.as_slice()))?.into()));
            for (number, (mask, width)) in masks.iter().zip(&self.masks).enumerate() {
                inputs.push((graph::mask(number).into(), TensorRef::from_array_view(([rows, longest, *width], mask.as_slice()))?.into()));
            }
        }
        for (weight, _) in &*weights {
            inputs
                .push((weight.name.as_str().into(), TensorRef::from_array_view((weight.shape.clone(), weight.values.as_slice()))?.into()));
        }
        let outputs = training.run(inputs)?;
        let found = (0..outputs.len()).map(|place| Ok(outputs[place].try_extract_tensor::<f32>()?.1)).collect::<Result<Vec<&[f32]>>>()?;
        let Some(([loss], mut gradients)) = found.split_first().map(|(loss, rest)| (*loss, rest)) else {
            return Err(Error::graph("a step without a loss"));
        };
        if net::trains_words(tune)
            && let Some((last, rest)) = gradients.split_last()
        {
            sums.sum(padded, last, hidden);
            gradients = rest;
        }
        let square = gradients.iter().map(|gradient| square(gradient)).sum::<f64>() + square(&sums.values);
        let factor = (LONGEST_GRADIENT / square.sqrt()).min(1.0) as f32;
        adam.learning_rate = options.learning_rate * pace;
        adam.begin();
        let trained = weights.iter_mut().filter(|(_, trained)| *trained);
        for (index, ((weight, _), gradient)) in trained.zip(gradients).enumerate() {
            let rate = if port::HEAD.contains(&weight.name.as_str()) { tune.head_rate() } else { 1.0 };
            let pace = Pace { decay: weight.decays(), gradient: factor, rate };
            adam.update_all(index, &mut weight.values, gradient, pace);
        }
        if net::trains_words(tune) {
            let pace = Pace { gradient: factor, ..Pace::default() };
            adam.update_rows(gradients.len(), &mut words.values, &sums.tokens, &sums.values, pace);
        }
        Ok(f64::from(*loss))
    }

    /// The labels of a batch, moved a share of the way to one over the number of classes (Szegedy et al. 2016).
    fn label(&mut self, block: &Block, batch: &[u32]) {
        let TrainOptions { classes, label_smoothing: smoothing, .. } = *self.options;
        let own = batch.iter().flat_map(|row| &block.labels[*row as usize * classes..][..classes]);
        self.labels.clear();
        self.labels.extend(own.map(|label| label * (1.0 - smoothing) + smoothing / classes as f32));
    }

    /// Chooses what is left out: of the inputs of the changes, and at last of the vectors of texts.
    fn drop_out(&mut self) {
        let dropout = self.options.dropout;
        if dropout <= 0.0 {
            return;
        }
        let [rows, longest] = self.padded.shape();
        let sizes: Vec<usize> = self.masks.iter().map(|width| rows * longest * width).chain([rows * self.config.hidden]).collect();
        self.dropped.resize_with(sizes.len(), Vec::new);
        // A value is left out where a number of 16 bits is below this.
        let below = (dropout * 65536.0) as u16;
        let kept = 1.0 / (1.0 - dropout);
        for (mask, size) in self.dropped.iter_mut().zip(sizes) {
            mask.clear();
            while mask.len() < size {
                let drawn: u64 = self.choices.random();
                let four = [0, 16, 32, 48].map(|shift| if ((drawn >> shift) as u16) < below { 0.0 } else { kept });
                mask.extend_from_slice(&four[..four.len().min(size - mask.len())]);
            }
        }
    }

    /// The logits and labels of the held-out rows, in their order.
    fn score(&mut self) -> Result<(Vec<f32>, Vec<f32>)> {
        let (examples, classes, hidden) = (self.examples, self.options.classes, self.config.hidden);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for index in 0..examples.windows() {
            let Window { block, first, rows, start } = examples.window(index)?;
            let held: Vec<u32> =
                (first..first + rows).filter(|row| self.parts.is_held(start - first + row)).map(|row| row as u32).collect();
            labels.extend(held.iter().flat_map(|row| &block.labels[*row as usize * classes..][..classes]));
            let from = logits.len();
            logits.resize(from + held.len() * classes, 0.0);
            let mut order: Vec<usize> = (0..held.len()).collect();
            order.sort_by_key(|place| length(&block, held[*place]));
            let mut rest = order.as_slice();
            while !rest.is_empty() {
                self.canceled()?;
                // Sorted by length, so the last one of a call is its longest.
                let fits = |count: &usize| *count * length(&block, held[rest[*count - 1]]) <= EVALUATION_TOKENS;
                let (now, later) = rest.split_at((1..=rest.len()).take_while(fits).last().unwrap_or(1));
                rest = later;
                let rows: Vec<u32> = now.iter().map(|place| held[*place]).collect();
                self.padded.fill(&block, &rows, &self.words.values, &self.base.facts, hidden);
                let Self { scoring, weights, padded, .. } = self;
                let mut inputs = padded.inputs(hidden)?;
                for (weight, _) in &*weights {
                    let value = TensorRef::from_array_view((weight.shape.clone(), weight.values.as_slice()))?;
                    inputs.push((weight.name.as_str(), value.into()));
                }
                let outputs = scoring.run(inputs)?;
                let (_, found) = outputs[0].try_extract_tensor::<f32>()?;
                for (place, found) in now.iter().zip(found.chunks_exact(classes)) {
                    logits[from + place * classes..][..classes].copy_from_slice(found);
                }
            }
        }
        Ok((logits, labels))
    }
}

/// The tokens of a row.
fn length(block: &Block, row: u32) -> usize {
    block.batch.bags[0].row(row as usize).len()
}

/// The sum of squares, the same on any number of cores.
fn square(values: &[f32]) -> f64 {
    let parts: Vec<f64> = values.par_chunks(1 << 16).map(|part| f64::from(part.iter().map(|value| value * value).sum::<f32>())).collect();
    parts.into_iter().sum()
}

/// First weights of what an encoder does not have. The head gives the shares of the classes; a change begins as none, with A even within 1/sqrt(inputs)
/// of 0.
fn first(name: &str, shape: &[usize], parts: &Parts, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let count = shape.iter().product();
    match name {
        _ if name == port::HEAD[1] => parts.class_logits(),
        _ if name.ends_with(".lora_A") => {
            let scale = 1.0 / (shape[1] as f32).sqrt();
            (0..count).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * scale).collect()
        }
        _ => vec![0.0; count],
    }
}
