//! The one table from what went wrong to what a PostgreSQL client is told: SQLSTATE, message, detail, hint and position.

mod ours;

use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;

/// The SQLSTATEs this server answers with, as in appendix A of the PostgreSQL manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SqlState {
    SuccessfulCompletion,
    Warning,
    FeatureNotSupported,
    ProtocolViolation,
    ConnectionFailure,
    InvalidAuthorization,
    NumericValueOutOfRange,
    DivisionByZero,
    CharacterNotInRepertoire,
    InvalidParameterValue,
    InvalidTextRepresentation,
    DatatypeMismatch,
    InvalidBinaryRepresentation,
    BadCopyFileFormat,
    InvalidDatetimeFormat,
    DatetimeFieldOverflow,
    InvalidTimeZoneDisplacement,
    InvalidArgumentForWidthBucket,
    ArraySubscriptError,
    InvalidEscapeSequence,
    DataException,
    NullValueNotAllowed,
    ActiveTransaction,
    NoActiveTransaction,
    InFailedTransaction,
    InvalidSavepoint,
    ReadOnlyTransaction,
    InvalidStatementName,
    InvalidCursorName,
    InsufficientPrivilege,
    SyntaxError,
    UndefinedColumn,
    InvalidColumnReference,
    UndefinedFunction,
    UndefinedTable,
    UndefinedObject,
    AmbiguousColumn,
    DuplicateColumn,
    DuplicateTable,
    DuplicateSchema,
    DuplicateObject,
    DuplicateStatement,
    DuplicateCursor,
    DependentObjects,
    InvalidSchemaName,
    InvalidName,
    InvalidTableDefinition,
    ReservedName,
    NameTooLong,
    WrongObjectType,
    GroupingError,
    IndeterminateDatatype,
    DiskFull,
    OutOfMemory,
    TooManyConnections,
    LimitExceeded,
    ProgramLimitExceeded,
    ObjectInUse,
    NotInPrerequisiteState,
    SerializationFailure,
    QueryCanceled,
    AdminShutdown,
    IoError,
    DataCorrupted,
    DeadlockDetected,
    InternalError,
    LockNotAvailable,
}

impl SqlState {
    /// The five characters of the code.
    pub(crate) fn code(self) -> &'static str {
        use SqlState::*;
        match self {
            SuccessfulCompletion => "00000",
            Warning => "01000",
            FeatureNotSupported => "0A000",
            ProtocolViolation => "08P01",
            ConnectionFailure => "08006",
            InvalidAuthorization => "28000",
            NumericValueOutOfRange => "22003",
            DivisionByZero => "22012",
            CharacterNotInRepertoire => "22021",
            InvalidParameterValue => "22023",
            InvalidTextRepresentation => "22P02",
            DatatypeMismatch => "42804",
            InvalidBinaryRepresentation => "22P03",
            BadCopyFileFormat => "22P04",
            InvalidDatetimeFormat => "22007",
            DatetimeFieldOverflow => "22008",
            InvalidTimeZoneDisplacement => "22009",
            InvalidArgumentForWidthBucket => "2201G",
            ArraySubscriptError => "2202E",
            InvalidEscapeSequence => "22025",
            DataException => "22000",
            NullValueNotAllowed => "22004",
            ActiveTransaction => "25001",
            NoActiveTransaction => "25P01",
            InFailedTransaction => "25P02",
            InvalidSavepoint => "3B001",
            ReadOnlyTransaction => "25006",
            InvalidStatementName => "26000",
            InvalidCursorName => "34000",
            InsufficientPrivilege => "42501",
            SyntaxError => "42601",
            UndefinedColumn => "42703",
            InvalidColumnReference => "42P10",
            UndefinedFunction => "42883",
            UndefinedTable => "42P01",
            UndefinedObject => "42704",
            AmbiguousColumn => "42702",
            DuplicateColumn => "42701",
            DuplicateTable => "42P07",
            DuplicateSchema => "42P06",
            DuplicateObject => "42710",
            DuplicateStatement => "42P05",
            DuplicateCursor => "42P03",
            DependentObjects => "2BP01",
            InvalidSchemaName => "3F000",
            InvalidName => "42602",
            InvalidTableDefinition => "42P16",
            ReservedName => "42939",
            NameTooLong => "42622",
            WrongObjectType => "42809",
            GroupingError => "42803",
            IndeterminateDatatype => "42P18",
            DeadlockDetected => "40P01",
            LockNotAvailable => "55P03",
            DiskFull => "53100",
            OutOfMemory => "53200",
            TooManyConnections => "53300",
            LimitExceeded => "53400",
            ProgramLimitExceeded => "54000",
            ObjectInUse => "55006",
            NotInPrerequisiteState => "55000",
            SerializationFailure => "40001",
            QueryCanceled => "57014",
            AdminShutdown => "57P01",
            IoError => "58030",
            DataCorrupted => "XX001",
            InternalError => "XX000",
        }
    }
}

