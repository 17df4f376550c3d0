//! From a listing to a table: footers read, schemas merged, partition columns typed.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::parquet::file::metadata::ParquetMetaData;

use super::broken::BrokenTable;
use super::error::Error;
use super::file::DataFile;
use super::footer::{Footers, file_schema};
use super::listing::{Listed, list};
use super::table::{ParquetTable, TableFile};
use super::{merge, partition, statistics};

/// Threads that read the footers of a table with many files.
const READERS: usize = 8;

/// A table as it was found, with what is needed to find out cheaply whether it is still so.
#[derive(Debug)]
pub(crate) struct Loaded {
    listing: Result<Vec<Listed>, Error>,
    /// Parallel to the listing; empty where the listing failed.
    files: Vec<Arc<DataFile>>,
    /// Whether every further change of a file will show in its stamp.
    settled: bool,
    pub(crate) table: Arc<dyn TableProvider>,
}

impl Loaded {
    /// Lists the table at `path` and loads it, or returns `before` if nothing has changed. Blocks.
    pub(crate) fn refresh(root: &Path, path: &Path, footers: &Arc<Footers>, before: Option<Arc<Self>>) -> Arc<Self> {
        let now = SystemTime::now();
        let listing = list(root, path);
        if let Some(before) = before.as_ref().filter(|before| before.settled && before.listing == listing) {
            return Arc::clone(before);
        }
        let files = listing.as_ref().map(|listed| reuse(listed, before.as_deref(), now)).unwrap_or_default();
        let settled = files.iter().all(|file| file.settled());
        let table = listing.clone().and_then(|listed| open(&listed, &files, footers));
        let table: Arc<dyn TableProvider> = match table {
            Ok(table) => Arc::new(table),
            Err(error) => {
                if before.is_none_or(|before| before.failure() != Some(&error)) {
                    tracing::warn!(path = %path.display(), %error, "table cannot be read");
                }
                Arc::new(BrokenTable::new(error))
            }
        };
        Arc::new(Self { listing, files, settled, table })
    }

    fn failure(&self) -> Option<&Error> {
        super::broken::broken(self.table.as_ref())
    }
}

/// The files of the listing; those that are certain to be unchanged keep their identity, and with it their cached footer.
fn reuse(listed: &[Listed], before: Option<&Loaded>, now: SystemTime) -> Vec<Arc<DataFile>> {
    // What was read while it could still change is read again.
    let known: HashMap<&Path, &Arc<DataFile>> =
        before.iter().flat_map(|before| &before.files).filter(|file| file.settled()).map(|file| (file.path(), file)).collect();
    let file = |listed: &Listed| match known.get(listed.path.as_path()).filter(|file| file.stamp() == listed.stamp) {
        Some(file) => Arc::clone(file),
        None => Arc::new(DataFile::new(listed.path.clone(), listed.label.clone(), listed.stamp, now)),
    };
    listed.iter().map(file).collect()
}

fn open(listed: &[Listed], files: &[Arc<DataFile>], footers: &Arc<Footers>) -> Result<ParquetTable, Error> {
    let (keys, types) = partition_columns(listed)?;
    let footers_read = read_footers(files, footers)?;
    let schemas = files.iter().zip(&footers_read).map(|(file, footer)| file_schema(file, footer)).collect::<Result<Vec<_>, _>>()?;
    let merged = merge::merge(files.iter().map(|file| file.label()).zip(&schemas))?;
    // The folder names win over columns of the same name within the files, as in Spark and DuckDB.
    let columns: Vec<FieldRef> = merged.fields().iter().filter(|field| !keys.contains(field.name())).cloned().collect();
    let columns: SchemaRef = Arc::new(Schema::new(columns));

    let values = |listed: &Listed| -> Vec<ScalarValue> {
        let pairs = listed.pairs.iter().zip(&types);
        pairs.map(|((_, text), field)| partition::value(text.as_deref(), field.data_type())).collect()
    };
    let parts = listed.iter().map(values).zip(files).zip(&footers_read);
    let table_files = parts.map(|((values, file), footer)| table_file(file, footer, &columns, values)).collect();
    Ok(ParquetTable::new(table_files, columns, types, Arc::clone(footers)))
}

/// Facts about one file in terms of the table's `columns`, which are the files' own without partition columns.
pub(crate) fn table_file(file: &Arc<DataFile>, footer: &ParquetMetaData, columns: &SchemaRef, values: Vec<ScalarValue>) -> TableFile {
    let statistics = Arc::new(statistics::collect(footer, columns, &values));
    TableFile { file: Arc::clone(file), partition_values: values, statistics, rows: statistics::rows(footer) }
}

fn partition_columns(listed: &[Listed]) -> Result<(Vec<String>, Vec<FieldRef>), Error> {
    let keys_of = |listed: &Listed| -> Vec<String> { listed.pairs.iter().map(|(key, _)| key.clone()).collect() };
    let Some(first) = listed.first() else { return Ok((Vec::new(), Vec::new())) };
    let keys = keys_of(first);
    for other in listed {
        let other_keys = keys_of(other);
        if other_keys != keys {
            return Err(Error::PartitionDrift {
                first: first.label.clone(),
                first_keys: keys.join(", "),
                second: other.label.clone(),
                second_keys: other_keys.join(", "),
            });
        }
    }
    if let Some(twice) = keys.iter().enumerate().find(|(at, key)| keys[..*at].contains(key)) {
        return Err(Error::DuplicateColumn { path: first.label.clone(), column: twice.1.clone() });
    }
    let column = |(at, key): (usize, &String)| -> FieldRef {
        let values: BTreeSet<Option<&str>> = listed.iter().map(|listed| listed.pairs[at].1.as_deref()).collect();
        Arc::new(Field::new(key, partition::infer(&values), values.contains(&None)))
    };
    let columns = keys.iter().enumerate().map(column).collect();
    Ok((keys, columns))
}

/// Reads the footers of all files, several at a time. Blocks.
pub(crate) fn read_footers(files: &[Arc<DataFile>], footers: &Footers) -> Result<Vec<Arc<ParquetMetaData>>, Error> {
    if files.len() < READERS {
        return files.iter().map(|file| footers.footer(file)).collect();
    }
    let share = files.len().div_ceil(READERS);
    std::thread::scope(|scope| {
        let read = |files: &[Arc<DataFile>]| files.iter().map(|file| footers.footer(file)).collect::<Result<Vec<_>, _>>();
        let threads: Vec<_> = files.chunks(share).map(|files| scope.spawn(move || read(files))).collect();
        let mut all = Vec::with_capacity(files.len());
        for thread in threads {
            match thread.join() {
                Ok(read) => all.extend(read?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}
