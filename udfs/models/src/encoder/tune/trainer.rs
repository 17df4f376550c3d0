//! An encoder under training: its epochs, and what it gives for the held-out rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ort::session::Session;
use ort::value::TensorRef;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::super::graph::WORDS;
use super::adaptive::Adaptive;
use super::net::{self, Plan, port};
use super::padded::{Padded, WordGradients};
use super::step::Fed;
use super::{Base, Method};
use crate::click::split::Parts;
use crate::click::trainer::{Stream, random};
use crate::click::{Precision, Progress, TrainOptions};
use crate::epochs::Epochs;
use crate::error::{Error, Result};
use crate::examples::{Block, Examples, Window};
use crate::low_rank;
use crate::net::Parameter;
use crate::optimizer::AdamW;
use crate::runtime::Runtime;
use crate::text::{Held, Ready, Task, Text, loss};

/// Steps whose rows are put in order of their length together, so that little goes into padding.
const POOL: usize = 32;

/// Tokens of a call when held-out rows are scored.
const EVALUATION_TOKENS: usize = 2048;

/// An encoder under training.
pub(super) struct Trainer<'a> {
    pub(super) base: &'a Base,
    examples: &'a Examples,
    parts: &'a Parts,
    pub(super) task: Task,
    /// Values of the head.
    pub(super) outputs: usize,
    pub(super) options: &'a TrainOptions,
    pub(super) balance: &'a [f32],
    stop: &'a AtomicBool,
    pub(super) training: Session,
    scoring: Session,
    /// The weights but for the words, each with whether it is trained.
    pub(super) weights: Vec<(Parameter, bool)>,
    pub(super) words: Parameter,
    /// The widths of the masks of dropout of low-rank changes.
    pub(super) masks: Vec<usize>,
    pub(super) adam: AdamW,
    pub(super) adaptive: Option<Adaptive>,
    order: ChaCha8Rng,
    pub(super) choices: ChaCha8Rng,
    pub(super) step: usize,
    /// Steps there will be at most.
    pub(super) steps: usize,
    /// Buffers that are kept between steps.
    pub(super) padded: Padded,
    pub(super) fed: Fed,
    pub(super) sums: WordGradients,
    pub(super) summed: Vec<Vec<f32>>,
    pub(super) pending: bool,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(
        runtime: &Arc<Runtime>,
        base: &'a Base,
        text: &Text,
        examples: &'a Examples,
        ready: &'a Ready,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let Ready { task, options, parts, balance, bias } = ready;
        let (tune, config) = (&base.tune, &base.config);
        let outputs = task.outputs(text.classes.len());
        let plan = Plan { config, tune, task: *task, outputs };
        let mut known = base.weights(&text.classes)?;
        let words = known.remove(WORDS).ok_or_else(|| Error::graph("an encoder without words"))?;
        let net::Training { mut graph, weights, masks } = plan.training(options.dropout > 0.0, options.adversarial > 0.0)?;
        runtime.check_precision(options.precision)?;
        if options.precision == Precision::Bfloat16 {
            graph.shorten_products();
        }
        let mut rng = random(options.seed, Stream::Weights);
        let mut weight = |weight: net::Weight| -> Result<(Parameter, bool)> {
            let net::Weight { name, shape, trained } = weight;
            let values = match known.remove(&name) {
                Some(known) if known.shape == shape => known.values,
                Some(known) => return Err(Error::graph(format!("{name} is {:?}, not {shape:?}", known.shape))),
                None => first(&name, &shape, tune.method, bias, &mut rng),
            };
            Ok((Parameter { name, shape, values }, trained))
        };
        let weights: Vec<(Parameter, bool)> = weights.into_iter().map(&mut weight).collect::<Result<_>>()?;
        let mut lengths: Vec<usize> = weights.iter().filter(|(_, trained)| *trained).map(|(weight, _)| weight.values.len()).collect();
        lengths.extend(net::trains_words(tune).then_some(words.values.len()));
        let threads = options.threads.max(1);
        let batches = parts.training.div_ceil(options.batch_size.unwrap_or(1));
        Ok(Self {
            training: runtime.session_for_training(&graph.model(), threads)?,
            scoring: runtime.session_for_training(&plan.evaluation()?.model(), threads)?,
            adam: AdamW::new(options.learning_rate, options.weight_decay, lengths),
            adaptive: (tune.method == Method::Adalora).then(|| Adaptive::new(tune, &weights)),
            order: random(options.seed, Stream::Order),
            choices: random(options.seed, Stream::Choices),
            step: 0,
            steps: options.epochs as usize * batches.div_ceil(tune.accumulation),
            padded: Padded::default(),
            fed: Fed::default(),
            sums: WordGradients::default(),
            summed: Vec::new(),
            pending: false,
            task: *task,
            base,
            examples,
            parts,
            outputs,
            options,
            balance,
            stop,
            weights,
            words,
            masks,
        })
    }

    /// All weights, of the encoder and the head, and what is added to it.
    pub(super) fn parameters(&self) -> u64 {
        let all = self.weights.iter().map(|(weight, _)| weight.values.len()).sum::<usize>() + self.words.values.len();
        all as u64
    }

    fn canceled(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { Ok(()) }
    }

    /// What there is for the held-out rows, in their order.
    fn score(&mut self) -> Result<Held> {
        let (examples, task) = (self.examples, self.task);
        let mut all = Held::default();
        for index in 0..examples.windows() {
            let Window { block, first, rows, start } = examples.window(index)?;
            let held: Vec<u32> =
                (first..first + rows).filter(|row| self.parts.is_held(start - first + row)).map(|row| row as u32).collect();
            let mut found: HashMap<u32, Vec<f32>> = HashMap::new();
            let mut order = held.clone();
            order.sort_by_key(|row| length(&block, task, *row));
            let mut rest = order.as_slice();
            while !rest.is_empty() {
                self.canceled()?;
                // Sorted by length, so the last one of a call is its longest.
                let fits = |count: &usize| *count * length(&block, task, rest[*count - 1]) <= EVALUATION_TOKENS;
                let (now, later) = rest.split_at((1..=rest.len()).take_while(fits).last().unwrap_or(1));
                rest = later;
                self.give(&block, now, &mut found)?;
            }
            for row in held {
                let (own, place) = (found.remove(&row).unwrap_or_default(), row as usize);
                match task {
                    Task::Class | Task::Labels => all.labels.extend_from_slice(&block.labels[place * self.outputs..][..self.outputs]),
                    Task::Number { .. } | Task::Likeness => all.labels.push(block.labels[place]),
                    // What counts is that there is a pair.
                    Task::Pairs => all.labels.push(1.0),
                    Task::Tags => {
                        let bag = &block.batch.bags[1];
                        let mut tokens = 0;
                        for (logits, tag) in own.chunks_exact(self.outputs).zip(&bag.ids[bag.row(place)]).filter(|(_, tag)| **tag > 0) {
                            all.values.extend_from_slice(logits);
                            all.labels.extend((1..=self.outputs as u64).map(|class| f32::from(u8::from(class == *tag))));
                            tokens += 1;
                        }
                        all.tokens.push(tokens);
                        continue;
                    }
                }
                all.values.extend(own);
            }
        }
        Ok(all)
    }

    /// Computes rows.
    fn give(&mut self, block: &Block, rows: &[u32], found: &mut HashMap<u32, Vec<f32>>) -> Result<()> {
        let hidden = self.base.config.hidden;
        let texts = texts(block, self.task, rows);
        self.padded.fill(&texts, &self.words.values, &self.base.facts, hidden);
        let longest = self.padded.shape()[1];
        let Self { scoring, weights, padded, task, outputs, .. } = self;
        let mut inputs = padded.inputs(hidden)?;
        for (weight, _) in &*weights {
            let value = TensorRef::from_array_view((weight.shape.clone(), weight.values.as_slice()))?;
            inputs.push((weight.name.as_str(), value.into()));
        }
        let given = scoring.run(inputs)?;
        let (_, given) = given[0].try_extract_tensor::<f32>()?;
        let width = match task {
            Task::Tags => longest * *outputs,
            Task::Pairs | Task::Likeness => hidden,
            Task::Class | Task::Labels | Task::Number { .. } => *outputs,
        };
        // The second texts of pairs follow the first ones.
        for (place, own) in given.chunks_exact(width).enumerate() {
            found.entry(rows[place % rows.len()]).or_default().extend_from_slice(own);
        }
        Ok(())
    }
}

