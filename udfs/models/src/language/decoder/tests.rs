use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::super::testing::{best, fixture, logits, prepare_tiny, prepared, run};
use super::*;
use crate::durable::{Lock, Sharing};

const F32: Form = Form { precision: Precision::F32, block: 128 };
/// The tiny checkpoints, and the names of their logits.
const TINY: [(&str, &str); 4] =
    [("llama", "llama folder"), ("llama.gguf", "llama gguf"), ("qwen2", "qwen2 folder"), ("qwen2.gguf", "qwen2 gguf")];

/// Logits of the tiny checkpoints by transformers.
fn expected() -> (Vec<u32>, BTreeMap<String, Vec<Vec<f32>>>) {
    let mut json: serde_json::Value = serde_json::from_str(include_str!("../../../tests/fixtures/language/logits.json")).unwrap();
    let ids = serde_json::from_value(json["ids"].take()).unwrap();
    json.as_object_mut().unwrap().remove("ids");
    (ids, serde_json::from_value(json).unwrap())
}

/// The largest difference, and the root mean square of all against that of the expected values.
fn difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> (f32, f32) {
    assert_eq!(found.len(), expected.len());
    let pairs = || found.iter().flatten().zip(expected.iter().flatten());
    let largest = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let square = pairs().map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    (largest, (square / pairs().map(|(_, b)| b * b).sum::<f32>()).sqrt())
}

#[test]
fn tiny_models_of_both_families_have_the_logits_of_transformers() {
    let (ids, expected) = expected();
    for (source, name) in TINY {
        let (_folder, decoder) = prepare_tiny(source, F32);
        let (largest, _) = difference(&logits(&decoder, &decoder.graph(), &ids), &expected[name]);
        assert!(largest < 1e-4, "{name}: {largest}");
    }
}

#[test]
fn tiny_models_with_rounded_weights_are_near_in_every_form() {
    let (ids, expected) = expected();
    for (source, name) in TINY {
        for (precision, block, bound) in
            [(Precision::Int8, 32, 0.1), (Precision::Int8, 64, 0.1), (Precision::Int8, 128, 0.1), (Precision::Int4, 32, 0.5)]
        {
            let (_folder, decoder) = prepare_tiny(source, Form { precision, block });
            let (_, relative) = difference(&logits(&decoder, &decoder.graph(), &ids), &expected[name]);
            assert!(relative < bound, "{name}, {precision:?}, {block}: {relative}");
        }
    }
}

#[test]
fn tokens_one_at_a_time_have_the_logits_of_all_at_once() {
    let (ids, expected) = expected();
    let runtime = crate::testing::runtime();
    for (source, name) in TINY {
        let (_folder, decoder) = prepare_tiny(source, F32);
        let mut session = runtime.session_of_file(&decoder.graph(), 1).unwrap();
        let (mut all, mut cache) = run(&decoder, &mut session, &ids[..4], 0, None);
        for past in 4..ids.len() {
            let (logits, next) = run(&decoder, &mut session, &ids[past..=past], past, Some(cache));
            all.extend(logits);
            cache = next;
        }
        let (largest, _) = difference(&all, &expected[name]);
        assert!(largest < 1e-4, "{name}: {largest}");
    }
}

/// Logits of the installed model by a forward pass in numpy.
#[derive(Deserialize)]
struct Reference {
    ids: Vec<u32>,
    best: Vec<usize>,
    margin: Vec<f32>,
    sample: Vec<usize>,
    first: Vec<f32>,
    last: Vec<f32>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../../tests/fixtures/language/smollm2.json")).unwrap()
}

#[test]
fn the_installed_model_in_float_has_the_logits_of_an_independent_forward_pass() {
    let reference = reference();
    let decoder = prepared(F32);
    let found = logits(&decoder, &decoder.graph(), &reference.ids);
    let picked = |row: &[f32]| reference.sample.iter().map(|index| row[*index]).collect::<Vec<f32>>();
    let found_ends = [picked(&found[0]), picked(&found[found.len() - 1])];
    let (largest, _) = difference(&found_ends, &[reference.first, reference.last]);
    assert!(largest < 1e-3, "{largest}");
    for ((row, expected), margin) in found.iter().zip(&reference.best).zip(&reference.margin) {
        assert!(*margin < 1e-3 || best(row) == *expected);
    }
}

