//! The steps of a training.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::super::Facts;
use super::frozen::Frozen;
use super::net::{self, Net, port};
use super::pack::{Packed, Sequence};
use super::{Base, Objective};
use crate::click::split::Parts;
use crate::click::trainer::{Stream, random};
use crate::click::{Precision, Progress, TrainOptions};
use crate::epochs::Epochs;
use crate::error::{Error, Result};
use crate::examples::{Examples, Window};
use crate::low_rank;
use crate::net::Parameter;
use crate::optimizer::{AdamW, LONGEST_GRADIENT, Pace};
use crate::runtime::Runtime;

/// Tokens that are computed together, if no text is longer.
const TOKENS: usize = 512;

/// The figures of some rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scored {
    pub(super) rows: u64,
    pub(super) tokens: u64,
    /// The losses together: of tokens, or of pairs.
    sum: f64,
    /// How many they are of.
    of: u64,
    /// Pairs whose difference has grown.
    pub(super) right: u64,
}

impl Scored {
    /// The mean loss; none without rows.
    pub(super) fn loss(&self) -> Option<f64> {
        (self.of > 0).then(|| self.sum / self.of as f64)
    }
}

/// A row with its texts.
struct Row {
    /// Its number among all.
    number: usize,
    texts: Vec<Sequence>,
}

impl Row {
    fn tokens(&self) -> usize {
        self.texts.iter().map(|text| text.tokens.len()).sum()
    }

    fn counted(&self) -> usize {
        self.texts.iter().map(Sequence::counted).sum()
    }
}

/// The rows that are computed together: as many as have so many tokens, at least one.
fn parts_of(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = |row: &&Row| {
            tokens += row.tokens();
            tokens <= TOKENS
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (now, later) = rest.split_at(count);
        rest = later;
        (!now.is_empty()).then_some(now)
    })
}

