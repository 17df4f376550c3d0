//! A column that is being read: texts or binary values in, an Arrow array out.

use std::str::FromStr;
use std::sync::Arc;

use chrono::Utc;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::types::{Date32Type, Time64MicrosecondType};
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int64Builder,
    ListArray, NullBufferBuilder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;

use super::array;
use super::number::{self, Problem};
use crate::sqlstate::{SqlError, SqlState, internal};

/// Days and microseconds from 1970-01-01, where Arrow counts from, to 2000-01-01, where PostgreSQL does.
const DAYS: i32 = 10_957;
const MICROSECONDS: i64 = DAYS as i64 * 86_400_000_000;

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// What PostgreSQL calls the type.
    kind: &'static str,
    data_type: DataType,
    values: Values,
    bytes: usize,
}

/// The value of a type that a client sends, in text or in binary.
pub(crate) fn value(data_type: &DataType, bytes: &[u8], binary: bool) -> Result<ScalarValue, SqlError> {
    let mut column =
        Column::new(&Field::new("parameter", data_type.clone(), true), Tz::from_str("UTC").map_err(|e| internal(&e.to_string()))?)?;
    if binary {
        column.binary(bytes)?
    } else {
        column.text(utf8(bytes)?)?
    }
    Ok(ScalarValue::try_from_array(&column.finish()?, 0)?)
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBuilder),
    /// With its size on the wire and its bounds.
    Integer(Int64Builder, usize, i64, i64),
    Single(Float32Builder),
    Double(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    /// With the zone of texts that name none, and whether the column counts nanoseconds.
    Timestamp(TimestampMicrosecondBuilder, Option<Tz>, bool),
    Decimal(Decimal128Builder, u8, i8),
    List(Box<Column>, Vec<i32>, NullBufferBuilder),
}

