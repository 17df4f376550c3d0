//! Many small inserts, few files: what single-row `INSERT`s leave behind is merged now and then.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};

use super::relation::{Part, Table};
use crate::catalog::file::DataFile;

/// Files below this many bytes are merged.
const SMALL: u64 = 4 << 20;

/// How many small files a table may have.
const MANY: usize = 32;

/// The files of `table` that should become one; empty while it is not worth the work.
pub(super) fn candidates(table: &Table) -> Vec<Part> {
    let small = table.files.iter().filter(|part| part.file.length() < SMALL);
    let small: Vec<Part> = small.cloned().collect();
    if small.len() > MANY { small } else { Vec::new() }
}

/// The files of `now` with `merged` in the place of `old`, unless another change has taken one of the old ones away.
pub(super) fn replace(now: &[Part], old: &[Part], merged: impl IntoIterator<Item = Part>) -> Option<Vec<Part>> {
    let is_old = |part: &Part| old.iter().any(|old| Arc::ptr_eq(&old.file, &part.file));
    let kept: Vec<Part> = now.iter().filter(|part| !is_old(part)).cloned().collect();
    (kept.len() + old.len() == now.len()).then(|| merged.into_iter().chain(kept).collect())
}

/// The rows of `files`, batch by batch, decoded on blocking threads.
pub(super) fn rows(schema: &SchemaRef, files: &[Part]) -> SendableRecordBatchStream {
    let files: Vec<Arc<DataFile>> = files.iter().map(|part| Arc::clone(&part.file)).collect();
    let batches = stream::iter(files).then(open).map_ok(|reader| stream::try_unfold(reader, next)).try_flatten();
    // The writer casts to the table's columns: the files were written with them, the decoder may lay text out differently.
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}

async fn open(file: Arc<DataFile>) -> Result<ParquetRecordBatchReader, DataFusionError> {
    blocking(move || {
        let handle = file.open()?.into_file();
        Ok(ParquetRecordBatchReaderBuilder::try_new(handle)?.build()?)
    })
    .await
}

async fn next(mut reader: ParquetRecordBatchReader) -> Result<Option<(RecordBatch, ParquetRecordBatchReader)>, DataFusionError> {
    blocking(move || Ok(reader.next().transpose()?.map(|batch| (batch, reader)))).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, DataFusionError> + Send + 'static) -> Result<T, DataFusionError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DataFusionError::External(Box::new(error)))?
}