/// How bad it is, in PostgreSQL's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Notice,
    Warning,
    Error,
    Fatal,
}

impl Severity {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

/// An error or a notice as the client sees it.
#[derive(Debug, Clone)]
pub(crate) struct SqlError {
    pub(crate) severity: Severity,
    pub(crate) state: SqlState,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    /// Where in the data it happened, if not in the statement.
    pub(crate) context: Option<Box<str>>,
    /// Line and column (from 1) in the statement, where known.
    pub(crate) location: Option<(u64, u64)>,
}

impl SqlError {
    pub(crate) fn new(state: SqlState, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, state, message: message.into(), detail: None, hint: None, context: None, location: None }
    }

    pub(crate) fn fatal(state: SqlState, message: impl Into<String>) -> Self {
        Self { severity: Severity::Fatal, ..Self::new(state, message) }
    }

    pub(crate) fn notice(severity: Severity, state: SqlState, message: impl Into<String>) -> Self {
        Self { severity, ..Self::new(state, message) }
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into().into_boxed_str());
        self
    }

    /// The fields of an ErrorResponse or NoticeResponse; `text` is the statement, needed to turn line and column into a position.
    pub(crate) fn fields(&self, text: &str) -> Vec<(u8, String)> {
        let severity = self.severity.name().to_owned();
        let mut fields =
            vec![(b'S', severity.clone()), (b'V', severity), (b'C', self.state.code().to_owned()), (b'M', self.message.replace('\0', ""))];
        if let Some(detail) = &self.detail {
            fields.push((b'D', detail.replace('\0', "")));
        }
        if let Some(hint) = &self.hint {
            fields.push((b'H', hint.replace('\0', "")));
        }
        if let Some(context) = &self.context {
            fields.push((b'W', context.replace('\0', "")));
        }
        if let Some(position) = self.location.and_then(|at| position(text, at)) {
            fields.push((b'P', position.to_string()));
        }
        fields
    }
}

/// The position in characters (from 1) of a line and column (from 1).
fn position(text: &str, (line, column): (u64, u64)) -> Option<u64> {
    let (line, column) = (line.checked_sub(1)?, column.checked_sub(1)?);
    let before: usize = text.split_inclusive('\n').take(usize::try_from(line).ok()?).map(|l| l.chars().count()).sum();
    let position = before as u64 + column + 1;
    (position <= text.chars().count() as u64 + 1).then_some(position)
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.state.code(), self.message)
    }
}

impl std::error::Error for SqlError {}

/// So that our own errors can travel through DataFusion and come out unchanged.
impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<ParserError> for SqlError {
    fn from(error: ParserError) -> Self {
        match error {
            ParserError::RecursionLimitExceeded => SqlError::new(SqlState::ProgramLimitExceeded, "the statement is nested too deeply")
                .with_hint("split it into several statements or common table expressions"),
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => syntax_error(&message),
        }
    }
}

