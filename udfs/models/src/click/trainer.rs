//! The steps and epochs of a training.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::prepare::Prepared;
use super::{Progress, TrainOptions};
use crate::dcnv2::{Dcnv2, Parameter, port};
use crate::error::{Error, Result};
use crate::metrics;
use crate::optimizer::AdamW;
use crate::runtime::Runtime;
use crate::table::{Leaf, Table};

/// Epochs without a better validation loss before a training stops early.
const PATIENCE: u32 = 2;

/// Rows per call when validation rows are scored.
const VALIDATION_ROWS: usize = 4096;

/// First embeddings are within this of zero.
const EMBEDDING_SCALE: f32 = 0.05;

/// The random choices of a training, each with its own stream of the seed, so that one does not shift another.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Split = 1,
    Weights = 2,
    Table = 3,
    Order = 4,
    Dropout = 5,
}

pub(super) fn random(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    rng
}

type Input<'v> = (Cow<'v, str>, SessionInputValue<'v>);

fn floats<'v>(name: &'v str, shape: &[usize], values: &'v [f32]) -> Result<Input<'v>> {
    Ok((name.into(), TensorRef::from_array_view((shape.to_vec(), values))?.into()))
}

/// A net under training.
pub(super) struct Trainer<'a> {
    data: &'a Prepared,
    options: &'a TrainOptions,
    net: Dcnv2,
    session: Session,
    validation: Session,
    parameters: Vec<Parameter>,
    table: Table,
    adam: AdamW,
    order: ChaCha8Rng,
    dropout: ChaCha8Rng,
    scratch: Scratch,
}

/// Buffers of a step, kept between steps.
#[derive(Default)]
struct Scratch {
    leaf: Leaf,
    numbers: Vec<f32>,
    labels: Vec<f32>,
    masks: Vec<Vec<f32>>,
}

/// What a training ends with.
pub(super) struct Outcome {
    pub(super) parameters: Vec<Parameter>,
    pub(super) table: Vec<f32>,
    pub(super) epochs: Vec<Progress>,
    pub(super) best_epoch: u32,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(runtime: &Arc<Runtime>, data: &'a Prepared, options: &'a TrainOptions, net: Dcnv2) -> Result<Self> {
        let parameters = net.initial(data.base_logit(), &mut random(options.seed, Stream::Weights));
        let table = Table::new(data.table_rows, net.dim, EMBEDDING_SCALE, &mut random(options.seed, Stream::Table));
        let adam = AdamW::new(options.learning_rate, options.weight_decay, parameters.iter().map(|p| p.values.len()));
        Ok(Self {
            data,
            options,
            session: runtime.session(&net.training_graph(options.dropout > 0.0)?.model(), options.threads)?,
            validation: runtime.session(&net.validation_graph()?.model(), options.threads)?,
            net,
            parameters,
            table,
            adam,
            order: random(options.seed, Stream::Order),
            dropout: random(options.seed, Stream::Dropout),
            scratch: Scratch::default(),
        })
    }

    /// Runs the epochs and keeps the best one.
    pub(super) fn run(mut self, on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>, stop: &AtomicBool) -> Result<Outcome> {
        let mut epochs: Vec<Progress> = Vec::new();
        let mut best: Option<(f64, u32, Vec<Parameter>, Table)> = None;
        for epoch in 1..=self.options.epochs {
            let progress = self.epoch(epoch, stop)?;
            let control = on_epoch(&progress);
            let loss = progress.validation_loss;
            epochs.push(progress);
            if control.is_break() {
                return Err(Error::Canceled);
            }
            let Some(loss) = loss else { continue };
            match &best {
                Some((lowest, at, ..)) if *lowest <= loss => {
                    if self.options.early_stop && epoch - at >= PATIENCE {
                        break;
                    }
                }
                _ => best = Some((loss, epoch, self.parameters.clone(), self.table.clone())),
            }
        }
        let last = epochs.len() as u32;
        let (_, best_epoch, parameters, mut table) = best.unwrap_or((0.0, last, self.parameters, self.table));
        table.clear_untrained();
        Ok(Outcome { parameters, table: table.values().to_vec(), epochs, best_epoch })
    }

