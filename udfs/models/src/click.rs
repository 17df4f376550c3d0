//! Click and conversion models: train, save, load, score.

mod calibration;
mod fold;
pub(crate) mod model;
mod options;
mod piece;
pub(crate) mod search;
pub(crate) mod split;
mod start;
pub(crate) mod target;
pub(crate) mod trainer;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

pub use self::calibration::Calibration;
use self::model::Weights;
pub use self::model::{ClickModel, Scores};
pub(crate) use self::model::{Nets, Stored, net};
pub(crate) use self::options::choices;
pub use self::options::{Calibrate, Metric, ModelType, Precision, Schedule, Split, TrainOptions};
use self::split::Parts;
pub use self::start::Start;
use self::target::Target;
use self::trainer::{Job, Outcome};
use crate::error::{Error, Result};
use crate::examples::Examples;
use crate::features::Feature;
use crate::features::encode::Encoding;
use crate::features::learn::{Learned, Learner};
use crate::metrics;
use crate::net::{Net, Parameter};
use crate::registry::Kind;
use crate::runtime::Runtime;
use crate::uplift::Stage;

/// What one epoch gave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What the net is for, in an uplift model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// The setting that is tried, from 1.
    pub trial: u32,
    /// The net of the ensemble, from 1.
    pub member: u32,
    /// The epoch, from 1.
    pub epoch: u32,
    /// The epochs there will be at most.
    pub epochs: u32,
    /// Rows trained on in this epoch.
    pub rows: u64,
    /// Mean loss of the epoch's steps.
    pub train_loss: f64,
    /// Log loss of the held-out rows after the epoch; for a net that gives numbers their squared error, over the variance of the numbers.
    pub validation_loss: Option<f64>,
    /// Area under the ROC curve of the held-out rows after the epoch; `None` without held-out rows of both classes.
    pub validation_auc: Option<f64>,
    /// Seconds the epoch took, validation included.
    pub seconds: f64,
}

/// How good the whole model is on the held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Held-out rows.
    pub rows: u64,
    /// Log loss.
    pub logloss: f64,
    /// Area under the ROC curve.
    pub auc: Option<f64>,
    /// Expected calibration error with 15 bins of equal width (Guo et al. 2017).
    pub ece: f64,
    /// Predicted clicks over actual ones.
    pub predicted_over_actual: Option<f64>,
}

/// One net of a model.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) parameters: Vec<Parameter>,
    /// table rows x stride.
    pub(crate) table: Vec<f32>,
}

/// A trained model that is not saved yet.
pub struct Trained {
    pub(crate) runtime: Arc<Runtime>,
    /// What it is, as its manifest will say.
    pub(crate) kind: Kind,
    pub(crate) net: Net,
    pub(crate) features: Vec<Feature>,
    pub(crate) weights: Weights,
    /// The texts of the known values, by feature.
    pub(crate) texts: BTreeMap<usize, Vec<String>>,
    pub(crate) calibration: Vec<Calibration>,
    /// With every default filled in; those of the best trial.
    pub(crate) options: TrainOptions,
    /// All settings that were tried.
    pub(crate) trials: Vec<TrainOptions>,
    pub(crate) epochs: Vec<Progress>,
    pub(crate) kept: Progress,
    pub(crate) evaluation: Option<Evaluation>,
    pub(crate) leaks: Vec<String>,
    pub(crate) parent: Option<u32>,
    pub(crate) rows: u64,
    pub(crate) positives: u64,
}

/// Trains a click model.
///
/// Calls `on_epoch` after every epoch; `Break` or a set `stop` flag (looked at in every step) end the training with
/// [`Error::Canceled`]. The same examples, options and seed give the same model, byte for byte.
/// `start` is a saved version to go on from instead of random weights: its features and sizes stay.
///
/// Errors: [`Error::Data`] when the rows cannot be used,
/// [`Error::InvalidOption`], [`Error::Runtime`].
pub fn train(
    runtime: &Arc<Runtime>,
    examples: &Examples,
    options: &TrainOptions,
    start: Option<&Start>,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    stop: &AtomicBool,
) -> Result<Trained> {
    let options = start.map_or_else(|| options.clone(), |start| start.sizes(options));
    options.check()?;
    if examples.rows() > 0 && examples.tasks() != options.model_type.tasks() {
        let (tasks, labels) = (options.model_type.tasks(), examples.tasks());
        return Err(Error::option("model_type", format!("{} learns {tasks} labels, but the rows have {labels}", options.model_type)));
    }
    let (parts, classes) = split::clicks(examples, &options)?;
    let options = options.filled(parts.training, parts.positives[0] as f64 / parts.training as f64);
    let learned = learn(examples, &parts, &options, None)?;
    let parent = start.map(Start::version);
    let mut texts = examples.texts.clone();
    start.into_iter().for_each(|start| texts.merge(start.texts().clone()));
    let (learned, start) = match start {
        Some(start) => start.grow(learned)?,
        None => (learned, Vec::new()),
    };
    let encoding = Encoding::new(&learned.features, &learned.known, true);
    let target = Target::labels(examples.tasks());
    let job = Job { runtime, examples, parts: &parts, target, encoding: &encoding, uses: &learned.uses, stop };
    let mut epochs = Vec::new();
    let mut on_epoch = |progress: &Progress| {
        epochs.push(progress.clone());
        on_epoch(progress)
    };
    let (best, trials, first) = search::best(&job, &options, &start, None, &mut on_epoch)?;
    let options = trials[best].clone();
    let net = model::net(&encoding, &options);
    let kept = first.kept.clone();
    let mut outcomes = vec![first];
    for member in 1..options.ensembles {
        let own = TrainOptions { seed: options.seed.wrapping_add(u64::from(member)), ..options.clone() };
        let stamp = Progress { trial: kept.trial, member: member + 1, ..Progress::default() };
        outcomes.push(trainer::fit(&job, &own, &net, start.get(member as usize), &stamp, &mut on_epoch)?);
    }
    let (calibration, evaluation) = judge(&outcomes, &options, examples.tasks());
    let texts = learned.known.iter().enumerate().filter_map(|(feature, known)| Some((feature, texts.all(known)?))).collect();
    Ok(Trained {
        runtime: Arc::clone(runtime),
        kind: Kind::Click,
        net,
        features: learned.features,
        texts,
        weights: Weights { known: learned.known, members: outcomes.into_iter().map(|outcome| outcome.member).collect() },
        calibration,
        options,
        trials,
        epochs,
        kept,
        evaluation,
        leaks: learned.leaks,
        parent,
        rows: examples.rows() as u64,
        positives: classes[1],
    })
}

