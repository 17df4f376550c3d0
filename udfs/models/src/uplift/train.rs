//! The stages of a training: one after the other, on the same features and the same held-out rows.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::arms::{Arms, stratum};
use super::{Gain, Learner, Plan, Propensity, Stage, Uplift};
use crate::click::model::{self, Weights};
use crate::click::split::{self, Parts};
use crate::click::target::Target;
use crate::click::trainer::{self, Job, Outcome};
use crate::click::{Calibrate, Calibration, Member, Metric, Progress, TrainOptions, Trained, judge, learn, search};
use crate::error::{Error, Result};
use crate::examples::{Block, Examples};
use crate::features::encode::Encoding;
use crate::features::{Batch, Column, Treatment, Values, id_of};
use crate::metrics;
use crate::net::Output;
use crate::registry::Kind;
use crate::runtime::Runtime;

/// Parts of the rows that [`Learner::R`] predicts by nets that have not seen them (Nie and Wager 2021, "cross-fitting").
pub(super) const FOLDS: usize = 5;

/// Propensities are kept this far from 0 and 1, so that no row counts without bound.
const OVERLAP: f32 = 0.01;

/// The column of the treatment among the columns of [`Learner::S`], of which it must be the last.
pub fn column(plan: &Plan, sql_type: &str) -> Option<Column> {
    let column = Column { treatment: Some(Treatment::Category), ..Column::new(&plan.treatment, sql_type, Values::Id) };
    (plan.learner == Learner::S).then_some(column)
}

/// Rows of a training, from their features and their labels: outcome, treatment and perhaps propensity. They have the column of [`column()`].
pub fn rows(plan: &Plan, mut batch: Batch, labels: Vec<f32>, split: Vec<f64>) -> Block {
    if plan.learner == Learner::S && batch.rows > 0 {
        let (width, tasks) = (batch.ids.len() / batch.rows, labels.len() / batch.rows);
        let row = |row: usize| batch.ids[row * width..][..width].iter().copied().chain([id_of(i64::from(labels[row * tasks + 1] > 0.5))]);
        batch.ids = (0..batch.rows).flat_map(row).collect();
    }
    Block { batch, labels, split }
}

/// Trains an uplift model on rows that [`rows`] has made.
///
/// The stages of the learner follow one another; [`Progress::stage`] tells them apart. All of them hold out the same rows. The first one
/// searches for settings where [`TrainOptions::trials`] asks for it, the others take what it found. Else as [`crate::click::train`].
///
/// Errors: [`Error::Data`] when the rows cannot be used, [`Error::InvalidOption`], [`Error::Runtime`], [`Error::Canceled`].
pub fn train(
    runtime: &Arc<Runtime>,
    examples: &Examples,
    options: &TrainOptions,
    plan: &Plan,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    stop: &AtomicBool,
) -> Result<Trained> {
    options.check()?;
    if options.model_type.tasks() != 1 {
        let reason = format!("{} learns clicks and conversions, an uplift model one outcome", options.model_type);
        return Err(Error::option("model_type", reason));
    }
    split::check_rows(examples)?;
    let arms = Arms::read(examples, plan.propensity == Propensity::Given)?;
    let parts = Parts::new(examples, options, &arms.strata(), stratum)?;
    arms.check_training(&parts)?;
    let learned = learn(examples, &parts, options, Some(1))?;
    let own = |column: &&String| plan.learner != Learner::S || **column != plan.treatment;
    if let Some(column) = learned.telling.iter().find(own) {
        let hint = format!("leave {column} out of the query: nobody's features say whether they will be treated");
        return Err(Error::data(format!("column \"{column}\" tells who was treated"), hint));
    }
    if !learned.features.iter().any(|feature| feature.is_used() && feature.column != plan.treatment) {
        return Err(Error::data("no column of the training query can tell the rows apart", "select columns with different values"));
    }
    let encoding = Encoding::new(&learned.features, &learned.known, true);
    let target = Target::outcomes(&arms.outcomes);
    let job = Job { runtime, examples, parts: &parts, target, encoding: &encoding, uses: &learned.uses, stop };
    let mut stages = Stages { job, arms: &arms, options: options.clone(), trials: Vec::new(), trial: 1, epochs: Vec::new(), on_epoch };
    let fitted = stages.all(plan)?;

    let treated = arms.treated.iter().filter(|treated| **treated > 0.5).count();
    let share = match plan.propensity {
        Propensity::Constant(share) => share,
        Propensity::Given => mean(&arms.propensities),
        Propensity::Share | Propensity::Learned => arms.share(&parts),
    };
    let mut uplift = Uplift {
        learner: plan.learner,
        treatment: plan.treatment.clone(),
        outcome: arms.output,
        propensity: plan.propensity,
        treated: treated as u64,
        share,
        parts: fitted.iter().map(|part| part.stage).collect(),
        evaluation: None,
    };
    uplift.evaluation = stages.gain(&uplift, &fitted)?;
    let Stages { options, trials, epochs, .. } = stages;
    let options = options.filled(parts.training, 0.5);
    let net = model::net(&encoding, &options);
    let texts = learned.known.iter().enumerate().filter_map(|(feature, known)| Some((feature, examples.texts.all(known)?))).collect();
    let kept = fitted.last().map(|last| last.kept.clone()).unwrap_or_default();
    let (calibration, members): (Vec<_>, Vec<_>) = fitted.into_iter().map(|part| (part.calibration, part.members)).unzip();
    Ok(Trained {
        runtime: Arc::clone(runtime),
        kind: Kind::Uplift(uplift),
        net,
        features: learned.features,
        texts,
        weights: Weights { known: learned.known, members: members.concat() },
        calibration,
        options,
        trials,
        epochs,
        kept,
        evaluation: None,
        leaks: learned.leaks,
        parent: None,
        rows: examples.rows() as u64,
        positives: arms.outcomes.iter().filter(|outcome| **outcome > 0.5).count() as u64,
    })
}

