//! Reverse-mode differentiation: adds to a graph the nodes that compute a loss's gradients.
//!
//! Every operation's rule is written with the operations of the graph itself, so the gradients run wherever the graph runs.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::graph::{Dim, Graph, Node, Op, Shape, Tensor};

/// Adds the gradients of a scalar `loss` with respect to each tensor of `of`, in their order.
///
/// Errors when the loss is not a scalar, does not depend on one of the tensors, or depends on one through an operation without a gradient.
pub fn gradients(graph: &mut Graph, loss: Tensor, of: &[Tensor]) -> Result<Vec<Tensor>> {
    if graph.shape(loss).rank() != 0 {
        return Err(Error::graph(format!("the loss has the shape {} instead of one number", graph.shape(loss))));
    }
    let nodes = graph.nodes();
    let mut pass = Pass { active: active(graph, of), gradients: HashMap::new(), graph };
    let one = pass.graph.scalar(1.0);
    pass.gradients.insert(loss, one);
    for index in (0..nodes).rev() {
        pass.step(index)?;
    }
    of.iter()
        .enumerate()
        .map(|(position, tensor)| {
            let gradient = pass.gradients.get(tensor).copied();
            gradient.ok_or_else(|| Error::graph(format!("the loss does not depend on tensor {position} of the gradients asked for")))
        })
        .collect()
}

/// The values that depend on one of the tensors.
fn active(graph: &Graph, of: &[Tensor]) -> HashSet<Tensor> {
    let mut active: HashSet<Tensor> = of.iter().copied().collect();
    for index in 0..graph.nodes() {
        let node = graph.node(index);
        if node.inputs.iter().any(|t| active.contains(t)) {
            active.extend(&node.outputs);
        }
    }
    active
}

struct Pass<'g> {
    graph: &'g mut Graph,
    active: HashSet<Tensor>,
    gradients: HashMap<Tensor, Tensor>,
}

