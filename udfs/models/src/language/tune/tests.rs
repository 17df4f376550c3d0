use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use super::super::testing::{logits, prepare_tiny};
use super::super::{Engine, Form, Limits, Precision, Request, Sampling};
use super::net::{self, port};
use super::pack::{Packed, Sequence};
use super::*;
use crate::click::Progress;
use crate::examples::{Block, Examples};
use crate::registry::{ModelName, Registry, Source};
use crate::testing::{Feed, run, runtime};

const FLOATS: Form = Form { precision: Precision::F32, block: 128 };
const ALL: [Projection; 7] =
    [Projection::Query, Projection::Key, Projection::Value, Projection::Output, Projection::Gate, Projection::Up, Projection::Down];

fn tuned(name: &str, form: Form, tune: Tune) -> (tempfile::TempDir, Base) {
    let (folder, decoder) = prepare_tiny(name, form);
    (folder, Base::new("tiny", decoder, tune).unwrap())
}

fn wave(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| (((at * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5) * 0.8).collect()
}

/// The log-probabilities that the graph of a training gives texts, with the changes all zero.
fn logs(base: &Base, texts: &[Sequence]) -> Vec<f32> {
    let facts = base.decoder.facts();
    let net = net::scoring(facts, &base.frozen, &base.tune).unwrap();
    let mut session = runtime().session(&net.graph.model(), 1).unwrap();
    let mut packed = Packed::default();
    packed.fill(texts, &base.frozen, facts).unwrap();
    let zeros = |weight: &net::Trainable| Parameter {
        name: weight.name.clone(),
        shape: weight.shape.to_vec(),
        values: vec![0.0; weight.shape.iter().product()],
    };
    let zeros: Vec<Parameter> = net.trainable.iter().map(zeros).collect();
    let inputs = trainer::inputs(&packed, facts, &base.frozen, &net.frozen, &zeros).unwrap();
    let outputs = session.run(inputs).unwrap();
    outputs[0].try_extract_tensor::<f32>().unwrap().1.to_vec()
}

/// What the graph of a training says of texts that lie one after another is what the serving graph says of each by itself, in every form of weights.
#[test]
fn packed_texts_have_the_log_probabilities_of_the_decoder() {
    let texts: Vec<Sequence> = [vec![5u32, 9, 30, 2, 7], vec![11, 3, 8], vec![1, 2, 3, 4, 5, 6, 7, 8, 9]]
        .into_iter()
        .enumerate()
        .map(|(at, tokens)| Sequence { tokens, start: 1 + at })
        .collect();
    let rounded = |precision, block| Form { precision, block };
    // With rounded weights the serving graph rounds activations too.
    let forms =
        [(FLOATS, 1e-4), (rounded(Precision::Int8, 32), 0.2), (rounded(Precision::Int8, 128), 0.2), (rounded(Precision::Int4, 32), 0.2)];
    for name in ["llama", "llama.gguf", "qwen2", "qwen2.gguf"] {
        for (form, bound) in forms {
            let (_folder, base) = tuned(name, form, Tune::default());
            let found = logs(&base, &texts);
            let mut expected = Vec::new();
            for text in &texts {
                let logits = logits(&base.decoder, &base.decoder.graph(), &text.tokens);
                for place in text.start..text.tokens.len() {
                    let row: Vec<f64> = logits[place - 1].iter().map(|logit| f64::from(*logit)).collect();
                    let most = row.iter().copied().fold(f64::MIN, f64::max);
                    let total = most + row.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln();
                    expected.push(row[text.tokens[place] as usize] - total);
                }
            }
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < bound, "{name}, {form:?}: {found} {expected}");
            }
        }
    }
}