#[test]
fn the_installed_model_chooses_the_same_tokens_with_rounded_weights() {
    let reference = reference();
    for form in [Form::default(), Form { block: 32, ..Form::default() }, Form { precision: Precision::Int4, block: 32 }] {
        let decoder = prepared(form);
        let found = logits(&decoder, &decoder.graph(), &reference.ids);
        // Where the first choice is clear.
        let clear = || (0..found.len()).filter(|index| reference.margin[*index] > 0.5);
        let same = clear().filter(|index| best(&found[*index]) == reference.best[*index]).count();
        assert!(same * 100 >= clear().count() * 98, "{form:?}: {same} of {}", clear().count());
    }
}

#[test]
fn the_installed_model_answers_a_question() {
    let decoder = prepared(Form::default());
    let facts = decoder.facts();
    assert_eq!((facts.layers, facts.vocab, facts.licence.as_deref()), (30, 49_152, Some("apache-2.0")));
    assert_eq!((facts.parameters, &facts.eos[..]), (134_515_008, &[2, 0][..]));
    let tokens = decoder.tokens().unwrap();
    let chat = decoder.chat(&tokens).unwrap().unwrap();
    let prompt = chat.render(&[super::super::Message::new("user", "What is the capital of France?")], true).unwrap();
    let ids = [tokens.encode(&prompt).unwrap(), tokens.encode_data("The capital of France is").unwrap()].concat();
    let found = logits(&decoder, &decoder.graph(), &ids);
    assert_eq!(tokens.name(best(&found[ids.len() - 1]) as u32), " Paris");
}

#[test]
fn half_precision_is_near() {
    let (ids, expected) = expected();
    for (source, name) in TINY {
        let (_folder, decoder) = prepare_tiny(source, Form { precision: Precision::F16, block: 128 });
        let (_, relative) = difference(&logits(&decoder, &decoder.graph(), &ids), &expected[name]);
        assert!(relative < 0.01, "{name}: {relative}");
    }
}

#[test]
fn preparing_again_finds_what_is_there_and_another_form_is_another_folder() {
    let cache = tempfile::tempdir().unwrap();
    let prepare = |form| Decoder::prepare(&fixture("qwen2.gguf"), cache.path(), form).unwrap();
    let first = prepare(Form::default());
    let written = |decoder: &Decoder| fs::metadata(decoder.folder().join(FACTS)).unwrap().modified().unwrap();
    let time = written(&first);
    let second = prepare(Form::default());
    assert_eq!((second.folder(), written(&second)), (first.folder(), time));
    assert_ne!(prepare(Form { block: 32, ..Form::default() }).folder(), first.folder());
    let folders = fs::read_dir(cache.path()).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(folders.count(), 2, "nothing temporary stays");
    assert_eq!(first.facts(), &Decoder { ..second }.manifest.facts);
    assert_eq!(first.facts(), &Decoder::inspect(&fixture("qwen2.gguf")).unwrap());
}

#[test]
fn what_an_older_format_left_of_the_same_model_and_form_goes_when_this_one_is_written() {
    let cache = tempfile::tempdir().unwrap();
    let prepare = || Decoder::prepare(&fixture("qwen2.gguf"), cache.path(), Form::default()).unwrap();
    let now = prepare().folder().to_owned();
    let key = now.file_name().unwrap().to_string_lossy().into_owned();
    let stem = key.strip_suffix(&FORMAT.to_string()).unwrap();
    fs::remove_dir_all(&now).unwrap();
    let newer = FORMAT + 1;
    let held = format!("{stem}0");
    let gone = [format!("{stem}1"), format!("{stem}2"), format!(".{stem}2.new")];
    let kept =
        [held.clone(), format!("{stem}{newer}"), format!("{stem}old"), key.replace("int8-128", "int8-64"), key.replace("int8", "other")];
    for name in gone.iter().chain(&kept) {
        fs::create_dir(cache.path().join(name)).unwrap();
        fs::write(cache.path().join(name).join(FACTS), "{}").unwrap();
    }
    // Another process works on this one.
    let lock = Lock::take(cache.path().join(format!(".{held}.lock")), Sharing::Exclusive, Duration::ZERO).unwrap();
    prepare().verify().unwrap();
    drop(lock);
    for (names, exist) in [(&gone[..], false), (&kept[..], true)] {
        assert!(names.iter().all(|name| cache.path().join(name).exists() == exist), "{names:?}");
    }
}

