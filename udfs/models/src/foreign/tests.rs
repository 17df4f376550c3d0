//! Classifiers as their converters export them, and graphs that are refused: `tests/fixtures/foreign.py`.

use serde::Deserialize;

use super::*;
use crate::graph::{Dim, Graph, Shape};
use crate::onnx::{DimensionProto, ModelProto};
use crate::testing::runtime;

const LIGHTGBM: &[u8] = include_bytes!("../../tests/fixtures/foreign/lightgbm.onnx");
const XGBOOST: &[u8] = include_bytes!("../../tests/fixtures/foreign/xgboost.onnx");
const SKLEARN: &[u8] = include_bytes!("../../tests/fixtures/foreign/sklearn.onnx");
const ZIPMAP: &[u8] = include_bytes!("../../tests/fixtures/foreign/zipmap.onnx");

#[derive(Deserialize)]
struct Expected {
    rows: Vec<Row>,
    lightgbm: Vec<f32>,
    xgboost: Vec<f32>,
    sklearn: Vec<f32>,
}

#[derive(Deserialize)]
struct Row {
    price: f32,
    age: i64,
    colour: String,
    score: f32,
    /// The price is missing for the models that take NULL.
    gap: bool,
}

fn expected() -> Expected {
    serde_json::from_str(include_str!("../../tests/fixtures/foreign/expected.json")).unwrap()
}

fn names() -> Vec<String> {
    ["price", "age", "score"].map(str::to_owned).to_vec()
}

fn examine(graph: &[u8], names: &[String]) -> Result<Outline> {
    Foreign::examine(&runtime(), "the file", graph, names)
}

fn refused(graph: &[u8], names: &[String]) -> String {
    let error = examine(graph, names).unwrap_err();
    format!("{error}; {}", error.hint().unwrap_or_default())
}

/// The largest difference between what a graph gives and what its library gave, for all rows in one call and for each on its own.
fn worst(graph: &[u8], names: &[String], columns: &[Column], expected: &[f32]) -> f32 {
    let outline = examine(graph, names).unwrap();
    let model = Foreign::new(&runtime(), "the file", outline, graph.to_vec()).unwrap();
    let scores = model.predict(&Plain { rows: expected.len(), columns: columns.to_vec() }).unwrap();
    assert_eq!(scores.tasks(), 1);
    assert!(expected.iter().any(|p| (p - expected[0]).abs() > 0.05), "the rows are alike: {expected:?}");
    scores.task(0).zip(expected).map(|(own, expected)| (own - expected).abs()).fold(0.0, f32::max)
}

#[test]
fn boosted_trees_score_as_their_libraries_do_with_null_among_the_numbers() {
    let Expected { rows, lightgbm, xgboost, .. } = expected();
    let columns = [
        Column::Float(rows.iter().map(|row| if row.gap { f32::NAN } else { row.price }).collect()),
        Column::Float(rows.iter().map(|row| row.age as f32).collect()),
        Column::Float(rows.iter().map(|row| row.score).collect()),
    ];
    assert!(worst(LIGHTGBM, &names(), &columns, &lightgbm) < 1e-5);
    assert!(worst(XGBOOST, &names(), &columns, &xgboost) < 1e-5);
}

#[test]
fn a_pipeline_takes_a_column_per_input_in_its_own_type() {
    let Expected { rows, sklearn, .. } = expected();
    let columns = [
        Column::Float(rows.iter().map(|row| row.price).collect()),
        Column::Int64(rows.iter().map(|row| row.age).collect()),
        Column::Text(rows.iter().map(|row| row.colour.clone()).collect()),
        Column::Float(rows.iter().map(|row| row.score).collect()),
    ];
    assert!(worst(SKLEARN, &[], &columns, &sklearn) < 1e-5);
    let outline = examine(SKLEARN, &[]).unwrap();
    let columns: Vec<_> = outline.columns().collect();
    assert_eq!(columns[1..3], [("age", Element::Int64), ("colour", Element::Text)]);
}

#[test]
fn columns_of_a_matrix_are_named_or_numbered() {
    assert_eq!(examine(LIGHTGBM, &[]).unwrap().inputs[0].columns, ["f0", "f1", "f2"]);
    assert_eq!(examine(LIGHTGBM, &names()).unwrap().inputs[0].columns, names());
    assert!(refused(LIGHTGBM, &names()[..2]).starts_with("the input \"input\" of the file takes 3 columns, but 2 are named for it"));
    assert!(refused(SKLEARN, &names()).starts_with("the file has no input for the columns price, age, score"));
    let twice = ["a", "b", "a"].map(str::to_owned);
    assert!(refused(LIGHTGBM, &twice).starts_with("the file takes two columns called \"a\""));
}

