//! How an architecture asks for its weights, so that it is written once: names, shapes and first values follow from its graph.

use crate::error::{Error, Result};
use crate::graph::{Dim, Graph, Shape, Tensor};

/// The first values of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Even within 1/sqrt(inputs) of 0.
    Even,
    /// Even within 0.01 of 0: vectors whose products add to the logit directly.
    Small,
    Zero,
    /// The base logit of a task.
    Base(usize),
    /// The base logits of all classes.
    Bases,
}

#[derive(Debug)]
pub(super) struct Weight {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) start: Start,
}

/// What an architecture asked for, in order.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) weights: Vec<Weight>,
    /// Widths of the dropout masks.
    pub(super) masks: Vec<usize>,
    /// The linear layers that read `x` itself: the position of the weight, which the bias follows.
    pub(super) first: Vec<usize>,
}

/// A graph to which an architecture adds its layers.
pub(super) struct Builder<'a> {
    pub(super) graph: &'a mut Graph,
    /// The weights in order; without them every weight becomes an input.
    weights: Option<&'a [Tensor]>,
    masks: &'a [Tensor],
    /// The input whose linear layers are noted.
    pub(super) x: Option<Tensor>,
    /// The results of these layers side by side, where they are not to be computed in the graph.
    pub(super) sums: Option<Tensor>,
    pub(super) layout: Layout,
}

impl<'a> Builder<'a> {
    /// Finds out what the architecture asks for.
    pub(super) fn asking(graph: &'a mut Graph) -> Self {
        Self { graph, weights: None, masks: &[], x: None, sums: None, layout: Layout::default() }
    }

    /// Uses these weights; `masks` has a mask for every dropout, or none.
    pub(super) fn given(graph: &'a mut Graph, weights: &'a [Tensor], masks: &'a [Tensor]) -> Self {
        Self { graph, weights: Some(weights), masks, x: None, sums: None, layout: Layout::default() }
    }

    pub(super) fn weight(&mut self, name: &str, shape: &[usize], start: Start) -> Result<Tensor> {
        let tensor = match self.weights {
            Some(given) => {
                let next = given.get(self.layout.weights.len()).copied();
                next.ok_or_else(|| Error::graph(format!("the weight {name} is missing")))?
            }
            None => self.graph.input(name, Shape::fixed(shape))?,
        };
        self.layout.weights.push(Weight { name: name.to_owned(), shape: shape.to_vec(), start });
        Ok(tensor)
    }

    /// Size of the last axis.
    pub(super) fn width(&self, x: Tensor) -> Result<usize> {
        let size = self.graph.shape(x).dims().last().and_then(Dim::size);
        size.ok_or_else(|| Error::graph(format!("the last axis of {} has no fixed size", self.graph.shape(x))))
    }

    /// `x W`.
    pub(super) fn product(&mut self, name: &str, x: Tensor, to: usize, start: Start) -> Result<Tensor> {
        let from = self.width(x)?;
        let weight = self.weight(&format!("{name}.weight"), &[from, to], start)?;
        self.graph.gemm(x, weight, None)
    }

    /// `x W + b`.
    pub(super) fn linear(&mut self, name: &str, x: Tensor, to: usize) -> Result<Tensor> {
        self.layer(name, x, to, Start::Even, Start::Zero)
    }

    /// The output layer of a task: logits `[n, 1]`, at first the task's base logit for every row.
    pub(super) fn head(&mut self, name: &str, x: Tensor, task: usize) -> Result<Tensor> {
        self.layer(name, x, 1, Start::Zero, Start::Base(task))
    }

    /// The output layer of classes: logits `[n, classes]`, at first the base logits for every row.
    pub(super) fn class_head(&mut self, name: &str, x: Tensor, classes: usize) -> Result<Tensor> {
        self.layer(name, x, classes, Start::Zero, Start::Bases)
    }

    fn layer(&mut self, name: &str, x: Tensor, to: usize, weight: Start, bias: Start) -> Result<Tensor> {
        let from = self.width(x)?;
        let weight = self.weight(&format!("{name}.weight"), &[from, to], weight)?;
        let bias = self.weight(&format!("{name}.bias"), &[to], bias)?;
        if self.x == Some(x) {
            let start: usize = self.layout.first.iter().map(|layer| self.layout.weights[*layer].shape[1]).sum();
            self.layout.first.push(self.layout.weights.len() - 2);
            if let Some(sums) = self.sums {
                return self.graph.slice(sums, 1, start, start + to);
            }
        }
        self.graph.gemm(x, weight, Some(bias))
    }

    /// Linear layers `name.0`, `name.1`, .. with ReLU, and dropout where there are masks.
    pub(super) fn mlp(&mut self, name: &str, x: Tensor, hidden: &[usize]) -> Result<Tensor> {
        let mut deep = x;
        for (index, width) in hidden.iter().enumerate() {
            let linear = self.linear(&format!("{name}.{index}"), deep, *width)?;
            deep = self.graph.relu(linear)?;
            if let Some(mask) = self.masks.get(self.layout.masks.len()) {
                deep = self.graph.mul(deep, *mask)?;
            }
            self.layout.masks.push(*width);
        }
        Ok(deep)
    }
}
