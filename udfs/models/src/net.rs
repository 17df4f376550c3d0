//! The click nets: an architecture is a file named as in SQL, after its paper.
//!
//! A net sees rows `x`: one row of the embedding table per categorical field, then the numbers. The table itself stays outside:
//! a training graph gives the gradient of `x`.

mod builder;
mod dcnv2;
mod deepfm;
mod din;
mod esmm;
mod finalmlp;
mod fm;
mod logistic;
mod mmoe;

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use serde::{Deserialize, Serialize};

use self::builder::{Builder, Layout, Start};
use crate::autodiff;
use crate::error::{Error, Result};
use crate::graph::{Dim, Graph, Shape, Tensor};

/// Symbol of the number of rows in a call.
pub(crate) const ROWS: &str = "n";
/// Symbol of the length of the longest history in a call.
pub(crate) const LENGTH: &str = "l";

/// What the tasks of a net with two are called in the names of its weights.
const TASKS: [&str; 2] = ["click", "conversion"];

/// The architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// Logistic regression.
    Logistic,
    /// Factorization machine (Rendle 2010).
    Fm,
    /// A factorization machine beside a deep net (Guo et al. 2017).
    Deepfm,
    /// Deep and cross network, version 2 (Wang et al. 2021).
    #[default]
    Dcnv2,
    /// Two deep nets on gated inputs, joined by a bilinear form (Mao et al. 2023).
    Finalmlp,
    /// Deep interest network: attention from the candidate to the history (Zhou et al. 2018).
    Din,
    /// Entire space multi-task model of clicks and conversions (Ma X. et al. 2018).
    Esmm,
    /// Multi-gate mixture of experts for clicks and conversions (Ma J. et al. 2018).
    Mmoe,
}

impl ModelType {
    /// Every architecture, the simple ones first.
    pub const ALL: [Self; 8] = [Self::Logistic, Self::Fm, Self::Deepfm, Self::Dcnv2, Self::Finalmlp, Self::Din, Self::Esmm, Self::Mmoe];

    /// Number of probabilities per row: the click, and with 2 the conversion after a click.
    pub fn tasks(self) -> usize {
        match self {
            Self::Esmm | Self::Mmoe => 2,
            Self::Logistic | Self::Fm | Self::Deepfm | Self::Dcnv2 | Self::Finalmlp | Self::Din => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Logistic => "logistic",
            Self::Fm => "fm",
            Self::Deepfm => "deepfm",
            Self::Dcnv2 => "dcnv2",
            Self::Finalmlp => "finalmlp",
            Self::Din => "din",
            Self::Esmm => "esmm",
            Self::Mmoe => "mmoe",
        }
    }
}

impl FromStr for ModelType {
    type Err = Error;

    fn from_str(raw: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|model_type| model_type.name() == raw).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::option("model_type", format!("\"{raw}\" is not one of: {names}"))
        })
    }
}

impl fmt::Display for ModelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the output of a net stands for, which decides its loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// The logit of a probability; the loss is the cross-entropy.
    #[default]
    Probability,
    /// A number; the loss is the squared error.
    Number,
}

/// The sizes of a net.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Net {
    pub(crate) model_type: ModelType,
    /// Number of categorical fields, each with one row of the embedding table.
    pub(crate) fields: usize,
    /// Numbers per embedding.
    pub(crate) dim: usize,
    /// Number of numeric inputs.
    pub(crate) dense: usize,
    /// `din` only: the field that the history is attended with.
    pub(crate) history_target: Option<usize>,
    /// `dcnv2` only.
    pub(crate) cross_layers: usize,
    pub(crate) hidden: Vec<usize>,
    /// `mmoe` only.
    pub(crate) experts: usize,
    /// `dcnv2` only: classes of which a row has one, with a logit each; 0 for a probability of its own.
    pub(crate) classes: usize,
    /// Whether a row may have none or several of the classes.
    pub(crate) several: bool,
}

/// A weight of a net.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Parameter {
    /// Matrices decay, biases do not.
    pub(crate) fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// Names of the inputs and outputs of the graphs.
