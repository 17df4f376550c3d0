//! The graphs of a training: a decoder over texts that lie one after another, with low-rank changes of some matrices.
//!
//! Inputs, with `s` tokens of all texts together and `n` of them that count:
//! - `words` `[s, hidden]`: the rows of the embedding; `cos`, `sin` `[s, head_dim / 2]`: those of the rotary tables, by the place in its own text;
//! - `mask` `[s, s]`: 0 where a token (row) sees another, itself and those before it in its text, else a large negative number;
//! - `places` int64 `[n]`: the tokens before those that count, `labels` `[n, hidden]`: the rows of the head for those that count;
//! - the weights; of a rounded one `.q` int8 and `.s`, its numbers and their factors.
//!
//! The log-probabilities of the labels are `[n, 1]`.

use super::super::Facts;
use super::super::adapter::Projection;
use super::frozen::Frozen;
use super::{Objective, Tune};
use crate::autodiff;
use crate::error::Result;
use crate::graph::{Dim, Graph, Op, Shape, Tensor};

/// Names of inputs.
pub(super) mod port {
    pub(crate) const WORDS: &str = "words";
    pub(crate) const ROTARY: [&str; 2] = ["cos", "sin"];
    pub(crate) const MASK: &str = "mask";
    pub(crate) const PLACES: &str = "places";
    pub(crate) const LABELS: &str = "labels";
    /// `[n, 1]`: what each label adds of its loss to that of the step.
    pub(crate) const SHARES: &str = "shares";
    /// `[p, n]`: 1 for the labels of the chosen text of a pair, -1 for those of the other one.
    pub(crate) const PAIRS: &str = "pairs";
    /// `[p, 1]`: what the pairs' differences were before the training.
    pub(crate) const REFERENCE: &str = "reference";
    /// `[p, 1]`: what each pair adds of its loss to that of the step.
    pub(crate) const PAIR_SHARES: &str = "pair_shares";
}

/// A weight that is trained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trainable {
    pub(super) name: String,
    pub(super) shape: [usize; 2],
}

/// A graph with its inputs.
pub(super) struct Net {
    pub(super) graph: Graph,
    pub(super) trainable: Vec<Trainable>,
    /// The weights that stay.
    pub(super) frozen: Vec<String>,
    /// The widths of the masks of dropout.
    pub(super) masks: Vec<usize>,
}

/// The graph of a step: the loss, then the gradients of what is trained.
pub(super) fn training(facts: &Facts, frozen: &Frozen, tune: &Tune, objective: Objective, dropout: bool) -> Result<Net> {
    let mut builder = Builder::new(facts, frozen, tune, dropout);
    let logs = builder.logs()?;
    let graph = &mut builder.graph;
    let n = || Dim::from("n");
    let loss = match objective {
        Objective::Generation => {
            let shares = graph.input(port::SHARES, Shape::new([n(), 1.into()]))?;
            let minus = graph.scalar(-1.0);
            let losses = graph.mul(logs, shares)?;
            let losses = graph.mul(losses, minus)?;
            graph.reduce_sum(losses, &[0, 1], false)?
        }
        Objective::Preference => {
            let one = || Shape::new([Dim::from("p"), 1.into()]);
            let pairs = graph.input(port::PAIRS, Shape::new([Dim::from("p"), n()]))?;
            let reference = graph.input(port::REFERENCE, one())?;
            let shares = graph.input(port::PAIR_SHARES, one())?;
            let differences = graph.matmul(pairs, logs)?;
            let margins = graph.sub(differences, reference)?;
            let beta = graph.scalar(-tune.beta);
            let margins = graph.mul(margins, beta)?;
            let losses = graph.softplus(margins)?;
            let losses = graph.mul(losses, shares)?;
            graph.reduce_sum(losses, &[0, 1], false)?
        }
    };
    let of: Vec<Tensor> = builder.trainable.iter().map(|(tensor, _)| *tensor).collect();
    let gradients = autodiff::gradients(&mut builder.graph, loss, &of)?;
    builder.graph.output("loss", loss)?;
    for (place, gradient) in gradients.into_iter().enumerate() {
        builder.graph.output(&format!("gradient.{place}"), gradient)?;
    }
    Ok(builder.finish())
}

/// The graph that gives the log-probabilities of the labels.
pub(super) fn scoring(facts: &Facts, frozen: &Frozen, tune: &Tune) -> Result<Net> {
    let mut builder = Builder::new(facts, frozen, tune, false);
    let logs = builder.logs()?;
    builder.graph.output("logs", logs)?;
    Ok(builder.finish())
}

/// The name of a mask of dropout.
pub(super) fn mask(number: usize) -> String {
    format!("mask.{number}")
}