/// Changes under training.
pub(super) struct Trainer<'a> {
    base: &'a Base,
    facts: &'a Facts,
    examples: &'a Examples,
    parts: &'a Parts,
    options: &'a TrainOptions,
    objective: Objective,
    stop: &'a AtomicBool,
    training: Session,
    scoring: Session,
    frozen: Cow<'a, Frozen>,
    /// The names of the weights that stay.
    kept: Vec<String>,
    weights: Vec<Parameter>,
    masks: Vec<usize>,
    adam: AdamW,
    order: ChaCha8Rng,
    choices: ChaCha8Rng,
    step: usize,
    steps: usize,
    /// The differences of the pairs before the training, by the number of the row.
    reference: Vec<f32>,
    /// Buffers that are kept between steps.
    packed: Packed,
    sums: Vec<Vec<f32>>,
    dropped: Vec<Vec<f32>>,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(
        runtime: &Arc<Runtime>,
        base: &'a Base,
        examples: &'a Examples,
        parts: &'a Parts,
        options: &'a TrainOptions,
        objective: Objective,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let (facts, tune) = (base.decoder.facts(), &base.tune);
        // Blocks of 8 bits are what the CPU knows.
        let frozen = if runtime.is_cpu() { Cow::Borrowed(&base.frozen) } else { Cow::Owned(base.frozen.floats()) };
        let score = net::scoring(facts, &frozen, tune)?;
        let Net { mut graph, trainable, frozen: kept, masks } = net::training(facts, &frozen, tune, objective, options.dropout > 0.0)?;
        runtime.check_precision(options.precision)?;
        if options.precision == Precision::Bfloat16 {
            graph.shorten_products();
        }
        let mut rng = random(options.seed, Stream::Weights);
        let first = |net::Trainable { name, shape }: net::Trainable| -> Result<Parameter> {
            let Some(start) = &base.start else {
                let values = first(&name, shape, &mut rng);
                return Ok(Parameter { name, shape: shape.to_vec(), values });
            };
            let known = start.iter().find(|known| known.name == name && known.shape == shape);
            known.cloned().ok_or_else(|| Error::data(format!("the version does not change {name}"), "train it anew"))
        };
        let weights = trainable.into_iter().map(first).collect::<Result<Vec<Parameter>>>()?;
        let lengths: Vec<usize> = weights.iter().map(|weight| weight.values.len()).collect();
        let threads = options.threads.max(1);
        let mut trainer = Self {
            training: runtime.session_for_training(&graph.model(), threads)?,
            scoring: runtime.session_for_training(&score.graph.model(), threads)?,
            adam: AdamW::new(options.learning_rate, options.weight_decay, lengths.iter().copied()),
            order: random(options.seed, Stream::Order),
            choices: random(options.seed, Stream::Choices),
            step: 0,
            steps: options.epochs as usize * parts.training.div_ceil(options.batch_size.unwrap_or(1)),
            reference: Vec::new(),
            packed: Packed::default(),
            sums: lengths.into_iter().map(|length| vec![0.0; length]).collect(),
            dropped: Vec::new(),
            base,
            facts,
            examples,
            parts,
            options,
            objective,
            stop,
            frozen,
            kept,
            weights,
            masks,
        };
        if objective == Objective::Preference {
            trainer.reference = trainer.differences(|_| true)?;
        }
        Ok(trainer)
    }

    fn canceled(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { Ok(()) }
    }

    /// Rows of a window.
    fn rows(&self, window: usize, wanted: impl Fn(&Parts, usize) -> bool) -> Result<Vec<Row>> {
        let Window { block, first, rows, start } = self.examples.window(window)?;
        let rows = (first..first + rows).filter(|row| wanted(self.parts, start - first + row));
        Ok(rows.map(|row| Row { number: start - first + row, texts: Sequence::of(&block, row as u32) }).collect())
    }

    /// One step; returns the loss of the batch before it.
    fn step(&mut self, batch: &[Row]) -> Result<f64> {
        let pace = self.options.rate(self.step, self.steps);
        self.step += 1;
        self.sums.iter_mut().for_each(|sum| sum.fill(0.0));
        let of = match self.objective {
            Objective::Generation => batch.iter().map(Row::counted).sum(),
            Objective::Preference => batch.len(),
        };
        let mut loss = 0.0;
        for part in parts_of(batch) {
            self.canceled()?;
            loss += f64::from(self.gradients(part, 1.0 / of as f32)?);
        }
        let square: f64 = self.sums.iter().flatten().map(|value| f64::from(value * value)).sum();
        let factor = (LONGEST_GRADIENT / square.sqrt()).min(1.0) as f32;
        self.adam.learning_rate = self.options.learning_rate * pace;
        self.adam.begin();
        for (index, (weight, gradient)) in self.weights.iter_mut().zip(&self.sums).enumerate() {
            self.adam.update_all(index, &mut weight.values, gradient, Pace { gradient: factor, ..Pace::default() });
        }
        Ok(loss)
    }

    /// Adds the gradients of some rows to the sums and returns their loss; each token, or pair, counts `share`.
    fn gradients(&mut self, rows: &[Row], share: f32) -> Result<f32> {
        self.packed.fill(rows.iter().flat_map(|row| &row.texts), &self.frozen, self.facts)?;
        let [tokens, counted] = self.packed.shape();
        self.drop_out(tokens);
        let (mut shares, mut pairs, mut reference) = (vec![share; counted], Vec::new(), Vec::new());
        if self.objective == Objective::Preference {
            shares.truncate(rows.len());
            pairs = signs(rows, counted);
            reference.extend(rows.iter().map(|row| self.reference[row.number]));
        }
        let Self { training, packed, facts, frozen, kept, weights, masks, dropped, sums, objective, .. } = self;
        let mut inputs = inputs(packed, facts, frozen, kept, weights)?;
        match objective {
            Objective::Generation => {
                inputs.push((port::SHARES.into(), TensorRef::from_array_view(([counted, 1], shares.as_slice()))?.into()));
            }
            Objective::Preference => {
                let count = rows.len();
                inputs.push((port::PAIRS.into(), TensorRef::from_array_view(([count, counted], pairs.as_slice()))?.into()));
                inputs.push((port::REFERENCE.into(), TensorRef::from_array_view(([count, 1], reference.as_slice()))?.into()));
                inputs.push((port::PAIR_SHARES.into(), TensorRef::from_array_view(([count, 1], shares.as_slice()))?.into()));
            }
        }
        for (number, (mask, width)) in dropped.iter().zip(&*masks).enumerate() {
            inputs.push((net::mask(number).into(), TensorRef::from_array_view(([tokens, *width], mask.as_slice()))?.into()));
        }
        let outputs = training.run(inputs)?;
        let (_, loss) = outputs[0].try_extract_tensor::<f32>()?;
        for (place, sum) in sums.iter_mut().enumerate() {
            let (_, gradient) = outputs[place + 1].try_extract_tensor::<f32>()?;
            sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
        }
        loss.first().copied().ok_or_else(|| Error::graph("a step without a loss"))
    }

    /// Chooses what is left out of the inputs of the changes.
    fn drop_out(&mut self, tokens: usize) {
        let dropout = self.options.dropout;
        if dropout <= 0.0 {
            return;
        }
        let kept = 1.0 / (1.0 - dropout);
        self.dropped.resize_with(self.masks.len(), Vec::new);
        for (mask, width) in self.dropped.iter_mut().zip(&self.masks) {
            mask.clear();
            let choices = &mut self.choices;
            mask.extend((0..tokens * width).map(|_| if choices.random::<f32>() < dropout { 0.0 } else { kept }));
        }
    }

    /// The log-probabilities of the tokens of some rows that count.
    fn logs(&mut self, rows: &[Row]) -> Result<Vec<f32>> {
        self.canceled()?;
        self.packed.fill(rows.iter().flat_map(|row| &row.texts), &self.frozen, self.facts)?;
        let Self { scoring, packed, facts, frozen, kept, weights, .. } = self;
        let outputs = scoring.run(inputs(packed, facts, frozen, kept, weights)?)?;
        Ok(outputs[0].try_extract_tensor::<f32>()?.1.to_vec())
    }

    /// How much likelier the first text of each row is than the second, by the number of the row; 0 for rows that are not wanted.
    fn differences(&mut self, wanted: impl Fn(usize) -> bool + Copy) -> Result<Vec<f32>> {
        let mut found = vec![0.0; self.examples.rows()];
        for window in 0..self.examples.windows() {
            let rows = self.rows(window, |_, row| wanted(row))?;
            for part in parts_of(&rows) {
                let logs = self.logs(part)?;
                let signs = signs(part, logs.len());
                for (row, signs) in part.iter().zip(signs.chunks_exact(logs.len().max(1))) {
                    found[row.number] = signs.iter().zip(&logs).map(|(sign, log)| sign * log).sum();
                }
            }
        }
        Ok(found)
    }

    /// The figures of the held-out rows.
    pub(super) fn evaluate(&mut self) -> Result<Scored> {
        let mut scored = Scored::default();
        let beta = f64::from(self.base.tune.beta);
        for window in 0..self.examples.windows() {
            let rows = self.rows(window, Parts::is_held)?;
            for part in parts_of(&rows) {
                let logs = self.logs(part)?;
                scored.rows += part.len() as u64;
                scored.tokens += logs.len() as u64;
                match self.objective {
                    Objective::Generation => {
                        scored.sum -= logs.iter().map(|log| f64::from(*log)).sum::<f64>();
                        scored.of += logs.len() as u64;
                    }
                    Objective::Preference => {
                        let signs = signs(part, logs.len());
                        for (row, signs) in part.iter().zip(signs.chunks_exact(logs.len().max(1))) {
                            let difference: f32 = signs.iter().zip(&logs).map(|(sign, log)| sign * log).sum();
                            let margin = f64::from(difference - self.reference[row.number]);
                            scored.sum += softplus(-beta * margin);
                            scored.right += u64::from(margin > 0.0);
                        }
                        scored.of += part.len() as u64;
                    }
                }
            }
        }
        Ok(scored)
    }
}