/// sqlparser says "Expected: ..., found: X at Line: 1, Column: 8"; a client wants the position apart from the words.
fn syntax_error(message: &str) -> SqlError {
    let (words, location) = match message.rfind(" at Line: ") {
        Some(at) => (&message[..at], location(&message[at + " at Line: ".len()..])),
        None => (message, None),
    };
    let words = words.trim_start_matches("sql parser error: ");
    let message = match words.rfind("found: ") {
        Some(at) => {
            let found = &words[at + "found: ".len()..];
            if found == "EOF" { "syntax error at end of input".to_owned() } else { format!("syntax error at or near \"{found}\"") }
        }
        None => format!("syntax error: {words}"),
    };
    let mut error = SqlError::new(SqlState::SyntaxError, message);
    if let Some(at) = words.rfind(", found: ") {
        error = error.with_detail(words[..at].replacen("Expected:", "expected", 1));
    }
    error.location = location;
    error
}

fn location(text: &str) -> Option<(u64, u64)> {
    let (line, rest) = text.split_once(", Column: ")?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, column.parse().ok()?))
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let location = error.diagnostic().and_then(|d| d.span).map(|span| (span.start.line, span.start.column));
        let mut sql = classify(&error);
        sql.location = sql.location.or(location);
        sql
    }
}

fn classify(error: &DataFusionError) -> SqlError {
    use SqlState::*;
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => classify(inner),
        DataFusionError::Shared(inner) => classify(inner),
        DataFusionError::Collection(errors) => errors.first().map_or_else(|| internal("empty error collection"), classify),
        DataFusionError::External(inner) => external(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => arrow(inner),
        DataFusionError::ParquetError(inner) => match inner.as_ref() {
            datafusion::parquet::errors::ParquetError::External(inner) => external(inner.as_ref()),
            other => SqlError::new(IoError, format!("a Parquet file can't be read: {}", plain(&other.to_string())))
                .with_hint("the file may be damaged or still being written; replace it and run the query again"),
        },
        DataFusionError::ObjectStore(inner) => SqlError::new(IoError, plain(&inner.to_string())),
        DataFusionError::IoError(inner) => io(inner),
        DataFusionError::SQL(inner, _) => inner.as_ref().clone().into(),
        DataFusionError::NotImplemented(message) | DataFusionError::Substrait(message) => {
            SqlError::new(FeatureNotSupported, plain(message))
        }
        DataFusionError::Plan(message) => plan(message),
        DataFusionError::Configuration(message) => SqlError::new(InvalidParameterValue, plain(message)),
        DataFusionError::SchemaError(inner, _) => schema(inner),
        DataFusionError::Execution(message) => execution(message),
        DataFusionError::ExecutionJoin(inner) => internal(&inner.to_string()),
        DataFusionError::ResourcesExhausted(message) => exhausted(message),
        DataFusionError::Internal(message) if message.starts_with("async functions should not be called directly") => {
            SqlError::new(FeatureNotSupported, "a model or waiting function can't be used at this place of the statement")
                .with_hint("call it in a subquery: SELECT ... FROM (SELECT f(x) AS y FROM t) s")
        }
        DataFusionError::Internal(message) if message.contains("Cannot run range queries on datatype") => {
            SqlError::new(FeatureNotSupported, "a window of ORDER BY cannot range over values of this type")
                .with_hint("write ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW")
        }
        DataFusionError::Internal(message) if unmatched(message).is_some() => plan(message),
        DataFusionError::Internal(message) | DataFusionError::Ffi(message) => internal(message),
    }
}

/// The function whose signatures all failed: the engine calls that an error of its own.
fn unmatched(message: &str) -> Option<&str> {
    let (name, rest) = message.trim_start_matches("Internal error: ").strip_prefix("Function '")?.split_once('\'')?;
    rest.starts_with(" failed to match any signature").then_some(name)
}

/// Errors of our own crates and of the libraries below them, found by their type.
fn external(error: &(dyn std::error::Error + Send + Sync + 'static)) -> SqlError {
    if let Some(error) = ours::find(error) {
        return error;
    }
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return classify(error);
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return arrow(error);
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return io(error);
    }
    internal(&error.to_string())
}

