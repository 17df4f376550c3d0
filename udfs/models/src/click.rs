//! Click and conversion models: train, save, load, score.

mod model;
mod options;
mod prepare;
mod trainer;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

pub use self::model::ClickModel;
pub use self::options::{ModelType, TrainOptions};
use self::prepare::Prepared;
use self::trainer::{Stream, Trainer, random};
use crate::dcnv2::{Dcnv2, Parameter};
use crate::error::Result;
use crate::features::{Examples, Feature};
use crate::runtime::Runtime;

/// What one epoch gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The epoch, from 1.
    pub epoch: u32,
    /// The epochs there will be at most.
    pub epochs: u32,
    /// Rows trained on in this epoch.
    pub rows: u64,
    /// Mean log loss of the epoch's steps.
    pub train_loss: f64,
    /// Log loss of the validation rows after the epoch.
    pub validation_loss: Option<f64>,
    /// Area under the ROC curve of the validation rows after the epoch; `None` without validation rows of both classes.
    pub validation_auc: Option<f64>,
    /// Seconds the epoch took, validation included.
    pub seconds: f64,
}

/// A trained model that is not saved yet.
pub struct Trained {
    runtime: Arc<Runtime>,
    net: Dcnv2,
    features: Vec<Feature>,
    /// With every default filled in.
    options: TrainOptions,
    parameters: Vec<Parameter>,
    /// table rows x embedding dim.
    table: Vec<f32>,
    epochs: Vec<Progress>,
    best_epoch: u32,
    rows: u64,
    positives: u64,
}

/// Trains a click model.
///
/// Calls `on_epoch` after every epoch; `Break` or a set `stop` flag (looked at in every step) end the training with
/// [`Error::Canceled`](crate::Error::Canceled). The same examples, options and seed give the same model, byte for byte.
///
/// Errors: [`Error::Data`](crate::Error::Data) when the rows cannot be used,
/// [`Error::InvalidOption`](crate::Error::InvalidOption), [`Error::Runtime`](crate::Error::Runtime).
pub fn train(
    runtime: &Arc<Runtime>,
    examples: &Examples,
    options: &TrainOptions,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    stop: &AtomicBool,
) -> Result<Trained> {
    options.check()?;
    let prepared = Prepared::new(examples, options, &mut random(options.seed, Stream::Split))?;
    let positive_share = prepared.positives as f64 / examples.batch.rows as f64;
    let options = options.filled(prepared.training.len(), positive_share, prepared.table_rows);
    let net = model::net(&prepared.layout, &options);
    let outcome = Trainer::new(runtime, &prepared, &options, net.clone())?.run(on_epoch, stop)?;
    Ok(Trained {
        runtime: Arc::clone(runtime),
        net,
        features: prepared.features,
        options,
        parameters: outcome.parameters,
        table: outcome.table,
        epochs: outcome.epochs,
        best_epoch: outcome.best_epoch,
        rows: examples.batch.rows as u64,
        positives: prepared.positives,
    })
}

impl fmt::Debug for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trained").field("options", &self.options).field("best_epoch", &self.best_epoch).finish_non_exhaustive()
    }
}

impl Trained {
    /// The input columns with the statistics of the training rows.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The options of the training, with every default filled in.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Metrics of every epoch.
    pub fn epochs(&self) -> &[Progress] {
        &self.epochs
    }

    /// The epoch whose weights were kept, from 1.
    pub fn best_epoch(&self) -> u32 {
        self.best_epoch
    }
}
