use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Deserialize;

use super::*;
use crate::error::Error;
use crate::graph::Tensor;
use crate::language::{Form, Precision};
use crate::shelf::{Shelf, Shelved};
use crate::testing::{Feed, library, run, runtime};

const EIGHT: Form = Form { precision: Precision::Int8, block: 32 };
const NAMES: [&str; 3] = ["bert", "roberta", "xlm-roberta"];

/// A file of `tests/fixtures/encoder`.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder").join(name)
}

fn prepared(source: &Path, form: Form) -> (tempfile::TempDir, Encoder) {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Encoder::prepare(source, folder.path(), form).unwrap();
    (folder, encoder)
}

fn start(encoder: &Encoder, limits: Limits) -> Arc<Engine> {
    Engine::start(&runtime(), encoder, limits).unwrap()
}

fn embed(engine: &Arc<Engine>, texts: &[&str]) -> Embedded {
    engine.embed(texts, &AtomicBool::new(false)).unwrap()
}

/// Vectors by sentence-transformers.
fn expected() -> (Vec<String>, BTreeMap<String, Vec<Vec<f32>>>) {
    let mut json: serde_json::Value = serde_json::from_str(include_str!("../../tests/fixtures/encoder/vectors.json")).unwrap();
    let texts = serde_json::from_value(json["texts"].take()).unwrap();
    json.as_object_mut().unwrap().remove("texts");
    (texts, serde_json::from_value(json).unwrap())
}

/// The largest difference, and the smallest cosine.
fn compare(found: &[Arc<[f32]>], expected: &[Vec<f32>]) -> (f32, f64) {
    assert_eq!(found.len(), expected.len());
    let (mut largest, mut nearest) = (0f32, 1f64);
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if difference > 1e-4 {
            eprintln!("text {row}: {difference}");
        }
        largest = largest.max(difference);
        nearest = nearest.min(cosine(found, expected).unwrap());
    }
    (largest, nearest)
}

#[test]
fn tiny_models_of_all_families_have_the_vectors_of_sentence_transformers() {
    let (texts, expected) = expected();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for name in NAMES {
        let (_folder, encoder) = prepared(&fixture(name), Encoder::EXACT);
        encoder.verify().unwrap();
        let engine = start(&encoder, Limits::default());
        let found = embed(&engine, &texts);
        let (largest, _) = compare(&found.vectors, &expected[name]);
        assert!(largest < 1e-4, "{name}: {largest}");
        // One text at a time, without a memory of the others.
        let engine = start(&encoder, Limits { memory: 0, ..Limits::default() });
        let alone: Vec<Arc<[f32]>> = texts.iter().flat_map(|text| embed(&engine, &[text]).vectors).collect();
        let (largest, _) = compare(&alone, &expected[name]);
        assert!(largest < 1e-4, "{name}, alone: {largest}");
    }
}

#[test]
fn rounded_weights_keep_the_direction_of_vectors() {
    let (texts, expected) = expected();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for name in NAMES {
        let (_folder, encoder) = prepared(&fixture(name), EIGHT);
        assert_eq!(encoder.form(), EIGHT);
        let (largest, nearest) = compare(&embed(&start(&encoder, Limits::default()), &texts).vectors, &expected[name]);
        assert!(nearest > 0.99 && largest > 0.0, "{name}: {nearest}");
    }
}

