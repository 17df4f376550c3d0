//! What can be wrong with a folder of Parquet files.

use std::error::Error as StdError;
use std::io;

use datafusion::error::DataFusionError;

/// A reason why a table, or the data folder, cannot be read.
///
/// Paths are relative to the data folder, so that no server path reaches a client. Errors are cheap to clone because a
/// broken table gives its reason to every statement that names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The data folder does not exist, is not a folder or may not be listed (class 58030).
    #[error("data folder {path} cannot be read: {reason}")]
    Root {
        /// The folder as the operator named it.
        path: String,
        /// The operating system's reason.
        reason: String,
    },
    /// The operating system refused to open or read a file or folder (class 58030).
    #[error("{path} cannot be read: {reason}")]
    Io {
        /// File or folder, relative to the data folder.
        path: String,
        /// The operating system's reason.
        reason: String,
    },
    /// The file has no valid Parquet footer: other content, cut short, or still being written (class 22000).
    #[error("file {path} is not a complete Parquet file: {reason}")]
    NotParquet {
        /// File, relative to the data folder.
        path: String,
        /// What the reader found.
        reason: String,
    },
    /// The footer is fine but the data behind it cannot be decoded (class 22000).
    #[error("file {path} is damaged: {reason}")]
    Damaged {
        /// File, relative to the data folder.
        path: String,
        /// What the reader found.
        reason: String,
    },
    /// A text column of the file holds bytes that are not UTF-8 (class 22021).
    #[error("file {path} holds text that is not valid UTF-8")]
    NotUtf8 {
        /// File, relative to the data folder.
        path: String,
    },
    /// The file was replaced, changed or removed while a statement read it (class 58030).
    #[error("file {path} changed while it was being read")]
    Changed {
        /// File, relative to the data folder.
        path: String,
    },
    /// A folder that is a table by its place or name holds no Parquet file (class 58030).
    #[error("folder {path} holds no Parquet file")]
    Empty {
        /// Folder, relative to the data folder.
        path: String,
    },
    /// One column has different types in two files of one table (class 22000).
    #[error("column {column} is {first_type} in file {first} and {second_type} in file {second}")]
    TypeDrift {
        /// Column name.
        column: String,
        /// First file, relative to the data folder.
        first: String,
        /// SQL or Arrow name of the type in the first file.
        first_type: String,
        /// Second file, relative to the data folder.
        second: String,
        /// SQL or Arrow name of the type in the second file.
        second_type: String,
    },
    /// Two files of one table lie under different partition keys (class 22000).
    #[error("file {first} is partitioned by ({first_keys}) and file {second} by ({second_keys})")]
    PartitionDrift {
        /// First file, relative to the data folder.
        first: String,
        /// Its partition keys, joined by commas.
        first_keys: String,
        /// Second file, relative to the data folder.
        second: String,
        /// Its partition keys, joined by commas.
        second_keys: String,
    },
    /// A file has two columns of one name, which SQL could not tell apart (class 22000).
    #[error("file {path} has two columns named {column}")]
    DuplicateColumn {
        /// File, relative to the data folder.
        path: String,
        /// Column name.
        column: String,
    },
    /// Two files or folders would be the same table (class 22000).
    #[error("table {name} is ambiguous: both {first} and {second} have that name")]
    Ambiguous {
        /// Table name.
        name: String,
        /// First file or folder, relative to the data folder.
        first: String,
        /// Second file or folder, relative to the data folder.
        second: String,
    },
    /// A folder has the name of a schema that belongs to the server (class 42939).
    #[error("folder {path} is ignored: the schema name {name} is reserved")]
    ReservedName {
        /// Folder, relative to the data folder.
        path: String,
        /// The schema name.
        name: String,
    },
    /// A symbolic link that is not followed (class 42501).
    #[error("link {path} is not followed: {reason}")]
    Link {
        /// The link, relative to the data folder.
        path: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// A statement tried to create or drop a table of the data folder (class 25006).
    #[error("table {schema}.{table} belongs to the data folder, which the server only reads")]
    ReadOnly {
        /// Schema.
        schema: String,
        /// Table.
        table: String,
    },
    /// A file or folder name that is not UTF-8 (class 22021).
    #[error("{path} is ignored: its name is not valid UTF-8")]
    NotUnicode {
        /// The name with the invalid bytes replaced.
        path: String,
    },
}

