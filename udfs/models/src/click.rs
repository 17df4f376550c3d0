//! Click and conversion models: train, save, load, score.

mod options;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

pub use self::options::{ModelType, TrainOptions};
use crate::error::{Error, Result};
use crate::features::{Batch, Examples, Feature};
use crate::registry::{ModelName, Registry, Source};
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
#[derive(Debug)]
pub struct Trained {}

/// Trains a click model.
///
/// Calls `on_epoch` after every epoch; `Break` or a set `stop` flag (looked at in every step) end the training with
/// [`Error::Canceled`]. The same examples, options and seed give the same model, byte for byte.
///
/// Errors: [`Error::Data`] when the rows cannot be used, [`Error::InvalidOption`], [`Error::Runtime`].
pub fn train(
    runtime: &Arc<Runtime>,
    examples: &Examples,
    options: &TrainOptions,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    stop: &AtomicBool,
) -> Result<Trained> {
    let _ = (runtime, examples, options, on_epoch, stop);
    Err(Error::Runtime { reason: "training is not part of this build".to_owned() })
}

impl Trained {
    /// Metrics of every epoch.
    pub fn epochs(&self) -> &[Progress] {
        &[]
    }

    /// The epoch whose weights were kept, from 1.
    pub fn best_epoch(&self) -> u32 {
        0
    }

    /// Saves the model as a new version of `name` and returns the version.
    pub fn save(self, registry: &Registry, name: &ModelName, source: Source) -> Result<u32> {
        let _ = (registry, name, source);
        Err(Error::Runtime { reason: "training is not part of this build".to_owned() })
    }
}

/// A saved model, ready to score. It may be used by many threads at a time.
#[derive(Debug)]
pub struct ClickModel {
    features: Vec<Feature>,
}

impl ClickModel {
    /// Reads a version from the registry and verifies its files.
    ///
    /// Errors: [`Error::NoSuchModel`], [`Error::NoSuchVersion`], [`Error::Corrupt`], [`Error::Runtime`].
    pub fn load(runtime: &Arc<Runtime>, registry: &Registry, name: &ModelName, version: u32) -> Result<Self> {
        let _ = runtime;
        registry.manifest(name, version).map(|m| Self { features: m.features })
    }

    /// The input columns, in the order of the training query. [`Batch`] holds the categories and the numbers among them in this order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The probability of a click for each row, within 0 to 1 and never NaN. Any number of rows may be given.
    pub fn predict(&self, batch: &Batch) -> Result<Vec<f32>> {
        let _ = batch;
        Err(Error::Runtime { reason: "scoring is not part of this build".to_owned() })
    }
}
