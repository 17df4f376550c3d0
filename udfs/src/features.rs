//! Arrow columns as the rows of a model: which columns enter and how (by their type), and the values, a column at a time.

use std::fmt::Write as _;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Float32Array, PrimitiveArray, StringArrayType, downcast_dictionary_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Float32Type, Int32Type, Int64Type, Time64NanosecondType, TimeUnit, TimestampSecondType,
    UInt64Type,
};
use stratagem_models::features::{Batch, Column, Feature};
use twox_hash::XxHash64;

use crate::declaration::sql_type;
use crate::error::{Error, Result};
use crate::spelling;

mod values;

pub(crate) use values::labels;

/// How a column, or a part of it, becomes a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// A category.
    Hashed,
    /// A number.
    Number,
    /// The hour of a timestamp, 0 to 23, a category.
    Hour,
    /// The weekday of a timestamp, Monday is 0, a category.
    Weekday,
}

/// The families of types whose values can stand for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Null,
    Boolean,
    Integer,
    Number,
    Text,
    Date,
    Time,
    Timestamp,
}

impl Family {
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::Dictionary(_, values) => return Self::of(values),
            integer if integer.is_integer() => Self::Integer,
            number if number.is_numeric() => Self::Number,
            _ => return None,
        })
    }

    /// The family of a type written by [`sql_type`].
    fn of_sql(name: &str) -> Option<Self> {
        Some(match name {
            "NULL" => Self::Null,
            "boolean" => Self::Boolean,
            "smallint" | "integer" | "bigint" => Self::Integer,
            "real" | "double precision" | "numeric" => Self::Number,
            "text" => Self::Text,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" | "timestamp with time zone" => Self::Timestamp,
            _ => return None,
        })
    }

    /// Whether values of this family can be read where `expected` was trained.
    fn fits(self, expected: Self) -> bool {
        self == expected || self == Self::Null || (self == Self::Integer && expected == Self::Number)
    }
}

/// One feature: where it comes from and how.
#[derive(Debug, Clone)]
struct Source {
    column: usize,
    encoding: Encoding,
    /// Seed of the hash, from the feature's name, so that equal values of two features differ.
    salt: u64,
}

/// Turns columns into the rows of a model.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    sources: Vec<Source>,
    hashed: usize,
    numeric: usize,
}

impl Encoder {
    /// The features of a training query: every column but the label, by its type.
    pub(crate) fn for_training(fields: &[FieldRef], label: usize) -> Result<(Self, Vec<Column>)> {
        let mut sources = Vec::new();
        let mut columns = Vec::new();
        for (column, field) in fields.iter().enumerate().filter(|(column, _)| *column != label) {
            for (suffix, encoding) in encodings(field)? {
                let name = format!("{}{suffix}", field.name());
                sources.push(source(column, encoding, &name));
                columns.push(Column { name, sql_type: sql_type(field.data_type()), numeric: encoding == Encoding::Number });
            }
        }
        if sources.is_empty() {
            return Err(Error::value("the query", "has no column besides the label"));
        }
        Ok((Self::new(sources), columns))
    }

    /// The features of a model, found by name among the columns of a row; further columns are left alone. Columns named `$1`, `$2`, ...
    /// stand for the model's columns in their order.
    pub(crate) fn for_model(model: &str, features: &[Feature], fields: &[FieldRef]) -> Result<Self> {
        let expected = expected(features);
        let by_position = fields.iter().enumerate().all(|(n, field)| *field.name() == format!("${}", n + 1)) && !fields.is_empty();
        if by_position && fields.len() != expected.len() {
            return Err(Error::NoSuchColumn {
                what: format!("model \"{model}\""),
                column: expected.get(fields.len()).map_or_else(|| "$".to_owned(), |(name, _)| (*name).to_owned()),
                detail: format!("{} values are given for: {}", fields.len(), listed(&expected)),
                hint: Some("give all of them in this order, or write name => value".to_owned()),
            });
        }
        let mut sources = Vec::with_capacity(features.len());
        for feature in features {
            let (name, encoding) = origin(feature);
            let found = match by_position {
                true => expected.iter().position(|(other, _)| *other == name),
                false => fields.iter().position(|field| field.name() == name),
            };
            let Some(column) = found else { return Err(missing(model, name, &expected, fields)) };
            check(model, feature, name, &fields[column])?;
            sources.push(source(column, encoding, &feature.name));
        }
        Ok(Self::new(sources))
    }

    fn new(sources: Vec<Source>) -> Self {
        let numeric = sources.iter().filter(|source| source.encoding == Encoding::Number).count();
        Self { hashed: sources.len() - numeric, numeric, sources }
    }

