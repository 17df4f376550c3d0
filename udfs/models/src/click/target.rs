//! What a net learns of each row: its labels, or a number that was worked out for it.

use crate::examples::Block;
use crate::net::Output;

/// What a net learns of each row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// What the output of the net stands for.
    pub(crate) output: Output,
    /// Labels per row.
    pub(crate) tasks: usize,
    /// What a row of each class counts, where the labels are classes; empty when all rows count the same.
    pub(crate) balance: &'a [f32],
    given: Option<Given<'a>>,
}

/// Labels that are not those of the rows, one per row by its number among all rows.
#[derive(Debug, Clone, Copy)]
struct Given<'a> {
    values: &'a [f32],
    /// Empty when all rows count the same.
    weights: &'a [f32],
}

impl<'a> Target<'a> {
    /// The labels that the rows have, each 0 or 1.
    pub(crate) fn labels(tasks: usize) -> Self {
        Self { output: Output::Probability, tasks, balance: &[], given: None }
    }

    /// The classes of the rows, of which each has one, and what a row of each class counts.
    pub(crate) fn classes(classes: usize, balance: &'a [f32]) -> Self {
        Self { output: Output::Probability, tasks: classes, balance, given: None }
    }

    /// 0 or 1 for each row.
    pub(crate) fn outcomes(values: &'a [f32]) -> Self {
        Self { output: Output::Probability, tasks: 1, balance: &[], given: Some(Given { values, weights: &[] }) }
    }

    /// A number for each row, and how much the row counts; no weights are equal ones.
    pub(crate) fn numbers(values: &'a [f32], weights: &'a [f32]) -> Self {
        Self { output: Output::Number, tasks: 1, balance: &[], given: Some(Given { values, weights }) }
    }

    /// The labels of a row of a block, and how much it counts. `before` is the number of rows before those of the block.
    pub(crate) fn of<'r>(&self, block: &'r Block, before: usize, row: u32) -> (&'r [f32], f32)
    where
        'a: 'r,
    {
        let row = row as usize;
        match self.given {
            None => {
                let labels = &block.labels[row * self.tasks..][..self.tasks];
                let own = self.balance.iter().zip(labels).find(|(_, label)| **label > 0.5);
                (labels, own.map_or(1.0, |(weight, _)| *weight))
            }
            Some(Given { values, weights }) => (&values[before + row..][..1], weights.get(before + row).copied().unwrap_or(1.0)),
        }
    }
}