impl Epochs for Trainer<'_> {
    type Held = Held;

    fn epoch(&mut self, epoch: u32) -> Result<(Progress, Held)> {
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
                pool.sort_by_key(|row| length(&block, self.task, *row));
            }
            let mut batches: Vec<&[u32]> = rows.chunks(size).collect();
            batches.shuffle(&mut self.order);
            for batches in batches.chunks(self.base.tune.accumulation) {
                self.canceled()?;
                let loss = self.step(&block, batches)?;
                if !loss.is_finite() {
                    return Err(Error::data(format!("the training diverged in epoch {epoch}"), "use a lower learning_rate"));
                }
                let rows: usize = batches.iter().map(|batch| batch.len()).sum();
                sum += loss * rows as f64;
                count += rows;
            }
        }
        let held = self.score()?;
        let progress = Progress {
            trial: 1,
            member: 1,
            epoch,
            epochs: self.options.epochs,
            rows: count as u64,
            train_loss: sum / count.max(1) as f64,
            validation_loss: loss(self.task, self.outputs, &held, self.balance),
            seconds: started.elapsed().as_secs_f64(),
            ..Progress::default()
        };
        Ok((progress, held))
    }

    fn trained(&self) -> Vec<Parameter> {
        let words = net::trains_words(&self.base.tune).then(|| self.words.clone());
        words.into_iter().chain(self.weights.iter().filter(|(_, trained)| *trained).map(|(weight, _)| weight.clone())).collect()
    }
}

