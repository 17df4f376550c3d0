//! Sums of many groups at once.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::total::sum_type;
use super::{Summed, out_of_range};

type Native<P> = <P as ArrowPrimitiveType>::Native;

/// The sum of each group, and whether it has a number.
#[derive(Debug)]
pub(super) struct Groups<S: Summed> {
    sums: Vec<Native<S::Sum>>,
    seen: Vec<bool>,
}

impl<S: Summed> Default for Groups<S> {
    fn default() -> Self {
        Self { sums: Vec::new(), seen: Vec::new() }
    }
}

impl<S: Summed> Groups<S> {
    /// Adds the numbers of an array to their groups.
    fn add<P: ArrowPrimitiveType>(
        &mut self,
        numbers: &PrimitiveArray<P>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
        widen: impl Fn(Native<P>) -> Native<S::Sum>,
    ) -> Result<()> {
        self.sums.resize(count, Native::<S::Sum>::default());
        self.seen.resize(count, false);
        let mut put = |group: usize, number: Native<P>| -> Result<()> {
            let sum = &mut self.sums[group];
            *sum = sum.add_checked(widen(number)).map_err(out_of_range)?;
            self.seen[group] = true;
            Ok(())
        };
        match (numbers.nulls().filter(|nulls| nulls.null_count() > 0), filter) {
            (None, None) => groups.iter().zip(numbers.values()).try_for_each(|(group, number)| put(*group, *number)),
            (nulls, filter) => {
                let counts = |row: usize| {
                    nulls.is_none_or(|nulls| nulls.is_valid(row)) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
                };
                groups
                    .iter()
                    .zip(numbers.values())
                    .enumerate()
                    .filter(|(row, _)| counts(*row))
                    .try_for_each(|(_, (group, number))| put(*group, *number))
            }
        }
    }
}

impl<S: Summed> GroupsAccumulator for Groups<S> {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, count: usize) -> Result<()> {
        self.add(values[0].as_primitive::<S::Number>(), groups, filter, count, S::widen)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.add(states[0].as_primitive::<S::Sum>(), groups, None, count, |sum| sum)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let sums = emit.take_needed(&mut self.sums);
        let seen = emit.take_needed(&mut self.seen);
        let sums = PrimitiveArray::<S::Sum>::new(sums.into(), Some(NullBuffer::new(BooleanBuffer::from(seen))));
        Ok(Arc::new(sums.with_data_type(sum_type::<S>())))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let sums = values[0].as_primitive::<S::Number>().unary::<_, S::Sum>(S::widen);
        let (_, sums, nulls) = sums.into_parts();
        let filtered = filter.map(|filter| match filter.nulls() {
            Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
            None => NullBuffer::new(filter.values().clone()),
        });
        let nulls = NullBuffer::union(nulls.as_ref(), filtered.as_ref());
        Ok(vec![Arc::new(PrimitiveArray::<S::Sum>::new(sums, nulls).with_data_type(sum_type::<S>()))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Native<S::Sum>>() + self.seen.capacity()
    }
}
