//! The graphs of a training and of what it makes.

use super::super::config::Config;
use super::super::graph::{self, Slot};
use super::{Method, Tune};
use crate::autodiff;
use crate::error::{Error, Result};
use crate::graph::{Graph, Shape, Tensor};
use crate::net::class_entropy;

/// Names of the inputs and outputs that an encoder does not have by itself.
pub(super) mod port {
    /// `[b, classes]`: shares of a row that add up to 1.
    pub(crate) const LABELS: &str = "labels";
    /// `[b, 1]`: what each row adds of its loss to that of the step.
    pub(crate) const ROW_WEIGHTS: &str = "row_weights";
    /// `[b, hidden]`: the mask of dropout of the vectors of texts.
    pub(crate) const POOLED: &str = "mask.pooled";
    /// `[classes, hidden]` and `[classes]`.
    pub(crate) const HEAD: [&str; 2] = ["head.weight", "head.bias"];
}

/// The graph of a step: the loss, then the gradients of the weights that are trained, in their order, and at last, where they are trained, those of
/// the words.
pub(super) struct Training {
    pub(super) graph: Graph,
    /// The weights that are inputs, but for the words.
    pub(super) weights: Vec<Weight>,
    /// The widths of the masks of low-rank changes.
    pub(super) masks: Vec<usize>,
}

/// A weight of a graph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weight {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) trained: bool,
}

/// Whether the words are trained.
pub(super) fn trains_words(tune: &Tune) -> bool {
    tune.method == Method::Full
}

/// The graph of a step. With `dropout` there are masks.
pub(super) fn training(config: &Config, tune: &Tune, classes: usize, dropout: bool) -> Result<Training> {
    let low = tune.low(dropout);
    let graph::Net { mut graph, slots, pooled, masks } = graph::trainable(config, low.as_ref())?;
    let rows = |width: usize| Shape::batch("b", &[width]);
    let mut vectors = pooled;
    if dropout {
        let mask = graph.input(port::POOLED, rows(config.hidden))?;
        vectors = graph.mul(pooled, mask)?;
    }
    let (logits, head) = head(&mut graph, vectors, config.hidden, classes)?;
    let labels = graph.input(port::LABELS, rows(classes))?;
    let row_weights = graph.input(port::ROW_WEIGHTS, rows(1))?;
    let losses = class_entropy(&mut graph, logits, labels)?;
    let losses = graph.mul(losses, row_weights)?;
    let loss = graph.reduce_sum(losses, &[0, 1], false)?;

    let trained = |name: &str| match tune.method {
        Method::Full => true,
        Method::Lora => name.ends_with(".lora_A") || name.ends_with(".lora_B"),
    };
    let slots =
        slots.into_iter().map(|slot: Slot| (slot.tensor, Weight { trained: trained(&slot.name), name: slot.name, shape: slot.shape }));
    let (tensors, weights): (Vec<Tensor>, Vec<Weight>) = slots.chain(head).unzip();
    let mut of: Vec<Tensor> = tensors.iter().zip(&weights).filter(|(_, weight)| weight.trained).map(|(tensor, _)| *tensor).collect();
    of.extend(graph.find(graph::ROWS).filter(|_| trains_words(tune)));
    let gradients = autodiff::gradients(&mut graph, loss, &of)?;
    graph.output("loss", loss)?;
    for (place, gradient) in gradients.into_iter().enumerate() {
        graph.output(&format!("gradient.{place}"), gradient)?;
    }
    Ok(Training { graph, weights, masks })
}

/// The graph that gives logits `[b, classes]` with the weights as inputs: validation during a training.
pub(super) fn evaluation(config: &Config, tune: &Tune, classes: usize) -> Result<Graph> {
    let graph::Net { mut graph, pooled, .. } = graph::trainable(config, tune.low(false).as_ref())?;
    let (logits, _) = head(&mut graph, pooled, config.hidden, classes)?;
    graph.output("logits", logits)?;
    Ok(graph)
}

/// The graph that explains, with the weights as inputs: the losses `[b, 1]`, the logits `[b, classes]`, and the gradient of the words.
pub(super) fn explaining(config: &Config, classes: usize) -> Result<(Graph, Vec<Weight>)> {
    let graph::Net { mut graph, slots, pooled, .. } = graph::trainable(config, None)?;
    let (logits, head) = head(&mut graph, pooled, config.hidden, classes)?;
    let labels = graph.input(port::LABELS, Shape::batch("b", &[classes]))?;
    let losses = class_entropy(&mut graph, logits, labels)?;
    let loss = graph.reduce_sum(losses, &[0, 1], false)?;
    let words = graph.find(graph::ROWS).ok_or_else(|| Error::graph("an encoder without words"))?;
    let gradients = autodiff::gradients(&mut graph, loss, &[words])?;
    graph.output("losses", losses)?;
    graph.output("logits", logits)?;
    gradients.into_iter().try_for_each(|gradient| graph.output("gradient", gradient))?;
    let slots = slots.into_iter().map(|slot| Weight { name: slot.name, shape: slot.shape, trained: true });
    Ok((graph, slots.chain(head.into_iter().map(|(_, weight)| weight)).collect()))
}

/// The graph that serves, from the ids of tokens, and its weights.
pub(super) fn serving(config: &Config, classes: usize) -> Result<(Graph, Vec<Weight>)> {
    let graph::Net { mut graph, slots, pooled, .. } = graph::build(config)?;
    let (logits, head) = head(&mut graph, pooled, config.hidden, classes)?;
    graph.output("logits", logits)?;
    let slots = slots.into_iter().map(|slot| Weight { name: slot.name, shape: slot.shape, trained: true });
    Ok((graph, slots.chain(head.into_iter().map(|(_, weight)| weight)).collect()))
}

/// A linear layer over the vectors of texts.
fn head(graph: &mut Graph, vectors: Tensor, hidden: usize, classes: usize) -> Result<(Tensor, [(Tensor, Weight); 2])> {
    let [weight, bias] = port::HEAD;
    let mut input = |name: &str, shape: &[usize]| -> Result<(Tensor, Weight)> {
        let tensor = graph.input(name, Shape::fixed(shape))?;
        Ok((tensor, Weight { name: name.to_owned(), shape: shape.to_vec(), trained: true }))
    };
    let head = [input(weight, &[classes, hidden])?, input(bias, &[classes])?];
    let product = graph.matmul_transposed(vectors, head[0].0)?;
    let logits = graph.add(product, head[1].0)?;
    Ok((logits, head))
}
