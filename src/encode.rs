//! Arrow batches as rows of the wire protocol: which PostgreSQL type each column has, and its values in text or binary.

mod text;
mod value;

use std::str::FromStr;
use std::sync::Arc;

use arrow_pg::datatypes::{arrow_schema_to_pg_fields, field_into_pg_type, into_pg_type};
use arrow_pg::row_encoder::RowEncoder;
use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{FieldDescription, MESSAGE_TYPE_BYTE_DATA_ROW, RowDescription};

use crate::names;
use crate::protocol::Outbound;
use crate::sqlstate::{SqlError, SqlState, internal};
pub(crate) use text::civil;
use value::Values;

/// The columns of a result as they go over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    fields: Arc<Vec<FieldInfo>>,
    /// The type modifiers of the columns.
    modifiers: Vec<i32>,
    zone: Tz,
    count: i16,
}

impl Columns {
    /// The columns of `schema` in the wanted formats, times with a zone shown in `zone`.
    pub(crate) fn new(schema: &Schema, format: &Format, zone: &str) -> Result<Self, SqlError> {
        let zone = Tz::from_str(zone).map_err(|e| internal(&e.to_string()))?;
        let count = schema.fields().len();
        let count = i16::try_from(count).map_err(|_| {
            SqlError::new(SqlState::ProgramLimitExceeded, format!("a result has {count} columns, more than the protocol counts"))
        })?;
        let shown: Vec<Field> = schema.fields().iter().map(|f| wire_field(f)).collect();
        let fields = arrow_schema_to_pg_fields(&Schema::new(shown.clone()), format, None).map_err(|e| internal(&e.to_string()))?;
        let fields = fields.into_iter().zip(&shown).map(|(info, field)| {
            let known = wire_type(field);
            if known == *info.datatype() { info } else { FieldInfo::new(info.name().to_owned(), None, None, known, info.format()) }
        });
        let modifiers = schema.fields().iter().map(|field| modifier(field.data_type())).collect();
        Ok(Self { fields: Arc::new(fields.collect()), modifiers, zone, count })
    }

    /// The RowDescription message.
    pub(crate) fn description(&self) -> PgWireBackendMessage {
        PgWireBackendMessage::RowDescription(RowDescription::new(self.fields.iter().zip(&self.modifiers).map(described).collect()))
    }

    /// How many columns there are.
    pub(crate) fn count(&self) -> i16 {
        self.count
    }

    /// Encodes rows `[from, to)` of a batch.
    pub(crate) fn encode(&self, batch: &RecordBatch, from: usize, to: usize, out: &mut Outbound) -> Result<(), SqlError> {
        let mut rows = self.rows(batch, from, to)?;
        while rows.next() {
            out.message(MESSAGE_TYPE_BYTE_DATA_ROW, |message| {
                message.put_i16(self.count);
                rows.put(message)
            })?;
        }
        Ok(())
    }

    /// Rows `[from, to)` of a batch, to be written one after the other.
    pub(crate) fn rows(&self, batch: &RecordBatch, from: usize, to: usize) -> Result<Encoded, SqlError> {
        let slice = batch.slice(from, to - from);
        let columns = slice.columns().iter().zip(slice.schema_ref().fields()).zip(self.fields.iter());
        let columns = columns.map(|((array, field), info)| Column::of(array, field, info, self.zone)).collect::<Result<_, _>>()?;
        Ok(Encoded { columns, row: None, count: slice.num_rows() })
    }
}

/// The values of an array in PostgreSQL's words, times with a zone shown in `zone`; none where there are no words for its type.
pub(crate) fn texts(array: &ArrayRef, zone: &str) -> Result<Option<StringArray>, SqlError> {
    let zone = Tz::from_str(zone).map_err(|e| internal(&e.to_string()))?;
    let Some(mut values) = Values::of(array, true, zone)? else { return Ok(None) };
    let (mut texts, mut text) = (StringBuilder::with_capacity(array.len(), array.len() * 16), BytesMut::new());
    for row in 0..array.len() {
        text.clear();
        if values.write(row, &mut text) {
            texts.append_value(std::str::from_utf8(&text).map_err(|e| internal(&e.to_string()))?);
        } else {
            texts.append_null();
        }
    }
    Ok(Some(texts.finish()))
}

/// Rows of a batch on their way.
pub(crate) struct Encoded {
    columns: Vec<Column>,
    row: Option<usize>,
    count: usize,
}

impl Encoded {
    /// Goes to the next row. False where there is none.
    pub(crate) fn next(&mut self) -> bool {
        let next = self.row.map_or(0, |row| row + 1);
        self.row = Some(next);
        next < self.count
    }

    /// Writes the values of the row at hand, each with its length before it.
    pub(crate) fn put(&mut self, out: &mut BytesMut) -> Result<(), SqlError> {
        let row = self.row.unwrap_or_default();
        self.columns.iter_mut().try_for_each(|column| column.put(row, out))
    }
}

/// The values of a column.
enum Column {
    Own(Values),
    /// Intervals, rows in binary and what else is rare.
    General(RowEncoder),
}