/// Rounded weights stand for floats near those of the checkpoint, and those that a file has in 4 bits for exactly what they are.
#[test]
fn rounded_weights_are_read_as_what_they_stand_for() {
    for name in ["llama", "llama.gguf", "qwen2", "qwen2.gguf"] {
        let (_folder, exact) = tuned(name, FLOATS, Tune::default());
        for (precision, block, most) in
            [(Precision::Int8, 32, 1.0 / 128.0), (Precision::Int8, 128, 1.0 / 128.0), (Precision::Int4, 32, 1.0 / 8.0)]
        {
            let (_folder, rounded) = tuned(name, Form { precision, block }, Tune::default());
            let pairs = exact.frozen.weights.iter().map(|(name, weight)| (weight, &rounded.frozen.weights[name]));
            let mut in_bytes = 0;
            for (exact, rounded) in pairs.chain([(&exact.frozen.embedding, &rounded.frozen.embedding)]) {
                in_bytes += usize::from(rounded.block().is_some());
                let (exact, rounded) = (exact.floats(), rounded.floats());
                let largest = exact.values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
                let error = exact.values.iter().zip(&rounded.values).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
                assert_eq!(exact.shape, rounded.shape);
                assert!(error <= most * largest, "{name}, {precision:?} {block}, {}: {error} of {largest}", exact.name);
            }
            // Offsets, as one matrix of a layer has them in that file, are not for bytes.
            let least = if name == "qwen2.gguf" && precision == Precision::Int4 { 3 } else { 4 };
            assert!(in_bytes >= least * rounded.decoder.facts().layers, "{name}, {precision:?} {block}: {in_bytes} matrices of 8 bits");
        }
    }
}

/// The slope of a step's loss along a direction by differences agrees with the gradient by the graph, for every matrix that is changed, and nothing else
/// has a gradient.
#[test]
fn the_gradients_of_a_step_are_its_slopes() {
    let runtime = runtime();
    let bytes = Form { precision: Precision::Int8, block: 32 };
    for (name, form, objective, dropout) in [
        ("llama", FLOATS, Objective::Generation, false),
        ("llama", FLOATS, Objective::Preference, false),
        ("llama", bytes, Objective::Generation, false),
        ("qwen2", FLOATS, Objective::Generation, true),
        ("qwen2", bytes, Objective::Preference, false),
    ] {
        let tune = Tune { rank: 2, alpha: 3.0, targets: ALL.to_vec(), beta: 0.7, ..Tune::default() };
        let (_folder, base) = tuned(name, form, tune);
        let facts = base.decoder.facts();
        let net = net::training(facts, &base.frozen, &base.tune, objective, dropout).unwrap();
        let texts = [Sequence { tokens: vec![4, 9, 2, 7, 1], start: 2 }, Sequence { tokens: vec![4, 9, 3, 8], start: 2 }];
        let (s, n) = (9, 5);
        let mut packed = Packed::default();
        packed.fill(&texts, &base.frozen, facts).unwrap();
        let mut feeds: Vec<(String, Feed)> = Vec::new();
        for (name, value) in trainer::inputs(&packed, facts, &base.frozen, &net.frozen, &[]).unwrap() {
            feeds.push((name.into_owned(), Feed::from(&value)));
        }
        match objective {
            Objective::Generation => feeds.push((port::SHARES.to_owned(), Feed::Floats(vec![n, 1], vec![0.3, 0.2, 0.5, 0.1, 0.4]))),
            Objective::Preference => {
                feeds.push((port::PAIRS.to_owned(), Feed::Floats(vec![1, n], vec![1.0, 1.0, 1.0, -1.0, -1.0])));
                feeds.push((port::REFERENCE.to_owned(), Feed::Floats(vec![1, 1], vec![0.4])));
                feeds.push((port::PAIR_SHARES.to_owned(), Feed::Floats(vec![1, 1], vec![0.9])));
            }
        }
        for (number, width) in net.masks.iter().enumerate() {
            let mask = (0..s * width).map(|at| if at % 5 == 0 { 0.0 } else { 1.25 }).collect();
            feeds.push((net::mask(number), Feed::Floats(vec![s, *width], mask)));
        }
        assert_eq!(net.masks.is_empty(), !dropout);
        for (seed, weight) in net.trainable.iter().enumerate() {
            feeds.push((weight.name.clone(), Feed::Floats(weight.shape.to_vec(), wave(seed, weight.shape.iter().product()))));
        }
        let given = |feeds: &[(String, Feed)]| {
            let feeds: Vec<(&str, Feed)> = feeds.iter().map(|(name, feed)| (name.as_str(), feed.clone())).collect();
            run(&runtime, &net.graph, &feeds)
        };
        let outputs = given(&feeds);
        assert_eq!(net.trainable.len(), 2 * ALL.len() * facts.layers);
        assert_eq!(outputs.len(), net.trainable.len() + 1, "a gradient for each, and for no other");
        for (weight, gradient) in net.trainable.iter().zip(&outputs[1..]) {
            let place = feeds.iter().position(|(own, _)| *own == weight.name).unwrap();
            let way = wave(place + 50, gradient.len());
            let moved = |step: f32| {
                let mut feeds = feeds.clone();
                let Feed::Floats(_, values) = &mut feeds[place].1 else { panic!("{}", weight.name) };
                values.iter_mut().zip(&way).for_each(|(value, way)| *value += step * way);
                f64::from(given(&feeds)[0][0])
            };
            let slope = (moved(5e-3) - moved(-5e-3)) / 1e-2;
            let along: f64 = gradient.iter().zip(&way).map(|(gradient, way)| f64::from(gradient * way)).sum();
            assert!((slope - along).abs() <= 5e-3 * (0.2 + along.abs()), "{name}, {objective}, {}: {slope} {along}", weight.name);
        }
    }
}

