//! The graphs of a training and of what it makes.

use super::super::config::Config;
use super::super::graph::{self, Slot};
use super::{Method, Tune};
use crate::autodiff;
use crate::error::{Error, Result};
use crate::graph::{Dim, Graph, Op, Shape, Tensor};
use crate::net::class_entropy;
use crate::text::{SHARPNESS, Task};

/// What the distance of the changes of `adalora` from orthogonal ones counts.
const ORTHOGONAL: f32 = 0.1;

/// Names of the inputs and outputs that an encoder does not have by itself.
pub(super) mod port {
    /// `[b, classes]`: shares of a row that add up to 1, or labels of their own; `[b, s, classes]` for tags; `[b, 1]` for a number; `[n, n]` for pairs, of
    /// which the own partner of a text is 1; `[n, 1]` for likenesses.
    pub(crate) const LABELS: &str = "labels";
    /// `[b, 1]`: what each row adds of its loss to that of the step; `[n, 1]` where rows are pairs.
    pub(crate) const ROW_WEIGHTS: &str = "row_weights";
    /// The mask of dropout of the vectors that the head reads.
    pub(crate) const POOLED: &str = "mask.pooled";
    /// `[b]`: the row with the other pass of the same text.
    pub(crate) const TWIN: &str = "twin";
    /// `[n]` each: the rows of the texts of a pair.
    pub(crate) const PAIR: [&str; 2] = ["left", "right"];
    /// `[n, n]`: 0, or a large negative number for what is no partner though it is not the own one.
    pub(crate) const APART: &str = "apart";
    /// `[classes, hidden]` and `[classes]`.
    pub(crate) const HEAD: [&str; 2] = ["head.weight", "head.bias"];
}

/// The graph of a step: the loss, then the gradients of the weights that are trained, in their order, and at last, where they are asked for, those of
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

/// What a graph is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) config: &'a Config,
    pub(super) tune: &'a Tune,
    pub(super) task: Task,
    /// Values of the head; none without one.
    pub(super) outputs: usize,
}

/// Whether the words are trained.
pub(super) fn trains_words(tune: &Tune) -> bool {
    tune.method == Method::Full
}

