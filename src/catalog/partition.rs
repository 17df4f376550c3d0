//! Hive partitions: columns whose values are in the folder names, `key=value`.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

/// The folder name that Hive, Spark and pyarrow write for NULL.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// One `key=value` folder; `None` is NULL.
pub(crate) type Pair = (String, Option<String>);

/// Reads a folder name. Writers percent-encode what a file name cannot hold.
pub(crate) fn parse(folder: &str) -> Option<Pair> {
    let (key, value) = folder.split_once('=')?;
    if key.is_empty() {
        return None;
    }
    let value = if value == NULL { None } else { Some(decode(value)) };
    Some((decode(key), value))
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    // An escape that is not UTF-8 was not written by a partitioning writer: keep the name as it is.
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The type of a partition column: `bigint` or `date` when every value is written as one, else text.
///
/// Leading zeros and signs mean text, so that the values read as they are in the folder names (`month=07` stays `'07'`).
pub(crate) fn infer(values: &BTreeSet<Option<&str>>) -> DataType {
    let known = || values.iter().flatten();
    if known().next().is_none() {
        return DataType::Utf8View;
    }
    if known().all(|value| integer(value).is_some()) {
        return DataType::Int64;
    }
    if known().all(|value| date(value).is_some()) {
        return DataType::Date32;
    }
    DataType::Utf8View
}

/// The value of a partition column whose type was [inferred](infer).
pub(crate) fn value(text: Option<&str>, data_type: &DataType) -> ScalarValue {
    match data_type {
        DataType::Int64 => ScalarValue::Int64(text.and_then(integer)),
        DataType::Date32 => ScalarValue::Date32(text.and_then(date)),
        _ => ScalarValue::Utf8View(text.map(str::to_owned)),
    }
}

fn integer(text: &str) -> Option<i64> {
    let value: i64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// Days since 1970-01-01.
fn date(text: &str) -> Option<i32> {
    let value = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let canonical = value.format("%Y-%m-%d").to_string() == text;
    i32::try_from((value - epoch).num_days()).ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(values: &[&str]) -> DataType {
        infer(&values.iter().map(|value| (*value != NULL).then_some(*value)).collect())
    }

    #[test]
    fn partition_types_are_bigint_date_or_text() {
        assert_eq!(inferred(&["1", "-20", "0"]), DataType::Int64);
        assert_eq!(inferred(&["2024-02-29", NULL]), DataType::Date32);
        assert_eq!(inferred(&["2023-02-29"]), DataType::Utf8View);
        assert_eq!(inferred(&["1", "2024-01-01"]), DataType::Utf8View);
        assert_eq!(inferred(&["01", "02"]), DataType::Utf8View);
        assert_eq!(inferred(&["", "1"]), DataType::Utf8View);
        assert_eq!(inferred(&[NULL]), DataType::Utf8View);
        assert_eq!(inferred(&["9223372036854775808"]), DataType::Utf8View);
    }

    #[test]
    fn folder_names_are_decoded() {
        assert_eq!(parse("city=S%C3%A3o%20Paulo"), Some(("city".into(), Some("São Paulo".into()))));
        assert_eq!(parse("rate=100%"), Some(("rate".into(), Some("100%".into()))));
        assert_eq!(parse("odd=%F"), Some(("odd".into(), Some("%F".into()))));
        assert_eq!(parse("bad=%FF"), Some(("bad".into(), Some("%FF".into()))));
        assert_eq!(parse("a=b=c"), Some(("a".into(), Some("b=c".into()))));
        assert_eq!(parse("day=__HIVE_DEFAULT_PARTITION__"), Some(("day".into(), None)));
        assert_eq!(parse("=x"), None);
        assert_eq!(parse("plain"), None);
    }

    #[test]
    fn values_have_the_inferred_type() {
        assert_eq!(value(Some("1970-01-02"), &DataType::Date32), ScalarValue::Date32(Some(1)));
        assert_eq!(value(Some("42"), &DataType::Int64), ScalarValue::Int64(Some(42)));
        assert_eq!(value(None, &DataType::Utf8View), ScalarValue::Utf8View(None));
    }
}