#[derive(Deserialize)]
struct Reference {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

#[test]
fn the_installed_encoder_has_the_vectors_of_sentence_transformers() {
    let reference: Reference = serde_json::from_str(include_str!("../../tests/fixtures/encoder/minilm.json")).unwrap();
    let texts: Vec<&str> = reference.texts.iter().map(String::as_str).collect();
    let (source, cache) = (library::cache().join("assets/minilm"), library::cache().join("language"));
    let encoder = Encoder::prepare(&source, &cache, Encoder::EXACT).unwrap();
    let facts = encoder.facts();
    assert_eq!((facts.dimension, facts.max_tokens, facts.normalize, facts.family), (384, 256, true, Family::Bert));
    assert_eq!(Encoder::inspect(&source).unwrap(), *facts);
    let found = embed(&start(&encoder, Limits::default()), &texts);
    let (largest, _) = compare(&found.vectors, &reference.vectors);
    assert!(largest < 1e-5, "{largest}");
    assert_eq!(found.truncated, 1);
}

#[test]
fn the_installed_encoder_of_many_languages_has_the_vectors_of_its_reference() {
    let reference: Reference = serde_json::from_str(include_str!("../../tests/fixtures/encoder/e5.json")).unwrap();
    let texts: Vec<&str> = reference.texts.iter().map(String::as_str).collect();
    let (source, cache) = (library::cache().join("assets/e5"), library::cache().join("language"));
    assert!(<Encoder as Shelved>::accepts(&source));
    let encoder = Encoder::prepare(&source, &cache, Encoder::EXACT).unwrap();
    let facts = encoder.facts();
    assert_eq!((facts.name.as_str(), facts.prompt.as_str()), ("intfloat/multilingual-e5-small", "query: "));
    assert_eq!((facts.layers, facts.vocabulary, facts.max_tokens, facts.normalize), (12, 250_037, 512, true));
    let found = embed(&start(&encoder, Limits::default()), &texts);
    let (largest, _) = compare(&found.vectors, &reference.vectors);
    assert!(largest < 1e-5, "{largest}");
    assert_eq!(found.truncated, 1);
}

#[test]
fn equal_texts_are_computed_once_and_vectors_are_remembered() {
    let (_folder, encoder) = prepared(&fixture("bert"), Encoder::EXACT);
    let engine = start(&encoder, Limits::default());
    let first = embed(&engine, &["shop", "socks", "shop"]);
    assert_eq!(engine.computed(), 2);
    assert_eq!(first.vectors[0], first.vectors[2]);
    let again = embed(&engine, &["socks", "shoe"]);
    assert_eq!((engine.computed(), again.vectors[0].clone()), (3, first.vectors[1].clone()));
    let long = "shoe ".repeat(100);
    assert_eq!([embed(&engine, &[&long]).truncated, embed(&engine, &[&long, &long]).truncated], [1, 2], "also of one that is remembered");
    assert_eq!(embed(&engine, &[]).vectors.len(), 0);
}

#[test]
fn a_text_that_several_ask_for_at_once_is_computed_once() {
    let (_folder, encoder) = prepared(&fixture("bert"), Encoder::EXACT);
    let engine = start(&encoder, Limits::default());
    let texts: Vec<String> = (0..50).map(|number| format!("shoe {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let all: Vec<Embedded> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| embed(&engine, &texts))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(engine.computed(), 50);
    assert!(all.iter().all(|embedded| embedded.vectors == all[0].vectors));
}

#[test]
fn a_megabyte_of_text_is_read_as_its_beginning() {
    let (_folder, encoder) = prepared(&fixture("xlm-roberta"), Encoder::EXACT);
    let engine = start(&encoder, Limits::default());
    let begin = "running shoes for the winter ".repeat(20);
    let texts = [begin.clone() + &"socks ".repeat(170_000), begin, "socks".repeat(200_000)];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let found = embed(&engine, &texts);
    assert_eq!(found.truncated, 3);
    assert_eq!(found.vectors[0], found.vectors[1]);
}

#[test]
fn what_nobody_waits_for_is_not_computed() {
    let (_folder, encoder) = prepared(&fixture("bert"), Encoder::EXACT);
    let engine = start(&encoder, Limits::default());
    assert!(matches!(engine.embed(&["shop"], &AtomicBool::new(true)), Err(Error::Canceled)));
    assert_eq!(engine.computed(), 0);
}

#[test]
fn an_idle_encoder_gives_its_memory_back_and_serves_again() {
    let (_folder, encoder) = prepared(&fixture("bert"), Encoder::EXACT);
    let engine = start(&encoder, Limits { idle: Duration::from_millis(20), ..Limits::default() });
    let first = embed(&engine, &["shop"]);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while engine.loaded() {
        assert!(std::time::Instant::now() < deadline, "it stays in memory");
        std::thread::yield_now();
    }
    assert_eq!(embed(&engine, &["shop"]).vectors, first.vectors);
    assert_eq!(engine.computed(), 2, "vectors are given back too");
}

#[test]
fn an_encoder_is_found_by_its_bytes_and_its_form() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::<Encoder>::new(folder.path().join("encoders"));
    assert!(NAMES.iter().all(|name| Shelf::<Encoder>::accepts(&fixture(name))));
    assert!(!Encoder::accepts(&crate::language::testing::fixture("llama")));
    let name = crate::registry::ModelName::parse("tiny").unwrap();
    let first = shelf.import(&name, &fixture("bert"), Encoder::EXACT).unwrap();
    assert_eq!(shelf.get(&name).unwrap().unwrap().folder(), first.folder());
    let second = shelf.import(&name, &fixture("bert"), EIGHT).unwrap();
    assert_ne!(second.folder(), first.folder());
    assert_eq!(second.source_sha256(), first.source_sha256());
    assert_eq!(shelf.get(&name).unwrap().unwrap().form(), EIGHT);
    let bytes = |encoder: &Encoder| fs::metadata(encoder.folder().join(graph::WEIGHTS)).unwrap().len();
    assert!(bytes(&second) < bytes(&first));
}

#[test]
fn what_cannot_be_read_is_refused_by_its_field() {
    let change = |file: &str, from: &str, to: &str| {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors", "modules.json", "tokenizer.json", "1_Pooling/config.json"] {
            fs::create_dir_all(folder.path().join("1_Pooling")).unwrap();
            fs::copy(fixture("bert").join(name), folder.path().join(name)).unwrap();
        }
        let whole = fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(whole.contains(from), "{file}: {from}");
        fs::write(folder.path().join(file), whole.replace(from, to)).unwrap();
        Encoder::prepare(folder.path(), &folder.path().join("cache"), Encoder::EXACT).unwrap_err().to_string()
    };
    for (file, from, to, reason) in [
        ("config.json", "\"bert\"", "\"mpnet\"", "model_type is \"mpnet\""),
        ("config.json", "\"gelu\"", "\"silu\"", "hidden_act is \"silu\""),
        ("config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "5 heads"),
        ("config.json", "\"vocab_size\": 220", "\"vocab_size\": 230", "its embeddings are [220, 48]"),
        ("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "it has no tensor encoder.layer.2."),
        ("1_Pooling/config.json", "\"pooling_mode_max_tokens\": false", "\"pooling_mode_max_tokens\": true", "mean_tokens and max_tokens"),
        ("modules.json", "models.Normalize", "models.Dense", "Dense"),
        ("modules.json", "1_Pooling", "../bert/1_Pooling", "no folder of it"),
        ("tokenizer.json", "\"version\"", "version", "is damaged"),
    ] {
        let message = change(file, from, to);
        assert!(message.contains(reason), "{file}, {to}: {message}");
    }
    let half = Form { precision: Precision::F16, block: 128 };
    let refused = Encoder::prepare(&fixture("bert"), &fixture("cache"), half).unwrap_err();
    assert!(refused.to_string().contains("f32 or int8, not f16"), "{refused}");
}

/// The slope along a direction by differences agrees with the gradient by the graph, for weights of every kind.
#[test]
fn the_graph_can_be_differentiated() {
    let config = config::Config {
        family: Family::Bert,
        layers: 1,
        hidden: 8,
        heads: 2,
        inner: 12,
        vocabulary: 11,
        positions: 9,
        first_position: 0,
        types: 2,
        epsilon: 1e-6,
        activation: config::Activation::Gelu,
    };
    let graph::Net { mut graph, slots, pooled, .. } = graph::build(&config).unwrap();
    let of: Vec<Tensor> = slots.iter().map(|slot| slot.tensor).collect();
    let square = graph.mul(pooled, pooled).unwrap();
    let loss = graph.reduce_sum(square, &[0, 1], false).unwrap();
    let gradients = crate::autodiff::gradients(&mut graph, loss, &of).unwrap();
    graph.output("loss", loss).unwrap();
    for (slot, gradient) in slots.iter().zip(gradients) {
        graph.output(&format!("d.{}", slot.name), gradient).unwrap();
    }

    let wave =
        |seed: usize, count: usize| (0..count).map(|at| (((at * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5) * 0.8).collect::<Vec<f32>>();
    let weights: Vec<Vec<f32>> = slots.iter().enumerate().map(|(seed, slot)| wave(seed, slot.shape.iter().product())).collect();
    let feeds = |weights: &[Vec<f32>]| {
        let mut feeds = vec![
            ("ids", Feed::Indices(vec![2, 4], vec![1, 5, 2, 7, 3, 10, 0, 0])),
            ("positions", Feed::Indices(vec![4], vec![0, 1, 2, 3])),
            ("mask", Feed::Floats(vec![2, 4], vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1e9, -1e9])),
            ("pool", Feed::Floats(vec![2, 4], vec![0.25, 0.25, 0.25, 0.25, 0.5, 0.5, 0.0, 0.0])),
        ];
        feeds
            .extend(slots.iter().zip(weights).map(|(slot, values)| (slot.name.as_str(), Feed::Floats(slot.shape.clone(), values.clone()))));
        feeds
    };
    let runtime = runtime();
    let outputs = run(&runtime, &graph, &feeds(&weights));
    for (index, slot) in slots.iter().enumerate() {
        let direction = wave(index + 50, weights[index].len());
        let moved = |step: f32| {
            let mut weights = weights.clone();
            weights[index].iter_mut().zip(&direction).for_each(|(weight, way)| *weight += step * way);
            f64::from(run(&runtime, &graph, &feeds(&weights))[0][0])
        };
        let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        let along: f64 = outputs[index + 1].iter().zip(&direction).map(|(gradient, way)| f64::from(gradient * way)).sum();
        assert!((slope - along).abs() <= 3e-3 * (0.1 + along.abs()), "{}: {slope} {along}", slot.name);
    }
}
