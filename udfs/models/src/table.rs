//! Embedding tables. The table stays on the host: a step copies the rows it uses into the input of the graph, and the gradient of that
//! input comes back. So the cost of a step does not depend on the size of the vocabulary.

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
    initial: f32,
    /// Per row, `initial` and the sum over steps of the mean squared gradient.
    squares: Vec<f32>,
    /// Scratch: where a row is in `unique`.
    slots: Vec<u32>,
    /// The distinct rows of the current step, in the order of their first use.
    unique: Vec<u32>,
    /// Their gradients, `unique.len()` x dim.
    gradients: Vec<f32>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.rows()).field("dim", &self.dim).finish_non_exhaustive()
    }
}

impl Table {
    /// A table of `rows` rows of `dim` numbers, drawn evenly from `-scale` to `scale`.
    ///
    /// The sums of squares begin at `initial`: the larger it is, the less the first gradients of a row move it.
    pub fn new(rows: usize, dim: usize, scale: f32, initial: f32, rng: &mut impl Rng) -> Self {
        let values = (0..rows * dim).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * scale).collect();
        Self::from_values(dim, values, initial)
    }

    /// All embeddings, rows x dim.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All embeddings, rows x dim, without a copy.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.squares.len()
    }

    /// A table with these numbers, as if no step had used it.
    pub(crate) fn from_values(dim: usize, values: Vec<f32>, initial: f32) -> Self {
        let rows = values.len() / dim;
        Self { dim, values, initial, squares: vec![initial; rows], slots: vec![UNUSED; rows], unique: vec![], gradients: vec![] }
    }

    /// Adds to the gradients of a step. A use is a row, where its part of `gradient` begins, and the weight with which the row was used there.
    pub fn add(&mut self, uses: impl Iterator<Item = (u32, usize, f32)>, gradient: &[f32]) {
        match self.dim {
            8 => self.add_fixed::<8>(uses, gradient),
            16 => self.add_fixed::<16>(uses, gradient),
            _ => {
                let dim = self.dim;
                for (row, start, weight) in uses {
                    let slot = self.slot(row);
                    let sum = &mut self.gradients[slot * dim..][..dim];
                    sum.iter_mut().zip(&gradient[start..]).for_each(|(sum, g)| *sum += weight * g);
                }
            }
        }
    }

    /// [`Table::add`] for a usual size: the sum is a few vector operations.
    fn add_fixed<const DIM: usize>(&mut self, uses: impl Iterator<Item = (u32, usize, f32)>, gradient: &[f32]) {
        for (row, start, weight) in uses {
            let slot = self.slot(row);
            let (sums, _) = self.gradients.as_chunks_mut::<DIM>();
            if let Some((part, _)) = gradient[start..].split_first_chunk::<DIM>() {
                sums[slot].iter_mut().zip(part).for_each(|(sum, g)| *sum += weight * g);
            }
        }
    }

    fn slot(&mut self, row: u32) -> usize {
        let slot = &mut self.slots[row as usize];
        if *slot == UNUSED {
            *slot = self.unique.len() as u32;
            self.unique.push(row);
            self.gradients.resize(self.gradients.len() + self.dim, 0.0);
        }
        *slot as usize
    }

    /// Ends a step: updates the rows it used, with an L2 penalty.
    pub fn step(&mut self, learning_rate: f32, l2: f32) {
        const EPSILON: f32 = 1e-8;
        for (row, gradient) in self.unique.iter().zip(self.gradients.chunks_exact_mut(self.dim)) {
            let row = *row as usize;
            self.slots[row] = UNUSED;
            let values = &mut self.values[row * self.dim..][..self.dim];
            gradient.iter_mut().zip(&*values).for_each(|(g, value)| *g += l2 * value);
            let mean_square = gradient.iter().map(|g| g * g).sum::<f32>() / self.dim as f32;
            self.squares[row] += mean_square;
            let rate = learning_rate / (self.squares[row].sqrt() + EPSILON);
            values.iter_mut().zip(gradient).for_each(|(value, g)| *value -= rate * *g);
        }
        self.unique.clear();
        self.gradients.clear();
    }

    /// Sets the rows that no step has used to zero, so that an unknown category says nothing instead of something at random.
    pub fn clear_untrained(&mut self) {
        for (row, squares) in self.values.chunks_exact_mut(self.dim).zip(&self.squares) {
            if *squares == self.initial {
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
        Table::new(6, 2, 0.1, 0.0, &mut ChaCha8Rng::seed_from_u64(1))
    }

    /// One step with a gradient for one row.
    fn update(table: &mut Table, row: u32, gradient: &[f32], learning_rate: f32) {
        table.add([(row, 0, 1.0)].into_iter(), gradient);
        table.step(learning_rate, 0.0);
    }

    #[test]
    fn the_uses_of_a_row_add_up_with_their_weights() {
        let (mut one, mut other) = (table(), table());
        one.add([(4, 0, 1.0), (1, 2, 1.0), (4, 4, 0.5)].into_iter(), &[1.0, 2.0, 7.0, 8.0, 4.0, -2.0]);
        one.step(0.1, 0.0);
        other.add([(4, 0, 1.0), (1, 2, 1.0)].into_iter(), &[3.0, 1.0, 7.0, 8.0]);
        other.step(0.1, 0.0);
        assert_eq!(one.values(), other.values());
        assert_ne!(one.values(), table().values());
    }

    #[test]
    fn the_penalty_pulls_towards_zero() {
        let mut table = Table::from_values(2, vec![2.0, -2.0, 5.0, 5.0], 0.0);
        table.add([(0, 0, 1.0)].into_iter(), &[0.0, 0.0]);
        table.step(0.5, 0.1);
        // The gradient is 0.1 x (2, -2), whose root mean square it is divided by.
        assert!((table.values()[0] - 1.5).abs() < 1e-5 && (table.values()[1] + 1.5).abs() < 1e-5, "{:?}", table.values());
        assert_eq!(table.values()[2..], [5.0, 5.0]);
    }

    #[test]
    fn an_update_touches_only_its_rows_and_follows_row_wise_adagrad() {
        let mut table = table();
        let before = table.values().to_vec();
        update(&mut table, 2, &[3.0, -1.0], 0.5);
        update(&mut table, 2, &[0.0, 2.0], 0.5);
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
        let mut table = Table::from_values(dim, fixture.start, 0.0);
        for gradient in &fixture.gradients {
            table.add((0..rows).map(|row| (row as u32, row * dim, 1.0)), gradient);
            table.step(fixture.learning_rate, 0.0);
        }
        for (ours, theirs) in table.values().iter().zip(fixture.row_adagrad) {
            assert!((ours - theirs).abs() < 2e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn rows_no_step_used_end_as_zeros() {
        let mut table = table();
        update(&mut table, 3, &[1.0, 1.0], 0.1);
        table.clear_untrained();
        assert!(table.values()[..6].iter().chain(&table.values()[8..]).all(|v| *v == 0.0));
        assert!(table.values()[6..8].iter().all(|v| *v != 0.0));
    }
}