#[test]
fn several_at_once_prepare_one_model() {
    let cache = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let work = || Decoder::prepare(&fixture("llama.gguf"), cache.path(), Form::default()).unwrap();
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        let folders: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap().folder().to_owned()).collect();
        assert!(folders.iter().all(|folder| folder == &folders[0]));
    });
}

#[test]
fn what_a_killed_process_left_is_cleared() {
    let cache = tempfile::tempdir().unwrap();
    let whole = Decoder::prepare(&fixture("qwen2.gguf"), cache.path(), Form::default()).unwrap();
    let key = whole.folder().file_name().unwrap().to_string_lossy().into_owned();
    fs::rename(whole.folder(), cache.path().join(format!(".{key}.new"))).unwrap();
    fs::remove_file(cache.path().join(format!(".{key}.new")).join(FACTS)).unwrap();
    Decoder::prepare(&fixture("qwen2.gguf"), cache.path(), Form::default()).unwrap().verify().unwrap();
    assert!(!cache.path().join(format!(".{key}.new")).exists());
}

#[test]
fn a_damaged_file_is_found_and_prepared_again() {
    let cache = tempfile::tempdir().unwrap();
    let decoder = Decoder::prepare(&fixture("qwen2.gguf"), cache.path(), Form::default()).unwrap();
    for name in [GRAPH, LORA_GRAPH, graph::WEIGHTS, tokenizer::FILE, FACTS] {
        let path = decoder.folder().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(Decoder::open(decoder.folder()), Err(Error::Corrupt { .. })), "{name} is shorter");
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        fs::write(&path, &changed).unwrap();
        let found = Decoder::open(decoder.folder()).and_then(|decoder| decoder.verify());
        assert!(name == FACTS || matches!(found, Err(Error::Corrupt { .. })), "{name} has another byte");
        fs::remove_file(&path).unwrap();
        assert!(Decoder::open(decoder.folder()).is_err(), "{name} is gone");
        let again = Decoder::prepare(&fixture("qwen2.gguf"), cache.path(), Form::default()).unwrap();
        again.verify().unwrap();
    }
}

#[test]
fn a_checkpoint_with_a_missing_or_misshapen_tensor_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(fixture("llama").join(name), folder.path().join(name)).unwrap();
    }
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let cases = [
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "it has no tensor model.layers.2."),
        ("\"intermediate_size\": 96", "\"intermediate_size\": 64", "is 96 x 64, not 64 x 64"),
    ];
    for (from, to, reason) in cases {
        assert!(config.contains(from));
        fs::write(folder.path().join("config.json"), config.replace(from, to)).unwrap();
        let error = Decoder::prepare(folder.path(), &folder.path().join("cache"), Form::default()).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { reason: found, .. } if found.contains(reason)), "{error}");
    }
    let entries = fs::read_dir(folder.path().join("cache")).unwrap().flatten();
    assert_eq!(entries.filter(|entry| entry.path().is_dir()).count(), 0, "nothing unfinished stays");
}

/// A matrix of small numbers that differ.
fn factor(rows: usize, columns: usize, seed: f32) -> Vec<f32> {
    (0..rows * columns).map(|index| ((index as f32 + seed) * 0.618).sin() * 0.2).collect()
}

