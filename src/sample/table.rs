//! Writing one table as Parquet: the same rows give the same bytes, and a reader never sees half a table.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::basic::{Compression, Encoding, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::SortingColumn;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;

/// Rows of one row group: small enough that time filters skip most of a year, large enough that pages compress well.
const ROW_GROUP_ROWS: usize = 262_144;

/// A table of more rows than this becomes a folder of part files, none larger.
pub(crate) const PART_ROWS: usize = 20 * ROW_GROUP_ROWS;

/// What can go wrong while a table is written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The Parquet writer refused; a full disk arrives this way.
    #[error("cannot write {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the writer said.
        source: ParquetError,
    },
}

impl Error {
    /// An I/O error at `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        "check that the folder can be written and that the disk has room, or choose another folder with --to"
    }
}

/// A table that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Name of the table.
    pub(crate) name: &'static str,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) files: usize,
}

/// Writes the batches of one table into `NAME.parquet`, or into `NAME/part-00000.parquet` and so on when they are many.
#[derive(Debug)]
pub(crate) struct TableWriter {
    folder: PathBuf,
    name: &'static str,
    schema: SchemaRef,
    sorted_by: Option<usize>,
    part_rows: usize,
    part: Option<Part>,
    written: Written,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    writer: ArrowWriter<BufWriter<File>>,
    rows: usize,
}

impl TableWriter {
    /// A table in `folder`; `sorted_by` is the column in whose ascending order the rows come.
    pub(crate) fn new(folder: &Path, name: &'static str, schema: SchemaRef, sorted_by: Option<usize>) -> Self {
        let written = Written { name, rows: 0, bytes: 0, files: 0 };
        Self { folder: folder.join(name), name, schema, sorted_by, part_rows: PART_ROWS, part: None, written }
    }

    /// Appends the rows, starting another part file whenever one is full.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let mut offset = 0;
        while offset < batch.num_rows() {
            let part = match self.part.take() {
                Some(part) => part,
                None => self.open()?,
            };
            let part = self.part.insert(part);
            let rows = (self.part_rows - part.rows).min(batch.num_rows() - offset);
            part.writer.write(&batch.slice(offset, rows)).map_err(|source| Error::Parquet { path: part.path.clone(), source })?;
            part.rows += rows;
            offset += rows;
            self.written.rows += rows as u64;
            if part.rows == self.part_rows {
                self.close()?;
            }
        }
        Ok(())
    }

    /// Closes the table; one part becomes a plain file, and a table without rows a file without rows.
    pub(crate) fn finish(mut self) -> Result<Written, Error> {
        if self.written.files == 0 && self.part.is_none() {
            self.part = Some(self.open()?);
        }
        self.close()?;
        if self.written.files == 1 {
            let part = part_path(&self.folder, 0);
            let file = self.folder.with_file_name(format!("{}.parquet", self.name));
            fs::rename(&part, &file).map_err(Error::io(&file))?;
            fs::remove_dir(&self.folder).map_err(Error::io(&self.folder))?;
        }
        Ok(self.written)
    }

    fn open(&self) -> Result<Part, Error> {
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        let path = part_path(&self.folder, self.written.files);
        let file = File::create(&path).map_err(Error::io(&path))?;
        let options = ArrowWriterOptions::new().with_properties(properties(&self.schema, self.sorted_by)).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(BufWriter::with_capacity(1 << 20, file), self.schema.clone(), options)
            .map_err(|source| Error::Parquet { path: path.clone(), source })?;
        Ok(Part { path, writer, rows: 0 })
    }

    fn close(&mut self) -> Result<(), Error> {
        let Some(Part { path, writer, .. }) = self.part.take() else { return Ok(()) };
        let buffer = writer.into_inner().map_err(|source| Error::Parquet { path: path.clone(), source })?;
        let file = buffer.into_inner().map_err(|error| Error::io(&path)(error.into_error()))?;
        // the rename that publishes the table must not overtake its bytes
        file.sync_all().map_err(Error::io(&path))?;
        self.written.bytes += file.metadata().map_err(Error::io(&path))?.len();
        self.written.files += 1;
        Ok(())
    }
}

fn part_path(folder: &Path, part: usize) -> PathBuf {
    folder.join(format!("part-{part:05}.parquet"))
}

