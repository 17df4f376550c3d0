//! The tables of the schema `ml`: what the server knows of its models, read anew by every query.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::declaration::Column;
use crate::error::Error;
use crate::models::{Error as ModelError, Models};

mod aliases;
mod encoders;
mod evaluations;
mod language_models;
mod models;
mod prompts;
mod training_metrics;
mod training_runs;
mod usage;

/// A table of the catalog.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name in the schema `ml`.
    pub name: &'static str,
    /// One line, without a full stop.
    pub summary: &'static str,
    /// Its columns.
    pub columns: &'static [Column],
    /// The values of the columns, now.
    values: fn(&Models) -> Result<Vec<ArrayRef>, ModelError>,
}

/// The tables of the schema `ml`, by name.
pub fn tables() -> &'static [&'static Table] {
    static TABLES: &[&Table] = &[
        &aliases::TABLE,
        &encoders::TABLE,
        &evaluations::TABLE,
        &language_models::TABLE,
        &models::TABLE,
        &prompts::TABLE,
        &training_metrics::TABLE,
        &training_runs::TABLE,
        &usage::TABLE,
    ];
    TABLES
}

/// The tables of the schema `ml`, over the models of a server.
pub fn ml_tables(models: &Arc<Models>) -> Vec<(String, Arc<dyn TableProvider>)> {
    let provider = |table: &'static Table| -> Arc<dyn TableProvider> {
        let fields: Vec<_> = table.columns.iter().map(|c| Field::new(c.name, c.data_type.arrow(), c.nullable)).collect();
        Arc::new(Current { table, models: Arc::clone(models), schema: Arc::new(Schema::new(fields)) })
    };
    tables().iter().map(|table| (table.name.to_owned(), provider(table))).collect()
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

/// A table whose rows are made when it is scanned.
#[derive(Debug)]
struct Current {
    table: &'static Table,
    models: Arc<Models>,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for Current {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(&self, _: &dyn Session, projection: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let (models, values) = (Arc::clone(&self.models), self.table.values);
        let made = tokio::task::spawn_blocking(move || values(&models)).await;
        let columns = made.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?.map_err(Error::from)?;
        let batch = RecordBatch::try_new(self.schema(), columns)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?)
    }
}

fn texts<T: Into<String>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(Into::into)).collect::<StringArray>())
}

fn integers(values: impl Iterator<Item = Option<u32>>) -> ArrayRef {
    Arc::new(values.map(|value| value.and_then(|value| i32::try_from(value).ok())).collect::<Int32Array>())
}

/// Any bits are a seed, so that a number beyond the largest bigint is shown as the negative one it was given as.
fn bigints(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(u64::cast_signed)).collect::<Int64Array>())
}

fn doubles(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.collect::<Float64Array>())
}

/// Times in RFC 3339.
fn times<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let micros = |time: &str| Some(chrono::DateTime::parse_from_rfc3339(time).ok()?.timestamp_micros());
    Arc::new(values.map(|time| time.and_then(micros)).collect::<TimestampMicrosecondArray>().with_timezone("+00:00"))
}
