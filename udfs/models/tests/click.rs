//! Click models from rows to saved probabilities, through the public interface.

#[path = "support/support.rs"]
mod support;

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stratagem_models::Error;
use stratagem_models::click::{Calibrate, ClickModel, Metric, ModelType, Progress, Schedule, Start, TrainOptions, Trained, train};
use stratagem_models::examples::{Block, Examples};
use stratagem_models::features::{Bag, Batch, Column, Feature, Kind, Values};
use stratagem_models::registry::{ModelName, Registry, Source};
use support::{columns, examples, go_on, item_and_age, runtime};

fn fit_on(examples: &Examples, options: &TrainOptions) -> Trained {
    train(&runtime(), examples, options, None, &mut go_on, &AtomicBool::new(false)).expect("the training runs")
}

fn fit(block: &Block, options: &TrainOptions) -> Trained {
    fit_on(&examples(block), options)
}

/// The click probabilities of rows.
fn scores(trained: &Trained, batch: &Batch) -> Vec<f32> {
    predict(&trained.model().expect("the model loads"), batch)
}

fn predict(model: &ClickModel, batch: &Batch) -> Vec<f32> {
    model.predict(batch).expect("the batch fits").task(0).collect()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

fn source() -> Source {
    Source { label: "click".to_owned(), query: "SELECT item, age, click FROM impressions".to_owned(), rows: 0 }
}

fn ctr() -> ModelName {
    ModelName::parse("ctr").expect("a valid name")
}

fn options() -> TrainOptions {
    TrainOptions { epochs: 4, seed: 7, threads: 1, ensembles: 1, ..TrainOptions::default() }
}

#[test]
fn a_net_learns_what_depends_on_two_columns_at_once() {
    // A click happens for even items when the user is old and for odd items when the user is young: neither column alone tells.
    let examples = item_and_age(12_000, 1, |item, age| if (item % 2 == 0) == (age > 40.0) { 0.6 } else { 0.1 });
    let trained = fit(&examples, &TrainOptions { epochs: 10, ..options() });
    let kept = trained.kept();
    assert!(kept.validation_auc.unwrap() > 0.73, "{kept:?}");
    let held_out = item_and_age(4_000, 2, |item, age| if (item % 2 == 0) == (age > 40.0) { 0.6 } else { 0.1 });
    let (score, rate) = (mean(&scores(&trained, &held_out.batch)), mean(&held_out.labels));
    assert!((score - rate).abs() < 0.03, "mean score {score}, click rate {rate}");
}

#[test]
fn rare_clicks_do_not_make_the_net_worse_than_the_base_rate() {
    let examples = item_and_age(10_000, 3, |_, _| 0.005);
    let trained = fit(&examples, &TrainOptions { epochs: 10, ..options() });
    let fresh = item_and_age(50_000, 4, |_, _| 0.005);
    let scores = scores(&trained, &fresh.batch);
    let loss = |p: &dyn Fn(usize) -> f64| {
        let each = fresh.labels.iter().enumerate().map(|(row, y)| if *y > 0.5 { -p(row).ln() } else { -(1.0 - p(row)).ln() });
        each.sum::<f64>() / fresh.labels.len() as f64
    };
    let (net, base) = (loss(&|row| f64::from(scores[row])), loss(&|_| 0.005));
    assert!(net < base * 1.05, "log loss {net}, of the base rate {base}");
}

#[test]
fn a_saved_model_predicts_the_same_bits_after_reopening() {
    let examples = item_and_age(3_000, 5, |item, _| 0.1 + 0.02 * (item % 10) as f64);
    let trained = fit(&examples, &TrainOptions { ensembles: 2, ..options() });
    let before = scores(&trained, &examples.batch);
    let folder = tempfile::tempdir().unwrap();
    let version = trained.save(&Registry::open(folder.path()).unwrap(), &ctr(), source(), None).unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let model = ClickModel::load(&runtime(), &registry, &ctr(), version).unwrap();
    let after = predict(&model, &examples.batch);
    assert!(before.iter().map(|p| p.to_bits()).eq(after.iter().map(|p| p.to_bits())));
    let manifest = registry.manifest(&ctr(), version).unwrap();
    assert_eq!((manifest.rows, manifest.seed, manifest.runtime.as_str()), (3_000, 7, runtime().version()));
    assert_eq!(manifest.features, model.features());
    assert_eq!(manifest.evaluation.unwrap().rows, 300);
}

#[test]
fn the_same_seed_gives_the_same_files_and_another_seed_others() {
    let examples = item_and_age(2_000, 6, |_, age| f64::from(age) / 100.0);
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let options = TrainOptions { dropout: 0.1, threads: 2, ..options() };
    let files = |seed| {
        let version = fit(&examples, &TrainOptions { seed, ..options.clone() }).save(&registry, &ctr(), source(), None).unwrap();
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
    let version = fit(&item_and_age(500, 7, |_, _| 0.3), &options()).save(&registry, &ctr(), source(), None).unwrap();
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
    assert!(matches!(&model.features()[1].kind, Kind::Number(number) if number.nullable));
    let numbers = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, f32::MIN_POSITIVE];
    let batch = Batch { rows: 7, ids: vec![0, u64::MAX, 1, 2, 3, 4, 5], numbers, bags: vec![] };
    let scores = predict(&model, &batch);
    assert_eq!(scores.len(), 7);
    assert!(scores.iter().all(|p| (0.0..=1.0).contains(p)), "{scores:?}");
    assert!(predict(&model, &Batch::default()).is_empty());
    assert!(matches!(model.predict(&Batch { rows: 1, numbers: vec![1.0], ..Batch::default() }), Err(Error::Data { .. })));
}

#[test]
fn a_large_batch_is_scored_as_its_rows_are_and_by_many_threads() {
    let examples = item_and_age(10_001, 9, |item, _| if item % 3 == 0 { 0.5 } else { 0.1 });
    let model = fit(&examples, &TrainOptions { epochs: 1, ..options() }).model().unwrap();
    let whole = predict(&model, &examples.batch);
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (model, batch, whole) = (&model, &examples.batch, &whole);
            scope.spawn(move || {
                let rows = part * 2_500..(part + 1) * 2_500;
                let (ids, numbers) = (batch.ids[rows.clone()].to_vec(), batch.numbers[rows.clone()].to_vec());
                let scores = predict(model, &Batch { rows: 2_500, ids, numbers, bags: vec![] });
                for (one, other) in scores.iter().zip(&whole[rows]) {
                    assert!((one - other).abs() < 1e-6);
                }
            });
        }
    });
}

