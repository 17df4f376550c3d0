//! `ml.models`

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use stratagem_models::registry::{Kind, Manifest, State, VersionInfo};

use super::{Table, bigints, doubles, integers, texts, times};
use crate::declaration::{Column, Type};
use crate::features::{listed, listed_columns};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "models",
    summary: "All versions of all models",
    columns: &[
        Column::new("name", Type::Text, "The model's name."),
        Column::new("version", Type::Integer, "The version, from 1."),
        Column::new("is_default", Type::Boolean, "Whether the bare name means this version."),
        Column::new("aliases", Type::Text, "The aliases of this version, separated by commas.").nullable(),
        Column::new("created_at", Type::Timestamp, "When it was saved.").nullable(),
        Column::new(
            "model_type",
            Type::Text,
            "The architecture; `x-learner` or another for an uplift model, `onnx` for an imported graph.",
        )
        .nullable(),
        Column::new("label", Type::Text, "The label column of the training query.").nullable(),
        Column::new("treatment", Type::Text, "The column that told who was treated; NULL for other than uplift models.").nullable(),
        Column::new("features", Type::Text, "The columns it reads, with their types.").nullable(),
        Column::new("rows", Type::BigInt, "The rows of the training query.").nullable(),
        Column::new("positives", Type::BigInt, "The rows with label 1 among them; with an outcome above one half, where it is a number.")
            .nullable(),
        Column::new("epochs", Type::Integer, "The epochs it was trained for, at most.").nullable(),
        Column::new("train_loss", Type::Double, "Log loss of the training rows in the epoch that was kept.").nullable(),
        Column::new(
            "validation_loss",
            Type::Double,
            "Log loss of the held-out rows; NULL for an uplift model, which `ml.evaluations` judges.",
        )
        .nullable(),
        Column::new("validation_auc", Type::Double, "Area under the ROC curve of the held-out rows.").nullable(),
        Column::new("validation_ece", Type::Double, "Expected calibration error of these rows, with 15 bins.").nullable(),
        Column::new("source_query", Type::Text, "The training query.").nullable(),
        Column::new("damage", Type::Text, "Why it cannot be used; NULL for a version that is whole.").nullable(),
    ],
    values,
};

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let versions = models.list()?;
    let manifests = || versions.iter().map(VersionInfo::manifest);
    // What is told of a training, of the models that had one here.
    let trained = || manifests().map(|m| m.filter(|m| m.kind.is_trained()));
    let whole = || trained().map(|m| m.and_then(|m| m.evaluation.as_ref()));
    let damage = |version: &VersionInfo| match &version.state {
        State::Ready(_) => None,
        State::Damaged(reason) => Some(reason.clone()),
    };
    Ok(vec![
        texts(versions.iter().map(|v| Some(v.name.as_str()))),
        integers(versions.iter().map(|v| Some(v.version))),
        Arc::new(versions.iter().map(|v| Some(v.is_default)).collect::<BooleanArray>()),
        texts(versions.iter().map(|v| (!v.aliases.is_empty()).then(|| v.aliases.join(", ")))),
        times(versions.iter().map(VersionInfo::created_at)),
        texts(manifests().map(|m| m.map(Manifest::model_type))),
        texts(manifests().map(|m| m.map(|m| m.source.label.as_str()).filter(|label| !label.is_empty()))),
        texts(manifests().map(|m| m.and_then(Manifest::uplift).map(|uplift| uplift.treatment.as_str()))),
        texts(manifests().map(|m| m.map(columns))),
        bigints(trained().map(|m| m.map(|m| m.rows))),
        bigints(trained().map(|m| m.map(|m| m.positives))),
        integers(trained().map(|m| m.and_then(|m| m.epochs.iter().map(|e| e.epoch).max()))),
        doubles(trained().map(|m| m.map(|m| m.kept.train_loss))),
        doubles(whole().map(|e| e.map(|e| e.logloss))),
        doubles(whole().map(|e| e.and_then(|e| e.auc))),
        doubles(whole().map(|e| e.map(|e| e.ece))),
        texts(trained().map(|m| m.map(|m| m.source.query.as_str()))),
        texts(versions.iter().map(damage)),
    ])
}

fn columns(manifest: &Manifest) -> String {
    match &manifest.kind {
        Kind::Text(_) => manifest.inputs().first().map(|feature| format!("{} text", feature.column)).unwrap_or_default(),
        Kind::Click | Kind::Uplift(_) | Kind::Language(_) => listed_columns(manifest.inputs()),
        Kind::Onnx(outline) => listed(&outline.columns().map(|(name, element)| (name, element.sql_type())).collect::<Vec<_>>()),
    }
}
