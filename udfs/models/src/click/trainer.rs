//! The steps and epochs of one net.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::TensorRef;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::calibration::Calibration;
use super::options::{Metric, TrainOptions};
use super::split::Parts;
use super::{Member, Progress};
use crate::error::{Error, Result};
use crate::examples::{Block, Examples, Window};
use crate::features::encode::{Encoding, Places};
use crate::metrics;
use crate::net::{Net, Parameter, port};
use crate::optimizer::AdamW;
use crate::runtime::Runtime;
use crate::table::Table;

/// Rows per call when held-out rows are scored.
const EVALUATION_ROWS: usize = 4096;

/// First embeddings are within this of zero. Those of a factorization machine add to the logit directly and begin smaller.
const EMBEDDING_SCALE: f32 = 0.05;
const SMALL_EMBEDDING_SCALE: f32 = 0.01;

/// Where the sums of squares of the table's Adagrad begin. Its gradients are those of the sum over the rows of a step, not of their mean, so
/// this is what a row needs a handful of uses to outweigh: rare values move little.
const ACCUMULATOR: f32 = 1.0;

/// The random choices of a training, each with its own stream of the seed, so that one does not shift another.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Weights = 2,
    Table = 3,
    Order = 4,
    Dropout = 5,
    Values = 6,
    Sampling = 7,
    Search = 8,
}

pub(super) fn random(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    rng
}

type Input<'v> = (Cow<'v, str>, SessionInputValue<'v>);

pub(super) fn floats<'v>(name: &'v str, shape: &[usize], values: &'v [f32]) -> Result<Input<'v>> {
    Ok((name.into(), TensorRef::from_array_view((shape.to_vec(), values))?.into()))
}

/// What all nets of a training share.
pub(super) struct Job<'a> {
    pub(super) runtime: &'a Arc<Runtime>,
    pub(super) examples: &'a Examples,
    pub(super) parts: &'a Parts,
    pub(super) encoding: &'a Encoding,
    /// For each row of the table, how often it is used by a known value of a category.
    pub(super) uses: &'a [u32],
    pub(super) stop: &'a AtomicBool,
}

/// A net under training.
struct Trainer<'a> {
    job: &'a Job<'a>,
    options: &'a TrainOptions,
    net: Net,
    session: Session,
    evaluation: Session,
    parameters: Vec<Parameter>,
    table: Table,
    adam: AdamW,
    /// For each row of the table, the chance that a use is hidden.
    chances: Vec<f32>,
    order: ChaCha8Rng,
    dropout: ChaCha8Rng,
    values: ChaCha8Rng,
    sampling: ChaCha8Rng,
    step: usize,
    /// Steps there will be at most.
    steps: usize,
    /// Whether the table began at random.
    fresh: bool,
    scratch: Scratch,
}

/// Buffers of a step, kept between steps.
#[derive(Default)]
struct Scratch {
    places: Places,
    x: Vec<f32>,
    knots: Vec<f32>,
    history: Vec<f32>,
    labels: Vec<f32>,
    weights: Vec<f32>,
    masks: Vec<Vec<f32>>,
}

/// What the training of one net ends with.
pub(super) struct Outcome {
    pub(super) member: Member,
    /// Figures of the epoch that was kept.
    pub(super) kept: Progress,
    /// Logits of the held-out rows in that epoch, rows x tasks.
    pub(super) logits: Vec<f32>,
    /// The labels of these rows.
    pub(super) labels: Vec<f32>,
}

/// Held-out rows, scored.
#[derive(Default)]
struct Scored {
    logits: Vec<f32>,
    labels: Vec<f32>,
}