/// Prompts with the answer that is to be learned, and another one.
fn rows(count: usize) -> Vec<(String, &'static str, &'static str)> {
    let kinds = [("shoes", "red", "blue"), ("coats", "blue", "red")];
    (0..count).map(|row| (format!("{} {}", kinds[row % 2].0, row / 2 % 7), kinds[row % 2].1, kinds[row % 2].2)).collect()
}

fn examples(base: &Base, objective: Objective, rows: &[(String, &str, &str)]) -> Examples {
    let texts = rows.iter().map(|(prompt, good, bad)| {
        let completions = if objective == Objective::Preference { vec![*good, *bad] } else { vec![*good] };
        (None, prompt.as_str(), completions)
    });
    let names: &[&str] = if objective == Objective::Preference { &["prompt", "good", "bad"] } else { &["prompt", "good"] };
    let (batch, _) = base.read(texts).unwrap();
    Examples::new(columns(names), &Block { batch, labels: vec![], split: vec![] }, 0)
}

fn options(objective: Objective) -> TrainOptions {
    TrainOptions { epochs: 6, learning_rate: 2e-2, ..Tune::options(objective) }
}

fn trained(base: &Base, objective: Objective, options: &TrainOptions) -> Result<Trained> {
    let examples = examples(base, objective, &rows(80));
    let go_on = &mut |_: &Progress| ControlFlow::Continue(());
    train(&runtime(), base, &examples, options, base.model(objective, 0), go_on, &AtomicBool::new(false))
}

fn save(trained: Trained, registry: &Registry, name: &ModelName) -> u32 {
    let source = Source { label: "good".to_owned(), query: "SELECT 1".to_owned(), rows: 80 };
    trained.save(registry, name, source).unwrap()
}

/// Completions are learned, and the engine writes what was learned when it is given the version's changes; preferences are learned on top of them.
#[test]
fn what_was_trained_is_what_the_engine_writes() {
    let tune = Tune { rank: 4, alpha: 8.0, targets: ALL.to_vec(), ..Tune::default() };
    let (_folder, base) = tuned("llama", FLOATS, tune.clone());
    let trained = trained(&base, Objective::Generation, &options(Objective::Generation)).unwrap();
    let facts = base.decoder.facts().clone();
    let own: usize = ALL.iter().map(|projection| 4 * (projection.inputs(&facts) + projection.outputs(&facts)) * facts.layers).sum();
    let Adapted { trainable, parameters, evaluation, .. } = trained.adapted().clone();
    assert_eq!((trainable, parameters), (own as u64, facts.parameters + own as u64));
    let whole = evaluation.unwrap();
    assert!(whole.loss < 0.1 * whole.loss_before && whole.rows == 8 && whole.accuracy.is_none(), "{whole:?}");
    assert_eq!(trained.kept().validation_loss, Some(whole.loss));

    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let name = ModelName::parse("colours").unwrap();
    assert_eq!(save(trained, &registry, &name), 1);
    assert_eq!(registry.manifest(&name, 1).unwrap().model_type(), "language, tiny, lora");
    let version = Version::read(&registry, &name, 1).unwrap();
    let adapter = Arc::new(version.adapter(&base.decoder).unwrap());
    let engine = Engine::start(&runtime(), &base.decoder, Limits::default()).unwrap();
    for (prompt, good, _) in rows(2) {
        let request = |adapter| Request {
            prompt: prompt_of(&base, &prompt),
            shared: 0,
            sampling: Sampling { max_tokens: 8, ..Sampling::default() },
            constraint: None,
            adapter,
        };
        let write = |request| {
            let (sender, receiver) = mpsc::channel();
            let _ticket = engine.submit(request, move |answer| sender.send(answer).unwrap()).unwrap();
            receiver.recv().unwrap().unwrap().text
        };
        assert_eq!(write(request(Some(Arc::clone(&adapter)))), good);
        assert_ne!(write(request(None)), good);
    }
    // Changes belong to the model that they were trained on.
    let (_other, other) = prepare_tiny("qwen2", FLOATS);
    let refused = version.adapter(&other).unwrap_err().to_string();
    assert!(refused.contains("another language model \"tiny\""), "{refused}");

    // The other way round: preferences for what is not written now.
    let base = base.from(Version::read(&registry, &name, 1).unwrap()).unwrap();
    let swapped: Vec<_> = rows(80).into_iter().map(|(prompt, good, bad)| (prompt, bad, good)).collect();
    let examples = self::examples(&base, Objective::Preference, &swapped);
    let (go_on, stop) = (&mut |_: &Progress| ControlFlow::Continue(()), AtomicBool::new(false));
    let options = TrainOptions { epochs: 4, ..options(Objective::Preference) };
    let preferred = train(&runtime(), &base, &examples, &options, base.model(Objective::Preference, 0), go_on, &stop).unwrap();
    let whole = preferred.adapted().evaluation.unwrap();
    assert!((whole.loss_before - 2f64.ln()).abs() < 1e-6, "a model is not before itself: {whole:?}");
    assert!(whole.loss < 0.5 && whole.accuracy == Some(1.0), "{whole:?}");
    assert_eq!(save(preferred, &registry, &name), 2);
}

