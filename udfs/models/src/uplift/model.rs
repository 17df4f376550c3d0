//! An uplift model in memory.

use std::fmt;
use std::sync::Arc;

use super::{Learner, Uplift};
use crate::click::model::Weights;
use crate::click::{Calibration, Nets, Scores, Stored, TrainOptions, Trained};
use crate::error::{Error, Result};
use crate::features::encode::Encoding;
use crate::features::{Batch, Feature, id_of};
use crate::registry::{Kind, Manifest};
use crate::runtime::Runtime;

/// An uplift model, ready to score. It may be used by many threads at a time.
pub struct UpliftModel {
    features: Vec<Feature>,
    /// How rows are read: once, or by [`Learner::S`] as treated and then as not treated.
    encodings: Vec<Encoding>,
    calibration: Vec<Calibration>,
    nets: Nets,
    uplift: Uplift,
}

impl fmt::Debug for UpliftModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpliftModel").field("features", &self.features).field("uplift", &self.uplift).finish_non_exhaustive()
    }
}

impl Trained {
    /// The uplift model in memory, without saving it.
    ///
    /// Errors: [`Error::Data`] when it is none.
    pub fn uplift_model(&self) -> Result<UpliftModel> {
        let (weights, calibration) = (self.weights.clone(), self.calibration.clone());
        UpliftModel::new(&self.runtime, &self.kind, self.features.clone(), &self.options, calibration, weights, self.graphs()?)
    }
}

impl Stored {
    /// The uplift model in memory.
    pub(crate) fn into_uplift(self, runtime: &Arc<Runtime>) -> Result<UpliftModel> {
        let Self { manifest, weights, graphs, .. } = self;
        let Manifest { kind, features, options, calibration, .. } = manifest;
        UpliftModel::new(runtime, &kind, features, &options, calibration, weights, graphs)
    }
}

impl UpliftModel {
    fn new(
        runtime: &Arc<Runtime>,
        kind: &Kind,
        features: Vec<Feature>,
        options: &TrainOptions,
        calibration: Vec<Calibration>,
        weights: Weights,
        graphs: Vec<Vec<u8>>,
    ) -> Result<Self> {
        let Kind::Uplift(uplift) = kind else { return Err(Error::data("the model is no uplift model", "train one with task => 'uplift'")) };
        let encoding = Encoding::new(&features, &weights.known, false);
        let nets = Nets::new(runtime, &encoding, options, weights.members, graphs)?;
        let encodings = match uplift.learner {
            Learner::S => vec![encoding.with_last(id_of(1), true), encoding.with_last(id_of(0), true)],
            Learner::T | Learner::X | Learner::R => vec![encoding],
        };
        let features = uplift.inputs(&features).iter().filter(|feature| feature.is_used()).cloned().collect();
        Ok(Self { features, encodings, calibration, nets, uplift: uplift.clone() })
    }

    /// The raw columns it reads. [`Batch`] holds them by kind, each kind in this order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// What the treatment changes in the outcome of each row: in its probability, within -1 to 1, or in the expected number. Never NaN. Any
    /// number of rows may be given.
    ///
    /// Errors: [`Error::Data`] when the batch does not hold the features of the model, [`Error::Runtime`].
    pub fn predict(&self, batch: &Batch) -> Result<Scores> {
        batch.check(self.features.iter().map(|feature| feature.values))?;
        let parts = self.uplift.parts.len();
        let read = self.encodings.iter().map(|encoding| self.nets.logits(encoding, batch, parts)).collect::<Result<Vec<_>>>()?;
        let mut values = Vec::with_capacity(parts * read.len());
        let effect = |row: usize| {
            values.clear();
            for logits in &read {
                let own = logits[row * parts..][..parts].iter().zip(&self.uplift.parts).zip(&self.calibration);
                values.extend(own.map(|((logit, part), calibration)| calibration.value(self.uplift.output(*part), *logit)));
            }
            self.uplift.effect(&values)
        };
        Ok(Scores::new(1, (0..batch.rows).map(effect).collect()))
    }
}

impl Uplift {
    /// The features that a row has: without the treatment, which [`Learner::S`] sets itself.
    pub fn inputs<'f>(&self, features: &'f [Feature]) -> &'f [Feature] {
        match self.learner {
            Learner::S => &features[..features.len().saturating_sub(1)],
            Learner::T | Learner::X | Learner::R => features,
        }
    }
}