/// The nets of a stage.
struct Fitted {
    stage: Stage,
    output: Output,
    members: Vec<Member>,
    calibration: Calibration,
    /// Figures of the first net's kept epoch.
    kept: Progress,
}

/// What a stage learns, by row.
#[derive(Clone, Copy)]
struct Goal<'v> {
    output: Output,
    values: &'v [f32],
    /// Empty when all rows count the same.
    weights: &'v [f32],
}

/// A training of several stages.
struct Stages<'a> {
    /// With the parts of all rows.
    job: Job<'a>,
    arms: &'a Arms,
    /// From the first stage on with the sizes and rates that it has found.
    options: TrainOptions,
    trials: Vec<TrainOptions>,
    /// The number of the best trial, from 1.
    trial: u32,
    epochs: Vec<Progress>,
    on_epoch: &'a mut dyn FnMut(&Progress) -> ControlFlow<()>,
}

impl Stages<'_> {
    /// Trains all stages of a learner; gives the nets that score.
    fn all(&mut self, plan: &Plan) -> Result<Vec<Fitted>> {
        let arms = self.arms;
        let outcome = Goal { output: arms.output, values: &arms.outcomes, weights: &[] };
        if plan.learner == Learner::R {
            return self.residuals(plan);
        }
        if plan.learner == Learner::S {
            return Ok(vec![self.fit(Stage::Outcome, outcome, None, |_| true)?]);
        }
        let treated = self.fit(Stage::Treated, outcome, None, |row| arms.is_treated(row))?;
        let control = self.fit(Stage::Control, outcome, None, |row| !arms.is_treated(row))?;
        if plan.learner == Learner::T {
            return Ok(vec![treated, control]);
        }
        let propensity = match plan.propensity {
            Propensity::Learned => Some(self.fit(Stage::Propensity, treatment(arms), None, |_| true)?),
            Propensity::Share | Propensity::Constant(_) | Propensity::Given => None,
        };
        // What the other arm's net would have expected.
        let mut effects = vec![0.0; arms.outcomes.len()];
        self.predict(&control, |row| arms.is_treated(row), |row, expected| effects[row] = arms.outcomes[row] - expected)?;
        self.predict(&treated, |row| !arms.is_treated(row), |row, expected| effects[row] = expected - arms.outcomes[row])?;
        let effect = Goal { output: Output::Number, values: &effects, weights: &[] };
        let mut fitted = vec![self.fit(Stage::EffectTreated, effect, None, |row| arms.is_treated(row))?];
        fitted.push(self.fit(Stage::EffectControl, effect, None, |row| !arms.is_treated(row))?);
        fitted.extend(propensity);
        Ok(fitted)
    }

    /// The stages of [`Learner::R`].
    fn residuals(&mut self, plan: &Plan) -> Result<Vec<Fitted>> {
        let (arms, parts) = (self.arms, self.job.parts);
        let rows = arms.outcomes.len();
        let outcome = Goal { output: arms.output, values: &arms.outcomes, weights: &[] };
        let expected = self.crossed(Stage::Outcome, outcome)?;
        let propensities = match plan.propensity {
            Propensity::Share => vec![arms.share(parts); rows],
            Propensity::Constant(share) => vec![share; rows],
            Propensity::Given => arms.propensities.clone(),
            Propensity::Learned => self.crossed(Stage::Propensity, treatment(arms))?,
        };
        let (mut effects, mut weights) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for row in 0..rows {
            let residual = arms.treated[row] - propensities[row].clamp(OVERLAP, 1.0 - OVERLAP);
            effects.push((arms.outcomes[row] - expected[row]) / residual);
            weights.push(residual * residual);
        }
        let effect = Goal { output: Output::Number, values: &effects, weights: &weights };
        Ok(vec![self.fit(Stage::Effect, effect, None, |_| true)?])
    }

    /// What each row is expected to be by nets that were not trained on it; a held-out row by all of them.
    fn crossed(&mut self, stage: Stage, goal: Goal<'_>) -> Result<Vec<f32>> {
        let parts = self.job.parts;
        let mut expected = vec![0.0; goal.values.len()];
        for fold in 0..FOLDS {
            let other = |row: usize| parts.is_held(row) || row % FOLDS != fold;
            let fitted = self.fit(stage, goal, Some(fold as u32), other)?;
            let share = |row: usize| if parts.is_held(row) { 1.0 / FOLDS as f32 } else { 1.0 };
            self.predict(&fitted, |row| parts.is_held(row) || row % FOLDS == fold, |row, value| expected[row] += value * share(row))?;
        }
        Ok(expected)
    }

    /// Trains the nets of a stage on the rows that `keep` leaves: as many as the ensemble has, or one for a fold.
    fn fit(&mut self, stage: Stage, goal: Goal<'_>, fold: Option<u32>, keep: impl Fn(usize) -> bool) -> Result<Fitted> {
        let parts = self.job.parts.narrowed(goal.values.len(), keep, |row| goal.values[row]);
        let numbers;
        let (target, linear) = match goal.output {
            Output::Probability => (Target::outcomes(goal.values), None),
            Output::Number => {
                numbers = Standard::new(goal, &parts);
                (Target::numbers(&numbers.values, &numbers.weights), Some(numbers.back.clone()))
            }
        };
        let options = self.options_of(goal.output, &parts);
        let job = Job { parts: &parts, target, ..self.job };
        let (epochs, on_epoch) = (&mut self.epochs, &mut *self.on_epoch);
        let mut on_epoch = |progress: &Progress| {
            epochs.push(progress.clone());
            on_epoch(progress)
        };
        let first = fold.unwrap_or(0);
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut options = options;
        if self.trials.is_empty() {
            let (best, trials, found) = search::best(&job, &options, &[], Some(stage), &mut on_epoch)?;
            options = trials[best].clone();
            // What follows from the number of rows is settled anew in each stage.
            let (batch_size, positive_weight) = (self.options.batch_size, self.options.positive_weight);
            let settled = TrainOptions { batch_size, positive_weight, ..options.clone() };
            self.options = TrainOptions { metric: self.options.metric, calibration: self.options.calibration, ..settled };
            (self.trial, self.trials) = (best as u32 + 1, trials);
            outcomes.push(found);
        }
        let net = model::net(job.encoding, &options);
        let last = if fold.is_some() { first + 1 } else { options.ensembles };
        for member in first + outcomes.len() as u32..last {
            let own = TrainOptions { seed: options.seed.wrapping_add(u64::from(member)), ..options.clone() };
            let stamp = Progress { stage: Some(stage), trial: self.trial, member: member + 1, ..Progress::default() };
            outcomes.push(trainer::fit(&job, &own, &net, None, &stamp, &mut on_epoch)?);
        }
        let calibration = match linear {
            Some(linear) => linear,
            None => judge(&outcomes, &options, 1).0.remove(0),
        };
        let kept = outcomes[0].kept.clone();
        let members = outcomes.into_iter().map(|outcome| outcome.member).collect();
        Ok(Fitted { stage, output: goal.output, members, calibration, kept })
    }

    /// The options of a stage. What is about two classes is not about numbers.
    fn options_of(&self, output: Output, parts: &Parts) -> TrainOptions {
        let share = parts.positives[0] as f64 / parts.training.max(1) as f64;
        match output {
            Output::Probability => self.options.filled(parts.training, share),
            Output::Number => TrainOptions {
                positive_weight: Some(1.0),
                negative_sampling: 1.0,
                label_smoothing: 0.0,
                metric: Metric::Logloss,
                calibration: Calibrate::None,
                ..self.options.filled(parts.training, 0.5)
            },
        }
    }

    /// Shows what the nets of a stage say of rows.
    fn predict(&self, fitted: &Fitted, wanted: impl Fn(usize) -> bool + Copy, mut see: impl FnMut(usize, f32)) -> Result<()> {
        let rows = self.arms.outcomes.len();
        let values = self.values(fitted, self.job.encoding, wanted)?;
        (0..rows).filter(|row| wanted(*row)).zip(values).for_each(|(row, value)| see(row, value));
        Ok(())
    }

    /// What the nets of a stage say of the rows that are wanted, in their order.
    fn values(&self, fitted: &Fitted, encoding: &Encoding, wanted: impl Fn(usize) -> bool) -> Result<Vec<f32>> {
        let job = Job { encoding, ..self.job };
        let threads = self.options.filled(1, 0.5).threads;
        let logits = trainer::logits(&job, &model::net(encoding, &self.options), &fitted.members, threads, wanted)?;
        Ok(logits.into_iter().map(|logit| fitted.calibration.value(fitted.output, logit)).collect())
    }

    /// How good the whole model is on the held-out rows.
    fn gain(&self, uplift: &Uplift, fitted: &[Fitted]) -> Result<Option<Gain>> {
        let (arms, parts, encoding) = (self.arms, self.job.parts, self.job.encoding);
        let held: Vec<usize> = (0..arms.outcomes.len()).filter(|row| parts.is_held(*row)).collect();
        let arm = |treated: bool| mean_of(held.iter().filter(|row| arms.is_treated(**row) == treated).map(|row| arms.outcomes[*row]));
        let (Some(treated), Some(control)) = (arm(true), arm(false)) else { return Ok(None) };
        let encodings = match uplift.learner {
            Learner::S => vec![encoding.with_last(id_of(1), false), encoding.with_last(id_of(0), false)],
            Learner::T | Learner::X | Learner::R => vec![encoding.clone()],
        };
        let mut values = Vec::new();
        for encoding in &encodings {
            for part in fitted {
                values.push(self.values(part, encoding, |row| parts.is_held(row))?);
            }
        }
        let effect = |at: usize| uplift.effect(&values.iter().map(|values| values[at]).collect::<Vec<_>>());
        let effects: Vec<f32> = (0..held.len()).map(effect).collect();
        let of = |values: &[f32]| held.iter().map(|row| values[*row]).collect::<Vec<f32>>();
        let (outcomes, treatments) = (of(&arms.outcomes), of(&arms.treated));
        let (qini, auuc) = match arms.output {
            Output::Probability => metrics::qini_and_auuc(&effects, &outcomes, &treatments),
            // No order is a perfect one of amounts.
            Output::Number => (None, None),
        };
        let predicted = f64::from(mean(&effects));
        Ok(Some(Gain { rows: held.len() as u64, qini, auuc, ate: treated - control, predicted }))
    }
}

