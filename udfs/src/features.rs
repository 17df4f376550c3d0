//! Arrow columns as the rows of a model: which columns enter and how (by their type), and the values, a column at a time.

use std::fmt::Write as _;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Float32Array, ListArray, PrimitiveArray, StringArrayType, downcast_dictionary_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Float32Type, Int32Type, Int64Type, Time64NanosecondType, TimeUnit, TimestampSecondType,
    UInt64Type,
};
use stratagem_models::features::{Bag, Batch, Column, Feature, Part, Texts, Treatment, Values, id_of};
use twox_hash::XxHash64;

use crate::declaration::sql_type;
use crate::error::{Error, Result};
use crate::spelling;

mod plain;
mod tokens;
mod treatment;
mod values;

pub(crate) use plain::PlainEncoder;
pub(crate) use treatment::Treatments;
pub(crate) use values::{labels, outcomes, split};

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
    /// A list of integers or texts.
    Items,
    /// A list of other numbers.
    Vector,
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
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => match Self::of(item.data_type())? {
                Self::Integer | Self::Text => Self::Items,
                Self::Number => Self::Vector,
                _ => return None,
            },
            integer if integer.is_integer() => Self::Integer,
            number if number.is_numeric() => Self::Number,
            _ => return None,
        })
    }

    /// The family of a type written by [`sql_type`].
    fn of_sql(name: &str) -> Option<Self> {
        if let Some(item) = name.strip_suffix("[]") {
            return match Self::of_sql(item)? {
                Self::Integer | Self::Text => Some(Self::Items),
                Self::Number => Some(Self::Vector),
                _ => None,
            };
        }
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
        let widens = matches!((self, expected), (Self::Integer, Self::Number) | (Self::Items, Self::Vector));
        self == expected || self == Self::Null || widens
    }

    /// What the values of such a column give, unless the user wants otherwise.
    fn parts(self) -> &'static [(Part, Values)] {
        match self {
            Self::Null => &[],
            Self::Boolean => &[(Part::Whole, Values::Id)],
            Self::Integer => &[(Part::Whole, Values::Id), (Part::Whole, Values::Number)],
            Self::Number => &[(Part::Whole, Values::Number)],
            Self::Text => &[(Part::Whole, Values::Id), (Part::Whole, Values::Tokens)],
            Self::Date => &[(Part::Weekday, Values::Id), (Part::Month, Values::Id), (Part::Age, Values::Number)],
            Self::Time => &[(Part::Hour, Values::Id)],
            Self::Timestamp => &[(Part::Hour, Values::Id), (Part::Weekday, Values::Id), (Part::Age, Values::Number)],
            Self::Items => &[(Part::Whole, Values::Items)],
            Self::Vector => &[(Part::Whole, Values::Vector)],
        }
    }

    /// Whether the user may want this of such a column.
    fn allows(self, treatment: Treatment) -> bool {
        match treatment {
            Treatment::Category | Treatment::Hash(_) => matches!(self, Self::Boolean | Self::Integer | Self::Text | Self::Items),
            Treatment::Standard | Treatment::Log | Treatment::Quantile(_) | Treatment::Piecewise => {
                matches!(self, Self::Integer | Self::Number)
            }
            Treatment::Ngrams => self == Self::Text,
        }
    }
}

/// One raw column: where it comes from and what it holds.
#[derive(Debug, Clone, Copy)]
struct Source {
    column: usize,
    part: Part,
    values: Values,
}

/// Turns columns into the rows of a model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Encoder {
    sources: Vec<Source>,
    ids: usize,
    numbers: usize,
    bags: usize,
}

