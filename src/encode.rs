//! Arrow batches as rows of the wire protocol: which PostgreSQL type each column has, and its values in text or binary.

use std::fmt::Write;
use std::str::FromStr;
use std::sync::Arc;

use arrow_pg::datatypes::{arrow_schema_to_pg_fields, into_pg_type};
use arrow_pg::row_encoder::RowEncoder;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::types::{Float32Type, Float64Type, TimestampMicrosecondType};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::temporal_conversions::timestamp_us_to_datetime;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};

use crate::names;
use crate::protocol::Outbound;
use crate::sqlstate::{SqlError, internal};

/// The columns of a result as they go over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// What the encoder is told, column for column.
    fields: Arc<Vec<FieldInfo>>,
    /// What each column of a batch is turned into before it is encoded.
    forms: Vec<Form>,
}

/// How a column is turned into what the encoder writes as PostgreSQL would.
#[derive(Debug, Clone)]
enum Form {
    /// As it is.
    Plain,
    /// A type the protocol has no counterpart for, written as text.
    Cast(DataType),
    /// A timestamp in text, in this zone or in none.
    Timestamp(Option<Tz>),
    /// A floating-point number in text.
    Float,
    /// A row in text, with the forms of its fields.
    Row(Vec<Form>),
}

impl Columns {
    /// The columns of `schema` in the wanted formats, times with a zone shown in `zone`.
    pub(crate) fn new(schema: &Schema, format: &Format, zone: &str) -> Result<Self, SqlError> {
        let zone = Tz::from_str(zone).map_err(|e| internal(&e.to_string()))?;
        let shown: Vec<Field> = schema.fields().iter().map(|f| wire_field(f)).collect();
        let fields = arrow_schema_to_pg_fields(&Schema::new(shown), format, None).map_err(|e| internal(&e.to_string()))?;
        let forms = schema
            .fields()
            .iter()
            .zip(&fields)
            .map(|(field, info)| Form::of(field.data_type(), info.format() == FieldFormat::Text, zone))
            .collect();
        Ok(Self { fields: Arc::new(fields), forms })
    }

    /// The RowDescription message.
    pub(crate) fn description(&self) -> PgWireBackendMessage {
        PgWireBackendMessage::RowDescription(RowDescription::new(self.fields.iter().map(FieldDescription::from).collect()))
    }

    /// Encodes rows `[from, to)` of a batch.
    pub(crate) fn encode(&self, batch: &RecordBatch, from: usize, to: usize, out: &mut Outbound) -> Result<(), SqlError> {
        self.each(batch, from, to, |row| out.put(&PgWireBackendMessage::DataRow(row)))
    }

    /// Encodes rows `[from, to)` of a batch and gives them away one by one.
    pub(crate) fn each(
        &self,
        batch: &RecordBatch,
        from: usize,
        to: usize,
        mut give: impl FnMut(DataRow) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let slice = batch.slice(from, to - from);
        let columns: Vec<ArrayRef> = slice.columns().iter().zip(&self.forms).map(|(c, form)| form.apply(c)).collect::<Result<_, _>>()?;
        let fields: Vec<Field> = columns
            .iter()
            .zip(slice.schema_ref().fields())
            .map(|(c, f)| f.as_ref().clone().with_data_type(c.data_type().clone()).with_nullable(true))
            .collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let options = datafusion::arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(slice.num_rows()));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options).map_err(|e| internal(&e.to_string()))?;
        let mut rows = RowEncoder::new(batch, Arc::clone(&self.fields));
        while let Some(row) = rows.next_row() {
            give(row.map_err(|e| internal(&e.to_string()))?)?;
        }
        Ok(())
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

impl Form {
    fn of(data_type: &DataType, text: bool, zone: Tz) -> Self {
        match data_type {
            data_type if has_no_wire_type(data_type) => Form::Cast(DataType::Utf8),
            DataType::Dictionary(_, value) => Form::Cast(value.as_ref().clone()),
            DataType::Timestamp(_, tz) if text => Form::Timestamp(tz.as_ref().map(|_| zone)),
            DataType::Float64 | DataType::Float32 if text => Form::Float,
            DataType::Float16 => Form::Cast(DataType::Float32),
            // Lists and binary values in a row are left to the encoder.
            DataType::Struct(fields) if text && fields.iter().all(|field| is_plain(field.data_type())) => {
                Form::Row(fields.iter().map(|field| Form::of(field.data_type(), true, zone)).collect())
            }
            _ => Form::Plain,
        }
    }