#[test]
fn a_training_stops_when_told_to() {
    let examples = examples(&item_and_age(2_000, 10, |_, _| 0.2));
    let mut epochs = 0;
    let mut stop_after_two = |_: &Progress| {
        epochs += 1;
        if epochs == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = train(&runtime(), &examples, &options(), None, &mut stop_after_two, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, Error::Canceled));
    assert_eq!(epochs, 2);
    let mut never = |_: &Progress| panic!("no epoch ends once the flag is set");
    let error = train(&runtime(), &examples, &options(), None, &mut never, &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(error, Error::Canceled));
}

#[test]
fn the_best_epoch_is_kept_when_a_later_one_overfits() {
    // Labels are pure chance and the rate is too high: later epochs learn the training rows by heart.
    let examples = item_and_age(1_000, 11, |_, _| 0.5);
    let wild = TrainOptions { epochs: 12, learning_rate: 0.02, validation: 0.5, early_stop: false, ..options() };
    let trained = fit(&examples, &wild);
    let losses: Vec<f64> = trained.epochs().iter().map(|e| e.validation_loss.unwrap()).collect();
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses.len(), 12);
    assert_eq!(losses[trained.kept().epoch as usize - 1], lowest);
    assert!(losses[11] > 1.02 * lowest, "the last epoch should be worse: {losses:?}");
    let stopped = fit(&examples, &TrainOptions { early_stop: true, ..wild });
    assert!(stopped.epochs().len() < 12);
}

#[test]
fn columns_of_one_kind_are_enough() {
    let both = item_and_age(1_000, 12, |_, _| 0.3);
    let part = |numeric: bool| {
        let columns: Vec<Column> = columns().into_iter().filter(|c| (c.values == Values::Number) == numeric).collect();
        let (ids, numbers) = if numeric { (vec![], both.batch.numbers.clone()) } else { (both.batch.ids.clone(), vec![]) };
        let batch = Batch { rows: 1_000, ids, numbers, bags: vec![] };
        (Examples::new(columns, &Block { batch: batch.clone(), labels: both.labels.clone(), split: vec![] }, 0), batch)
    };
    for (examples, batch) in [part(false), part(true)] {
        for model_type in ModelType::ALL.into_iter().filter(|model_type| model_type.tasks() == 1 && *model_type != ModelType::Din) {
            let options = TrainOptions { model_type, hidden: vec![8], epochs: 1, ..options() };
            let scores = scores(&fit_on(&examples, &options), &batch);
            assert!(scores.iter().all(|p| (0.05..0.95).contains(p)), "{model_type}");
        }
    }
}

