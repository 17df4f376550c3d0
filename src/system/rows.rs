//! Rows of the system catalog, column by column.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::Result;
use datafusion_pg_catalog::pg_catalog::oid_field::{kind, oid_field};

/// Named columns of one length.
#[derive(Default)]
pub(super) struct Rows {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Rows {
    fn with(mut self, field: Field, column: ArrayRef) -> Self {
        self.fields.push(field);
        self.columns.push(column);
        self
    }

    /// Numbers of objects.
    pub(super) fn oids(self, name: &str, values: impl IntoIterator<Item = u32>) -> Self {
        let values = values.into_iter().map(u32::cast_signed);
        self.with(oid_field(name, kind::OID, false), Arc::new(Int32Array::from_iter_values(values)))
    }

    pub(super) fn integers(self, name: &str, values: impl IntoIterator<Item = i32>) -> Self {
        self.with(Field::new(name, DataType::Int32, false), Arc::new(Int32Array::from_iter_values(values)))
    }

    /// Numbers that may be unknown.
    pub(super) fn numbers(self, name: &str, values: impl IntoIterator<Item = Option<i32>>) -> Self {
        self.with(Field::new(name, DataType::Int32, true), Arc::new(Int32Array::from_iter(values)))
    }

    pub(super) fn shorts(self, name: &str, values: impl IntoIterator<Item = i16>) -> Self {
        self.with(Field::new(name, DataType::Int16, false), Arc::new(Int16Array::from_iter_values(values)))
    }

    pub(super) fn reals(self, name: &str, values: impl IntoIterator<Item = f32>) -> Self {
        self.with(Field::new(name, DataType::Float32, false), Arc::new(Float32Array::from_iter_values(values)))
    }

    pub(super) fn switches(self, name: &str, values: impl IntoIterator<Item = bool>) -> Self {
        let values = BooleanArray::from_iter(values.into_iter().map(Some));
        self.with(Field::new(name, DataType::Boolean, false), Arc::new(values))
    }

    pub(super) fn texts<T: AsRef<str>>(self, name: &str, values: impl IntoIterator<Item = Option<T>>) -> Self {
        self.with(Field::new(name, DataType::Utf8, true), Arc::new(StringArray::from_iter(values)))
    }

    pub(super) fn times(self, name: &str, values: impl IntoIterator<Item = Option<DateTime<Utc>>>) -> Self {
        let values = values.into_iter().map(|time| time.map(|time| time.timestamp_micros()));
        let column = TimestampMicrosecondArray::from_iter(values).with_timezone("+00:00");
        self.with(Field::new(name, column.data_type().clone(), true), Arc::new(column))
    }

    /// Lists of texts.
    pub(super) fn lists<T: AsRef<str>>(self, name: &str, values: impl IntoIterator<Item = Option<Vec<T>>>) -> Self {
        let mut column = ListBuilder::new(StringBuilder::new());
        for value in values {
            match value {
                Some(items) => column.append_value(items.iter().map(|item| Some(item.as_ref()))),
                None => column.append_null(),
            }
        }
        let column = column.finish();
        self.with(Field::new(name, column.data_type().clone(), true), Arc::new(column))
    }

    /// A column without values, of lists of texts.
    pub(super) fn no_lists(self, name: &str, rows: usize) -> Self {
        let data_type = DataType::new_list(DataType::Utf8, true);
        let column = new_null_array(&data_type, rows);
        self.with(Field::new(name, data_type, true), column)
    }

    /// A relation of these columns.
    pub(super) fn table(self) -> Result<Arc<dyn TableProvider>> {
        memory(Arc::new(Schema::new(self.fields)), self.columns)
    }

    /// A relation of the columns of `schema`: those of the same name, and NULL or its like for the others.
    pub(super) fn table_like(self, schema: &SchemaRef) -> Result<Arc<dyn TableProvider>> {
        let rows = self.columns.first().map_or(0, |column| column.len());
        let own = Schema::new(self.fields);
        let columns = schema.fields().iter().map(|field| match own.column_with_name(field.name()) {
            Some((at, _)) => Ok(cast(&self.columns[at], field.data_type())?),
            None if field.is_nullable() => Ok(new_null_array(field.data_type(), rows)),
            None => blank(field.data_type(), rows),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        memory(Arc::clone(schema), columns)
    }
}

/// No number, no text, no switch that is on.
fn blank(data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    let zeros: ArrayRef = match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Arc::new(StringArray::from(vec![""; rows])),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false; rows])),
        _ => Arc::new(Int32Array::from(vec![0; rows])),
    };
    Ok(cast(&zeros, data_type)?)
}

fn memory(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<Arc<dyn TableProvider>> {
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}