    /// Appends `rows` rows of `columns` to a batch.
    pub(crate) fn encode(&self, columns: &[ArrayRef], rows: usize, batch: &mut Batch) -> datafusion::common::Result<()> {
        let (ids, numbers) = (batch.rows * self.hashed, batch.rows * self.numeric);
        batch.rows += rows;
        batch.ids.resize(batch.rows * self.hashed, 0);
        batch.numbers.resize(batch.rows * self.numeric, f32::NAN);
        let (mut hashed, mut numeric) = (0, 0);
        for source in &self.sources {
            let column = &columns[source.column];
            if source.encoding == Encoding::Number {
                values::numbers(column, batch.numbers[numbers..].iter_mut().skip(numeric).step_by(self.numeric))?;
                numeric += 1;
            } else {
                let out = batch.ids[ids..].iter_mut().skip(hashed).step_by(self.hashed);
                values::ids(column, source.encoding, source.salt, out)?;
                hashed += 1;
            }
        }
        Ok(())
    }

    /// Bytes of one encoded row with its label.
    pub(crate) fn row_bytes(&self) -> usize {
        self.hashed * size_of::<u64>() + (self.numeric + 1) * size_of::<f32>()
    }
}

fn source(column: usize, encoding: Encoding, feature: &str) -> Source {
    Source { column, encoding, salt: XxHash64::oneshot(0, feature.as_bytes()) }
}

/// What a column becomes: the suffix of the feature's name and the encoding.
fn encodings(field: &Field) -> Result<Vec<(&'static str, Encoding)>> {
    match Family::of(field.data_type()) {
        Some(Family::Timestamp) => Ok(vec![(".hour", Encoding::Hour), (".weekday", Encoding::Weekday)]),
        Some(Family::Number) => Ok(vec![("", Encoding::Number)]),
        Some(Family::Null) | None => Err(Error::WrongType {
            object: format!("feature column \"{}\"", field.name()),
            actual: sql_type(field.data_type()),
            detail: Some("features are numbers, text, booleans, dates, times and timestamps".to_owned()),
            hint: Some(format!("leave \"{}\" out of the query, or turn it into one of these types", field.name())),
        }),
        Some(_) => Ok(vec![("", Encoding::Hashed)]),
    }
}

/// The column a feature of a model was made from, and how.
fn origin(feature: &Feature) -> (&str, Encoding) {
    if Family::of_sql(&feature.sql_type) == Some(Family::Timestamp) {
        if let Some(name) = feature.name.strip_suffix(".hour") {
            return (name, Encoding::Hour);
        }
        if let Some(name) = feature.name.strip_suffix(".weekday") {
            return (name, Encoding::Weekday);
        }
    }
    (&feature.name, if feature.is_numeric() { Encoding::Number } else { Encoding::Hashed })
}

/// The columns a model reads with their types, in the order of its training query.
fn expected(features: &[Feature]) -> Vec<(&str, &str)> {
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for feature in features {
        let (name, _) = origin(feature);
        if columns.last().is_none_or(|(last, _)| *last != name) {
            columns.push((name, &feature.sql_type));
        }
    }
    columns
}

/// The names of the columns a model reads.
pub(crate) fn columns(features: &[Feature]) -> Vec<&str> {
    expected(features).into_iter().map(|(name, _)| name).collect()
}

fn listed(expected: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (position, (name, data_type)) in expected.iter().enumerate() {
        let comma = if position == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{name} {data_type}");
    }
    text
}

fn missing(model: &str, name: &str, expected: &[(&str, &str)], fields: &[FieldRef]) -> Error {
    let given: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    let unused = given.iter().copied().filter(|given| !expected.iter().any(|(name, _)| name == given));
    let hint = match spelling::closest(unused, name) {
        Some(close) => format!("did you mean \"{close}\"? Write {name} => {close}"),
        None => format!("add it: {name} => ..."),
    };
    Error::NoSuchColumn {
        what: format!("model \"{model}\""),
        column: name.to_owned(),
        detail: format!("the model reads: {}; the row has: {}", listed(expected), given.join(", ")),
        hint: Some(hint),
    }
}

fn check(model: &str, feature: &Feature, name: &str, field: &Field) -> Result<()> {
    let fits = match (Family::of(field.data_type()), Family::of_sql(&feature.sql_type)) {
        (Some(actual), Some(expected)) => actual.fits(expected),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Error::WrongType {
        object: format!("column \"{name}\" of model \"{model}\""),
        actual: sql_type(field.data_type()),
        detail: Some(format!("the model was trained on {}", feature.sql_type)),
        hint: Some(format!("write {name} => CAST(... AS {})", feature.sql_type)),
    })
}

#[cfg(test)]
mod tests;
