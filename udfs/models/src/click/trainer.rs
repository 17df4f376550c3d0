//! The steps and epochs of one net.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::slice::ParallelSlice;

use super::calibration::Calibration;
use super::options::{Metric, TrainOptions};
use super::piece::{self, Piece, Step, Treatment};
use super::split::Parts;
use super::target::Target;
use super::{Member, Progress};
use crate::error::{Error, Result};
use crate::examples::{Block, Examples, Window};
use crate::features::encode::Encoding;
use crate::metrics;
use crate::net::{Net, Output, Parameter};
use crate::optimizer::AdamW;
use crate::runtime::{Runtime, SessionPool};
use crate::table::{Table, Uses};

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
pub(crate) enum Stream {
    Weights = 2,
    Table = 3,
    Order = 4,
    Choices = 5,
    Sampling = 7,
    Search = 8,
}

pub(crate) fn random(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    rng
}

/// What all nets of a training share.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) runtime: &'a Arc<Runtime>,
    pub(crate) examples: &'a Examples,
    pub(crate) parts: &'a Parts,
    pub(crate) target: Target<'a>,
    pub(crate) encoding: &'a Encoding,
    /// For each row of the table, how often it is used by a known value of a category.
    pub(crate) uses: &'a [u32],
    pub(crate) stop: &'a AtomicBool,
}

impl Job<'_> {
    fn canceled(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { Ok(()) }
    }
}

/// A net under training.
struct Trainer<'a> {
    job: &'a Job<'a>,
    options: &'a TrainOptions,
    net: Net,
    training: SessionPool,
    evaluation: SessionPool,
    pool: ThreadPool,
    /// Whether a batch goes to the device as a whole.
    whole: bool,
    parameters: Vec<Parameter>,
    table: Table,
    adam: AdamW,
    /// For each row of the table, the chance that a use is hidden.
    chances: Vec<f32>,
    order: ChaCha8Rng,
    /// The seeds of what is random in a step.
    choices: ChaCha8Rng,
    sampling: ChaCha8Rng,
    step: usize,
    /// Steps there will be at most.
    steps: usize,
    /// Whether the table began at random.
    fresh: bool,
    /// Buffers that are kept between steps.
    pieces: Vec<Piece>,
    knots: Vec<f32>,
}

/// What the training of one net ends with.
pub(crate) struct Outcome {
    pub(crate) member: Member,
    /// Figures of the epoch that was kept.
    pub(crate) kept: Progress,
    /// Logits of the held-out rows in that epoch, rows x tasks.
    pub(crate) logits: Vec<f32>,
    /// The labels of these rows.
    pub(crate) labels: Vec<f32>,
}

/// Rows that were scored.
#[derive(Default)]
struct Scored {
    /// rows x tasks.
    logits: Vec<f32>,
    labels: Vec<f32>,
    /// How much each row counts.
    weights: Vec<f32>,
}

/// A net with the weights that it has at the moment.
struct Scoring<'a> {
    job: &'a Job<'a>,
    net: &'a Net,
    table: &'a Table,
    knots: &'a [f32],
    parameters: &'a [Parameter],
    sessions: &'a SessionPool,
    pool: &'a ThreadPool,
    /// Whether a batch goes to the device as a whole.
    whole: bool,
}

impl Scoring<'_> {
    /// Scores the rows (by their number among all) that are wanted, in their order.
    fn score(&self, wanted: impl Fn(usize) -> bool, pieces: &mut Vec<Piece>) -> Result<Scored> {
        let job = self.job;
        let mut scored = Scored::default();
        for index in 0..job.examples.windows() {
            let Window { block, first, rows, start } = job.examples.window(index)?;
            let before = start - first;
            let chosen: Vec<u32> = (first..first + rows).filter(|row| wanted(before + row)).map(|row| row as u32).collect();
            for rows in chosen.chunks(EVALUATION_ROWS) {
                job.canceled()?;
                let length = piece::length(rows.len(), self.whole);
                pieces.resize_with(rows.len().div_ceil(length), Piece::default);
                let shared = self.step(&block, before);
                let score = |(piece, rows): (&mut Piece, &[u32])| piece.score(&shared, rows);
                self.pool.install(|| pieces.par_iter_mut().zip(rows.par_chunks(length)).try_for_each(score))?;
                pieces.iter().for_each(|piece| scored.logits.extend_from_slice(&piece.logits));
                for (labels, weight) in rows.iter().map(|row| job.target.of(&block, before, *row)) {
                    scored.labels.extend_from_slice(labels);
                    scored.weights.push(weight);
                }
            }
        }
        Ok(scored)
    }

    fn step<'s>(&'s self, block: &'s Block, before: usize) -> Step<'s> {
        Step {
            net: self.net,
            encoding: self.job.encoding,
            block,
            before,
            target: self.job.target,
            table: self.table,
            knots: self.knots,
            parameters: self.parameters,
            sessions: self.sessions,
        }
    }
}