fn product(a: &[f32], b: &[f32], inner: usize) -> Vec<f32> {
    let columns = b.len() / inner;
    let row = |row: &[f32], column: usize| row.iter().zip(b.iter().skip(column).step_by(columns)).map(|(a, b)| a * b).sum::<f32>();
    a.chunks(inner).flat_map(|a| (0..columns).map(move |column| row(a, column))).collect()
}

#[test]
fn an_adapter_as_input_is_the_same_as_one_merged_into_the_weights() {
    const RANK: usize = 3;
    let (ids, expected) = expected();
    let (_folder, base) = prepare_tiny("llama", F32);
    let parts = [("qkv", 64, 128), ("o", 64, 64), ("gate_up", 64, 192), ("down", 96, 64)];
    let names: [(&str, &[(&str, usize)]); 4] = [
        ("qkv", &[("self_attn.q_proj", 64), ("self_attn.k_proj", 32), ("self_attn.v_proj", 32)]),
        ("o", &[("self_attn.o_proj", 64)]),
        ("gate_up", &[("mlp.gate_proj", 96), ("mlp.up_proj", 96)]),
        ("down", &[("mlp.down_proj", 64)]),
    ];
    let none = adapter(&parts, 0);
    let (largest, _) = difference(&with_adapter(&base, &ids, &none), &expected["llama folder"]);
    assert!(largest < 1e-4, "without an adapter: {largest}");

    let adapter = adapter(&parts, RANK);
    let bytes = fs::read(fixture("llama/model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut merged: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for (name, view) in tensors.iter() {
        let values = view.data().chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        merged.insert(name.to_owned(), (view.shape().to_vec(), values));
    }
    for layer in 0..2 {
        for (part, matrices) in names {
            let find = |which: &str| adapter.iter().find(|(name, ..)| *name == format!("lora.{layer}.{part}.{which}")).unwrap();
            let (a, b) = (find("a"), find("b"));
            let change = product(&a.2, &b.2, RANK);
            let mut column = 0;
            for (name, rows) in matrices {
                let (_, weight) = merged.get_mut(&format!("model.layers.{layer}.{name}.weight")).unwrap();
                let inputs = weight.len() / rows;
                for (index, value) in weight.iter_mut().enumerate() {
                    *value += change[index % inputs * b.1[1] + column + index / inputs];
                }
                column += rows;
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(fixture("llama").join(name), folder.path().join(name)).unwrap();
    }
    let bytes: BTreeMap<&String, Vec<u8>> =
        merged.iter().map(|(name, (_, values))| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let views = merged.iter().map(|(name, (shape, _))| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), &bytes[name]).unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(folder.path().join("model.safetensors"), file).unwrap();
    let other = Decoder::prepare(folder.path(), &folder.path().join("cache"), F32).unwrap();
    let wanted = logits(&other, &other.graph(), &ids);
    let (largest, _) = difference(&with_adapter(&base, &ids, &adapter), &wanted);
    assert!(largest < 1e-4, "with an adapter: {largest}");
    assert!(difference(&wanted, &expected["llama folder"]).0 > 0.1, "the adapter changes something");
}

type Extra = (String, [usize; 2], Vec<f32>);

fn adapter(parts: &[(&str, usize, usize)], rank: usize) -> Vec<Extra> {
    let both = |layer: usize, (name, inputs, outputs): (&str, usize, usize)| {
        let seed = (layer * 1000 + outputs) as f32;
        [
            (format!("lora.{layer}.{name}.a"), [inputs, rank], factor(inputs, rank, seed)),
            (format!("lora.{layer}.{name}.b"), [rank, outputs], factor(rank, outputs, seed + 0.5)),
        ]
    };
    (0..2).flat_map(|layer| parts.iter().flat_map(move |part| both(layer, *part))).collect()
}

fn with_adapter(decoder: &Decoder, ids: &[u32], adapter: &[Extra]) -> Vec<Vec<f32>> {
    let mut session = crate::testing::runtime().session_of_file(&decoder.lora_graph(), 1).unwrap();
    super::super::testing::run_with(decoder, &mut session, ids, 0, None, adapter).0
}
