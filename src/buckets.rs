//! `width_bucket`: the bucket of a histogram that a number falls into.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::types::{Decimal128Type, Float64Type, Int32Type};
use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Int32Array, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, i256};
use datafusion::common::{Result, exec_datafusion_err, plan_datafusion_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::sqlstate::{SqlError, SqlState};

/// Digits behind the point of numbers that may have any.
const SCALE: i8 = 10;

/// Registers the function.
pub(crate) fn register(functions: &mut impl FunctionRegistry) -> Result<()> {
    functions.register_udf(Arc::new(ScalarUDF::from(WidthBucket(Signature::user_defined(Volatility::Immutable)))))?;
    Ok(())
}

/// `width_bucket(operand, low, high, count)` and `width_bucket(operand, thresholds)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WidthBucket(Signature);

impl ScalarUDFImpl for WidthBucket {
    fn name(&self) -> &str {
        "width_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [operand, low, high, _] => {
                let number = match common(&[operand, low, high])? {
                    // PostgreSQL prefers this one, too
                    DataType::Int64 | DataType::Null => DataType::Float64,
                    number => number,
                };
                Ok(vec![number.clone(), number.clone(), number, DataType::Int32])
            }
            [operand, DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)] => {
                if item.data_type().is_nested() {
                    return Err(SqlError::new(SqlState::ArraySubscriptError, "thresholds must be one-dimensional array").into());
                }
                let item = match item.data_type() {
                    item if item == operand => item.clone(),
                    item => common(&[operand, item])?,
                };
                Ok(vec![item.clone(), DataType::new_list(item, true)])
            }
            [operand, DataType::Null] => Ok(vec![operand.clone(), DataType::new_list(operand.clone(), true)]),
            _ => {
                Err(plan_datafusion_err!("Function 'width_bucket' takes an operand, two bounds and a count, or an operand and thresholds"))
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|argument| argument.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let buckets = match arrays.as_slice() {
            [operand, low, high, count] => among_equal(operand, low, high, count.as_primitive::<Int32Type>())?,
            [operand, thresholds] => among(operand, thresholds)?,
            _ => return Err(exec_datafusion_err!("width_bucket takes two arguments or four")),
        };
        Ok(ColumnarValue::Array(Arc::new(buckets)))
    }
}

