//! Batches in pieces: each small enough for the cache of a core, and all cores at work. Gradients of pieces add up in the order of the
//! pieces, and how a batch is cut depends on its size alone, so the number of threads does not change a model.

use std::borrow::Cow;

use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::TensorRef;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::target::Target;
use crate::error::Result;
use crate::examples::Block;
use crate::features::encode::{Encoding, Places};
use crate::net::{Net, Parameter, port};
use crate::runtime::SessionPool;
use crate::table::{Table, Use, Uses};

/// The rows of a piece, where the batch allows.
const FEWEST: usize = 128;
const MOST: usize = 512;
/// The pieces of a batch at most: each keeps the gradients of all weights.
const PIECES: usize = 16;

/// Rows per piece of a batch.
pub(super) fn length(rows: usize, whole: bool) -> usize {
    if whole { rows.max(1) } else { rows.div_ceil(2).clamp(FEWEST, MOST).max(rows.div_ceil(PIECES)) }
}

type Input<'v> = (Cow<'v, str>, SessionInputValue<'v>);

pub(super) fn floats<'v>(name: &'v str, shape: &[usize], values: &'v [f32]) -> Result<Input<'v>> {
    Ok((name.into(), TensorRef::from_array_view((shape.to_vec(), values))?.into()))
}

/// What the pieces of a step share.
pub(super) struct Step<'a> {
    pub(super) net: &'a Net,
    pub(super) encoding: &'a Encoding,
    pub(super) block: &'a Block,
    /// The rows before those of the block.
    pub(super) before: usize,
    pub(super) target: Target<'a>,
    pub(super) table: &'a Table,
    /// The embeddings of the knots of piecewise numbers.
    pub(super) knots: &'a [f32],
    pub(super) parameters: &'a [Parameter],
    pub(super) sessions: &'a SessionPool,
}

/// What a training does to the rows of a batch.
pub(super) struct Treatment<'a> {
    pub(super) rows: usize,
    pub(super) positive_weight: f32,
    pub(super) label_smoothing: f32,
    pub(super) dropout: f32,
    pub(super) adversarial: f32,
    /// For each row of the table, the chance that a use is hidden; empty for none.
    pub(super) chances: &'a [f32],
    pub(super) token_dropout: f32,
}

/// Some rows of a batch: buffers that are kept between steps.
#[derive(Default)]
pub(super) struct Piece {
    places: Places,
    x: Vec<f32>,
    history: Vec<f32>,
    labels: Vec<f32>,
    weights: Vec<f32>,
    masks: Vec<Vec<f32>>,
    /// Seed of its random choices.
    pub(super) seed: u64,
    /// Its share of the mean loss of the batch.
    pub(super) loss: f32,
    uses: Vec<Use>,
    gradient: Vec<f32>,
    history_uses: Vec<Use>,
    history_gradient: Vec<f32>,
    /// The gradient of the knots.
    pub(super) knots: Vec<f32>,
    /// Its share of the gradient of each weight.
    pub(super) dense: Vec<Vec<f32>>,
    /// The logits, after [`Piece::score`].
    pub(super) logits: Vec<f32>,
}

