//! Parquet footers: read once per state of a file, kept in bounded memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::datasource::physical_plan::parquet::Int96Coercer;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::error::Error;
use super::file::{DataFile, OpenFile};

/// Bytes of decoded footers to keep. The footer of a wide table with a page index is some hundred kilobytes.
const BUDGET: usize = 128 << 20;

/// The unit that the old INT96 timestamps (Spark, Impala, Hive) are read in: PostgreSQL's own, which cannot overflow.
pub(crate) const INT96_UNIT: TimeUnit = TimeUnit::Microsecond;

/// Decoded footers by [`DataFile::id`], least recently used out first.
#[derive(Debug, Default)]
pub(crate) struct Footers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<u64, Entry>,
    by_use: BTreeMap<u64, u64>,
    clock: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    metadata: Arc<ParquetMetaData>,
    complete: bool,
    bytes: usize,
    used: u64,
}

impl Footers {
    /// The footer without its page index, from memory or from disk. Blocks.
    pub(crate) fn footer(&self, file: &DataFile) -> Result<Arc<ParquetMetaData>, Error> {
        if let Some((metadata, _)) = self.get(file.id()) {
            return Ok(metadata);
        }
        let metadata = Arc::new(decode(file, &file.open()?, PageIndexPolicy::Skip)?);
        self.put(file.id(), &metadata, false);
        Ok(metadata)
    }

    /// The footer with its page index where the file has one, from memory or from `open`. Blocks.
    pub(crate) fn complete(&self, file: &DataFile, open: &OpenFile) -> Result<Arc<ParquetMetaData>, Error> {
        if let Some((metadata, true)) = self.get(file.id()) {
            return Ok(metadata);
        }
        let metadata = Arc::new(decode(file, open, PageIndexPolicy::Optional)?);
        self.put(file.id(), &metadata, true);
        Ok(metadata)
    }

    /// The footer with its page index if it is in memory.
    pub(crate) fn cached(&self, file: &DataFile) -> Option<Arc<ParquetMetaData>> {
        self.get(file.id()).filter(|(_, complete)| *complete).map(|(metadata, _)| metadata)
    }

    fn get(&self, id: u64) -> Option<(Arc<ParquetMetaData>, bool)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let now = state.clock;
        let entry = state.entries.get_mut(&id)?;
        let before = std::mem::replace(&mut entry.used, now);
        let found = (Arc::clone(&entry.metadata), entry.complete);
        state.by_use.remove(&before);
        state.by_use.insert(now, id);
        Some(found)
    }

    fn put(&self, id: u64, metadata: &Arc<ParquetMetaData>, complete: bool) {
        let bytes = metadata.memory_size();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let used = state.clock;
        if let Some(old) = state.entries.insert(id, Entry { metadata: Arc::clone(metadata), complete, bytes, used }) {
            state.bytes -= old.bytes;
            state.by_use.remove(&old.used);
        }
        state.bytes += bytes;
        state.by_use.insert(used, id);
        while state.bytes > BUDGET {
            let Some((_, oldest)) = state.by_use.pop_first() else { break };
            if let Some(entry) = state.entries.remove(&oldest) {
                state.bytes -= entry.bytes;
            }
        }
    }
}

fn decode(file: &DataFile, open: &OpenFile, index: PageIndexPolicy) -> Result<ParquetMetaData, Error> {
    ParquetMetaDataReader::new()
        .with_page_index_policy(index)
        .parse_and_finish(open.file())
        .map_err(|error| Error::NotParquet { path: file.label().to_owned(), reason: explain(&error) })
}

/// The parquet crate's text as the end of a sentence of ours.
pub(crate) fn explain(error: &ParquetError) -> String {
    let text = error.to_string();
    let text = text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest);
    let text = text.strip_prefix("Invalid Parquet file. ").unwrap_or(text);
    text.trim().trim_end_matches('.').replace(". Size", ", size").replace("Corrupt footer", "its footer is missing or damaged")
}

/// Columns of the file, as its writer declared them, without key-value metadata.
pub(crate) fn file_schema(file: &DataFile, metadata: &ParquetMetaData) -> Result<Schema, Error> {
    let descriptor = metadata.file_metadata().schema_descr();
    let schema = parquet_to_arrow_schema(descriptor, metadata.file_metadata().key_value_metadata())
        .map_err(|error| Error::NotParquet { path: file.label().to_owned(), reason: explain(&error) })?;
    let schema = Int96Coercer::new(descriptor, &schema, &INT96_UNIT).coerce().unwrap_or(schema);
    let mut seen = HashSet::new();
    for field in schema.fields() {
        if !seen.insert(field.name()) {
            return Err(Error::DuplicateColumn { path: file.label().to_owned(), column: field.name().clone() });
        }
    }
    Ok(Schema::new(schema.fields().iter().map(|field| plain_field(field)).collect::<Vec<_>>()))
}

fn plain_field(field: &Field) -> Field {
    Field::new(field.name(), plain(field.data_type()), field.is_nullable())
}

/// One Arrow type per SQL type: how a writer laid out its strings (dictionary, large, view) is not the reader's business.
pub(crate) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::BinaryView,
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        other => other.clone(),
    }
}
