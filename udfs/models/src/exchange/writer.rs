//! Writes a graph node by node, for operations beyond those of [`crate::graph::Graph`]: nothing here is ever differentiated.

use std::collections::{BTreeMap, HashSet};

use crate::graph::lower::{IR_VERSION, MICROSOFT, OPSET};
use crate::onnx::{
    AttributeProto, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};

/// Operators of classical machine learning, with `LabelEncoder`.
const ML: &str = "ai.onnx.ml";
const ML_VERSION: i64 = 3;

/// A dimension that is given a name.
pub(super) const ROWS: &str = "n";
pub(super) const LENGTH: &str = "l";

/// The name of a value.
pub(super) type Value = String;

/// A graph that is being written.
#[derive(Default)]
pub(super) struct Writer {
    graph: GraphProto,
    taken: HashSet<String>,
    next: usize,
}

impl Writer {
    /// A name that no value has.
    fn fresh(&mut self) -> Value {
        loop {
            self.next += 1;
            let name = format!("_{}", self.next);
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// Reserves a name; false when it is taken.
    pub(super) fn reserve(&mut self, name: &str) -> bool {
        self.taken.insert(name.to_owned())
    }

    /// An input under a reserved name.
    pub(super) fn input(&mut self, name: &str, elem_type: i32, dims: &[&str]) {
        self.graph.input.push(value_info(name, elem_type, dims.iter().map(|dim| Dimension::Name((*dim).to_owned()))));
    }

    /// The output: floats `[n, width]`, under `name` or a name close to it.
    pub(super) fn output(&mut self, name: &str, width: usize, value: &str) -> String {
        let mut names = std::iter::once(name.to_owned()).chain((1..).map(|n| format!("{name}_{n}")));
        let name = names.find(|name| self.taken.insert(name.clone())).unwrap_or_default();
        self.push("", "Identity", vec![value.to_owned()], name.clone(), Vec::new());
        let dims = [Dimension::Name(ROWS.to_owned()), Dimension::Size(width as i64)];
        self.graph.output.push(value_info(&name, data_type::FLOAT, dims));
        name
    }

    fn push(&mut self, domain: &str, op_type: &str, input: Vec<Value>, output: Value, attribute: Vec<AttributeProto>) {
        let (op_type, domain, name) = (op_type.to_owned(), domain.to_owned(), output.clone());
        self.graph.node.push(NodeProto { input, output: vec![output], name, op_type, attribute, domain });
    }

    /// The result of an operation.
    pub(super) fn op(&mut self, op_type: &str, inputs: &[&str]) -> Value {
        self.op_with(op_type, inputs, Vec::new())
    }

    pub(super) fn op_with(&mut self, op_type: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> Value {
        let output = self.fresh();
        self.push("", op_type, inputs.iter().map(|input| (*input).to_owned()).collect(), output.clone(), attributes);
        output
    }

    pub(super) fn cast(&mut self, value: &str, to: i32) -> Value {
        self.op_with("Cast", &[value], vec![AttributeProto::int("to", i64::from(to))])
    }

    /// A further axis of size 1 at this place.
    pub(super) fn unsqueeze(&mut self, value: &str, axis: i64) -> Value {
        let axes = self.ints(&[1], &[axis]);
        self.op("Unsqueeze", &[value, &axes])
    }

    /// The sum over an axis, which stays with size 1 if `keep`.
    pub(super) fn sum(&mut self, value: &str, axis: i64, keep: bool) -> Value {
        let axes = self.ints(&[1], &[axis]);
        self.op_with("ReduceSum", &[value, &axes], vec![AttributeProto::int("keepdims", i64::from(keep))])
    }

    pub(super) fn concat(&mut self, values: &[Value], axis: i64) -> Value {
        let inputs: Vec<&str> = values.iter().map(String::as_str).collect();
        self.op_with("Concat", &inputs, vec![AttributeProto::int("axis", axis)])
    }

    /// A place for each key: 64-bit integers.
    pub(super) fn encode_ints(&mut self, value: &str, keys: &[i64], places: &[i64], other: i64) -> Value {
        self.encode(value, AttributeProto::ints("keys_int64s", keys), places, other)
    }

    /// A place for each key: texts.
    pub(super) fn encode_texts<'t>(&mut self, value: &str, keys: impl Iterator<Item = &'t str>, places: &[i64], other: i64) -> Value {
        self.encode(value, AttributeProto::strings("keys_strings", keys), places, other)
    }

    fn encode(&mut self, value: &str, keys: AttributeProto, places: &[i64], other: i64) -> Value {
        let output = self.fresh();
        let attributes = vec![keys, AttributeProto::ints("values_int64s", places), AttributeProto::int("default_int64", other)];
        self.push(ML, "LabelEncoder", vec![value.to_owned()], output.clone(), attributes);
        output
    }

    fn constant(&mut self, tensor: impl FnOnce(&str) -> TensorProto) -> Value {
        let name = self.fresh();
        self.graph.initializer.push(tensor(&name));
        name
    }

    pub(super) fn floats(&mut self, dims: &[usize], values: &[f32]) -> Value {
        self.constant(|name| TensorProto::floats(name, dims, values))
    }

    pub(super) fn ints(&mut self, dims: &[usize], values: &[i64]) -> Value {
        self.constant(|name| TensorProto::ints(name, dims, values))
    }

    pub(super) fn float(&mut self, value: f32) -> Value {
        self.floats(&[], &[value])
    }

    pub(super) fn double(&mut self, value: f64) -> Value {
        self.constant(|name| TensorProto::doubles(name, &[], &[value]))
    }

    pub(super) fn int(&mut self, value: i64) -> Value {
        self.ints(&[], &[value])
    }

    pub(super) fn bits(&mut self, value: u64) -> Value {
        self.constant(|name| TensorProto::bits(name, &[], &[value]))
    }

    /// Adds another graph, whose inputs are these values; gives its only output.
    pub(super) fn splice(&mut self, graph: GraphProto, inputs: &[(&str, &str)]) -> Value {
        let mut names: BTreeMap<String, Value> = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for mut tensor in graph.initializer {
            let name = self.fresh();
            names.insert(std::mem::replace(&mut tensor.name, name.clone()), name);
            self.graph.initializer.push(tensor);
        }
        for mut node in graph.node {
            for name in node.input.iter_mut().filter(|name| !name.is_empty()) {
                *name = names.get(name).cloned().unwrap_or_default();
            }
            for name in node.output.iter_mut().filter(|name| !name.is_empty()) {
                let own = self.fresh();
                names.insert(std::mem::replace(name, own.clone()), own);
            }
            node.name = node.output.first().cloned().unwrap_or_default();
            self.graph.node.push(node);
        }
        graph.output.first().and_then(|output| names.remove(&output.name)).unwrap_or_default()
    }

    /// The model.
    pub(super) fn finish(mut self, name: &str) -> ModelProto {
        self.graph.name = name.to_owned();
        let uses = |domain: &str| self.graph.node.iter().any(|node| node.domain == domain);
        let versions = [("", OPSET), (ML, ML_VERSION), (MICROSOFT, 1)].into_iter().filter(|(domain, _)| domain.is_empty() || uses(domain));
        let opset_import = versions.map(|(domain, version)| OperatorSetIdProto { domain: domain.to_owned(), version }).collect();
        ModelProto { ir_version: IR_VERSION, producer_name: "stratagem".to_owned(), graph: Some(self.graph), opset_import }
    }
}

fn value_info(name: &str, elem_type: i32, dims: impl IntoIterator<Item = Dimension>) -> ValueInfoProto {
    let dim = dims.into_iter().map(|dim| DimensionProto { value: Some(dim) }).collect();
    let tensor = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