    fn apply(&self, array: &ArrayRef) -> Result<ArrayRef, SqlError> {
        let converted = |to: &DataType| cast(array, to).map_err(|e| SqlError::from(datafusion::error::DataFusionError::from(e)));
        match self {
            Form::Plain => Ok(Arc::clone(array)),
            Form::Cast(to) => converted(to),
            Form::Timestamp(zone) => Ok(timestamps(&converted(&DataType::Timestamp(TimeUnit::Microsecond, None))?, *zone)),
            Form::Float => Ok(floats(array)),
            Form::Row(forms) => rows(array, forms),
        }
    }
}

fn is_plain(data_type: &DataType) -> bool {
    !data_type.is_nested() && !data_type.is_binary()
}

/// A row as PostgreSQL writes it: `(1,"two, three",)`, where nothing is NULL.
fn rows(array: &ArrayRef, forms: &[Form]) -> Result<ArrayRef, SqlError> {
    let fields = array.as_struct().columns().iter().zip(forms).map(|(column, form)| {
        let column = form.apply(column)?;
        if *column.data_type() == DataType::Boolean {
            let booleans = column.as_boolean();
            return Ok(texts(&column, |row, text| text.push(if booleans.value(row) { 't' } else { 'f' })));
        }
        cast(&column, &DataType::Utf8).map_err(|e| SqlError::from(datafusion::error::DataFusionError::from(e)))
    });
    let fields = fields.collect::<Result<Vec<_>, SqlError>>()?;
    let fields: Vec<_> = fields.iter().map(|field| field.as_string::<i32>()).collect();
    Ok(texts(array, |row, text| {
        text.push('(');
        for (place, field) in fields.iter().enumerate() {
            if place > 0 {
                text.push(',');
            }
            if field.is_valid(row) {
                quoted(field.value(row), text);
            }
        }
        text.push(')');
    }))
}

/// A field of a row, in quotes where it could be read as something else.
fn quoted(value: &str, text: &mut String) {
    if !value.is_empty() && !value.contains(|c: char| "\"\\(),".contains(c) || c.is_whitespace()) {
        return text.push_str(value);
    }
    text.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            text.push(c);
        }
        text.push(c);
    }
    text.push('"');
}

fn texts(array: &dyn Array, mut write: impl FnMut(usize, &mut String)) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(array.len(), array.len() * 16);
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
        } else {
            text.clear();
            write(row, &mut text);
            builder.append_value(&text);
        }
    }
    Arc::new(builder.finish())
}

/// `2020-01-31 12:00:00.5+02`: no needless zeros, as PostgreSQL's ISO style.
fn timestamps(array: &ArrayRef, zone: Option<Tz>) -> ArrayRef {
    use chrono::{Offset, TimeZone};
    let values = array.as_primitive::<TimestampMicrosecondType>();
    texts(array, |row, text| {
        let Some(utc) = timestamp_us_to_datetime(values.value(row)) else {
            text.push_str(if values.value(row) < 0 { "-infinity" } else { "infinity" });
            return;
        };
        let (local, offset) = match zone {
            Some(zone) => {
                let at = zone.from_utc_datetime(&utc);
                (at.naive_local(), Some(at.offset().fix().local_minus_utc()))
            }
            None => (utc, None),
        };
        // writing to a String does not fail
        let _ = write!(text, "{}", local.format("%Y-%m-%d %H:%M:%S"));
        let micros = values.value(row).rem_euclid(1_000_000);
        if micros != 0 {
            let _ = write!(text, ".{}", format!("{micros:06}").trim_end_matches('0'));
        }
        if let Some(offset) = offset {
            let (hours, minutes) = (offset.abs() / 3600, offset.abs() / 60 % 60);
            let _ = write!(text, "{}{hours:02}", if offset < 0 { '-' } else { '+' });
            if minutes != 0 {
                let _ = write!(text, ":{minutes:02}");
            }
        }
    })
}

