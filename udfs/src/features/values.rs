//! The values of one column, as ids or numbers.

use super::*;

/// The id of NULL.
const NULL: u64 = 0;

const SECONDS_PER_DAY: i64 = 86_400;

/// The hash of a value; never the id of NULL.
fn id(salt: u64, bytes: &[u8]) -> u64 {
    XxHash64::oneshot(salt, bytes).max(NULL + 1)
}

/// Writes the numbers of a column; NULL and what is not finite as a 32-bit float become NaN.
pub(super) fn numbers<'a>(column: &ArrayRef, out: impl Iterator<Item = &'a mut f32>) -> datafusion::common::Result<()> {
    let column = cast(column, &DataType::Float32)?;
    let column: &Float32Array = column.as_primitive::<Float32Type>();
    let finite = |value: f32| if value.is_finite() { value } else { f32::NAN };
    if column.null_count() == 0 {
        out.zip(column.values()).for_each(|(out, value)| *out = finite(*value));
    } else {
        out.zip(column).for_each(|(out, value)| *out = value.map_or(f32::NAN, finite));
    }
    Ok(())
}

/// Writes the ids of a column. Integers of any width hash alike when they are equal, text hashes by its bytes.
pub(super) fn ids<'a>(
    column: &ArrayRef,
    encoding: Encoding,
    salt: u64,
    out: impl Iterator<Item = &'a mut u64>,
) -> datafusion::common::Result<()> {
    let whole = |value: i64| id(salt, &value.to_le_bytes());
    match column.data_type() {
        DataType::Null => {}
        DataType::Dictionary(..) => return dictionary(column, encoding, salt, out),
        DataType::Boolean => {
            out.zip(column.as_boolean()).for_each(|(out, value)| *out = value.map_or(NULL, |value| id(salt, &[u8::from(value)])))
        }
        DataType::Utf8 => text(column.as_string::<i32>(), salt, out),
        DataType::LargeUtf8 => text(column.as_string::<i64>(), salt, out),
        DataType::Utf8View => text(column.as_string_view(), salt, out),
        // Beyond the largest bigint the bits are hashed as they are; a cast would make NULL of them.
        DataType::UInt64 => primitive(column.as_primitive::<UInt64Type>(), |value| whole(value.cast_signed()), out),
        DataType::Int64 => primitive(column.as_primitive::<Int64Type>(), whole, out),
        DataType::Int32 => primitive(column.as_primitive::<Int32Type>(), |value| whole(value.into()), out),
        DataType::Date32 | DataType::Date64 => {
            let days = cast(column, &DataType::Date32)?;
            primitive(days.as_primitive::<Date32Type>(), |day| whole(day.into()), out);
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let time = cast(column, &DataType::Time64(TimeUnit::Nanosecond))?;
            primitive(time.as_primitive::<Time64NanosecondType>(), whole, out);
        }
        DataType::Timestamp(..) => {
            let time = seconds(column)?;
            let part = |second: i64| match encoding {
                Encoding::Weekday => (second.div_euclid(SECONDS_PER_DAY) + 3).rem_euclid(7),
                _ => second.rem_euclid(SECONDS_PER_DAY) / 3600,
            };
            primitive(time.as_primitive::<TimestampSecondType>(), |second| whole(part(second)), out);
        }
        _ => primitive(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>(), whole, out),
    }
    Ok(())
}

/// A timestamp in whole seconds, rounded down: of its own clock without a time zone, of UTC with one.
fn seconds(column: &ArrayRef) -> datafusion::common::Result<ArrayRef> {
    let DataType::Timestamp(unit, _) = column.data_type() else { return Ok(ArrayRef::clone(column)) };
    let per_second = match unit {
        TimeUnit::Second => return Ok(cast(column, &DataType::Timestamp(TimeUnit::Second, None))?),
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let raw = cast(column, &DataType::Int64)?;
    let seconds: PrimitiveArray<TimestampSecondType> = raw.as_primitive::<Int64Type>().unary(|value| value.div_euclid(per_second));
    Ok(std::sync::Arc::new(seconds))
}

fn primitive<'a, T: ArrowPrimitiveType>(
    column: &PrimitiveArray<T>,
    hash: impl Fn(T::Native) -> u64,
    out: impl Iterator<Item = &'a mut u64>,
) {
    if column.null_count() == 0 {
        out.zip(column.values()).for_each(|(out, value)| *out = hash(*value));
    } else {
        out.zip(column).for_each(|(out, value)| *out = value.map_or(NULL, &hash));
    }
}

fn text<'a, 's>(column: impl StringArrayType<'s>, salt: u64, out: impl Iterator<Item = &'a mut u64>) {
    out.zip(column.iter()).for_each(|(out, value)| *out = value.map_or(NULL, |value| id(salt, value.as_bytes())));
}

/// Hashes every value of the dictionary once.
fn dictionary<'a>(
    column: &ArrayRef,
    encoding: Encoding,
    salt: u64,
    out: impl Iterator<Item = &'a mut u64>,
) -> datafusion::common::Result<()> {
    let dictionary = column.as_any_dictionary();
    let mut known = vec![NULL; dictionary.values().len()];
    ids(dictionary.values(), encoding, salt, known.iter_mut())?;
    downcast_dictionary_array!(
        column => {
            for (out, key) in out.zip(column.keys_iter()) {
                *out = key.map_or(NULL, |key| known[key]);
            }
        }
        _ => {}
    );
    Ok(())
}

/// Appends labels and returns how many are NULL (these are appended as 0). Anything but 0 and 1 is an error.
pub(crate) fn labels(column: &ArrayRef, name: &str, out: &mut Vec<f32>) -> datafusion::common::Result<usize> {
    let column = cast(column, &DataType::Float64)?;
    let column = column.as_primitive::<datafusion::arrow::datatypes::Float64Type>();
    out.reserve(column.len());
    for value in column {
        match value {
            Some(label @ (0.0 | 1.0)) => out.push(label as f32),
            None => out.push(0.0),
            Some(other) => {
                let error = Error::InvalidValue {
                    object: format!("label column \"{name}\""),
                    reason: format!("is {other} in a row, but must be 0 or 1"),
                    hint: Some(format!("write a condition in the query, such as {name} > 0 AS {name}")),
                };
                return Err(error.into());
            }
        }
    }
    Ok(column.null_count())
}
