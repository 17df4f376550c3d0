use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use safetensors::tensor::TensorView;

use super::super::testing::fixture;
use super::super::{Completion, Decoder, Engine, Form, Limits, Precision, Request, Sampling};
use super::*;

const FLOATS: Form = Form { precision: Precision::F32, block: 128 };
const RANK: usize = 3;
const ALPHA: f32 = 6.0;
/// What the adapter changes: query and value in one joined matrix, and a matrix that stands alone.
const CHANGED: [Projection; 3] = [Projection::Query, Projection::Value, Projection::Down];

fn base() -> (tempfile::TempDir, Decoder) {
    let folder = tempfile::tempdir().unwrap();
    let decoder = Decoder::prepare(&fixture("llama"), folder.path(), FLOATS).unwrap();
    (folder, decoder)
}

fn wave(count: usize, seed: f32, size: f32) -> Vec<f32> {
    (0..count).map(|i| size * (i as f32 * 0.7 + seed).sin()).collect()
}

fn changes(facts: &Facts, size: f32) -> Vec<Change> {
    let of = |layer: usize, projection: Projection| {
        let seed = layer as f32 + projection.outputs(facts) as f32;
        let a = wave(RANK * projection.inputs(facts), seed, size);
        Change { layer, projection, rank: RANK, a, b: wave(projection.outputs(facts) * RANK, seed + 0.5, size), scale: ALPHA / RANK as f32 }
    };
    (0..facts.layers).flat_map(|layer| CHANGED.map(|projection| of(layer, projection))).collect()
}

