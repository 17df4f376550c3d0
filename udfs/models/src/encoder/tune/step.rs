//! A step of a training: what is fed to the graph, the passes whose gradients are summed, and what the weights become.

use std::borrow::Cow;

use ort::session::SessionInputValue;
use ort::value::TensorRef;
use rand::Rng;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;

use super::super::engine::MASKED;
use super::super::graph::{self, WORDS};
use super::net::{self, port};
use super::trainer::{Trainer, length, texts};
use crate::error::{Error, Result};
use crate::examples::Block;
use crate::optimizer::{LONGEST_GRADIENT, Pace};
use crate::text::Task;

/// Tokens that are computed together, if no text is longer. The gradients of a whole encoder are added up for every part, those of few weights cost
/// nothing.
const TOKENS: usize = 4096;
const FEW_TOKENS: usize = 1024;

/// What the graph is fed besides texts and weights.
#[derive(Debug, Default)]
pub(super) struct Fed {
    labels: Vec<f32>,
    label_shape: Vec<usize>,
    /// What each row, or pair, adds of its loss.
    shares: Vec<f32>,
    twins: Vec<i64>,
    pairs: [Vec<i64>; 2],
    apart: Vec<f32>,
    /// The masks of dropout, that of the vectors which the head reads last.
    dropped: Vec<Vec<f32>>,
}

type Inputs<'i> = Vec<(Cow<'i, str>, SessionInputValue<'i>)>;