impl Pass<'_> {
    /// Carries the gradients of a node's results to its operands.
    fn step(&mut self, index: usize) -> Result<()> {
        let node = self.graph.node(index).clone();
        let reached = node.outputs.iter().any(|t| self.gradients.contains_key(t));
        if !reached || !node.inputs.iter().any(|t| self.active.contains(t)) {
            return Ok(());
        }
        if let Op::Split { axis, .. } = node.op {
            return self.split(&node, axis);
        }
        if node.outputs.iter().skip(1).any(|t| self.gradients.contains_key(t)) {
            return Err(Error::graph(format!("{:?} has a gradient only for its first result", node.op)));
        }
        let gradient = self.gradients[&node.outputs[0]];
        if let Op::Concat { axis } = node.op {
            return self.concat(&node, axis, gradient);
        }
        for (position, input) in node.inputs.iter().enumerate() {
            if self.active.contains(input) {
                let share = self.share(&node, position, gradient)?;
                self.accumulate(*input, share)?;
            }
        }
        Ok(())
    }

    fn accumulate(&mut self, tensor: Tensor, share: Tensor) -> Result<()> {
        let total = match self.gradients.get(&tensor) {
            Some(sum) => self.graph.add(*sum, share)?,
            None => share,
        };
        self.gradients.insert(tensor, total);
        Ok(())
    }

    fn split(&mut self, node: &Node, axis: usize) -> Result<()> {
        let mut parts = Vec::with_capacity(node.outputs.len());
        for output in &node.outputs {
            parts.push(match self.gradients.get(output) {
                Some(gradient) => *gradient,
                None => self.graph.one(Op::ZerosLike, &[*output])?,
            });
        }
        let whole = self.graph.concat(&parts, axis)?;
        self.accumulate(node.inputs[0], whole)
    }

    fn concat(&mut self, node: &Node, axis: usize, gradient: Tensor) -> Result<()> {
        let size = |t: &Tensor| self.graph.shape(*t).dims()[axis].size().unwrap_or_default();
        let sizes: Vec<usize> = node.inputs.iter().map(size).collect();
        let parts = self.graph.split(gradient, axis, &sizes)?;
        for (input, part) in node.inputs.iter().zip(parts) {
            if self.active.contains(input) {
                self.accumulate(*input, part)?;
            }
        }
        Ok(())
    }

    /// The gradient of one operand, `position`, given that of the first result.
    fn share(&mut self, node: &Node, position: usize, g: Tensor) -> Result<Tensor> {
        let (x, y) = (node.inputs[0], node.outputs[0]);
        let graph = &mut *self.graph;
        match &node.op {
            Op::Gemm { transpose_a, transpose_b } => match position {
                2 => sum_to(graph, g, node.inputs[2]),
                _ => product(graph, node, position, g, |ta, tb| Op::Gemm { transpose_a: ta, transpose_b: tb }, *transpose_a, *transpose_b),
            },
            Op::MatMul { transpose_a, transpose_b } => matmul(graph, node, position, g, *transpose_a, *transpose_b),
            Op::Add => sum_to(graph, g, node.inputs[position]),
            Op::Sub if position == 0 => sum_to(graph, g, x),
            Op::Sub => {
                let minus = graph.scalar(-1.0);
                let share = sum_to(graph, g, node.inputs[1])?;
                graph.mul(share, minus)
            }
            Op::Mul => {
                let share = graph.mul(g, node.inputs[1 - position])?;
                sum_to(graph, share, node.inputs[position])
            }
            Op::Div => divide(graph, node, position, g),
            Op::Softmax => softmax(graph, y, g),
            Op::LayerNorm { .. } => layer_norm(graph, node, position, g),
            Op::RmsNorm { .. } => rms_norm(graph, node, position, g),
            Op::LogSumExp => {
                let shares = graph.softmax(x)?;
                graph.mul(g, shares)
            }
            Op::Gather => graph.one(Op::ScatterRows, &[x, node.inputs[1], g]),
            Op::Slice { axis, start, end } => {
                let size = graph.shape(x).dims()[*axis].size().unwrap_or_default();
                graph.one(Op::Pad { axis: *axis, before: *start, after: size - end }, &[g])
            }
            Op::Reshape(_) => graph.reshape(g, graph.shape(x).clone()),
            Op::Transpose(order) => {
                let mut back = vec![0; order.len()];
                for (to, from) in order.iter().enumerate() {
                    back[*from] = to;
                }
                graph.transpose(g, &back)
            }
            Op::Unsqueeze(axes) => graph.one(Op::Squeeze(axes.clone()), &[g]),
            Op::Squeeze(axes) => graph.one(Op::Unsqueeze(axes.clone()), &[g]),
            Op::ReduceSum { axes, keep } => spread(graph, g, x, axes, *keep),
            Op::ReduceMean { axes, keep } => {
                let count = count(graph, x, axes)?;
                let share = graph.div(g, count)?;
                spread(graph, share, x, axes, *keep)
            }
            Op::Relu | Op::Sigmoid | Op::Tanh | Op::Gelu | Op::Exp | Op::Log | Op::Softplus => elementwise(graph, &node.op, x, y, g),
            Op::Concat { .. }
            | Op::Split { .. }
            | Op::Dequantize { .. }
            | Op::Erf
            | Op::Sign
            | Op::ScatterRows
            | Op::Pad { .. }
            | Op::ExpandLike
            | Op::Count(_)
            | Op::ZerosLike => Err(Error::graph(format!("{:?} has no gradient", node.op))),
        }
    }
}

/// `g` summed over the axes along which `to` was repeated.
fn sum_to(graph: &mut Graph, g: Tensor, to: Tensor) -> Result<Tensor> {
    let (from, to) = (graph.shape(g).clone(), graph.shape(to).clone());
    if from == to {
        return Ok(g);
    }
    let added = from.rank() - to.rank();
    let lead: Vec<usize> = (0..added).collect();
    let repeated: Vec<usize> = (added..from.rank()).filter(|axis| from.dims()[*axis] != to.dims()[axis - added]).collect();
    let mut sum = g;
    if !repeated.is_empty() {
        sum = graph.reduce_sum(sum, &repeated, true)?;
    }
    if !lead.is_empty() {
        sum = graph.reduce_sum(sum, &lead, false)?;
    }
    Ok(sum)
}

