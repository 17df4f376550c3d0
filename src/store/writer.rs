//! Writes a stream of rows as Parquet files, on a blocking thread.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::durable;
use super::error::Error;
use super::relation::Part;
use super::space::Claim;
use crate::catalog::file::{DataFile, Stamp};

/// Rows and bytes of a row group: what one thread reads at a time, and what a writer holds in memory.
const GROUP_ROWS: usize = 256 << 10;
const GROUP_BYTES: usize = 64 << 20;

/// Bytes of a file after which the next one is begun.
const FILE_BYTES: u64 = 512 << 20;

/// Batches between the query and the writing thread.
const QUEUE: usize = 4;

/// Where and what to write.
#[derive(Debug)]
pub(crate) struct Target {
    /// The state directory, for labels.
    pub(crate) root: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) schema: SchemaRef,
    /// Numbers for file names.
    pub(crate) numbers: Arc<AtomicU64>,
    pub(crate) claim: Claim,
}

/// A complete, durable data file that no manifest lists yet: dropping it deletes it.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(crate) file: Arc<DataFile>,
    pub(crate) rows: u64,
}

/// Everything a statement wrote, with its claim on the space until it is stored or deleted.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) files: Vec<NewFile>,
    /// Held until the files are counted as stored.
    pub(crate) claim: Claim,
}

impl Written {
    pub(crate) fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> {
        self.files.iter().map(|new| Part { file: Arc::clone(&new.file), rows: new.rows })
    }
}

enum Message {
    Rows(RecordBatch),
    /// All rows are there. A queue that closes without it belongs to a failed or cancelled statement.
    End,
}

/// Writes all rows of `stream`, cast to the target's columns by position.
///
/// Nothing remains on disk when it fails or is dropped halfway.
pub(crate) async fn write(target: Target, mut stream: SendableRecordBatchStream) -> Result<Written, Error> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let writing = tokio::task::spawn_blocking(move || run(target, receiver));
    let mut failure = None;
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(batch) => {
                if sender.send(Message::Rows(batch)).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                failure = Some(Error::Query(error));
                break;
            }
        }
    }
    if failure.is_none() {
        // Fails only when the writer has ended with an error of its own, which is returned below.
        let _ = sender.send(Message::End).await;
    }
    drop(sender);
    let written = writing.await.map_err(|error| Error::Internal { reason: error.to_string() })?;
    match failure {
        Some(error) => Err(error),
        None => written,
    }
}

fn run(mut target: Target, mut receiver: mpsc::Receiver<Message>) -> Result<Written, Error> {
    let mut done = Vec::new();
    let mut open: Option<Growing> = None;
    loop {
        match receiver.blocking_recv() {
            Some(Message::Rows(batch)) if batch.num_rows() == 0 => {}
            Some(Message::Rows(batch)) => {
                let batch = conform(&batch, &target.schema)?;
                let file = match &mut open {
                    Some(file) => file,
                    None => open.insert(Growing::create(&target)?),
                };
                file.write(&batch, &mut target)?;
                if file.bytes() >= FILE_BYTES
                    && let Some(full) = open.take()
                {
                    done.push(full.finish(&mut target)?);
                }
            }
            Some(Message::End) => break,
            None => return Ok(Written { files: Vec::new(), claim: target.claim }),
        }
    }
    if let Some(last) = open {
        done.push(last.finish(&mut target)?);
    }
    durable::sync_folder(&target.folder).map_err(|error| Error::io(&target.root, &target.folder, &error))?;
    Ok(Written { files: done, claim: target.claim })
}

/// A file that is being written; deleted when dropped before it is finished.
struct Growing {
    path: PathBuf,
    writer: Option<ArrowWriter<File>>,
    rows: u64,
}

impl Growing {
    fn create(target: &Target) -> Result<Self, Error> {
        let number = target.numbers.fetch_add(1, Ordering::Relaxed);
        let path = target.folder.join(format!("{number}.parquet"));
        let file = File::create_new(&path).map_err(|error| Error::io(&target.root, &path, &error))?;
        let mut growing = Self { path, writer: None, rows: 0 };
        let writer = ArrowWriter::try_new(file, Arc::clone(&target.schema), Some(properties()))
            .map_err(|error| Error::parquet(&target.root, &growing.path, &error))?;
        growing.writer = Some(writer);
        Ok(growing)
    }

    fn writer(&mut self) -> &mut ArrowWriter<File> {
        self.writer.as_mut().expect("the writer is taken by finish only, which consumes self")
    }

    fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| (writer.bytes_written() + writer.in_progress_size()) as u64)
    }

    fn write(&mut self, batch: &RecordBatch, target: &mut Target) -> Result<(), Error> {
        let before = self.bytes();
        let written = self.writer().write(batch);
        written.map_err(|error| Error::parquet(&target.root, &self.path, &error))?;
        self.rows += batch.num_rows() as u64;
        target.claim.grow(self.bytes().saturating_sub(before))
    }

    fn finish(mut self, target: &mut Target) -> Result<NewFile, Error> {
        let before = self.bytes();
        let writer = self.writer.take().expect("the writer is taken by finish only, which consumes self");
        let file = writer.into_inner().map_err(|error| Error::parquet(&target.root, &self.path, &error))?;
        let io = |error: &std::io::Error| Error::io(&target.root, &self.path, error);
        file.sync_all().map_err(|error| io(&error))?;
        let metadata = file.metadata().map_err(|error| io(&error))?;
        let new = NewFile { file: Arc::new(data_file(&target.root, &self.path, &metadata)), rows: self.rows };
        new.file.doom();
        // From here on the data file deletes itself.
        self.path = PathBuf::new();
        target.claim.grow(metadata.len().saturating_sub(before))?;
        Ok(new)
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = self.path.parent() {
            // The folder of a table that was being created; an existing table's is not empty.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A data file in the state directory `root`.
pub(crate) fn data_file(root: &Path, path: &Path, metadata: &fs::Metadata) -> DataFile {
    let label = path.strip_prefix(root).unwrap_or(path).display().to_string();
    DataFile::new(path.to_owned(), label, Stamp::of(metadata), SystemTime::now())
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_max_row_group_bytes(Some(GROUP_BYTES))
        .set_created_by(concat!("stratagem ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

/// Casts the columns of `batch` to `schema`, by position. A value that does not fit is an error, not NULL.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |(array, field): (&ArrayRef, &Arc<datafusion::arrow::datatypes::Field>)| {
        cast_with_options(array, field.data_type(), &options)
            .map_err(|error| Error::BadValue { column: field.name().clone(), reason: plain(&error) })
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| Error::Internal { reason: error.to_string() })
}

fn plain(error: &ArrowError) -> String {
    let text = error.to_string();
    text.split_once("error: ").map_or(text.as_str(), |(_, rest)| rest).to_owned()
}
