//! The values of one column as they stand in a message: in the protocol's binary form, or as PostgreSQL writes them in text.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::types::*;
use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use pgwire::api::Type;

use super::text;
use crate::sqlstate::SqlError;

/// From 1970-01-01, where Arrow counts from, to 2000-01-01, where PostgreSQL does.
const DAYS: i32 = 10_957;
const MICROSECONDS: i64 = DAYS as i64 * 86_400_000_000;

/// Writes a value that is not NULL: in text as it is, in binary with its length before it.
type Put = Box<dyn FnMut(usize, &mut BytesMut) + Send>;

/// The values of an array.
pub(super) struct Values {
    nulls: Option<NullBuffer>,
    put: Put,
    text: bool,
}

impl Values {
    /// A writer of an array in text, times with a zone in `zone`, or in binary; none where this module has no words for its type.
    pub(super) fn of(array: &ArrayRef, text: bool, zone: Tz) -> Result<Option<Self>, SqlError> {
        let Some(array) = settled(array)? else { return Ok(None) };
        let put = if text { in_text(&array, zone)? } else { in_binary(&array, zone)? };
        Ok(put.map(|put| Self { nulls: array.logical_nulls().filter(|nulls| nulls.null_count() > 0), put, text }))
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Writes a value as it is. False where it is NULL.
    pub(super) fn write(&mut self, row: usize, out: &mut BytesMut) -> bool {
        let there = !self.is_null(row);
        if there {
            (self.put)(row, out);
        }
        there
    }

    /// Writes a value with its length before it.
    pub(super) fn put(&mut self, row: usize, out: &mut BytesMut) {
        if self.is_null(row) {
            return out.put_i32(-1);
        }
        if self.text { counted(out, |out| (self.put)(row, out)) } else { (self.put)(row, out) }
    }
}

/// Writes a value with its length before it.
fn counted(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&[0; 4]);
    write(out);
    // a message that is too long for it is refused as a whole
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Writes bytes with their length before them.
fn sized(bytes: &[u8], out: &mut BytesMut) {
    out.put_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.put_slice(bytes);
}

/// A writer of numbers of one size, each in one piece with its length.
fn fixed<T: ArrowPrimitiveType, const N: usize>(array: &ArrayRef, bytes: impl Fn(T::Native) -> [u8; N] + Send + 'static) -> Put {
    let values: PrimitiveArray<T> = array.as_primitive::<T>().clone();
    // no number is longer than eight bytes
    let mut cell = [0, 0, 0, N as u8, 0, 0, 0, 0, 0, 0, 0, 0];
    Box::new(move |row, out| {
        cell[4..4 + N].copy_from_slice(&bytes(values.value(row)));
        out.put_slice(&cell[..4 + N]);
    })
}

fn converted(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, SqlError> {
    cast(array, to).map_err(|error| SqlError::from(datafusion::error::DataFusionError::from(error)))
}

/// The array in the type that stands for all those that are written alike; none where there is no such type.
fn settled(array: &ArrayRef) -> Result<Option<ArrayRef>, SqlError> {
    let to = match array.data_type() {
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Date32
        | DataType::Decimal128(..)
        | DataType::List(_)
        | DataType::Struct(_)
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Microsecond, _) => return Ok(Some(ArrayRef::clone(array))),
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(item.clone())
        }
        DataType::Dictionary(_, value) => {
            let value = converted(array, value)?;
            return settled(&value);
        }
        _ => return Ok(None),
    };
    converted(array, &to).map(Some)
}

/// A writer of the numbers of an array.
fn numbers<T: ArrowPrimitiveType>(array: &ArrayRef, mut put: impl FnMut(T::Native, &mut BytesMut) + Send + 'static) -> Put {
    let values: PrimitiveArray<T> = array.as_primitive::<T>().clone();
    Box::new(move |row, out| put(values.value(row), out))
}

/// A writer of texts or bytes as they are, by `put`.
fn plain(array: &ArrayRef, put: fn(&[u8], &mut BytesMut)) -> Option<Put> {
    Some(match array.data_type() {
        DataType::Utf8 => {
            let values = array.as_string::<i32>().clone();
            Box::new(move |row, out| put(values.value(row).as_bytes(), out))
        }
        DataType::LargeUtf8 => {
            let values = array.as_string::<i64>().clone();
            Box::new(move |row, out| put(values.value(row).as_bytes(), out))
        }
        DataType::Utf8View => {
            let values = array.as_string_view().clone();
            Box::new(move |row, out| put(values.value(row).as_bytes(), out))
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>().clone();
            Box::new(move |row, out| put(values.value(row), out))
        }
        DataType::LargeBinary => {
            let values = array.as_binary::<i64>().clone();
            Box::new(move |row, out| put(values.value(row), out))
        }
        DataType::BinaryView => {
            let values = array.as_binary_view().clone();
            Box::new(move |row, out| put(values.value(row), out))
        }
        _ => return None,
    })
}

