//! The deep and cross network, version 2 (Wang et al. 2021, "DCN V2", parallel form with full-rank cross layers).
//!
//! With x0 the embeddings and numbers of a row: cross layers x' = x0 * (W x + b) + x beside an MLP on x0; a linear head on both.

use rand::Rng;

use crate::error::Result;
use crate::graph::{Graph, Shape, Tensor};

/// Symbol of the number of rows in a call.
pub(crate) const ROWS: &str = "n";
/// Symbol of the number of distinct embedding rows in a step.
const UNIQUE: &str = "u";

/// The sizes of a net.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dcnv2 {
    /// Number of categorical columns.
    pub(crate) hashed: usize,
    /// Numbers per embedding.
    pub(crate) dim: usize,
    /// Number of numeric inputs.
    pub(crate) dense: usize,
    pub(crate) cross_layers: usize,
    pub(crate) hidden: Vec<usize>,
}

/// A weight of the net.
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
    pub(crate) const X: &str = "x";
    pub(crate) const EMBEDDINGS: &str = "embeddings";
    pub(crate) const INDEX: &str = "index";
    pub(crate) const NUMBERS: &str = "numbers";
    pub(crate) const LABELS: &str = "labels";
    pub(crate) const LOSS: &str = "loss";
    pub(crate) const PROBABILITY: &str = "probability";

    /// The mask of hidden layer `layer` (0 or 1 / (1 - dropout)).
    pub(crate) fn mask(layer: usize) -> String {
        format!("mask.{layer}")
    }

    /// The gradient of an input.
    pub(crate) fn gradient(input: &str) -> String {
        format!("gradient.{input}")
    }
}

impl Dcnv2 {
    /// Width of x0.
    pub(crate) fn width(&self) -> usize {
        self.hashed * self.dim + self.dense
    }