struct Builder<'a> {
    graph: Graph,
    facts: &'a Facts,
    frozen: &'a Frozen,
    tune: &'a Tune,
    trainable: Vec<(Tensor, Trainable)>,
    /// The names of the weights that stay.
    kept: Vec<String>,
    dropout: bool,
    /// The inputs of changes that have a mask, with what they are after it, and their widths.
    masked: Vec<(Tensor, Tensor, usize)>,
}

impl<'a> Builder<'a> {
    fn new(facts: &'a Facts, frozen: &'a Frozen, tune: &'a Tune, dropout: bool) -> Self {
        let (trainable, kept, masked) = (Vec::new(), Vec::new(), Vec::new());
        Self { graph: Graph::new("decoder"), facts, frozen, tune, trainable, kept, dropout, masked }
    }

    fn finish(self) -> Net {
        let trainable = self.trainable.into_iter().map(|(_, weight)| weight).collect();
        Net { graph: self.graph, trainable, frozen: self.kept, masks: self.masked.into_iter().map(|(_, _, width)| width).collect() }
    }

    fn weight(&mut self, name: String, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.graph.input(&name, Shape::fixed(shape))?;
        self.kept.push(name);
        Ok(tensor)
    }

    fn matrix(&mut self, name: String, shape: [usize; 2]) -> Result<Tensor> {
        let Some(block) = self.frozen.weight(&name)?.block() else { return self.weight(name, &shape) };
        let tensor = self.graph.rounded_input(&name, shape, block)?;
        self.kept.push(name);
        Ok(tensor)
    }

    /// The log-probabilities of the labels.
    fn logs(&mut self) -> Result<Tensor> {
        let Facts { hidden, head_dim, vocab, .. } = *self.facts;
        let s = || Dim::from("s");
        let mut x = self.graph.input(port::WORDS, Shape::batch("s", &[hidden]))?;
        let rotary = port::ROTARY.map(|name| self.graph.input(name, Shape::batch("s", &[head_dim / 2])));
        let [cos, sin] = rotary;
        let (cos, sin) = (self.graph.one(Op::Unsqueeze(vec![1]), &[cos?])?, self.graph.one(Op::Unsqueeze(vec![1]), &[sin?])?);
        let mask = self.graph.input(port::MASK, Shape::new([s(), s()]))?;
        for layer in 0..self.facts.layers {
            let normal = self.norm(format!("{layer}.attention_norm"), x)?;
            let attended = self.attention(layer, normal, [cos, sin], mask)?;
            let own = self.linear(layer, "o", &[Projection::Output], attended)?;
            x = self.graph.add(x, own[0])?;
            let normal = self.norm(format!("{layer}.inner_norm"), x)?;
            let parts = self.linear(layer, "gate_up", &[Projection::Gate, Projection::Up], normal)?;
            let open = self.graph.sigmoid(parts[0])?;
            let gate = self.graph.mul(parts[0], open)?;
            let inner = self.graph.mul(gate, parts[1])?;
            let down = self.linear(layer, "down", &[Projection::Down], inner)?;
            x = self.graph.add(x, down[0])?;
        }
        let places = self.graph.index_input(port::PLACES, Shape::batch("n", &[]))?;
        let labels = self.graph.input(port::LABELS, Shape::batch("n", &[hidden]))?;
        let x = self.graph.gather(x, places)?;
        let x = self.norm("norm".to_owned(), x)?;
        let head = self.matrix("head".to_owned(), [vocab, hidden])?;
        let logits = self.graph.matmul_transposed(x, head)?;
        let total = self.graph.log_sum_exp(logits)?;
        let own = self.graph.mul(x, labels)?;
        let own = self.graph.reduce_sum(own, &[1], true)?;
        self.graph.sub(own, total)
    }

    fn norm(&mut self, name: String, x: Tensor) -> Result<Tensor> {
        let scale = self.weight(name, &[self.facts.hidden])?;
        self.graph.rms_norm(x, scale, self.frozen.epsilon)
    }

    /// The products with joined matrices, with their changes.
    fn linear(&mut self, layer: usize, name: &str, projections: &[Projection], x: Tensor) -> Result<Vec<Tensor>> {
        let name = format!("{layer}.{name}");
        let sizes: Vec<usize> = projections.iter().map(|projection| projection.outputs(self.facts)).collect();
        let (inputs, outputs) = (projections[0].inputs(self.facts), sizes.iter().sum());
        let matrix = self.matrix(name.clone(), [outputs, inputs])?;
        let mut y = self.graph.matmul_transposed(x, matrix)?;
        let bias = format!("{name}.bias");
        if self.frozen.weights.contains_key(&bias) {
            let bias = self.weight(bias, &[outputs])?;
            y = self.graph.add(y, bias)?;
        }
        let mut parts = if sizes.len() > 1 { self.graph.split(y, 1, &sizes)? } else { vec![y] };
        for (part, projection) in parts.iter_mut().zip(projections) {
            if self.tune.targets.contains(projection) {
                *part = self.changed(layer, *projection, x, *part)?;
            }
        }
        Ok(parts)
    }

