//! The deep and cross network, version 2 (Wang et al. 2021, "DCN V2", parallel form with full-rank cross layers): cross layers
//! x' = x0 * (W x + b) + x beside an MLP on x0, and a linear head on both.

use super::Net;
use super::builder::Builder;
use crate::error::Result;
use crate::graph::Tensor;

pub(super) fn logits(net: &Net, builder: &mut Builder<'_>, x0: Tensor) -> Result<Tensor> {
    let mut cross = x0;
    for index in 0..net.cross_layers {
        let width = builder.width(x0)?;
        let linear = builder.linear(&format!("cross.{index}"), cross, width)?;
        let product = builder.graph.mul(x0, linear)?;
        cross = builder.graph.add(product, cross)?;
    }
    let deep = builder.mlp("hidden", x0, &net.hidden)?;
    let joined = match (net.cross_layers, net.hidden.len()) {
        (0, _) => deep,
        (_, 0) => cross,
        _ => builder.graph.concat(&[cross, deep], 1)?,
    };
    if net.classes > 0 { builder.class_head("head", joined, net.classes) } else { builder.head("head", joined, 0) }
}
