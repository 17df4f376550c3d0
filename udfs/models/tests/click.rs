//! Click models from rows to saved probabilities, through the public interface.

#[path = "support/support.rs"]
mod support;

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stratagem_models::Error;
use stratagem_models::click::{ClickModel, Progress, TrainOptions, Trained, train};
use stratagem_models::features::{Batch, Column, Examples, Kind};
use stratagem_models::registry::{ModelName, Registry, Source};
use support::{go_on, item_and_age, runtime};

fn fit(examples: &Examples, options: &TrainOptions) -> Trained {
    train(&runtime(), examples, options, &mut go_on, &AtomicBool::new(false)).expect("the training runs")
}

fn source() -> Source {
    Source { label: "click".to_owned(), query: "SELECT item, age, click FROM impressions".to_owned(), rows: 0 }
}

fn ctr() -> ModelName {
    ModelName::parse("ctr").expect("a valid name")
}

fn options() -> TrainOptions {
    TrainOptions { epochs: 4, seed: 7, threads: 1, ..TrainOptions::default() }
}

#[test]
fn a_net_learns_what_depends_on_two_columns_at_once() {
    // A click happens for even items when the user is old and for odd items when the user is young: neither column alone tells.
    let examples = item_and_age(12_000, 1, |item, age| if (item % 2 == 0) == (age > 40.0) { 0.6 } else { 0.1 });
    let trained = fit(&examples, &TrainOptions { epochs: 10, ..options() });
    let best = &trained.epochs()[trained.best_epoch() as usize - 1];
    assert!(best.validation_auc.unwrap() > 0.75, "{best:?}");
    let held_out = item_and_age(4_000, 2, |item, age| if (item % 2 == 0) == (age > 40.0) { 0.6 } else { 0.1 });
    let scores = trained.model().unwrap().predict(&held_out.batch).unwrap();
    let mean = scores.iter().sum::<f32>() / scores.len() as f32;
    let rate = held_out.labels.iter().sum::<f32>() / scores.len() as f32;
    assert!((mean - rate).abs() < 0.03, "mean score {mean}, click rate {rate}");
}

#[test]
fn rare_clicks_do_not_make_the_net_worse_than_the_base_rate() {
    let examples = item_and_age(10_000, 3, |_, _| 0.005);
    let trained = fit(&examples, &TrainOptions { epochs: 10, ..options() });
    let fresh = item_and_age(50_000, 4, |_, _| 0.005);
    let scores = trained.model().unwrap().predict(&fresh.batch).unwrap();
    let loss = |p: &dyn Fn(usize) -> f64| {
        let each = fresh.labels.iter().enumerate().map(|(row, y)| if *y > 0.5 { -p(row).ln() } else { -(1.0 - p(row)).ln() });
        each.sum::<f64>() / fresh.labels.len() as f64
    };
    let (net, base) = (loss(&|row| f64::from(scores[row])), loss(&|_| 0.005));
    assert!(net < base * 1.05, "log loss {net}, of the base rate {base}");
}

#[test]
fn twenty_thousand_rows_of_ten_columns_train_within_a_minute() {
    const ROWS: usize = 20_000;
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let columns = (0..10).map(|c| Column { name: format!("c{c}"), sql_type: "text".to_owned(), numeric: c >= 8 }).collect();
    let ids = (0..ROWS * 8).map(|_| rng.random_range(1..=500)).collect();
    let numbers = (0..ROWS * 2).map(|_| rng.random_range(0.0..1.0)).collect();
    let labels = (0..ROWS).map(|_| f32::from(u8::from(rng.random_bool(0.05)))).collect();
    let examples = Examples { columns, batch: Batch { rows: ROWS, ids, numbers }, labels };
    let started = std::time::Instant::now();
    let trained = fit(&examples, &TrainOptions { early_stop: false, ..TrainOptions::default() });
    assert_eq!(trained.epochs().len() as u32, TrainOptions::default().epochs);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn a_saved_model_predicts_the_same_bits_after_reopening() {
    let examples = item_and_age(3_000, 5, |item, _| 0.1 + 0.02 * (item % 10) as f64);
    let trained = fit(&examples, &options());
    let before = trained.model().unwrap().predict(&examples.batch).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let version = trained.save(&Registry::open(folder.path()).unwrap(), &ctr(), source()).unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let model = ClickModel::load(&runtime(), &registry, &ctr(), version).unwrap();
    let after = model.predict(&examples.batch).unwrap();
    assert!(before.iter().map(|p| p.to_bits()).eq(after.iter().map(|p| p.to_bits())));
    let manifest = registry.manifest(&ctr(), version).unwrap();
    assert_eq!((manifest.rows, manifest.seed, manifest.runtime.as_str()), (3_000, 7, runtime().version()));
    assert_eq!(manifest.features, model.features());
    assert!(manifest.best().unwrap().validation_loss.is_some());
}

#[test]
fn the_same_seed_gives_the_same_files_and_another_seed_others() {
    let examples = item_and_age(2_000, 6, |_, age| f64::from(age) / 100.0);
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let options = TrainOptions { dropout: 0.1, threads: 2, ..options() };
    let files = |seed| {
        let version = fit(&examples, &TrainOptions { seed, ..options.clone() }).save(&registry, &ctr(), source()).unwrap();
        registry.manifest(&ctr(), version).unwrap().files
    };
    let (first, second, other) = (files(1), files(1), files(2));
    assert_eq!(first.len(), 2);
    assert_eq!(first, second);
    assert_ne!(first, other);
}

#[test]
fn a_damaged_model_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let version = fit(&item_and_age(500, 7, |_, _| 0.3), &options()).save(&registry, &ctr(), source()).unwrap();
    let path = folder.path().join("ctr/1/weights.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = ClickModel::load(&runtime(), &registry, &ctr(), version).unwrap_err();
    assert_eq!(error.to_string(), "model \"ctr@1\" is damaged: weights.safetensors does not match its SHA-256");
}

#[test]
fn any_value_gives_a_probability() {
    let mut examples = item_and_age(2_000, 8, |_, _| 0.2);
    for age in examples.batch.numbers.iter_mut().step_by(10) {
        *age = f32::NAN;
    }
    let model = fit(&examples, &options()).model().unwrap();
    assert!(matches!(model.features()[1].kind, Kind::Numeric { nullable: true, .. }));
    let numbers = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, f32::MIN_POSITIVE];
    let batch = Batch { rows: 7, ids: vec![0, u64::MAX, 1, 2, 3, 4, 5], numbers };
    let scores = model.predict(&batch).unwrap();
    assert_eq!(scores.len(), 7);
    assert!(scores.iter().all(|p| (0.0..=1.0).contains(p)), "{scores:?}");
    assert!(model.predict(&Batch::default()).unwrap().is_empty());
    assert!(matches!(model.predict(&Batch { rows: 1, ids: vec![], numbers: vec![1.0] }), Err(Error::Data { .. })));
}

