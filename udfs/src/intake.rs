//! What a model takes from the rows it is given: their columns, through its TRANSFORM if it was trained with one, to its features.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::FieldRef;
use serde::{Deserialize, Serialize};
use stratagem_models::features::Feature;
use stratagem_models::foreign::Element;
use stratagem_models::model::Rows;
use stratagem_models::registry::{Kind, Manifest};
use stratagem_models::text::Task;

use crate::error::{Error, Result};
use crate::features::{self, Encoder, PlainEncoder};
use crate::models::{Error as ModelError, Pinned};
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
pub(crate) enum Intake {
    /// The features of a model that was trained here, through its TRANSFORM.
    Features {
        /// Its probabilities per row.
        tasks: usize,
        /// Whether it gives an uplift instead.
        uplift: bool,
        /// What became of the columns.
        features: Vec<Feature>,
        /// The TRANSFORM.
        prepared: Option<Prepared>,
    },
    /// One text.
    Text(Texts),
    /// The columns of a graph that was made elsewhere.
    Plain(Vec<(String, Element)>),
}

/// What a text model takes, and what it gives.
#[derive(Debug)]
pub(crate) struct Texts {
    /// The column of the texts, where there are rows.
    pub(crate) column: String,
    /// What it has learned.
    pub(crate) task: Task,
}

impl Intake {
    /// What the manifest says.
    pub(crate) fn new(manifest: Manifest) -> Result<Self, ModelError> {
        if let Kind::Onnx(outline) = &manifest.kind {
            return Ok(Self::Plain(outline.columns().map(|(name, element)| (name.to_owned(), element)).collect()));
        }
        if let Kind::Language(_) = &manifest.kind {
            let reason = format!("model \"{}@{}\" is a language model, which scores no rows", manifest.name, manifest.version);
            return Err(ModelError::Data { reason, hint: "name it in ai.generate or generate_strategy: model => ...".to_owned() });
        }
        if let Kind::Text(text) = &manifest.kind {
            let column = manifest.inputs().first().map(|input| input.column.clone()).unwrap_or_default();
            return Ok(Self::Text(Texts { column, task: text.task }));
        }
        let damaged = |reason: serde_json::Error| ModelError::Corrupt {
            object: format!("model \"{}@{}\"", manifest.name, manifest.version),
            reason: format!("its TRANSFORM: {reason}"),
        };
        let prepared = manifest.transform.clone().map(serde_json::from_value).transpose().map_err(damaged)?;
        let uplift = matches!(manifest.kind, Kind::Uplift(_));
        Ok(Self::Features { tasks: manifest.options.model_type.tasks(), uplift, features: manifest.inputs().to_vec(), prepared })
    }

    /// Whether it gives an uplift, not a probability.
    pub(crate) fn is_uplift(&self) -> bool {
        match self {
            Self::Features { uplift, .. } => *uplift,
            Self::Text(_) | Self::Plain(_) => false,
        }
    }

    /// Checks that it gives a probability; `model` is named in the error.
    pub(crate) fn check_probability(&self, model: &Pinned) -> Result<()> {
        let (reason, hint) = match self {
            Self::Text(texts) => ("is a text model, which reads a text", texts.call()),
            _ if self.is_uplift() => ("is an uplift model, which gives no probability", "call predict_uplift with it"),
            _ => return Ok(()),
        };
        Err(Error::WrongModel { model: model.to_string(), reason, hint })
    }

    /// Checks that it gives an uplift; `model` is named in the error.
    pub(crate) fn check_uplift(&self, model: &Pinned) -> Result<()> {
        if self.is_uplift() {
            return Ok(());
        }
        let (reason, hint) = ("is no uplift model", "train one with finetune(..., task => 'uplift', treatment => ...)");
        Err(Error::WrongModel { model: model.to_string(), reason, hint })
    }

    /// Checks that it reads a text; `model` is named in the error.
    pub(crate) fn check_text(&self, model: &Pinned) -> Result<()> {
        if matches!(self, Self::Text(_)) {
            return Ok(());
        }
        let (reason, hint) =
            ("is no text model", "train one with finetune(..., task => 'text_classification'), or give labels to choose from");
        Err(Error::WrongModel { model: model.to_string(), reason, hint })
    }

