//! The one table from what went wrong to what a PostgreSQL client is told: SQLSTATE, message, detail, hint and position.

mod engine;
mod ours;

use std::fmt;

use datafusion::common::DataFusionError;
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
    InvalidRegularExpression,
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
            InvalidRegularExpression => "2201B",
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

/// A bug of ours or of a library: the client gets an identifier, the log gets the identifier and the text.
pub(crate) fn internal(message: &str) -> SqlError {
    let id = format!("{:08x}", rand::random::<u32>());
    tracing::error!(%id, message, "internal error");
    SqlError::new(SqlState::InternalError, format!("internal error {id}: {}", engine::plain(message)))
        .with_hint("this is a defect of the server; the log holds more under this identifier")
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
