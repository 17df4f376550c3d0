//! A text model in memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Task, Text, likeliest, tags};
use crate::click::model::Weights;
use crate::click::{Nets, Stored, TrainOptions, Trained};
use crate::encoder::{Embedded, Engine, Sentence};
use crate::error::{Error, Result};
use crate::features::encode::Encoding;
use crate::features::{Batch, Feature, Values};
use crate::metrics::softmax;
use crate::registry::{Kind, Manifest};
use crate::runtime::Runtime;

/// A text model, ready to score. It may be used by many threads at a time.
pub struct TextModel {
    reader: Reader,
    text: Text,
}

/// What reads the texts.
enum Reader {
    Nets(Box<NetReader>),
    /// An encoder of its own, which gives the logits.
    Own(Arc<Engine>),
}

/// Nets over n-grams or over the vectors of an encoder.
struct NetReader {
    encoding: Encoding,
    nets: Nets,
    /// What each column holds.
    columns: Vec<Values>,
}

/// The shares of the classes of some texts.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    /// texts x classes.
    pub values: Vec<f32>,
    /// Tokens that were computed for them.
    pub tokens: usize,
    /// How many of the texts are longer than what the model reads.
    pub truncated: usize,
}

/// The tags of some sentences.
#[derive(Debug, Clone, Default)]
pub struct Tagged {
    /// For each sentence its words' tags, by their numbers, with their probabilities.
    pub tags: Vec<Vec<(usize, f32)>>,
    /// Tokens that were computed for them.
    pub tokens: usize,
    /// How many of the sentences are longer than what the model reads.
    pub truncated: usize,
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
        if nets.outputs() != text.task.outputs(text.classes.len()) {
            return Err(Error::corrupt("a text model", "its nets do not have an output for each class"));
        }
        let columns = features.iter().map(|feature| feature.values).collect();
        Ok(Self { reader: Reader::Nets(Box::new(NetReader { encoding, nets, columns })), text: text.clone() })
    }

    /// A model with an encoder of its own.
    pub(crate) fn tuned(text: Text, engine: Arc<Engine>) -> Self {
        Self { reader: Reader::Own(engine), text }
    }

    /// What it is.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// How many values it gives for a text.
    fn width(&self) -> usize {
        self.text.task.outputs(self.text.classes.len())
    }

    /// Turns what a net or a head gives into what the model is asked for.
    fn finish(&self, values: &mut [f32]) {
        match self.text.task {
            Task::Class | Task::Tags => values.chunks_exact_mut(self.width()).for_each(softmax),
            Task::Labels => values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp())),
            Task::Number { mean, scale } => values.iter_mut().for_each(|value| *value = (f64::from(*value) * scale + mean) as f32),
            Task::Pairs | Task::Likeness => {}
        }
    }

    /// What the model gives for each text, texts x classes (probabilities) or a number each, from [`super::grams`] or, where it reads the vectors of an encoder, from
    /// [`super::numbers`].
    ///
    /// Errors: [`Error::Data`] when the batch is of the other kind or its vectors have another length, or the model has an encoder of its own,
    /// [`Error::Runtime`].
    pub fn shares(&self, batch: &Batch) -> Result<Vec<f32>> {
        let Reader::Nets(reader) = &self.reader else {
            return Err(Error::data("the model has an encoder of its own", "give it the texts themselves"));
        };
        let NetReader { encoding, nets, columns } = &**reader;
        batch.check(columns.iter().copied())?;
        let mut shares = nets.logits(encoding, batch, 1)?;
        self.finish(&mut shares);
        Ok(shares)
    }

    /// What the model gives for each text, by an encoder of its own: as [`TextModel::shares`], or a vector each. Ends early with [`Error::Canceled`] once `stop` is set.
    ///
    /// Errors: [`Error::Data`] when it has none, [`Error::Runtime`].
    pub fn read(&self, texts: &[&str], stop: &AtomicBool) -> Result<Shares> {
        let Reader::Own(engine) = &self.reader else {
            return Err(Error::data("the model has no encoder of its own", "give it what it reads of the texts"));
        };
        let Embedded { vectors, tokens, truncated } = engine.embed(texts, stop)?;
        let mut values: Vec<f32> = vectors.iter().flat_map(|logits| logits.iter().copied()).collect();
        self.finish(&mut values);
        Ok(Shares { values, tokens, truncated })
    }

    /// The tags of the words of sentences, by their numbers, each with its probability. A word that was not read is outside of all spans; one that shares
    /// its token with the word before continues what that is part of. Ends early with [`Error::Canceled`] once `stop` is set.
    ///
    /// Errors: [`Error::Data`] when it gives no tags, [`Error::Runtime`].
    pub fn tag(&self, sentences: &[Sentence], stop: &AtomicBool) -> Result<Tagged> {
        let (Reader::Own(engine), Task::Tags) = (&self.reader, self.text.task) else {
            return Err(Error::data("the model gives no tags", "train one with task => 'token_classification'"));
        };
        let texts: Vec<&str> = sentences.iter().map(|sentence| sentence.text.as_str()).collect();
        let Embedded { vectors, tokens, truncated } = engine.embed(&texts, stop)?;
        let classes = &self.text.classes;
        let number = |tag: &str| classes.iter().position(|own| own == tag);
        let outside = (number(tags::OUTSIDE).unwrap_or(0), 1.0);
        let tag = |(sentence, logits): (&Sentence, &Arc<[f32]>)| -> Result<Vec<(usize, f32)>> {
            let mut shares = logits.to_vec();
            self.finish(&mut shares);
            let mut before = None;
            let places = engine.first_tokens(sentence)?.into_iter().map(|token| {
                let Some(token) = token else { return outside };
                let Some(shares) = shares.get(token * classes.len()..(token + 1) * classes.len()) else { return outside };
                let own = likeliest(shares);
                let again = before.replace(token) == Some(token);
                let inside = tags::label(&classes[own]).filter(|_| again).and_then(|(_, label)| number(&format!("I-{label}")));
                (inside.unwrap_or(own), shares[own])
            });
            Ok(places.collect())
        };
        let tags = sentences.iter().zip(&vectors).map(tag).collect::<Result<_>>()?;
        Ok(Tagged { tags, tokens, truncated })
    }

    /// The engine behind it, where it gives vectors.
    pub fn vectors(&self) -> Option<&Arc<Engine>> {
        match &self.reader {
            Reader::Own(engine) if self.text.task.gives_vectors() => Some(engine),
            Reader::Own(_) | Reader::Nets(_) => None,
        }
    }
}