/// The tokens of rows; of pairs the first texts, then the second ones.
pub(super) fn texts<'b>(block: &'b Block, task: Task, rows: &[u32]) -> Vec<&'b [u64]> {
    let bags = if task.gives_vectors() { 2 } else { 1 };
    let bags = block.batch.bags.iter().take(bags);
    bags.flat_map(|bag| rows.iter().map(|row| &bag.ids[bag.row(*row as usize)])).collect()
}

/// The tokens of a row, of pairs those of the longer text.
pub(super) fn length(block: &Block, task: Task, row: u32) -> usize {
    texts(block, task, &[row]).into_iter().map(<[u64]>::len).max().unwrap_or(0)
}

/// First weights of what an encoder does not have. The head gives the shares of the classes; what is added begins as no change, or next to none: low-rank
/// changes with A even within 1/sqrt(inputs) of 0, those that share a budget with rows and columns of about the length 1.
fn first(name: &str, shape: &[usize], method: Method, bias: &[f32], rng: &mut ChaCha8Rng) -> Vec<f32> {
    let count = shape.iter().product();
    let mut even = |bound: f32| low_rank::even(count, bound, rng);
    let inputs = shape.last().copied().unwrap_or(1) as f32;
    match (name.rsplit('.').next().unwrap_or_default(), method) {
        _ if name == port::HEAD[1] => bias.to_vec(),
        ("lora_A", Method::Adalora) => even((3.0 / inputs).sqrt()),
        ("lora_B", Method::Adalora) => even((3.0 / shape[0] as f32).sqrt()),
        ("lora_A", _) => even(1.0 / inputs.sqrt()),
        ("weight", Method::Adapter) if name.ends_with(".down.weight") => even(1.0 / inputs.sqrt()),
        ("key" | "value", Method::Prefix) => even(0.1),
        _ => vec![0.0; count],
    }
}
