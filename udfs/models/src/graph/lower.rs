//! From our operations to ONNX nodes.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Dim, Element, Graph, Node, Op, Origin, Shape, Tensor, Value, infer};
use crate::onnx::{
    AttributeProto, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};

/// Operator set of the standard operations: the first with `Gelu`.
pub(crate) const OPSET: i64 = 20;
pub(crate) const IR_VERSION: i64 = 10;
/// ONNX Runtime's own operators.
pub(crate) const MICROSOFT: &str = "com.microsoft";

pub(super) fn model(graph: &Graph) -> ModelProto {
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "stratagem".to_owned(),
        graph: Some(Lowering::new(graph).finish()),
        opset_import: vec![opset("", OPSET), opset(MICROSOFT, 1)],
    }
}

struct Lowering<'g> {
    graph: &'g Graph,
    names: HashMap<Tensor, String>,
    nodes: Vec<NodeProto>,
    /// Axes, sizes and shapes, by value: equal ones are one constant.
    integers: BTreeMap<Vec<i64>, String>,
    /// Values that have been rounded for a product.
    short: HashSet<String>,
}

impl<'g> Lowering<'g> {
    fn new(graph: &'g Graph) -> Self {
        let mut names = HashMap::new();
        for (index, value) in graph.values.iter().enumerate() {
            let name = match &value.origin {
                Origin::Input(name) | Origin::Floats(Some(name), _) => name.clone(),
                Origin::Floats(None, _) | Origin::Node => format!("_{index}"),
            };
            names.insert(Tensor(index), name);
        }
        Self { graph, names, nodes: Vec::new(), integers: BTreeMap::new(), short: HashSet::new() }
    }

    fn finish(mut self) -> GraphProto {
        let copies = self.name_outputs();
        let needed = needed(self.graph);
        for (node, _) in self.graph.nodes.iter().zip(&needed.nodes).filter(|(_, needed)| **needed) {
            self.lower(node);
        }
        for (output, tensor) in copies {
            let input = self.names[&tensor].clone();
            self.push("Identity", vec![input], vec![output], Vec::new());
        }
        let mut constants: Vec<TensorProto> = Vec::new();
        let mut inputs = Vec::new();
        for (index, value) in self.graph.values.iter().enumerate() {
            let name = &self.names[&Tensor(index)];
            match &value.origin {
                Origin::Input(_) => inputs.push(value_info(name, value)),
                Origin::Floats(_, floats) if needed.values[index] => {
                    let sizes: Vec<usize> = value.shape.dims().iter().filter_map(Dim::size).collect();
                    constants.push(TensorProto::floats(name, &sizes, floats));
                }
                Origin::Floats(..) | Origin::Node => {}
            }
        }
        constants.extend(self.integers.iter().map(|(values, name)| TensorProto::ints(name, &[values.len()], values)));
        let outputs = self.graph.outputs.iter().map(|(name, t)| value_info(name, &self.graph.values[t.0])).collect();
        GraphProto { node: self.nodes, name: self.graph.name.clone(), initializer: constants, input: inputs, output: outputs }
    }

    /// A result takes the name of its output. Inputs, constants and values with two names need a copy: (output, value).
    fn name_outputs(&mut self) -> Vec<(String, Tensor)> {
        let mut named = Vec::new();
        let mut copies = Vec::new();
        for (output, tensor) in &self.graph.outputs {
            let computed = matches!(self.graph.values[tensor.0].origin, Origin::Node);
            if computed && !named.contains(tensor) {
                self.names.insert(*tensor, output.clone());
                named.push(*tensor);
            } else {
                copies.push((output.clone(), *tensor));
            }
        }
        copies
    }

    fn push(&mut self, op_type: &str, input: Vec<String>, output: Vec<String>, attribute: Vec<AttributeProto>) {
        let domain = if op_type == "FusedMatMul" { MICROSOFT } else { "" };
        let name = output.first().cloned().unwrap_or_default();
        self.nodes.push(NodeProto { input, output, name, op_type: op_type.to_owned(), attribute, domain: domain.to_owned() });
    }

    fn integers(&mut self, values: impl IntoIterator<Item = i64>) -> String {
        let values: Vec<i64> = values.into_iter().collect();
        let next = format!("_i{}", self.integers.len());
        self.integers.entry(values).or_insert(next).clone()
    }

    fn sizes(&mut self, values: &[usize]) -> String {
        self.integers(values.iter().map(|v| *v as i64))
    }

