//! EXPLAIN.

use datafusion::sql::sqlparser::ast::{DescribeAlias, Statement, UtilityOption};

use super::{Command, read_only, unsupported};
use crate::sqlstate::{SqlError, SqlState};

/// What EXPLAIN is asked to show.
#[derive(Debug, Clone)]
pub(crate) struct Explain {
    pub(crate) query: Box<Statement>,
    pub(crate) analyze: bool,
    pub(crate) verbose: bool,
    pub(crate) costs: bool,
    pub(crate) timing: bool,
    pub(crate) summary: bool,
    pub(crate) json: bool,
}

pub(super) fn explain(statement: Statement) -> Result<Command, SqlError> {
    let Statement::Explain { describe_alias: DescribeAlias::Explain, analyze, verbose, statement, options, format, .. } = statement else {
        return Err(unsupported("DESCRIBE").with_hint("psql's \\d shows a table's columns"));
    };
    let Statement::Query(query) = *statement else { return Err(unsupported("EXPLAIN of anything but a query")) };
    read_only(&query)?;
    if let Some(format) = format {
        return Err(unsupported(&format!("EXPLAIN with {format}")).with_hint("write EXPLAIN (FORMAT JSON) ..."));
    }
    let query = Box::new(Statement::Query(query));
    let mut explain = Explain { query, analyze, verbose, costs: true, timing: true, summary: true, json: false };
    for UtilityOption { name, arg } in options.unwrap_or_default() {
        let said = arg.map(|arg| arg.to_string().trim_matches('\'').to_ascii_lowercase());
        let on = said.as_deref().is_none_or(|said| !matches!(said, "false" | "off" | "0"));
        match name.value.to_ascii_lowercase().as_str() {
            "analyze" => explain.analyze = on,
            "verbose" => explain.verbose = on,
            "costs" => explain.costs = on,
            "timing" => explain.timing = on,
            "summary" => explain.summary = on,
            "format" => match said.as_deref() {
                Some("text") => explain.json = false,
                Some("json") => explain.json = true,
                Some(known @ ("xml" | "yaml")) => return Err(unsupported(&format!("EXPLAIN with FORMAT {known}"))),
                said => {
                    let message = format!("unrecognized value for EXPLAIN option \"format\": \"{}\"", said.unwrap_or_default());
                    return Err(SqlError::new(SqlState::InvalidParameterValue, message));
                }
            },
            "buffers" | "settings" | "wal" => {}
            other => return Err(SqlError::new(SqlState::SyntaxError, format!("unrecognized EXPLAIN option \"{other}\""))),
        }
    }
    Ok(Command::Explain(explain))
}
