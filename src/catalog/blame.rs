//! Finds the file behind a decoding error.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_plan::ExecutionPlan;

use super::error::Error;
use super::file::DataFile;
use super::footer::explain;

/// Names the damaged file in `error`, the failure of a statement that ran `plan`.
///
/// The Parquet decoder does not say which file it was decoding. When its error comes out of a statement, this reads the
/// statement's files through, one by one, until one fails in the same way. Errors of other kinds come back as they are, and so
/// do those that already name their file. The cost falls on failed statements only.
pub async fn blame(plan: &Arc<dyn ExecutionPlan>, error: DataFusionError) -> DataFusionError {
    if Error::find(&error).is_some() || !is_decoding(&error) {
        return error;
    }
    for file in files(plan) {
        let label = file.label().to_owned();
        let check = tokio::task::spawn_blocking(move || check(&file));
        let found = check.await.unwrap_or_else(|_| Err(Error::Damaged { path: label, reason: "it cannot be decoded".to_owned() }));
        if let Err(found) = found {
            tracing::warn!(error = %found, "damaged file found");
            return found.into();
        }
    }
    error
}

fn is_decoding(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ParquetError(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(error.as_ref(), ArrowError::ParquetError(_)),
        _ => false,
    }
}

fn files(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<DataFile>> {
    let (mut files, mut seen) = (Vec::new(), HashSet::new());
    let walk = plan.apply(|node| {
        let scan = node.downcast_ref::<DataSourceExec>().and_then(|node| node.data_source().downcast_ref::<FileScanConfig>());
        for part in scan.iter().flat_map(|scan| &scan.file_groups).flat_map(|group| group.iter()) {
            if let Some(file) = part.extension::<Arc<DataFile>>().filter(|file| seen.insert(file.id())) {
                files.push(Arc::clone(file));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walk.is_ok(), "the visitor never fails");
    files
}

/// Decodes every page of the file. Blocks.
fn check(file: &DataFile) -> Result<(), Error> {
    let damaged = |reason: String| Error::Damaged { path: file.label().to_owned(), reason };
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.open()?.into_file())
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error| damaged(explain(&error)))?;
    for batch in reader {
        batch.map_err(|error| damaged(strip(&error)))?;
    }
    Ok(())
}

fn strip(error: &ArrowError) -> String {
    let text = error.to_string();
    let text = text.rsplit_once("error: ").map_or(text.as_str(), |(_, rest)| rest);
    text.trim().trim_end_matches('.').to_owned()
}