impl Column {
    fn of(array: &ArrayRef, field: &Field, info: &FieldInfo, zone: Tz) -> Result<Self, SqlError> {
        let array = match has_no_wire_type(array.data_type()) {
            true => cast(array, &DataType::Utf8).map_err(|e| SqlError::from(datafusion::error::DataFusionError::from(e)))?,
            false => Arc::clone(array),
        };
        if let Some(values) = Values::of(&array, info.format() == FieldFormat::Text, zone)? {
            return Ok(Self::Own(values));
        }
        let field = field.clone().with_data_type(array.data_type().clone()).with_nullable(true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(schema, vec![array]).map_err(|e| internal(&e.to_string()))?;
        Ok(Self::General(RowEncoder::new(batch, Arc::new(vec![info.clone()]))))
    }

    fn put(&mut self, row: usize, out: &mut BytesMut) -> Result<(), SqlError> {
        match self {
            Column::Own(values) => values.put(row, out),
            // it counts its rows itself
            Column::General(values) => {
                let row = values.next_row().ok_or_else(|| internal("a column has too few values"))?;
                out.put_slice(&row.map_err(|e| internal(&e.to_string()))?.data);
            }
        }
        Ok(())
    }
}

fn described((info, modifier): (&FieldInfo, &i32)) -> FieldDescription {
    let mut description = FieldDescription::from(info);
    description.type_modifier = *modifier;
    description
}

/// The type modifier of a type: precision and scale of a decimal number that was given them.
pub(crate) fn modifier(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Decimal128(precision, scale) if *precision < 38 => ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4,
        _ => -1,
    }
}

/// Whether a type is written as text: the protocol does not know it, or nobody has said what it is.
fn has_no_wire_type(data_type: &DataType) -> bool {
    data_type.is_null() || into_pg_type(data_type).is_err()
}

/// The field whose PostgreSQL type the client is told.
fn wire_field(field: &Field) -> Field {
    let data_type = if has_no_wire_type(field.data_type()) { DataType::Utf8 } else { field.data_type().clone() };
    field.clone().with_name(names::shown(field.name())).with_data_type(data_type)
}

/// The PostgreSQL type of a field.
pub(crate) fn wire_type(field: &Field) -> Type {
    if let DataType::List(item) = field.data_type()
        && let Some(list) = value::list_type(&wire_type(item))
    {
        return list;
    }
    field_into_pg_type(&Arc::new(field.clone())).unwrap_or(Type::TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{BooleanArray, Float64Array, Int32Array, ListArray, StringArray, StructArray};
    use datafusion::arrow::datatypes::Int32Type;

    /// The values of the first column, without their lengths.
    fn encoded(array: ArrayRef, format: &Format) -> Vec<Vec<u8>> {
        let schema = Arc::new(Schema::new(vec![Field::new("c", array.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![array]).expect("one column");
        let columns = Columns::new(&schema, format, "UTC").expect("columns");
        let mut rows = columns.rows(&batch, 0, batch.num_rows()).expect("rows");
        let mut values = Vec::new();
        while rows.next() {
            let mut out = BytesMut::new();
            rows.put(&mut out).expect("a row");
            values.push(out[4..].to_vec());
        }
        values
    }

    fn text(array: ArrayRef) -> Vec<String> {
        encoded(array, &Format::UnifiedText).into_iter().map(|value| String::from_utf8(value).expect("text")).collect()
    }

    #[test]
    fn rows_are_written_as_postgresql_writes_them() {
        // SELECT ROW('a b', 1.5::float8, true), ROW('', NULL, NULL), ROW('say "hi" \\ (x,y)', -0.25::float8, false) in PostgreSQL 16
        let texts = StringArray::from(vec![Some("a b"), Some(""), Some("say \"hi\" \\ (x,y)")]);
        let numbers = Float64Array::from(vec![Some(1.5), None, Some(-0.25)]);
        let truths = BooleanArray::from(vec![Some(true), None, Some(false)]);
        let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
        let fields = vec![field("a", DataType::Utf8), field("b", DataType::Float64), field("c", DataType::Boolean)];
        let row = StructArray::new(fields.into(), vec![Arc::new(texts), Arc::new(numbers), Arc::new(truths)], None);
        assert_eq!(text(Arc::new(row)), [r#"("a b",1.5,t)"#, r#"("",,)"#, r#"("say ""hi"" \\ (x,y)",-0.25,f)"#]);
    }

    #[test]
    fn lists_are_written_as_postgresql_writes_them() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None, Some(-3)]), Some(vec![])]);
        let list: ArrayRef = Arc::new(list);
        assert_eq!(text(Arc::clone(&list)), ["{1,NULL,-3}", "{}"]);
        // array_send of ARRAY[1,NULL,-3] and '{}'::int[]
        let binary = encoded(list, &Format::UnifiedBinary);
        let words = |bytes: &[u8]| bytes.chunks(4).map(|c| i32::from_be_bytes([c[0], c[1], c[2], c[3]])).collect::<Vec<_>>();
        assert_eq!(words(&binary[0]), [1, 1, 23, 3, 1, 4, 1, -1, 4, -3]);
        assert_eq!(words(&binary[1]), [0, 0, 23]);
    }

    #[test]
    fn only_the_asked_rows_are_written() {
        let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Int32, true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int32Array::from(vec![1, 2, 3]))]).expect("one column");
        let columns = Columns::new(&schema, &Format::UnifiedText, "UTC").expect("columns");
        let mut rows = columns.rows(&batch, 1, 2).expect("rows");
        assert!(rows.next());
        let mut out = BytesMut::new();
        rows.put(&mut out).expect("a row");
        assert_eq!(&out[..], b"\0\0\0\x012");
        assert!(!rows.next());
    }
}
