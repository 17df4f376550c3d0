//! A graph may say that its weights are in other files, which the runtime would then read. Such graphs are refused.
//!
//! The messages are the skeleton of `onnx.proto3`: what can hold a tensor, without the data.

use crate::error::{Error, Result};

#[derive(Clone, PartialEq, prost::Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "20")]
    training: Vec<Training>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Training {
    #[prost(message, optional, tag = "1")]
    initialization: Option<Graph>,
    #[prost(message, optional, tag = "2")]
    algorithm: Option<Graph>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "11")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "15")]
    sparse: Vec<Sparse>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    sparse: Option<Sparse>,
    #[prost(message, repeated, tag = "23")]
    sparses: Vec<Sparse>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sparse {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Tensor {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
    /// 1 is external.
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {}

/// Refuses a graph with weights in other files, and bytes that are no graph.
pub(super) fn refuse(object: &str, bytes: &[u8]) -> Result<()> {
    use prost::Message;
    let model = Model::decode(bytes).ok().filter(|model| model.graph.is_some());
    let model = model.ok_or_else(|| Error::data(format!("{object} is no ONNX model"), "name a file that ends in .onnx"))?;
    let training = model.training.iter().flat_map(|training| [&training.initialization, &training.algorithm]).flatten();
    let graphs = model.graph.iter().chain(training).find_map(in_graph);
    let found = graphs.or_else(|| model.functions.iter().find_map(|f| in_nodes(&f.node).or_else(|| in_attributes(&f.attribute))));
    match found {
        Some(name) => {
            let reason = format!("{object} keeps the weights \"{name}\" in another file");
            Err(Error::data(reason, "save it as one file: onnx.save(onnx.load(path), path, save_as_external_data=False)"))
        }
        None => Ok(()),
    }
}

fn in_graph(graph: &Graph) -> Option<&str> {
    let tensors = graph.initializer.iter().find_map(in_tensor);
    tensors.or_else(|| graph.sparse.iter().find_map(in_sparse)).or_else(|| in_nodes(&graph.node))
}

fn in_nodes(nodes: &[Node]) -> Option<&str> {
    nodes.iter().find_map(|node| in_attributes(&node.attribute))
}

fn in_attributes(attributes: &[Attribute]) -> Option<&str> {
    attributes.iter().find_map(|attribute| {
        let tensors = attribute.tensor.iter().chain(&attribute.tensors).find_map(in_tensor);
        let sparse = || attribute.sparse.iter().chain(&attribute.sparses).find_map(in_sparse);
        tensors.or_else(sparse).or_else(|| attribute.graph.iter().chain(&attribute.graphs).find_map(in_graph))
    })
}

fn in_sparse(sparse: &Sparse) -> Option<&str> {
    sparse.values.iter().chain(&sparse.indices).find_map(in_tensor)
}

fn in_tensor(tensor: &Tensor) -> Option<&str> {
    (tensor.data_location == 1 || !tensor.external_data.is_empty()).then_some(&tensor.name)
}