    /// W x becomes W x + alpha / rank B A x.
    fn changed(&mut self, layer: usize, projection: Projection, x: Tensor, y: Tensor) -> Result<Tensor> {
        let (rank, inputs, outputs) = (self.tune.rank, projection.inputs(self.facts), projection.outputs(self.facts));
        let x = if self.dropout { self.dropped(x, inputs)? } else { x };
        let [a, b] = [("lora_A", [rank, inputs]), ("lora_B", [outputs, rank])].map(|(kind, shape)| -> Result<Tensor> {
            let name = format!("{layer}.{projection}.{kind}");
            let tensor = self.graph.input(&name, Shape::fixed(&shape))?;
            self.trainable.push((tensor, Trainable { name, shape }));
            Ok(tensor)
        });
        let narrow = self.graph.matmul_transposed(x, a?)?;
        let scale = self.graph.scalar(self.tune.alpha / rank as f32);
        let narrow = self.graph.mul(narrow, scale)?;
        let wide = self.graph.matmul_transposed(narrow, b?)?;
        self.graph.add(y, wide)
    }

    fn dropped(&mut self, x: Tensor, width: usize) -> Result<Tensor> {
        if let Some((_, dropped, _)) = self.masked.iter().find(|(own, ..)| *own == x) {
            return Ok(*dropped);
        }
        let mask = self.graph.input(&mask(self.masked.len()), Shape::batch("s", &[width]))?;
        let dropped = self.graph.mul(x, mask)?;
        self.masked.push((x, dropped, width));
        Ok(dropped)
    }

    /// softmax(Q K' / sqrt(d) + mask) V, where groups of heads share keys and values (Ainslie et al. 2023).
    fn attention(&mut self, layer: usize, x: Tensor, rotary: [Tensor; 2], mask: Tensor) -> Result<Tensor> {
        let Facts { heads, kv_heads, head_dim, .. } = *self.facts;
        let group = heads / kv_heads;
        let (s, size) = (|| Dim::from("s"), Dim::from);
        let parts = self.linear(layer, "qkv", &[Projection::Query, Projection::Key, Projection::Value], x)?;
        let scale = self.graph.scalar(1.0 / (head_dim as f32).sqrt());
        let query = self.graph.mul(parts[0], scale)?;
        let query = self.graph.reshape(query, Shape::batch("s", &[heads, head_dim]))?;
        let query = self.turned(query, rotary)?;
        let query = self.graph.transpose(query, &[1, 0, 2])?;
        let rows = || s().times(&size(group));
        let query = self.graph.reshape(query, Shape::new([size(kv_heads), rows(), size(head_dim)]))?;
        let key = self.graph.reshape(parts[1], Shape::batch("s", &[kv_heads, head_dim]))?;
        let key = self.turned(key, rotary)?;
        let key = self.graph.transpose(key, &[1, 0, 2])?;
        let value = self.graph.reshape(parts[2], Shape::batch("s", &[kv_heads, head_dim]))?;
        let value = self.graph.transpose(value, &[1, 0, 2])?;
        let scores = self.graph.matmul_transposed(query, key)?;
        let scores = self.graph.reshape(scores, Shape::new([size(kv_heads), size(group), s(), s()]))?;
        let scores = self.graph.add(scores, mask)?;
        let weights = self.graph.softmax(scores)?;
        let weights = self.graph.reshape(weights, Shape::new([size(kv_heads), rows(), s()]))?;
        let attended = self.graph.matmul(weights, value)?;
        let attended = self.graph.reshape(attended, Shape::new([size(heads), s(), size(head_dim)]))?;
        let attended = self.graph.transpose(attended, &[1, 0, 2])?;
        self.graph.reshape(attended, Shape::batch("s", &[heads * head_dim]))
    }

    /// Each pair of values (i, i + d / 2) turned by its angle (Su et al. 2021).
    fn turned(&mut self, x: Tensor, [cos, sin]: [Tensor; 2]) -> Result<Tensor> {
        let half = self.facts.head_dim / 2;
        let halves = self.graph.split(x, 2, &[half, half])?;
        let along = [self.graph.mul(halves[0], cos)?, self.graph.mul(halves[1], cos)?];
        let across = [self.graph.mul(halves[1], sin)?, self.graph.mul(halves[0], sin)?];
        let turned = [self.graph.sub(along[0], across[0])?, self.graph.add(along[1], across[1])?];
        self.graph.concat(&turned, 2)
    }
}
