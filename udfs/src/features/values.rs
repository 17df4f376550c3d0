//! The values of one column, as ids or numbers.

use super::*;

/// The id of NULL.
const NULL: u64 = 0;

const SECONDS_PER_DAY: i64 = 86_400;

/// The items of a list that are read: the last ones.
const MOST_ITEMS: usize = 512;

/// The numbers of a list that are read: the first ones.
const MOST_POSITIONS: usize = 4096;

/// The id of a text: its XXH64. Never NULL's.
fn word(value: &str) -> u64 {
    XxHash64::oneshot(0, value.as_bytes()).max(NULL + 1)
}

/// Writes the numbers of a column; NULL and what is not finite as a 32-bit float become NaN.
pub(super) fn numbers<'a>(column: &ArrayRef, part: Part, out: impl Iterator<Item = &'a mut f32>) -> datafusion::common::Result<()> {
    let column = if part == Part::Age { days(column)? } else { cast(column, &DataType::Float32)? };
    let column: &Float32Array = column.as_primitive::<Float32Type>();
    let finite = |value: f32| if value.is_finite() { value } else { f32::NAN };
    if column.null_count() == 0 {
        out.zip(column.values()).for_each(|(out, value)| *out = finite(*value));
    } else {
        out.zip(column).for_each(|(out, value)| *out = value.map_or(f32::NAN, finite));
    }
    Ok(())
}

/// Days since 1970 of a date or timestamp.
fn days(column: &ArrayRef) -> datafusion::common::Result<ArrayRef> {
    if let DataType::Timestamp(..) = column.data_type() {
        let seconds = seconds(column)?;
        let seconds = seconds.as_primitive::<TimestampSecondType>();
        let days: Float32Array = seconds.unary(|second| (second as f64 / SECONDS_PER_DAY as f64) as f32);
        return Ok(std::sync::Arc::new(days));
    }
    Ok(cast(&cast(&cast(column, &DataType::Date32)?, &DataType::Int32)?, &DataType::Float32)?)
}

/// Writes the ids of a column. Integers of any width have the same id when they are equal.
pub(super) fn ids<'a>(column: &ArrayRef, part: Part, out: impl Iterator<Item = &'a mut u64>) -> datafusion::common::Result<()> {
    match column.data_type() {
        DataType::Null => {}
        DataType::Dictionary(..) => return dictionary(column, part, out),
        DataType::Boolean => {
            out.zip(column.as_boolean()).for_each(|(out, value)| *out = value.map_or(NULL, |value| id_of(i64::from(value))))
        }
        DataType::Utf8 => text(column.as_string::<i32>(), out),
        DataType::LargeUtf8 => text(column.as_string::<i64>(), out),
        DataType::Utf8View => text(column.as_string_view(), out),
        // Beyond the largest bigint the bits are hashed as they are; a cast would make NULL of them.
        DataType::UInt64 => primitive(column.as_primitive::<UInt64Type>(), |value| id_of(value.cast_signed()), out),
        DataType::Int64 => primitive(column.as_primitive::<Int64Type>(), id_of, out),
        DataType::Int32 => primitive(column.as_primitive::<Int32Type>(), |value| id_of(value.into()), out),
        DataType::Date32 | DataType::Date64 => {
            let days = cast(column, &DataType::Date32)?;
            let of = |day: i32| match part {
                Part::Weekday => weekday(day.into()),
                Part::Month => month(day.into()),
                _ => day.into(),
            };
            primitive(days.as_primitive::<Date32Type>(), |day| id_of(of(day)), out);
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            const PER_HOUR: i64 = 3_600_000_000_000;
            let time = cast(column, &DataType::Time64(TimeUnit::Nanosecond))?;
            primitive(time.as_primitive::<Time64NanosecondType>(), |nanosecond| id_of(nanosecond / PER_HOUR), out);
        }
        DataType::Timestamp(..) => {
            let time = seconds(column)?;
            let of = |second: i64| match part {
                Part::Weekday => weekday(second.div_euclid(SECONDS_PER_DAY)),
                _ => second.rem_euclid(SECONDS_PER_DAY) / 3600,
            };
            primitive(time.as_primitive::<TimestampSecondType>(), |second| id_of(of(second)), out);
        }
        _ => primitive(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>(), id_of, out),
    }
    Ok(())
}

/// 1970-01-01 was a Thursday; Monday is 0.
fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

/// January is 1 (Hinnant, "chrono-compatible low-level date algorithms").
fn month(day: i64) -> i64 {
    let of_era = (day + 719_468).rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    if shifted < 10 { shifted + 3 } else { shifted - 9 }
}

/// A column of lists in one form; an empty one for a column without a type.
fn lists(column: &ArrayRef, rows: usize) -> datafusion::common::Result<ListArray> {
    let item = match column.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item,
        _ => {
            let item = std::sync::Arc::new(Field::new_list_field(DataType::Int64, true));
            return Ok(ListArray::new_null(item, rows));
        }
    };
    Ok(cast(column, &DataType::List(std::sync::Arc::clone(item)))?.as_list::<i32>().clone())
}