/// The type in which numbers are compared.
fn common(types: &[&DataType]) -> Result<DataType> {
    let mut found = DataType::Null;
    for data_type in types {
        found = match (found, *data_type) {
            (found, DataType::Null) => found,
            (DataType::Float64, number) if number.is_numeric() => DataType::Float64,
            (_, DataType::Float16 | DataType::Float32 | DataType::Float64) => DataType::Float64,
            (_, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => DataType::Float64,
            (DataType::Decimal128(_, scale), DataType::Decimal128(_, other)) => DataType::Decimal128(38, scale.max(*other)),
            (_, DataType::Decimal128(_, scale)) => DataType::Decimal128(38, *scale),
            (decimal @ DataType::Decimal128(..), integer) if integer.is_integer() => decimal,
            (_, DataType::UInt64) => DataType::Decimal128(38, SCALE),
            (_, integer) if integer.is_integer() => DataType::Int64,
            (_, other) => return Err(plan_datafusion_err!("Function 'width_bucket' does not take {other} beside other types")),
        };
    }
    Ok(found)
}

fn among_equal(operand: &ArrayRef, low: &ArrayRef, high: &ArrayRef, counts: &Int32Array) -> Result<Int32Array> {
    match operand.data_type() {
        DataType::Float64 => each::<Float64Type>(operand, low, high, counts, of_floats),
        _ => each::<Decimal128Type>(operand, low, high, counts, of_decimals),
    }
}

fn each<T: ArrowPrimitiveType>(
    operand: &ArrayRef,
    low: &ArrayRef,
    high: &ArrayRef,
    counts: &Int32Array,
    find: impl Fn(T::Native, T::Native, T::Native, i32) -> Result<i32, SqlError>,
) -> Result<Int32Array> {
    let [operand, low, high] = [operand, low, high].map(|numbers| numbers.as_primitive::<T>());
    let rows = operand.iter().zip(low).zip(high).zip(counts).map(|(((operand, low), high), count)| match (operand, low, high, count) {
        (Some(_), Some(_), Some(_), Some(..=0)) => Err(invalid("count must be greater than zero")),
        (Some(operand), Some(low), Some(high), Some(count)) => find(operand, low, high, count).map(Some),
        _ => Ok(None),
    });
    Ok(rows.collect::<Result<_, SqlError>>()?)
}

fn invalid(message: &str) -> SqlError {
    SqlError::new(SqlState::InvalidArgumentForWidthBucket, message)
}

fn of_floats(operand: f64, low: f64, high: f64, count: i32) -> Result<i32, SqlError> {
    if operand.is_nan() || low.is_nan() || high.is_nan() {
        return Err(invalid("operand, lower bound, and upper bound cannot be NaN"));
    }
    if low.is_infinite() || high.is_infinite() {
        return Err(invalid("lower and upper bounds must be finite"));
    }
    place(&operand, &low, &high, count, || {
        let (width, from) = (high - low, operand - low);
        let share = if width.is_finite() { from / width } else { (operand / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) };
        // what is cut off is the place in the bucket
        ((f64::from(count) * share) as i32).min(count - 1)
    })
}

fn of_decimals(operand: i128, low: i128, high: i128, count: i32) -> Result<i32, SqlError> {
    place(&operand, &low, &high, count, || {
        let [operand, low, high] = [operand, low, high].map(i256::from_i128);
        let share = operand.wrapping_sub(low).wrapping_mul(i256::from_i128(count.into())).checked_div(high.wrapping_sub(low));
        share.and_then(i256::to_i128).and_then(|share| i32::try_from(share).ok()).unwrap_or(count - 1).min(count - 1)
    })
}

/// The bucket, from 1 on; 0 is before the first, and one more than there are behind the last. Bounds may be the other way round.
fn place<T: PartialOrd>(operand: &T, low: &T, high: &T, count: i32, inside: impl FnOnce() -> i32) -> Result<i32, SqlError> {
    let (before, behind) = match low.partial_cmp(high) {
        Some(Ordering::Less) => (operand < low, operand >= high),
        Some(Ordering::Greater) => (operand > low, operand <= high),
        _ => return Err(invalid("lower bound cannot equal upper bound")),
    };
    if before {
        Ok(0)
    } else if behind {
        count.checked_add(1).ok_or_else(|| SqlError::new(SqlState::NumericValueOutOfRange, "integer out of range"))
    } else {
        Ok(inside() + 1)
    }
}

/// The number of thresholds, which are sorted, that an operand has reached.
fn among(operands: &ArrayRef, thresholds: &ArrayRef) -> Result<Int32Array> {
    let lists = thresholds.as_list::<i32>();
    let (operands, values) = (comparable(operands), comparable(lists.values()));
    let compare = make_comparator(&values, &operands, SortOptions::default())?;
    let rows = (0..lists.len()).map(|row| {
        if operands.is_null(row) || lists.is_null(row) {
            return Ok(None);
        }
        let [mut from, until] = [lists.value_offsets()[row], lists.value_offsets()[row + 1]].map(|offset| offset as usize);
        if (from..until).any(|at| values.is_null(at)) {
            return Err(SqlError::new(SqlState::NullValueNotAllowed, "thresholds array must not contain NULLs").into());
        }
        let (first, mut end) = (from, until);
        while from < end {
            let middle = from.midpoint(end);
            if compare(middle, row) == Ordering::Greater { end = middle } else { from = middle + 1 }
        }
        Ok(i32::try_from(from - first).ok())
    });
    rows.collect()
}

/// Numbers of floating point with one zero, and with one NaN, which is greater than all others.
fn comparable(values: &ArrayRef) -> ArrayRef {
    match values.as_primitive_opt::<Float64Type>() {
        Some(floats) => Arc::new(floats.unary::<_, Float64Type>(|float| if float.is_nan() { f64::NAN } else { float + 0.0 })),
        None => Arc::clone(values),
    }
}
