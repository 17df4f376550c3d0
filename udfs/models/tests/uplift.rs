//! Uplift models from the rows of an experiment to saved effects, through the public interface.

#[path = "support/support.rs"]
mod support;

use std::sync::atomic::AtomicBool;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stratagem_models::click::{ClickModel, Start, TrainOptions, Trained, train};
use stratagem_models::examples::{Block, Examples};
use stratagem_models::features::{Batch, Column};
use stratagem_models::model::{Model, Rows};
use stratagem_models::registry::{Kind, ModelName, Registry, Source};
use stratagem_models::uplift::{self, Learner, Output, Plan, Propensity, Stage};
use stratagem_models::{Error, Result};
use support::{columns, go_on, item_and_age, runtime};

const LEARNERS: [Learner; 4] = [Learner::S, Learner::T, Learner::X, Learner::R];

fn plan(learner: Learner) -> Plan {
    Plan { learner, propensity: Propensity::Share, treatment: "treated".to_owned() }
}

fn options() -> TrainOptions {
    TrainOptions { epochs: 8, seed: 7, threads: 2, ensembles: 1, ..TrainOptions::default() }
}

/// What the treatment changes: from -0.1 for the young to 0.3 for the old, who like it better for even items.
fn truth(item: u64, age: f32) -> f64 {
    -0.1 + 0.3 * f64::from((age - 18.0) / 52.0) + if item.is_multiple_of(2) { 0.1 } else { 0.0 }
}

/// The outcome without treatment, which has nothing to do with the effect.
fn base(item: u64) -> f64 {
    if item.is_multiple_of(3) { 0.4 } else { 0.15 }
}

/// Rows of an experiment with the labels outcome, treatment and the probability of treatment, by which the old may be treated more often.
fn experiment(rows: usize, seed: u64, chance: impl Fn(f32) -> f64, outcome: impl Fn(&mut ChaCha8Rng, u64, f64) -> f32) -> Block {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut block = item_and_age(rows, seed, |_, _| 0.5);
    block.labels.clear();
    for row in 0..rows {
        let (item, age) = (block.batch.ids[row], block.batch.numbers[row]);
        let treated = rng.random_bool(chance(age));
        let effect = if treated { truth(item, age) } else { 0.0 };
        let outcome = outcome(&mut rng, item, effect);
        block.labels.extend([outcome, f32::from(u8::from(treated)), chance(age) as f32]);
    }
    block
}

fn visits(rng: &mut ChaCha8Rng, item: u64, effect: f64) -> f32 {
    f32::from(u8::from(rng.random_bool((base(item) + effect).clamp(0.0, 1.0))))
}

/// Trains on the first labels: all three where the propensity is one.
fn try_fit(block: &Block, plan: &Plan, options: &TrainOptions) -> Result<Trained> {
    let width = if plan.propensity == Propensity::Given { 3 } else { 2 };
    let labels = block.labels.chunks_exact(3).flat_map(|labels| &labels[..width]).copied().collect();
    let rows = uplift::rows(plan, block.batch.clone(), labels, vec![]);
    let columns: Vec<Column> = columns().into_iter().chain(uplift::column(plan, "boolean")).collect();
    uplift::train(&runtime(), &Examples::new(columns, &rows, options.seed), options, plan, &mut go_on, &AtomicBool::new(false))
}

fn fit(block: &Block, plan: &Plan, options: &TrainOptions) -> Trained {
    try_fit(block, plan, options).expect("the training runs")
}

fn effects(trained: &Trained, batch: &Batch) -> Vec<f32> {
    trained.uplift_model().expect("the model loads").predict(batch).expect("the batch fits").task(0).collect()
}

fn truths(batch: &Batch) -> Vec<f32> {
    batch.ids.iter().zip(&batch.numbers).map(|(item, age)| truth(*item, *age) as f32).collect()
}

/// Pearson's correlation.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let mean = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    let (at, bt) = (mean(a), mean(b));
    let sum = |of: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| of(f64::from(*a) - at, f64::from(*b) - bt)).sum::<f64>();
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

fn who() -> ModelName {
    ModelName::parse("who").expect("a valid name")
}

fn source() -> Source {
    Source { label: "visit".to_owned(), query: "SELECT * FROM experiment".to_owned(), rows: 0 }
}