#[test]
fn two_rows_are_enough_and_one_is_not() {
    let pair = Block { labels: vec![0.0, 1.0], ..item_and_age(2, 13, |_, _| 0.5) };
    assert_eq!(fit(&pair, &options()).epochs()[0].validation_loss, None);
    let one = item_and_age(1, 13, |_, _| 0.0);
    let error = train(&runtime(), &examples(&one), &options(), None, &mut go_on, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error.to_string(), "all 1 labels are 0");
}

/// Log loss of probabilities.
fn loss(scores: &[f32], labels: &[f32]) -> f32 {
    let each = scores.iter().zip(labels).map(|(p, y)| if *y > 0.5 { -p.ln() } else { -(1.0 - p).ln() });
    each.sum::<f32>() / labels.len() as f32
}

#[test]
fn every_option_of_the_training_learns_and_stays_calibrated() {
    let truth = |item: u64, age: f32| 0.05 + 0.3 * f64::from(u8::from(item.is_multiple_of(4))) + 0.004 * f64::from(age - 18.0);
    let (rows, fresh) = (item_and_age(8_000, 20, truth), item_and_age(20_000, 21, truth));
    let base = loss(&vec![mean(&fresh.labels); fresh.labels.len()], &fresh.labels);
    let cases = [
        ("negative_sampling", TrainOptions { negative_sampling: 0.3, ..options() }),
        ("balanced", TrainOptions { positive_weight: None, ..options() }),
        ("label_smoothing", TrainOptions { label_smoothing: 0.02, ..options() }),
        ("adversarial", TrainOptions { adversarial: 0.05, ..options() }),
        ("dropout", TrainOptions { dropout: 0.2, l2: 1e-4, ..options() }),
        ("cosine", TrainOptions { schedule: Schedule::Cosine, warmup: 0.1, ..options() }),
        ("temperature", TrainOptions { calibration: Calibrate::Temperature, ensembles: 2, ..options() }),
        ("isotonic", TrainOptions { calibration: Calibrate::Isotonic, metric: Metric::Auc, ..options() }),
        ("trials", TrainOptions { trials: 3, epochs: 2, ..options() }),
    ];
    for (name, options) in cases {
        let trained = fit(&rows, &options);
        let scores = scores(&trained, &fresh.batch);
        let (score, rate) = (mean(&scores), mean(&fresh.labels));
        assert!((score / rate - 1.0).abs() < 0.12, "{name}: mean score {score}, click rate {rate}");
        let found = loss(&scores, &fresh.labels);
        assert!(found < base - 0.02, "{name}: log loss {found}, of the base rate {base}");
        assert!(trained.epochs().iter().map(|e| e.trial).max() == Some(options.trials), "{name}");
    }
}

#[test]
fn conversions_after_a_click_have_their_own_probability() {
    // Even items are clicked more, items above 20 are bought more once clicked.
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let mut block = item_and_age(12_000, 22, |item, _| if item % 2 == 0 { 0.6 } else { 0.2 });
    let clicks = std::mem::take(&mut block.labels);
    for (click, item) in clicks.iter().zip(&block.batch.ids) {
        let bought = rng.random_bool(if *item > 20 { 0.5 } else { 0.1 });
        block.labels.extend([*click, if bought { *click } else { 0.0 }]);
    }
    for model_type in [ModelType::Esmm, ModelType::Mmoe] {
        let trained = fit(&block, &TrainOptions { model_type, epochs: 8, ..options() });
        let batch = Batch { rows: 4, ids: vec![11, 12, 31, 32], numbers: vec![40.0; 4], bags: vec![] };
        let scores = trained.model().unwrap().predict(&batch).unwrap();
        let (clicks, conversions): (Vec<f32>, Vec<f32>) = (scores.task(0).collect(), scores.task(1).collect());
        for (found, expected) in clicks.iter().chain(&conversions).zip([0.2, 0.6, 0.2, 0.6, 0.1, 0.1, 0.5, 0.5]) {
            assert!((found - expected).abs() < 0.13, "{model_type}: clicks {clicks:?}, conversions {conversions:?}");
        }
    }
}

