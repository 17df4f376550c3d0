//! The sum of numbers that are each counted once.

use std::collections::HashSet;
use std::mem::size_of_val;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::total::sum_type;
use super::{Summed, out_of_range};

/// The numbers that there were.
#[derive(Debug)]
pub(super) struct Distinct<S: Summed>(HashSet<<S::Number as ArrowPrimitiveType>::Native>);

impl<S: Summed> Default for Distinct<S> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<S: Summed> Accumulator for Distinct<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.extend(values[0].as_primitive::<S::Number>().iter().flatten());
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for numbers in states[0].as_list::<i32>().iter().flatten() {
            self.update_batch(&[numbers])?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let numbers = PrimitiveArray::<S::Number>::from_iter_values(self.0.iter().copied());
        Ok(vec![SingleRowListArrayBuilder::new(Arc::new(numbers)).build_list_scalar()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let zero = <S::Sum as ArrowPrimitiveType>::Native::default();
        let sum = self.0.iter().try_fold(zero, |sum, number| sum.add_checked(S::widen(*number))).map_err(out_of_range)?;
        ScalarValue::new_primitive::<S::Sum>((!self.0.is_empty()).then_some(sum), &sum_type::<S>())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.capacity() * size_of::<<S::Number as ArrowPrimitiveType>::Native>()
    }
}
