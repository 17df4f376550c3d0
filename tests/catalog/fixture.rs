//! Parquet files and sessions for the tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use stratagem::catalog::{DataCatalog, name_damaged_file};
use tempfile::TempDir;

/// A data folder and a session over it.
pub(crate) struct Shop {
    folder: TempDir,
    pub(crate) catalog: Arc<DataCatalog>,
    pub(crate) session: SessionContext,
}

impl Shop {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Arc::new(DataCatalog::open(folder.path()).unwrap());
        let session = session(&catalog);
        Self { folder, catalog, session }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the rows of `query` to a file of the folder.
    pub(crate) async fn put(&self, name: &str, query: &str) {
        write(&self.path(name), query, WriterProperties::default()).await;
    }

    pub(crate) async fn rows(&self, query: &str) -> String {
        rows(&self.session, query).await
    }

    pub(crate) async fn error(&self, query: &str) -> DataFusionError {
        run(&self.session, query).await.expect_err("the query succeeds")
    }

    pub(crate) async fn plan(&self, query: &str) -> Arc<dyn ExecutionPlan> {
        self.session.sql(query).await.unwrap().create_physical_plan().await.unwrap()
    }
}

pub(crate) fn session(catalog: &Arc<DataCatalog>) -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(2)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema("data", "public");
    let session = SessionContext::new_with_config(config);
    session.register_catalog("data", Arc::<DataCatalog>::clone(catalog));
    session
}

/// Runs a query as the server does: damaged files are named.
pub(crate) async fn run(session: &SessionContext, query: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
    let plan = session.sql(query).await?.create_physical_plan().await?;
    let stream = execute_stream(Arc::clone(&plan), session.task_ctx())?;
    name_damaged_file(&plan, stream).try_collect().await
}

/// The rows as lines of values, joined by single spaces.
pub(crate) async fn rows(session: &SessionContext, query: &str) -> String {
    let batches = run(session, query).await.unwrap();
    let table = pretty_format_batches_with_options(&batches, &FormatOptions::default().with_null("NULL")).unwrap().to_string();
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let line = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ");
    lines.map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) async fn batches(query: &str) -> Vec<RecordBatch> {
    let frame = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1)).sql(query).await.unwrap();
    let schema = Arc::clone(frame.schema().inner());
    let mut batches = frame.collect().await.unwrap();
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    batches
}

pub(crate) async fn write(path: &Path, query: &str, properties: WriterProperties) {
    write_batches(path, &batches(query).await, properties);
}

pub(crate) fn write_batches(path: &Path, batches: &[RecordBatch], properties: WriterProperties) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}
