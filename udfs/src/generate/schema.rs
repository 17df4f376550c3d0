//! Fields that a text must have.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, StructArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;
use serde_json::{Map, Value, json};

use crate::error::Error;

/// The fields with their types.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OutputSchema {
    fields: Vec<(String, DataType)>,
}

impl OutputSchema {
    /// Reads `headline text, score integer`; `object` is named in errors.
    pub(super) fn parse(text: &str, object: &str) -> Result<Self, Error> {
        let refuse = |reason: String| Error::InvalidValue {
            object: object.to_owned(),
            reason,
            hint: Some(
                "write names and types: 'headline text, score integer'; the types are text, integer, double precision and boolean"
                    .to_owned(),
            ),
        };
        let mut fields: Vec<(String, DataType)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((name, data_type)) = part.split_once(char::is_whitespace) else {
                return Err(refuse(format!("has a field \"{part}\" without a name or a type")));
            };
            let data_type = match data_type.trim().to_lowercase().as_str() {
                "text" => DataType::Utf8,
                "integer" | "int" | "bigint" => DataType::Int64,
                "double precision" | "double" | "real" | "numeric" => DataType::Float64,
                "boolean" | "bool" => DataType::Boolean,
                other => return Err(refuse(format!("has a field \"{name}\" of the unknown type {other}"))),
            };
            let name = name.trim_matches('"').to_owned();
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(refuse(format!("has the field \"{name}\" twice")));
            }
            fields.push((name, data_type));
        }
        Ok(Self { fields })
    }

    fn arrow(&self) -> Fields {
        self.fields.iter().map(|(name, data_type)| Field::new(name, data_type.clone(), true)).collect()
    }

    pub(super) fn data_type(&self) -> DataType {
        DataType::Struct(self.arrow())
    }

    /// The same as a JSON schema.
    pub(super) fn json_schema(&self) -> String {
        let property = |data_type: &DataType| match data_type {
            DataType::Int64 => json!({ "type": "integer", "minimum": -1_000_000_000, "maximum": 1_000_000_000 }),
            DataType::Float64 => json!({ "type": "number" }),
            DataType::Boolean => json!({ "type": "boolean" }),
            _ => json!({ "type": "string" }),
        };
        let properties: Map<String, Value> = self.fields.iter().map(|(name, data_type)| (name.clone(), property(data_type))).collect();
        let required: Vec<&String> = self.fields.iter().map(|(name, _)| name).collect();
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false }).to_string()
    }

    /// JSON texts as rows; `None` is NULL.
    pub(super) fn read(&self, texts: &[Option<String>]) -> Result<ArrayRef> {
        let parse = |text: &String| {
            serde_json::from_str::<Map<String, Value>>(text).map_err(|e| Error::value("a generated row", format!("is no JSON object: {e}")))
        };
        let rows = texts.iter().map(|text| text.as_ref().map(parse).transpose()).collect::<Result<Vec<_>, Error>>()?;
        let columns: Vec<ArrayRef> = self
            .fields
            .iter()
            .map(|(name, data_type)| {
                let values = rows.iter().map(|row| row.as_ref().and_then(|row| row.get(name)));
                match data_type {
                    DataType::Int64 => Arc::new(values.map(|value| value.and_then(Value::as_i64)).collect::<Int64Array>()) as ArrayRef,
                    DataType::Float64 => Arc::new(values.map(|value| value.and_then(Value::as_f64)).collect::<Float64Array>()),
                    DataType::Boolean => Arc::new(values.map(|value| value.and_then(Value::as_bool)).collect::<BooleanArray>()),
                    _ => Arc::new(values.map(|value| value.and_then(Value::as_str)).collect::<StringArray>()),
                }
            })
            .collect();
        let there = NullBuffer::from_iter(rows.iter().map(Option::is_some));
        Ok(Arc::new(StructArray::try_new(self.arrow(), columns, Some(there))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_written() {
        let schema = OutputSchema::parse("headline text, \"score\" integer ,share double precision, new boolean", "x").unwrap();
        assert_eq!(schema.fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["headline", "score", "share", "new"]);
        let text = r#"{"headline": "Go", "score": 3, "share": 0.5, "new": true}"#.to_owned();
        let rows = schema.read(&[Some(text), None]).unwrap();
        assert_eq!((rows.len(), rows.is_null(1), rows.data_type()), (2, true, &schema.data_type()));
        assert!(schema.json_schema().contains(r#""required":["headline","score","share","new"]"#));
    }

    #[test]
    fn what_is_no_list_of_fields_is_refused_with_the_way_to_write_it() {
        for (text, named) in [("headline", "\"headline\""), ("a text, a text", "twice"), ("a jsonb", "jsonb"), ("", "\"\"")] {
            let error = OutputSchema::parse(text, "argument output_schema of ai.generate").unwrap_err();
            assert!(error.to_string().contains(named) && error.hint().unwrap().contains("headline text"), "{error}");
        }
    }
}
