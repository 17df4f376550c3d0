//! The factorization machine (Rendle 2010, "Factorization Machines"): beside the first-order weights, every two inputs interact
//! through the product of their vectors.
//!
//! A category's vector is its embedding; a number has a vector of its own, times the number. The sum over all pairs is
//! ((sum v)^2 - sum v^2) / 2, which is linear in the number of inputs.

use super::builder::{Builder, Start};
use super::{Net, ROWS, logistic};
use crate::error::Result;
use crate::graph::{Shape, Tensor};

pub(super) fn logits(net: &Net, builder: &mut Builder<'_>, x: Tensor) -> Result<Tensor> {
    let inputs = Inputs::new(net, builder, x)?;
    inputs.logits(net, builder)
}

/// The parts of `x`.
pub(super) struct Inputs {
    /// `[n, fields, dim]`
    pub(super) embeddings: Option<Tensor>,
    /// First-order weights `[n, fields]`.
    categories: Option<Tensor>,
    /// `[n, dense]`
    pub(super) dense: Option<Tensor>,
}

impl Inputs {
    pub(super) fn new(net: &Net, builder: &mut Builder<'_>, x: Tensor) -> Result<Self> {
        let (fields, dense) = logistic::cut(net, builder, x)?;
        let Some(fields) = fields else { return Ok(Self { embeddings: None, categories: None, dense }) };
        let rows = builder.graph.reshape(fields, Shape::batch(ROWS, &[net.fields, net.dim + 1]))?;
        let parts = builder.graph.split(rows, 2, &[net.dim, 1])?;
        let categories = builder.graph.reshape(parts[1], Shape::batch(ROWS, &[net.fields]))?;
        Ok(Self { embeddings: Some(parts[0]), categories: Some(categories), dense })
    }

    /// First and second order.
    pub(super) fn logits(&self, net: &Net, builder: &mut Builder<'_>) -> Result<Tensor> {
        let first = logistic::first_order(builder, self.categories, self.dense)?;
        // Sums over the inputs of their vectors and of the vectors' squares, each [n, dim].
        let of_categories = match self.embeddings {
            Some(vectors) => {
                let squares = builder.graph.mul(vectors, vectors)?;
                Some((builder.graph.reduce_sum(vectors, &[1], false)?, builder.graph.reduce_sum(squares, &[1], false)?))
            }
            None => None,
        };
        let of_numbers = match self.dense {
            Some(dense) => {
                let vectors = builder.weight("vectors", &[net.dense, net.dim], Start::Small)?;
                let (numbers, squares) = (builder.graph.mul(dense, dense)?, builder.graph.mul(vectors, vectors)?);
                Some((builder.graph.gemm(dense, vectors, None)?, builder.graph.gemm(numbers, squares, None)?))
            }
            None => None,
        };
        let (sum, squares) = match (of_categories, of_numbers) {
            (Some(a), Some(b)) => (builder.graph.add(a.0, b.0)?, builder.graph.add(a.1, b.1)?),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return Ok(first),
        };
        let square = builder.graph.mul(sum, sum)?;
        let pairs = builder.graph.sub(square, squares)?;
        let twice = builder.graph.reduce_sum(pairs, &[1], true)?;
        let half = builder.graph.scalar(0.5);
        let second = builder.graph.mul(twice, half)?;
        builder.graph.add(first, second)
    }
}