/// Trains one net and keeps its best epoch. `start` is what it starts from instead of random weights; `stamp` tells trial and member.
pub(super) fn fit(
    job: &Job<'_>,
    options: &TrainOptions,
    net: &Net,
    start: Option<&Member>,
    stamp: &Progress,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Outcome> {
    let mut trainer = Trainer::new(job, options, net, start)?;
    let mut best: Option<(f64, Outcome)> = None;
    let mut last = None;
    for epoch in 1..=options.epochs {
        let (progress, scored) = trainer.epoch(epoch, stamp)?;
        if on_epoch(&progress).is_break() {
            return Err(Error::Canceled);
        }
        // A lower figure is a better one.
        let figure = match options.metric {
            Metric::Logloss => progress.validation_loss,
            Metric::Auc => progress.validation_auc.map(|auc| -auc),
        };
        let Some(figure) = figure else {
            last = Some(progress);
            continue;
        };
        match &best {
            Some((lowest, kept)) if *lowest <= figure => {
                if options.early_stop && epoch - kept.kept.epoch >= options.patience {
                    break;
                }
            }
            _ => best = Some((figure, trainer.outcome(progress, scored))),
        }
    }
    let outcome = match (best, last) {
        (Some((_, outcome)), _) => outcome,
        (None, Some(progress)) => trainer.outcome(progress, Scored::default()),
        (None, None) => return Err(Error::option("epochs", "0 is not within 1 to 1000")),
    };
    Ok(outcome)
}

impl<'a> Trainer<'a> {
    fn new(job: &'a Job<'a>, options: &'a TrainOptions, net: &Net, start: Option<&Member>) -> Result<Self> {
        let mut base = job.parts.base_logits();
        // What the training does to the classes moves the base rate of its rows.
        base[0] -= options.correction();
        let (parameters, table) = match start {
            Some(member) => (member.parameters.clone(), Table::from_values(net.stride(), member.table.clone(), ACCUMULATOR)),
            None => (
                net.initial(&base, &mut random(options.seed, Stream::Weights)),
                first_table(job.uses.len(), net, &mut random(options.seed, Stream::Table)),
            ),
        };
        let chance = |uses: &u32| if *uses == 0 { 0.0 } else { options.value_dropout / (options.value_dropout + *uses as f32) };
        let batch = options.batch_size.unwrap_or(job.parts.training);
        let sampled = (job.parts.training as f32 * options.negative_sampling.max(f32::MIN_POSITIVE)) as usize;
        Ok(Self {
            job,
            options,
            session: job.runtime.session(&net.training_graph(options.dropout > 0.0)?.model(), options.threads)?,
            evaluation: job.runtime.session(&net.evaluation_graph()?.model(), options.threads)?,
            net: net.clone(),
            adam: AdamW::new(options.learning_rate, options.weight_decay, parameters.iter().map(|p| p.values.len())),
            parameters,
            table,
            chances: if options.value_dropout > 0.0 { job.uses.iter().map(chance).collect() } else { Vec::new() },
            order: random(options.seed, Stream::Order),
            dropout: random(options.seed, Stream::Dropout),
            values: random(options.seed, Stream::Values),
            sampling: random(options.seed, Stream::Sampling),
            step: 0,
            steps: options.epochs as usize * sampled.max(1).div_ceil(batch),
            fresh: start.is_none(),
            scratch: Scratch::default(),
        })
    }

    /// The present weights, with the figures that tell how good they are.
    fn outcome(&self, kept: Progress, scored: Scored) -> Outcome {
        let mut table = self.table.clone();
        if self.fresh {
            table.clear_untrained();
        }
        let member = Member { parameters: self.parameters.clone(), table: table.into_values() };
        Outcome { member, kept, logits: scored.logits, labels: scored.labels }
    }

    fn canceled(&self) -> Result<()> {
        if self.job.stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { Ok(()) }
    }

    fn epoch(&mut self, epoch: u32, stamp: &Progress) -> Result<(Progress, Scored)> {
        let started = Instant::now();
        let job = self.job;
        let mut windows: Vec<usize> = (0..job.examples.windows()).collect();
        windows.shuffle(&mut self.order);
        let (mut sum, mut count) = (0.0, 0);
        for window in windows {
            let Window { block, first, rows, start } = job.examples.window(window)?;
            let mut rows: Vec<u32> =
                (first..first + rows).filter(|row| !job.parts.is_held(start + row - first)).map(|row| row as u32).collect();
            self.sample(&block, &mut rows);
            rows.shuffle(&mut self.order);
            for batch in rows.chunks(self.options.batch_size.unwrap_or(rows.len().max(1))) {
                self.canceled()?;
                let loss = f64::from(self.step(&block, batch)?);
                if !loss.is_finite() {
                    return Err(Error::data(format!("the training diverged in epoch {epoch}"), "use a lower learning_rate"));
                }
                sum += loss * batch.len() as f64;
                count += batch.len();
            }
        }
        let scored = self.evaluate()?;
        let (validation_loss, validation_auc) = self.figures(&scored);
        let progress = Progress {
            epoch,
            epochs: self.options.epochs,
            rows: count as u64,
            train_loss: sum / count.max(1) as f64,
            validation_loss,
            validation_auc,
            seconds: started.elapsed().as_secs_f64(),
            ..stamp.clone()
        };
        Ok((progress, scored))
    }

    /// Leaves out negative rows, others in every epoch.
    fn sample(&mut self, block: &Block, rows: &mut Vec<u32>) {
        let share = self.options.negative_sampling;
        if share < 1.0 {
            let tasks = self.job.examples.tasks();
            let sampling = &mut self.sampling;
            rows.retain(|row| block.labels[*row as usize * tasks] > 0.5 || sampling.random::<f32>() < share);
        }
    }

    /// One step; returns the mean loss of the batch before it.
    fn step(&mut self, block: &Block, batch: &[u32]) -> Result<f32> {
        self.load(block, batch);
        let rate = self.options.rate(self.step, self.steps);
        self.step += 1;
        let (fields, stride, width) = (self.net.fields, self.net.stride(), self.net.width());
        // The gradients of a second pass against moved embeddings count as much as those of the first.
        let passes = if self.options.adversarial > 0.0 && fields > 0 { 2 } else { 1 };
        let mut loss = 0.0;
        let mut dense: Vec<Vec<f32>> = Vec::new();
        for pass in 0..passes {
            let inputs = inputs(&self.net, &self.scratch, batch.len(), &self.parameters)?;
            let outputs = self.session.run(inputs)?;
            let share = 1.0 / passes as f32;
            let scale = share * batch.len() as f32;
            let mut next = 1;
            if pass == 0 {
                loss = tensor(&outputs, 0)?[0];
            }
            let gradient = tensor(&outputs, next)?;
            next += 1;
            let uses = self.scratch.places.uses(fields, stride, width);
            self.table.add(uses.map(|(row, start, weight)| (row, start, weight * scale)), gradient);
            if self.job.encoding.knots > 0 {
                let knots = &mut self.scratch.knots;
                self.scratch.places.fold(gradient, knots, stride, width);
                let uses = self.job.encoding.unfold(knots, stride);
                self.table.add(uses.into_iter().map(|(row, start, weight)| (row, start, weight * scale)), knots);
            }
            if self.net.history_target.is_some() {
                let gradient = tensor(&outputs, next)?;
                next += 1;
                let uses = self.scratch.places.history_uses(stride);
                self.table.add(uses.map(|(row, start, weight)| (row, start, weight * scale)), gradient);
            }
            for index in 0..self.parameters.len() {
                let gradient = tensor(&outputs, next + index)?;
                match dense.get_mut(index) {
                    Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g * share),
                    None => dense.push(if passes == 1 { gradient.to_vec() } else { gradient.iter().map(|g| g * share).collect() }),
                }
            }
            if pass + 1 < passes {
                move_against(&mut self.scratch.x, gradient, width, fields * stride, self.options.adversarial);
            }
        }
        self.table.step(self.options.table_learning_rate * rate, self.options.l2);
        self.adam.learning_rate = self.options.learning_rate * rate;
        self.adam.begin();
        for (index, (parameter, gradient)) in self.parameters.iter_mut().zip(&dense).enumerate() {
            let decays = parameter.decays();
            self.adam.update(index, &mut parameter.values, gradient, decays);
        }
        Ok(loss)
    }

    /// Copies a batch into the buffers.
    fn load(&mut self, block: &Block, batch: &[u32]) {
        let options = self.options;
        self.encode(block, batch, true);
        let tasks = self.job.examples.tasks();
        let Scratch { labels, weights, masks, .. } = &mut self.scratch;
        labels.clear();
        weights.clear();
        let positive_weight = options.positive_weight.unwrap_or(1.0);
        for row in batch {
            let own = &block.labels[*row as usize * tasks..][..tasks];
            weights.push(if own[0] > 0.5 { positive_weight } else { 1.0 });
            labels.extend(own.iter().map(|label| label + options.label_smoothing * (0.5 - label)));
        }
        if options.dropout > 0.0 {
            let kept = 1.0 / (1.0 - options.dropout);
            let widths = self.net.mask_widths();
            masks.resize(widths.len(), Vec::new());
            for (mask, width) in masks.iter_mut().zip(widths) {
                mask.clear();
                let draws = (0..batch.len() * width).map(|_| self.dropout.random::<f32>());
                mask.extend(draws.map(|draw| if draw < options.dropout { 0.0 } else { kept }));
            }
        }
    }

    /// Writes the rows' embeddings and numbers into the buffers.
    fn encode(&mut self, block: &Block, rows: &[u32], training: bool) {
        let (encoding, width) = (self.job.encoding, self.net.width());
        let Scratch { places, x, knots, history, .. } = &mut self.scratch;
        encoding.places(&block.batch, rows, places);
        if training && !self.chances.is_empty() {
            encoding.hide(places, &self.chances, &mut self.values);
        }
        x.resize(rows.len() * width, 0.0);
        encoding.knots(self.table.values(), self.net.stride(), knots);
        places.gather(self.table.values(), knots, self.net.stride(), self.net.fields, x, width);
        encoding.numbers(&block.batch, rows, x, width);
        if self.net.history_target.is_some() {
            places.gather_history(self.table.values(), self.net.stride(), history);
        }
    }

    /// The logits of the held-out rows.
    fn evaluate(&mut self) -> Result<Scored> {
        let job = self.job;
        let tasks = job.examples.tasks();
        let mut scored = Scored::default();
        if job.parts.validation == 0 {
            return Ok(scored);
        }
        for index in 0..job.examples.windows() {
            let Window { block, first, rows, start } = job.examples.window(index)?;
            let held: Vec<u32> = (first..first + rows).filter(|row| job.parts.is_held(start + row - first)).map(|row| row as u32).collect();
            for rows in held.chunks(EVALUATION_ROWS) {
                self.canceled()?;
                self.encode(&block, rows, false);
                let mut inputs = features(&self.net, &self.scratch, rows.len())?;
                for parameter in &self.parameters {
                    inputs.push(floats(&parameter.name, &parameter.shape, &parameter.values)?);
                }
                let outputs = self.evaluation.run(inputs)?;
                scored.logits.extend_from_slice(tensor(&outputs, 0)?);
                scored.labels.extend(rows.iter().flat_map(|row| &block.labels[*row as usize * tasks..][..tasks]));
            }
        }
        Ok(scored)
    }

    /// Log loss and AUC of the held-out rows; of the clicks, for a net with two tasks.
    fn figures(&self, scored: &Scored) -> (Option<f64>, Option<f64>) {
        if scored.labels.is_empty() {
            return (None, None);
        }
        let tasks = self.job.examples.tasks();
        let correction = Calibration::shifted(self.options.correction());
        let probabilities: Vec<f32> = scored.logits.iter().step_by(tasks).map(|logit| correction.probability(*logit)).collect();
        let labels: Vec<f32> = scored.labels.iter().step_by(tasks).copied().collect();
        (Some(metrics::log_loss(&probabilities, &labels)), metrics::auc(&probabilities, &labels))
    }
}

