//! `signature.json`: what an exported graph takes and gives.

use serde::Serialize;
use serde_json::Value;

use crate::click::Calibration;
use crate::onnx::data_type;

/// What an exported graph takes and gives, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Signature {
    /// Version of this layout, now 1.
    pub(super) format: u32,
    /// The model's name.
    pub(super) name: String,
    /// Its version.
    pub(super) version: u32,
    /// The architecture, or `onnx` for an imported graph.
    pub(super) model_type: String,
    /// What a row is judged by: `click`, and `conversion` after a click; or `uplift`.
    pub(super) tasks: Vec<&'static str>,
    /// The inputs.
    pub(super) inputs: Vec<Input>,
    /// The output.
    pub(super) outputs: Vec<Output>,
    /// The select list that made the columns below from those of the training query; the graph takes its results.
    pub(super) transform: Option<String>,
    /// The last step in the graph: from mean logits to probabilities, by task; by part of an uplift model, before they are put together.
    pub(super) calibration: Vec<Calibration>,
    /// Where it comes from.
    pub(super) provenance: Provenance,
}

/// An input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Input {
    /// Its name in the graph.
    pub(super) name: String,
    /// The type of its elements, as NumPy calls it; `str` for text.
    pub(super) dtype: &'static str,
    /// `n` rows, and `l` values of a padded list.
    pub(super) shape: Vec<String>,
    /// The column that it is made from.
    pub(super) column: String,
    /// That column's type.
    pub(super) sql_type: String,
    /// How an element is made, in a word: `value`, `days`, `microseconds`, `xxh64`, `ngrams` or `id`.
    pub(super) encoding: &'static str,
    /// What an element is.
    pub(super) element: String,
    /// What stands for NULL, and pads a list; none where there is nothing.
    pub(super) null: Option<Value>,
    /// How many values of a list the model reads, at most, and which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) most: Option<String>,
}

/// An output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Output {
    /// Its name in the graph.
    pub(super) name: String,
    /// The type of its elements.
    pub(super) dtype: &'static str,
    /// `n` rows of a number for each task.
    pub(super) shape: Vec<String>,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Provenance {
    /// The program that wrote the export.
    pub(super) producer: String,
    /// When the version was saved, RFC 3339 in UTC.
    pub(super) created_at: String,
    /// The label column.
    pub(super) label: String,
    /// SHA-256 of the training query.
    pub(super) source_sha256: String,
    /// The rows it was trained and validated on.
    pub(super) rows: u64,
    /// Rows with label 1 among them.
    pub(super) positives: u64,
    /// The seed of the training.
    pub(super) seed: u64,
}

/// NumPy's name of an element type.
pub(super) fn dtype(elem_type: i32) -> &'static str {
    match elem_type {
        data_type::FLOAT => "float32",
        data_type::DOUBLE => "float64",
        data_type::INT64 => "int64",
        data_type::UINT64 => "uint64",
        _ => "str",
    }
}