/// Learns the features from the training rows. `treated` is the label that tells who was treated, if there is one.
pub(crate) fn learn(examples: &Examples, parts: &Parts, options: &TrainOptions, treated: Option<usize>) -> Result<Learned> {
    let tasks = examples.tasks();
    let mut learner = Learner::new(&examples.columns);
    for index in 0..examples.windows() {
        let window = examples.window(index)?;
        let rows = window.first..window.first + window.rows;
        let rows: Vec<u32> = rows.filter(|row| parts.is_trained(window.start + row - window.first)).map(|row| row as u32).collect();
        if let Some(treated) = treated {
            learner.treatments(&rows, |row| window.block.labels[row as usize * tasks + treated]);
        }
        learner.add(&window.block.batch, &rows, |row| window.block.labels[row as usize * tasks]);
    }
    learner.finish((options.model_type == ModelType::Din).then(|| options.history.clone()))
}

/// Calibrates the mean logits of the nets on the held-out rows of each task, and says how good the clicks then are.
pub(crate) fn judge(outcomes: &[Outcome], options: &TrainOptions, tasks: usize) -> (Vec<Calibration>, Option<Evaluation>) {
    let rows = outcomes[0].labels.len() / tasks;
    let share = 1.0 / outcomes.len() as f32;
    let logit = |at: usize| outcomes.iter().map(|outcome| outcome.logits[at] * share).sum();
    let logits: Vec<f32> = (0..rows * tasks).map(logit).collect();
    let labels = &outcomes[0].labels;
    let mut calibrations = Vec::new();
    let mut evaluation = None;
    for task in 0..tasks {
        // A conversion is judged where there was a click.
        let judged: Vec<usize> = (0..rows).filter(|row| task == 0 || labels[row * tasks] > 0.5).map(|row| row * tasks + task).collect();
        let logits: Vec<f32> = judged.iter().map(|at| logits[*at]).collect();
        let labels: Vec<f32> = judged.iter().map(|at| labels[*at]).collect();
        let shift = if task == 0 { options.correction() } else { 0.0 };
        let calibration = Calibration::fit(options.calibration, &logits, &labels, shift);
        if task == 0 && !labels.is_empty() {
            let probabilities: Vec<f32> = logits.iter().map(|logit| calibration.probability(*logit)).collect();
            evaluation = Some(evaluate(&probabilities, &labels));
        }
        calibrations.push(calibration);
    }
    (calibrations, evaluation)
}

fn evaluate(probabilities: &[f32], labels: &[f32]) -> Evaluation {
    let clicks: f64 = labels.iter().map(|label| f64::from(*label)).sum();
    let predicted: f64 = probabilities.iter().map(|p| f64::from(*p)).sum();
    Evaluation {
        rows: labels.len() as u64,
        logloss: metrics::log_loss(probabilities, labels),
        auc: metrics::auc(probabilities, labels),
        ece: metrics::calibration_error(probabilities, labels),
        predicted_over_actual: (clicks > 0.0).then(|| predicted / clicks),
    }
}

impl fmt::Debug for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trained").field("options", &self.options).field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Trained {
    /// What it is: of clicks, or an uplift model.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What became of each raw column.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The options of the training, with every default filled in.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// The rows it was trained and validated on.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The settings that were tried, in order.
    pub fn trials(&self) -> &[TrainOptions] {
        &self.trials
    }

    /// Figures of every epoch.
    pub fn epochs(&self) -> &[Progress] {
        &self.epochs
    }

    /// Figures of the epoch whose weights were kept; of the first net, if there are several.
    pub fn kept(&self) -> &Progress {
        &self.kept
    }

    /// How good the whole model is on the held-out rows, after calibration; `None` without such rows.
    pub fn evaluation(&self) -> Option<&Evaluation> {
        self.evaluation.as_ref()
    }

    /// Columns that tell the label by themselves: probably written after the outcome.
    pub fn leaks(&self) -> &[String] {
        &self.leaks
    }
}