fn in_binary(array: &ArrayRef, zone: Tz) -> Result<Option<Put>, SqlError> {
    Ok(Some(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| out.put_slice(&[0, 0, 0, 1, values.value(row).into()]))
        }
        DataType::Int16 => fixed::<Int16Type, 2>(array, i16::to_be_bytes),
        DataType::Int32 => fixed::<Int32Type, 4>(array, i32::to_be_bytes),
        DataType::Int64 => fixed::<Int64Type, 8>(array, i64::to_be_bytes),
        DataType::UInt64 => numbers::<UInt64Type>(array, |value, out| counted(out, |out| text::numeric(value.into(), 0, out))),
        DataType::Float32 => fixed::<Float32Type, 4>(array, f32::to_be_bytes),
        DataType::Float64 => fixed::<Float64Type, 8>(array, f64::to_be_bytes),
        DataType::Date32 => fixed::<Date32Type, 4>(array, |value| value.saturating_sub(DAYS).to_be_bytes()),
        DataType::Time64(_) => fixed::<Time64MicrosecondType, 8>(array, i64::to_be_bytes),
        DataType::Timestamp(..) => fixed::<TimestampMicrosecondType, 8>(array, |value| value.saturating_sub(MICROSECONDS).to_be_bytes()),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            numbers::<Decimal128Type>(array, move |value, out| counted(out, |out| text::numeric(value, scale, out)))
        }
        DataType::List(item) => return list_in_binary(array, item, zone),
        DataType::Struct(_) => return Ok(None),
        _ => return Ok(plain(array, sized)),
    }))
}

/// A list: the number of its dimensions, whether an item is NULL, the type of the items, their number, the number of the first, and the items.
fn list_in_binary(array: &ArrayRef, item: &Field, zone: Tz) -> Result<Option<Put>, SqlError> {
    let list = array.as_list::<i32>().clone();
    // a list in a list has a form of its own
    let Some(mut items) = Values::of(list.values(), false, zone)?.filter(|_| !item.data_type().is_nested()) else { return Ok(None) };
    let element = super::wire_type(item).oid();
    Ok(Some(Box::new(move |row, out| {
        let offsets = list.value_offsets();
        let (from, to) = (offsets[row], offsets[row + 1]);
        let range = from as usize..to as usize;
        counted(out, |out| {
            out.put_i32(i32::from(from < to));
            out.put_i32(i32::from(range.clone().any(|at| items.is_null(at))));
            out.put_u32(element);
            if from < to {
                out.put_i32(to - from);
                out.put_i32(1);
            }
            range.for_each(|at| items.put(at, out));
        });
    })))
}

fn in_text(array: &ArrayRef, zone: Tz) -> Result<Option<Put>, SqlError> {
    Ok(Some(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| out.put_u8(if values.value(row) { b't' } else { b'f' }))
        }
        DataType::Int16 => numbers::<Int16Type>(array, |value, out| text::whole(value.into(), out)),
        DataType::Int32 => numbers::<Int32Type>(array, |value, out| text::whole(value.into(), out)),
        DataType::Int64 => numbers::<Int64Type>(array, text::whole),
        DataType::UInt64 => numbers::<UInt64Type>(array, |value, out| text::decimal(value.into(), 0, out)),
        DataType::Float32 => numbers::<Float32Type>(array, text::single),
        DataType::Float64 => numbers::<Float64Type>(array, text::double),
        DataType::Date32 => numbers::<Date32Type>(array, |value, out| text::date(value.into(), out)),
        DataType::Time64(_) => numbers::<Time64MicrosecondType>(array, text::time),
        DataType::Timestamp(_, None) => numbers::<TimestampMicrosecondType>(array, |value, out| text::timestamp(value, None, out)),
        DataType::Timestamp(_, Some(_)) => {
            numbers::<TimestampMicrosecondType>(array, move |value, out| text::timestamp(value, Some(&zone), out))
        }
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            numbers::<Decimal128Type>(array, move |value, out| text::decimal(value, scale, out))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let Some(mut bytes) = plain(array, |bytes, out| out.put_slice(bytes)) else { return Ok(None) };
            let mut value = BytesMut::new();
            Box::new(move |row, out| {
                value.clear();
                bytes(row, &mut value);
                text::hexadecimal(&value, out);
            })
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>().clone();
            let Some(mut items) = Values::of(list.values(), true, zone)? else { return Ok(None) };
            let nested = matches!(list.values().data_type(), DataType::List(_));
            let mut value = BytesMut::new();
            Box::new(move |row, out| {
                let offsets = list.value_offsets();
                out.put_u8(b'{');
                for at in offsets[row] as usize..offsets[row + 1] as usize {
                    if at > offsets[row] as usize {
                        out.put_u8(b',');
                    }
                    if items.is_null(at) {
                        out.put_slice(b"NULL");
                    } else if nested {
                        (items.put)(at, out);
                    } else {
                        value.clear();
                        (items.put)(at, &mut value);
                        text::item(&value, out);
                    }
                }
                out.put_u8(b'}');
            })
        }
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter().map(|column| Values::of(column, true, zone));
            let Some(mut fields) = fields.collect::<Result<Option<Vec<_>>, SqlError>>()? else { return Ok(None) };
            let mut value = BytesMut::new();
            Box::new(move |row, out| {
                out.put_u8(b'(');
                for (place, field) in fields.iter_mut().enumerate() {
                    if place > 0 {
                        out.put_u8(b',');
                    }
                    if !field.is_null(row) {
                        value.clear();
                        (field.put)(row, &mut value);
                        text::part(&value, out);
                    }
                }
                out.put_u8(b')');
            })
        }
        _ => return Ok(plain(array, |bytes, out| out.put_slice(bytes))),
    }))
}

/// The type of lists of a type, where the protocol has one of its own that Arrow has not.
pub(super) fn list_type(item: &Type) -> Option<Type> {
    (*item == Type::OID).then_some(Type::OID_ARRAY)
}