/// The reverse of a reduction: `g` repeated to the shape of `x`.
fn spread(graph: &mut Graph, g: Tensor, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
    let kept = if keep || axes.is_empty() { g } else { graph.one(Op::Unsqueeze(axes.to_vec()), &[g])? };
    graph.one(Op::ExpandLike, &[kept, x])
}

/// Number of elements of `x` along axes, known now or at run time.
fn count(graph: &mut Graph, x: Tensor, axes: &[usize]) -> Result<Tensor> {
    let reduced = Shape::new(axes.iter().map(|axis| graph.shape(x).dims()[*axis].clone())).count();
    match reduced.size() {
        Some(size) => Ok(graph.scalar(size as f32)),
        None => graph.one(Op::Count(axes.to_vec()), &[x]),
    }
}

/// Gradients of y = op(a) op(b), where op may transpose: the four cases of each operand follow from da' = g b'^T, db' = a'^T g.
fn product(
    graph: &mut Graph,
    node: &Node,
    position: usize,
    g: Tensor,
    op: impl Fn(bool, bool) -> Op,
    transpose_a: bool,
    transpose_b: bool,
) -> Result<Tensor> {
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let b = if position == 0 { anew(graph, b)? } else { b };
    match (position, transpose_a, transpose_b) {
        (0, false, _) => graph.one(op(false, !transpose_b), &[g, b]),
        (0, true, _) => graph.one(op(transpose_b, true), &[b, g]),
        (_, _, false) => graph.one(op(!transpose_a, false), &[a, g]),
        (_, _, true) => graph.one(op(true, transpose_a), &[g, a]),
    }
}

/// A rounded matrix is made floats once more: kept since its first use it would take the memory that rounding saves.
fn anew(graph: &mut Graph, matrix: Tensor) -> Result<Tensor> {
    match graph.maker(matrix).filter(|node| matches!(node.op, Op::Dequantize { .. })).cloned() {
        Some(Node { op, inputs, .. }) => graph.one(op, &inputs),
        None => Ok(matrix),
    }
}

fn matmul(graph: &mut Graph, node: &Node, position: usize, g: Tensor, transpose_a: bool, transpose_b: bool) -> Result<Tensor> {
    let op = |ta, tb| Op::MatMul { transpose_a: ta, transpose_b: tb };
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let shared_matrix = graph.shape(b).rank() == 2 && graph.shape(a).rank() > 2;
    if position == 0 || !shared_matrix {
        return product(graph, node, position, g, op, transpose_a, transpose_b);
    }
    // One matrix served every leading index: its gradient is the sum over them, which one flat product gives.
    let (a, g) = (flat(graph, a)?, flat(graph, g)?);
    let (left, right) = if transpose_b { (g, a) } else { (a, g) };
    graph.one(Op::Gemm { transpose_a: true, transpose_b: false }, &[left, right])
}

/// All axes but the last as one.
fn flat(graph: &mut Graph, x: Tensor) -> Result<Tensor> {
    let shape = graph.shape(x);
    let last = shape.rank() - 1;
    let rows = Shape::new(shape.dims()[..last].to_vec()).count();
    let matrix: [Dim; 2] = [rows, shape.dims()[last].clone()];
    graph.reshape(x, Shape::new(matrix))
}

fn divide(graph: &mut Graph, node: &Node, position: usize, g: Tensor) -> Result<Tensor> {
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let share = graph.div(g, b)?;
    if position == 0 {
        return sum_to(graph, share, a);
    }
    let share = graph.mul(share, node.outputs[0])?;
    let minus = graph.scalar(-1.0);
    let share = graph.mul(share, minus)?;
    sum_to(graph, share, b)
}

