use std::collections::HashMap;

use prost::Message;

use super::*;
use crate::onnx::{Dimension, ModelProto};
use crate::testing::{Feed, run, runtime};

fn input(graph: &mut Graph, name: &str, dims: &[Dim]) -> Tensor {
    graph.input(name, Shape::new(dims.to_vec())).unwrap()
}

#[test]
fn one_graph_serves_every_batch_size() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", Shape::batch("n", &[2])).unwrap();
    let w = graph.constant("w", &[2, 1], vec![1.0, 10.0]).unwrap();
    let y = graph.matmul(x, w).unwrap();
    graph.output("y", y).unwrap();
    let runtime = runtime();
    for rows in [1, 3] {
        let values: Vec<f32> = (0..rows * 2).map(|v| v as f32).collect();
        let expected: Vec<f32> = values.chunks(2).map(|row| row[0] + 10.0 * row[1]).collect();
        assert_eq!(run(&runtime, &graph, &[("x", Feed::Floats(vec![rows, 2], values))])[0], expected);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_both_shapes() {
    let mut graph = Graph::new("g");
    let x = input(&mut graph, "x", &["n".into(), 3.into()]);
    let y = input(&mut graph, "y", &["m".into(), 4.into()]);
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    let product = message(graph.matmul(x, y));
    assert!(product.contains("[n, 3] and [m, 4]") && product.contains("inner dimensions 3 and m differ"), "{product}");
    assert!(message(graph.add(x, y)).contains("n and m cannot be broadcast"));
    assert!(message(graph.concat(&[x, y], 1)).contains("differ outside axis 1"));
    assert!(message(graph.concat(&[x, x], 0)).contains("axis 0 is missing or symbolic"));
    assert!(message(graph.slice(x, 1, 2, 4)).contains("has only 3 elements"));
    assert!(message(graph.reshape(x, Shape::batch("n", &[2]))).contains("3*n elements do not fit into [n, 2]"));
    assert!(message(graph.gather(x, y)).contains("operand 1 is F32 instead of I64"));
    assert!(message(graph.transpose(x, &[0, 0])).contains("not an order"));
    assert!(graph.constant("w", &[2, 2], vec![0.0]).unwrap_err().to_string().contains("[2, 2] has 1 values"));
    assert!(graph.input("x", Shape::scalar()).unwrap_err().to_string().contains("\"x\" is empty, reserved or taken"));
}

#[test]
fn the_model_keeps_symbols_and_leaves_out_what_no_output_needs() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", Shape::batch("n", &[2])).unwrap();
    let unused = graph.constant("unused", &[2], vec![1.0, 2.0]).unwrap();
    graph.add(x, unused).unwrap();
    let y = graph.relu(x).unwrap();
    graph.output("y", y).unwrap();
    graph.output("same", y).unwrap();
    let model = ModelProto::decode(graph.model().as_slice()).unwrap();
    let onnx = model.graph.unwrap();
    assert_eq!(onnx.node.iter().map(|n| n.op_type.as_str()).collect::<Vec<_>>(), ["Relu", "Identity"]);
    assert!(onnx.initializer.is_empty());
    let tensor = onnx.output[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    let dims: Vec<_> = tensor.shape.as_ref().unwrap().dim.iter().map(|d| d.value.clone().unwrap()).collect();
    assert_eq!(dims, [Dimension::Name("n".to_owned()), Dimension::Size(2)]);
    let outputs = run(&runtime(), &graph, &[("x", Feed::Floats(vec![1, 2], vec![-1.0, 2.0]))]);
    assert_eq!(outputs, [[0.0, 2.0], [0.0, 2.0]]);
}

/// On a GPU only can such a graph run, so this is about its form.
#[test]
fn products_are_of_short_numbers_where_that_is_asked_for() {
    let mut graph = Graph::new("short");
    let x = input(&mut graph, "x", &["n".into(), 4.into()]);
    let w = input(&mut graph, "w", &[4.into(), 3.into()]);
    let b = input(&mut graph, "b", &[3.into()]);
    let y = graph.gemm(x, w, Some(b)).unwrap();
    let y = graph.relu(y).unwrap();
    let z = graph.matmul_transposed(y, w).unwrap();
    graph.output("z", z).unwrap();
    graph.shorten_products();
    let proto = graph.proto().graph.unwrap();
    let casts: HashMap<&str, (&str, i64)> = proto
        .node
        .iter()
        .filter(|node| node.op_type == "Cast")
        .map(|node| (node.output[0].as_str(), (node.input[0].as_str(), node.attribute[0].i)))
        .collect();
    // each value once, though w is a factor of both
    assert_eq!(casts.len(), 4 + 2, "{casts:?}");
    let products: Vec<_> = proto.node.iter().filter(|node| ["Gemm", "FusedMatMul"].contains(&node.op_type.as_str())).collect();
    let sources: Vec<Vec<&str>> = products.iter().map(|node| node.input.iter().map(|input| casts[input.as_str()].0).collect()).collect();
    assert_eq!((sources[0].clone(), sources[1][1]), (vec!["x", "w", "b"], "w"));
    assert!(products.iter().flat_map(|node| &node.input).all(|input| casts[input.as_str()].1 == 16));
    for product in &products {
        assert!(casts.values().any(|(input, to)| *input == product.output[0] && *to == 1), "the result is a float again");
    }
    assert_eq!(proto.output[0].name, "z");
}
