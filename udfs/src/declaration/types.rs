//! The types of SQL that functions take and give, in SQL's words and in the engine's.

use datafusion::arrow::datatypes::DataType;

/// The SQL type of an argument or result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `text`
    Text,
    /// `boolean`
    Boolean,
    /// `integer`, 32 bits
    Integer,
    /// `bigint`, 64 bits
    BigInt,
    /// `double precision`
    Double,
    /// `timestamp with time zone`
    Timestamp,
    /// Any integer, decimal or floating-point type.
    Number,
    /// A number, or a `boolean` that counts as 0 or 1.
    Outcome,
    /// `boolean`, or a number that is 0 or 1.
    Label,
    /// Any type that is not a list or a row.
    Any,
    /// The same, for values that are only compared, such as those that group rows.
    Group,
    /// The same, where numbers are measured and other values are compared.
    Mixed,
    /// `double precision[]`; any list of numbers is one.
    Doubles,
    /// `real[]`; any list of numbers is one.
    Reals,
    /// `text[]`
    Texts,
    /// `text` or a list of numbers.
    TextOrReals,
    /// Spans of characters: a list of rows.
    Spans,
    /// A row of named columns.
    Row,
    /// A query.
    Query,
}

impl Type {
    /// The type in a user's words.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Double => "double precision",
            Self::Timestamp => "timestamp with time zone",
            Self::Number => "number",
            Self::Outcome => "number or boolean",
            Self::Label => "boolean or 0/1",
            Self::Any | Self::Group | Self::Mixed => "any",
            Self::Doubles => "double precision[]",
            Self::Reals => "real[]",
            Self::Texts => "text[]",
            Self::TextOrReals => "text or real[]",
            Self::Spans => "record[]",
            Self::Row => "row",
            Self::Query => "query",
        }
    }

    /// The PostgreSQL type that stands for it in the catalog.
    pub fn pg(self) -> &'static str {
        match self {
            Self::Number => "double precision",
            Self::Label | Self::Outcome | Self::Any | Self::Group | Self::Mixed | Self::TextOrReals | Self::Spans => "any",
            Self::Row => "record",
            Self::Query => "text",
            other => other.sql(),
        }
    }

    /// Whether a value of this engine type is accepted; an untyped NULL or parameter always is.
    pub fn accepts(self, actual: &DataType) -> bool {
        if actual.is_null() {
            return true;
        }
        match self {
            Self::Text | Self::Query => is_text(actual),
            Self::Boolean => *actual == DataType::Boolean,
            Self::Integer | Self::BigInt => actual.is_integer(),
            Self::Double | Self::Number => actual.is_numeric(),
            Self::Timestamp => matches!(actual, DataType::Timestamp(..)),
            Self::Label | Self::Outcome => *actual == DataType::Boolean || actual.is_numeric(),
            Self::Any | Self::Group | Self::Mixed => !actual.is_nested(),
            Self::Doubles | Self::Reals => item(actual).is_some_and(|item| item.is_numeric() || item.is_null()),
            Self::Texts => item(actual).is_some_and(|item| is_text(item) || item.is_null()),
            Self::TextOrReals => is_text(actual) || Self::Reals.accepts(actual),
            Self::Row | Self::Spans => true,
        }
    }

    /// The engine's type of a result.
    pub(crate) fn arrow(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Double | Self::Number | Self::Label | Self::Outcome => DataType::Float64,
            Self::Timestamp => DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, Some("+00:00".into())),
            Self::Doubles => DataType::new_list(DataType::Float64, true),
            Self::Reals => DataType::new_list(DataType::Float32, true),
            Self::Texts => DataType::new_list(DataType::Utf8, true),
            Self::Text | Self::Query | Self::Row | Self::Any | Self::Group | Self::Mixed | Self::TextOrReals | Self::Spans => {
                DataType::Utf8
            }
        }
    }
}

/// The type of a list's items.
fn item(actual: &DataType) -> Option<&DataType> {
    match actual {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item.data_type()),
        _ => None,
    }
}

fn is_text(actual: &DataType) -> bool {
    match actual {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// An engine type in SQL's words: `bigint`, `text`, `double precision[]`.
pub(crate) fn sql_type(actual: &DataType) -> String {
    match actual {
        DataType::Null => "NULL".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint".to_owned(),
        DataType::Float16 | DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => "numeric".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea".to_owned(),
        DataType::Dictionary(_, values) => sql_type(values),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => format!("{}[]", sql_type(item.data_type())),
        DataType::Struct(_) => "a row".to_owned(),
        DataType::Map(..) => "a map".to_owned(),
        DataType::RunEndEncoded(_, values) => sql_type(values.data_type()),
        DataType::Union(..) => "a union".to_owned(),
    }
}
