//! Stored tables and views as the planner sees them.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};

use super::Store;
use crate::catalog::ParquetTable;
use crate::catalog::file::DataFile;

/// One state of a stored table. Every change makes another; a statement keeps the one it was planned with, and with it the files.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) schema: SchemaRef,
    pub(crate) files: Vec<Part>,
    /// The footers are read at the first use.
    pub(crate) parquet: tokio::sync::OnceCell<Arc<ParquetTable>>,
}

/// A data file of a [`Table`].
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) file: Arc<DataFile>,
    pub(crate) rows: u64,
}

impl Table {
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|part| part.file.length()).sum()
    }
}

/// A table of the writable schema.
#[derive(Debug)]
pub struct StoredTable {
    pub(crate) name: String,
    pub(crate) parquet: Arc<ParquetTable>,
    // Keeps the data files on disk while a statement may still read them.
    pub(crate) _state: Arc<Table>,
    pub(crate) store: Weak<Store>,
}

impl StoredTable {
    /// The files behind the table.
    #[must_use]
    pub fn parquet(&self) -> &ParquetTable {
        &self.parquet
    }
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        self.parquet.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.parquet.scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.parquet.supports_filters_pushdown(filters)
    }

    async fn insert_into(&self, _: &dyn Session, input: Arc<dyn ExecutionPlan>, op: InsertOp) -> Result<Arc<dyn ExecutionPlan>> {
        if op != InsertOp::Append {
            return plan_err!("only INSERT INTO is possible, {op} is not");
        }
        let Some(store) = self.store.upgrade() else { return plan_err!("the server is shutting down") };
        let sink = Sink { name: self.name.clone(), schema: self.schema(), store };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
    }
}

/// Takes the rows of an `INSERT`.
#[derive(Debug)]
struct Sink {
    name: String,
    schema: SchemaRef,
    store: Arc<Store>,
}

impl DisplayAs for Sink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredTable({})", self.name)
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, data: SendableRecordBatchStream, _: &Arc<TaskContext>) -> Result<u64> {
        Ok(self.store.insert(&self.name, data).await?)
    }
}

/// A view of the writable schema: its text, and the columns it had when it was created.
///
/// Whoever plans a statement puts the plan of [`sql`](Self::sql) in its place; a session plans names by its own search path, so
/// the store cannot do it.
#[derive(Debug)]
pub struct StoredView {
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) schema: SchemaRef,
    pub(crate) folder: PathBuf,
}

impl StoredView {
    /// The view's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The query as it was given to [`Store::create_view`].
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

#[async_trait]
impl TableProvider for StoredView {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some(&self.sql)
    }

    async fn scan(&self, _: &dyn Session, _: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("view {} was not expanded", self.name)
    }
}
