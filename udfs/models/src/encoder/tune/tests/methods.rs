//! What each method trains, and that it is read again.

use std::collections::BTreeMap;

use super::*;
use crate::features::Batch;
use crate::model::Model;
use crate::net::Parameter;
use crate::registry::{ModelName, Registry, Source};

/// What a method trains is what it says, and nothing else; a loaded version gives what was trained.
#[test]
fn each_method_trains_what_it_says_and_is_read_again() {
    let (_folder, encoder) = encoder("bert");
    let before: BTreeMap<String, Vec<f32>> = encoder.weights().unwrap().into_iter().map(|weight| (weight.name, weight.values)).collect();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let name = ModelName::parse("topic").unwrap();
    let asked = ["the parcel of a shop", "the money of a shop now now", "the label of a shop", ""];
    let head = 3 * 48 + 3;
    let all: usize = before.values().map(Vec::len).sum::<usize>() + head;
    for (version, method) in (1..).zip(METHODS) {
        let tune = Tune { rank: 4, alpha: 16.0, ..Tune::new(method) };
        let base = Base::new(encoder.clone(), tune.clone()).unwrap();
        let trained = trained(&base, 240, &options(method)).unwrap();
        let own = trained.text().tuned.clone().unwrap();
        let evaluation = trained.text().evaluation.clone().unwrap();
        assert!(evaluation.get("accuracy").unwrap() > 0.9 && evaluation.rows == 24, "{method}: {evaluation:?}");
        // Two layers; by each method what it adds there, and what else it trains.
        let (added, others) = match method {
            Method::Full => (0, all - head),
            Method::Lora => (2 * 2 * 2 * 4 * 48, 0),
            // Half as many ranks again, and a factor for each.
            Method::Adalora => (2 * 2 * (2 * 6 * 48 + 6), 0),
            Method::Adapter => (2 * 2 * (2 * 4 * 48 + 4 + 48), 2 * 2 * 2 * 48),
            Method::Prefix => (2 * 2 * 4 * 48, 0),
        };
        assert_eq!((own.trainable, own.parameters), ((added + others + head) as u64, (all + added) as u64), "{method}");
        let of_method = |weight: &Parameter| match method {
            Method::Full => before.contains_key(&weight.name),
            Method::Lora | Method::Adalora => weight.name.contains(".lora_"),
            Method::Adapter => weight.name.contains(".adapter.") || weight.name.contains("LayerNorm"),
            Method::Prefix => weight.name.contains(".prefix."),
        };
        assert!(trained.weights.iter().all(|weight| port::HEAD.contains(&weight.name.as_str()) || of_method(weight)), "{method}");
        let moved = |weight: &&Parameter| {
            before.get(&weight.name).map_or(weight.values.iter().any(|value| *value != 0.0), |before| *before != weight.values)
        };
        let stayed: Vec<&str> = trained.weights.iter().filter(|weight| !moved(weight)).map(|weight| weight.name.as_str()).collect();
        // The factors of a change may all be without budget.
        assert!(stayed.iter().all(|name| name.ends_with("lora_E")), "{method}: {stayed:?}");
        if method == Method::Adalora {
            let factors = trained.weights.iter().filter(|weight| weight.name.ends_with("lora_E")).flat_map(|weight| &weight.values);
            assert_eq!(factors.filter(|factor| **factor != 0.0).count(), 2 * 2 * 4, "the budget is what was asked for");
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
        // What serves gives what was judged: the probabilities of the trained graph and of the served one are the same.
        let explained = Explainer::load(&runtime(), &registry, &name, version, &bases).unwrap();
        let explained = explained.explain(asked[0], Some(0), 1, &AtomicBool::new(false)).unwrap();
        assert!((explained.probability - f64::from(shares[0])).abs() < 1e-4, "{method}");
    }
    // Changes belong to the encoder that they were trained from.
    let (_other, other) = self::encoder("roberta");
    let refused = Model::load_with(&runtime(), &registry, &name, 2, &|_| Ok(other.clone())).unwrap_err();
    assert!(refused.to_string().contains("changes of another encoder \"tiny\""), "{refused}");
    // A model with all weights needs no other one.
    assert!(Model::load(&runtime(), &registry, &name, 1).is_ok());
}

/// Without dropout the gradients of four batches together are those of the large one.
#[test]
fn batches_that_are_summed_are_one_large_batch() {
    let (_folder, encoder) = encoder("bert");
    let losses = |batch: usize, accumulation: usize, method: Method| -> Vec<f64> {
        let base = Base::new(encoder.clone(), Tune { accumulation, ..Tune::new(method) }).unwrap();
        let own = TrainOptions { batch_size: Some(batch), dropout: 0.0, validation: 0.0, epochs: 4, warmup: 0.0, ..options(method) };
        trained(&base, 24, &own).unwrap().epochs().iter().map(|epoch| epoch.train_loss).collect()
    };
    for method in METHODS {
        let (whole, parts, alone) = (losses(24, 1, method), losses(6, 4, method), losses(6, 1, method));
        assert!(whole[3] < whole[0], "{method}: {whole:?}");
        // Later the optimizer makes much of the last digits of gradients that are all but zero.
        assert!(
            whole.iter().zip(&parts).take(2).all(|(whole, parts)| (whole - parts).abs() < 2e-4 * whole),
            "{method}: {whole:?} {parts:?}"
        );
        assert!(
            whole.iter().zip(&alone).any(|(whole, alone)| (whole - alone).abs() > 1e-3 * whole),
            "{method}: four steps are another training"
        );
    }
}

#[test]
fn lower_layers_learn_more_slowly_and_embeddings_most_so() {
    let tune = Tune { layer_decay: 0.5, ..Tune::new(Method::Full) };
    let rates =
        ["encoder.layer.2.output.dense.weight", "encoder.layer.1.output.dense.bias", "encoder.layer.0.attention.self.key.weight", WORDS];
    assert_eq!(rates.map(|name| tune.rate(name, 3)), [1.0, 0.5, 0.25, 0.125]);
    assert_eq!(tune.rate("embeddings.LayerNorm.weight", 3), 0.125);
    assert_eq!(tune.rate(port::HEAD[0], 3), tune.head_rate());
    let (_folder, encoder) = encoder("bert");
    let before: BTreeMap<String, Vec<f32>> = encoder.weights().unwrap().into_iter().map(|weight| (weight.name, weight.values)).collect();
    let base = Base::new(encoder, Tune { layer_decay: 0.1, ..tune }).unwrap();
    let trained = trained(&base, 90, &TrainOptions { epochs: 1, weight_decay: 0.0, ..options(Method::Full) }).unwrap();
    let moved = |name: &str| -> f32 {
        let weight = trained.weights.iter().find(|weight| weight.name == name).unwrap();
        weight.values.iter().zip(&before[name]).map(|(now, before)| (now - before).abs()).fold(0.0, f32::max)
    };
    let [words, low, high] = [WORDS, "encoder.layer.0.output.dense.weight", "encoder.layer.1.output.dense.weight"].map(moved);
    assert!(words < low / 2.0 && low < high / 2.0, "{words} {low} {high}");
}

#[test]
fn a_second_pass_against_moved_words_or_with_another_dropout_is_another_training_and_learns_too() {
    let (_folder, encoder) = encoder("bert");
    let train = |method: Method, adversarial: f32, r_drop: f32| {
        let base = Base::new(encoder.clone(), Tune { r_drop, ..Tune::new(method) }).unwrap();
        trained(&base, 240, &TrainOptions { adversarial, epochs: 6, ..options(method) }).unwrap()
    };
    for method in [Method::Full, Method::Lora] {
        let plain = train(method, 0.0, 0.0);
        for (adversarial, r_drop) in [(0.1, 0.0), (0.0, 1.0), (0.1, 1.0)] {
            let own = train(method, adversarial, r_drop);
            assert_ne!(own.weights, plain.weights, "{method} {adversarial} {r_drop}");
            let accuracy = own.text().evaluation.as_ref().unwrap().get("accuracy").unwrap();
            assert!(accuracy > 0.9, "{method} {adversarial} {r_drop}: {accuracy}");
        }
    }
}

/// A training goes on from a version: with its weights, its classes, and new ones beside them.
#[test]
fn a_training_goes_on_from_a_version() {
    let (_folder, encoder) = encoder("bert");
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let name = ModelName::parse("topic").unwrap();
    let bases = |_: &str| Ok(encoder.clone());
    for (place, method) in METHODS.into_iter().enumerate() {
        let version = 2 * place as u32 + 1;
        let base = Base::new(encoder.clone(), Tune::new(method)).unwrap();
        let first = trained(&base, 240, &TrainOptions { epochs: 10, ..options(method) }).unwrap();
        let source = Source { label: "topic".to_owned(), query: "SELECT 1".to_owned(), rows: 240 };
        first.save(&registry, &name, source.clone()).unwrap();
        let again = Base::again(&registry, &name, version, Tune::new(method), &bases).unwrap();
        assert_eq!(again.text().unwrap().classes, CLASSES);
        // A class that is new in the middle of the known ones.
        let classes = ["delivery", "other", "payment", "returns"];
        let text = Text { classes: classes.map(str::to_owned).to_vec(), ..text() };
        let mut rows: Vec<(String, usize)> = texts(120).into_iter().map(|(text, class)| (text, [0, 2, 3][class])).collect();
        rows.extend((0..40).map(|row| (format!("a voucher {}", "now ".repeat(row % 4)), 1)));
        let examples = examples(&again, &rows, 4);
        let more = TrainOptions { epochs: 6, ..options(method) };
        let go_on = |base: &Base| {
            train(&runtime(), base, &examples, &more, text.clone(), &mut |_| ControlFlow::Continue(()), &AtomicBool::new(false)).unwrap()
        };
        let (trained, fresh) = (go_on(&again), go_on(&base));
        let [first, fresh] = [&trained, &fresh].map(|trained| trained.epochs()[0].train_loss);
        assert!(first < 0.8 * fresh, "{method} begins with what it knows: {first} {fresh}");
        assert!(trained.text().evaluation.as_ref().unwrap().get("accuracy").unwrap() > 0.9, "{method}");
        trained.save(&registry, &name, source).unwrap();
        assert_eq!(registry.manifest(&name, version + 1).unwrap().parent, Some(version));
        let other = if method == Method::Full { Method::Lora } else { Method::Full };
        let refused = Base::again(&registry, &name, version, Tune::new(other), &bases).unwrap_err();
        assert!(refused.to_string().contains(&format!("by method '{method}'")), "{refused}");
    }
}
