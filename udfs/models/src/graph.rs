//! Typed graphs: every operation checks its shapes when it is added, and knows its gradient ([`crate::autodiff`]).
//!
//! A dimension is a number or a symbol such as `n`, so that one graph serves every batch size. The finished graph is a
//! serialised ONNX model (opset 20, and `FusedMatMul` of ONNX Runtime for products with a transposed operand).

mod infer;
pub(crate) mod lower;
mod shape;

use std::collections::{HashMap, HashSet};

pub use self::shape::{Dim, Shape};
use crate::error::{Error, Result};
use crate::onnx::ModelProto;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 64-bit signed integer: indices.
    I64,
    /// 8-bit signed integer: what is left of rounded weights.
    I8,
}

/// A value in a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor(pub(crate) usize);

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    Input(String),
    /// Named when it is a weight, unnamed when it is a number in a formula.
    Floats(Option<String>, Vec<f32>),
    /// The result of a node.
    Node,
}

#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) element: Element,
    pub(crate) shape: Shape,
    pub(crate) origin: Origin,
}

/// The operations. Axes are positions from 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    /// `op(a) op(b) [+ c]` of matrices.
    Gemm {
        transpose_a: bool,
        transpose_b: bool,
    },
    /// `op(a) op(b)` over the last two axes; the leading axes are equal, or `b` is one matrix.
    MatMul {
        transpose_a: bool,
        transpose_b: bool,
    },
    Add,
    Sub,
    Mul,
    Div,
    Relu,
    Sigmoid,
    Tanh,
    Gelu,
    Erf,
    Exp,
    Log,
    Softplus,
    Sign,
    /// Over the last axis.
    Softmax,
    /// Over the last axis; gives the result, the mean and 1/std.
    LayerNorm {
        epsilon: f32,
    },
    /// Over the last axis; gives the result and 1/root mean square.
    RmsNorm {
        epsilon: f32,
    },
    /// Over the last axis, which stays with size 1.
    LogSumExp,
    /// (numbers, factors): a matrix of floats, each number times the factor that so many in a row share.
    Dequantize {
        block: usize,
    },
    /// Rows of `a` by index.
    Gather,
    /// (like, indices, rows): zeros of the shape of `like`, with every row added at its index.
    ScatterRows,
    Concat {
        axis: usize,
    },
    Split {
        axis: usize,
        sizes: Vec<usize>,
    },
    Slice {
        axis: usize,
        start: usize,
        end: usize,
    },
    /// Zeros before and after.
    Pad {
        axis: usize,
        before: usize,
        after: usize,
    },
    Reshape(Shape),
    Transpose(Vec<usize>),
    Unsqueeze(Vec<usize>),
    Squeeze(Vec<usize>),
    ReduceSum {
        axes: Vec<usize>,
        keep: bool,
    },
    ReduceMean {
        axes: Vec<usize>,
        keep: bool,
    },
    /// (x, like): x repeated to the shape of `like`.
    ExpandLike,
    /// The number of elements of x along the axes, as a scalar.
    Count(Vec<usize>),
    ZerosLike,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
}

