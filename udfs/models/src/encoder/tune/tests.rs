mod explaining;
mod gradients;
mod methods;
mod tasks;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::config::Config;
use super::super::graph::WORDS;
use super::super::prepare::Encoder;
use super::net::{self, port};
use super::*;
use crate::click::Progress;
use crate::examples::{Block, Examples};
use crate::language::{Form, Precision};
use crate::testing::runtime;
use crate::text::{Task, Text};

/// The tiny encoder of the tests.
pub(super) fn encoder(name: &str) -> (tempfile::TempDir, Encoder) {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder").join(name);
    let encoder = Encoder::prepare(&source, folder.path(), Encoder::EXACT).unwrap();
    (folder, encoder)
}

const METHODS: [Method; 5] = [Method::Full, Method::Lora, Method::Adalora, Method::Adapter, Method::Prefix];

const CLASSES: [&str; 3] = ["delivery", "payment", "returns"];

/// Texts with the number of their class.
fn texts(rows: usize) -> Vec<(String, usize)> {
    let words = [["parcel", "courier"], ["card", "money"], ["shoe", "label"]];
    let text = |row: usize| (format!("the {} of a shop {}", words[row % 3][row / 3 % 2], "now ".repeat(row % 5)), row % 3);
    (0..rows).map(text).collect()
}

fn examples(base: &Base, texts: &[(String, usize)], classes: usize) -> Examples {
    let mut labels = vec![0.0; texts.len() * classes];
    texts.iter().enumerate().for_each(|(row, (_, class))| labels[row * classes + class] = 1.0);
    let (batch, _) = base.read(texts.iter().map(|(text, _)| text.as_str())).unwrap();
    Examples::new(columns("text", "text", Task::Class), &Block { batch, labels, split: vec![] }, 0)
}

fn text() -> Text {
    Text {
        task: Task::Class,
        classes: CLASSES.map(str::to_owned).to_vec(),
        encoder: Some("tiny".to_owned()),
        truncated: 0,
        evaluation: None,
        tuned: None,
    }
}

fn options(method: Method) -> TrainOptions {
    // What little a method trains of the tiny encoder has to move far.
    let (epochs, learning_rate) = match method {
        Method::Full | Method::Lora => (3, 2e-3),
        Method::Adalora | Method::Adapter => (8, 1e-2),
        Method::Prefix => (16, 3e-2),
    };
    TrainOptions { epochs, learning_rate, ..Tune::options(method) }
}

fn trained(base: &Base, rows: usize, options: &TrainOptions) -> Result<Trained> {
    let examples = examples(base, &texts(rows), 3);
    train(&runtime(), base, &examples, options, text(), &mut |_| ControlFlow::Continue(()), &AtomicBool::new(false))
}

fn plan<'p>(config: &'p Config, tune: &'p Tune, task: Task, outputs: usize) -> net::Plan<'p> {
    net::Plan { config, tune, task, outputs }
}