/// A table of small random embeddings; first-order weights begin at zero, so that the untrained net predicts the base rate.
fn first_table(rows: usize, net: &Net, rng: &mut ChaCha8Rng) -> Table {
    let stride = net.stride();
    let scale = if net.has_first_order() { SMALL_EMBEDDING_SCALE } else { EMBEDDING_SCALE };
    let table = Table::new(rows, stride, scale, ACCUMULATOR, rng);
    if !net.has_first_order() {
        return table;
    }
    let mut values = table.into_values();
    values.chunks_exact_mut(stride).for_each(|row| row[stride - 1] = 0.0);
    Table::from_values(stride, values, ACCUMULATOR)
}

fn tensor<'o>(outputs: &'o SessionOutputs<'_>, index: usize) -> Result<&'o [f32]> {
    Ok(outputs[index].try_extract_tensor::<f32>()?.1)
}

/// The inputs of a call that depend on its rows.
fn features<'v>(net: &Net, scratch: &'v Scratch, rows: usize) -> Result<Vec<Input<'v>>> {
    let mut inputs = vec![floats(port::X, &[rows, net.width()], &scratch.x)?];
    if net.history_target.is_some() {
        let history = scratch.places.history();
        inputs.push(floats(port::HISTORY, &[rows, history.length, net.stride()], &scratch.history)?);
        inputs.push(floats(port::HISTORY_MASK, &[rows, history.length], &history.mask)?);
    }
    Ok(inputs)
}