impl Epochs for Trainer<'_> {
    type Held = Scored;

    fn epoch(&mut self, epoch: u32) -> Result<(Progress, Scored)> {
        let started = Instant::now();
        let size = self.options.batch_size.unwrap_or(1);
        let mut windows: Vec<usize> = (0..self.examples.windows()).collect();
        windows.shuffle(&mut self.order);
        let (mut sum, mut count) = (0.0, 0);
        for window in windows {
            let mut rows = self.rows(window, |parts, row| parts.is_trained(row))?;
            rows.shuffle(&mut self.order);
            for batch in rows.chunks(size) {
                let loss = self.step(batch)?;
                if !loss.is_finite() {
                    return Err(Error::data(format!("the training diverged in epoch {epoch}"), "use a lower learning_rate"));
                }
                sum += loss * batch.len() as f64;
                count += batch.len();
            }
        }
        let scored = self.evaluate()?;
        let progress = Progress {
            trial: 1,
            member: 1,
            epoch,
            epochs: self.options.epochs,
            rows: count as u64,
            train_loss: sum / count.max(1) as f64,
            validation_loss: scored.loss(),
            seconds: started.elapsed().as_secs_f64(),
            ..Progress::default()
        };
        Ok((progress, scored))
    }

    fn trained(&self) -> Vec<Parameter> {
        self.weights.clone()
    }
}

/// The inputs that a step and a scoring share.
pub(super) fn inputs<'i>(
    packed: &'i Packed,
    facts: &Facts,
    frozen: &'i Frozen,
    kept: &'i [String],
    weights: &'i [Parameter],
) -> Result<Vec<(Cow<'i, str>, SessionInputValue<'i>)>> {
    let mut inputs: Vec<(Cow<'i, str>, SessionInputValue<'i>)> =
        packed.inputs(facts)?.into_iter().map(|(name, value)| (name.into(), value)).collect();
    for name in kept {
        inputs.extend(frozen.weight(name)?.inputs(name)?);
    }
    for weight in weights {
        inputs.push((weight.name.as_str().into(), TensorRef::from_array_view((weight.shape.clone(), weight.values.as_slice()))?.into()));
    }
    Ok(inputs)
}

/// rows x labels: 1 at the labels of a row's first text, -1 at those of its second.
fn signs(rows: &[Row], counted: usize) -> Vec<f32> {
    let mut signs = vec![0.0; rows.len() * counted];
    let mut first = 0;
    for (row, signs) in rows.iter().zip(signs.chunks_exact_mut(counted.max(1))) {
        for (text, sign) in row.texts.iter().zip([1.0, -1.0]) {
            signs[first..first + text.counted()].fill(sign);
            first += text.counted();
        }
    }
    signs
}

/// First weights: A even within 1/sqrt(inputs) of 0, B 0, so that a change begins as none.
fn first(name: &str, [rows, columns]: [usize; 2], rng: &mut ChaCha8Rng) -> Vec<f32> {
    if !name.ends_with("lora_A") {
        return vec![0.0; rows * columns];
    }
    low_rank::even(rows * columns, 1.0 / (columns as f32).sqrt(), rng)
}

/// ln(1 + exp(x)).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
