use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::graph::{self, WORDS};
use super::net::{self, port};
use super::*;
use crate::click::Progress;
use crate::examples::{Block, Examples};
use crate::language::{Form, Precision};
use crate::model::Model;
use crate::registry::{ModelName, Registry, Source};
use crate::testing::{Feed, run, runtime};
use crate::text::Text;

/// The tiny encoder of the tests.
fn encoder(name: &str) -> (tempfile::TempDir, Encoder) {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder").join(name);
    let encoder = Encoder::prepare(&source, folder.path(), Encoder::EXACT).unwrap();
    (folder, encoder)
}

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
    Examples::new(columns("text"), &Block { batch, labels, split: vec![] }, 0)
}

fn text() -> Text {
    Text { classes: CLASSES.map(str::to_owned).to_vec(), encoder: Some("tiny".to_owned()), truncated: 0, evaluation: None, tuned: None }
}

fn options(method: Method) -> TrainOptions {
    TrainOptions { epochs: 3, learning_rate: 2e-3, ..Tune::options(method) }
}

fn trained(base: &Base, rows: usize, options: &TrainOptions) -> Result<Trained> {
    let examples = examples(base, &texts(rows), 3);
    train(&runtime(), base, &examples, options, text(), &mut |_| ControlFlow::Continue(()), &AtomicBool::new(false))
}