#[test]
fn every_learner_recovers_sign_and_order_of_a_known_effect() {
    let (rows, fresh) = (experiment(24_000, 1, |_| 0.5, visits), experiment(4_000, 2, |_| 0.5, visits));
    for learner in LEARNERS {
        let trained = fit(&rows, &plan(learner), &options());
        let (found, truths) = (effects(&trained, &fresh.batch), truths(&fresh.batch));
        let correlation = correlation(&found, &truths);
        assert!(correlation > 0.8, "{learner}: correlation {correlation}");
        let of = |wanted: &dyn Fn(f32) -> bool| {
            let chosen: Vec<f32> = found.iter().zip(&truths).filter(|(_, truth)| wanted(**truth)).map(|(found, _)| *found).collect();
            chosen.iter().sum::<f32>() / chosen.len() as f32
        };
        let (harmed, helped) = (of(&|truth| truth < -0.05), of(&|truth| truth > 0.2));
        assert!(harmed < 0.0 && helped > 0.12, "{learner}: harmed {harmed}, helped {helped}");
        let Kind::Uplift(uplift) = trained.kind() else { panic!("{:?}", trained.kind()) };
        let gain = uplift.evaluation.as_ref().expect("rows of both arms are held out");
        assert!(gain.qini.unwrap() > 0.06 && gain.auuc.unwrap() > 0.05, "{learner}: {gain:?}");
        assert!((gain.ate - 0.1).abs() < 0.06 && (gain.predicted - 0.1).abs() < 0.04, "{learner}: {gain:?}");
        assert_eq!((gain.rows, uplift.outcome), (2_400, Output::Probability));
    }
}

#[test]
fn a_treatment_that_was_not_random_needs_its_propensity() {
    // The old are treated more often, and visit more often whatever happens.
    let chance = |age: f32| 0.2 + 0.6 * f64::from((age - 18.0) / 52.0);
    let rows = experiment(24_000, 3, chance, visits);
    let fresh = experiment(4_000, 4, chance, visits);
    for propensity in [Propensity::Given, Propensity::Learned] {
        for learner in [Learner::X, Learner::R] {
            let trained = fit(&rows, &Plan { propensity, ..plan(learner) }, &options());
            let correlation = correlation(&effects(&trained, &fresh.batch), &truths(&fresh.batch));
            assert!(correlation > 0.75, "{learner} with {propensity:?}: correlation {correlation}");
        }
    }
}

#[test]
fn amounts_have_an_uplift_too() {
    let spend = |rng: &mut ChaCha8Rng, item: u64, effect: f64| (100.0 * (base(item) + effect) + 20.0 * rng.random::<f64>()) as f32;
    let (rows, fresh) = (experiment(12_000, 5, |_| 0.5, spend), experiment(2_000, 6, |_| 0.5, spend));
    for learner in LEARNERS {
        let trained = fit(&rows, &plan(learner), &options());
        let found = effects(&trained, &fresh.batch);
        let worst = found.iter().zip(truths(&fresh.batch)).map(|(found, truth)| (found - 100.0 * truth).abs()).sum::<f32>() / 2_000.0;
        assert!(worst < 3.0, "{learner}: mean error {worst} of effects from -10 to 30");
        let Kind::Uplift(uplift) = trained.kind() else { panic!("{:?}", trained.kind()) };
        assert_eq!(uplift.outcome, Output::Number);
    }
}

#[test]
fn a_saved_model_gives_the_same_bits_and_is_one_version() {
    let rows = experiment(3_000, 8, |_| 0.5, visits);
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    for (learner, parts) in LEARNERS.into_iter().zip([1, 2, 3, 1]) {
        let propensity = if learner == Learner::X { Propensity::Learned } else { Propensity::Share };
        let options = TrainOptions { ensembles: 2, epochs: 2, ..options() };
        let trained = fit(&rows, &Plan { propensity, ..plan(learner) }, &options);
        let before = effects(&trained, &rows.batch);
        let version = trained.save(&registry, &who(), source(), None).unwrap();
        let manifest = registry.manifest(&who(), version).unwrap();
        assert_eq!(manifest.model_type(), format!("{learner}-learner"));
        assert_eq!(manifest.inputs().iter().map(|feature| feature.column.as_str()).collect::<Vec<_>>(), ["item", "age"]);
        // weights, and a graph for each net
        assert_eq!(manifest.files.len(), 1 + 2 * parts);
        let model = Model::load(&runtime(), &registry, &who(), version).unwrap();
        let after: Vec<f32> = model.predict(&Rows::Features(rows.batch.clone())).unwrap().task(0).collect();
        assert!(before.iter().map(|p| p.to_bits()).eq(after.iter().map(|p| p.to_bits())), "{learner}");
    }
    // It is nothing to begin a click training from, and no click model.
    let error = Start::load(&registry, &who(), 1).unwrap_err();
    assert_eq!(error.to_string(), "model \"who@1\" is an uplift model, which no training goes on from");
    assert!(ClickModel::load(&runtime(), &registry, &who(), 1).is_err());
}

