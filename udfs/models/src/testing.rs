//! What the tests of several modules need.

#[path = "../tests/support/library.rs"]
pub(crate) mod library;

use std::sync::Arc;

use ort::session::SessionInputValue;
use ort::value::TensorRef;

use crate::graph::Graph;
use crate::runtime::{Device, Runtime};

/// The installed library on the CPU.
pub(crate) fn runtime() -> Arc<Runtime> {
    Runtime::load(&library::path(), Device::Cpu).expect("the installed ONNX Runtime loads")
}

/// A value for an input.
#[derive(Debug, Clone)]
pub(crate) enum Feed {
    Floats(Vec<usize>, Vec<f32>),
    Indices(Vec<usize>, Vec<i64>),
    Bytes(Vec<usize>, Vec<i8>),
}

impl From<&SessionInputValue<'_>> for Feed {
    fn from(value: &SessionInputValue<'_>) -> Self {
        let SessionInputValue::View(value) = value else { panic!("an input that is not a view") };
        let sizes = |shape: &[i64]| shape.iter().map(|dim| *dim as usize).collect();
        if let Ok((shape, values)) = value.try_extract_tensor::<f32>() {
            return Self::Floats(sizes(shape), values.to_vec());
        }
        if let Ok((shape, values)) = value.try_extract_tensor::<i64>() {
            return Self::Indices(sizes(shape), values.to_vec());
        }
        let (shape, values) = value.try_extract_tensor::<i8>().expect("floats, indices or bytes");
        Self::Bytes(sizes(shape), values.to_vec())
    }
}

/// Runs a graph once; gives its outputs in order.
pub(crate) fn run(runtime: &Runtime, graph: &Graph, feeds: &[(&str, Feed)]) -> Vec<Vec<f32>> {
    let mut session = runtime.session(&graph.model(), 1).expect("the runtime takes the graph");
    let inputs: Vec<(&str, SessionInputValue<'_>)> = feeds
        .iter()
        .map(|(name, feed)| {
            let value: SessionInputValue<'_> = match feed {
                Feed::Floats(shape, values) => TensorRef::from_array_view((shape.clone(), values.as_slice())).unwrap().into(),
                Feed::Bytes(shape, values) => TensorRef::from_array_view((shape.clone(), values.as_slice())).unwrap().into(),
                Feed::Indices(shape, values) => TensorRef::from_array_view((shape.clone(), values.as_slice())).unwrap().into(),
            };
            (*name, value)
        })
        .collect();
    let outputs = session.run(inputs).expect("the graph runs");
    outputs.values().map(|value| value.try_extract_tensor::<f32>().unwrap().1.to_vec()).collect()
}

/// Ten steps of PyTorch's optimizers: `tests/fixtures/optimizers.py`.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Fixture {
    pub(crate) rows: usize,
    pub(crate) dim: usize,
    pub(crate) learning_rate: f32,
    pub(crate) weight_decay: f32,
    pub(crate) start: Vec<f32>,
    pub(crate) gradients: Vec<Vec<f32>>,
    pub(crate) adamw: Vec<f32>,
    pub(crate) row_adagrad: Vec<f32>,
}

impl Fixture {
    pub(crate) fn load() -> Self {
        serde_json::from_str(include_str!("../tests/fixtures/optimizers.json")).expect("the fixture is whole")
    }
}
