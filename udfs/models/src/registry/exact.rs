//! Numbers of records as text: a number of JSON comes back with another last digit now and then, a measurement must not.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes the shortest text that stands for this number alone.
pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(&format_args!("{value:?}")),
        None => serializer.serialize_none(),
    }
}

/// A number as it was written; records of before have numbers of JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(f64),
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match Option::<Written>::deserialize(deserializer)? {
        Some(Written::Text(text)) => text.parse().map(Some).map_err(D::Error::custom),
        Some(Written::Number(number)) => Ok(Some(number)),
        None => Ok(None),
    }
}