#[test]
fn the_same_seed_gives_the_same_effects_and_another_seed_others() {
    let rows = experiment(2_000, 9, |_| 0.5, visits);
    let with = |seed: u64, threads: usize| {
        let options = TrainOptions { epochs: 2, seed, threads, ..options() };
        effects(&fit(&rows, &plan(Learner::R), &options), &rows.batch)
    };
    assert_eq!(with(1, 1), with(1, 2));
    assert_ne!(with(1, 1), with(2, 1));
}

#[test]
fn the_epochs_of_every_stage_are_seen_in_order() {
    let rows = experiment(2_000, 10, |_| 0.5, visits);
    let stages = |learner: Learner, propensity: Propensity, options: &TrainOptions| {
        let plan = Plan { propensity, ..plan(learner) };
        let trained = fit(&rows, &plan, options);
        let mut seen: Vec<(Stage, u32)> = trained.epochs().iter().map(|epoch| (epoch.stage.unwrap(), epoch.member)).collect();
        seen.dedup();
        let trials = trained.epochs().iter().filter(|epoch| epoch.epoch == 1).count();
        assert_eq!(trials as u32, plan.nets(options), "{learner}");
        seen
    };
    let two = TrainOptions { ensembles: 2, epochs: 1, ..options() };
    assert_eq!(stages(Learner::S, Propensity::Share, &two), [(Stage::Outcome, 1), (Stage::Outcome, 2)]);
    let expected = [(Stage::Treated, 1), (Stage::Treated, 2), (Stage::Control, 1), (Stage::Control, 2)];
    assert_eq!(stages(Learner::T, Propensity::Share, &two), expected);
    let one = TrainOptions { epochs: 1, trials: 2, ..options() };
    let expected = [Stage::Treated, Stage::Control, Stage::Propensity, Stage::EffectTreated, Stage::EffectControl];
    assert_eq!(stages(Learner::X, Propensity::Learned, &one), expected.map(|stage| (stage, 1)));
    let folds = (1..=5).map(|fold| (Stage::Outcome, fold)).chain([(Stage::Effect, 1)]).collect::<Vec<_>>();
    assert_eq!(stages(Learner::R, Propensity::Constant(0.5), &one), folds);
}

#[test]
fn rows_that_are_no_experiment_are_refused() {
    let refusal = |block: &Block, plan: &Plan| match try_fit(block, plan, &options()).expect_err("the rows are unusable") {
        Error::Data { reason, hint } => {
            assert!(!hint.is_empty());
            reason
        }
        other => panic!("{other}"),
    };
    let changed = |change: &dyn Fn(&mut [f32])| {
        let mut block = experiment(400, 11, |_| 0.5, visits);
        block.labels.chunks_exact_mut(3).for_each(change);
        block
    };
    let t = plan(Learner::T);
    assert_eq!(refusal(&changed(&|labels| labels[1] = 1.0), &t), "all 400 rows are treated");
    assert_eq!(refusal(&changed(&|labels| labels[1] = 0.0), &t), "all 400 rows are not treated");
    let only = changed(&|labels| labels[0] *= labels[1]);
    assert_eq!(refusal(&only, &t), "the rows that are not treated all have the outcome 0");
    assert_eq!(refusal(&changed(&|labels| labels[0] = f32::NAN), &t), "an outcome is NaN");
    let given = Plan { propensity: Propensity::Given, ..plan(Learner::R) };
    let sure = changed(&|labels| labels[2] = 1.0);
    assert_eq!(refusal(&sure, &given), "a propensity is 1, which is not between 0 and 1");
    let mut telling = experiment(400, 11, |_| 0.5, visits);
    telling.batch.numbers = telling.labels.chunks_exact(3).map(|labels| 5.0 - labels[1]).collect();
    for learner in LEARNERS {
        assert_eq!(refusal(&telling, &plan(learner)), "column \"age\" tells who was treated", "{learner}");
    }
    let two_tasks = TrainOptions { model_type: stratagem_models::click::ModelType::Esmm, ..options() };
    assert!(matches!(try_fit(&only, &t, &two_tasks), Err(Error::InvalidOption { .. })));
}

#[test]
fn a_manifest_from_before_uplift_models_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let block = item_and_age(500, 12, |_, _| 0.3);
    let trained = train(&runtime(), &support::examples(&block), &options(), None, &mut go_on, &AtomicBool::new(false)).unwrap();
    let version = trained.save(&registry, &who(), source(), None).unwrap();
    let manifest = registry.manifest(&who(), version).unwrap();
    let text = serde_json::to_value(&manifest).unwrap();
    assert!(text["epochs"][0].get("stage").is_none(), "a click model's manifest is as it was");
    assert_eq!(text["kind"], "click");
}