impl Encoder {
    /// The raw columns of a training query: of every column but those in `without`, by its type and the user's wishes.
    pub(crate) fn for_training(fields: &[FieldRef], without: &[usize], wishes: &Treatments) -> Result<(Self, Vec<Column>)> {
        wishes.check(fields)?;
        let mut sources = Vec::new();
        let mut columns = Vec::new();
        for (column, field) in fields.iter().enumerate().filter(|(column, _)| !without.contains(column)) {
            if wishes.skips(field.name()) {
                continue;
            }
            let Some(family) = Family::of(field.data_type()).filter(|family| *family != Family::Null) else { return Err(unusable(field)) };
            let treatment = wishes.of(field.name());
            if let Some(treatment) = treatment.filter(|treatment| !family.allows(*treatment)) {
                return Err(wishes.misplaced(field.name(), treatment, &sql_type(field.data_type())));
            }
            for &(part, values) in family.parts().iter().filter(|(_, values)| treatment.is_none_or(|t| treatment::reads(t, *values))) {
                sources.push(Source { column, part, values });
                let (name, sql_type) = (field.name().clone(), sql_type(field.data_type()));
                columns.push(Column { column: name, part, sql_type, values, treatment });
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
        let row = Row::new(model, &expected, fields)?;
        let mut sources = Vec::with_capacity(features.len());
        for feature in features.iter().filter(|feature| feature.is_used()) {
            let column = row.position(&feature.column)?;
            check(model, feature, &feature.column, &fields[column])?;
            sources.push(Source { column, part: feature.part, values: feature.values });
        }
        Ok(Self::new(sources))
    }

    fn new(sources: Vec<Source>) -> Self {
        let count = |wanted: fn(Values) -> bool| sources.iter().filter(|source| wanted(source.values)).count();
        let (ids, numbers) = (count(|values| values == Values::Id), count(|values| values == Values::Number));
        Self { ids, numbers, bags: count(Values::is_bag), sources }
    }

    /// `rows` rows of `columns` as a batch.
    pub(crate) fn encode(&self, columns: &[ArrayRef], rows: usize) -> datafusion::common::Result<Batch> {
        let mut batch = Batch {
            rows,
            ids: vec![0; rows * self.ids],
            numbers: vec![f32::NAN; rows * self.numbers],
            bags: Vec::with_capacity(self.bags),
        };
        let (mut id, mut number) = (0, 0);
        for &Source { column, part, values } in &self.sources {
            let column = &columns[column];
            match values {
                Values::Id => {
                    values::ids(column, part, batch.ids.iter_mut().skip(id).step_by(self.ids))?;
                    id += 1;
                }
                Values::Number => {
                    values::numbers(column, part, batch.numbers.iter_mut().skip(number).step_by(self.numbers))?;
                    number += 1;
                }
                Values::Items => batch.bags.push(values::items(column, rows)?),
                Values::Vector => batch.bags.push(values::vector(column, rows)?),
                Values::Tokens => batch.bags.push(tokens::bag(column, rows)?),
            }
        }
        Ok(batch)
    }

    /// Notes the texts behind the ids of `columns`.
    pub(crate) fn texts(&self, columns: &[ArrayRef], texts: &mut Texts) -> datafusion::common::Result<()> {
        for (position, source) in self.sources.iter().enumerate() {
            if matches!(source.values, Values::Id | Values::Items) {
                values::texts(&columns[source.column], &mut |id, text| texts.see(position, id, text))?;
            }
        }
        Ok(())
    }
}

/// A row from which a model takes its columns: by name (further columns are left alone), or by position from columns named `$1`, `$2`, ...
struct Row<'a> {
    model: &'a str,
    /// The columns of the model with their types, in its order.
    expected: &'a [(&'a str, &'a str)],
    fields: &'a [FieldRef],
    by_position: bool,
}

impl<'a> Row<'a> {
    fn new(model: &'a str, expected: &'a [(&'a str, &'a str)], fields: &'a [FieldRef]) -> Result<Self> {
        let by_position = fields.iter().enumerate().all(|(n, field)| *field.name() == format!("${}", n + 1)) && !fields.is_empty();
        if by_position && fields.len() != expected.len() {
            return Err(Error::NoSuchColumn {
                what: format!("model \"{model}\""),
                column: expected.get(fields.len()).map_or_else(|| "$".to_owned(), |(name, _)| (*name).to_owned()),
                detail: format!("{} values are given for: {}", fields.len(), listed(expected)),
                hint: Some("give all of them in this order, or write name => value".to_owned()),
            });
        }
        Ok(Self { model, expected, fields, by_position })
    }

    /// Where a column of the model is.
    fn position(&self, name: &str) -> Result<usize> {
        let found = match self.by_position {
            true => self.expected.iter().position(|(other, _)| *other == name),
            false => self.fields.iter().position(|field| field.name() == name),
        };
        found.ok_or_else(|| missing(self.model, name, self.expected, self.fields))
    }
}

fn unusable(field: &Field) -> Error {
    Error::WrongType {
        object: format!("feature column \"{}\"", field.name()),
        actual: sql_type(field.data_type()),
        detail: Some("features are numbers, text, booleans, dates, times, timestamps, and lists of numbers or text".to_owned()),
        hint: Some(format!("leave \"{}\" out of the query, or turn it into one of these types", field.name())),
    }
}

/// The columns a model reads with their types, in the order of its training query.
fn expected(features: &[Feature]) -> Vec<(&str, &str)> {
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for feature in features.iter().filter(|feature| feature.is_used()) {
        if !columns.iter().any(|(name, _)| *name == feature.column) {
            columns.push((&feature.column, &feature.sql_type));
        }
    }
    columns
}

/// The names of the columns a model reads.
pub(crate) fn columns(features: &[Feature]) -> Vec<&str> {
    expected(features).into_iter().map(|(name, _)| name).collect()
}

/// The columns a model reads with their types, as a list.
pub(crate) fn listed_columns(features: &[Feature]) -> String {
    listed(&expected(features))
}

/// Columns with their types, as a list.
pub(crate) fn listed(expected: &[(&str, &str)]) -> String {
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
