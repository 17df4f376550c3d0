//! A metric per group of GROUP BY.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, LargeBinaryArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use stratagem_models::metrics::groups::Groups;
use stratagem_models::metrics::part::Writer;

use super::Call;

/// The statistics of the groups.
#[derive(Debug)]
pub(super) struct Grouped {
    call: Arc<Call>,
    groups: Box<dyn Groups>,
}

impl Grouped {
    pub(super) fn new(call: Arc<Call>) -> Self {
        Self { groups: call.template.groups(), call }
    }

    fn count(&self, emit: EmitTo) -> usize {
        match emit {
            EmitTo::All => self.groups.len(),
            EmitTo::First(count) => count,
        }
    }

    fn add(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.groups.grow(total);
        let rows = self.call.reading.rows(values, filter)?;
        let groups = rows.select(groups);
        rows.with(|columns| self.groups.update(&groups, columns)).map_err(|invalid| self.call.metric.refused(invalid))?;
        Ok(())
    }

    fn parts(&mut self, count: usize) -> Result<Vec<ArrayRef>> {
        let mut part = Writer::default();
        let mut ends = Vec::with_capacity(count + 1);
        ends.push(0);
        self.groups.take(count, &mut part, &mut |end| ends.push(end as i64));
        let parts = LargeBinaryArray::try_new(OffsetBuffer::new(ends.into()), part.finish().into(), None)?;
        Ok(vec![Arc::new(parts)])
    }
}

impl GroupsAccumulator for Grouped {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.add(values, groups, filter, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let mut result = Vec::new();
        let count = self.count(emit);
        self.groups.evaluate(count, &mut result).map_err(|invalid| self.call.metric.refused(invalid))?;
        self.call.metric.array(&result)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.parts(self.count(emit))
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.groups.grow(total);
        for (part, &group) in states[0].as_binary::<i64>().iter().zip(groups) {
            if let Some(part) = part {
                self.groups.merge(group, part);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut alone = Self::new(Arc::clone(&self.call));
        alone.add(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        alone.parts(rows)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.heap()
    }
}
