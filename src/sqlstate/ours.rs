//! Our own errors, class by class. No arm is left to chance: a new error does not compile without its SQLSTATE.

use datafusion::common::DataFusionError;
use stratagem_udfs::error::Error as FunctionError;
use stratagem_udfs::models::Error as ModelError;

use super::{SqlError, SqlState, internal};
use crate::catalog::Error as CatalogError;
use crate::store::Error as StoreError;

/// The error of ours that `error` is, or none.
pub(super) fn find(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<SqlError> {
    if let Some(error) = error.downcast_ref::<SqlError>() {
        return Some(error.clone());
    }
    if let Some(error) = error.downcast_ref::<FunctionError>() {
        return Some(function(error));
    }
    if let Some(error) = error.downcast_ref::<ModelError>() {
        return Some(with_hint(model(error), error.hint()));
    }
    if let Some(error) = error.downcast_ref::<CatalogError>() {
        return Some(with_hint(catalog(error), Some(error.hint())));
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return Some(with_hint(store(error), error.hint()));
    }
    None
}

impl From<StoreError> for SqlError {
    fn from(error: StoreError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<CatalogError> for SqlError {
    fn from(error: CatalogError) -> Self {
        with_hint(catalog(&error), Some(error.hint()))
    }
}

impl From<ModelError> for SqlError {
    fn from(error: ModelError) -> Self {
        function(&FunctionError::Model(error))
    }
}

fn with_hint(mut error: SqlError, hint: Option<impl Into<String>>) -> SqlError {
    error.hint = error.hint.or(hint.map(Into::into));
    error
}

fn function(error: &FunctionError) -> SqlError {
    use SqlState::*;
    let state = match error {
        FunctionError::Call { .. } | FunctionError::NoSuchFunction { .. } => UndefinedFunction,
        FunctionError::InQuery { source, .. } => {
            let inner: SqlError = super::engine::classify(source);
            let message = error.to_string().replace(&source.to_string(), &inner.message);
            return SqlError { message, location: None, ..inner };
        }
        FunctionError::Model(inner) => return with_hint(model(inner), error.hint()),
        FunctionError::NoSuchColumn { .. } => UndefinedColumn,
        FunctionError::AmbiguousColumn { .. } => AmbiguousColumn,
        FunctionError::WrongType { .. } => DatatypeMismatch,
        FunctionError::WrongModel { .. } => WrongObjectType,
        FunctionError::InvalidValue { .. } => InvalidParameterValue,
        FunctionError::Nulls { .. } => NullValueNotAllowed,
        FunctionError::Unmet { .. } => DataException,
        FunctionError::Spent { late: true, .. } => QueryCanceled,
        FunctionError::Spent { late: false, .. } => LimitExceeded,
        FunctionError::Unsupported { .. } => FeatureNotSupported,
    };
    let mut sql = SqlError::new(state, error.to_string());
    sql.detail = error.detail();
    with_hint(sql, error.hint())
}

fn model(error: &ModelError) -> SqlError {
    use SqlState::*;
    let state = match error {
        ModelError::NoSuchModel { .. }
        | ModelError::NoSuchVersion { .. }
        | ModelError::NoSuchAlias { .. }
        | ModelError::NoSuchPrompt { .. } => UndefinedObject,
        ModelError::InvalidName { .. } | ModelError::Data { .. } | ModelError::InvalidOption { .. } => InvalidParameterValue,
        ModelError::Corrupt { .. } => DataCorrupted,
        ModelError::Unsupported { .. } => FeatureNotSupported,
        ModelError::RuntimeMissing { .. } | ModelError::Io { .. } => IoError,
        ModelError::Busy { .. } => ObjectInUse,
        ModelError::HasAlias { .. } => DependentObjects,
        ModelError::Canceled => QueryCanceled,
        ModelError::QueueFull { .. } => LimitExceeded,
        ModelError::CacheMemory { .. } => OutOfMemory,
        ModelError::PromptTooLong { .. } | ModelError::Constraint { .. } => InvalidParameterValue,
        ModelError::Stopped => AdminShutdown,
        ModelError::Graph { .. } | ModelError::Runtime { .. } => return internal(&error.to_string()),
    };
    if let ModelError::Io { source, .. } = error
        && matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    {
        return SqlError::new(DiskFull, "the disk is full: the model could not be saved");
    }
    SqlError::new(state, error.to_string())
}

fn catalog(error: &CatalogError) -> SqlError {
    use SqlState::*;
    let state = match error {
        CatalogError::Root { .. } | CatalogError::Io { .. } | CatalogError::Changed { .. } | CatalogError::Empty { .. } => IoError,
        CatalogError::NotParquet { .. }
        | CatalogError::Damaged { .. }
        | CatalogError::TypeDrift { .. }
        | CatalogError::PartitionDrift { .. }
        | CatalogError::DuplicateColumn { .. }
        | CatalogError::Ambiguous { .. } => DataException,
        CatalogError::ReservedName { .. } => ReservedName,
        CatalogError::Link { .. } | CatalogError::ReadOnly { .. } => InsufficientPrivilege,
        CatalogError::NotUnicode { .. } | CatalogError::NotUtf8 { .. } => CharacterNotInRepertoire,
    };
    SqlError::new(state, error.to_string())
}

fn store(error: &StoreError) -> SqlError {
    use SqlState::*;
    let state = match error {
        StoreError::Exists { .. } => DuplicateTable,
        StoreError::NoSuchTable { .. } | StoreError::NoSuchView { .. } => UndefinedTable,
        StoreError::NotATable { .. } | StoreError::NotAView { .. } => WrongObjectType,
        StoreError::NameTooLong { .. } => NameTooLong,
        StoreError::NameEmpty => InvalidName,
        StoreError::DuplicateColumn { .. } => DuplicateColumn,
        StoreError::NoColumns { .. } | StoreError::UnsupportedType { .. } => FeatureNotSupported,
        StoreError::ColumnCount { .. } => SyntaxError,
        StoreError::BadValue { .. } => DataException,
        StoreError::Replaced { .. } | StoreError::Conflict { .. } => SerializationFailure,
        StoreError::SchemaExists { .. } => DuplicateSchema,
        StoreError::NoSuchSchema { .. } => InvalidSchemaName,
        StoreError::SchemaInUse { .. } => DependentObjects,
        StoreError::DiskFull { .. } | StoreError::QuotaExceeded { .. } => DiskFull,
        StoreError::Locked { .. } => ObjectInUse,
        StoreError::Io { .. } => IoError,
        StoreError::Broken(inner) => return catalog(inner),
        StoreError::Query(inner) => return super::engine::classify(inner),
        StoreError::Internal { .. } => return internal(&error.to_string()),
    };
    SqlError::new(state, error.to_string())
}
