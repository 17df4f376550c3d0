//! The deep interest network (Zhou et al. 2018, "Deep Interest Network for Click-Through Rate Prediction"): a candidate q weighs every
//! item k of the history by an MLP on [q, k, q - k, q * k]; the weighted sum of the items joins the other inputs of an MLP.
//!
//! The weights are not normalised, so that a strong interest stays strong. The attention has ReLU where the paper has Dice.

use super::builder::{Builder, Start};
use super::{Inputs, LENGTH, Net, ROWS};
use crate::error::{Error, Result};
use crate::graph::{Dim, Op, Shape, Tensor};

/// Width of the attention's hidden layer, as in the paper.
const ATTENTION: usize = 36;

pub(super) fn logits(net: &Net, builder: &mut Builder<'_>, inputs: &Inputs) -> Result<Tensor> {
    let (Some((items, mask)), Some(target)) = (inputs.history, net.history_target) else {
        return Err(Error::graph("din needs a history and the field to attend it with"));
    };
    let candidate = builder.graph.slice(inputs.x, 1, target * net.dim, (target + 1) * net.dim)?;
    let interest = interest(net.dim, builder, candidate, items, mask)?;
    let x0 = builder.graph.concat(&[inputs.x, interest], 1)?;
    let deep = builder.mlp("hidden", x0, &net.hidden)?;
    builder.head("head", deep, 0)
}

/// The sum `[n, dim]` of the items `[n, l, dim]`, each times its weight.
fn interest(dim: usize, builder: &mut Builder<'_>, candidate: Tensor, items: Tensor, mask: Tensor) -> Result<Tensor> {
    let weight = builder.weight("attention.0.weight", &[4 * dim, ATTENTION], Start::Even)?;
    let bias = builder.weight("attention.0.bias", &[ATTENTION], Start::Zero)?;
    let out_weight = builder.weight("attention.1.weight", &[ATTENTION, 1], Start::Even)?;
    let out_bias = builder.weight("attention.1.bias", &[1], Start::Zero)?;
    let graph = &mut *builder.graph;
    let column = |to: usize| Shape::new([Dim::from(ROWS), Dim::from(LENGTH), Dim::from(to)]);

    // [q, k, q - k, q * k] W = q (Wq + Wd) + k (Wk - Wd) + (q * k) Wp: the part of q once per row, not once per item.
    let parts = graph.split(weight, 0, &[dim; 4])?;
    let of_candidate = graph.add(parts[0], parts[2])?;
    let of_item = graph.sub(parts[1], parts[2])?;
    let hidden = graph.gemm(candidate, of_candidate, Some(bias))?;
    let hidden = graph.reshape(hidden, Shape::batch(ROWS, &[1, ATTENTION]))?;
    let by_item = graph.matmul(items, of_item)?;
    let query = graph.reshape(candidate, Shape::batch(ROWS, &[1, dim]))?;
    let product = graph.mul(items, query)?;
    let by_product = graph.matmul(product, parts[3])?;
    let by_item = graph.add(by_item, by_product)?;
    let hidden = graph.add(by_item, hidden)?;
    let hidden = graph.relu(hidden)?;
    let score = graph.matmul(hidden, out_weight)?;
    let score = graph.add(score, out_bias)?;
    let mask = graph.reshape(mask, column(1))?;
    let score = graph.mul(score, mask)?;
    let sum = graph.one(Op::MatMul { transpose_a: true, transpose_b: false }, &[score, items])?;
    graph.reshape(sum, Shape::batch(ROWS, &[dim]))
}
