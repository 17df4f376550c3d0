//! The multi-gate mixture of experts (Ma J. et al. 2018, "Modeling Task Relationships in Multi-task Learning with Multi-gate
//! Mixture-of-Experts"): every task reads its own mixture of shared experts, softmax(x G), through a tower of its own.
//!
//! The last hidden layer is the towers', those before it are the experts'; a single one is the experts'. The loss is that of ESMM.

use super::builder::{Builder, Start};
use super::{Net, ROWS, TASKS, esmm};
use crate::error::Result;
use crate::graph::{Shape, Tensor};

pub(super) fn logits(net: &Net, builder: &mut Builder<'_>, x: Tensor) -> Result<Tensor> {
    let (shared, own) = match net.hidden.as_slice() {
        [shared @ .., last] if !shared.is_empty() => (shared, std::slice::from_ref(last)),
        few => (few, [].as_slice()),
    };
    let mut experts = Vec::new();
    for expert in 0..net.experts {
        experts.push(builder.mlp(&format!("expert.{expert}"), x, shared)?);
    }
    let joined = builder.graph.concat(&experts, 1)?;
    let width = builder.width(joined)? / net.experts;
    let experts = builder.graph.reshape(joined, Shape::batch(ROWS, &[net.experts, width]))?;

    let mut logits = Vec::new();
    for (task, name) in TASKS.iter().enumerate() {
        let gate = builder.product(&format!("{name}.gate"), x, net.experts, Start::Even)?;
        let gate = builder.graph.softmax(gate)?;
        let gate = builder.graph.reshape(gate, Shape::batch(ROWS, &[1, net.experts]))?;
        let mixture = builder.graph.matmul(gate, experts)?;
        let mixture = builder.graph.reshape(mixture, Shape::batch(ROWS, &[width]))?;
        logits.push(esmm::tower(builder, name, task, mixture, own)?);
    }
    builder.graph.concat(&logits, 1)
}
