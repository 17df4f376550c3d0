//! What a model takes from the rows it is given: their columns, through its TRANSFORM if it was trained with one, to its features.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::FieldRef;
use serde::{Deserialize, Serialize};
use stratagem_models::features::{Batch, Feature};
use stratagem_models::registry::Manifest;

use crate::error::{Error, Result};
use crate::features::{self, Encoder};
use crate::models::Error as ModelError;
use crate::prepare::{Bound, Fitted};

/// A transform as it is saved with a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Prepared {
    pub(crate) fitted: Fitted,
    /// Its columns that are no features: labels, and what marked held-out rows.
    pub(crate) except: Vec<String>,
}

impl Prepared {
    fn except(&self) -> Vec<&str> {
        self.except.iter().map(String::as_str).collect()
    }
}

/// What a version takes.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Its probabilities per row.
    tasks: usize,
    features: Vec<Feature>,
    prepared: Option<Prepared>,
}

impl Intake {
    /// What the manifest says.
    pub(crate) fn new(manifest: Manifest) -> Result<Self, ModelError> {
        let damaged = |reason: serde_json::Error| ModelError::Corrupt {
            object: format!("model \"{}@{}\"", manifest.name, manifest.version),
            reason: format!("its TRANSFORM: {reason}"),
        };
        let prepared = manifest.transform.clone().map(serde_json::from_value).transpose().map_err(damaged)?;
        Ok(Self { tasks: manifest.options.model_type.tasks(), features: manifest.features, prepared })
    }

    /// Probabilities per row: 1, or 2 for a model of clicks and of conversions after a click.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks
    }

    /// The names of the columns it reads.
    pub(crate) fn columns(&self) -> Vec<&str> {
        match &self.prepared {
            Some(prepared) => prepared.fitted.input_columns(&prepared.except()).into_iter().map(|(name, _)| name).collect(),
            None => features::columns(&self.features),
        }
    }

    /// Finds the columns among the fields of a row; `model` is named in errors.
    pub(crate) fn bind(&self, model: &str, fields: &[FieldRef]) -> Result<Reader, Error> {
        let Some(prepared) = &self.prepared else {
            return Ok(Reader { bound: None, encoder: Encoder::for_model(model, &self.features, fields)? });
        };
        let bound = prepared.fitted.bind(model, fields, &prepared.except())?;
        let encoder = Encoder::for_model(model, &self.features, bound.schema().fields())?;
        Ok(Reader { bound: Some(bound), encoder })
    }
}

/// Turns rows of certain columns into those of a model.
#[derive(Debug)]
pub(crate) struct Reader {
    bound: Option<Bound>,
    encoder: Encoder,
}

impl Reader {
    /// `rows` rows of the columns that were bound.
    pub(crate) fn read(&self, columns: &[ArrayRef], rows: usize) -> datafusion::common::Result<Batch> {
        match &self.bound {
            Some(bound) => self.encoder.encode(bound.apply(columns, rows)?.columns(), rows),
            None => self.encoder.encode(columns, rows),
        }
    }
}
