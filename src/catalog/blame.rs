//! Finds the file behind a decoding error.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;

use super::error::Error;
use super::file::DataFile;
use super::footer::explain;

/// The rows of `stream`, which runs `plan`, with the damaged file named in its error.
///
/// The Parquet decoder does not say which file it was decoding. When its error comes out of a statement, this reads the
/// statement's files through, one by one, until one fails as well. Errors of other kinds pass as they are, and so do those that
/// already name their file. The cost falls on failed statements only.
#[must_use]
pub fn name_damaged_file(plan: &Arc<dyn ExecutionPlan>, stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let (plan, schema) = (Arc::clone(plan), stream.schema());
    let named = stream.or_else(move |error| blame(Arc::clone(&plan), error));
    Box::pin(RecordBatchStreamAdapter::new(schema, named))
}

async fn blame(plan: Arc<dyn ExecutionPlan>, error: DataFusionError) -> Result<RecordBatch, DataFusionError> {
    if Error::find(&error).is_some() || !is_decoding(&error) {
        return Err(error);
    }
    for file in files(&plan) {
        let label = file.label().to_owned();
        let check = tokio::task::spawn_blocking(move || check(&file));
        let found = check.await.unwrap_or_else(|_| Err(Error::Damaged { path: label, reason: "it cannot be decoded".to_owned() }));
        if let Err(found) = found {
            tracing::warn!(error = %found, "damaged file found");
            return Err(found.into());
        }
    }
    Err(error)
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
        batch.map_err(|error| match strip(&error) {
            reason if reason.contains("UTF-8") => Error::NotUtf8 { path: file.label().to_owned() },
            reason => damaged(reason),
        })?;
    }
    Ok(())
}

fn strip(error: &ArrowError) -> String {
    let text = error.to_string();
    let text = text.rsplit_once("error: ").map_or(text.as_str(), |(_, rest)| rest);
    text.trim().trim_end_matches('.').to_owned()
}