/// Gradient of a function of each element, from the operand `x`, the result `y` and the result's gradient `g`.
fn elementwise(graph: &mut Graph, op: &Op, x: Tensor, y: Tensor, g: Tensor) -> Result<Tensor> {
    let slope = match op {
        Op::Relu => graph.one(Op::Sign, &[y])?,
        Op::Sigmoid => {
            let one = graph.scalar(1.0);
            let rest = graph.sub(one, y)?;
            graph.mul(y, rest)?
        }
        Op::Tanh => {
            let one = graph.scalar(1.0);
            let square = graph.mul(y, y)?;
            graph.sub(one, square)?
        }
        Op::Exp => y,
        Op::Log => return graph.div(g, x),
        Op::Softplus => graph.sigmoid(x)?,
        Op::Gelu => gelu_slope(graph, x)?,
        _ => return Err(Error::graph(format!("{op:?} is not a function of each element"))),
    };
    graph.mul(g, slope)
}

/// d/dx [x F(x)] = F(x) + x f(x), with the normal distribution's F and f.
fn gelu_slope(graph: &mut Graph, x: Tensor) -> Result<Tensor> {
    let scaled = {
        let factor = graph.scalar(std::f32::consts::FRAC_1_SQRT_2);
        graph.mul(x, factor)?
    };
    let erf = graph.one(Op::Erf, &[scaled])?;
    let half = graph.scalar(0.5);
    let cumulative = graph.mul(erf, half)?;
    let cumulative = graph.add(cumulative, half)?;
    let square = graph.mul(x, x)?;
    let minus_half = graph.scalar(-0.5);
    let exponent = graph.mul(square, minus_half)?;
    let density = graph.exp(exponent)?;
    let norm = graph.scalar(1.0 / (2.0 * std::f32::consts::PI).sqrt());
    let density = graph.mul(density, norm)?;
    let slope = graph.mul(x, density)?;
    graph.add(cumulative, slope)
}

/// y (g - sum(g y)).
fn softmax(graph: &mut Graph, y: Tensor, g: Tensor) -> Result<Tensor> {
    let last = graph.shape(y).rank() - 1;
    let weighted = graph.mul(g, y)?;
    let sum = graph.reduce_sum(weighted, &[last], true)?;
    let centred = graph.sub(g, sum)?;
    graph.mul(y, centred)
}

/// With h = (x - mean)/std and t = g scale: dx = (t - mean(t) - h mean(t h))/std, dscale = sum(g h), dbias = sum(g).
fn layer_norm(graph: &mut Graph, node: &Node, position: usize, g: Tensor) -> Result<Tensor> {
    let (x, scale, mean, inverse) = (node.inputs[0], node.inputs[1], node.outputs[1], node.outputs[2]);
    if position == 2 {
        return sum_to(graph, g, node.inputs[2]);
    }
    let centred = graph.sub(x, mean)?;
    let normal = graph.mul(centred, inverse)?;
    if position == 1 {
        let share = graph.mul(g, normal)?;
        return sum_to(graph, share, scale);
    }
    let last = graph.shape(x).rank() - 1;
    let t = graph.mul(g, scale)?;
    let mean = graph.reduce_mean(t, &[last], true)?;
    let along = graph.mul(t, normal)?;
    let along = graph.reduce_mean(along, &[last], true)?;
    let along = graph.mul(normal, along)?;
    let share = graph.sub(t, mean)?;
    let share = graph.sub(share, along)?;
    graph.mul(share, inverse)
}

/// With h = x/rms and t = g scale: dx = (t - h mean(t h))/rms, dscale = sum(g h).
fn rms_norm(graph: &mut Graph, node: &Node, position: usize, g: Tensor) -> Result<Tensor> {
    let (x, scale, inverse) = (node.inputs[0], node.inputs[1], node.outputs[1]);
    let normal = graph.mul(x, inverse)?;
    if position == 1 {
        let share = graph.mul(g, normal)?;
        return sum_to(graph, share, scale);
    }
    let last = graph.shape(x).rank() - 1;
    let t = graph.mul(g, scale)?;
    let along = graph.mul(t, normal)?;
    let along = graph.reduce_mean(along, &[last], true)?;
    let along = graph.mul(normal, along)?;
    let share = graph.sub(t, along)?;
    graph.mul(share, inverse)
}

#[cfg(test)]
mod tests;