#[test]
fn din_learns_that_what_was_seen_before_is_clicked() {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let mut block = Block { batch: Batch { rows: 8_000, bags: vec![Bag::default()], ..Batch::default() }, ..Block::default() };
    for _ in 0..8_000 {
        let item: u64 = rng.random_range(1..=20);
        let mut seen: Vec<u64> = (0..4).map(|_| rng.random_range(1..=20)).filter(|other| *other != item).collect();
        let before = rng.random_bool(0.5);
        if before {
            seen.push(item);
        }
        block.batch.ids.push(item);
        block.batch.bags[0].ids.extend(seen);
        block.batch.bags[0].end_row();
        block.labels.push(f32::from(u8::from(rng.random_bool(if before { 0.7 } else { 0.1 }))));
    }
    let columns = vec![Column::new("seen", "bigint[]", Values::Items), Column::new("item", "bigint", Values::Id)];
    let options = TrainOptions { model_type: ModelType::Din, epochs: 12, ..options() };
    let trained = fit_on(&Examples::new(columns, &block, 0), &options);
    let auc = trained.evaluation().unwrap().auc.unwrap();
    assert!(auc > 0.77, "AUC {auc}; knowing the history gives 0.8, without it is 0.5");
    let mut pair = Bag::default();
    pair.ids.extend([7, 3]);
    pair.end_row();
    pair.end_row();
    let scores = scores(&trained, &Batch { rows: 2, ids: vec![7, 7], numbers: vec![], bags: vec![pair] });
    assert!(scores[0] > 0.5 && scores[1] < 0.3, "{scores:?}");
}

#[test]
fn a_training_goes_on_from_a_version_and_learns_its_new_values() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let rate = |item: u64| if item.is_multiple_of(2) { 0.5 } else { 0.1 };
    let first = fit(&item_and_age(6_000, 24, |item, _| rate(item)), &TrainOptions { ensembles: 2, ..options() });
    let version = first.save(&registry, &ctr(), source(), None).unwrap();
    let start = Start::load(&registry, &ctr(), version).unwrap();
    // Items 41 to 80 are new; the old ones do not occur.
    let mut later = item_and_age(6_000, 25, |item, _| rate(item));
    later.batch.ids.iter_mut().for_each(|item| *item += 40);
    let examples = Examples::new(start.columns(), &later, 0);
    let options = TrainOptions { ensembles: 2, model_type: ModelType::Fm, ..options() };
    let second = train(&runtime(), &examples, &options, Some(&start), &mut go_on, &AtomicBool::new(false)).unwrap();
    assert_eq!(second.options().model_type, ModelType::Dcnv2, "the version decides the architecture");
    let batch = Batch { rows: 4, ids: vec![7, 8, 47, 48], numbers: vec![40.0; 4], bags: vec![] };
    let scores = scores(&second, &batch);
    assert!(scores[0] < 0.25 && scores[1] > 0.35, "forgot old items: {scores:?}");
    assert!(scores[2] < 0.25 && scores[3] > 0.35, "did not learn new items: {scores:?}");
    let version = second.save(&registry, &ctr(), source(), None).unwrap();
    assert_eq!(registry.manifest(&ctr(), version).unwrap().parent, Some(1));
}

#[test]
fn what_tells_the_label_is_reported_and_what_tells_nothing_is_left_out() {
    let mut block = item_and_age(2_000, 26, |_, _| 0.3);
    block.batch.numbers = block.labels.iter().flat_map(|label| [*label * 2.0, 5.0]).collect();
    let columns = vec![
        Column::new("item", "text", Values::Id),
        Column::new("paid", "double precision", Values::Number),
        Column::new("shop", "double precision", Values::Number),
    ];
    let trained = fit_on(&Examples::new(columns, &block, 0), &TrainOptions { epochs: 1, ..options() });
    assert_eq!(trained.leaks(), ["paid"]);
    let used: Vec<String> = trained.features().iter().filter(|f| f.is_used()).map(Feature::name).collect();
    assert_eq!(used, ["item", "paid"]);
}
