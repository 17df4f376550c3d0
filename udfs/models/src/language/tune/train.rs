//! A training from its rows to the best epoch.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::trainer::Trainer;
use super::{Adapted, Base, Evaluation, Objective, feature};
use crate::click::split::{self, Parts};
use crate::click::{Calibrate, Metric, ModelType, Progress, TrainOptions};
use crate::epochs::{self, Best};
use crate::error::{Error, Result};
use crate::examples::Examples;
use crate::features::Feature;
use crate::net::Parameter;
use crate::runtime::Runtime;

/// The steps of an epoch, at least, where the number of rows allows.
const STEPS: usize = 32;

/// Changes that are trained and not saved yet.
#[derive(Debug)]
pub struct Trained {
    /// Version of the runtime.
    pub(super) runtime: String,
    pub(super) adapted: Adapted,
    pub(super) features: Vec<Feature>,
    pub(super) options: TrainOptions,
    pub(super) epochs: Vec<Progress>,
    pub(super) kept: Progress,
    pub(super) rows: u64,
    pub(super) weights: Vec<Parameter>,
}

impl Trained {
    /// What was made.
    pub fn adapted(&self) -> &Adapted {
        &self.adapted
    }

    /// Figures of the epoch whose weights were kept.
    pub fn kept(&self) -> &Progress {
        &self.kept
    }
}

/// Trains changes of a language model. The examples have the columns of [`super::columns`] with the tokens by [`Base::read`] and no labels: prompt and
/// completion, or prompt, chosen and rejected completion. Else as [`crate::click::train`].
///
/// Errors: [`Error::Data`] when the rows cannot be used, [`Error::InvalidOption`], [`Error::Runtime`], [`Error::Canceled`].
pub fn train(
    runtime: &Arc<Runtime>,
    base: &Base,
    examples: &Examples,
    options: &TrainOptions,
    mut adapted: Adapted,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    stop: &AtomicBool,
) -> Result<Trained> {
    options.check()?;
    check_options(options)?;
    split::check_rows(examples)?;
    let rows = examples.rows() as u64;
    let parts = Parts::new(examples, options, &[rows], |_| 0)?;
    if parts.training == 0 {
        return Err(Error::data(format!("all {rows} rows are held out"), "choose another split, or a smaller validation share"));
    }
    // Few rows get steps enough, too.
    let batch = (parts.training / STEPS).next_power_of_two().clamp(2, 8);
    let options = TrainOptions { batch_size: options.batch_size.or(Some(batch)), ..options.clone() }.filled(parts.training, 0.5);
    let mut trainer = Trainer::new(runtime, base, examples, &parts, &options, adapted.objective, stop)?;
    let before = trainer.evaluate()?;
    let Best { weights, progress: kept, held: scored, epochs } = epochs::best(&mut trainer, &options, on_epoch)?;
    let own: usize = weights.iter().map(|weight| weight.values.len()).sum();
    let facts = base.decoder.facts();
    adapted.trainable = own as u64;
    adapted.parameters = facts.parameters + own as u64;
    adapted.evaluation = scored.loss().zip(before.loss()).map(|(loss, loss_before)| Evaluation {
        rows: scored.rows,
        tokens: scored.tokens,
        loss,
        loss_before,
        accuracy: (adapted.objective == Objective::Preference).then(|| scored.right as f64 / scored.rows as f64),
    });
    Ok(Trained {
        runtime: runtime.version().to_owned(),
        adapted,
        features: examples.columns.iter().map(|column| feature(column, facts)).collect(),
        options: options.clone(),
        epochs,
        kept,
        rows,
        weights,
    })
}

/// Options that mean nothing here.
fn check_options(options: &TrainOptions) -> Result<()> {
    let refused = [
        ("model_type", options.model_type != ModelType::Dcnv2),
        ("metric", options.metric == Metric::Auc),
        ("positive_weight", options.positive_weight != Some(1.0)),
        ("negative_sampling", options.negative_sampling < 1.0),
        ("calibration", options.calibration != Calibrate::None),
        ("label_smoothing", options.label_smoothing > 0.0),
        ("adversarial", options.adversarial > 0.0),
        ("ensembles", options.ensembles != 1),
        ("trials", options.trials != 1),
    ];
    match refused.into_iter().find(|(_, refused)| *refused) {
        Some((name, _)) => Err(Error::option(name, "it is not for the training of a language model: leave it out")),
        None => Ok(()),
    }
}