/// All inputs of a step.
fn inputs<'v>(net: &Net, scratch: &'v Scratch, rows: usize, parameters: &'v [Parameter]) -> Result<Vec<Input<'v>>> {
    let mut inputs = features(net, scratch, rows)?;
    inputs.push(floats(port::LABELS, &[rows, scratch.labels.len() / rows], &scratch.labels)?);
    inputs.push(floats(port::ROW_WEIGHTS, &[rows, 1], &scratch.weights)?);
    for (layer, mask) in scratch.masks.iter().enumerate() {
        let mask = TensorRef::from_array_view(([rows, mask.len() / rows], mask.as_slice()))?;
        inputs.push((port::mask(layer).into(), mask.into()));
    }
    for parameter in parameters {
        inputs.push(floats(&parameter.name, &parameter.shape, &parameter.values)?);
    }
    Ok(inputs)
}

/// Moves the embeddings of every row by `length` in the direction of their gradient.
fn move_against(x: &mut [f32], gradient: &[f32], width: usize, embedded: usize, length: f32) {
    for (x, gradient) in x.chunks_exact_mut(width).zip(gradient.chunks_exact(width)) {
        let norm = gradient[..embedded].iter().map(|g| g * g).sum::<f32>().sqrt();
        if norm > 0.0 {
            x[..embedded].iter_mut().zip(gradient).for_each(|(x, g)| *x += length * g / norm);
        }
    }
}
