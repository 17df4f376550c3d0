//! The arguments of rows as the statistics take them.

use std::borrow::Cow;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::compute::{cast, filter};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, UInt64Type};
use datafusion::common::Result;
use stratagem_models::metrics::statistic::{self, Column};
use twox_hash::XxHash64;

use crate::declaration::{Function, Presence, Type};

/// How the arguments of a call are read.
#[derive(Debug)]
pub(super) struct Reading(Vec<Argument>);

/// One argument that is a column.
#[derive(Debug)]
struct Argument {
    /// Where it stands in the call.
    position: usize,
    kind: Kind,
}

/// The kind of column an argument becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// It was left out.
    Absent,
    Numbers,
    /// Booleans as 1 and 0 where other texts of the call are numbers, else as words.
    Texts {
        bits: bool,
    },
    Keys,
}

impl Reading {
    /// How arguments of these types are read.
    pub(super) fn new<'a>(function: &Function, actual: impl IntoIterator<Item = &'a DataType>) -> Self {
        let actual: Vec<_> = actual.into_iter().collect();
        let given = || function.parameters.iter().zip(&actual);
        let bits = given().any(|(parameter, actual)| parameter.data_type == Type::Any && actual.is_numeric());
        let columns = function.parameters.iter().enumerate().filter(|(_, parameter)| !matches!(parameter.presence, Presence::Default(_)));
        let arguments = columns.map(|(position, parameter)| {
            let kind = match (actual.get(position), parameter.data_type) {
                (None, _) => Kind::Absent,
                // NULL stands for an optional argument before one that is given.
                (Some(DataType::Null), _) if parameter.presence == Presence::Optional => Kind::Absent,
                (Some(_), Type::Any | Type::Text) => Kind::Texts { bits },
                (Some(actual), Type::Mixed) if !actual.is_numeric() => Kind::Texts { bits },
                (Some(_), Type::Group) => Kind::Keys,
                (Some(_), _) => Kind::Numbers,
            };
            Argument { position, kind }
        });
        Self(arguments.collect())
    }

    /// The kinds of the columns.
    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.0.iter().map(|argument| argument.kind)
    }

    /// The rows that pass the filter and have no NULL.
    pub(super) fn rows(&self, values: &[ArrayRef], passed: Option<&BooleanArray>) -> Result<Rows> {
        let given = || self.0.iter().filter(|argument| argument.kind != Kind::Absent);
        let nulls =
            given().fold(None, |nulls, argument| NullBuffer::union(nulls.as_ref(), values[argument.position].logical_nulls().as_ref()));
        let mask = selection(nulls, passed);
        let read = |argument: &Argument| {
            let Some(values) = values.get(argument.position).filter(|_| argument.kind != Kind::Absent) else { return Ok(Values::Absent) };
            match &mask {
                Some(mask) => Values::new(argument.kind, &filter(values, mask)?),
                None => Values::new(argument.kind, values),
            }
        };
        Ok(Rows { columns: self.0.iter().map(read).collect::<Result<_>>()?, mask })
    }
}

/// Which rows count; `None` for all.
fn selection(nulls: Option<NullBuffer>, passed: Option<&BooleanArray>) -> Option<BooleanArray> {
    let whole = nulls.filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner().clone());
    let passed = passed.map(|passed| match passed.nulls() {
        Some(known) => passed.values() & known.inner(),
        None => passed.values().clone(),
    });
    let mask: BooleanBuffer = match (whole, passed) {
        (Some(whole), Some(passed)) => &whole & &passed,
        (Some(mask), None) | (None, Some(mask)) => mask,
        (None, None) => return None,
    };
    Some(BooleanArray::new(mask, None))
}

/// The rows of a batch that count.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<Values>,
    mask: Option<BooleanArray>,
}

impl Rows {
    /// What belongs to the rows that count, of what belongs to all.
    pub(super) fn select<'a, T: Copy>(&self, all: &'a [T]) -> Cow<'a, [T]> {
        match &self.mask {
            Some(mask) => all.iter().zip(mask.values()).filter(|(_, counts)| *counts).map(|(item, _)| *item).collect(),
            None => all.into(),
        }
    }

    /// Calls `act` with the columns.
    pub(super) fn with<R>(&self, act: impl FnOnce(&[Column<'_>]) -> R) -> R {
        let texts: Vec<Vec<&str>> = self.columns.iter().map(Values::texts).collect();
        let columns: Vec<_> = self.columns.iter().zip(&texts).map(|(values, texts)| values.column(texts)).collect();
        act(&columns)
    }
}

/// One column.
#[derive(Debug)]
pub(super) enum Values {
    Absent,
    Numbers(Vec<f64>),
    Texts(StringArray),
    Keys(Vec<u128>),
}

impl Values {
    /// Reads values without NULL.
    fn new(kind: Kind, values: &ArrayRef) -> Result<Self> {
        Ok(match kind {
            Kind::Absent => Self::Absent,
            Kind::Numbers => {
                let numbers = cast(values, &DataType::Float64)?;
                Self::Numbers(statistic::unsigned_zero(numbers.as_primitive::<Float64Type>().values()))
            }
            Kind::Texts { bits } => Self::Texts(texts(values, bits)?),
            Kind::Keys => Self::Keys(keys(values)?),
        })
    }

    fn texts(&self) -> Vec<&str> {
        if let Self::Texts(texts) = self { (0..texts.len()).map(|row| texts.value(row)).collect() } else { Vec::new() }
    }

    fn column<'a>(&'a self, texts: &'a [&'a str]) -> Column<'a> {
        match self {
            Self::Absent => Column::Absent,
            Self::Numbers(values) => Column::Numbers(values),
            Self::Texts(_) => Column::Texts(texts),
            Self::Keys(values) => Column::Keys(values),
        }
    }
}