/// The shortest digits that read back as the same number, in PostgreSQL's layout.
fn floats(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            texts(array, |row, text| float(f64::from(values.value(row)), &format!("{:e}", values.value(row)), 6, text))
        }
        _ => {
            let values = array.as_primitive::<Float64Type>();
            texts(array, |row, text| float(values.value(row), &format!("{:e}", values.value(row)), 15, text))
        }
    }
}

fn float(value: f64, scientific: &str, precision: i32, text: &mut String) {
    if value.is_nan() {
        return text.push_str("NaN");
    }
    if value.is_infinite() {
        return text.push_str(if value < 0.0 { "-Infinity" } else { "Infinity" });
    }
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..precision).contains(&exponent) {
        positional(digits, exponent, text);
    } else {
        let _ = write!(text, "{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
}

/// `1.25` and exponent 3 are `1250`.
fn positional(digits: &str, exponent: i32, text: &mut String) {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |d| ("-", d));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    text.push_str(sign);
    let point = 1 + exponent;
    if point <= 0 {
        text.push_str("0.");
        (point..0).for_each(|_| text.push('0'));
        text.push_str(&all);
        return;
    }
    let point = point.unsigned_abs() as usize;
    if all.len() <= point {
        text.push_str(&all);
        (all.len()..point).for_each(|_| text.push('0'));
    } else {
        text.push_str(&all[..point]);
        text.push('.');
        text.push_str(&all[point..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{BooleanArray, Float64Array, StringArray, StructArray, TimestampMicrosecondArray};

    #[test]
    fn rows_are_written_as_postgresql_writes_them() {
        // SELECT ROW('a b', 1.5::float8, true), ROW('', NULL, NULL), ROW('say "hi" \\ (x,y)', -0.25::float8, false) in PostgreSQL 16
        let texts = StringArray::from(vec![Some("a b"), Some(""), Some("say \"hi\" \\ (x,y)")]);
        let numbers = Float64Array::from(vec![Some(1.5), None, Some(-0.25)]);
        let truths = BooleanArray::from(vec![Some(true), None, Some(false)]);
        let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
        let fields = vec![field("a", DataType::Utf8), field("b", DataType::Float64), field("c", DataType::Boolean)];
        let row = StructArray::new(fields.into(), vec![Arc::new(texts), Arc::new(numbers), Arc::new(truths)], None);
        let form = Form::of(row.data_type(), true, Tz::from_str("UTC").expect("a zone"));
        let shown = form.apply(&(Arc::new(row) as ArrayRef)).expect("rows");
        let shown: Vec<_> = shown.as_string::<i32>().iter().map(|row| row.expect("no NULL").to_owned()).collect();
        assert_eq!(shown, [r#"("a b",1.5,t)"#, r#"("",,)"#, r#"("say ""hi"" \\ (x,y)",-0.25,f)"#]);
    }

    #[test]
    fn floats_are_written_as_postgresql_writes_them() {
        // answers of PostgreSQL 16 with extra_float_digits = 1
        let cases = [
            (0.1, "0.1"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (123456.789, "123456.789"),
            (1e300, "1e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (-0.0, "-0"),
        ];
        let array: ArrayRef = Arc::new(Float64Array::from_iter_values(cases.iter().map(|c| c.0)));
        let texts = floats(&array);
        for (row, (_, expected)) in cases.iter().enumerate() {
            assert_eq!(texts.as_string::<i32>().value(row), *expected);
        }
    }

    #[test]
    fn timestamps_are_written_without_needless_zeros_and_in_the_session_zone() {
        let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1_580_515_200_500_000), Some(0), None]));
        let plain = timestamps(&array, None);
        assert_eq!(plain.as_string::<i32>().value(0), "2020-02-01 00:00:00.5");
        assert!(plain.is_null(2));
        let zoned = timestamps(&array, Some(Tz::from_str("Asia/Kolkata").expect("zone")));
        assert_eq!(zoned.as_string::<i32>().value(1), "1970-01-01 05:30:00+05:30");
    }
}