/// A graph under construction. Nodes are in the order in which they were added, which is a topological order.
#[derive(Debug, Clone)]
pub struct Graph {
    name: String,
    values: Vec<Value>,
    nodes: Vec<Node>,
    outputs: Vec<(String, Tensor)>,
    names: HashSet<String>,
    scalars: HashMap<u32, Tensor>,
    /// Whether products are of numbers in bfloat16.
    short: bool,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            values: Vec::new(),
            nodes: Vec::new(),
            outputs: Vec::new(),
            names: HashSet::new(),
            scalars: HashMap::new(),
            short: false,
        }
    }

    /// An input of floats. Errors when the name is taken.
    pub fn input(&mut self, name: &str, shape: Shape) -> Result<Tensor> {
        self.declare(name)?;
        Ok(self.value(Element::F32, shape, Origin::Input(name.to_owned())))
    }

    /// An input of indices. Errors when the name is taken.
    pub fn index_input(&mut self, name: &str, shape: Shape) -> Result<Tensor> {
        self.declare(name)?;
        Ok(self.value(Element::I64, shape, Origin::Input(name.to_owned())))
    }

    /// A matrix of floats that is given as two inputs, numbers of 8 bits `[rows, columns]` of the name with `.q` and the factors
    /// `[rows, columns / block]` of the name with `.s`. Errors when a name is taken, or the block does not divide the columns.
    pub(crate) fn rounded_input(&mut self, name: &str, [rows, columns]: [usize; 2], block: usize) -> Result<Tensor> {
        let names = [format!("{name}.q"), format!("{name}.s")];
        names.iter().try_for_each(|name| self.declare(name))?;
        let [numbers, factors] = names;
        let numbers = self.value(Element::I8, Shape::fixed(&[rows, columns]), Origin::Input(numbers));
        let factors = self.value(Element::F32, Shape::fixed(&[rows, columns.checked_div(block).unwrap_or(0)]), Origin::Input(factors));
        self.one(Op::Dequantize { block }, &[numbers, factors])
    }

    /// A named constant, such as a trained weight, row-major. Errors when the name is taken or the length does not fit.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<Tensor> {
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::graph(format!("constant {name} of shape {} has {} values", Shape::fixed(shape), values.len())));
        }
        self.declare(name)?;
        Ok(self.value(Element::F32, Shape::fixed(shape), Origin::Floats(Some(name.to_owned()), values)))
    }

    /// A number. Equal numbers are one value.
    pub fn scalar(&mut self, value: f32) -> Tensor {
        if let Some(known) = self.scalars.get(&value.to_bits()) {
            return *known;
        }
        let tensor = self.value(Element::F32, Shape::scalar(), Origin::Floats(None, vec![value]));
        self.scalars.insert(value.to_bits(), tensor);
        tensor
    }

    /// Declares a result. Errors when the name is taken.
    pub fn output(&mut self, name: &str, tensor: Tensor) -> Result<()> {
        self.declare(name)?;
        self.outputs.push((name.to_owned(), tensor));
        Ok(())
    }

    /// The input of this name.
    pub(crate) fn find(&self, input: &str) -> Option<Tensor> {
        self.values.iter().position(|value| matches!(&value.origin, Origin::Input(name) if name == input)).map(Tensor)
    }

    /// The shape of a value.
    pub fn shape(&self, tensor: Tensor) -> &Shape {
        &self.values[tensor.0].shape
    }

    /// Number of operations added so far.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Matrix product `a b + bias`; `a` is `[m, k]`, `b` is `[k, n]`, the bias is `[n]`.
    pub fn gemm(&mut self, a: Tensor, b: Tensor, bias: Option<Tensor>) -> Result<Tensor> {
        let mut inputs = vec![a, b];
        inputs.extend(bias);
        self.one(Op::Gemm { transpose_a: false, transpose_b: false }, &inputs)
    }

    /// Product over the last two axes: `[.., m, k]` with `[.., k, n]`, or with one matrix `[k, n]`.
    pub fn matmul(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.one(Op::MatMul { transpose_a: false, transpose_b: false }, &[a, b])
    }

    /// Like [`Graph::matmul`] with the last two axes of `b` swapped.
    pub fn matmul_transposed(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.one(Op::MatMul { transpose_a: false, transpose_b: true }, &[a, b])
    }

    /// Sum, with broadcasting.
    pub fn add(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.one(Op::Add, &[a, b])
    }

    /// Difference, with broadcasting.
    pub fn sub(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.one(Op::Sub, &[a, b])
    }

    /// Product of elements, with broadcasting. A dropout is a product with a mask input.
    pub fn mul(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.one(Op::Mul, &[a, b])
    }

    /// Quotient of elements, with broadcasting.
    pub fn div(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        self.one(Op::Div, &[a, b])
    }

    /// max(x, 0).
    pub fn relu(&mut self, x: Tensor) -> Result<Tensor> {
        self.one(Op::Relu, &[x])
    }

    /// 1 / (1 + exp(-x)).
    pub fn sigmoid(&mut self, x: Tensor) -> Result<Tensor> {
        self.one(Op::Sigmoid, &[x])
    }

    /// Hyperbolic tangent.
    pub fn tanh(&mut self, x: Tensor) -> Result<Tensor> {
        self.one(Op::Tanh, &[x])
    }

    /// Gaussian error linear unit, exact form (Hendrycks and Gimpel 2016).
    pub fn gelu(&mut self, x: Tensor) -> Result<Tensor> {
        self.one(Op::Gelu, &[x])
    }

    /// Exponential.
    pub fn exp(&mut self, x: Tensor) -> Result<Tensor> {
        self.one(Op::Exp, &[x])
    }

    /// Natural logarithm.
    pub fn log(&mut self, x: Tensor) -> Result<Tensor> {
        self.one(Op::Log, &[x])
    }

    /// log(1 + exp(x)).
    pub fn softplus(&mut self, x: Tensor) -> Result<Tensor> {
        self.one(Op::Softplus, &[x])
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, x: Tensor) -> Result<Tensor> {
        self.one(Op::Softmax, &[x])
    }

    /// Layer normalisation over the last axis (Ba et al. 2016); scale and bias have the size of that axis.
    pub fn layer_norm(&mut self, x: Tensor, scale: Tensor, bias: Tensor, epsilon: f32) -> Result<Tensor> {
        Ok(self.apply(Op::LayerNorm { epsilon }, &[x, scale, bias])?[0])
    }

    /// Root mean square normalisation over the last axis (Zhang and Sennrich 2019); the scale has the size of that axis.
    pub fn rms_norm(&mut self, x: Tensor, scale: Tensor, epsilon: f32) -> Result<Tensor> {
        Ok(self.apply(Op::RmsNorm { epsilon }, &[x, scale])?[0])
    }

    /// log(sum(exp(x))) over the last axis, which stays with size 1, in the form that cannot overflow.
    pub fn log_sum_exp(&mut self, x: Tensor) -> Result<Tensor> {
        self.one(Op::LogSumExp, &[x])
    }

    /// Rows of `table` (`[rows, ..]`) at `indices` (any shape): the shape is that of the indices followed by that of a row.
    pub fn gather(&mut self, table: Tensor, indices: Tensor) -> Result<Tensor> {
        self.one(Op::Gather, &[table, indices])
    }

    /// Joins values along an axis of fixed size.
    pub fn concat(&mut self, parts: &[Tensor], axis: usize) -> Result<Tensor> {
        self.one(Op::Concat { axis }, parts)
    }

    /// Cuts an axis of fixed size into parts.
    pub fn split(&mut self, x: Tensor, axis: usize, sizes: &[usize]) -> Result<Vec<Tensor>> {
        self.apply(Op::Split { axis, sizes: sizes.to_vec() }, &[x])
    }

    /// The part `start..end` of an axis of fixed size.
    pub fn slice(&mut self, x: Tensor, axis: usize, start: usize, end: usize) -> Result<Tensor> {
        self.one(Op::Slice { axis, start, end }, &[x])
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, x: Tensor, shape: Shape) -> Result<Tensor> {
        if *self.shape(x) == shape {
            return Ok(x);
        }
        self.one(Op::Reshape(shape), &[x])
    }

    /// Axes in another order: axis `i` of the result is axis `order[i]` of `x`.
    pub fn transpose(&mut self, x: Tensor, order: &[usize]) -> Result<Tensor> {
        self.one(Op::Transpose(order.to_vec()), &[x])
    }

    /// Sum over axes, which stay with size 1 if `keep`.
    pub fn reduce_sum(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.one(Op::ReduceSum { axes: axes.to_vec(), keep }, &[x])
    }

    /// Mean over axes, which stay with size 1 if `keep`.
    pub fn reduce_mean(&mut self, x: Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
        self.one(Op::ReduceMean { axes: axes.to_vec(), keep }, &[x])
    }

    /// Binary cross-entropy of every label in [0, 1] against its logit, in the form that cannot overflow: softplus(z) - z y.
    pub fn binary_cross_entropy(&mut self, logits: Tensor, labels: Tensor) -> Result<Tensor> {
        let softplus = self.softplus(logits)?;
        let product = self.mul(logits, labels)?;
        self.sub(softplus, product)
    }

    /// Multiplies matrices in bfloat16: each factor is rounded before a product, whose result is a float again. All else stays as it is (mixed
    /// precision, Micikevicius et al. 2018; the exponents of bfloat16 are those of a float, so the loss needs no scale). For a GPU: the runtime has no
    /// such products on the CPU.
    pub(crate) fn shorten_products(&mut self) {
        self.short = true;
    }

    /// The finished graph as the bytes of an ONNX model. Operations that no output needs are left out.
    pub fn model(&self) -> Vec<u8> {
        use prost::Message;
        self.proto().encode_to_vec()
    }

    /// The finished graph as an ONNX model.
    pub(crate) fn proto(&self) -> ModelProto {
        lower::model(self)
    }

    /// Adds an operation with one result.
    pub(crate) fn one(&mut self, op: Op, inputs: &[Tensor]) -> Result<Tensor> {
        Ok(self.apply(op, inputs)?[0])
    }

    /// Adds an operation.
    pub(crate) fn apply(&mut self, op: Op, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let operands: Vec<&Value> = inputs.iter().map(|t| &self.values[t.0]).collect();
        let results = infer::infer(&op, &operands)?;
        let outputs: Vec<Tensor> = results.into_iter().map(|(element, shape)| self.value(element, shape, Origin::Node)).collect();
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone() });
        Ok(outputs)
    }

    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// The operation that gives a value; none for inputs and constants.
    pub(crate) fn maker(&self, tensor: Tensor) -> Option<&Node> {
        self.nodes.iter().find(|node| node.outputs.contains(&tensor))
    }

    fn value(&mut self, element: Element, shape: Shape, origin: Origin) -> Tensor {
        self.values.push(Value { element, shape, origin });
        Tensor(self.values.len() - 1)
    }

    fn declare(&mut self, name: &str) -> Result<()> {
        // Unnamed values are called _0, _1, ...
        if name.is_empty() || name.starts_with('_') || !self.names.insert(name.to_owned()) {
            return Err(Error::graph(format!("the name \"{name}\" is empty, reserved or taken")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