impl Plan<'_> {
    /// The graph of a step. With `dropout` there are masks; with `words` there is the gradient of the words also where they are not trained.
    pub(super) fn training(self, dropout: bool, words: bool) -> Result<Training> {
        let Self { config, tune, task, .. } = self;
        let added = tune.added(dropout);
        let graph::Net { mut graph, slots, states, pooled, masks, .. } = graph::trainable(config, added.as_ref())?;
        let mut read = if task == Task::Tags { states } else { pooled };
        if dropout {
            let mask = graph.input(port::POOLED, graph.shape(read).clone())?;
            read = graph.mul(read, mask)?;
        }
        let (given, head) = self.head(&mut graph, read)?;
        let loss = self.loss(&mut graph, given)?;
        let slots = slots
            .into_iter()
            .map(|slot: Slot| (slot.tensor, Weight { trained: tune.trains(&slot.name), name: slot.name, shape: slot.shape }));
        let (tensors, weights): (Vec<Tensor>, Vec<Weight>) = slots.chain(head).unzip();
        let mut of: Vec<Tensor> = tensors.iter().zip(&weights).filter(|(_, weight)| weight.trained).map(|(tensor, _)| *tensor).collect();
        of.extend(graph.find(graph::ROWS).filter(|_| words || trains_words(tune)));
        let whole = if tune.method == Method::Adalora { penalised(&mut graph, loss, &tensors, &weights)? } else { loss };
        let gradients = autodiff::gradients(&mut graph, whole, &of)?;
        graph.output("loss", loss)?;
        for (place, gradient) in gradients.into_iter().enumerate() {
            graph.output(&format!("gradient.{place}"), gradient)?;
        }
        Ok(Training { graph, weights, masks })
    }

    /// The graph that gives logits `[b, outputs]`, of tags `[b, s, outputs]`, or vectors, with the weights as inputs: validation during a training.
    pub(super) fn evaluation(self) -> Result<Graph> {
        let graph::Net { mut graph, states, pooled, .. } = graph::trainable(self.config, self.tune.added(false).as_ref())?;
        let (given, _) = self.head(&mut graph, if self.task == Task::Tags { states } else { pooled })?;
        graph.output("logits", given)?;
        Ok(graph)
    }

    /// The graph that explains, with the weights as inputs: the losses `[b, 1]`, the logits `[b, classes]`, the gradient of the words, and `[b, s]` the tokens'
    /// shares of the attention.
    pub(super) fn explaining(self) -> Result<(Graph, Vec<Weight>)> {
        let graph::Net { mut graph, slots, pooled, attention, .. } = graph::trainable(self.config, self.tune.served().as_ref())?;
        let attended = rolled_out(&mut graph, &attention)?;
        let (logits, head) = self.head(&mut graph, pooled)?;
        let labels = graph.input(port::LABELS, Shape::batch("b", &[self.outputs]))?;
        let losses = class_entropy(&mut graph, logits, labels)?;
        let loss = graph.reduce_sum(losses, &[0, 1], false)?;
        let words = graph.find(graph::ROWS).ok_or_else(|| Error::graph("an encoder without words"))?;
        let gradients = autodiff::gradients(&mut graph, loss, &[words])?;
        graph.output("losses", losses)?;
        graph.output("logits", logits)?;
        gradients.into_iter().try_for_each(|gradient| graph.output("gradient", gradient))?;
        graph.output("attention", attended)?;
        Ok((graph, all(slots, head)))
    }

    /// The graph that serves, from the ids of tokens, and its weights.
    pub(super) fn serving(self) -> Result<(Graph, Vec<Weight>)> {
        let graph::Net { mut graph, slots, states, pooled, .. } = graph::built(self.config, self.tune.served().as_ref())?;
        let (given, head) = self.head(&mut graph, if self.task == Task::Tags { states } else { pooled })?;
        graph.output("logits", given)?;
        Ok((graph, all(slots, head)))
    }

    /// A linear layer over vectors, where there is one.
    fn head(self, graph: &mut Graph, vectors: Tensor) -> Result<(Tensor, Vec<(Tensor, Weight)>)> {
        if self.task.gives_vectors() {
            return Ok((vectors, Vec::new()));
        }
        let [weight, bias] = port::HEAD;
        let mut input = |name: &str, shape: &[usize]| -> Result<(Tensor, Weight)> {
            let tensor = graph.input(name, Shape::fixed(shape))?;
            Ok((tensor, Weight { name: name.to_owned(), shape: shape.to_vec(), trained: true }))
        };
        let head = vec![input(weight, &[self.outputs, self.config.hidden])?, input(bias, &[self.outputs])?];
        let product = graph.matmul_transposed(vectors, head[0].0)?;
        let logits = graph.add(product, head[1].0)?;
        Ok((logits, head))
    }

    /// What a step makes smaller: the sum of the losses of rows, each with its weight.
    fn loss(self, graph: &mut Graph, given: Tensor) -> Result<Tensor> {
        let losses = match self.task {
            Task::Pairs | Task::Likeness => self.paired(graph, given)?,
            Task::Class => {
                let labels = graph.input(port::LABELS, Shape::batch("b", &[self.outputs]))?;
                let losses = class_entropy(graph, given, labels)?;
                if self.tune.r_drop > 0.0 { self.twinned(graph, given, losses)? } else { losses }
            }
            Task::Labels => {
                let labels = graph.input(port::LABELS, Shape::batch("b", &[self.outputs]))?;
                let losses = graph.binary_cross_entropy(given, labels)?;
                graph.reduce_mean(losses, &[1], true)?
            }
            Task::Number { .. } => {
                let labels = graph.input(port::LABELS, Shape::batch("b", &[1]))?;
                let errors = graph.sub(given, labels)?;
                graph.mul(errors, errors)?
            }
            Task::Tags => {
                let labels = graph.input(port::LABELS, graph.shape(given).clone())?;
                let losses = class_entropy(graph, given, labels)?;
                graph.reduce_sum(losses, &[1], false)?
            }
        };
        let weights = graph.input(port::ROW_WEIGHTS, graph.shape(losses).clone())?;
        let losses = graph.mul(losses, weights)?;
        graph.reduce_sum(losses, &[0, 1], false)
    }

    /// Adds to the loss of a row how far its classes are from those of the other pass of its text. Over both passes that is the symmetric divergence of
    /// Kullback and Leibler (Liang et al. 2021).
    fn twinned(self, graph: &mut Graph, logits: Tensor, losses: Tensor) -> Result<Tensor> {
        let twin = graph.index_input(port::TWIN, Shape::batch("b", &[]))?;
        let (least, count) = (graph.scalar(1e-7), graph.scalar(self.tune.r_drop));
        let shares = graph.softmax(logits)?;
        let logs = graph.add(shares, least)?;
        let logs = graph.log(logs)?;
        let others = graph.gather(logs, twin)?;
        let apart = graph.sub(logs, others)?;
        let apart = graph.mul(apart, shares)?;
        let apart = graph.reduce_sum(apart, &[1], true)?;
        let apart = graph.mul(apart, count)?;
        graph.add(losses, apart)
    }

    /// The losses of pairs of texts: the cross-entropy of the own partner among all, or the squared distance of the cosine from the label.
    fn paired(self, graph: &mut Graph, vectors: Tensor) -> Result<Tensor> {
        let n = || Dim::from("n");
        let units = unit(graph, vectors)?;
        let [left, right] = port::PAIR.map(|side| graph.index_input(side, Shape::new([n()])));
        let (left, right) = (graph.gather(units, left?)?, graph.gather(units, right?)?);
        if self.task == Task::Likeness {
            let labels = graph.input(port::LABELS, Shape::batch("n", &[1]))?;
            let products = graph.mul(left, right)?;
            let cosines = graph.reduce_sum(products, &[1], true)?;
            let errors = graph.sub(cosines, labels)?;
            return graph.mul(errors, errors);
        }
        let square = || Shape::new([n(), n()]);
        let (labels, apart) = (graph.input(port::LABELS, square())?, graph.input(port::APART, square())?);
        let cosines = graph.matmul_transposed(left, right)?;
        let sharpness = graph.scalar(SHARPNESS);
        let scores = graph.mul(cosines, sharpness)?;
        let scores = graph.add(scores, apart)?;
        class_entropy(graph, scores, labels)
    }
}