impl Error {
    /// What the reader of the message can do about it; a full sentence without its full stop.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Root { .. } => "start the server with --data and a folder that its user may read",
            Self::Io { .. } => "check that the file exists and that the server's user may read it",
            Self::NotParquet { .. } => {
                "write the file again, or move it out of the data folder; writers should use a hidden name and rename when done"
            }
            Self::Damaged { .. } => "restore the file from its source; no other table is affected",
            Self::NotUtf8 { .. } => "write the column as binary, or convert the text to UTF-8",
            Self::Changed { .. } => "run the statement again; replace files by renaming a finished file over the old one",
            Self::Empty { .. } => "put Parquet files into the folder, or remove it",
            Self::TypeDrift { .. } => "write both files with one type, or keep them in different tables",
            Self::PartitionDrift { .. } => "use the same key=value folders for every file of the table",
            Self::DuplicateColumn { .. } => "write the file with different column names",
            Self::Ambiguous { .. } => "rename one of the two",
            Self::ReservedName { .. } => "rename the folder",
            Self::Link { .. } => "put the data itself into the data folder, or mount it there",
            Self::ReadOnly { .. } => "create tables in the schema work, or put files into the data folder",
            Self::NotUnicode { .. } => "rename the file or folder",
        }
    }

    /// The catalog error inside `error`, however deep DataFusion, Arrow and Parquet have wrapped it.
    #[must_use]
    pub fn find<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Self> {
        in_chain(error)
    }

    pub(crate) fn io(path: &str, error: &io::Error) -> Self {
        Self::Io { path: path.to_owned(), reason: reason(error) }
    }
}

/// The first error of type `T` inside `error`, however deep DataFusion, Arrow and Parquet have wrapped it.
pub(crate) fn in_chain<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<T>() {
            return Some(found);
        }
        next = inner(current);
    }
    None
}

/// One step down the chain. Arrow and Parquet report the *source of* a wrapped error, or nothing, where the wrapped error is wanted.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    use datafusion::arrow::error::ArrowError;
    use datafusion::parquet::errors::ParquetError;

    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return match error {
            DataFusionError::External(inner) => Some(inner.as_ref()),
            DataFusionError::ParquetError(inner) => Some(inner.as_ref()),
            DataFusionError::ArrowError(inner, _) => Some(inner.as_ref()),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => Some(inner.as_ref()),
            DataFusionError::Shared(inner) => Some(inner.as_ref()),
            DataFusionError::Collection(inner) => inner.first().map(|first| first as _),
            other => other.source(),
        };
    }
    if let Some(ParquetError::External(inner)) = error.downcast_ref::<ParquetError>() {
        return Some(inner.as_ref());
    }
    if let Some(ArrowError::ExternalError(inner)) = error.downcast_ref::<ArrowError>() {
        return Some(inner.as_ref());
    }
    error.source()
}

/// The operating system's reason without Rust's "(os error N)".
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::parquet::errors::ParquetError;

    use super::*;

    #[test]
    fn catalog_error_is_found_below_every_wrapping() {
        let error = Error::Empty { path: "shop/events".into() };
        let parquet = ParquetError::External(Box::new(error.clone()));
        let wrapped = DataFusionError::Shared(Arc::new(DataFusionError::Context("scan".into(), Box::new(parquet.into()))));
        assert_eq!(Error::find(&wrapped), Some(&error));
        assert_eq!(Error::find(&DataFusionError::Plan("no such column".into())), None);
    }

    #[test]
    fn reason_leaves_out_the_error_number() {
        assert_eq!(reason(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