impl Trainer<'_> {
    /// One step on some batches, whose gradients are summed; returns the mean loss of their rows before it.
    pub(super) fn step(&mut self, block: &Block, batches: &[&[u32]]) -> Result<f64> {
        let pace = self.options.rate(self.step, self.steps);
        self.step += 1;
        self.pending = false;
        self.sums.clear();
        self.adam.learning_rate = self.options.learning_rate * pace;
        let whole: f32 = batches.iter().map(|batch| self.counted(block, batch)).sum();
        let moved = self.options.adversarial;
        let mut loss = 0.0;
        let passes: Vec<&[u32]> = batches.iter().flat_map(|batch| self.passes(block, batch)).collect();
        for (number, rows) in passes.iter().enumerate() {
            self.feed(block, rows, whole.max(1.0));
            let last = number + 1 == passes.len();
            loss += self.pass(last && moved == 0.0, moved)?;
            if moved > 0.0 {
                // The same texts once more, with their words moved.
                self.pass(last, 0.0)?;
            }
        }
        Ok(loss)
    }

    /// The parts of a batch that are computed one after another, so that memory does not grow with it: of as many rows as have so many tokens, padding
    /// included. The pairs of a batch are told apart from one another, so they are one part.
    fn passes<'b>(&self, block: &Block, batch: &'b [u32]) -> Vec<&'b [u32]> {
        if self.task == Task::Pairs {
            return vec![batch];
        }
        let most = if net::trains_words(&self.base.tune) { TOKENS } else { FEW_TOKENS };
        let texts = if self.twins() || self.task.gives_vectors() { 2 } else { 1 };
        let (mut passes, mut rest) = (Vec::new(), batch);
        while !rest.is_empty() {
            let mut longest = 0;
            let fits = |(rows, row): &(usize, &u32)| {
                longest = longest.max(length(block, self.task, **row));
                texts * (rows + 1) * longest <= most
            };
            let (now, later) = rest.split_at(rest.iter().enumerate().take_while(fits).count().max(1));
            passes.push(now);
            rest = later;
        }
        passes
    }

    /// What the loss of a batch is the mean over: its rows, or its tokens that have a tag.
    fn counted(&self, block: &Block, batch: &[u32]) -> f32 {
        if self.task != Task::Tags {
            return batch.len() as f32;
        }
        let bag = &block.batch.bags[1];
        let tagged = |row: &u32| bag.ids[bag.row(*row as usize)].iter().filter(|tag| **tag > 0).count();
        batch.iter().map(tagged).sum::<usize>() as f32
    }

    /// Reads a batch in; losses are added up over `whole`.
    fn feed(&mut self, block: &Block, batch: &[u32], whole: f32) {
        let twins = self.twins();
        let twice: Vec<u32> = if twins { batch.iter().flat_map(|row| [*row, *row]).collect() } else { batch.to_vec() };
        let most = self.base.facts.max_tokens;
        let texts: Vec<Cow<'_, [u64]>> = texts(block, self.task, batch)
            .into_iter()
            .map(|text| match &self.base.words {
                Some(words) => words.change(text, &self.base.tune, most, &mut self.choices),
                None => text.into(),
            })
            .collect();
        let times = if twins { 2 } else { 1 };
        let texts: Vec<&[u64]> = texts.iter().flat_map(|text| std::iter::repeat_n(&**text, times)).collect();
        self.padded.fill(&texts, &self.words.values, &self.base.facts, self.base.config.hidden);
        self.label(block, &twice, if twins { 2.0 * whole } else { whole });
        self.fed.twins.clear();
        if twins {
            self.fed.twins.extend((0..twice.len() as i64).map(|row| row ^ 1));
        }
        self.drop_out();
    }

    /// Whether every text is read twice.
    fn twins(&self) -> bool {
        self.base.tune.r_drop > 0.0
    }

    /// The labels of rows, those of classes moved a share of the way to one over their number (Szegedy et al. 2016), and what the rows count.
    fn label(&mut self, block: &Block, rows: &[u32], whole: f32) {
        let (classes, smoothing, balance) = (self.outputs, self.options.label_smoothing, self.balance);
        let [_, longest] = self.padded.shape();
        let Fed { labels, label_shape, shares, pairs, apart, .. } = &mut self.fed;
        labels.clear();
        shares.clear();
        shares.resize(rows.len(), 1.0 / whole);
        *label_shape = vec![rows.len(), classes];
        let even = |label: f32, share: f32| label * (1.0 - smoothing) + smoothing * share;
        match self.task {
            Task::Class => {
                for (row, share) in rows.iter().zip(shares) {
                    let own = &block.labels[*row as usize * classes..][..classes];
                    labels.extend(own.iter().map(|label| even(*label, 1.0 / classes as f32)));
                    let weight = balance.iter().zip(own).find(|(_, label)| **label > 0.5);
                    *share *= weight.map_or(1.0, |(weight, _)| *weight);
                }
            }
            Task::Labels => {
                let own = rows.iter().flat_map(|row| &block.labels[*row as usize * classes..][..classes]);
                labels.extend(own.map(|label| even(*label, 0.5)));
            }
            Task::Number { mean, scale } => {
                labels.extend(rows.iter().map(|row| ((f64::from(block.labels[*row as usize]) - mean) / scale) as f32));
            }
            Task::Tags => {
                *label_shape = vec![rows.len(), longest, classes];
                labels.resize(rows.len() * longest * classes, 0.0);
                let bag = &block.batch.bags[1];
                for (own, row) in labels.chunks_exact_mut(longest * classes).zip(rows) {
                    for (own, tag) in own.chunks_exact_mut(classes).zip(&bag.ids[bag.row(*row as usize)]) {
                        let Some(tag) = (*tag as usize).checked_sub(1) else { continue };
                        let weight = balance.get(tag).copied().unwrap_or(1.0);
                        for (class, label) in own.iter_mut().enumerate() {
                            *label = weight * even(f32::from(u8::from(class == tag)), 1.0 / classes as f32);
                        }
                    }
                }
            }
            Task::Pairs | Task::Likeness => {
                let count = rows.len();
                *pairs = [(0..count as i64).collect(), (count as i64..2 * count as i64).collect()];
                if self.task == Task::Likeness {
                    *label_shape = vec![count, 1];
                    labels.extend(rows.iter().map(|row| block.labels[*row as usize]));
                    return;
                }
                *label_shape = vec![count, count];
                let partner = |row: u32| {
                    let bag = &block.batch.bags[1];
                    &bag.ids[bag.row(row as usize)]
                };
                apart.clear();
                for (own, row) in rows.iter().enumerate() {
                    labels.extend((0..count).map(|other| f32::from(u8::from(own == other))));
                    // A text that is the partner itself, of another pair, is no wrong one.
                    apart.extend(rows.iter().enumerate().map(
                        |(other, with)| {
                            if own != other && partner(*row) == partner(*with) { MASKED } else { 0.0 }
                        },
                    ));
                }
            }
        }
    }

    /// Chooses what is left out: of the inputs of the changes, and at last of the vectors that the head reads.
    fn drop_out(&mut self) {
        let dropout = self.options.dropout;
        if dropout <= 0.0 {
            return;
        }
        let [rows, longest] = self.padded.shape();
        let read = if self.task == Task::Tags { rows * longest } else { rows };
        let widths = self.masks.iter().map(|width| rows * longest * width);
        let sizes: Vec<usize> = widths.chain([read * self.base.config.hidden]).collect();
        let dropped = &mut self.fed.dropped;
        dropped.resize_with(sizes.len(), Vec::new);
        // A value is left out where a number of 16 bits is below this.
        let below = (dropout * 65536.0) as u16;
        let kept = 1.0 / (1.0 - dropout);
        for (mask, size) in dropped.iter_mut().zip(sizes) {
            mask.clear();
            while mask.len() < size {
                let drawn: u64 = self.choices.random();
                let four = [0, 16, 32, 48].map(|shift| if ((drawn >> shift) as u16) < below { 0.0 } else { kept });
                mask.extend_from_slice(&four[..four.len().min(size - mask.len())]);
            }
        }
    }

    /// Runs the graph once and adds its gradients to those of the step; where the step `ends` with it, the weights move. Else the words may be moved
    /// against the loss, for another pass. Returns the loss.
    fn pass(&mut self, ends: bool, moved: f32) -> Result<f64> {
        let hidden = self.base.config.hidden;
        let Self { training, weights, words, adam, adaptive, padded, fed, masks, sums, summed, pending, base, step, steps, .. } = self;
        let tune = &base.tune;
        let mut inputs: Inputs<'_> = padded.inputs(hidden)?.into_iter().map(|(name, value)| (name.into(), value)).collect();
        fed.inputs(&mut inputs, padded.shape(), masks, hidden, self.task)?;
        for (weight, _) in &*weights {
            let value = TensorRef::from_array_view((weight.shape.clone(), weight.values.as_slice()))?;
            inputs.push((weight.name.as_str().into(), value.into()));
        }
        let outputs = training.run(inputs)?;
        let found = (0..outputs.len()).map(|place| Ok(outputs[place].try_extract_tensor::<f32>()?.1)).collect::<Result<Vec<&[f32]>>>()?;
        let Some(([loss], mut gradients)) = found.split_first().map(|(loss, rest)| (*loss, rest)) else {
            return Err(Error::graph("a step without a loss"));
        };
        let trained = weights.iter().filter(|(_, trained)| *trained).count();
        if let Some(of_words) = gradients.get(trained) {
            gradients = &gradients[..trained];
            if net::trains_words(tune) {
                sums.add(padded, of_words, hidden);
            }
            if moved > 0.0 {
                padded.perturb(of_words, moved, hidden);
            }
        }
        if !ends || *pending {
            summed.resize_with(trained, Vec::new);
            for (sum, gradient) in summed.iter_mut().zip(gradients) {
                if *pending {
                    sum.iter_mut().zip(*gradient).for_each(|(sum, value)| *sum += value);
                } else {
                    sum.clear();
                    sum.extend_from_slice(gradient);
                }
            }
            *pending = true;
        }
        if !ends {
            return Ok(f64::from(*loss));
        }
        let own: Vec<&[f32]> = if *pending { summed.iter().map(Vec::as_slice).collect() } else { gradients.to_vec() };
        let length = (own.iter().map(|gradient| square(gradient)).sum::<f64>() + square(&sums.values)).sqrt();
        let gradient = (LONGEST_GRADIENT / length).min(1.0) as f32;
        if let Some(adaptive) = adaptive {
            adaptive.watch(weights, &own);
        }
        adam.begin();
        let layers = base.config.layers;
        for (index, ((weight, _), own)) in weights.iter_mut().filter(|(_, trained)| *trained).zip(&own).enumerate() {
            let pace = Pace { decay: weight.decays(), gradient, rate: tune.rate(&weight.name, layers) };
            adam.update_all(index, &mut weight.values, own, pace);
        }
        if net::trains_words(tune) {
            let pace = Pace { gradient, rate: tune.rate(WORDS, layers), ..Pace::default() };
            adam.update_rows(own.len(), &mut words.values, &sums.tokens, &sums.values, pace);
        }
        if let Some(adaptive) = adaptive {
            adaptive.keep(weights, *step, *steps);
        }
        Ok(f64::from(*loss))
    }
}