fn prompt_of(base: &Base, text: &str) -> Vec<u32> {
    prompt(&base.tokens, base.chat.as_ref(), None, text).unwrap()
}

/// Only the chosen matrices are changed, and parts of a step add up to the step.
#[test]
fn a_training_changes_what_it_says_and_repeats() {
    let tune = Tune { rank: 2, targets: vec![Projection::Down], ..Tune::default() };
    let (_folder, base) = tuned("qwen2.gguf", Form::default(), tune);
    let train = |seed| trained(&base, Objective::Generation, &TrainOptions { epochs: 1, seed, ..options(Objective::Generation) }).unwrap();
    let first = train(1);
    assert_eq!(first.weights, train(1).weights);
    assert_ne!(first.weights, train(2).weights);
    assert_eq!(first.weights.len(), 2 * base.decoder.facts().layers);
    assert!(first.weights.iter().all(|weight| weight.name.contains(".down.lora_") && weight.values.iter().any(|value| *value != 0.0)));
}

#[test]
fn a_training_ends_when_it_is_stopped_and_refuses_what_it_cannot_do() {
    let (_folder, base) = tuned("llama", FLOATS, Tune { max_length: 64, ..Tune::default() });
    let examples = examples(&base, Objective::Generation, &rows(20));
    let stop = AtomicBool::new(false);
    let mut stopping = |_: &Progress| {
        stop.store(true, Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    let model = base.model(Objective::Generation, 0);
    let stopped = train(&runtime(), &base, &examples, &options(Objective::Generation), model, &mut stopping, &stop);
    assert!(matches!(stopped, Err(Error::Canceled)));
    let option = |options: TrainOptions| match trained(&base, Objective::Generation, &options).unwrap_err() {
        Error::InvalidOption { option, .. } => option,
        other => panic!("{other}"),
    };
    assert_eq!(option(TrainOptions { ensembles: 3, ..options(Objective::Generation) }), "ensembles");
    assert_eq!(option(TrainOptions { label_smoothing: 0.1, ..options(Objective::Generation) }), "label_smoothing");

    // A long completion is cut at its end, a long prompt at its beginning, and both are counted.
    let long = "red ".repeat(200);
    let (batch, truncated) = base.read([(None, "shoes", vec![long.as_str()]), (None, long.as_str(), vec!["blue"])]).unwrap();
    assert_eq!(truncated, 2);
    for row in 0..2 {
        let lengths: Vec<usize> = batch.bags.iter().map(|bag| bag.row(row).len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 64, "{lengths:?}");
    }
    assert_eq!(batch.bags[0].row(0).len(), prompt_of(&base, "shoes").len());
    let bad = |tune: Tune| tune.check().unwrap_err().to_string();
    assert!(bad(Tune { rank: 0, ..Tune::default() }).contains("\"rank\""));
    assert!(bad(Tune { beta: 0.0, ..Tune::default() }).contains("\"beta\""));
    assert!(bad(Tune { targets: vec![Projection::Up, Projection::Up], ..Tune::default() }).contains("\"targets\""));
}