/// Everything that decides a byte of the file is named here, so that neither the clock nor the build shows in it.
fn properties(schema: &Schema, sorted_by: Option<usize>) -> WriterProperties {
    let sorting = sorted_by.map(|column| vec![SortingColumn { column_idx: column as i32, descending: false, nulls_first: false }]);
    let mut properties = WriterProperties::builder();
    for (index, field) in schema.fields().iter().enumerate() {
        // values that hardly ever repeat and mostly rise: differences are shorter than a dictionary
        if sorted_by == Some(index) || matches!(field.data_type(), DataType::Timestamp(..)) {
            let column = ColumnPath::from(field.name().as_str());
            properties = properties.set_column_dictionary_enabled(column.clone(), false);
            properties = properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties
        .set_created_by("stratagem".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("3 is a zstd level")))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(sorting)
        .build()
}

/// A hidden folder inside the target in which tables are written before they are moved to their names.
#[derive(Debug)]
pub(crate) struct Staging {
    target: PathBuf,
    folder: PathBuf,
}

impl Staging {
    /// Name of the hidden folder; what an interrupted run left in it is thrown away.
    pub(crate) const NAME: &'static str = ".staging";

    /// Makes `target` and the hidden folder in it.
    pub(crate) fn new(target: &Path) -> Result<Self, Error> {
        let folder = target.join(Self::NAME);
        fs::create_dir_all(target).map_err(Error::io(target))?;
        remove(&folder)?;
        fs::create_dir(&folder).map_err(Error::io(&folder))?;
        Ok(Self { target: target.to_owned(), folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves `files` (plain file names) and the tables to their places, replacing what bears their names.
    pub(crate) fn publish(self, tables: &[Written], files: &[&str]) -> Result<(), Error> {
        for table in tables {
            let (file, folder) = (format!("{}.parquet", table.name), table.name);
            remove(&self.target.join(&file))?;
            remove(&self.target.join(folder))?;
            let name = if table.files == 1 { file.as_str() } else { folder };
            self.publish_one(name)?;
        }
        files.iter().try_for_each(|name| self.publish_one(name))
    }

    fn publish_one(&self, name: &str) -> Result<(), Error> {
        let to = self.target.join(name);
        fs::rename(self.folder.join(name), &to).map_err(Error::io(&to))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // best effort: the next run removes what stays
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes a file or a folder, if there is one.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::Int32Array;
    use datafusion::arrow::datatypes::Field;

    use super::*;

    fn batch(rows: i32) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::Int32, false)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int32Array::from_iter_values(0..rows))]).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn large_table_becomes_a_folder_of_full_parts() {
        let folder = tempfile::tempdir().unwrap();
        let batch = batch(7);
        let mut table = TableWriter::new(folder.path(), "t", batch.schema(), Some(0));
        table.part_rows = 4;
        table.write(&batch).unwrap();
        table.write(&batch).unwrap();
        let written = table.finish().unwrap();
        assert_eq!((written.rows, written.files), (14, 4));
        assert_eq!(names(&folder.path().join("t")), (0..4).map(|part| format!("part-0000{part}.parquet")).collect::<Vec<_>>());
    }

    #[test]
    fn small_and_empty_tables_are_one_file() {
        let folder = tempfile::tempdir().unwrap();
        for (name, rows) in [("empty", 0), ("small", 3)] {
            let batch = batch(rows);
            let mut table = TableWriter::new(folder.path(), name, batch.schema(), None);
            table.write(&batch).unwrap();
            assert_eq!(table.finish().unwrap().rows, rows as u64);
        }
        assert_eq!(names(folder.path()), ["empty.parquet", "small.parquet"]);
    }

    #[test]
    fn publishing_replaces_a_folder_by_a_file_and_leaves_no_staging() {
        let target = tempfile::tempdir().unwrap();
        fs::create_dir(target.path().join("t")).unwrap();
        fs::write(target.path().join("t/part-00000.parquet"), "old").unwrap();
        let staging = Staging::new(target.path()).unwrap();
        let table = TableWriter::new(staging.folder(), "t", batch(0).schema(), None).finish().unwrap();
        staging.publish(&[table], &[]).unwrap();
        assert_eq!(names(target.path()), ["t.parquet"]);
    }
}
