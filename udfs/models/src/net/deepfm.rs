//! DeepFM (Guo et al. 2017, "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction"): the logits of a
//! factorization machine and of an MLP are added; both read the same embeddings.

use super::builder::{Builder, Start};
use super::{Net, ROWS, fm};
use crate::error::Result;
use crate::graph::{Shape, Tensor};

pub(super) fn logits(net: &Net, builder: &mut Builder<'_>, x: Tensor) -> Result<Tensor> {
    let inputs = fm::Inputs::new(net, builder, x)?;
    let shallow = inputs.logits(net, builder)?;
    let mut parts = Vec::new();
    if let Some(embeddings) = inputs.embeddings {
        parts.push(builder.graph.reshape(embeddings, Shape::batch(ROWS, &[net.fields * net.dim]))?);
    }
    parts.extend(inputs.dense);
    let x0 = builder.graph.concat(&parts, 1)?;
    let hidden = builder.mlp("hidden", x0, &net.hidden)?;
    let deep = builder.product("deep", hidden, 1, Start::Zero)?;
    builder.graph.add(shallow, deep)
}
