//! Which columns can be stored, and as what.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef};
use datafusion::parquet::arrow::ArrowSchemaConverter;

use super::error::{Error, Error as StoreError};
use crate::catalog::footer::plain;

/// The columns of a new table: one Arrow type per SQL type, everything may be NULL.
pub(crate) fn storable(name: &str, schema: &SchemaRef) -> Result<SchemaRef, Error> {
    let stored = displayable(schema)?;
    if stored.fields().is_empty() {
        return Err(Error::NoColumns { name: name.to_owned() });
    }
    for field in stored.fields() {
        let single = Schema::new(vec![Arc::clone(field)]);
        if !writable(field.data_type()) || ArrowSchemaConverter::new().convert(&single).is_err() {
            return Err(Error::UnsupportedType { column: field.name().clone(), data_type: field.data_type().to_string() });
        }
    }
    Ok(stored)
}

/// The columns of a new view.
pub(crate) fn displayable(schema: &SchemaRef) -> Result<SchemaRef, StoreError> {
    let mut seen = HashSet::new();
    if let Some(twice) = schema.fields().iter().find(|field| !seen.insert(field.name())) {
        return Err(Error::DuplicateColumn { column: twice.name().clone() });
    }
    let field = |field: &Arc<Field>| {
        let data_type = match plain(field.data_type()) {
            // PostgreSQL resolves a column of unknown type, such as SELECT NULL, to text.
            DataType::Null => DataType::Utf8View,
            other => other,
        };
        Field::new(field.name(), data_type, true)
    };
    Ok(Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())))
}

/// What the converter accepts but the writer does not.
fn writable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(IntervalUnit::MonthDayNano) | DataType::Union(..) => false,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) | DataType::Map(field, _) => {
            writable(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().all(|field| writable(field.data_type())),
        _ => true,
    }
}