    /// Names and shapes of the weights.
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let width = self.width();
        let mut shapes = Vec::new();
        let mut layer = |name: String, from: usize, to: usize| {
            shapes.push((format!("{name}.weight"), vec![from, to]));
            shapes.push((format!("{name}.bias"), vec![to]));
        };
        for index in 0..self.cross_layers {
            layer(format!("cross.{index}"), width, width);
        }
        let mut from = width;
        for (index, to) in self.hidden.iter().enumerate() {
            layer(format!("hidden.{index}"), from, *to);
            from = *to;
        }
        layer("head".to_owned(), self.head_width(), 1);
        shapes
    }

    fn head_width(&self) -> usize {
        let cross = if self.cross_layers > 0 { self.width() } else { 0 };
        cross + self.hidden.last().copied().unwrap_or(0)
    }

    /// First weights: even within 1/sqrt(inputs) of 0, except that the head starts at 0 with the bias `base_logit`, so that
    /// an untrained net predicts the base rate for every row.
    pub(crate) fn initial(&self, base_logit: f32, rng: &mut impl Rng) -> Vec<Parameter> {
        let parameter = |(name, shape): (String, Vec<usize>)| {
            let count = shape.iter().product();
            let values = match (name.as_str(), shape.as_slice()) {
                ("head.bias", _) => vec![base_logit],
                ("head.weight", _) | (_, [_]) => vec![0.0; count],
                (_, shape) => {
                    let scale = 1.0 / (shape[0] as f32).sqrt();
                    (0..count).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * scale).collect()
                }
            };
            Parameter { name, shape, values }
        };
        self.shapes().into_iter().map(parameter).collect()
    }

    /// The logits `[n, 1]` of x0 `[n, width]`; `masks` has one mask per hidden layer, or none.
    fn logits(&self, graph: &mut Graph, x0: Tensor, weights: &[Tensor], masks: &[Tensor]) -> Result<Tensor> {
        let mut layers = weights.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        let mut next = || layers.next().expect("shapes() lists two weights for every layer");
        let mut outputs = Vec::new();
        let mut cross = x0;
        for _ in 0..self.cross_layers {
            let (weight, bias) = next();
            let linear = graph.gemm(cross, weight, Some(bias))?;
            let product = graph.mul(x0, linear)?;
            cross = graph.add(product, cross)?;
        }
        if self.cross_layers > 0 {
            outputs.push(cross);
        }
        let mut deep = x0;
        for layer in 0..self.hidden.len() {
            let (weight, bias) = next();
            let linear = graph.gemm(deep, weight, Some(bias))?;
            deep = graph.relu(linear)?;
            if let Some(mask) = masks.get(layer) {
                deep = graph.mul(deep, *mask)?;
            }
        }
        if !self.hidden.is_empty() {
            outputs.push(deep);
        }
        let joined = if outputs.len() == 1 { outputs[0] } else { graph.concat(&outputs, 1)? };
        let (weight, bias) = next();
        graph.gemm(joined, weight, Some(bias))
    }

    fn weight_inputs(&self, graph: &mut Graph) -> Result<Vec<Tensor>> {
        self.shapes().iter().map(|(name, shape)| graph.input(name, Shape::fixed(shape))).collect()
    }

    /// Loss and gradients of a step. Inputs: the row leaf, the index into it, numbers, labels, (masks,) weights.
    /// Outputs: the loss, then the gradient of the leaf (with categories only), then that of every weight.
    pub(crate) fn training_graph(&self, dropout: bool) -> Result<Graph> {
        let mut graph = Graph::new("dcnv2 training");
        let mut parts = Vec::new();
        let mut of = Vec::new();
        let mut names = Vec::new();
        if self.hashed > 0 {
            let leaf = graph.input(port::EMBEDDINGS, Shape::batch(UNIQUE, &[self.dim]))?;
            let index = graph.index_input(port::INDEX, Shape::batch(ROWS, &[self.hashed]))?;
            let rows = graph.gather(leaf, index)?;
            parts.push(graph.reshape(rows, Shape::batch(ROWS, &[self.hashed * self.dim]))?);
            of.push(leaf);
            names.push(port::EMBEDDINGS.to_owned());
        }
        if self.dense > 0 {
            parts.push(graph.input(port::NUMBERS, Shape::batch(ROWS, &[self.dense]))?);
        }
        let labels = graph.input(port::LABELS, Shape::batch(ROWS, &[1]))?;
        let mut masks = Vec::new();
        for (layer, width) in self.hidden.iter().enumerate().filter(|_| dropout) {
            masks.push(graph.input(&port::mask(layer), Shape::batch(ROWS, &[*width]))?);
        }
        let weights = self.weight_inputs(&mut graph)?;
        let x0 = if parts.len() == 1 { parts[0] } else { graph.concat(&parts, 1)? };
        let logits = self.logits(&mut graph, x0, &weights, &masks)?;
        let losses = graph.binary_cross_entropy(logits, labels)?;
        let loss = graph.reduce_mean(losses, &[0, 1], false)?;
        of.extend(&weights);
        names.extend(self.shapes().into_iter().map(|(name, _)| name));
        let gradients = crate::autodiff::gradients(&mut graph, loss, &of)?;
        graph.output(port::LOSS, loss)?;
        for (name, gradient) in names.iter().zip(gradients) {
            graph.output(&port::gradient(name), gradient)?;
        }
        Ok(graph)
    }

    /// Probabilities `[n, 1]` of x0, with the weights as inputs: validation during the training.
    pub(crate) fn validation_graph(&self) -> Result<Graph> {
        let mut graph = Graph::new("dcnv2 validation");
        let x0 = graph.input(port::X, Shape::batch(ROWS, &[self.width()]))?;
        let weights = self.weight_inputs(&mut graph)?;
        self.probability(graph, x0, &weights)
    }

    /// Probabilities `[n, 1]` of x0, with the weights as constants: the saved model.
    pub(crate) fn scoring_graph(&self, parameters: &[Parameter]) -> Result<Graph> {
        let mut graph = Graph::new("dcnv2");
        let x0 = graph.input(port::X, Shape::batch(ROWS, &[self.width()]))?;
        let weights = parameters.iter().map(|p| graph.constant(&p.name, &p.shape, p.values.clone())).collect::<Result<Vec<Tensor>>>()?;
        self.probability(graph, x0, &weights)
    }

    fn probability(&self, mut graph: Graph, x0: Tensor, weights: &[Tensor]) -> Result<Graph> {
        let logits = self.logits(&mut graph, x0, weights, &[])?;
        let probability = graph.sigmoid(logits)?;
        graph.output(port::PROBABILITY, probability)?;
        Ok(graph)
    }
}