/// What the vector of a text attends to in the end, from the last layer to the words: the mean of the heads, and half of every layer past it (Abnar and
/// Zuidema 2020).
fn rolled_out(graph: &mut Graph, attention: &[Tensor]) -> Result<Tensor> {
    let pool = graph.find("pool").ok_or_else(|| Error::graph("an encoder without a pool"))?;
    let half = graph.scalar(0.5);
    let mut shares = graph.one(Op::Unsqueeze(vec![1]), &[pool])?;
    for weights in attention.iter().rev() {
        let weights = graph.reduce_mean(*weights, &[1], false)?;
        let moved = graph.matmul(shares, weights)?;
        let both = graph.add(shares, moved)?;
        shares = graph.mul(both, half)?;
    }
    graph.one(Op::Squeeze(vec![1]), &[shares])
}

/// Vectors divided by their lengths.
fn unit(graph: &mut Graph, vectors: Tensor) -> Result<Tensor> {
    let squares = graph.mul(vectors, vectors)?;
    let (least, half) = (graph.scalar(1e-12), graph.scalar(-0.5));
    let sum = graph.reduce_sum(squares, &[1], true)?;
    let sum = graph.add(sum, least)?;
    let log = graph.log(sum)?;
    let log = graph.mul(log, half)?;
    let inverse = graph.exp(log)?;
    graph.mul(vectors, inverse)
}

/// The loss and how far from orthogonal the changes are: the mean of |A A' - 1|² and |B' B - 1|² (Zhang et al. 2023).
fn penalised(graph: &mut Graph, loss: Tensor, tensors: &[Tensor], weights: &[Weight]) -> Result<Tensor> {
    let changes: Vec<(Tensor, &Weight)> = tensors
        .iter()
        .copied()
        .zip(weights)
        .filter(|(_, weight)| weight.name.ends_with(".lora_A") || weight.name.ends_with(".lora_B"))
        .collect();
    let Some(rank) = changes.first().map(|(_, weight)| weight.shape[0].min(weight.shape[1])) else { return Ok(loss) };
    let unit = (0..rank * rank).map(|at| f32::from(u8::from(at % (rank + 1) == 0))).collect();
    let unit = graph.constant("unit", &[rank, rank], unit)?;
    let share = graph.scalar(ORTHOGONAL / changes.len() as f32);
    let mut whole = loss;
    for (tensor, weight) in changes {
        let rows = weight.name.ends_with(".lora_A");
        let product = graph.one(Op::Gemm { transpose_a: !rows, transpose_b: rows }, &[tensor, tensor])?;
        let off = graph.sub(product, unit)?;
        let squares = graph.mul(off, off)?;
        let sum = graph.reduce_sum(squares, &[0, 1], false)?;
        let sum = graph.mul(sum, share)?;
        whole = graph.add(whole, sum)?;
    }
    Ok(whole)
}

fn all(slots: Vec<Slot>, head: Vec<(Tensor, Weight)>) -> Vec<Weight> {
    let slots = slots.into_iter().map(|slot| Weight { name: slot.name, shape: slot.shape, trained: true });
    slots.chain(head.into_iter().map(|(_, weight)| weight)).collect()
}