fn wave(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| (((at * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5) * 0.8).collect()
}

/// The slope of a step's loss along a direction by differences agrees with the gradient by the graph, for every weight that is trained and for the
/// words; no other weight has a gradient.
#[test]
fn the_gradients_of_a_step_are_its_slopes() {
    let (_folder, encoder) = encoder("bert");
    let config = encoder.config();
    let runtime = runtime();
    for (method, dropout) in [(Method::Full, false), (Method::Full, true), (Method::Lora, false), (Method::Lora, true)] {
        let targets = vec![Target::Query, Target::Key, Target::Value, Target::Output, Target::Up, Target::Down];
        let tune = Tune { rank: 2, alpha: 1.0, targets, ..Tune::new(method) };
        let net::Training { graph, weights, masks } = net::training(config, &tune, 3, dropout).unwrap();
        let (b, s, hidden) = (2, 4, config.hidden);
        let mut feeds: Vec<(String, Feed)> = vec![
            ("words".to_owned(), Feed::Floats(vec![b, s, hidden], wave(3, b * s * hidden))),
            ("positions".to_owned(), Feed::Indices(vec![s], (0..s as i64).collect())),
            ("mask".to_owned(), Feed::Floats(vec![b, s], vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1e9, -1e9])),
            ("pool".to_owned(), Feed::Floats(vec![b, s], vec![0.25, 0.25, 0.25, 0.25, 0.5, 0.5, 0.0, 0.0])),
            (port::LABELS.to_owned(), Feed::Floats(vec![b, 3], vec![1.0, 0.0, 0.0, 0.1, 0.8, 0.1])),
            (port::ROW_WEIGHTS.to_owned(), Feed::Floats(vec![b, 1], vec![0.5, 2.0])),
        ];
        assert_eq!(masks.is_empty(), method == Method::Full || !dropout);
        if dropout {
            let mask = |count: usize| (0..count).map(|at| if at % 5 == 0 { 0.0 } else { 1.25 }).collect::<Vec<f32>>();
            feeds.push((port::POOLED.to_owned(), Feed::Floats(vec![b, hidden], mask(b * hidden))));
            let widths = masks.iter().enumerate();
            feeds.extend(widths.map(|(number, width)| (graph::mask(number), Feed::Floats(vec![b, s, *width], mask(b * s * width)))));
        }
        for (seed, weight) in weights.iter().enumerate() {
            let mut values = wave(seed, weight.shape.iter().product());
            if weight.name.ends_with("LayerNorm.weight") {
                values.iter_mut().for_each(|value| *value += 1.0);
            }
            feeds.push((weight.name.clone(), Feed::Floats(weight.shape.clone(), values)));
        }
        let given = |feeds: &[(String, Feed)]| {
            let feeds: Vec<(&str, Feed)> = feeds.iter().map(|(name, feed)| (name.as_str(), feed.clone())).collect();
            run(&runtime, &graph, &feeds)
        };
        let outputs = given(&feeds);
        let mut of: Vec<&str> = weights.iter().filter(|weight| weight.trained).map(|weight| weight.name.as_str()).collect();
        of.extend(net::trains_words(&tune).then_some("words"));
        assert_eq!(outputs.len(), of.len() + 1, "a gradient for each, and for no other");
        for (name, gradient) in of.iter().zip(&outputs[1..]) {
            let place = feeds.iter().position(|(own, _)| own == name).unwrap();
            let way = wave(place + 50, gradient.len());
            let moved = |step: f32| {
                let mut feeds = feeds.clone();
                let Feed::Floats(_, values) = &mut feeds[place].1 else { panic!("{name}") };
                values.iter_mut().zip(&way).for_each(|(value, way)| *value += step * way);
                f64::from(given(&feeds)[0][0])
            };
            let slope = (moved(5e-3) - moved(-5e-3)) / 1e-2;
            let along: f64 = gradient.iter().zip(&way).map(|(gradient, way)| f64::from(gradient * way)).sum();
            assert!((slope - along).abs() <= 5e-3 * (0.2 + along.abs()), "{method}, {name}: {slope} {along}");
        }
    }
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
        let block = Block { batch, labels: vec![], split: vec![] };
        let weights = encoder.weights().unwrap();
        let words = weights.iter().find(|weight| weight.name == WORDS).unwrap();
        let mut padded = padded::Padded::default();
        padded.fill(&block, &[0, 1, 2], &words.values, &base.facts, config.hidden);
        let graph = net::evaluation(&config, &tune, config.hidden).unwrap();
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

/// What `full` trains is all, what `lora` trains are the changes and the head; a loaded version gives what was trained.
#[test]
fn each_method_trains_what_it_says_and_is_read_again() {
    let (_folder, encoder) = encoder("bert");
    let before: BTreeMap<String, Vec<f32>> = encoder.weights().unwrap().into_iter().map(|weight| (weight.name, weight.values)).collect();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let name = ModelName::parse("topic").unwrap();
    let asked = ["the parcel of a shop", "the money of a shop now now", "the label of a shop", ""];
    for (version, method) in (1..).zip([Method::Full, Method::Lora]) {
        let tune = Tune { rank: 4, ..Tune::new(method) };
        let base = Base::new(encoder.clone(), tune.clone()).unwrap();
        let trained = trained(&base, 240, &options(method)).unwrap();
        let own = trained.text().tuned.clone().unwrap();
        let all: usize = before.values().map(Vec::len).sum::<usize>() + 3 * 48 + 3;
        let evaluation = trained.text().evaluation.clone().unwrap();
        assert!(evaluation.accuracy > 0.9 && evaluation.rows == 24, "{method}: {evaluation:?}");
        match method {
            Method::Full => {
                assert_eq!((own.trainable, own.parameters), (all as u64, all as u64));
                assert_eq!(trained.weights.len(), before.len() + 2);
                // Token types and positions that no text has may stay; every other tensor moves.
                let moved = |weight: &&crate::net::Parameter| before.get(&weight.name).is_none_or(|before| *before != weight.values);
                let stayed: Vec<&str> = trained.weights.iter().filter(|weight| !moved(weight)).map(|weight| weight.name.as_str()).collect();
                assert!(stayed.is_empty(), "{stayed:?}");
            }
            Method::Lora => {
                // Two layers, two matrices of 48 x 48 each, by 4; the head.
                assert_eq!(own.trainable, 2 * 2 * 2 * 4 * 48 + 3 * 48 + 3);
                assert_eq!(own.parameters, all as u64 + 2 * 2 * 2 * 4 * 48);
                let kept = |name: &str| name.ends_with("lora_A") || name.ends_with("lora_B") || port::HEAD.contains(&name);
                assert!(trained.weights.iter().all(|weight| kept(&weight.name)));
                assert!(trained.weights.iter().all(|weight| weight.values.iter().any(|value| *value != 0.0)));
            }
        }
        let source = Source { label: "topic".to_owned(), query: "SELECT 1".to_owned(), rows: 240 };
        assert_eq!(trained.save(&registry, &name, source).unwrap(), version);
        assert_eq!(registry.manifest(&name, version).unwrap().model_type(), format!("text, tiny, {method}"));
        let bases = |_: &str| Ok(encoder.clone());
        let Model::Text(model) = Model::load_with(&runtime(), &registry, &name, version, &bases).unwrap() else { panic!("no text model") };
        let shares = model.read(&asked, &AtomicBool::new(false)).unwrap().values;
        let likeliest = |row: usize| (0..3).max_by(|a, b| shares[row * 3 + a].total_cmp(&shares[row * 3 + b])).unwrap();
        assert_eq!([0, 1, 2].map(likeliest), [0, 1, 2], "{method}: {shares:?}");
        assert!(shares.chunks(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5), "{shares:?}");
        assert!(model.shares(&Batch::default()).is_err());
    }
    // Changes belong to the encoder that they were trained from.
    let (_other, other) = self::encoder("roberta");
    let refused = Model::load_with(&runtime(), &registry, &name, 2, &|_| Ok(other.clone())).unwrap_err();
    assert!(refused.to_string().contains("changes of another encoder \"tiny\""), "{refused}");
    // A model with all weights needs no other one.
    assert!(Model::load(&runtime(), &registry, &name, 1).is_ok());
}

#[test]
fn the_same_rows_and_seed_give_the_same_model() {
    let (_folder, encoder) = encoder("bert");
    for method in [Method::Full, Method::Lora] {
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
    assert!((trained.text().evaluation.as_ref().unwrap().logloss - best).abs() < 1e-12);
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
        let text = Text { classes: CLASSES[..classes].iter().map(|class| (*class).to_owned()).collect(), ..text() };
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

#[test]
fn attributions_add_up_to_the_difference_of_the_log_probabilities() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder/bert");
    let encoder = || Encoder::prepare(&source, folder.path(), Encoder::EXACT).unwrap();
    let registry = Registry::open(registry.path()).unwrap();
    let name = ModelName::parse("topic").unwrap();
    let bases = |_: &str| Ok(encoder());
    for (version, method) in [(1, Method::Full), (2, Method::Lora)] {
        let base = Base::new(encoder(), Tune::new(method)).unwrap();
        let trained = trained(&base, 240, &TrainOptions { epochs: 8, learning_rate: 5e-3, ..options(method) }).unwrap();
        let source = Source { label: "topic".to_owned(), query: "SELECT 1".to_owned(), rows: 240 };
        trained.save(&registry, &name, source).unwrap();
        let explainer = Explainer::load(&runtime(), &registry, &name, version, &bases).unwrap();
        let go_on = AtomicBool::new(false);
        let text = "the parcel of a shop now";
        let coarse = explainer.explain(text, None, 2, &go_on).unwrap();
        let fine = explainer.explain(text, None, 256, &go_on).unwrap();
        let error = |found: &Explanation| (found.tokens.iter().map(|(_, value)| value).sum::<f64>() - found.difference).abs();
        assert!(fine.difference.abs() > 0.1 && error(&fine) < 1e-2 * fine.difference.abs(), "{fine:?}");
        assert!(error(&fine) <= error(&coarse), "{} {}", error(&fine), error(&coarse));
        assert_eq!(
            (fine.class, fine.tokens.iter().map(|(token, _)| token.as_str()).collect::<String>().as_str()),
            (0, "theparcelofashopnow")
        );
        let Model::Text(model) = Model::load_with(&runtime(), &registry, &name, version, &bases).unwrap() else { panic!("a text model") };
        let shares = model.read(&[text], &go_on).unwrap().values;
        assert!((fine.probability - f64::from(shares[0])).abs() < 1e-4, "{fine:?} {shares:?}");
        // Against another class the same words speak the other way.
        let against = explainer.explain(text, Some(1), 256, &go_on).unwrap();
        assert!(against.difference < 0.0 && error(&against) < 2e-2 * against.difference.abs(), "{against:?}");
        let stopped = explainer.explain(text, None, 256, &AtomicBool::new(true));
        assert!(matches!(stopped, Err(Error::Canceled)));
    }
}