#[test]
fn rows_of_other_columns_are_refused() {
    let model = Foreign::new(&runtime(), "the file", examine(LIGHTGBM, &[]).unwrap(), LIGHTGBM.to_vec()).unwrap();
    let column = || Column::Float(vec![0.0]);
    assert!(model.predict(&Plain { rows: 1, columns: vec![column(), column(), column()] }).is_ok());
    for columns in [vec![column()], vec![column(), column(), Column::Int64(vec![1])], vec![column(), column(), Column::Float(vec![])]] {
        let error = model.predict(&Plain { rows: 1, columns }).unwrap_err();
        assert_eq!(error.to_string(), "the rows do not have the columns f0 real, f1 real, f2 real");
    }
}

#[test]
fn more_rows_than_a_call_takes_come_in_order() {
    let model = Foreign::new(&runtime(), "the file", examine(LIGHTGBM, &[]).unwrap(), LIGHTGBM.to_vec()).unwrap();
    let column = |rows: usize| Column::Float((0..rows).map(|row| (row % 90) as f32).collect());
    let scores = |rows: usize| -> Vec<f32> {
        let plain = Plain { rows, columns: vec![column(rows), column(rows), column(rows)] };
        model.predict(&plain).unwrap().task(0).collect()
    };
    let (few, many) = (scores(90), scores(3 * CHUNK + 5));
    assert!(many.iter().enumerate().all(|(row, p)| *p == few[row % 90]));
    assert!(scores(0).is_empty());
}

#[test]
fn a_list_of_maps_is_refused_with_the_way_out() {
    let error = refused(ZIPMAP, &[]);
    assert!(error.contains("(ZipMap)") && error.contains("zipmap=False"), "{error}");
}

#[test]
fn bytes_that_are_no_graph_are_refused() {
    assert!(refused(b"PK\x03\x04 not a model", &[]).starts_with("the file is no ONNX model"));
    assert!(refused(&[], &[]).starts_with("the file is no ONNX model"));
}

fn decoded(graph: &Graph) -> ModelProto {
    graph.proto()
}

fn bytes(model: &ModelProto) -> Vec<u8> {
    use prost::Message;
    model.encode_to_vec()
}

/// `p = sigmoid(x + w)` with inputs `[n, 1]`.
fn small(weight: f32) -> Graph {
    let mut graph = Graph::new("small");
    let x = graph.input("x", Shape::new([Dim::from("n"), Dim::from(1)])).unwrap();
    let w = graph.constant("w", &[1, 1], vec![weight]).unwrap();
    let sum = graph.add(x, w).unwrap();
    let p = graph.sigmoid(sum).unwrap();
    graph.output("p", p).unwrap();
    graph
}

#[test]
fn weights_in_other_files_are_refused() {
    // data_location (field 14) of the initializer: 1 is external.
    let mut tensor = prost::Message::encode_to_vec(&decoded(&small(0.5)).graph.unwrap().initializer[0]);
    tensor.extend([14 << 3, 1]);
    let mut graph = vec![];
    prost::encoding::encode_key(5, prost::encoding::WireType::LengthDelimited, &mut graph);
    prost::encoding::encode_varint(tensor.len() as u64, &mut graph);
    graph.extend(tensor);
    let mut model = vec![];
    prost::encoding::encode_key(7, prost::encoding::WireType::LengthDelimited, &mut model);
    prost::encoding::encode_varint(graph.len() as u64, &mut model);
    model.extend(graph);
    assert!(refused(&model, &[]).starts_with("the file keeps the weights \"w\" in another file"));
    assert!(examine(&small(0.5).model(), &[]).is_ok());
}

#[test]
fn an_unknown_operation_is_told_in_the_runtimes_words() {
    let mut model = decoded(&small(0.5));
    model.graph.as_mut().unwrap().node[0].op_type = "Addition".to_owned();
    let error = refused(&bytes(&model), &[]);
    assert!(error.starts_with("ONNX Runtime: ") && error.contains("Addition"), "{error}");
}

#[test]
fn a_graph_for_a_fixed_number_of_rows_is_refused() {
    let mut model = decoded(&small(0.5));
    let kind = model.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap();
    kind.tensor_type.as_mut().unwrap().shape.as_mut().unwrap().dim[0] = DimensionProto { value: Some(crate::onnx::Dimension::Size(4)) };
    let error = refused(&bytes(&model), &[]);
    assert!(error.starts_with("the input \"x\" of the file takes exactly 4 rows at a time"), "{error}");
}

#[test]
fn an_output_that_is_no_probability_is_refused() {
    let mut graph = Graph::new("scores");
    let x = graph.input("x", Shape::batch("n", &[1])).unwrap();
    let two = graph.scalar(2.0);
    let score = graph.add(x, two).unwrap();
    graph.output("score", score).unwrap();
    let error = refused(&graph.model(), &[]);
    assert!(error.starts_with("the output \"score\" of the file is 2 for a row of zeros, so it is no probability"), "{error}");
    let mut graph = Graph::new("classes");
    let x = graph.input("x", Shape::batch("n", &[3])).unwrap();
    let p = graph.softmax(x).unwrap();
    graph.output("probabilities", p).unwrap();
    let error = refused(&graph.model(), &[]);
    assert!(error.starts_with("the output \"probabilities\" of the file has shape [1, 3] for 1 rows"), "{error}");
}
