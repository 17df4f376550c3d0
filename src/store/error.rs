//! What can go wrong with the tables and views that users create.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

use crate::catalog;

/// A failed change of the writable schema. A change that failed has left nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A table or view of that name is there (42P07).
    #[error("relation {name} already exists")]
    Exists {
        /// Relation name.
        name: String,
    },
    /// No table of that name (42P01).
    #[error("table {name} does not exist")]
    NoSuchTable {
        /// Table name.
        name: String,
    },
    /// No view of that name (42P01).
    #[error("view {name} does not exist")]
    NoSuchView {
        /// View name.
        name: String,
    },
    /// The name belongs to a view where a table is needed (42809).
    #[error("{name} is not a table")]
    NotATable {
        /// Relation name.
        name: String,
    },
    /// The name belongs to a table where a view is needed (42809).
    #[error("{name} is not a view")]
    NotAView {
        /// Relation name.
        name: String,
    },
    /// Names have 1 to 63 bytes (42622).
    #[error("identifier {name} is too long: {length} bytes, at most {} are possible", super::NAME_BYTES)]
    NameTooLong {
        /// The name.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// An empty name (42602).
    #[error("a zero-length name is not possible")]
    NameEmpty,
    /// Two columns of one name (42701).
    #[error("column {column} specified more than once")]
    DuplicateColumn {
        /// Column name.
        column: String,
    },
    /// A table without columns (0A000).
    #[error("table {name} would have no columns")]
    NoColumns {
        /// Table name.
        name: String,
    },
    /// Parquet has no place for the type (0A000).
    #[error("column {column} of type {data_type} cannot be stored")]
    UnsupportedType {
        /// Column name.
        column: String,
        /// Arrow name of the type.
        data_type: String,
    },
    /// The inserted rows have another number of columns than the table (42601).
    #[error("table {name} has {expected} columns but {found} were supplied")]
    ColumnCount {
        /// Table name.
        name: String,
        /// Columns of the table.
        expected: usize,
        /// Columns of the rows.
        found: usize,
    },
    /// A value does not fit the table's column (22000).
    #[error("column {column}: {reason}")]
    BadValue {
        /// Column name.
        column: String,
        /// What does not fit.
        reason: String,
    },
    /// The table was dropped and created again while rows were being inserted (40001).
    #[error("table {name} was replaced while rows were being inserted")]
    Replaced {
        /// Table name.
        name: String,
    },
    /// Two transactions have changed one relation (40001).
    #[error("could not serialize access to {name} due to concurrent update")]
    Conflict {
        /// Relation name.
        name: String,
    },
    /// A schema of that name is there (42P06).
    #[error("schema {name} already exists")]
    SchemaExists {
        /// Schema name.
        name: String,
    },
    /// No writable schema of that name (3F000).
    #[error("schema {name} does not exist")]
    NoSuchSchema {
        /// Schema name.
        name: String,
    },
    /// The schema has tables or views (2BP01).
    #[error("cannot drop schema {name} because other objects depend on it")]
    SchemaInUse {
        /// Schema name.
        name: String,
    },
    /// The device is full (53100).
    #[error("no space left on device for {path}")]
    DiskFull {
        /// File, relative to the state directory.
        path: String,
    },
    /// The configured limit on stored bytes is reached (53100).
    #[error("stored tables would exceed their limit of {limit} bytes")]
    QuotaExceeded {
        /// The limit in bytes.
        limit: u64,
    },
    /// Another server has the state directory open (55006).
    #[error("state directory {path} is in use by another server{}", pid(*.process))]
    Locked {
        /// The directory.
        path: String,
        /// Process id of the other server, if it could be read.
        process: Option<u32>,
    },
    /// The operating system refused (58030).
    #[error("{path}: {reason}")]
    Io {
        /// File or folder, relative to the state directory where it is inside.
        path: String,
        /// The operating system's reason.
        reason: String,
    },
    /// A table whose files are missing or damaged.
    #[error(transparent)]
    Broken(#[from] catalog::Error),
    /// The query that was to deliver the rows failed, with its own class.
    #[error(transparent)]
    Query(DataFusionError),
    /// The server's own fault, for instance a panic in the Parquet writer (XX000).
    #[error("rows could not be stored: {reason}")]
    Internal {
        /// What happened.
        reason: String,
    },
}

fn pid(process: Option<u32>) -> String {
    process.map(|process| format!(" (process {process})")).unwrap_or_default()
}

impl Error {
    /// What the reader of the message can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Exists { .. } => "use IF NOT EXISTS or OR REPLACE, or another name",
            Self::NotATable { .. } => "use DROP VIEW to remove a view",
            Self::NotAView { .. } => "use DROP TABLE to remove a table",
            Self::UnsupportedType { .. } => "cast the column to another type, for instance text",
            Self::DuplicateColumn { .. } => "give one of the columns another name with AS",
            Self::DiskFull { .. } => "free space on the device, or drop tables that are not needed",
            Self::QuotaExceeded { .. } => "drop tables that are not needed, or raise the limit in the server's configuration",
            Self::Locked { .. } => "stop the other server, or give this one another state directory",
            Self::Replaced { .. } => "run the statement again",
            Self::Conflict { .. } => "run the transaction again",
            Self::SchemaInUse { .. } => "use DROP ... CASCADE to drop them too",
            Self::Broken(error) => error.hint(),
            _ => return None,
        })
    }

    /// The store error inside `error`, however deep DataFusion has wrapped it.
    #[must_use]
    pub fn find<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Self> {
        catalog::in_chain(error)
    }

    pub(crate) fn io(root: &Path, path: &Path, error: &io::Error) -> Self {
        let path = path.strip_prefix(root).unwrap_or(path).display().to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::DiskFull { path },
            _ => Self::Io { path, reason: catalog::os_reason(error) },
        }
    }

    pub(crate) fn parquet(root: &Path, path: &Path, error: &ParquetError) -> Self {
        match catalog::in_chain::<io::Error>(error) {
            Some(error) => Self::io(root, path, error),
            None => Self::Internal { reason: error.to_string() },
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        match error {
            Error::Query(error) => error,
            Error::Broken(error) => error.into(),
            error => Self::External(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_device_is_told_from_other_failures_of_the_writer() {
        let (root, path) = (Path::new("/state"), Path::new("/state/tables/t-1/2.parquet"));
        let full = ParquetError::External(Box::new(io::Error::from_raw_os_error(28)));
        let error = Error::parquet(root, path, &full);
        assert!(matches!(&error, Error::DiskFull { path } if path == "tables/t-1/2.parquet"), "{error}");
        let denied = Error::io(root, path, &io::Error::from_raw_os_error(13));
        assert_eq!(denied.to_string(), "tables/t-1/2.parquet: permission denied");
    }
}