#[test]
fn a_large_batch_is_scored_as_its_rows_are_and_by_many_threads() {
    let examples = item_and_age(10_001, 9, |item, _| if item % 3 == 0 { 0.5 } else { 0.1 });
    let model = fit(&examples, &TrainOptions { epochs: 1, ..options() }).model().unwrap();
    let whole = model.predict(&examples.batch).unwrap();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (model, batch, whole) = (&model, &examples.batch, &whole);
            scope.spawn(move || {
                let rows = part * 2_500..(part + 1) * 2_500;
                let (ids, numbers) = (batch.ids[rows.clone()].to_vec(), batch.numbers[rows.clone()].to_vec());
                let scores = model.predict(&Batch { rows: 2_500, ids, numbers }).unwrap();
                for (one, other) in scores.iter().zip(&whole[rows]) {
                    assert!((one - other).abs() < 1e-6);
                }
            });
        }
    });
}

#[test]
fn a_training_stops_when_told_to() {
    let examples = item_and_age(2_000, 10, |_, _| 0.2);
    let mut epochs = 0;
    let mut stop_after_two = |_: &Progress| {
        epochs += 1;
        if epochs == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = train(&runtime(), &examples, &options(), &mut stop_after_two, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, Error::Canceled));
    assert_eq!(epochs, 2);
    let mut never = |_: &Progress| panic!("no epoch ends once the flag is set");
    let error = train(&runtime(), &examples, &options(), &mut never, &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(error, Error::Canceled));
}

#[test]
fn the_best_epoch_is_kept_when_a_later_one_overfits() {
    // Labels are pure chance and the rate is too high: later epochs learn the training rows by heart.
    let examples = item_and_age(1_000, 11, |_, _| 0.5);
    let wild = TrainOptions { epochs: 12, learning_rate: 0.02, table_learning_rate: 0.5, early_stop: false, ..options() };
    let trained = fit(&examples, &wild);
    let losses: Vec<f64> = trained.epochs().iter().map(|e| e.validation_loss.unwrap()).collect();
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses.len(), 12);
    assert_eq!(losses[trained.best_epoch() as usize - 1], lowest);
    assert!(losses[11] > lowest, "the last epoch should be worse: {losses:?}");
    let stopped = fit(&examples, &TrainOptions { early_stop: true, ..wild });
    assert!(stopped.epochs().len() < 12);
}

#[test]
fn columns_of_one_kind_are_enough() {
    let both = item_and_age(1_000, 12, |_, _| 0.3);
    let part = |numeric: bool| {
        let columns: Vec<Column> = both.columns.iter().filter(|c| c.numeric == numeric).cloned().collect();
        let (ids, numbers) = if numeric { (vec![], both.batch.numbers.clone()) } else { (both.batch.ids.clone(), vec![]) };
        Examples { columns, batch: Batch { rows: 1_000, ids, numbers }, labels: both.labels.clone() }
    };
    for examples in [part(false), part(true)] {
        for (cross_layers, hidden) in [(0, vec![8]), (1, vec![])] {
            let options = TrainOptions { cross_layers, hidden, epochs: 1, ..options() };
            let scores = fit(&examples, &options).model().unwrap().predict(&examples.batch).unwrap();
            assert!(scores.iter().all(|p| (0.05..0.95).contains(p)));
        }
    }
}

#[test]
fn two_rows_are_enough_and_one_is_not() {
    let pair = item_and_age(2, 13, |_, _| 0.5);
    let pair = Examples { labels: vec![0.0, 1.0], ..pair };
    assert_eq!(fit(&pair, &options()).epochs()[0].validation_loss, None);
    let one = item_and_age(1, 13, |_, _| 0.0);
    let error = train(&runtime(), &one, &options(), &mut go_on, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error.to_string(), "all 1 labels are 0");
}
