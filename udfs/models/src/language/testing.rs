//! What the tests of language models share.

use std::path::{Path, PathBuf};

use half::f16;
use ort::memory::Allocator;
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;

use super::{Decoder, Form, Precision};
use crate::testing::library;

/// The installed language model.
pub(crate) fn smollm2() -> PathBuf {
    let folder = library::cache().join("assets/smollm2");
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    found.unwrap_or_else(|| panic!("no GGUF file in {}: run \"make setup\"", folder.display()))
}

/// The installed model, prepared once for all tests.
pub(crate) fn prepared(form: Form) -> Decoder {
    Decoder::prepare(&smollm2(), &library::cache().join("language"), form).expect("the installed model can be prepared")
}

/// Runs new tokens of one text on an empty cache: the logits of every position, `[tokens][vocabulary]`.
pub(crate) fn logits(decoder: &Decoder, graph: &Path, ids: &[u32]) -> Vec<Vec<f32>> {
    let runtime = crate::testing::runtime();
    let mut session = runtime.session_of_file(graph, 1).expect("the runtime takes the graph");
    run(decoder, &mut session, ids, 0, None).0
}

/// Keys and values of all layers, `[1, kv_heads, capacity, head_dim]`.
pub(crate) type Cache = Vec<Vec<f32>>;

/// Runs new tokens of one text after `past` others; gives all logits and the cache.
pub(crate) fn run(decoder: &Decoder, session: &mut Session, ids: &[u32], past: usize, cache: Option<Cache>) -> (Vec<Vec<f32>>, Cache) {
    run_with(decoder, session, ids, past, cache, &[])
}

/// As [`run`], with further inputs.
pub(crate) fn run_with(
    decoder: &Decoder,
    session: &mut Session,
    ids: &[u32],
    past: usize,
    cache: Option<Cache>,
    extra: &[(String, [usize; 2], Vec<f32>)],
) -> (Vec<Vec<f32>>, Cache) {
    let facts = decoder.facts();
    let half = decoder.form().precision == Precision::F16;
    let (count, total) = (ids.len(), past + ids.len());
    let capacity = 64.max(total.next_multiple_of(64));
    let shape = [1, facts.kv_heads, capacity, facts.head_dim];
    let cache = cache.unwrap_or_else(|| vec![vec![0.0; shape.iter().product()]; 2 * facts.layers]);
    let owned = |name: &str, value: SessionInputValue<'static>| (name.to_owned(), value);
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    let mut inputs = vec![
        owned("ids", Tensor::from_array(([1, count], ids)).unwrap().into()),
        owned("positions", Tensor::from_array(([1, count, 1], (0..count as i64).collect::<Vec<_>>())).unwrap().into()),
        owned("seqlens_k", Tensor::from_array(([1], vec![total as i32 - 1])).unwrap().into()),
        owned("total", Tensor::from_array((Vec::<i64>::new(), vec![total as i32])).unwrap().into()),
        owned("query_seqlens", Tensor::from_array(([1], vec![count as i32])).unwrap().into()),
    ];
    for (index, values) in cache.into_iter().enumerate() {
        let name = format!("past_{}.{}", ["key", "value"][index % 2], index / 2);
        inputs.push(owned(&name, tensor(half, &shape, values)));
    }
    for (name, shape, values) in extra {
        inputs.push(owned(name, tensor(half, shape, values.clone())));
    }
    let outputs = session.run(inputs).expect("the graph runs");
    let floats = |name: &str| match outputs[name].try_extract_tensor::<f32>() {
        Ok((_, values)) => values.to_vec(),
        Err(_) => outputs[name].try_extract_tensor::<f16>().unwrap().1.iter().map(|value| value.to_f32()).collect(),
    };
    let logits = floats("logits").chunks(facts.vocab).map(<[f32]>::to_vec).collect();
    let present = (0..2 * facts.layers).map(|index| floats(&format!("present_{}.{}", ["key", "value"][index % 2], index / 2)));
    (logits, present.collect())
}

/// Floats as the graph wants them. Those without any value cannot be made from an array.
fn tensor(half: bool, shape: &[usize], values: Vec<f32>) -> SessionInputValue<'static> {
    let shape = shape.to_vec();
    if values.is_empty() {
        return Tensor::<f32>::new(&Allocator::default(), shape).unwrap().into();
    }
    if half {
        let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
        return Tensor::from_array((shape, values)).unwrap().into();
    }
    Tensor::from_array((shape, values)).unwrap().into()
}

/// The index of the largest value.
pub(crate) fn best(logits: &[f32]) -> usize {
    logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(index, _)| index)
}

/// A file of `tests/fixtures/language`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/language").join(name)
}

/// A tiny checkpoint, prepared in a folder of its own.
pub(crate) fn prepare_tiny(name: &str, form: Form) -> (tempfile::TempDir, Decoder) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let decoder = Decoder::prepare(&fixture(name), folder.path(), form).expect("the checkpoint can be prepared");
    (folder, decoder)
}

/// A tiny model for tests that are not about its weights.
pub(crate) fn tiny() -> Decoder {
    Decoder::prepare(&fixture("qwen2.gguf"), &library::cache().join("language"), Form::default()).expect("the checkpoint can be prepared")
}
