//! A table over a fixed set of Parquet files.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue, Statistics, project_schema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::object_store::{ObjectMeta, path::Path as ObjectPath};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::file::DataFile;
use super::footer::Footers;
use super::reader::Readers;

/// A file of a [`ParquetTable`] with what planning needs to know about it.
#[derive(Debug, Clone)]
pub(crate) struct TableFile {
    pub(crate) file: Arc<DataFile>,
    /// One value per partition column.
    pub(crate) partition_values: Vec<ScalarValue>,
    /// Over all columns of the table.
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) rows: Option<u64>,
}

/// A table over Parquet files of the local disk.
///
/// The set of files is fixed: a statement that has planned with a table reads exactly these, whatever happens in the folder
/// meanwhile; the next statement gets another table. Hive partition columns come after the files' own.
#[derive(Debug)]
pub struct ParquetTable {
    files: Vec<TableFile>,
    file_schema: SchemaRef,
    partitions: Vec<FieldRef>,
    schema: SchemaRef,
    footers: Arc<Footers>,
    /// Of all files together; worth keeping because a table may have thousands.
    statistics: OnceLock<Statistics>,
}

impl ParquetTable {
    pub(crate) fn new(files: Vec<TableFile>, file_schema: SchemaRef, partitions: Vec<FieldRef>, footers: Arc<Footers>) -> Self {
        let fields: Vec<FieldRef> = file_schema.fields().iter().chain(&partitions).cloned().collect();
        Self { files, file_schema, partitions, schema: Arc::new(Schema::new(fields)), footers, statistics: OnceLock::new() }
    }

    /// Number of files.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Number of rows, if every footer tells.
    #[must_use]
    pub fn row_count(&self) -> Option<u64> {
        self.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.rows?))
    }

    /// Size of the files in bytes.
    #[must_use]
    pub fn byte_count(&self) -> u64 {
        self.files.iter().map(|file| file.file.length()).sum()
    }

    fn is_partition_filter(&self, filter: &Expr) -> bool {
        let names: Vec<&str> = self.partitions.iter().map(|field| field.name().as_str()).collect();
        !names.is_empty() && expr_applicable_for_cols(&names, filter)
    }

    fn summary(&self, state: &dyn Session, files: &[&TableFile]) -> Result<Statistics> {
        if !state.config().collect_statistics() {
            return Ok(Statistics::new_unknown(&self.schema));
        }
        let whole = files.len() == self.files.len();
        if let Some(known) = self.statistics.get().filter(|_| whole) {
            return Ok(known.clone());
        }
        let statistics = Statistics::try_merge_iter(files.iter().map(|file| file.statistics.as_ref()), &self.schema)?;
        if whole {
            let _ = self.statistics.set(statistics.clone());
        }
        Ok(statistics)
    }

    /// The files whose partition values satisfy `filters`, evaluated for all files at once.
    fn prune(&self, state: &dyn Session, filters: Vec<Expr>) -> Result<Vec<&TableFile>> {
        let Some(filter) = conjunction(filters) else { return Ok(self.files.iter().collect()) };
        if self.files.is_empty() {
            return Ok(Vec::new());
        }
        let fields: Vec<Field> = self.partitions.iter().map(|field| field.as_ref().clone()).collect();
        let schema = Arc::new(Schema::new(fields));
        let columns = (0..self.partitions.len())
            .map(|at| ScalarValue::iter_to_array(self.files.iter().map(|file| file.partition_values[at].clone())))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let filter = state.create_physical_expr(filter, &DFSchema::try_from(schema)?)?;
        let keep = filter.evaluate(&batch)?.into_array(self.files.len())?;
        let keep = keep.as_boolean();
        Ok(self.files.iter().zip(keep).filter(|(_, keep)| *keep == Some(true)).map(|(file, _)| file).collect())
    }
}

/// The first files that hold `limit` rows; the flag says that some were left out.
fn enough(files: Vec<&TableFile>, limit: Option<usize>) -> (Vec<&TableFile>, bool) {
    let Some(limit) = limit else { return (files, false) };
    let mut rows = 0_u64;
    let needed = files.iter().position(|file| {
        rows = rows.saturating_add(file.rows.unwrap_or(0));
        rows >= limit as u64
    });
    match needed {
        Some(last) if last + 1 < files.len() => (files[..=last].to_vec(), true),
        _ => (files, false),
    }
}

fn partitioned_file(file: &TableFile) -> PartitionedFile {
    let location = ObjectPath::from_absolute_path(file.file.path())
        // Only the display in EXPLAIN depends on it: the reader opens the file itself.
        .unwrap_or_else(|_| ObjectPath::from(file.file.label()));
    let mut partitioned = PartitionedFile::new_from_meta(ObjectMeta {
        location,
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: file.file.length(),
        e_tag: None,
        version: None,
    })
    .with_partition_values(file.partition_values.clone())
    .with_extension(Arc::clone(&file.file));
    // Not with_statistics: it claims that partition values are never NULL.
    partitioned.statistics = Some(Arc::clone(&file.statistics));
    partitioned
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
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
        let (on_partitions, on_rows): (Vec<Expr>, Vec<Expr>) = filters.iter().cloned().partition(|filter| self.is_partition_filter(filter));
        let files = self.prune(state, on_partitions)?;
        let (files, cut) = enough(files, limit.filter(|_| on_rows.is_empty()));
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }

        let statistics = self.summary(state, &files)?;
        let statistics = if cut { statistics.to_inexact() } else { statistics };

        let mut options = state.default_table_options().parquet;
        // Statistics and schemas were made with these; they are no user's choice.
        options.global.coerce_int96 = Some("us".to_owned());
        options.global.schema_force_view_types = true;
        let readers = Readers { footers: Arc::clone(&self.footers) };
        let source = ParquetSource::new(
            TableSchema::builder(Arc::clone(&self.file_schema)).with_table_partition_cols(self.partitions.clone()).build(),
        )
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(Arc::new(readers));
        let groups =
            FileGroup::new(files.into_iter().map(partitioned_file).collect()).split_files(state.config().target_partitions().max(1));
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            if self.is_partition_filter(filter) { TableProviderFilterPushDown::Exact } else { TableProviderFilterPushDown::Inexact }
        };
        Ok(filters.iter().map(support).collect())
    }
}