    /// Checks that it is a text model with one of these tasks; `model` is named in the error.
    pub(crate) fn check_task(&self, model: &Pinned, fits: impl FnOnce(Task) -> bool) -> Result<(), Error> {
        self.check_text(model)?;
        match self {
            Self::Text(texts) if !fits(texts.task) => {
                Err(Error::WrongModel { model: model.to_string(), reason: texts.gives(), hint: texts.call() })
            }
            _ => Ok(()),
        }
    }

    /// Probabilities per row: 1, or 2 for a model of clicks and of conversions after a click.
    pub(crate) fn tasks(&self) -> usize {
        match self {
            Self::Features { tasks, .. } => *tasks,
            Self::Text(_) | Self::Plain(_) => 1,
        }
    }

    /// The names of the columns it reads.
    pub(crate) fn columns(&self) -> Vec<&str> {
        match self {
            Self::Features { prepared: Some(prepared), .. } => {
                prepared.fitted.input_columns(&prepared.except()).into_iter().map(|(name, _)| name).collect()
            }
            Self::Features { features, .. } => features::columns(features),
            Self::Text(texts) => vec![&texts.column],
            Self::Plain(columns) => columns.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }

    /// The select list of its TRANSFORM.
    pub(crate) fn transform(&self) -> Option<&str> {
        match self {
            Self::Features { prepared, .. } => prepared.as_ref().map(|prepared| prepared.fitted.select()),
            Self::Text(_) | Self::Plain(_) => None,
        }
    }

    /// Finds the columns among the fields of a row; `model` is named in errors.
    pub(crate) fn bind(&self, model: &str, fields: &[FieldRef]) -> Result<Reader, Error> {
        Ok(match self {
            Self::Features { features, prepared: None, .. } => {
                Reader::Features { bound: None, encoder: Encoder::for_model(model, features, fields)? }
            }
            Self::Features { features, prepared: Some(prepared), .. } => {
                let bound = prepared.fitted.bind(model, fields, &prepared.except())?;
                let encoder = Encoder::for_model(model, features, bound.schema().fields())?;
                Reader::Features { bound: Some(Box::new(bound)), encoder }
            }
            Self::Text(texts) => {
                let (reason, hint) = ("is a text model, which reads a text", texts.call());
                return Err(Error::WrongModel { model: model.to_owned(), reason, hint });
            }
            Self::Plain(columns) => Reader::Plain(PlainEncoder::new(model, columns, fields)?),
        })
    }
}

impl Texts {
    /// What it gives, in the words of an error.
    fn gives(&self) -> &'static str {
        match self.task {
            Task::Class => "gives classes",
            Task::Labels => "gives labels",
            Task::Number { .. } => "gives numbers",
            Task::Tags => "gives tags of words",
            Task::Pairs | Task::Likeness => "gives vectors",
        }
    }

    /// The call that it is for.
    fn call(&self) -> &'static str {
        match self.task {
            Task::Class | Task::Labels => "call ai.classify(text, model => ...) with it",
            Task::Number { .. } => "call ai.estimate(text, model) with it",
            Task::Tags => "call ai.entities(text, model) or ai.tags(words, model) with it",
            Task::Pairs | Task::Likeness => "call ai.embed(text, model => ...) with it",
        }
    }
}

/// Turns rows of certain columns into those of a model.
#[derive(Debug)]
pub(crate) enum Reader {
    Features { bound: Option<Box<Bound>>, encoder: Encoder },
    Plain(PlainEncoder),
}

impl Reader {
    /// `rows` rows of the columns that were bound.
    pub(crate) fn read(&self, columns: &[ArrayRef], rows: usize) -> datafusion::common::Result<Rows> {
        Ok(match self {
            Self::Features { bound: Some(bound), encoder } => Rows::Features(encoder.encode(bound.apply(columns, rows)?.columns(), rows)?),
            Self::Features { bound: None, encoder } => Rows::Features(encoder.encode(columns, rows)?),
            Self::Plain(encoder) => Rows::Plain(encoder.encode(columns, rows)?),
        })
    }
}