    fn lower(&mut self, node: &Node) {
        let mut input: Vec<String> = node.inputs.iter().map(|t| self.names[t].clone()).collect();
        let output: Vec<String> = node.outputs.iter().map(|t| self.names[t].clone()).collect();
        match &node.op {
            Op::ScatterRows => return self.scatter(&input, output),
            Op::Dequantize { block } => return self.dequantize(&input, *block, self.graph.shape(node.outputs[0]).clone(), output),
            Op::ExpandLike => {
                let shape = self.shape_of(&input[1], &output[0]);
                return self.push("Expand", vec![input[0].clone(), shape], output, Vec::new());
            }
            Op::ZerosLike => {
                let shape = self.shape_of(&input[0], &output[0]);
                return self.push("ConstantOfShape", vec![shape], output, Vec::new());
            }
            Op::Count(axes) => return self.count(&input[0], axes, output),
            Op::Gemm { .. } | Op::MatMul { .. } if self.graph.short => return self.short(&node.op, &input, output),
            Op::Split { sizes, .. } => input.push(self.sizes(sizes)),
            Op::Slice { axis, start, end } => input.extend([*start, *end, *axis].map(|value| self.sizes(&[value]))),
            Op::Pad { axis, before, after } => {
                let rank = self.graph.shape(node.inputs[0]).rank();
                let mut pads = vec![0; 2 * rank];
                pads[*axis] = *before;
                pads[rank + axis] = *after;
                input.push(self.sizes(&pads));
            }
            Op::Reshape(shape) => {
                let from = self.graph.shape(node.inputs[0]).clone();
                input.push(self.integers(reshape_sizes(&from, shape)));
            }
            Op::LogSumExp => input.push(self.integers([-1])),
            Op::Unsqueeze(axes) | Op::Squeeze(axes) | Op::ReduceSum { axes, .. } | Op::ReduceMean { axes, .. } => {
                input.push(self.sizes(axes));
            }
            _ => {}
        }
        self.push(op_type(&node.op), input, output, attributes(&node.op));
    }

    /// The shape of a value at run time; `result` makes the name unique.
    fn shape_of(&mut self, value: &str, result: &str) -> String {
        let shape = format!("_{result}_shape");
        self.push("Shape", vec![value.to_owned()], vec![shape.clone()], Vec::new());
        shape
    }

    fn scatter(&mut self, input: &[String], output: Vec<String>) {
        let [like, indices, rows] = input else { unreachable!("checked when the operation was added") };
        let shape = self.shape_of(like, &output[0]);
        let (zeros, columns) = (format!("_{}_zeros", output[0]), format!("_{}_at", output[0]));
        self.push("ConstantOfShape", vec![shape], vec![zeros.clone()], Vec::new());
        let last = self.integers([-1]);
        self.push("Unsqueeze", vec![indices.clone(), last], vec![columns.clone()], Vec::new());
        self.push("ScatterND", vec![zeros, columns, rows.clone()], output, vec![AttributeProto::string("reduction", "add")]);
    }

    /// Each block times its factor. `DequantizeLinear` knows blocks too, and takes three times as long on the CPU.
    fn dequantize(&mut self, input: &[String], block: usize, shape: Shape, output: Vec<String>) {
        let [numbers, factors] = input else { unreachable!("checked when the operation was added") };
        let name = |part: &str| format!("_{}_{part}", output[0]);
        let sizes: Vec<usize> = shape.dims().iter().filter_map(Dim::size).collect();
        let (whole, in_blocks, last) = (self.sizes(&sizes), self.integers([sizes[0] as i64, -1, block as i64]), self.integers([-1]));
        let float = AttributeProto::int("to", i64::from(data_type::FLOAT));
        self.push("Cast", vec![numbers.clone()], vec![name("floats")], vec![float]);
        self.push("Reshape", vec![name("floats"), in_blocks], vec![name("blocks")], Vec::new());
        self.push("Unsqueeze", vec![factors.clone(), last], vec![name("factors")], Vec::new());
        self.push("Mul", vec![name("blocks"), name("factors")], vec![name("products")], Vec::new());
        self.push("Reshape", vec![name("products"), whole], output, Vec::new());
    }

    /// A product in bfloat16.
    fn short(&mut self, product: &Op, input: &[String], output: Vec<String>) {
        let to = |element: i32| vec![AttributeProto::int("to", i64::from(element))];
        let mut rounded = Vec::new();
        for value in input {
            let name = format!("_{value}_short");
            if self.short.insert(value.clone()) {
                self.push("Cast", vec![value.clone()], vec![name.clone()], to(data_type::BFLOAT16));
            }
            rounded.push(name);
        }
        let result = format!("_{}_product", output[0]);
        self.push(op_type(product), rounded, vec![result.clone()], attributes(product));
        self.push("Cast", vec![result], output, to(data_type::FLOAT));
    }

    fn count(&mut self, x: &str, axes: &[usize], output: Vec<String>) {
        let shape = self.shape_of(x, &output[0]);
        let (sizes, product) = (format!("_{}_sizes", output[0]), format!("_{}_product", output[0]));
        let axes = self.sizes(axes);
        self.push("Gather", vec![shape, axes], vec![sizes.clone()], Vec::new());
        self.push("ReduceProd", vec![sizes], vec![product.clone()], vec![AttributeProto::int("keepdims", 0)]);
        self.push("Cast", vec![product], output, vec![AttributeProto::int("to", i64::from(data_type::FLOAT))]);
    }
}

