//! Stored tables and views as the planner sees them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::manifest::{self, Body, Comments};
use super::{Id, Relation};
use crate::catalog::ParquetTable;
use crate::catalog::file::DataFile;

/// The folder of a relation. Dropping the last reference removes it where nothing is in it: neither a manifest nor a data file.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// One state of a stored table. Every change makes another; a statement keeps the one it was planned with, and with it the files.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) id: Id,
    pub(crate) schema: SchemaRef,
    pub(crate) comments: Comments,
    // before the folder, which can go when they are gone
    pub(crate) files: Vec<Part>,
    /// The footers are read at the first use.
    pub(crate) parquet: tokio::sync::OnceCell<Arc<ParquetTable>>,
    pub(crate) folder: Arc<Folder>,
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

    pub(crate) fn rows(&self) -> u64 {
        self.files.iter().map(|part| part.rows).sum()
    }

    /// The table with other files.
    pub(crate) fn with_files(&self, files: Vec<Part>) -> Self {
        Self { files, parquet: tokio::sync::OnceCell::new(), ..self.clone() }
    }

    fn body(&self) -> Body {
        let part = |part: &Part| manifest::Part {
            name: part.file.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            rows: part.rows,
            bytes: part.file.length(),
        };
        Body::Table { files: self.files.iter().map(part).collect() }
    }
}

impl Relation {
    /// What its manifest says; none for what is broken, which is not written again.
    pub(super) fn manifest(&self, id: &Id, sequence: u64) -> Option<std::result::Result<manifest::Manifest, String>> {
        let none = Arc::new(datafusion::arrow::datatypes::Schema::empty());
        let (columns, comments, body) = match self {
            Relation::Table(table) => (&table.schema, table.comments.clone(), table.body()),
            Relation::View(view) => (&view.schema, view.comments.clone(), Body::View { sql: view.sql.clone() }),
            Relation::Schema(_) => (&none, Comments::default(), Body::Schema),
            Relation::Broken { .. } => return None,
        };
        Some(manifest::Manifest::new(id, sequence, columns, comments, body))
    }
}

/// A table of a writable schema.
#[derive(Debug)]
pub struct StoredTable {
    pub(crate) parquet: Arc<ParquetTable>,
    // Keeps the data files on disk while a statement may still read them.
    pub(crate) _state: Arc<Table>,
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
}

/// A view of a writable schema: its text, and the columns it had when it was created.
///
/// Whoever plans a statement puts the plan of [`sql`](Self::sql) in its place; a session plans names by its own search path, so
/// the store cannot do it.
#[derive(Debug, Clone)]
pub struct StoredView {
    pub(crate) id: Id,
    pub(crate) sql: String,
    pub(crate) schema: SchemaRef,
    pub(crate) comments: Comments,
    pub(crate) folder: Arc<Folder>,
}

impl StoredView {
    /// The view's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.id.name
    }

    /// The query as it was given to [`Draft::create_view`](super::Draft::create_view).
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
        plan_err!("view {} was not expanded", self.id.name)
    }
}
