//! SET and SHOW.

use datafusion::sql::sqlparser::ast::{ContextModifier, DollarQuotedString, Expr, Set, TransactionMode, Value};

use super::{Command, unsupported};
use crate::sqlstate::{SqlError, SqlState};

pub(super) fn set(set: Set) -> Result<Command, SqlError> {
    match set {
        Set::SingleAssignment { scope, variable, values, .. } => {
            let local = matches!(scope, Some(ContextModifier::Local));
            Ok(Command::Set { local, name: variable.to_string(), value: self::value(&values)? })
        }
        Set::SetTimeZone { local, value } => Ok(Command::Set { local, name: "TimeZone".to_owned(), value: self::value(&[value])? }),
        Set::SetNames { charset_name, .. } => {
            Ok(Command::Set { local: false, name: "client_encoding".to_owned(), value: Some(charset_name.value) })
        }
        Set::SetNamesDefault {} => Ok(Command::Set { local: false, name: "client_encoding".to_owned(), value: None }),
        Set::SetTransaction { modes, snapshot: None, session } => {
            let prefix = if session { "default_transaction" } else { "transaction" };
            match modes.first() {
                Some(TransactionMode::IsolationLevel(level)) => {
                    Ok(Command::Set { local: !session, name: format!("{prefix}_isolation"), value: Some(level.to_string().to_lowercase()) })
                }
                Some(TransactionMode::AccessMode(mode)) => {
                    let only = if mode.to_string().eq_ignore_ascii_case("read only") { "on" } else { "off" };
                    Ok(Command::Set { local: !session, name: format!("{prefix}_read_only"), value: Some(only.to_owned()) })
                }
                None => Err(unsupported("SET TRANSACTION without a mode")),
            }
        }
        other => Err(unsupported(&format!("SET{}", other.to_string().strip_prefix("SET").unwrap_or_default()))),
    }
}

/// The text of a setting's value; none for DEFAULT.
fn value(values: &[Expr]) -> Result<Option<String>, SqlError> {
    let texts: Vec<String> = values
        .iter()
        .map(|expr| match expr {
            Expr::Value(value) => Ok(match &value.value {
                Value::SingleQuotedString(text) | Value::DollarQuotedString(DollarQuotedString { value: text, .. }) => text.clone(),
                other => other.to_string(),
            }),
            Expr::Identifier(ident) => Ok(if ident.quote_style.is_some() { ident.to_string() } else { ident.value.clone() }),
            Expr::UnaryOp { .. } => Ok(expr.to_string()),
            Expr::Interval(interval) => match interval.value.as_ref() {
                Expr::Value(value) => Ok(value.value.clone().into_string().unwrap_or_default()),
                other => Ok(other.to_string()),
            },
            other => Err(SqlError::new(SqlState::SyntaxError, format!("\"{other}\" is not a value for a setting"))),
        })
        .collect::<Result<_, _>>()?;
    let text = texts.join(", ");
    Ok((!text.eq_ignore_ascii_case("default")).then_some(text))
}

pub(super) fn show(words: &[String]) -> Result<Command, SqlError> {
    let name = words.join(".");
    Ok(Command::Show(match words.join(" ").to_ascii_lowercase().as_str() {
        "all" => None,
        "time zone" => Some("TimeZone".to_owned()),
        "transaction isolation level" => Some("transaction_isolation".to_owned()),
        "session authorization" => return Err(unsupported("SHOW SESSION AUTHORIZATION")),
        _ => Some(name),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse;

    #[test]
    fn settings_are_read_in_every_spelling() {
        for (sql, name, value) in [
            ("SET statement_timeout = '2s'", "statement_timeout", Some("2s")),
            ("SET statement_timeout TO 500", "statement_timeout", Some("500")),
            ("SET SESSION application_name = x", "application_name", Some("x")),
            ("SET TIME ZONE 'Europe/Paris'", "TimeZone", Some("Europe/Paris")),
            ("SET search_path = a, \"B c\"", "search_path", Some("a, \"B c\"")),
            ("SET statement_timeout TO DEFAULT", "statement_timeout", None),
            ("SET TIME ZONE -5", "TimeZone", Some("-5")),
        ] {
            let Command::Set { name: n, value: v, .. } = parse(sql).expect(sql).remove(0) else { panic!("{sql}") };
            assert_eq!((n.as_str(), v.as_deref()), (name, value), "{sql}");
        }
    }
}
