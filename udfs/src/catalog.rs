//! The tables of the schema `ml`: what the server knows of its models, read anew by every query.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::registry::{State, VersionInfo};

use crate::declaration::{Column, Type};
use crate::error::Error;
use crate::models::Models;

/// A table of the catalog.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name in the schema `ml`.
    pub name: &'static str,
    /// One line, without a full stop.
    pub summary: &'static str,
    /// Its columns.
    pub columns: &'static [Column],
}

/// `ml.models`
static MODELS: Table = Table {
    name: "models",
    summary: "All versions of all models",
    columns: &[
        Column::new("name", Type::Text, "The model's name."),
        Column::new("version", Type::Integer, "The version, from 1."),
        Column::new("is_default", Type::Boolean, "Whether the bare name means this version."),
        Column::new("aliases", Type::Text, "The aliases of this version, separated by commas.").nullable(),
        Column::new("created_at", Type::Timestamp, "When it was saved.").nullable(),
        Column::new("model_type", Type::Text, "The architecture.").nullable(),
        Column::new("label", Type::Text, "The label column of the training query.").nullable(),
        Column::new("features", Type::Text, "The columns it reads, with their types.").nullable(),
        Column::new("rows", Type::BigInt, "The rows of the training query.").nullable(),
        Column::new("positives", Type::BigInt, "The rows with label 1 among them.").nullable(),
        Column::new("epochs", Type::Integer, "The epochs it was trained for.").nullable(),
        Column::new("train_loss", Type::Double, "Log loss of the training rows in the epoch that was kept.").nullable(),
        Column::new("validation_loss", Type::Double, "Log loss of the held-out rows.").nullable(),
        Column::new("validation_auc", Type::Double, "Area under the ROC curve of the held-out rows.").nullable(),
        Column::new("source_query", Type::Text, "The training query.").nullable(),
        Column::new("damage", Type::Text, "Why it cannot be used; NULL for a version that is whole.").nullable(),
    ],
};

/// The tables of the schema `ml`.
pub fn tables() -> &'static [&'static Table] {
    static TABLES: &[&Table] = &[&MODELS];
    TABLES
}

/// The tables of the schema `ml`, over the models of a server.
pub fn ml_tables(models: &Arc<Models>) -> Vec<(String, Arc<dyn TableProvider>)> {
    let fields: Vec<_> = MODELS.columns.iter().map(|c| Field::new(c.name, c.data_type.arrow(), c.nullable)).collect();
    let table = ModelsTable { models: Arc::clone(models), schema: Arc::new(Schema::new(fields)) };
    vec![(MODELS.name.to_owned(), Arc::new(table))]
}

/// Hands the schema `ml` to a catalog.
pub fn mount(models: &Arc<Models>, mut mount: impl FnMut(&str, Arc<dyn SchemaProvider>)) {
    let schema = MemorySchemaProvider::new();
    for (name, table) in ml_tables(models) {
        // A new schema has no table of that name yet, which is the only way this can fail.
        let _ = schema.register_table(name, table);
    }
    mount("ml", Arc::new(schema));
}

#[derive(Debug)]
struct ModelsTable {
    models: Arc<Models>,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for ModelsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(&self, _: &dyn Session, projection: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let models = Arc::clone(&self.models);
        let listed = tokio::task::spawn_blocking(move || models.list()).await;
        let versions = listed.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?.map_err(Error::from)?;
        let batch = batch(&self.schema, &versions)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?)
    }
}

fn batch(schema: &SchemaRef, versions: &[VersionInfo]) -> Result<RecordBatch> {
    let manifests = || versions.iter().map(VersionInfo::manifest);
    let text = |values: Vec<Option<String>>| Arc::new(StringArray::from(values));
    let best = || manifests().map(|m| m.map(|m| &m.kept));
    let created = |version: &VersionInfo| {
        let time = chrono::DateTime::parse_from_rfc3339(version.created_at()?).ok()?;
        Some(time.timestamp_micros())
    };
    let damage = |version: &VersionInfo| match &version.state {
        State::Ready(_) => None,
        State::Damaged(reason) => Some(reason.clone()),
    };
    let features = |m: &stratagem_models::registry::Manifest| crate::features::listed_columns(&m.features);
    Ok(RecordBatch::try_new(
        Arc::clone(schema),
        vec![
            text(versions.iter().map(|v| Some(v.name.to_string())).collect()),
            Arc::new(versions.iter().map(|v| i32::try_from(v.version).ok()).collect::<Int32Array>()),
            Arc::new(versions.iter().map(|v| Some(v.is_default)).collect::<BooleanArray>()),
            text(versions.iter().map(|v| (!v.aliases.is_empty()).then(|| v.aliases.join(", "))).collect()),
            Arc::new(versions.iter().map(created).collect::<TimestampMicrosecondArray>().with_timezone("+00:00")),
            text(manifests().map(|m| m.map(|m| m.options.model_type.to_string())).collect()),
            text(manifests().map(|m| m.map(|m| m.source.label.clone())).collect()),
            text(manifests().map(|m| m.map(features)).collect()),
            Arc::new(manifests().map(|m| m.and_then(|m| i64::try_from(m.rows).ok())).collect::<Int64Array>()),
            Arc::new(manifests().map(|m| m.and_then(|m| i64::try_from(m.positives).ok())).collect::<Int64Array>()),
            Arc::new(manifests().map(|m| m.and_then(|m| i32::try_from(m.epochs.len()).ok())).collect::<Int32Array>()),
            Arc::new(best().map(|b| b.map(|b| b.train_loss)).collect::<Float64Array>()),
            Arc::new(manifests().map(|m| m.and_then(|m| m.evaluation.as_ref()).map(|e| e.logloss)).collect::<Float64Array>()),
            Arc::new(manifests().map(|m| m.and_then(|m| m.evaluation.as_ref()).and_then(|e| e.auc)).collect::<Float64Array>()),
            text(manifests().map(|m| m.map(|m| m.source.query.clone())).collect()),
            text(versions.iter().map(damage).collect()),
        ],
    )?)
}
