//! One statistic per group: what GROUP BY needs, for few groups as for millions.

use std::fmt::Debug;

use super::part::{Reader, Writer};
use super::statistic::{Column, Invalid, Statistic, Value, Values};

/// A statistic per group; groups are numbered from 0.
pub trait Groups: Debug + Send {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds empty groups until there are so many.
    fn grow(&mut self, groups: usize);

    /// Adds the rows of a batch, each to its group.
    ///
    /// # Errors
    /// The first value that is not accepted.
    fn update(&mut self, groups: &[usize], columns: &[Column<'_>]) -> Result<(), Invalid>;

    /// Adds a partial result to a group.
    fn merge(&mut self, group: usize, part: &[u8]);

    /// Writes the partial results of the first groups and removes them; the others move down. `end` hears of the length after each.
    fn take(&mut self, groups: usize, part: &mut Writer, end: &mut dyn FnMut(usize));

    /// Appends the results of the first groups, group by group, and removes them; the others move down.
    ///
    /// # Errors
    /// A value that turns out not to fit the rows.
    fn evaluate(&mut self, groups: usize, result: &mut Vec<Value>) -> Result<(), Invalid>;

    /// Bytes on the heap.
    fn heap(&self) -> usize;
}

/// Statistics of one kind, side by side.
#[derive(Debug)]
pub(super) struct Many<S> {
    empty: S,
    statistics: Vec<S>,
    /// Bytes on the heap of all statistics: a batch that touches few groups must not ask them all.
    inner: usize,
}

impl<S: Statistic + Clone> Many<S> {
    pub(super) fn new(empty: S) -> Self {
        Self { empty, statistics: Vec::new(), inner: 0 }
    }

    fn touch<R>(&mut self, group: usize, act: impl FnOnce(&mut S) -> R) -> R {
        let statistic = &mut self.statistics[group];
        let before = statistic.heap();
        let done = act(statistic);
        self.inner = (self.inner + statistic.heap()).saturating_sub(before);
        done
    }

    fn update_runs(&mut self, groups: &[usize], columns: &[Column<'_>]) -> Result<(), Invalid> {
        let mut slices = columns.to_vec();
        let mut start = 0;
        for run in groups.chunk_by(|a, b| a == b) {
            let rows = start..start + run.len();
            start = rows.end;
            slices.iter_mut().zip(columns).for_each(|(slice, column)| *slice = column.slice(rows.clone()));
            self.touch(run[0], |statistic| statistic.update(&slices))?;
        }
        Ok(())
    }

    /// Removes the first groups.
    fn split(&mut self, groups: usize) -> Vec<S> {
        let rest = self.statistics.split_off(groups.min(self.statistics.len()));
        let first = std::mem::replace(&mut self.statistics, rest);
        let freed: usize = first.iter().map(Statistic::heap).sum();
        self.inner = self.inner.saturating_sub(freed);
        first
    }
}

impl<S: Statistic + Clone> Groups for Many<S> {
    fn len(&self) -> usize {
        self.statistics.len()
    }

    fn grow(&mut self, groups: usize) {
        let more = groups.saturating_sub(self.statistics.len());
        if more > 0 {
            self.statistics.resize(groups, self.empty.clone());
            self.inner += more * self.statistics[groups - 1].heap();
        }
    }

    fn update(&mut self, groups: &[usize], columns: &[Column<'_>]) -> Result<(), Invalid> {
        // Rows of few groups are brought together, so that a group gets its rows at once; among many groups a row is mostly alone.
        if self.statistics.len() > groups.len() || groups.is_sorted() {
            return self.update_runs(groups, columns);
        }
        let order = by_group(groups, self.statistics.len());
        let sorted: Vec<usize> = order.iter().map(|&row| groups[row]).collect();
        let gathered: Vec<Values<'_>> = columns.iter().map(|column| Values::gathered(*column, &order)).collect();
        self.update_runs(&sorted, &gathered.iter().map(Values::column).collect::<Vec<_>>())
    }

    fn merge(&mut self, group: usize, part: &[u8]) {
        self.touch(group, |statistic| statistic.merge(&mut Reader::new(part)));
    }

    fn take(&mut self, groups: usize, part: &mut Writer, end: &mut dyn FnMut(usize)) {
        for mut statistic in self.split(groups) {
            statistic.take(part);
            end(part.len());
        }
    }

    fn evaluate(&mut self, groups: usize, result: &mut Vec<Value>) -> Result<(), Invalid> {
        self.split(groups).iter_mut().try_for_each(|statistic| statistic.evaluate(result))
    }

    fn heap(&self) -> usize {
        self.statistics.capacity() * size_of::<S>() + self.inner
    }
}

/// The rows in the order of their groups, those of one group in their own order.
fn by_group(groups: &[usize], count: usize) -> Vec<usize> {
    let mut next = vec![0; count + 1];
    groups.iter().for_each(|&group| next[group + 1] += 1);
    for group in 1..=count {
        next[group] += next[group - 1];
    }
    let mut order = vec![0; groups.len()];
    for (row, &group) in groups.iter().enumerate() {
        order[next[group]] = row;
        next[group] += 1;
    }
    order
}