fn arrow(error: &ArrowError) -> SqlError {
    use SqlState::*;
    match error {
        ArrowError::DivideByZero => SqlError::new(DivisionByZero, "division by zero"),
        ArrowError::ArithmeticOverflow(message) => SqlError::new(NumericValueOutOfRange, plain(message)),
        ArrowError::CastError(message) | ArrowError::ParseError(message) => cast(message),
        ArrowError::ExternalError(inner) => external(inner.as_ref()),
        ArrowError::NotYetImplemented(message) => SqlError::new(FeatureNotSupported, plain(message)),
        ArrowError::IoError(message, inner) => SqlError { message: plain(message), ..io(inner) },
        ArrowError::MemoryError(message) => SqlError::new(OutOfMemory, plain(message)),
        ArrowError::InvalidArgumentError(message) | ArrowError::ComputeError(message) => execution(message),
        ArrowError::ParquetError(message) => SqlError::new(IoError, format!("a Parquet file can't be read: {}", plain(message))),
        ArrowError::OffsetOverflowError(_) | ArrowError::DictionaryKeyOverflowError | ArrowError::RunEndIndexOverflowError => {
            SqlError::new(ProgramLimitExceeded, "a column of one batch is larger than 2 GB")
                .with_hint("lower the number of rows per batch: SET datafusion.execution.batch_size = 1024")
        }
        other => SqlError::new(DataException, plain(&other.to_string())),
    }
}

fn io(error: &std::io::Error) -> SqlError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            SqlError::new(SqlState::DiskFull, "the disk is full").with_hint("free space in the server's state or temporary directory")
        }
        _ => SqlError::new(SqlState::IoError, plain(&error.to_string())),
    }
}

fn cast(message: &str) -> SqlError {
    let overflow = message.contains("overflow") || message.contains("Can't cast value") || message.contains("out of range");
    SqlError::new(if overflow { SqlState::NumericValueOutOfRange } else { SqlState::InvalidTextRepresentation }, plain(message))
}

fn execution(message: &str) -> SqlError {
    use SqlState::*;
    let lower = message.to_ascii_lowercase();
    let state = if lower.contains("divide by zero") || lower.contains("division by zero") {
        DivisionByZero
    } else if lower.contains("overflow") {
        NumericValueOutOfRange
    } else if lower.contains("error parsing") || lower.contains("invalid input syntax") || lower.contains("cannot cast") {
        InvalidTextRepresentation
    } else {
        InvalidParameterValue
    };
    SqlError::new(state, plain(message))
}

fn exhausted(message: &str) -> SqlError {
    let disk = message.contains("disk space");
    let state = if disk { SqlState::DiskFull } else { SqlState::OutOfMemory };
    let head = if disk {
        "the query needs more temporary disk space than the server allows"
    } else {
        "the query needs more memory than the server allows"
    };
    let hint =
        if disk { "raise limits.temp_disk, or read fewer rows or columns" } else { "raise limits.memory, or read fewer rows or columns" };
    SqlError::new(state, head).with_detail(plain(message)).with_hint(hint)
}

fn plan(message: &str) -> SqlError {
    use SqlState::*;
    if let Some(name) = unmatched(message) {
        return SqlError::new(UndefinedFunction, format!("function {name} does not take arguments of these types"))
            .with_hint("cast them to types that it takes; \\df lists the functions");
    }
    let lower = message.to_ascii_lowercase();
    let state = if lower.contains("table") && lower.contains("not found") {
        UndefinedTable
    } else if lower.contains("invalid function")
        || lower.contains("no function matches")
        || lower.contains("failed to coerce arguments")
        || lower.contains("function '")
    {
        UndefinedFunction
    } else if lower.contains("already exists") {
        DuplicateTable
    } else if lower.contains("group by") || lower.contains("aggregate") {
        GroupingError
    } else if lower.contains("placeholder type could not be resolved") {
        IndeterminateDatatype
    } else if lower.contains("cannot coerce")
        || lower.contains("cannot infer common")
        || lower.contains("cannot cast")
        || lower.contains("cannot get result type")
    {
        DatatypeMismatch
    } else if lower.contains("not supported") || lower.contains("unsupported") {
        FeatureNotSupported
    } else {
        SyntaxError
    };
    let mut error = SqlError::new(state, plain(message).replacen("Invalid function '", "there is no function '", 1));
    // "Invalid function 'x'.\nDid you mean 'y'?" and "No function matches ...\n\tCandidate functions:..." carry their own advice
    if let Some((head, advice)) = error.message.clone().split_once('\n') {
        error.message = head.trim_end_matches(['.', ' ']).to_owned();
        error.hint = Some(advice.trim().replace('\t', "  "));
    }
    error
}