pub(crate) mod port {
    /// `[n, width]`: the fields' rows of the embedding table, then the numbers.
    pub(crate) const X: &str = "x";
    /// `[n, l, stride]`: a row of the embedding table per item of the history.
    pub(crate) const HISTORY: &str = "history";
    /// `[n, l]`: 1 for an item, 0 for padding.
    pub(crate) const HISTORY_MASK: &str = "history_mask";
    /// `[n, sum]`: what the linear layers that read `x` give.
    pub(crate) const SUMS: &str = "sums";
    /// `[n, tasks]`; the second is 1 for a row that was clicked and converted. Numbers where the output is one.
    pub(crate) const LABELS: &str = "labels";
    /// `[n, 1]`
    pub(crate) const ROW_WEIGHTS: &str = "row_weights";
    /// One number.
    pub(crate) const LOSS: &str = "loss";
    /// `[n, tasks]`: of the click, and of the conversion given a click.
    pub(crate) const LOGITS: &str = "logits";

    /// The dropout mask of hidden layer `layer` (0 or 1 / (1 - dropout)).
    pub(crate) fn mask(layer: usize) -> String {
        format!("mask.{layer}")
    }

    /// The gradient of an input.
    pub(crate) fn gradient(input: &str) -> String {
        format!("gradient.{input}")
    }
}

/// What a net reads beside its weights.
struct Inputs {
    x: Tensor,
    history: Option<(Tensor, Tensor)>,
}

impl Net {
    /// Numbers per row of the embedding table: the embedding, the first-order weight or both, in this order.
    pub(crate) fn stride(&self) -> usize {
        match self.model_type {
            ModelType::Logistic => 1,
            ModelType::Fm | ModelType::Deepfm => self.dim + 1,
            ModelType::Dcnv2 | ModelType::Finalmlp | ModelType::Din | ModelType::Esmm | ModelType::Mmoe => self.dim,
        }
    }

    /// Whether the last number of a row of the embedding table is a first-order weight.
    pub(crate) fn has_first_order(&self) -> bool {
        matches!(self.model_type, ModelType::Logistic | ModelType::Fm | ModelType::Deepfm)
    }

    /// Logits per row.
    pub(crate) fn outputs(&self) -> usize {
        if self.classes > 0 { self.classes } else { self.model_type.tasks() }
    }

    /// Numbers per row of `x`.
    pub(crate) fn width(&self) -> usize {
        self.fields * self.stride() + self.dense
    }

