//! Embedding tables. The table stays on the host; a step sees only the rows it uses, as a small tensor (the row leaf) that
//! requires a gradient. So the cost of a step does not depend on the size of the vocabulary.

use std::fmt;

use rand::Rng;

const UNUSED: u32 = u32::MAX;

/// A table of embeddings with row-wise Adagrad: one sum of squared gradients per row instead of one per number
/// (Duchi et al. 2011; the row form as in Mudigere et al. 2022).
#[derive(Clone)]
pub struct Table {
    dim: usize,
    /// rows x dim.
    values: Vec<f32>,
    /// Per row, the sum over steps of the mean squared gradient; 0 = never trained.
    squares: Vec<f32>,
    /// Scratch: where a row is in the current leaf.
    slots: Vec<u32>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.rows()).field("dim", &self.dim).finish_non_exhaustive()
    }
}

/// The rows one step uses.
#[derive(Debug, Clone, Default)]
pub struct Leaf {
    /// The distinct table rows, in the order of their first use.
    pub unique: Vec<u32>,
    /// Their embeddings, `unique.len()` x dim.
    pub values: Vec<f32>,
    /// For every id of the step, its position in `unique`.
    pub index: Vec<i64>,
}

impl Table {
    /// A table of `rows` rows of `dim` numbers, drawn evenly from `-scale` to `scale`.
    pub fn new(rows: usize, dim: usize, scale: f32, rng: &mut impl Rng) -> Self {
        let values = (0..rows * dim).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * scale).collect();
        Self { dim, values, squares: vec![0.0; rows], slots: vec![UNUSED; rows] }
    }

    /// All embeddings, rows x dim.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.squares.len()
    }

    /// Fills the leaf for the table rows `ids`, which may repeat.
    pub fn collect(&mut self, ids: impl IntoIterator<Item = u32>, leaf: &mut Leaf) {
        leaf.unique.clear();
        leaf.values.clear();
        leaf.index.clear();
        for row in ids {
            let slot = &mut self.slots[row as usize];
            if *slot == UNUSED {
                *slot = leaf.unique.len() as u32;
                leaf.unique.push(row);
            }
            leaf.index.push(i64::from(*slot));
        }
        for row in &leaf.unique {
            self.slots[*row as usize] = UNUSED;
            let start = *row as usize * self.dim;
            leaf.values.extend_from_slice(&self.values[start..start + self.dim]);
        }
    }

    /// Updates the rows `unique` with their gradients, `unique.len()` x dim.
    pub fn update(&mut self, unique: &[u32], gradient: &[f32], learning_rate: f32) {
        const EPSILON: f32 = 1e-8;
        for (row, gradient) in unique.iter().zip(gradient.chunks_exact(self.dim)) {
            let row = *row as usize;
            let mean_square = gradient.iter().map(|g| g * g).sum::<f32>() / self.dim as f32;
            self.squares[row] += mean_square;
            let rate = learning_rate / (self.squares[row].sqrt() + EPSILON);
            for (value, g) in self.values[row * self.dim..].iter_mut().zip(gradient) {
                *value -= rate * g;
            }
        }
    }

    /// Sets the rows that no step has used to zero, so that an unknown category says nothing instead of something at random.
    pub fn clear_untrained(&mut self) {
        for (row, squares) in self.values.chunks_exact_mut(self.dim).zip(&self.squares) {
            if *squares == 0.0 {
                row.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::testing::Fixture;

    fn table() -> Table {
        Table::new(6, 2, 0.1, &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn a_leaf_holds_every_used_row_once() {
        let mut table = table();
        let mut leaf = Leaf::default();
        for _ in 0..2 {
            table.collect([4, 1, 4, 4, 0], &mut leaf);
            assert_eq!(leaf.unique, [4, 1, 0]);
            assert_eq!(leaf.index, [0, 1, 0, 0, 2]);
            assert_eq!(leaf.values[2..4], table.values()[2..4]);
        }
    }

    #[test]
    fn an_update_touches_only_its_rows_and_follows_row_wise_adagrad() {
        let mut table = table();
        let before = table.values().to_vec();
        table.update(&[2], &[3.0, -1.0], 0.5);
        table.update(&[2], &[0.0, 2.0], 0.5);
        // Mean squares: (9 + 1)/2 = 5, then 5 + (0 + 4)/2 = 7.
        let expected = [before[4] - 0.5 * 3.0 / 5f32.sqrt(), before[5] + 0.5 / 5f32.sqrt() - 0.5 * 2.0 / 7f32.sqrt()];
        for (value, expected) in table.values()[4..6].iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6);
        }
        assert_eq!(table.values()[..4], before[..4]);
        assert_eq!(table.values()[6..], before[6..]);
    }

    #[test]
    fn ten_steps_equal_pytorch() {
        let fixture = Fixture::load();
        let (rows, dim) = (fixture.rows, fixture.dim);
        let mut table = Table { values: fixture.start, ..Table::new(rows, dim, 0.0, &mut ChaCha8Rng::seed_from_u64(1)) };
        for gradient in &fixture.gradients {
            table.update(&(0..rows as u32).collect::<Vec<_>>(), gradient, fixture.learning_rate);
        }
        for (ours, theirs) in table.values().iter().zip(fixture.row_adagrad) {
            assert!((ours - theirs).abs() < 2e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn rows_no_step_used_end_as_zeros() {
        let mut table = table();
        table.update(&[3], &[1.0, 1.0], 0.1);
        table.clear_untrained();
        assert!(table.values()[..6].iter().chain(&table.values()[8..]).all(|v| *v == 0.0));
        assert!(table.values()[6..8].iter().all(|v| *v != 0.0));
    }
}
