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
use pgwire::messages::data::{FieldDescription, RowDescription};

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
            .map(|(field, info)| match field.data_type() {
                data_type if has_no_wire_type(data_type) => Form::Cast(DataType::Utf8),
                DataType::Dictionary(_, value) => Form::Cast(value.as_ref().clone()),
                DataType::Timestamp(_, tz) if info.format() == FieldFormat::Text => Form::Timestamp(tz.as_ref().map(|_| zone)),
                DataType::Float64 | DataType::Float32 if info.format() == FieldFormat::Text => Form::Float,
                DataType::Float16 => Form::Cast(DataType::Float32),
                _ => Form::Plain,
            })
            .collect();
        Ok(Self { fields: Arc::new(fields), forms })
    }

    /// The RowDescription message.
    pub(crate) fn description(&self) -> PgWireBackendMessage {
        PgWireBackendMessage::RowDescription(RowDescription::new(self.fields.iter().map(FieldDescription::from).collect()))
    }

    /// Encodes rows `[from, to)` of a batch.
    pub(crate) fn encode(&self, batch: &RecordBatch, from: usize, to: usize, out: &mut Outbound) -> Result<(), SqlError> {
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
            let row = row.map_err(|e| internal(&e.to_string()))?;
            out.put(&PgWireBackendMessage::DataRow(row))?;
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
    fn apply(&self, array: &ArrayRef) -> Result<ArrayRef, SqlError> {
        let converted = |to: &DataType| cast(array, to).map_err(|e| SqlError::from(datafusion::error::DataFusionError::from(e)));
        match self {
            Form::Plain => Ok(Arc::clone(array)),
            Form::Cast(to) => converted(to),
            Form::Timestamp(zone) => Ok(timestamps(&converted(&DataType::Timestamp(TimeUnit::Microsecond, None))?, *zone)),
            Form::Float => Ok(floats(array)),
        }
    }
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
    use datafusion::arrow::array::{Float64Array, TimestampMicrosecondArray};

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