fn module(change: &Change) -> String {
    let block = if matches!(change.projection, Projection::Gate | Projection::Up | Projection::Down) { "mlp" } else { "self_attn" };
    format!("layers.{}.{block}.{}", change.layer, change.projection.name())
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A folder as PEFT writes it.
fn peft(changes: &[Change], facts: &Facts) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config =
        serde_json::json!({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj", "v_proj", "down_proj"]});
    std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = changes
        .iter()
        .flat_map(|change| {
            let name = |part: &str| format!("base_model.model.model.{}.lora_{part}.weight", module(change));
            let (inputs, outputs) = (change.projection.inputs(facts), change.projection.outputs(facts));
            [(name("A"), vec![RANK, inputs], bytes(&change.a)), (name("B"), vec![outputs, RANK], bytes(&change.b))]
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::write(folder.path().join(WEIGHTS), safetensors::serialize(views, None).unwrap()).unwrap();
    folder
}

/// The checkpoint with the changes added to its weights.
fn merged(changes: &[Change], facts: &Facts) -> (tempfile::TempDir, Decoder) {
    let source = fixture("llama");
    let bytes_of = std::fs::read(source.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes_of).unwrap();
    let mut weights: HashMap<String, (Vec<usize>, Vec<f32>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.shape().to_vec(), floats(view.dtype(), view.data()).unwrap())))
        .collect();
    for change in changes {
        let (_, weight) = weights.get_mut(&format!("model.{}.weight", module(change))).unwrap();
        let inputs = change.projection.inputs(facts);
        for (index, value) in weight.iter_mut().enumerate() {
            let (output, input) = (index / inputs, index % inputs);
            let product: f32 = (0..RANK).map(|r| change.b[output * RANK + r] * change.a[r * inputs + input]).sum();
            *value += change.scale * product;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let checkpoint: PathBuf = folder.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(source.join(name), checkpoint.join(name)).unwrap();
    }
    let data: Vec<(String, Vec<usize>, Vec<u8>)> =
        weights.into_iter().map(|(name, (shape, values))| (name, shape, bytes(&values))).collect();
    let views = data.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::write(checkpoint.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let decoder = Decoder::prepare(&checkpoint, &folder.path().join("cache"), FLOATS).unwrap();
    (folder, decoder)
}

fn engine(decoder: &Decoder) -> Arc<Engine> {
    Engine::start(&crate::testing::runtime(), decoder, Limits { slots: 6, ..Limits::default() }).unwrap()
}

/// Texts of eight prompts, each with the adapter that `adapter` gives for its number.
fn texts(engine: &Engine, adapter: impl Fn(usize) -> Option<Arc<Adapter>>) -> Vec<Completion> {
    let (sender, receiver) = mpsc::channel();
    let tickets: Vec<_> = (0..8)
        .map(|number| {
            let prompt = (0..3 + number as u32).map(|place| 5 + place * 17 + number as u32).collect();
            let sampling = Sampling { max_tokens: 12 + number % 3, ..Sampling::default() };
            let request = Request { prompt, shared: 0, sampling, constraint: None, adapter: adapter(number) };
            let sender = sender.clone();
            engine.submit(request, move |result| sender.send((number, result.unwrap())).unwrap()).unwrap()
        })
        .collect();
    let mut texts: Vec<_> = tickets.iter().map(|_| receiver.recv().unwrap()).collect();
    texts.sort_by_key(|(number, _)| *number);
    texts.into_iter().map(|(_, text)| text).collect()
}

fn ids(texts: &[Completion]) -> Vec<&[u32]> {
    texts.iter().map(|text| text.ids.as_slice()).collect()
}

#[test]
fn an_adapter_acts_like_its_product_added_to_the_weights_and_only_on_its_own_rows() {
    let (_folder, base) = base();
    let facts = base.facts();
    let changes = changes(facts, 0.3);
    let folder = peft(&changes, facts);
    let adapter = Arc::new(Adapter::open(folder.path(), facts).unwrap());
    let (_merged, merged) = merged(&changes, facts);
    let (base, merged) = (engine(&base), engine(&merged));
    let (plain, wanted) = (texts(&base, |_| None), texts(&merged, |_| None));
    assert_ne!(ids(&plain), ids(&wanted), "the adapter changes something");
    let adapted = texts(&base, |_| Some(Arc::clone(&adapter)));
    assert_eq!(ids(&adapted), ids(&wanted));
    for (adapted, wanted) in adapted.iter().zip(&wanted) {
        assert!((adapted.log_probability - wanted.log_probability).abs() < 1e-3);
    }
    // Rows with two adapters and without one, in the same batch.
    let other = Arc::new(Adapter::new(&changes[..1], facts).unwrap());
    let others = texts(&base, |_| Some(Arc::clone(&other)));
    let mixed = texts(&base, |number| [None, Some(&adapter), Some(&other)][number % 3].cloned());
    for (number, text) in mixed.iter().enumerate() {
        assert_eq!(text.ids, [&plain, &adapted, &others][number % 3][number].ids, "{number}");
    }
}

#[test]
fn an_adapter_without_changes_gives_the_models_own_texts_to_the_last_bit() {
    let (_folder, base) = base();
    let nothing = Arc::new(Adapter::new(&[], base.facts()).unwrap());
    let engine = engine(&base);
    let (plain, adapted) = (texts(&engine, |_| None), texts(&engine, |_| Some(Arc::clone(&nothing))));
    for (plain, adapted) in plain.iter().zip(&adapted) {
        assert_eq!((&plain.ids, plain.log_probability.to_bits()), (&adapted.ids, adapted.log_probability.to_bits()));
    }
}

#[test]
fn what_does_not_fit_the_model_is_told_with_its_sizes() {
    let (_folder, base) = base();
    let facts = base.facts();
    let mut wrong = changes(facts, 0.1);
    wrong[0].a.pop();
    let error = Adapter::new(&wrong, facts).unwrap_err().to_string();
    assert!(error.starts_with("the adapter is damaged: q_proj of layer 0 has 191 and 192 values; "), "{error}");
    wrong[0] = Change { layer: 9, ..changes(facts, 0.1)[0].clone() };
    assert!(Adapter::new(&wrong, facts).is_err());

    let folder = peft(&changes(facts, 0.1), facts);
    std::fs::write(folder.path().join(CONFIG), r#"{"r": 4, "lora_alpha": 8}"#).unwrap();
    assert!(Adapter::open(folder.path(), facts).unwrap_err().to_string().contains("has rank 3, not 4"));
    std::fs::write(folder.path().join(CONFIG), r#"{"r": 3, "lora_alpha": 8, "use_dora": true}"#).unwrap();
    assert!(matches!(Adapter::open(folder.path(), facts), Err(Error::Unsupported { .. })));
    std::fs::write(folder.path().join(WEIGHTS), b"no").unwrap();
    std::fs::write(folder.path().join(CONFIG), r#"{"r": 3, "lora_alpha": 8}"#).unwrap();
    assert!(matches!(Adapter::open(folder.path(), facts), Err(Error::Corrupt { .. })));
}