impl Column {
    /// An empty column. Timestamps with a zone that do not name one are in `zone`.
    pub(super) fn new(field: &Field, zone: Tz) -> Result<Self, SqlError> {
        let integer = |size, least, most| Values::Integer(Int64Builder::new(), size, least, most);
        let (kind, values) = match field.data_type() {
            DataType::Boolean => ("boolean", Values::Boolean(BooleanBuilder::new())),
            DataType::Int8 => ("smallint", integer(2, i8::MIN.into(), i8::MAX.into())),
            DataType::Int16 => ("smallint", integer(2, i16::MIN.into(), i16::MAX.into())),
            DataType::Int32 => ("integer", integer(4, i32::MIN.into(), i32::MAX.into())),
            DataType::Int64 => ("bigint", integer(8, i64::MIN, i64::MAX)),
            DataType::UInt8 => ("smallint", integer(2, 0, u8::MAX.into())),
            DataType::UInt16 => ("integer", integer(4, 0, u16::MAX.into())),
            DataType::UInt32 => ("bigint", integer(8, 0, u32::MAX.into())),
            DataType::UInt64 => ("numeric", Values::Decimal(decimals(20, 0)?, 20, 0)),
            DataType::Float16 | DataType::Float32 => ("real", Values::Single(Float32Builder::new())),
            DataType::Float64 => ("double precision", Values::Double(Float64Builder::new())),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ("text", Values::Text(StringBuilder::new())),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ("bytea", Values::Bytes(BinaryBuilder::new())),
            DataType::Date32 | DataType::Date64 => ("date", Values::Date(Date32Builder::new())),
            DataType::Time32(_) | DataType::Time64(_) => ("time without time zone", Values::Time(Time64MicrosecondBuilder::new())),
            DataType::Timestamp(unit, None) => {
                let builder = TimestampMicrosecondBuilder::new();
                ("timestamp without time zone", Values::Timestamp(builder, None, *unit == TimeUnit::Nanosecond))
            }
            DataType::Timestamp(unit, Some(_)) => {
                let builder = TimestampMicrosecondBuilder::new();
                ("timestamp with time zone", Values::Timestamp(builder, Some(zone), *unit == TimeUnit::Nanosecond))
            }
            DataType::Decimal128(precision, scale) => ("numeric", Values::Decimal(decimals(*precision, *scale)?, *precision, *scale)),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                ("array", Values::List(Box::new(Column::new(item, zone)?), vec![0], NullBufferBuilder::new(0)))
            }
            other => {
                let message = format!("column \"{}\" of type {other} can't be filled by COPY", field.name());
                return Err(SqlError::new(SqlState::FeatureNotSupported, message)
                    .with_hint("copy into a table of plain columns, and make the other with INSERT ... SELECT"));
            }
        };
        Ok(Self { name: field.name().clone(), kind, data_type: field.data_type().clone(), values, bytes: 0 })
    }

    /// Bytes of the values that are there.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn null(&mut self) {
        match &mut self.values {
            Values::Boolean(b) => b.append_null(),
            Values::Integer(b, ..) => b.append_null(),
            Values::Single(b) => b.append_null(),
            Values::Double(b) => b.append_null(),
            Values::Text(b) => b.append_null(),
            Values::Bytes(b) => b.append_null(),
            Values::Date(b) => b.append_null(),
            Values::Time(b) => b.append_null(),
            Values::Timestamp(b, ..) => b.append_null(),
            Values::Decimal(b, ..) => b.append_null(),
            Values::List(_, offsets, valid) => {
                offsets.push(offsets.last().copied().unwrap_or_default());
                valid.append_null();
            }
        }
    }

    /// Appends the value that a text says.
    pub(super) fn text(&mut self, text: &str) -> Result<(), SqlError> {
        self.bytes += text.len() + 8;
        let kind = self.kind;
        let syntax = |state| SqlError::new(state, format!("invalid input syntax for type {kind}: \"{text}\""));
        let range = |state| SqlError::new(state, format!("value \"{text}\" is out of range for type {kind}"));
        let word = text.trim();
        match &mut self.values {
            Values::Boolean(b) => b.append_value(truth(word).ok_or_else(|| syntax(SqlState::InvalidTextRepresentation))?),
            Values::Integer(b, _, least, most) => {
                let value: i64 = word.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
                    std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => range(SqlState::NumericValueOutOfRange),
                    _ => syntax(SqlState::InvalidTextRepresentation),
                })?;
                if !(*least..=*most).contains(&value) {
                    return Err(range(SqlState::NumericValueOutOfRange));
                }
                b.append_value(value);
            }
            Values::Single(b) => {
                let value = f32::from_str(word).map_err(|_| syntax(SqlState::InvalidTextRepresentation))?;
                if value.is_infinite() && !says_infinity(word) {
                    return Err(range(SqlState::NumericValueOutOfRange));
                }
                b.append_value(value);
            }
            Values::Double(b) => {
                let value = f64::from_str(word).map_err(|_| syntax(SqlState::InvalidTextRepresentation))?;
                if value.is_infinite() && !says_infinity(word) {
                    return Err(range(SqlState::NumericValueOutOfRange));
                }
                b.append_value(value);
            }
            Values::Text(b) => {
                if text.contains('\0') {
                    return Err(SqlError::new(SqlState::CharacterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\": 0x00"));
                }
                b.append_value(text);
            }
            Values::Bytes(b) => b.append_value(bytea(text).ok_or_else(|| syntax(SqlState::InvalidTextRepresentation))?),
            Values::Date(b) => b.append_value(Date32Type::parse(word).ok_or_else(|| syntax(SqlState::InvalidDatetimeFormat))?),
            Values::Time(b) => b.append_value(Time64MicrosecondType::parse(word).ok_or_else(|| syntax(SqlState::InvalidDatetimeFormat))?),
            Values::Timestamp(b, zone, nanoseconds) => {
                let value = timestamp(word, *zone).ok_or_else(|| syntax(SqlState::InvalidDatetimeFormat))?;
                if *nanoseconds && value.checked_mul(1000).is_none() {
                    return Err(range(SqlState::DatetimeFieldOverflow));
                }
                b.append_value(value);
            }
            Values::Decimal(b, precision, scale) => {
                b.append_value(number::decimal(word, *precision, *scale).map_err(|problem| match problem {
                    Problem::Syntax => syntax(SqlState::InvalidTextRepresentation),
                    Problem::Overflow => numeric_overflow(*precision, *scale),
                })?)
            }
            Values::List(items, offsets, valid) => {
                let elements = array::elements(text);
                let elements = elements
                    .ok_or_else(|| SqlError::new(SqlState::InvalidTextRepresentation, format!("malformed array literal: \"{text}\"")))?;
                for element in &elements {
                    match element {
                        Some(element) => items.text(element)?,
                        None => items.null(),
                    }
                }
                end_list(offsets, elements.len())?;
                valid.append_non_null();
            }
        }
        Ok(())
    }

    /// Appends a value in the protocol's binary form.
    pub(super) fn binary(&mut self, bytes: &[u8]) -> Result<(), SqlError> {
        self.bytes += bytes.len() + 8;
        let wrong = || SqlError::new(SqlState::InvalidBinaryRepresentation, "incorrect binary data format");
        let range = |kind: &str| SqlError::new(SqlState::NumericValueOutOfRange, format!("value is out of range for type {kind}"));
        let long = || bytes.try_into().map(i64::from_be_bytes).map_err(|_| wrong());
        match &mut self.values {
            Values::Boolean(b) => match bytes {
                [value] => b.append_value(*value != 0),
                _ => return Err(wrong()),
            },
            Values::Integer(b, size, least, most) => {
                if bytes.len() != *size {
                    return Err(wrong());
                }
                let negative = bytes[0] & 0x80 != 0;
                let value = bytes.iter().fold(if negative { -1 } else { 0 }, |value: i64, byte| value << 8 | i64::from(*byte));
                if !(*least..=*most).contains(&value) {
                    return Err(range(self.kind));
                }
                b.append_value(value);
            }
            Values::Single(b) => b.append_value(f32::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
            Values::Double(b) => b.append_value(f64::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
            Values::Text(_) => return self.text(utf8(bytes)?),
            Values::Bytes(b) => b.append_value(bytes),
            Values::Date(b) => {
                let days = i32::from_be_bytes(bytes.try_into().map_err(|_| wrong())?);
                b.append_value(days.checked_add(DAYS).ok_or_else(|| range(self.kind))?);
            }
            Values::Time(b) => b.append_value(long()?),
            Values::Timestamp(b, _, nanoseconds) => {
                let value = long()?.checked_add(MICROSECONDS).ok_or_else(|| range(self.kind))?;
                if *nanoseconds && value.checked_mul(1000).is_none() {
                    return Err(range(self.kind));
                }
                b.append_value(value);
            }
            Values::Decimal(..) => {
                let text = number::from_binary(bytes).ok_or_else(wrong)?;
                return self.text(&text);
            }
            Values::List(items, offsets, valid) => {
                let elements = array::from_binary(bytes).ok_or_else(wrong)?;
                for element in &elements {
                    match element {
                        Some(element) => items.binary(element)?,
                        None => items.null(),
                    }
                }
                end_list(offsets, elements.len())?;
                valid.append_non_null();
            }
        }
        Ok(())
    }

    /// The values so far; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, SqlError> {
        self.bytes = 0;
        let array: ArrayRef = match &mut self.values {
            Values::Boolean(b) => Arc::new(b.finish()),
            Values::Integer(b, ..) => Arc::new(b.finish()),
            Values::Single(b) => Arc::new(b.finish()),
            Values::Double(b) => Arc::new(b.finish()),
            Values::Text(b) => Arc::new(b.finish()),
            Values::Bytes(b) => Arc::new(b.finish()),
            Values::Date(b) => Arc::new(b.finish()),
            Values::Time(b) => Arc::new(b.finish()),
            Values::Timestamp(b, zone, _) => {
                let values = b.finish();
                match zone {
                    Some(_) => Arc::new(values.with_timezone("+00:00")),
                    None => Arc::new(values),
                }
            }
            Values::Decimal(b, ..) => Arc::new(b.finish()),
            Values::List(items, offsets, valid) => {
                let items = items.finish()?;
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
                Arc::new(ListArray::try_new(field, offsets, items, valid.finish()).map_err(|e| internal(&e.to_string()))?)
            }
        };
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&array, &self.data_type, &options)
            .map_err(|e| SqlError::from(datafusion::error::DataFusionError::from(e)).with_context(format!("column {}", self.name)))
    }
}