    /// Names and shapes of the weights.
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.layout().weights.into_iter().map(|weight| (weight.name, weight.shape)).collect()
    }

    /// Widths of the dropout masks: one for every hidden layer of every tower.
    pub(crate) fn mask_widths(&self) -> Vec<usize> {
        self.layout().masks
    }

    /// First weights. Matrices are even within 1/sqrt(inputs) of 0, except that the output layers start at 0 with the bias of
    /// their task in `base_logits`, so that an untrained net predicts the base rates.
    pub(crate) fn initial(&self, base_logits: &[f32], rng: &mut impl Rng) -> Vec<Parameter> {
        let mut even = |count: usize, scale: f32| (0..count).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * scale).collect();
        let parameter = |weight: builder::Weight| {
            let count = weight.shape.iter().product();
            let values = match weight.start {
                Start::Even => even(count, 1.0 / (weight.shape[0] as f32).sqrt()),
                Start::Small => even(count, 0.01),
                Start::Zero => vec![0.0; count],
                Start::Base(task) => vec![base_logits[task]; count],
                Start::Bases => base_logits.to_vec(),
            };
            Parameter { name: weight.name, shape: weight.shape, values }
        };
        self.layout().weights.into_iter().map(parameter).collect()
    }

    /// Logits `[n, tasks]` of `x` with its history and the history's mask; `masks` has one mask per hidden layer, or none.
    pub(crate) fn logits(
        &self,
        graph: &mut Graph,
        x: Tensor,
        history: Option<(Tensor, Tensor)>,
        weights: &[Tensor],
        masks: &[Tensor],
    ) -> Result<Tensor> {
        self.build(&mut Builder::given(graph, weights, masks), &Inputs { x, history })
    }

    /// Loss and gradients of a step. Inputs: `x`, (the history and its mask,) labels, row weights, (dropout masks,) weights.
    /// Outputs: the loss, then the gradients of `x`, (of the history) and of every weight.
    ///
    /// The loss of a task is the mean over the rows of row weight times cross-entropy, or squared error; tasks are summed. Classes have the
    /// cross-entropy of the softmax of their logits.
    pub(crate) fn training_graph(&self, dropout: bool, output: Output) -> Result<Graph> {
        let mut graph = Graph::new(&format!("{} training", self.model_type));
        let Inputs { x, history } = self.inputs(&mut graph)?;
        let labels = graph.input(port::LABELS, Shape::batch(ROWS, &[self.outputs()]))?;
        let row_weights = graph.input(port::ROW_WEIGHTS, Shape::batch(ROWS, &[1]))?;
        let mut masks = Vec::new();
        for (layer, width) in self.mask_widths().into_iter().enumerate().filter(|_| dropout) {
            masks.push(graph.input(&port::mask(layer), Shape::batch(ROWS, &[width]))?);
        }
        let weights = self.weight_inputs(&mut graph)?;
        let logits = self.logits(&mut graph, x, history, &weights, &masks)?;
        let loss = self.loss(&mut graph, output, logits, labels, row_weights)?;

        let mut of = vec![(port::X.to_owned(), x)];
        of.extend(history.map(|(items, _)| (port::HISTORY.to_owned(), items)));
        of.extend(self.shapes().into_iter().map(|(name, _)| name).zip(weights));
        let tensors: Vec<Tensor> = of.iter().map(|(_, tensor)| *tensor).collect();
        let gradients = autodiff::gradients(&mut graph, loss, &tensors)?;
        graph.output(port::LOSS, loss)?;
        for ((name, _), gradient) in of.iter().zip(gradients) {
            graph.output(&port::gradient(name), gradient)?;
        }
        Ok(graph)
    }

    /// Logits with the weights as inputs: validation during the training.
    pub(crate) fn evaluation_graph(&self) -> Result<Graph> {
        let mut graph = Graph::new(&format!("{} evaluation", self.model_type));
        let inputs = self.inputs(&mut graph)?;
        let weights = self.weight_inputs(&mut graph)?;
        self.logits_graph(graph, &inputs, &weights)
    }

    /// Logits with the weights as constants: the saved model.
    pub(crate) fn scoring_graph(&self, parameters: &[Parameter]) -> Result<Graph> {
        let mut graph = Graph::new(self.model_type.name());
        let inputs = self.inputs(&mut graph)?;
        let weights = parameters.iter().map(|p| graph.constant(&p.name, &p.shape, p.values.clone())).collect::<Result<Vec<Tensor>>>()?;
        self.logits_graph(graph, &inputs, &weights)
    }

    /// The linear layers that read `x` itself, as positions of their weights; the bias of each follows its weight.
    pub(crate) fn first_layers(&self) -> Vec<usize> {
        self.layout().first
    }

    /// The saved model with one more input: `[n, sum]`, the results of [`Net::first_layers`] side by side, which it does not compute.
    pub(crate) fn folded_graph(&self, parameters: &[Parameter], sum: usize) -> Result<Graph> {
        let mut graph = Graph::new(self.model_type.name());
        let inputs = self.inputs(&mut graph)?;
        let sums = graph.input(port::SUMS, Shape::batch(ROWS, &[sum]))?;
        let weights = parameters.iter().map(|p| graph.constant(&p.name, &p.shape, p.values.clone())).collect::<Result<Vec<Tensor>>>()?;
        let mut builder = Builder::given(&mut graph, &weights, &[]);
        (builder.x, builder.sums) = (Some(inputs.x), Some(sums));
        let logits = self.build(&mut builder, &inputs)?;
        graph.output(port::LOGITS, logits)?;
        Ok(graph)
    }

    fn logits_graph(&self, mut graph: Graph, inputs: &Inputs, weights: &[Tensor]) -> Result<Graph> {
        let logits = self.logits(&mut graph, inputs.x, inputs.history, weights, &[])?;
        graph.output(port::LOGITS, logits)?;
        Ok(graph)
    }

    fn inputs(&self, graph: &mut Graph) -> Result<Inputs> {
        let x = graph.input(port::X, Shape::batch(ROWS, &[self.width()]))?;
        if self.model_type != ModelType::Din {
            return Ok(Inputs { x, history: None });
        }
        let dims = [Dim::from(ROWS), Dim::from(LENGTH), Dim::from(self.stride())];
        let mask = graph.input(port::HISTORY_MASK, Shape::new(dims[..2].to_vec()))?;
        let items = graph.input(port::HISTORY, Shape::new(dims))?;
        Ok(Inputs { x, history: Some((items, mask)) })
    }

    fn weight_inputs(&self, graph: &mut Graph) -> Result<Vec<Tensor>> {
        self.shapes().iter().map(|(name, shape)| graph.input(name, Shape::fixed(shape))).collect()
    }

    /// What the architecture asks for. Sizes that do not fit together end the list; the graphs report them.
    fn layout(&self) -> Layout {
        let mut graph = Graph::new("layout");
        let inputs = self.inputs(&mut graph);
        let mut builder = Builder::asking(&mut graph);
        let _logits = inputs.and_then(|inputs| {
            builder.x = Some(inputs.x);
            self.build(&mut builder, &inputs)
        });
        builder.layout
    }

    fn build(&self, builder: &mut Builder<'_>, inputs: &Inputs) -> Result<Tensor> {
        match self.model_type {
            ModelType::Logistic => logistic::logits(self, builder, inputs.x),
            ModelType::Fm => fm::logits(self, builder, inputs.x),
            ModelType::Deepfm => deepfm::logits(self, builder, inputs.x),
            ModelType::Dcnv2 => dcnv2::logits(self, builder, inputs.x),
            ModelType::Finalmlp => finalmlp::logits(self, builder, inputs.x),
            ModelType::Din => din::logits(self, builder, inputs),
            ModelType::Esmm => esmm::logits(self, builder, inputs.x),
            ModelType::Mmoe => mmoe::logits(self, builder, inputs.x),
        }
    }

    fn loss(&self, graph: &mut Graph, output: Output, logits: Tensor, labels: Tensor, row_weights: Tensor) -> Result<Tensor> {
        let mut losses = match (output, self.model_type.tasks()) {
            _ if self.several => {
                let losses = graph.binary_cross_entropy(logits, labels)?;
                graph.reduce_mean(losses, &[1], true)?
            }
            _ if self.classes > 0 => class_entropy(graph, logits, labels)?,
            (Output::Number, _) => {
                let errors = graph.sub(logits, labels)?;
                graph.mul(errors, errors)?
            }
            (Output::Probability, 1) => graph.binary_cross_entropy(logits, labels)?,
            (Output::Probability, _) => {
                let joint = esmm::entire_space(graph, logits)?;
                let losses = graph.binary_cross_entropy(joint, labels)?;
                graph.reduce_sum(losses, &[1], true)?
            }
        };
        losses = graph.mul(losses, row_weights)?;
        graph.reduce_mean(losses, &[0, 1], false)
    }
}

/// The cross-entropy of classes along the last axis, which becomes 1: labels are shares that add up to 1.
pub(crate) fn class_entropy(graph: &mut Graph, logits: Tensor, labels: Tensor) -> Result<Tensor> {
    // Softmax rounds the probability of a class that is out of the question to 0, which has no logarithm.
    let (least, sign) = (graph.scalar(1e-7), graph.scalar(-1.0));
    let shares = graph.softmax(logits)?;
    let shares = graph.add(shares, least)?;
    let logs = graph.log(shares)?;
    let weighted = graph.mul(logs, labels)?;
    let last = graph.shape(weighted).rank() - 1;
    let sum = graph.reduce_sum(weighted, &[last], true)?;
    graph.mul(sum, sign)
}

#[cfg(test)]
mod tests;
