//! FinalMLP (Mao et al. 2023, "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction"): two MLPs, each on inputs weighted by
//! a gate of its own, and a head with a linear term for each and a bilinear term in several heads for both.
//!
//! A gate is 2 sigmoid(MLP(context)) with a learned context vector, the paper's form without context features.

use super::builder::{Builder, Start};
use super::{Net, ROWS};
use crate::error::Result;
use crate::graph::{Shape, Tensor};

/// Width of a gate's hidden layer.
const GATE: usize = 16;
/// Heads of the bilinear term, if the streams' width is a multiple of it.
const HEADS: usize = 8;

pub(super) fn logits(net: &Net, builder: &mut Builder<'_>, x: Tensor) -> Result<Tensor> {
    let first = stream(net, builder, "first", x)?;
    let second = stream(net, builder, "second", x)?;
    let both = builder.graph.concat(&[first, second], 1)?;
    let linear = builder.head("head", both, 0)?;
    let bilinear = bilinear(builder, first, second)?;
    builder.graph.add(linear, bilinear)
}

fn stream(net: &Net, builder: &mut Builder<'_>, name: &str, x: Tensor) -> Result<Tensor> {
    let width = builder.width(x)?;
    let context = builder.weight(&format!("{name}.context"), &[1, net.dim], Start::Even)?;
    let inner = builder.linear(&format!("{name}.gate.0"), context, GATE)?;
    let inner = builder.graph.relu(inner)?;
    let outer = builder.linear(&format!("{name}.gate.1"), inner, width)?;
    let open = builder.graph.sigmoid(outer)?;
    let two = builder.graph.scalar(2.0);
    let gate = builder.graph.mul(open, two)?;
    let gated = builder.graph.mul(x, gate)?;
    builder.mlp(&format!("{name}.hidden"), gated, &net.hidden)
}

/// The sum over the heads of a' W b, where a and b are the head's parts of the streams.
fn bilinear(builder: &mut Builder<'_>, first: Tensor, second: Tensor) -> Result<Tensor> {
    let width = builder.width(first)?;
    let heads = if width.is_multiple_of(HEADS) { HEADS } else { 1 };
    let part = width / heads;
    let weight = builder.weight("bilinear.weight", &[heads, part, part], Start::Zero)?;
    let mut by_head = |stream: Tensor| {
        let parts = builder.graph.reshape(stream, Shape::batch(ROWS, &[heads, part]))?;
        builder.graph.transpose(parts, &[1, 0, 2])
    };
    let (first, second) = (by_head(first)?, by_head(second)?);
    let image = builder.graph.matmul(first, weight)?;
    let product = builder.graph.mul(image, second)?;
    let sum = builder.graph.reduce_sum(product, &[0, 2], false)?;
    builder.graph.reshape(sum, Shape::batch(ROWS, &[1]))
}