fn decimals(precision: u8, scale: i8) -> Result<Decimal128Builder, SqlError> {
    Decimal128Builder::new().with_precision_and_scale(precision, scale).map_err(|e| internal(&e.to_string()))
}

fn end_list(offsets: &mut Vec<i32>, elements: usize) -> Result<(), SqlError> {
    let last = offsets.last().copied().unwrap_or_default();
    let end = i32::try_from(elements).ok().and_then(|elements| last.checked_add(elements));
    offsets.push(end.ok_or_else(|| SqlError::new(SqlState::ProgramLimitExceeded, "the arrays of a column hold too many elements"))?);
    Ok(())
}

fn numeric_overflow(precision: u8, scale: i8) -> SqlError {
    SqlError::new(SqlState::NumericValueOutOfRange, "numeric field overflow").with_detail(format!(
        "a field with precision {precision}, scale {scale} must round to an absolute value less than 10^{}",
        i16::from(precision) - i16::from(scale)
    ))
}

/// Text that must be UTF-8.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let shown: Vec<String> = bytes[at..].iter().take(error.error_len().unwrap_or(4)).map(|b| format!("0x{b:02x}")).collect();
        SqlError::new(SqlState::CharacterNotInRepertoire, format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")))
    })
}

/// A boolean in any of PostgreSQL's spellings, down to their first letters.
fn truth(word: &str) -> Option<bool> {
    let word = word.to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(word.as_str());
    if begins("true", 1) || begins("yes", 1) || word == "on" || word == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        Some(false)
    } else {
        None
    }
}

