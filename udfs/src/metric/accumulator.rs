//! A metric over rows without groups: all rows, distinct ones, or the rows of a window frame.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;
use stratagem_models::metrics::part::{Reader, Writer};
use stratagem_models::metrics::statistic::{Column, Statistic, Values};

use super::Call;
use super::rows::Kind;

/// An accumulator of a call.
pub(super) fn new(call: Arc<Call>, distinct: bool) -> Box<dyn Accumulator> {
    if distinct {
        return Box::new(Distinct { call, rows: HashSet::new(), heap: 0 });
    }
    Box::new(Plain { statistic: call.template.one(), call })
}

fn state(part: Writer) -> Vec<ScalarValue> {
    vec![ScalarValue::LargeBinary(Some(part.finish()))]
}

fn parts(states: &[ArrayRef]) -> impl Iterator<Item = &[u8]> {
    states[0].as_binary::<i64>().iter().flatten()
}

fn evaluate(call: &Call, statistic: &mut dyn Statistic) -> Result<ScalarValue> {
    let mut result = Vec::new();
    statistic.evaluate(&mut result).map_err(|invalid| call.metric.refused(invalid))?;
    ScalarValue::try_from_array(&call.metric.array(&result)?, 0)
}

/// Every row counts.
#[derive(Debug)]
struct Plain {
    call: Arc<Call>,
    statistic: Box<dyn Statistic>,
}

impl Accumulator for Plain {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = self.call.reading.rows(values, None)?;
        rows.with(|columns| self.statistic.update(columns)).map_err(|invalid| self.call.metric.refused(invalid))?;
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        evaluate(&self.call, self.statistic.as_mut())
    }

    fn size(&self) -> usize {
        size_of::<Self>() + size_of_val(self.statistic.as_ref()) + self.statistic.heap()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut part = Writer::default();
        self.statistic.take(&mut part);
        Ok(state(part))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        parts(states).for_each(|part| self.statistic.merge(&mut Reader::new(part)));
        Ok(())
    }
}

/// Equal rows count once.
#[derive(Debug)]
struct Distinct {
    call: Arc<Call>,
    rows: HashSet<Box<[u8]>>,
    /// Bytes of all rows.
    heap: usize,
}

impl Distinct {
    fn add(&mut self, row: &[u8]) {
        if !self.rows.contains(row) {
            self.heap += row.len();
            self.rows.insert(row.into());
        }
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = Arc::clone(&self.call).reading.rows(values, None)?;
        rows.with(|columns| {
            for row in 0..columns.iter().map(|column| column.len()).max().unwrap_or_default() {
                self.add(&encoded(columns, row));
            }
        });
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut rows: Vec<&[u8]> = self.rows.iter().map(AsRef::as_ref).collect();
        rows.sort_unstable();
        let mut columns: Vec<Values<'_>> = self.call.reading.kinds().map(empty).collect();
        for row in rows {
            let mut row = Reader::new(row);
            columns.iter_mut().for_each(|column| decode(column, &mut row));
        }
        let mut statistic = self.call.template.one();
        let columns: Vec<_> = columns.iter().map(Values::column).collect();
        statistic.update(&columns).map_err(|invalid| self.call.metric.refused(invalid))?;
        evaluate(&self.call, statistic.as_mut())
    }

    fn size(&self) -> usize {
        // A hash table keeps one byte of control beside each entry; the allocator one word beside each row.
        size_of::<Self>() + self.heap + self.rows.capacity() * (size_of::<Box<[u8]>>() + 1) + self.rows.len() * size_of::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut part = Writer::default();
        for row in std::mem::take(&mut self.rows) {
            part.bytes(&row);
        }
        self.heap = 0;
        Ok(state(part))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for part in parts(states) {
            let mut part = Reader::new(part);
            while !part.is_empty() {
                self.add(part.bytes());
            }
        }
        Ok(())
    }
}

/// One row as bytes.
fn encoded(columns: &[Column<'_>], row: usize) -> Vec<u8> {
    let mut part = Writer::default();
    for column in columns {
        match column {
            Column::Absent => &mut part,
            Column::Numbers(values) => part.number(values[row]),
            Column::Texts(values) => part.text(values[row]),
            Column::Keys(values) => part.key(values[row]),
        };
    }
    part.finish()
}

/// A column for rows that were bytes.
fn empty<'a>(kind: Kind) -> Values<'a> {
    match kind {
        Kind::Absent => Values::Absent,
        Kind::Numbers => Values::Numbers(Vec::new()),
        Kind::Texts { .. } => Values::Texts(Vec::new()),
        Kind::Keys => Values::Keys(Vec::new()),
    }
}

/// Adds the next value of a row that is bytes.
fn decode<'a>(column: &mut Values<'a>, row: &mut Reader<'a>) {
    match column {
        Values::Absent => {}
        Values::Numbers(values) => values.push(row.number()),
        Values::Texts(values) => values.push(row.text()),
        Values::Keys(values) => values.push(row.key()),
    }
}

/// The rows of a frame that rows leave again: they are kept, and measured anew for every frame.
#[derive(Debug)]
pub(super) struct Sliding {
    call: Arc<Call>,
    distinct: bool,
    batches: VecDeque<Vec<ArrayRef>>,
}

impl Sliding {
    pub(super) fn new(call: Arc<Call>, distinct: bool) -> Self {
        Self { call, distinct, batches: VecDeque::new() }
    }

    fn frame(&self) -> Result<Box<dyn Accumulator>> {
        let mut accumulator = new(Arc::clone(&self.call), self.distinct);
        self.batches.iter().try_for_each(|batch| accumulator.update_batch(batch))?;
        Ok(accumulator)
    }
}

impl Accumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.batches.push_back(values.to_vec());
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut leaving = values[0].len();
        while let Some(batch) = self.batches.front_mut() {
            let rows = batch[0].len();
            if leaving < rows {
                batch.iter_mut().for_each(|column| *column = column.slice(leaving, rows - leaving));
                break;
            }
            leaving -= rows;
            self.batches.pop_front();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.frame()?.evaluate()
    }

    fn size(&self) -> usize {
        let sizes = self.batches.iter().flatten().map(|column| column.to_data().get_slice_memory_size().unwrap_or_default());
        size_of::<Self>() + sizes.sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.frame()?.state()
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        datafusion::common::internal_err!("frames of windows are not computed in parts")
    }
}
