//! One sum, which rows may leave again.

use datafusion::arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::{Summed, out_of_range};

/// A sum, and of how many numbers.
#[derive(Debug)]
pub(super) struct Total<S: Summed> {
    sum: <S::Sum as ArrowPrimitiveType>::Native,
    count: usize,
}

impl<S: Summed> Default for Total<S> {
    fn default() -> Self {
        Self { sum: Default::default(), count: 0 }
    }
}

impl<S: Summed> Total<S> {
    /// The sum of an array, which has not as many numbers as would not fit.
    fn numbers(values: &ArrayRef) -> <S::Sum as ArrowPrimitiveType>::Native {
        let zero = <S::Sum as ArrowPrimitiveType>::Native::default();
        let numbers = values.as_primitive::<S::Number>();
        if numbers.null_count() == 0 {
            numbers.values().iter().fold(zero, |sum, number| sum.add_wrapping(S::widen(*number)))
        } else {
            numbers.iter().flatten().fold(zero, |sum, number| sum.add_wrapping(S::widen(number)))
        }
    }
}

impl<S: Summed> Accumulator for Total<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum = self.sum.add_checked(Self::numbers(&values[0])).map_err(out_of_range)?;
        self.count += values[0].len() - values[0].null_count();
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum = self.sum.sub_checked(Self::numbers(&values[0])).map_err(out_of_range)?;
        self.count -= values[0].len() - values[0].null_count();
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for sum in states[0].as_primitive::<S::Sum>().iter().flatten() {
            self.sum = self.sum.add_checked(sum).map_err(out_of_range)?;
            self.count += 1;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::new_primitive::<S::Sum>((self.count > 0).then_some(self.sum), &sum_type::<S>())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The type of sums.
pub(super) fn sum_type<S: Summed>() -> datafusion::arrow::datatypes::DataType {
    super::of_whole(&S::Number::DATA_TYPE).unwrap_or(S::Sum::DATA_TYPE)
}