/// Values as text; the same number has the same text in every numeric type.
fn texts(values: &ArrayRef, bits: bool) -> Result<StringArray> {
    let data_type = values.data_type();
    if let DataType::Dictionary(_, inner) = data_type {
        return texts(&cast(values, inner)?, bits);
    }
    if data_type.is_floating() {
        let numbers = cast(values, &DataType::Float64)?;
        return Ok(StringArray::from_iter_values(
            numbers.as_primitive::<Float64Type>().values().iter().map(|number| format!("{}", number + 0.0)),
        ));
    }
    if data_type.is_decimal() {
        let texts = cast(values, &DataType::Utf8)?;
        let short =
            |text: &str| if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() };
        return Ok(StringArray::from_iter_values(texts.as_string::<i32>().iter().flatten().map(short)));
    }
    if *data_type == DataType::Boolean {
        let words = if bits { ["0", "1"] } else { ["false", "true"] };
        return Ok(StringArray::from_iter_values(values.as_boolean().values().iter().map(|value| words[usize::from(value)])));
    }
    Ok(cast(values, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Values as keys: numbers and times as they are, others by a hash of 128 bits, in which different values do not meet.
fn keys(values: &ArrayRef) -> Result<Vec<u128>> {
    let data_type = values.data_type();
    Ok(match data_type {
        DataType::Dictionary(_, inner) => keys(&cast(values, inner)?)?,
        DataType::UInt64 => values.as_primitive::<UInt64Type>().values().iter().map(|value| u128::from(*value)).collect(),
        DataType::Decimal128(..) => values.as_primitive::<Decimal128Type>().values().iter().map(|value| value.cast_unsigned()).collect(),
        data_type if data_type.is_floating() => {
            let numbers = cast(values, &DataType::Float64)?;
            let key = |number: &f64| u128::from(if number.is_nan() { f64::NAN.to_bits() } else { (number + 0.0).to_bits() });
            numbers.as_primitive::<Float64Type>().values().iter().map(key).collect()
        }
        data_type if data_type.is_integer() || *data_type == DataType::Boolean || data_type.is_temporal() => match times(values)? {
            Some(numbers) => numbers.as_primitive::<Int64Type>().values().iter().map(|value| u128::from(value.cast_unsigned())).collect(),
            None => hashes(values)?,
        },
        _ => hashes(values)?,
    })
}

/// Whole numbers, days and times as 64 bits; intervals are none.
fn times(values: &ArrayRef) -> Result<Option<ArrayRef>> {
    match values.data_type() {
        DataType::Interval(_) => Ok(None),
        DataType::Date32 | DataType::Time32(_) => Ok(Some(cast(&cast(values, &DataType::Int32)?, &DataType::Int64)?)),
        _ => Ok(Some(cast(values, &DataType::Int64)?)),
    }
}

fn hashes(values: &ArrayRef) -> Result<Vec<u128>> {
    if matches!(values.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)) {
        let bytes = cast(values, &DataType::LargeBinary)?;
        return Ok(bytes.as_binary::<i64>().iter().map(|value| hashed(value.unwrap_or_default())).collect());
    }
    let texts = cast(values, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|value| hashed(value.unwrap_or_default().as_bytes())).collect())
}

/// 128 bits: two hashes of different seeds.
fn hashed(bytes: &[u8]) -> u128 {
    u128::from(XxHash64::oneshot(0, bytes)) << 64 | u128::from(XxHash64::oneshot(1, bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array};

    use super::*;

    #[test]
    fn the_same_number_has_the_same_text_in_every_type() {
        let of = |values: ArrayRef, bits| texts(&values, bits).unwrap().value(0).to_owned();
        assert_eq!(of(Arc::new(Int32Array::from(vec![12])), false), "12");
        assert_eq!(of(Arc::new(Float64Array::from(vec![12.0])), false), "12");
        assert_eq!(of(Arc::new(Float32Array::from(vec![-0.0])), false), "0");
        assert_eq!(of(Arc::new(Decimal128Array::from(vec![1200]).with_precision_and_scale(10, 2).unwrap()), false), "12");
        assert_eq!(of(Arc::new(Decimal128Array::from(vec![1250]).with_precision_and_scale(10, 2).unwrap()), false), "12.5");
        assert_eq!(of(Arc::new(Decimal128Array::from(vec![1200]).with_precision_and_scale(10, 0).unwrap()), false), "1200");
        assert_eq!(of(Arc::new(BooleanArray::from(vec![true])), true), "1");
        assert_eq!(of(Arc::new(BooleanArray::from(vec![true])), false), "true");
    }

    #[test]
    fn equal_values_have_equal_keys_and_others_do_not() {
        let of = |values: ArrayRef| keys(&values).unwrap();
        assert_eq!(of(Arc::new(Int64Array::from(vec![-1, i64::MAX]))), [u128::from(u64::MAX), i64::MAX as u128]);
        let zeros = of(Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0])));
        assert_eq!((zeros[0] == zeros[1], zeros[2] == zeros[3], zeros[0] == zeros[4]), (true, true, false));
        let texts = of(Arc::new(StringArray::from(vec!["a", "b", "a", ""])));
        assert_eq!((texts[0] == texts[2], texts[0] == texts[1], texts[0] == texts[3]), (true, false, false));
        let days = cast(&Int32Array::from(vec![7, 8]), &DataType::Date32).unwrap();
        assert_eq!(of(days), [7, 8]);
    }
}
