//! A model of any kind: of clicks, of uplift or of texts, trained here; or made elsewhere.

use std::sync::Arc;

use crate::click::{self, ClickModel, Scores};
use crate::encoder::{Encoder, tune};
use crate::error::{Error, Result};
use crate::features::Batch;
use crate::foreign::{Foreign, GRAPH, Plain};
use crate::registry::{Kind, ModelName, Registry, Stored};
use crate::runtime::Runtime;
use crate::text::{Text, TextModel};
use crate::uplift::UpliftModel;

/// Where there are no encoders.
pub(crate) fn no_bases(name: &str) -> Result<Encoder> {
    Err(Error::NoSuchModel { name: name.to_owned(), known: Vec::new() })
}

/// A model, ready to score. It may be used by many threads at a time.
#[derive(Debug)]
pub enum Model {
    /// Of clicks, trained here.
    Click(Box<ClickModel>),
    /// Of uplift, trained here.
    Uplift(Box<UpliftModel>),
    /// Of texts, trained here.
    Text(Box<TextModel>),
    /// Made elsewhere.
    Onnx(Foreign),
}

/// Rows as a model of a kind takes them.
#[derive(Debug, Clone)]
pub enum Rows {
    /// For [`Model::Click`] and [`Model::Uplift`].
    Features(Batch),
    /// For [`Model::Onnx`].
    Plain(Plain),
}

impl Model {
    /// Reads a version from the registry and verifies its files.
    ///
    /// Errors: [`Error::NoSuchModel`], [`Error::NoSuchVersion`], [`Error::Corrupt`], [`Error::Runtime`].
    pub fn load(runtime: &Arc<Runtime>, registry: &Registry, name: &ModelName, version: u32) -> Result<Self> {
        Self::load_with(runtime, registry, name, version, &no_bases)
    }

    /// As [`Model::load`]; `bases` finds the encoder that a model was made of by low-rank changes.
    pub fn load_with(
        runtime: &Arc<Runtime>,
        registry: &Registry,
        name: &ModelName,
        version: u32,
        bases: &dyn Fn(&str) -> Result<Encoder>,
    ) -> Result<Self> {
        Self::new(runtime, &format!("model \"{name}@{version}\""), registry.read(name, version)?, bases)
    }

    /// A version by its files; `object` is named in errors.
    pub(crate) fn new(runtime: &Arc<Runtime>, object: &str, mut stored: Stored, bases: &dyn Fn(&str) -> Result<Encoder>) -> Result<Self> {
        match stored.manifest.kind {
            Kind::Click => {
                let stored = click::Stored::new(object, stored.manifest, stored.files)?;
                Ok(Self::Click(Box::new(stored.into_model(runtime)?)))
            }
            Kind::Uplift(_) => {
                let stored = click::Stored::new(object, stored.manifest, stored.files)?;
                Ok(Self::Uplift(Box::new(stored.into_uplift(runtime)?)))
            }
            Kind::Text(ref text @ Text { tuned: Some(ref tuned), .. }) => {
                Ok(Self::Text(Box::new(tune::load(runtime, object, text, tuned, stored.files, bases)?)))
            }
            Kind::Text(_) => {
                let stored = click::Stored::new(object, stored.manifest, stored.files)?;
                Ok(Self::Text(Box::new(stored.into_text(runtime)?)))
            }
            Kind::Language(_) => {
                let reason = format!("{object} is a language model, which scores no rows");
                Err(Error::data(reason, "name it in ai.generate or generate_strategy: model => ..."))
            }
            Kind::Onnx(outline) => {
                let graph = stored.files.remove(GRAPH).ok_or_else(|| Error::corrupt(object, format!("{GRAPH} is missing")))?;
                Ok(Self::Onnx(Foreign::new(runtime, object, outline, graph)?))
            }
        }
    }

    /// The probabilities for each row, within 0 to 1, or the uplift; NaN where a graph from elsewhere gives no number. Any number of rows may be given.
    ///
    /// Errors: [`Error::Data`] when the rows do not fit the model, [`Error::Runtime`].
    pub fn predict(&self, rows: &Rows) -> Result<Scores> {
        match (self, rows) {
            (Self::Click(model), Rows::Features(batch)) => model.predict(batch),
            (Self::Uplift(model), Rows::Features(batch)) => model.predict(batch),
            (Self::Onnx(model), Rows::Plain(plain)) => model.predict(plain),
            _ => Err(Error::data("the rows are not of the model's kind", "pass the columns that the model reads")),
        }
    }
}
