//! Columns as numbers, texts and lists.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, ListArray, StringArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::{DataFusionError, Result};

use crate::declaration::Function;

/// Numbers of this size or more, infinities and NaN are not learned from: their squares would leave no digits for the others.
const LARGEST: f64 = 1e100;

/// Whether a number is learned from.
pub(super) fn counts(number: f64) -> bool {
    number.abs() < LARGEST
}

/// A column of numbers.
pub(super) fn numbers(column: &ArrayRef) -> Result<Float64Array> {
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// A column as text.
pub(super) fn texts(column: &ArrayRef) -> Result<StringArray> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// A column of lists of numbers.
pub(super) fn lists(column: &ArrayRef) -> Result<ListArray> {
    Ok(cast(column, &DataType::new_list(DataType::Float64, true))?.as_list::<i32>().clone())
}

/// The result of a function as lists of `width` numbers each.
pub(super) fn of_width(function: &Function, rows: usize, width: usize, numbers: Vec<f64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    if i32::try_from(numbers.len()).is_err() {
        let message = format!("{} would return {rows} rows of {width} numbers at once; divide them with PARTITION BY", function.name);
        return Err(DataFusionError::ResourcesExhausted(message));
    }
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let offsets = OffsetBuffer::from_repeated_length(width, rows);
    Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(Float64Array::from(numbers)), nulls)?))
}
