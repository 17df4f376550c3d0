//! What a saved version says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ModelName, sha256};
use crate::click::{Calibration, Evaluation, Progress, TrainOptions};
use crate::features::Feature;
use crate::foreign::Outline;
use crate::language::tune::Adapted;
use crate::text::Text;
use crate::uplift::Uplift;

/// Version of the layout of a manifest and the files beside it.
pub(crate) const FORMAT: u32 = 2;

/// What kind of model a version is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A click model that was trained here.
    #[default]
    Click,
    /// An uplift model that was trained here.
    Uplift(Uplift),
    /// A text model that was trained here.
    Text(Text),
    /// Changes of a language model that were trained here.
    Language(Box<Adapted>),
    /// A graph that was made elsewhere. What the manifest says of a training is empty.
    Onnx(Outline),
}

impl Kind {
    /// How many ensembles of nets it has.
    pub(crate) fn parts(&self) -> u32 {
        match self {
            Self::Uplift(uplift) => uplift.parts.len() as u32,
            Self::Click | Self::Text(_) | Self::Language(_) | Self::Onnx(_) => 1,
        }
    }

    /// Whether it was trained here.
    pub fn is_trained(&self) -> bool {
        match self {
            Self::Click | Self::Uplift(_) | Self::Text(_) | Self::Language(_) => true,
            Self::Onnx(_) => false,
        }
    }
}

/// Everything needed to load a version, to judge it and to train it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout, now 2.
    pub format: u32,
    /// The model's name.
    pub name: ModelName,
    /// The version, from 1.
    pub version: u32,
    /// What kind of model it is.
    #[serde(default)]
    pub kind: Kind,
    /// The version whose weights the training started from, if any.
    pub parent: Option<u32>,
    /// When it was saved, RFC 3339 in UTC.
    pub created_at: String,
    /// Where the training rows came from.
    pub source: Source,
    /// SHA-256 of the source query's text.
    pub source_sha256: String,
    /// Training and validation rows together.
    pub rows: u64,
    /// Rows with label 1 among them (with an outcome above one half, where it is a number).
    pub positives: u64,
    /// The seed; with the same rows and options it gives the same weights.
    pub seed: u64,
    /// What became of each raw column of the training query.
    pub features: Vec<Feature>,
    /// How the columns were prepared before they became features; none if they were taken as they are.
    pub transform: Option<serde_json::Value>,
    /// The options of the training, with every default filled in.
    pub options: TrainOptions,
    /// From the mean logit of the nets to the probability, for each task; for each part of an uplift model.
    pub calibration: Vec<Calibration>,
    /// Figures of every epoch.
    pub epochs: Vec<Progress>,
    /// Figures of the epoch whose weights were kept; of the first net, if there are several.
    pub kept: Progress,
    /// How good the whole model is on the held-out rows; none without such rows.
    pub evaluation: Option<Evaluation>,
    /// Version of ONNX Runtime that trained it.
    pub runtime: String,
    /// The other files of the version.
    pub files: BTreeMap<String, FileFacts>,
}

impl Manifest {
    /// The architecture in a word; the meta-learner of an uplift model; what a text model reads; what a language model was made of; `onnx` for a graph that was made elsewhere.
    pub fn model_type(&self) -> String {
        match &self.kind {
            Kind::Click => self.options.model_type.to_string(),
            Kind::Uplift(uplift) => format!("{}-learner", uplift.learner),
            Kind::Text(text) => {
                let method = text.tuned.as_ref().map(|tuned| format!(", {}", tuned.tune.method)).unwrap_or_default();
                format!("text, {}{method}", text.encoder.as_deref().unwrap_or("ngram"))
            }
            Kind::Language(adapted) => format!("language, {}, lora", adapted.base),
            Kind::Onnx(_) => "onnx".to_owned(),
        }
    }

    /// What there is to say of an uplift model; none for another one.
    pub fn uplift(&self) -> Option<&Uplift> {
        match &self.kind {
            Kind::Uplift(uplift) => Some(uplift),
            Kind::Click | Kind::Text(_) | Kind::Language(_) | Kind::Onnx(_) => None,
        }
    }

    /// The features that a row has to have: those of an uplift model are without the treatment.
    pub fn inputs(&self) -> &[Feature] {
        match &self.kind {
            Kind::Uplift(uplift) => uplift.inputs(&self.features),
            Kind::Click | Kind::Text(_) | Kind::Language(_) | Kind::Onnx(_) => &self.features,
        }
    }
}

/// Where training rows came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Name of the label column.
    pub label: String,
    /// Text of the query that gave the rows.
    pub query: String,
    /// Number of rows the query gave.
    pub rows: u64,
}

impl Source {
    pub(crate) fn sha256(&self) -> String {
        sha256(self.query.as_bytes())
    }
}

/// Size and hash of a file, checked at load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}