fn wave(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| (((at * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5) * 0.8).collect()
}

/// Before its first step an encoder with a head reads texts as the engine does.
#[test]
fn the_forward_pass_is_that_of_the_engine() {
    for name in ["bert", "roberta", "xlm-roberta"] {
        let (_folder, encoder) = encoder(name);
        let config = encoder.config().clone();
        let tune = Tune::new(Method::Full);
        let base = Base::new(encoder.clone(), tune.clone()).unwrap();
        let asked = ["running shoes for the winter", "a red shirt", "socks"];
        let engine = super::super::Engine::start(&runtime(), &encoder, super::super::Limits::default()).unwrap();
        let vectors = engine.embed(&asked, &AtomicBool::new(false)).unwrap().vectors;

        let (batch, _) = base.read(asked).unwrap();
        let weights = encoder.weights().unwrap();
        let words = weights.iter().find(|weight| weight.name == WORDS).unwrap();
        let mut padded = padded::Padded::default();
        let bag = &batch.bags[0];
        let texts: Vec<&[u64]> = (0..3).map(|row| &bag.ids[bag.row(row)]).collect();
        padded.fill(&texts, &words.values, &base.facts, config.hidden);
        let graph = plan(&config, &tune, Task::Class, config.hidden).evaluation().unwrap();
        // A head that leaves the vector as it is.
        let unit: Vec<f32> = (0..config.hidden * config.hidden).map(|at| f32::from(u8::from(at % (config.hidden + 1) == 0))).collect();
        let head = [
            crate::net::Parameter { name: port::HEAD[0].to_owned(), shape: vec![config.hidden, config.hidden], values: unit },
            crate::net::Parameter { name: port::HEAD[1].to_owned(), shape: vec![config.hidden], values: vec![0.0; config.hidden] },
        ];
        let mut session = runtime().session(&graph.model(), 1).unwrap();
        let mut inputs = padded.inputs(config.hidden).unwrap();
        for weight in weights.iter().filter(|weight| weight.name != WORDS).chain(&head) {
            let value = ort::value::TensorRef::from_array_view((weight.shape.clone(), weight.values.as_slice())).unwrap();
            inputs.push((weight.name.as_str(), value.into()));
        }
        let outputs = session.run(inputs).unwrap();
        let (_, found) = outputs[0].try_extract_tensor::<f32>().unwrap();
        for (found, expected) in found.chunks_exact(config.hidden).zip(&vectors) {
            let length = if base.facts.normalize { found.iter().map(|value| value * value).sum::<f32>().sqrt() } else { 1.0 };
            for (found, expected) in found.iter().zip(expected.iter()) {
                assert!((found / length - expected).abs() < 2e-6, "{name}: {} {expected}", found / length);
            }
        }
    }
}

#[test]
fn the_same_rows_and_seed_give_the_same_model() {
    let (_folder, encoder) = encoder("bert");
    for method in METHODS {
        let tune = Tune::new(method);
        let base = Base::new(encoder.clone(), tune.clone()).unwrap();
        let train = |seed| trained(&base, 90, &TrainOptions { epochs: 1, seed, ..options(method) }).unwrap().weights;
        let first = train(1);
        assert_eq!(first, train(1));
        assert_ne!(first, train(2));
    }
}

#[test]
fn a_training_ends_when_it_is_stopped_and_keeps_its_best_epoch() {
    let (_folder, encoder) = encoder("bert");
    let tune = Tune::new(Method::Full);
    let base = Base::new(encoder, tune.clone()).unwrap();
    let examples = examples(&base, &texts(120), 3);
    let stop = AtomicBool::new(false);
    let mut stopping = |_: &Progress| {
        stop.store(true, Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    let stopped = train(&runtime(), &base, &examples, &options(Method::Full), text(), &mut stopping, &stop);
    assert!(matches!(stopped, Err(Error::Canceled)));

    // A rate at which it soon gets worse.
    let wild = TrainOptions { epochs: 12, learning_rate: 0.3, patience: 2, ..options(Method::Full) };
    let trained = trained(&base, 120, &wild).unwrap();
    let losses: Vec<f64> = trained.epochs().iter().filter_map(|epoch| epoch.validation_loss).collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(trained.kept().validation_loss, Some(best));
    assert!((trained.text().loss().unwrap() - best).abs() < 1e-12);
    assert!(losses.len() < 12, "{losses:?}");
}

#[test]
fn long_texts_are_cut_and_counted_and_odd_options_refused() {
    let (_folder, encoder) = encoder("bert");
    let tune = Tune { max_length: 8, ..Tune::new(Method::Full) };
    let base = Base::new(encoder, tune.clone()).unwrap();
    let (batch, truncated) = base.read(["a shop", &"shop ".repeat(50), ""]).unwrap();
    assert_eq!((batch.rows, truncated), (3, 1));
    assert!(batch.bags[0].row(1).len() == 8 && batch.bags[0].row(2).len() == 2);

    let option = |options: TrainOptions| match trained(&base, 30, &options).unwrap_err() {
        Error::InvalidOption { option, .. } => option,
        other => panic!("{other}"),
    };
    let usual = || options(Method::Full);
    assert_eq!(option(TrainOptions { ensembles: 3, ..usual() }), "ensembles");
    assert_eq!(option(TrainOptions { negative_sampling: 0.5, ..usual() }), "negative_sampling");
    let bad = |tune: Tune| tune.check().unwrap_err().to_string();
    assert!(bad(Tune { rank: 0, ..tune.clone() }).contains("\"rank\""));
    assert!(bad(Tune { alpha: f32::NAN, ..tune.clone() }).contains("\"alpha\""));
    for targets in [vec![], vec![Target::Query, Target::Query]] {
        assert!(bad(Tune { targets, ..tune.clone() }).contains("\"targets\""));
    }

    let rounded = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder/bert");
    let rounded = Encoder::prepare(&source, rounded.path(), Form { precision: Precision::Int8, block: 32 }).unwrap();
    let refused = Base::new(rounded, tune).unwrap_err();
    assert!(refused.to_string().contains("weights of 8 bits"), "{refused}");
}

#[test]
fn texts_that_cannot_be_learned_from_are_refused_with_a_count() {
    let (_folder, encoder) = encoder("bert");
    let tune = Tune::new(Method::Full);
    let base = Base::new(encoder, tune.clone()).unwrap();
    let refusal = |texts: &[(String, usize)], classes: usize| {
        let text = Text { task: Task::Class, classes: CLASSES[..classes].iter().map(|class| (*class).to_owned()).collect(), ..text() };
        let examples = examples(&base, texts, classes);
        let go_on = &mut |_: &Progress| ControlFlow::Continue(());
        train(&runtime(), &base, &examples, &options(Method::Full), text, go_on, &AtomicBool::new(false)).unwrap_err().to_string()
    };
    let one: Vec<(String, usize)> = texts(30).into_iter().map(|(text, _)| (text, 0)).collect();
    assert_eq!(refusal(&one, 1), "all 30 rows have the same label");
    let mut few = one;
    few.push(("late".to_owned(), 1));
    assert_eq!(refusal(&few, 2), "class \"payment\" has 1 row");
    assert_eq!(refusal(&[], 2), "the training query returned no rows");
}
