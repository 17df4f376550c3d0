//! Reads Parquet files for a scan: every file is opened once per reader and checked to be the one that was planned with.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::error::Error;
use super::file::{DataFile, OpenFile};
use super::footer::Footers;

/// Makes a [`Reader`] for each file of a scan; the file itself travels as an extension of the [`PartitionedFile`].
#[derive(Debug)]
pub(crate) struct Readers {
    pub(crate) footers: Arc<Footers>,
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        partition_index: usize,
        partitioned_file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let Some(file) = partitioned_file.extension::<Arc<DataFile>>() else {
            return Err(internal_datafusion_err!("file {} was not planned by this catalog", partitioned_file.path()));
        };
        Ok(Box::new(Reader {
            file: Arc::clone(file),
            open: None,
            footers: Arc::clone(&self.footers),
            metrics: ParquetFileMetrics::new(partition_index, file.label(), metrics),
        }))
    }
}

struct Reader {
    file: Arc<DataFile>,
    open: Option<Arc<OpenFile>>,
    footers: Arc<Footers>,
    metrics: ParquetFileMetrics,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Reader {
    /// Runs `work` with the open file on a blocking thread.
    async fn with<T, F>(&mut self, work: F) -> ParquetResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&OpenFile) -> Result<T, Error> + Send + 'static,
    {
        let (file, open) = (Arc::clone(&self.file), self.open.clone());
        let done = tokio::task::spawn_blocking(move || {
            let open = match open {
                Some(open) => open,
                None => Arc::new(file.open()?),
            };
            let value = work(&open)?;
            Ok::<_, Error>((open, value))
        });
        let (open, value) = done.await.map_err(external)?.map_err(external)?;
        self.open = Some(open);
        Ok(value)
    }
}

fn external<E: std::error::Error + Send + Sync + 'static>(error: E) -> ParquetError {
    ParquetError::External(Box::new(error))
}

fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            self.metrics.bytes_scanned.add(length(&range));
            self.with(move |open| open.read(range.start, length(&range))).await
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move {
            self.metrics.bytes_scanned.add(ranges.iter().map(length).sum());
            self.with(move |open| ranges.into_iter().map(|range| open.read(range.start, length(&range))).collect()).await
        }
        .boxed()
    }

    fn get_metadata<'a>(&'a mut self, _options: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            if let Some(metadata) = self.footers.cached(&self.file) {
                return Ok(metadata);
            }
            let (file, footers) = (Arc::clone(&self.file), Arc::clone(&self.footers));
            self.with(move |open| footers.complete(&file, open)).await
        }
        .boxed()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let length = usize::try_from(self.file.length()).unwrap_or(usize::MAX);
        self.metrics.scan_efficiency_ratio.add_part(self.metrics.bytes_scanned.value());
        self.metrics.scan_efficiency_ratio.set_total(length);
    }
}