impl Piece {
    /// The gradients of the loss of these rows.
    pub(super) fn learn(&mut self, step: &Step<'_>, how: &Treatment<'_>, rows: &[u32]) -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        self.encode(step, rows, |places| {
            if !how.chances.is_empty() {
                step.encoding.hide(places, how.chances, &mut rng);
            }
            if how.token_dropout > 0.0 {
                step.encoding.thin(places, how.token_dropout, &mut rng);
            }
        });
        self.label(step, how, rows);
        self.mask(step.net, how.dropout, rows.len(), &mut rng);
        let (fields, stride, width) = (step.net.fields, step.net.stride(), step.net.width());
        // The gradients of a second pass against moved embeddings count as much as those of the first.
        let passes = if how.adversarial > 0.0 && fields > 0 { 2 } else { 1 };
        self.places.uses(fields, stride, width, rows.len() as f32, &mut self.uses);
        for pass in 0..passes {
            let Self { places, x, history, labels, weights, masks, gradient, history_gradient, dense, loss, .. } = &mut *self;
            let mut inputs = features(step.net, places, x, history, rows.len())?;
            inputs.push(floats(port::LABELS, &[rows.len(), step.target.tasks], labels)?);
            inputs.push(floats(port::ROW_WEIGHTS, &[rows.len(), 1], weights)?);
            for (layer, mask) in masks.iter().enumerate() {
                let mask = TensorRef::from_array_view(([rows.len(), mask.len() / rows.len()], mask.as_slice()))?;
                inputs.push((port::mask(layer).into(), mask.into()));
            }
            for parameter in step.parameters {
                inputs.push(floats(&parameter.name, &parameter.shape, &parameter.values)?);
            }
            let share = rows.len() as f32 / how.rows as f32;
            step.sessions.with(|worker| {
                let outputs = worker.session.run(inputs)?;
                if pass == 0 {
                    *loss = tensor(&outputs, 0)?[0] * share;
                }
                take(gradient, tensor(&outputs, 1)?, pass, 1.0 / passes as f32);
                let mut next = 2;
                if step.net.history_target.is_some() {
                    take(history_gradient, tensor(&outputs, next)?, pass, 1.0 / passes as f32);
                    next += 1;
                }
                dense.resize(step.parameters.len(), Vec::new());
                for (index, sum) in dense.iter_mut().enumerate() {
                    take(sum, tensor(&outputs, next + index)?, pass, share / passes as f32);
                }
                Ok(())
            })?;
            if pass + 1 < passes {
                move_against(&mut self.x, &self.gradient, width, fields * stride, how.adversarial);
            }
        }
        if step.net.history_target.is_some() {
            self.places.history_uses(stride, rows.len() as f32, &mut self.history_uses);
        }
        if step.encoding.knots > 0 {
            self.knots.resize(step.knots.len(), 0.0);
            self.places.fold(&self.gradient, &mut self.knots, stride, width);
            let rows = rows.len() as f32;
            self.knots.iter_mut().for_each(|g| *g *= rows);
        }
        Ok(())
    }

    /// The rows of the table that it used, with the gradients of the sum of the losses.
    pub(super) fn uses(&self) -> impl Iterator<Item = Uses<'_>> {
        [(self.uses.as_slice(), self.gradient.as_slice()), (&self.history_uses, &self.history_gradient)].into_iter()
    }

    /// The logits of these rows.
    pub(super) fn score(&mut self, step: &Step<'_>, rows: &[u32]) -> Result<()> {
        self.encode(step, rows, |_| {});
        let mut inputs = features(step.net, &self.places, &self.x, &self.history, rows.len())?;
        for parameter in step.parameters {
            inputs.push(floats(&parameter.name, &parameter.shape, &parameter.values)?);
        }
        let logits = &mut self.logits;
        step.sessions.with(|worker| {
            let outputs = worker.session.run(inputs)?;
            logits.clear();
            logits.extend_from_slice(tensor(&outputs, 0)?);
            Ok(())
        })
    }

    /// Writes the rows' embeddings and numbers into the buffers; `change` may move the places.
    fn encode(&mut self, step: &Step<'_>, rows: &[u32], change: impl FnOnce(&mut Places)) {
        let (encoding, net, table) = (step.encoding, step.net, step.table.values());
        let width = net.width();
        encoding.places(&step.block.batch, rows, &mut self.places);
        change(&mut self.places);
        self.x.resize(rows.len() * width, 0.0);
        self.places.gather(table, step.knots, net.stride(), net.fields, &mut self.x, width);
        encoding.numbers(&step.block.batch, rows, &mut self.x, width);
        if net.history_target.is_some() {
            self.places.gather_history(table, net.stride(), &mut self.history);
        }
    }

    fn label(&mut self, step: &Step<'_>, how: &Treatment<'_>, rows: &[u32]) {
        let even = if step.net.classes > 0 && !step.net.several { 1.0 / step.net.classes as f32 } else { 0.5 };
        self.labels.clear();
        self.weights.clear();
        for row in rows {
            let (own, weight) = step.target.of(step.block, step.before, *row);
            self.weights.push(if own[0] > 0.5 && step.net.classes == 0 { weight * how.positive_weight } else { weight });
            self.labels.extend(own.iter().map(|label| label + how.label_smoothing * (even - label)));
        }
    }

    /// Draws the dropout masks (Srivastava et al. 2014, scaled while training).
    fn mask(&mut self, net: &Net, dropout: f32, rows: usize, rng: &mut ChaCha8Rng) {
        if dropout > 0.0 {
            let kept = 1.0 / (1.0 - dropout);
            let widths = net.mask_widths();
            self.masks.resize(widths.len(), Vec::new());
            for (mask, width) in self.masks.iter_mut().zip(widths) {
                mask.clear();
                mask.extend((0..rows * width).map(|_| if rng.random::<f32>() < dropout { 0.0 } else { kept }));
            }
        }
    }
}

/// Sets `sum` to the values of the first pass, adds those of later ones.
fn take(sum: &mut Vec<f32>, values: &[f32], pass: usize, share: f32) {
    if pass == 0 {
        sum.clear();
        sum.extend(values.iter().map(|value| value * share));
    } else {
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * share);
    }
}

fn tensor<'o>(outputs: &'o SessionOutputs<'_>, index: usize) -> Result<&'o [f32]> {
    Ok(outputs[index].try_extract_tensor::<f32>()?.1)
}

/// The inputs of a call that depend on its rows.
fn features<'v>(net: &Net, places: &'v Places, x: &'v [f32], history: &'v [f32], rows: usize) -> Result<Vec<Input<'v>>> {
    let mut inputs = vec![floats(port::X, &[rows, net.width()], x)?];
    if net.history_target.is_some() {
        let read = places.history();
        inputs.push(floats(port::HISTORY, &[rows, read.length, net.stride()], history)?);
        inputs.push(floats(port::HISTORY_MASK, &[rows, read.length], &read.mask)?);
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

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn a_batch_is_cut_into_few_pieces_of_a_size_that_suits_the_cache() {
        assert_eq!(
            [1, 128, 200, 256, 1000, 1024, 4096, 8192, 65536].map(|rows| length(rows, false)),
            [128, 128, 128, 128, 500, 512, 512, 512, 4096]
        );
        assert_eq!((length(4096, true), length(0, true)), (4096, 1));
    }
}