/// The rows of a column of lists, by `take`, which gets the range of a row in the values of all lists.
fn bag(lists: &ListArray, mut take: impl FnMut(&mut Bag, std::ops::Range<usize>)) -> Bag {
    let mut bag = Bag::default();
    for row in 0..lists.len() {
        if lists.is_valid(row) {
            let offsets = lists.value_offsets();
            take(&mut bag, offsets[row] as usize..offsets[row + 1] as usize);
        }
        bag.end_row();
    }
    bag
}

/// The ids of the items of lists, without NULLs.
pub(super) fn items(column: &ArrayRef, rows: usize) -> datafusion::common::Result<Bag> {
    let lists = lists(column, rows)?;
    let mut all = vec![NULL; lists.values().len()];
    ids(lists.values(), Part::Whole, all.iter_mut())?;
    Ok(bag(&lists, |bag, range| {
        let last = range.end.saturating_sub(MOST_ITEMS).max(range.start)..range.end;
        bag.ids.extend(all[last].iter().filter(|id| **id != NULL));
    }))
}

/// The numbers of lists by position; what is NULL or not finite counts as 0.
pub(super) fn vector(column: &ArrayRef, rows: usize) -> datafusion::common::Result<Bag> {
    let lists = lists(column, rows)?;
    let mut all = vec![f32::NAN; lists.values().len()];
    numbers(lists.values(), Part::Whole, all.iter_mut())?;
    Ok(bag(&lists, |bag, range| {
        let values = &all[range.start..range.end.min(range.start + MOST_POSITIONS)];
        bag.ids.extend(1..=values.len() as u64);
        bag.weights.extend(values.iter().map(|value| if value.is_nan() { 0.0 } else { *value }));
    }))
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

fn text<'a, 's>(column: impl StringArrayType<'s>, out: impl Iterator<Item = &'a mut u64>) {
    out.zip(column.iter()).for_each(|(out, value)| *out = value.map_or(NULL, word));
}

/// Shows the texts of a column, or of its lists, with their ids; there are none in columns of other types.
pub(super) fn texts(column: &ArrayRef, see: &mut dyn FnMut(u64, &str)) -> datafusion::common::Result<()> {
    match column.data_type() {
        DataType::Dictionary(..) => texts(column.as_any_dictionary().values(), see),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
            if Family::of(item.data_type()) == Some(Family::Text) =>
        {
            texts(lists(column, column.len())?.values(), see)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let column = cast(column, &DataType::Utf8View)?;
            column.as_string_view().iter().flatten().for_each(|text| see(word(text), text));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Hashes every value of the dictionary once.
fn dictionary<'a>(column: &ArrayRef, part: Part, out: impl Iterator<Item = &'a mut u64>) -> datafusion::common::Result<()> {
    let dictionary = column.as_any_dictionary();
    let mut known = vec![NULL; dictionary.values().len()];
    ids(dictionary.values(), part, known.iter_mut())?;
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

/// Writes numbers and returns how many are NULL (these become 0).
pub(crate) fn outcomes<'a>(column: &ArrayRef, out: impl Iterator<Item = &'a mut f32>) -> datafusion::common::Result<usize> {
    let column = cast(column, &DataType::Float32)?;
    let column = column.as_primitive::<Float32Type>();
    out.zip(column).for_each(|(out, value)| *out = value.unwrap_or_default());
    Ok(column.null_count())
}

/// Writes labels and returns how many are NULL (these become 0). Anything but 0 and 1 is an error, which calls the column a `role` column.
pub(crate) fn labels<'a>(
    column: &ArrayRef,
    role: &str,
    name: &str,
    out: impl Iterator<Item = &'a mut f32>,
) -> datafusion::common::Result<usize> {
    let column = cast(column, &DataType::Float64)?;
    let column = column.as_primitive::<datafusion::arrow::datatypes::Float64Type>();
    for (out, value) in out.zip(column) {
        match value {
            Some(label @ (0.0 | 1.0)) => *out = label as f32,
            None => *out = 0.0,
            Some(other) => {
                let error = Error::InvalidValue {
                    object: format!("{role} column \"{name}\""),
                    reason: format!("is {other} in a row, but must be 0 or 1"),
                    hint: Some(format!("write a condition in the query, such as {name} > 0 AS {name}")),
                };
                return Err(error.into());
            }
        }
    }
    Ok(column.null_count())
}

/// What a split by this column goes by; NULL comes first.
pub(crate) fn split(column: &ArrayRef) -> datafusion::common::Result<Vec<f64>> {
    let column = match column.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => cast(column, &DataType::Int64).or_else(|_| {
            let days = cast(column, &DataType::Date32)?;
            cast(&days, &DataType::Int32)
        })?,
        _ => ArrayRef::clone(column),
    };
    let column = cast(&column, &DataType::Float64)?;
    let values = column.as_primitive::<datafusion::arrow::datatypes::Float64Type>();
    Ok(values.iter().map(|value| value.filter(|value| !value.is_nan()).unwrap_or(f64::MIN)).collect())
}
