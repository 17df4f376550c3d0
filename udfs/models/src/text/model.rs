//! A text model in memory.

use std::fmt;
use std::sync::Arc;

use super::Text;
use crate::click::model::Weights;
use crate::click::{Nets, Stored, TrainOptions, Trained};
use crate::error::{Error, Result};
use crate::features::encode::Encoding;
use crate::features::{Batch, Feature, Values};
use crate::metrics::softmax;
use crate::registry::{Kind, Manifest};
use crate::runtime::Runtime;

/// A text model, ready to score. It may be used by many threads at a time.
pub struct TextModel {
    encoding: Encoding,
    nets: Nets,
    /// What each column holds.
    columns: Vec<Values>,
    text: Text,
}

impl fmt::Debug for TextModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextModel").field("text", &self.text).finish_non_exhaustive()
    }
}

impl Trained {
    /// The text model in memory, without saving it.
    ///
    /// Errors: [`Error::Data`] when it is none.
    pub fn text_model(&self) -> Result<TextModel> {
        TextModel::new(&self.runtime, &self.kind, &self.features, &self.options, self.weights.clone(), self.graphs()?)
    }
}

impl Stored {
    /// The text model in memory.
    pub(crate) fn into_text(self, runtime: &Arc<Runtime>) -> Result<TextModel> {
        let Self { manifest, weights, graphs, .. } = self;
        let Manifest { kind, features, options, .. } = manifest;
        TextModel::new(runtime, &kind, &features, &options, weights, graphs)
    }
}

impl TextModel {
    fn new(
        runtime: &Arc<Runtime>,
        kind: &Kind,
        features: &[Feature],
        options: &TrainOptions,
        weights: Weights,
        graphs: Vec<Vec<u8>>,
    ) -> Result<Self> {
        let Kind::Text(text) = kind else {
            return Err(Error::data("the model is no text model", "train one with task => 'text_classification'"));
        };
        // Texts come as in the training, also with numbers of a vector that are always the same.
        let encoding = Encoding::new(features, &weights.known, true);
        let nets = Nets::new(runtime, &encoding, options, weights.members, graphs)?;
        if nets.outputs() != text.classes.len() {
            return Err(Error::corrupt("a text model", "its nets do not have an output for each class"));
        }
        let columns = features.iter().map(|feature| feature.values).collect();
        Ok(Self { encoding, nets, columns, text: text.clone() })
    }

    /// What it is.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The probabilities of the classes for each text, texts x classes, from [`super::grams`] or, where it reads the vectors of an encoder, from
    /// [`super::numbers`].
    ///
    /// Errors: [`Error::Data`] when the batch is of the other kind or its vectors have another length, [`Error::Runtime`].
    pub fn shares(&self, batch: &Batch) -> Result<Vec<f32>> {
        batch.check(self.columns.iter().copied())?;
        let mut shares = self.nets.logits(&self.encoding, batch, 1)?;
        shares.chunks_exact_mut(self.text.classes.len()).for_each(softmax);
        Ok(shares)
    }
}
