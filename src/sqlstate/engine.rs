//! Errors of the engine and of the libraries below it, class by class.

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};

use super::{SqlError, SqlState, internal, ours};

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let location = error.diagnostic().and_then(|d| d.span).map(|span| (span.start.line, span.start.column));
        let mut sql = classify(&error);
        sql.location = sql.location.or(location);
        sql
    }
}

pub(super) fn classify(error: &DataFusionError) -> SqlError {
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
        DataFusionError::Plan(message) | DataFusionError::Internal(message)
            if message.contains("Unavailable default cast for native type") =>
        {
            SqlError::new(UndefinedFunction, "a function does not take a value of this type")
                .with_hint("no function of this name matches the types of its arguments; perhaps a cast is missing: f(x::text)")
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
    let message = error.to_string();
    regular_expression(&message).unwrap_or_else(|| internal(&message))
}

/// What is wrong with a regular expression, which the engine says in words of its library alone.
fn regular_expression(message: &str) -> Option<SqlError> {
    const SIGNS: [&str; 3] = ["regex parse error", "Regular expression did not compile", "Compiled regex exceeds size limit"];
    let bad = SIGNS.iter().any(|sign| message.contains(sign));
    // lines before that of the error draw where it is
    let lines = || message.trim().lines();
    let reason = lines().find_map(|line| line.trim().strip_prefix("error: ")).or_else(|| lines().next()).unwrap_or_default();
    bad.then(|| SqlError::new(SqlState::InvalidRegularExpression, format!("invalid regular expression: {reason}")))
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
    if let Some(error) = regular_expression(message) {
        return error;
    }
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

/// A library's message without what is meant for its developers.
pub(super) fn plain(message: &str) -> String {
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