/// The operator's name; those that become several nodes are lowered on their own.
fn op_type(op: &Op) -> &'static str {
    match op {
        Op::Gemm { .. } => "Gemm",
        Op::MatMul { transpose_a: false, transpose_b: false } => "MatMul",
        Op::MatMul { .. } => "FusedMatMul",
        Op::Add => "Add",
        Op::Sub => "Sub",
        Op::Mul => "Mul",
        Op::Div => "Div",
        Op::Relu => "Relu",
        Op::Sigmoid => "Sigmoid",
        Op::Tanh => "Tanh",
        Op::Gelu => "Gelu",
        Op::Erf => "Erf",
        Op::Exp => "Exp",
        Op::Log => "Log",
        Op::Softplus => "Softplus",
        Op::Sign => "Sign",
        Op::Softmax => "Softmax",
        Op::LayerNorm { .. } => "LayerNormalization",
        Op::RmsNorm { .. } => "SimplifiedLayerNormalization",
        Op::LogSumExp => "ReduceLogSumExp",
        Op::Dequantize { .. } => "Mul",
        Op::Gather => "Gather",
        Op::ScatterRows => "ScatterND",
        Op::Concat { .. } => "Concat",
        Op::Split { .. } => "Split",
        Op::Slice { .. } => "Slice",
        Op::Pad { .. } => "Pad",
        Op::Reshape(_) => "Reshape",
        Op::Transpose(_) => "Transpose",
        Op::Unsqueeze(_) => "Unsqueeze",
        Op::Squeeze(_) => "Squeeze",
        Op::ReduceSum { .. } => "ReduceSum",
        Op::ReduceMean { .. } => "ReduceMean",
        Op::ExpandLike => "Expand",
        Op::Count(_) => "Size",
        Op::ZerosLike => "ConstantOfShape",
    }
}

fn attributes(op: &Op) -> Vec<AttributeProto> {
    let flag = |name: &str, value: bool| AttributeProto::int(name, i64::from(value));
    let axis = |axis: i64| AttributeProto::int("axis", axis);
    match op {
        // The plain operator has no such attributes.
        Op::MatMul { transpose_a: false, transpose_b: false } => Vec::new(),
        Op::Gemm { transpose_a, transpose_b } | Op::MatMul { transpose_a, transpose_b } => {
            vec![flag("transA", *transpose_a), flag("transB", *transpose_b)]
        }
        Op::Softmax => vec![axis(-1)],
        Op::RmsNorm { epsilon } => vec![axis(-1), AttributeProto::float("epsilon", *epsilon), AttributeProto::int("stash_type", 1)],
        Op::LogSumExp => vec![flag("keepdims", true)],
        Op::LayerNorm { epsilon } => vec![axis(-1), AttributeProto::float("epsilon", *epsilon)],
        Op::Concat { axis: position } | Op::Split { axis: position, .. } => vec![axis(*position as i64)],
        Op::Transpose(order) => vec![AttributeProto::ints("perm", &order.iter().map(|axis| *axis as i64).collect::<Vec<_>>())],
        Op::ReduceSum { keep, .. } | Op::ReduceMean { keep, .. } => {
            vec![flag("keepdims", *keep), flag("noop_with_empty_axes", true)]
        }
        _ => Vec::new(),
    }
}

/// ONNX's way to write a shape with symbols: 0 copies the size at the same place, -1 is computed.
fn reshape_sizes(from: &Shape, to: &Shape) -> Vec<i64> {
    let computed: Vec<usize> = infer::unplaced(from.dims(), to).collect();
    to.dims()
        .iter()
        .enumerate()
        .map(|(axis, dim)| match dim.size() {
            Some(size) => size as i64,
            None if computed.contains(&axis) => -1,
            None => 0,
        })
        .collect()
}

struct Needed {
    nodes: Vec<bool>,
    values: Vec<bool>,
}

/// What the outputs depend on.
fn needed(graph: &Graph) -> Needed {
    let mut needed = Needed { nodes: vec![false; graph.nodes.len()], values: vec![false; graph.values.len()] };
    for (_, tensor) in &graph.outputs {
        needed.values[tensor.0] = true;
    }
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|t| needed.values[t.0]) {
            needed.nodes[index] = true;
            for input in &node.inputs {
                needed.values[input.0] = true;
            }
        }
    }
    needed
}

fn value_info(name: &str, value: &Value) -> ValueInfoProto {
    let dim = |dim: &Dim| DimensionProto {
        value: match (dim.size(), dim.symbol()) {
            (Some(size), _) => Some(Dimension::Size(size as i64)),
            (None, Some(symbol)) => Some(Dimension::Name(symbol.to_owned())),
            (None, None) => None,
        },
    };
    let elem_type = match value.element {
        Element::F32 => data_type::FLOAT,
        Element::I64 => data_type::INT64,
        Element::I8 => data_type::INT8,
    };
    let shape = Some(TensorShapeProto { dim: value.shape.dims().iter().map(dim).collect() });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(TensorTypeProto { elem_type, shape }) }) }
}