/// Being treated, as what is to be predicted.
fn treatment(arms: &Arms) -> Goal<'_> {
    Goal { output: Output::Probability, values: &arms.treated, weights: &[] }
}

fn mean_of(values: impl Iterator<Item = f32>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += f64::from(value);
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

fn mean(values: &[f32]) -> f32 {
    mean_of(values.iter().copied()).unwrap_or(f64::NAN) as f32
}

impl Arms {
    /// The share of treated rows among those that are trained on.
    fn share(&self, parts: &Parts) -> f32 {
        let trained = (0..self.treated.len()).filter(|row| parts.is_trained(*row));
        mean_of(trained.map(|row| self.treated[row])).unwrap_or(0.5) as f32
    }
}

/// Numbers of mean 0 and variance 1 over the rows that are trained on, with weights of mean 1.
struct Standard {
    values: Vec<f32>,
    weights: Vec<f32>,
    /// From a net's output to the number.
    back: Calibration,
}

impl Standard {
    fn new(goal: Goal<'_>, parts: &Parts) -> Self {
        let Goal { values, weights, .. } = goal;
        let weight = |row: usize| weights.get(row).copied().map_or(1.0, f64::from);
        let trained = || (0..values.len()).filter(|row| parts.is_trained(*row));
        let sum = |of: &dyn Fn(usize) -> f64| trained().map(|row| weight(row) * of(row)).sum::<f64>();
        let total = sum(&|_| 1.0);
        let mean = sum(&|row| f64::from(values[row])) / total;
        let deviation = (sum(&|row| (f64::from(values[row]) - mean).powi(2)) / total).sqrt();
        let deviation = if deviation.is_normal() { deviation } else { 1.0 };
        let scale = trained().count() as f64 / total;
        Self {
            values: values.iter().map(|value| ((f64::from(*value) - mean) / deviation) as f32).collect(),
            weights: weights.iter().map(|weight| (f64::from(*weight) * scale) as f32).collect(),
            back: Calibration { scale: deviation as f32, shift: mean as f32, steps: Vec::new() },
        }
    }
}