impl Fed {
    fn inputs<'i>(
        &'i self,
        inputs: &mut Inputs<'i>,
        [rows, longest]: [usize; 2],
        masks: &[usize],
        hidden: usize,
        task: Task,
    ) -> Result<()> {
        let Self { labels, label_shape, shares, twins, pairs, apart, dropped } = self;
        inputs.push((port::LABELS.into(), TensorRef::from_array_view((label_shape.clone(), labels.as_slice()))?.into()));
        inputs.push((port::ROW_WEIGHTS.into(), TensorRef::from_array_view(([shares.len(), 1], shares.as_slice()))?.into()));
        if !twins.is_empty() {
            inputs.push((port::TWIN.into(), TensorRef::from_array_view(([twins.len()], twins.as_slice()))?.into()));
        }
        if task.gives_vectors() {
            for (name, side) in port::PAIR.into_iter().zip(pairs) {
                inputs.push((name.into(), TensorRef::from_array_view(([side.len()], side.as_slice()))?.into()));
            }
        }
        if task == Task::Pairs {
            inputs.push((port::APART.into(), TensorRef::from_array_view((label_shape.clone(), apart.as_slice()))?.into()));
        }
        if let Some((read, dropped)) = dropped.split_last() {
            let shape = if task == Task::Tags { vec![rows, longest, hidden] } else { vec![rows, hidden] };
            inputs.push((port::POOLED.into(), TensorRef::from_array_view((shape, read.as_slice()))?.into()));
            for (number, (mask, width)) in dropped.iter().zip(masks).enumerate() {
                inputs.push((graph::mask(number).into(), TensorRef::from_array_view(([rows, longest, *width], mask.as_slice()))?.into()));
            }
        }
        Ok(())
    }
}

/// The sum of squares, the same on any number of cores.
fn square(values: &[f32]) -> f64 {
    let parts: Vec<f64> = values.par_chunks(1 << 16).map(|part| f64::from(part.iter().map(|value| value * value).sum::<f32>())).collect();
    parts.into_iter().sum()
}