fn says_infinity(word: &str) -> bool {
    word.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("inf")
}

/// Bytes in hexadecimal digits or in the older form of escapes.
fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let pairs = digits.chunks(2).map(|pair| match pair {
            [high, low] => Some(((*high as char).to_digit(16)? << 4 | (*low as char).to_digit(16)?) as u8),
            _ => None,
        });
        return pairs.collect();
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next()? {
            b'\\' => out.push(b'\\'),
            first => {
                let digit = |byte: u8| (b'0'..=b'7').contains(&byte).then(|| u32::from(byte - b'0'));
                let value = digit(first)? << 6 | digit(bytes.next()?)? << 3 | digit(bytes.next()?)?;
                out.push(u8::try_from(value).ok()?);
            }
        }
    }
    Some(out)
}

/// Microseconds since 1970. Without a zone, what the text says of one is left out, as PostgreSQL does.
fn timestamp(word: &str, zone: Option<Tz>) -> Option<i64> {
    match word.to_ascii_lowercase().as_str() {
        "infinity" => return Some(i64::MAX),
        "-infinity" => return Some(i64::MIN),
        "epoch" => return Some(0),
        _ => {}
    }
    match zone {
        Some(zone) => Some(string_to_datetime(&zone, word).ok()?.timestamp_micros()),
        None => {
            let end = word.char_indices().skip(11).find(|(_, c)| matches!(c, '+' | '-' | 'Z' | 'z')).map_or(word.len(), |(at, _)| at);
            Some(string_to_datetime(&Utc, word[..end].trim_end()).ok()?.timestamp_micros())
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::cast::AsArray;
    use datafusion::arrow::util::display::array_value_to_string;

    use super::*;

    fn column(data_type: DataType) -> Column {
        Column::new(&Field::new("c", data_type, true), Tz::from_str("+02:00").expect("a zone")).expect("a column")
    }

    fn shown(data_type: DataType, texts: &[&str]) -> Vec<String> {
        let mut column = column(data_type);
        texts.iter().for_each(|text| column.text(text).unwrap_or_else(|error| panic!("{text}: {error}")));
        let array = column.finish().expect("an array");
        (0..array.len()).map(|row| array_value_to_string(&array, row).expect("a text")).collect()
    }

    fn refused(data_type: DataType, text: &str) -> (&'static str, String) {
        let error = column(data_type).text(text).expect_err(text);
        (error.state.code(), error.message)
    }

    #[test]
    fn texts_are_read_as_postgresql_reads_them() {
        assert_eq!(shown(DataType::Boolean, &["t", "TRUE", "y", "on", "1"]), ["true"; 5]);
        assert_eq!(shown(DataType::Boolean, &["f", " false ", "n", "of", "0"]), ["false"; 5]);
        assert_eq!(shown(DataType::Int32, &[" 7 ", "-2147483648", "+1"]), ["7", "-2147483648", "1"]);
        assert_eq!(shown(DataType::Float64, &["1e3", "NaN", "-Infinity", ".5"]), ["1000.0", "NaN", "-inf", "0.5"]);
        assert_eq!(shown(DataType::Utf8View, &[" a ", ""]), [" a ", ""]);
        assert_eq!(shown(DataType::Date32, &["2024-02-29"]), ["2024-02-29"]);
        assert_eq!(shown(DataType::Decimal128(6, 2), &["1.005", "-3"]), ["1.01", "-3.00"]);
        assert_eq!(
            shown(DataType::Timestamp(TimeUnit::Nanosecond, None), &["2024-01-01 10:00:00.5", "2024-01-01 10:00:00+05"]),
            ["2024-01-01T10:00:00.500", "2024-01-01T10:00:00"]
        );
        assert_eq!(
            shown(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), &["2024-01-01 10:00:00", "2024-01-01 10:00:00+00"]),
            ["2024-01-01T08:00:00Z", "2024-01-01T10:00:00Z"]
        );
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        assert_eq!(shown(list, &["{1,NULL,3}", "{}"]), ["[1, , 3]", "[]"]);
        let mut bytes = column(DataType::BinaryView);
        for text in ["\\xdeadBEEF", "a\\\\b\\001", "\\x"] {
            bytes.text(text).expect(text);
        }
        let bytes = bytes.finish().expect("an array");
        let bytes: Vec<_> = bytes.as_binary_view().iter().flatten().collect();
        assert_eq!(bytes, [&b"\xde\xad\xbe\xef"[..], b"a\\b\x01", b""]);
    }

    #[test]
    fn what_is_no_value_of_the_type_is_refused_with_its_class() {
        assert_eq!(refused(DataType::Int64, "abc"), ("22P02", "invalid input syntax for type bigint: \"abc\"".to_owned()));
        assert_eq!(refused(DataType::Int64, "").0, "22P02");
        assert_eq!(refused(DataType::Int16, "40000"), ("22003", "value \"40000\" is out of range for type smallint".to_owned()));
        assert_eq!(refused(DataType::Int64, "99999999999999999999").0, "22003");
        assert_eq!(refused(DataType::Float64, "1e999").0, "22003");
        assert_eq!(refused(DataType::Boolean, "o").0, "22P02");
        assert_eq!(refused(DataType::Date32, "2024-02-30").0, "22007");
        assert_eq!(refused(DataType::Timestamp(TimeUnit::Nanosecond, None), "9999-01-01 00:00:00").0, "22008");
        assert_eq!(refused(DataType::Decimal128(4, 2), "100").0, "22003");
        assert_eq!(refused(DataType::Utf8, "a\0b").0, "22021");
        assert_eq!(refused(DataType::BinaryView, "\\xabc").0, "22P02");
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        assert_eq!(refused(list.clone(), "{1,x}").0, "22P02");
        assert_eq!(refused(list, "1"), ("22P02", "malformed array literal: \"1\"".to_owned()));
    }

    #[test]
    fn binary_values_are_those_of_the_protocol() {
        let cases: [(DataType, &[u8], &str); 7] = [
            (DataType::Boolean, &[1], "true"),
            (DataType::Int16, &[0xff, 0xfe], "-2"),
            (DataType::Int64, &[0, 0, 0, 0, 0, 0, 1, 0], "256"),
            (DataType::Float64, &1.5_f64.to_be_bytes(), "1.5"),
            (DataType::Date32, &[0, 0, 0, 1], "2000-01-02"),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), &[0, 0, 0, 0, 0, 0x0f, 0x42, 0x40], "2000-01-01T00:00:01"),
            (DataType::Utf8, b"caf\xc3\xa9", "café"),
        ];
        for (data_type, bytes, expected) in cases {
            let mut column = column(data_type.clone());
            column.binary(bytes).expect(expected);
            column.null();
            let array = column.finish().expect("an array");
            assert_eq!(array_value_to_string(&array, 0).expect("a text"), expected);
            assert!(array.is_null(1) && array.data_type() == &data_type);
        }
        for (data_type, bytes) in [(DataType::Int32, &[0, 0, 1][..]), (DataType::Boolean, &[]), (DataType::Decimal128(5, 2), &[0, 1])] {
            assert_eq!(column(data_type).binary(bytes).expect_err("wrong").state.code(), "22P03");
        }
        assert_eq!(column(DataType::Utf8).binary(&[0xff]).expect_err("not UTF-8").state.code(), "22021");
    }
}