fn schema(error: &SchemaError) -> SqlError {
    use SqlState::*;
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<String> = valid_fields.iter().map(|c| c.name.clone()).collect();
            let error = SqlError::new(UndefinedColumn, format!("column \"{}\" does not exist", field.flat_name()));
            let error = match stratagem_udfs::spelling::closest(names.iter().map(String::as_str), &field.name) {
                Some(name) => error.with_hint(format!("perhaps you meant the column \"{name}\"")),
                None => error,
            };
            if names.is_empty() { error } else { error.with_detail(format!("the columns here are {}", list(&names))) }
        }
        SchemaError::AmbiguousReference { field } => {
            SqlError::new(AmbiguousColumn, format!("column reference \"{}\" is ambiguous", field.name))
                .with_hint("write the table's name or alias before it")
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::new(DuplicateColumn, format!("column \"{name}\" specified more than once")).with_hint("give each an alias of its own")
        }
    }
}

/// The names a person would read: all of a few, the first of many.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.dedup();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

/// A bug of ours or of a library: the client gets an identifier, the log gets the identifier and the text.
pub(crate) fn internal(message: &str) -> SqlError {
    let id = format!("{:08x}", rand::random::<u32>());
    tracing::error!(%id, message, "internal error");
    SqlError::new(SqlState::InternalError, format!("internal error {id}: {}", plain(message)))
        .with_hint("this is a defect of the server; the log holds more under this identifier")
}

/// A library's message without what is meant for its developers.
fn plain(message: &str) -> String {
    let message = message.split("\nThis issue was likely caused by a bug").next().unwrap_or(message);
    let message = message.split("\n\nbacktrace:").next().unwrap_or(message);
    let message = message.split(".\nThis was likely caused by a bug").next().unwrap_or(message);
    let mut text = message.trim();
    for prefix in [
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "External error: ",
        "Parquet error: ",
        "Invalid argument error: ",
        "Compute error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    text.replace("datafusion", "the engine").replace("DataFusion", "the engine").trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_carries_its_position_apart_from_the_words() {
        let error = syntax_error("sql parser error: Expected: end of statement, found: frm at Line: 2, Column: 3");
        assert_eq!(error.message, "syntax error at or near \"frm\"");
        assert_eq!(error.detail.as_deref(), Some("expected end of statement"));
        assert_eq!(error.fields("é\n  frm").last(), Some(&(b'P', "5".to_owned())));
    }

    #[test]
    fn no_message_blames_the_engine() {
        let error: SqlError = DataFusionError::Internal("oops.\nThis issue was likely caused by a bug in DataFusion's code.".into()).into();
        assert_eq!(error.state, SqlState::InternalError);
        assert!(!error.message.contains("bug in"), "{}", error.message);
        assert!(!error.message.to_lowercase().contains("datafusion"), "{}", error.message);
    }

    #[test]
    fn our_own_error_comes_through_the_engine_unchanged() {
        let ours = SqlError::new(SqlState::UndefinedObject, "model x").with_hint("y");
        let error: SqlError = DataFusionError::from(ours).context("while planning").into();
        assert_eq!((error.state, error.hint.as_deref()), (SqlState::UndefinedObject, Some("y")));
    }
}