/// The mean logits of trained nets, rows x tasks, for the rows (by their number among all) that are wanted, in their order.
pub(crate) fn logits(job: &Job<'_>, net: &Net, members: &[Member], count: usize, wanted: impl Fn(usize) -> bool) -> Result<Vec<f32>> {
    let sessions = SessionPool::new(Arc::clone(job.runtime), net.evaluation_graph()?.model())?;
    let (pool, whole) = (threads(count)?, !job.runtime.is_cpu());
    let share = 1.0 / members.len() as f32;
    let (mut sums, mut pieces) = (Vec::new(), Vec::new());
    for member in members {
        let table = Table::from_values(net.stride(), member.table.clone(), ACCUMULATOR);
        let mut knots = Vec::new();
        job.encoding.knots(table.values(), net.stride(), &mut knots);
        let (table, knots, parameters) = (&table, knots.as_slice(), member.parameters.as_slice());
        let scoring = Scoring { job, net, table, knots, parameters, sessions: &sessions, pool: &pool, whole };
        let scored = scoring.score(&wanted, &mut pieces)?;
        sums.resize(scored.logits.len(), 0.0);
        sums.iter_mut().zip(&scored.logits).for_each(|(sum, logit)| *sum += logit * share);
    }
    Ok(sums)
}

/// Trains one net and keeps its best epoch. `start` is what it starts from instead of random weights; `stamp` tells trial and member.
pub(crate) fn fit(
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
        let base = match job.target.output {
            _ if net.several => job.parts.label_logits(),
            // Balanced classes are equally likely.
            _ if net.classes > 0 && !job.target.balance.is_empty() => vec![0.0; net.classes],
            _ if net.classes > 0 => job.parts.class_logits(),
            Output::Probability => {
                let mut base = job.parts.base_logits();
                // What the training does to the classes moves the base rate of its rows.
                base[0] -= options.correction();
                base
            }
            // Numbers are standardised.
            Output::Number => vec![0.0],
        };
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
            training: SessionPool::new(Arc::clone(job.runtime), net.training_graph(options.dropout > 0.0, job.target.output)?.model())?,
            evaluation: SessionPool::new(Arc::clone(job.runtime), net.evaluation_graph()?.model())?,
            pool: threads(options.threads)?,
            whole: !job.runtime.is_cpu(),
            net: net.clone(),
            adam: AdamW::new(options.learning_rate, options.weight_decay, parameters.iter().map(|p| p.values.len())),
            parameters,
            table,
            chances: if options.value_dropout > 0.0 { job.uses.iter().map(chance).collect() } else { Vec::new() },
            order: random(options.seed, Stream::Order),
            choices: random(options.seed, Stream::Choices),
            sampling: random(options.seed, Stream::Sampling),
            step: 0,
            steps: options.epochs as usize * sampled.max(1).div_ceil(batch),
            fresh: start.is_none(),
            pieces: Vec::new(),
            knots: Vec::new(),
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

    fn epoch(&mut self, epoch: u32, stamp: &Progress) -> Result<(Progress, Scored)> {
        let started = Instant::now();
        let job = self.job;
        let mut windows: Vec<usize> = (0..job.examples.windows()).collect();
        windows.shuffle(&mut self.order);
        let (mut sum, mut count) = (0.0, 0);
        for window in windows {
            let Window { block, first, rows, start } = job.examples.window(window)?;
            let before = start - first;
            let mut rows: Vec<u32> = (first..first + rows).filter(|row| job.parts.is_trained(before + row)).map(|row| row as u32).collect();
            self.sample(&block, before, &mut rows);
            rows.shuffle(&mut self.order);
            for batch in rows.chunks(self.options.batch_size.unwrap_or(rows.len().max(1))) {
                job.canceled()?;
                let loss = f64::from(self.step(&block, before, batch)?);
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
    fn sample(&mut self, block: &Block, before: usize, rows: &mut Vec<u32>) {
        let share = self.options.negative_sampling;
        if share < 1.0 {
            let (target, sampling) = (self.job.target, &mut self.sampling);
            rows.retain(|row| target.of(block, before, *row).0[0] > 0.5 || sampling.random::<f32>() < share);
        }
    }

    /// One step; returns the mean loss of the batch before it.
    fn step(&mut self, block: &Block, before: usize, batch: &[u32]) -> Result<f32> {
        let options = self.options;
        let rate = options.rate(self.step, self.steps);
        self.step += 1;
        let length = piece::length(batch.len(), self.whole);
        let mut pieces = self.pieces(batch.len().div_ceil(length));
        pieces.iter_mut().for_each(|piece| piece.seed = self.choices.random());
        let how = Treatment {
            rows: batch.len(),
            positive_weight: options.positive_weight.unwrap_or(1.0),
            label_smoothing: options.label_smoothing,
            dropout: options.dropout,
            adversarial: options.adversarial,
            chances: &self.chances,
            token_dropout: self.options.token_dropout,
        };
        let scoring = self.scoring(&self.training);
        let shared = scoring.step(block, before);
        let learn = |(piece, rows): (&mut Piece, &[u32])| piece.learn(&shared, &how, rows);
        self.pool.install(|| pieces.par_iter_mut().zip(batch.par_chunks(length)).try_for_each(learn))?;

        let Some((first, others)) = pieces.split_first_mut() else { return Ok(0.0) };
        for piece in &*others {
            first.loss += piece.loss;
            first.knots.iter_mut().zip(&piece.knots).for_each(|(sum, g)| *sum += g);
        }
        let bins = self.job.encoding.unfold(&mut first.knots, self.net.stride());
        self.adam.learning_rate = options.learning_rate * rate;
        self.pool.install(|| {
            first.dense.par_iter_mut().enumerate().for_each(|(index, sum)| {
                for piece in &*others {
                    sum.iter_mut().zip(&piece.dense[index]).for_each(|(sum, g)| *sum += g);
                }
            });
            let first = &*first;
            let mut uses: Vec<Uses<'_>> = first.uses().chain(others.iter().flat_map(Piece::uses)).collect();
            uses.push((&bins, &first.knots));
            self.table.step(&uses, options.table_learning_rate * rate, options.l2);
        });
        self.adam.begin();
        for (index, (parameter, gradient)) in self.parameters.iter_mut().zip(&first.dense).enumerate() {
            let decays = parameter.decays();
            self.adam.update(index, &mut parameter.values, gradient, decays);
        }
        let loss = first.loss;
        self.pieces = pieces;
        Ok(loss)
    }

    /// The buffers of this many pieces, and the present embeddings of the knots.
    fn pieces(&mut self, count: usize) -> Vec<Piece> {
        self.job.encoding.knots(self.table.values(), self.net.stride(), &mut self.knots);
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.resize_with(count, Piece::default);
        pieces
    }

    fn scoring<'s>(&'s self, sessions: &'s SessionPool) -> Scoring<'s> {
        let Self { job, net, table, knots, parameters, pool, whole, .. } = self;
        Scoring { job, net, table, knots, parameters, sessions, pool, whole: *whole }
    }

    /// The logits of the held-out rows.
    fn evaluate(&mut self) -> Result<Scored> {
        let parts = self.job.parts;
        if parts.validation == 0 {
            return Ok(Scored::default());
        }
        let mut pieces = self.pieces(self.pieces.len());
        let scored = self.scoring(&self.evaluation).score(|row| parts.is_held(row), &mut pieces)?;
        self.pieces = pieces;
        Ok(scored)
    }

    /// Log loss and AUC of the held-out rows; of the clicks, for a net with two tasks. For numbers the mean squared error.
    fn figures(&self, scored: &Scored) -> (Option<f64>, Option<f64>) {
        if scored.labels.is_empty() {
            return (None, None);
        }
        if self.net.several {
            return (Some(metrics::label_log_loss(&scored.logits, &scored.labels)), None);
        }
        if self.net.classes > 0 {
            return (Some(metrics::class_log_loss(&scored.logits, &scored.labels, self.net.classes, self.job.target.balance)), None);
        }
        if self.job.target.output == Output::Number {
            return (Some(metrics::squared_error(&scored.logits, &scored.labels, &scored.weights)), None);
        }
        let tasks = self.job.target.tasks;
        let correction = Calibration::shifted(self.options.correction());
        let probabilities: Vec<f32> = scored.logits.iter().step_by(tasks).map(|logit| correction.probability(*logit)).collect();
        let labels: Vec<f32> = scored.labels.iter().step_by(tasks).copied().collect();
        (Some(metrics::log_loss(&probabilities, &labels)), metrics::auc(&probabilities, &labels))
    }
}

/// As many threads as an option says.
pub(crate) fn threads(count: usize) -> Result<ThreadPool> {
    let name = |number| format!("train-{number}");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(name).build();
    pool.map_err(|e| Error::Runtime { reason: format!("the threads of the training cannot be started: {e}") })
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
