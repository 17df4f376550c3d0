//! The columns a select list is over: their SQL types, and the one type in which expressions read each of these, so that a transform works the
//! same for every representation of a column.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::declaration::sql_type;
use crate::error::{Error, Result};
use crate::spelling;

/// A column of the training query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) sql_type: String,
}

impl Column {
    pub(super) fn new(field: &Field) -> Self {
        Self { name: field.name().clone(), sql_type: sql_type(field.data_type()) }
    }

    /// The type in which expressions read it; `None` for a column that can only be passed on.
    pub(super) fn data_type(&self) -> Option<DataType> {
        canonical(&self.sql_type)
    }

    /// The error for a column that an expression cannot read.
    pub(super) fn unreadable(&self) -> Error {
        Error::WrongType {
            object: format!("column \"{}\" in an expression", self.name),
            actual: self.sql_type.clone(),
            detail: Some("expressions read numbers, text, booleans, dates, times, timestamps and lists of these".to_owned()),
            hint: Some("turn it into one of these types in the query".to_owned()),
        }
    }

    fn accepts(&self, actual: &DataType) -> bool {
        let actual_type = sql_type(actual);
        match (canonical(&actual_type), self.data_type()) {
            _ if actual.is_null() || actual_type == self.sql_type => true,
            (Some(actual), Some(expected)) => fits(&actual, &expected),
            _ => false,
        }
    }
}

fn canonical(sql_type: &str) -> Option<DataType> {
    if let Some(item) = sql_type.strip_suffix("[]") {
        return canonical(item).map(|item| DataType::new_list(item, true));
    }
    Some(match sql_type {
        "boolean" => DataType::Boolean,
        "smallint" | "integer" | "bigint" => DataType::Int64,
        "real" | "double precision" | "numeric" => DataType::Float64,
        "text" => DataType::Utf8,
        "date" => DataType::Date32,
        "time" => DataType::Time64(TimeUnit::Nanosecond),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamp with time zone" => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        _ => return None,
    })
}

/// Whether values of one such type can be read as another: integers as numbers, a timestamp with or without zone.
fn fits(actual: &DataType, expected: &DataType) -> bool {
    match (actual, expected) {
        (DataType::Int64, DataType::Float64) | (DataType::Timestamp(..), DataType::Timestamp(..)) => true,
        (DataType::List(actual), DataType::List(expected)) => fits(actual.data_type(), expected.data_type()),
        _ => actual == expected,
    }
}

/// Where the wanted columns are among the fields of a row: found by name, or by position if the fields are named `$1`, `$2`, ...
pub(super) fn locate(model: &str, wanted: &[&Column], fields: &[FieldRef]) -> Result<Vec<usize>> {
    let by_position = !fields.is_empty() && fields.iter().enumerate().all(|(n, field)| *field.name() == format!("${}", n + 1));
    if by_position && fields.len() != wanted.len() {
        return Err(Error::NoSuchColumn {
            what: format!("model \"{model}\""),
            column: wanted.get(fields.len()).map_or_else(|| "$".to_owned(), |column| column.name.clone()),
            detail: format!("{} values are given for: {}", fields.len(), listed(wanted)),
            hint: Some("give all of them in this order, or write name => value".to_owned()),
        });
    }
    let place = |(n, column): (usize, &&Column)| {
        let found = if by_position { Some(n) } else { fields.iter().position(|field| *field.name() == column.name) };
        let Some(found) = found else { return Err(missing(model, column, wanted, fields)) };
        let actual = fields[found].data_type();
        if column.accepts(actual) {
            return Ok(found);
        }
        Err(Error::WrongType {
            object: format!("column \"{}\" of model \"{model}\"", column.name),
            actual: sql_type(actual),
            detail: Some(format!("the model was trained on {}", column.sql_type)),
            hint: Some(format!("write {} => CAST(... AS {})", column.name, column.sql_type)),
        })
    };
    wanted.iter().enumerate().map(place).collect()
}

fn listed(columns: &[&Column]) -> String {
    columns.iter().map(|column| format!("{} {}", column.name, column.sql_type)).collect::<Vec<_>>().join(", ")
}

fn missing(model: &str, column: &Column, wanted: &[&Column], fields: &[FieldRef]) -> Error {
    let given: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    let unused = given.iter().copied().filter(|given| !wanted.iter().any(|column| column.name == *given));
    let name = &column.name;
    Error::NoSuchColumn {
        what: format!("model \"{model}\""),
        column: name.clone(),
        detail: format!("the model reads: {}; the row has: {}", listed(wanted), given.join(", ")),
        hint: Some(match spelling::closest(unused, name) {
            Some(close) => format!("did you mean \"{close}\"? Write {name} => {close}"),
            None => format!("add it: {name} => ..."),
        }),
    }
}
