//! The entire space multi-task model (Ma X. et al. 2018, "Entire Space Multi-Task Model"): a tower for the click and one for the
//! conversion after a click, on the same embeddings. The loss is on what is observed in every row: the click, and the click with
//! conversion, whose probability is the product.

use super::builder::Builder;
use super::{Net, TASKS};
use crate::error::Result;
use crate::graph::{Graph, Tensor};

pub(super) fn logits(net: &Net, builder: &mut Builder<'_>, x: Tensor) -> Result<Tensor> {
    let mut logits = Vec::new();
    for (task, name) in TASKS.iter().enumerate() {
        logits.push(tower(builder, name, task, x, &net.hidden)?);
    }
    builder.graph.concat(&logits, 1)
}

/// The MLP and the head of a task.
pub(super) fn tower(builder: &mut Builder<'_>, name: &str, task: usize, x: Tensor, hidden: &[usize]) -> Result<Tensor> {
    let deep = builder.mlp(&format!("{name}.hidden"), x, hidden)?;
    builder.head(&format!("{name}.head"), deep, task)
}

/// From the logits a of the click and b of the conversion given a click, those of the click and of click and conversion.
///
/// The logit of sigmoid(a) sigmoid(b) is -log(e^-a + e^-b + e^(-a-b)) = a - softplus(softplus(a) - b), which cannot overflow.
pub(super) fn entire_space(graph: &mut Graph, logits: Tensor) -> Result<Tensor> {
    let parts = graph.split(logits, 1, &[1, 1])?;
    let (click, conversion) = (parts[0], parts[1]);
    let inner = graph.softplus(click)?;
    let inner = graph.sub(inner, conversion)?;
    let inner = graph.softplus(inner)?;
    let joint = graph.sub(click, inner)?;
    graph.concat(&[click, joint], 1)
}