    fn epoch(&mut self, epoch: u32, stop: &AtomicBool) -> Result<Progress> {
        let started = Instant::now();
        let mut rows = self.data.training.clone();
        rows.shuffle(&mut self.order);
        let size = self.options.batch_size.unwrap_or(rows.len());
        let mut sum = 0.0;
        for batch in rows.chunks(size) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Canceled);
            }
            let loss = f64::from(self.step(batch)?);
            if !loss.is_finite() {
                return Err(Error::data(format!("the training diverged in epoch {epoch}"), "use a lower learning_rate"));
            }
            sum += loss * batch.len() as f64;
        }
        let (validation_loss, validation_auc) = self.validate(stop)?;
        Ok(Progress {
            epoch,
            epochs: self.options.epochs,
            rows: rows.len() as u64,
            train_loss: sum / rows.len() as f64,
            validation_loss,
            validation_auc,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// One step; returns the mean loss of the batch before it.
    pub(super) fn step(&mut self, batch: &[u32]) -> Result<f32> {
        self.load(batch);
        let (net, scratch) = (&self.net, &self.scratch);
        let rows = batch.len();
        let mut inputs = Vec::with_capacity(self.parameters.len() + 4 + scratch.masks.len());
        if net.hashed > 0 {
            inputs.push(floats(port::EMBEDDINGS, &[scratch.leaf.unique.len(), net.dim], &scratch.leaf.values)?);
            let index = TensorRef::from_array_view(([rows, net.hashed], scratch.leaf.index.as_slice()))?;
            inputs.push((port::INDEX.into(), index.into()));
        }
        if net.dense > 0 {
            inputs.push(floats(port::NUMBERS, &[rows, net.dense], &scratch.numbers)?);
        }
        inputs.push(floats(port::LABELS, &[rows, 1], &scratch.labels)?);
        for (layer, mask) in scratch.masks.iter().enumerate() {
            let mask = TensorRef::from_array_view(([rows, net.hidden[layer]], mask.as_slice()))?;
            inputs.push((port::mask(layer).into(), mask.into()));
        }
        for parameter in &self.parameters {
            inputs.push(floats(&parameter.name, &parameter.shape, &parameter.values)?);
        }
        let outputs = self.session.run(inputs)?;
        let loss = outputs[0].try_extract_tensor::<f32>()?.1[0];
        let mut next = 1;
        if net.hashed > 0 {
            let (_, gradient) = outputs[next].try_extract_tensor::<f32>()?;
            self.table.update(&scratch.leaf.unique, gradient, self.options.table_learning_rate);
            next += 1;
        }
        self.adam.begin();
        for (index, parameter) in self.parameters.iter_mut().enumerate() {
            let (_, gradient) = outputs[next + index].try_extract_tensor::<f32>()?;
            let decays = parameter.decays();
            self.adam.update(index, &mut parameter.values, gradient, decays);
        }
        Ok(loss)
    }

    /// Copies a batch into the buffers.
    fn load(&mut self, batch: &[u32]) {
        let (data, hashed, dense) = (self.data, self.net.hashed, self.net.dense);
        let scratch = &mut self.scratch;
        let ids = batch.iter().flat_map(|row| &data.rows[*row as usize * hashed..][..hashed]).copied();
        self.table.collect(ids, &mut scratch.leaf);
        scratch.numbers.clear();
        scratch.labels.clear();
        for row in batch {
            scratch.numbers.extend_from_slice(&data.numbers[*row as usize * dense..][..dense]);
            scratch.labels.push(data.labels[*row as usize]);
        }
        if self.options.dropout > 0.0 {
            let kept = 1.0 / (1.0 - self.options.dropout);
            scratch.masks.resize(self.net.hidden.len(), Vec::new());
            for (mask, width) in scratch.masks.iter_mut().zip(&self.net.hidden) {
                mask.clear();
                let draws = (0..batch.len() * width).map(|_| self.dropout.random::<f32>());
                mask.extend(draws.map(|draw| if draw < self.options.dropout { 0.0 } else { kept }));
            }
        }
    }

    /// Log loss and AUC of the validation rows.
    fn validate(&mut self, stop: &AtomicBool) -> Result<(Option<f64>, Option<f64>)> {
        if self.data.validation.is_empty() {
            return Ok((None, None));
        }
        let width = self.net.width();
        let mut scores = Vec::with_capacity(self.data.validation.len());
        let mut x = Vec::new();
        for rows in self.data.validation.chunks(VALIDATION_ROWS) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Canceled);
            }
            x.clear();
            for row in rows {
                self.encode(*row as usize, &mut x);
            }
            let mut inputs = vec![floats(port::X, &[rows.len(), width], &x)?];
            for parameter in &self.parameters {
                inputs.push(floats(&parameter.name, &parameter.shape, &parameter.values)?);
            }
            let outputs = self.validation.run(inputs)?;
            scores.extend_from_slice(outputs[0].try_extract_tensor::<f32>()?.1);
        }
        let labels: Vec<f32> = self.data.validation.iter().map(|row| self.data.labels[*row as usize]).collect();
        Ok((Some(metrics::log_loss(&scores, &labels)), metrics::auc(&scores, &labels)))
    }

    fn encode(&self, row: usize, x: &mut Vec<f32>) {
        let (hashed, dense, dim) = (self.net.hashed, self.net.dense, self.net.dim);
        for table_row in &self.data.rows[row * hashed..][..hashed] {
            x.extend_from_slice(&self.table.values()[*table_row as usize * dim..][..dim]);
        }
        x.extend_from_slice(&self.data.numbers[row * dense..][..dense]);
    }
}
