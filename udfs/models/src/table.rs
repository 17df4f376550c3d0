//! Embedding tables. The table stays on the host: a step copies the rows it uses into the input of the graph, and the gradient of that
//! input comes back. So the cost of a step does not depend on the size of the vocabulary.

use std::fmt;

use rand::Rng;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

const UNUSED: u32 = u32::MAX;

/// A use of a row in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Use {
    /// The row.
    pub row: u32,
    /// Where its part of the gradient begins.
    pub start: u32,
    /// The weight with which the row was used there.
    pub weight: f32,
}

/// Uses of rows, and the gradient in which their parts are.
pub type Uses<'a> = (&'a [Use], &'a [f32]);

/// Fewer uses than this are not worth the threads.
const FEW: usize = 4096;
/// Parts of the table that are updated at a time. The result does not depend on it.
const SHARDS: usize = 8;

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
    /// Scratch: where a row is in the `unique` of its shard.
    slots: Vec<u32>,
    shards: Vec<Shard>,
}

/// Scratch of a step for some of the rows.
#[derive(Debug, Clone, Default)]
struct Shard {
    /// The distinct rows of the step, in the order of their first use.
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
        Self { dim, values, initial, squares: vec![initial; rows], slots: vec![UNUSED; rows], shards: vec![Shard::default(); SHARDS] }
    }

    /// A step: adds up the gradients of each used row and updates it, with an L2 penalty. The gradients of a row are added in the order of the
    /// uses, by whatever thread of the current pool, so that the result does not depend on the number of threads.
    pub fn step(&mut self, uses: &[Uses<'_>], learning_rate: f32, l2: f32) {
        let dim = self.dim;
        let few = uses.iter().map(|(uses, _)| uses.len()).sum::<usize>() < FEW;
        let share = if few { self.rows().max(1) } else { self.rows().div_ceil(SHARDS).max(1) };
        let work = |(index, mut rows): (usize, Rows<'_>)| {
            rows.first = (index * share) as u32;
            for (uses, gradient) in uses {
                rows.add(uses, gradient);
            }
            rows.update(learning_rate, l2);
        };
        let Self { values, squares, slots, shards, .. } = self;
        if few {
            work((0, Rows { first: 0, dim, shard: &mut shards[0], slots, values, squares }));
            return;
        }
        let parts = shards.par_iter_mut().zip(slots.par_chunks_mut(share));
        let parts = parts.zip(values.par_chunks_mut(share * dim)).zip(squares.par_chunks_mut(share));
        let parts = parts.map(|(((shard, slots), values), squares)| Rows { first: 0, dim, shard, slots, values, squares });
        parts.enumerate().for_each(work);
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

/// Neighbouring rows of a table during a step.
struct Rows<'a> {
    first: u32,
    dim: usize,
    shard: &'a mut Shard,
    slots: &'a mut [u32],
    values: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Rows<'_> {
    fn add(&mut self, uses: &[Use], gradient: &[f32]) {
        match self.dim {
            8 => self.add_fixed::<8>(uses, gradient),
            16 => self.add_fixed::<16>(uses, gradient),
            17 => self.add_fixed::<17>(uses, gradient),
            dim => {
                for Use { row, start, weight } in uses {
                    if let Some(slot) = self.slot(*row) {
                        let sum = &mut self.shard.gradients[slot * dim..][..dim];
                        sum.iter_mut().zip(&gradient[*start as usize..]).for_each(|(sum, g)| *sum += weight * g);
                    }
                }
            }
        }
    }

    /// [`Rows::add`] for a usual size: the sum is a few vector operations.
    fn add_fixed<const DIM: usize>(&mut self, uses: &[Use], gradient: &[f32]) {
        for Use { row, start, weight } in uses {
            let Some(slot) = self.slot(*row) else { continue };
            let (sums, _) = self.shard.gradients.as_chunks_mut::<DIM>();
            if let Some((part, _)) = gradient[*start as usize..].split_first_chunk::<DIM>() {
                sums[slot].iter_mut().zip(part).for_each(|(sum, g)| *sum += weight * g);
            }
        }
    }

    /// Where the gradient of a row is added up, if it is one of these rows.
    #[inline]
    fn slot(&mut self, row: u32) -> Option<usize> {
        let row = row.wrapping_sub(self.first);
        let slot = self.slots.get_mut(row as usize)?;
        if *slot == UNUSED {
            *slot = self.shard.unique.len() as u32;
            self.shard.unique.push(row);
            self.shard.gradients.resize(self.shard.gradients.len() + self.dim, 0.0);
        }
        Some(*slot as usize)
    }

    fn update(&mut self, learning_rate: f32, l2: f32) {
        const EPSILON: f32 = 1e-8;
        for (row, gradient) in self.shard.unique.iter().zip(self.shard.gradients.chunks_exact_mut(self.dim)) {
            let row = *row as usize;
            self.slots[row] = UNUSED;
            let values = &mut self.values[row * self.dim..][..self.dim];
            gradient.iter_mut().zip(&*values).for_each(|(g, value)| *g += l2 * value);
            let mean_square = gradient.iter().map(|g| g * g).sum::<f32>() / self.dim as f32;
            self.squares[row] += mean_square;
            let rate = learning_rate / (self.squares[row].sqrt() + EPSILON);
            values.iter_mut().zip(gradient).for_each(|(value, g)| *value -= rate * *g);
        }
        self.shard.unique.clear();
        self.shard.gradients.clear();
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::testing::Fixture;

    fn uses(uses: &[(u32, u32, f32)]) -> Vec<Use> {
        uses.iter().map(|&(row, start, weight)| Use { row, start, weight }).collect()
    }

    fn table() -> Table {
        Table::new(6, 2, 0.1, 0.0, &mut ChaCha8Rng::seed_from_u64(1))
    }

    /// One step with a gradient for one row.
    fn update(table: &mut Table, row: u32, gradient: &[f32], learning_rate: f32) {
        table.step(&[(&[Use { row, start: 0, weight: 1.0 }], gradient)], learning_rate, 0.0);
    }

    #[test]
    fn the_uses_of_a_row_add_up_with_their_weights() {
        let (mut one, mut other) = (table(), table());
        let (first, second) = (uses(&[(4, 0, 1.0), (1, 2, 1.0)]), uses(&[(4, 0, 0.5)]));
        one.step(&[(&first, &[1.0, 2.0, 7.0, 8.0]), (&second, &[4.0, -2.0])], 0.1, 0.0);
        other.step(&[(&first, &[3.0, 1.0, 7.0, 8.0])], 0.1, 0.0);
        assert_eq!(one.values(), other.values());
        assert_ne!(one.values(), table().values());
    }

    #[test]
    fn the_penalty_pulls_towards_zero() {
        let mut table = Table::from_values(2, vec![2.0, -2.0, 5.0, 5.0], 0.0);
        table.step(&[(&uses(&[(0, 0, 1.0)]), &[0.0, 0.0])], 0.5, 0.1);
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
    fn many_uses_give_the_same_numbers_with_any_number_of_threads() {
        const ROWS: u32 = 1001;
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let gradient: Vec<f32> = (0..3 * FEW * 2).map(|_| rng.random::<f32>() - 0.5).collect();
        let many: Vec<Use> =
            (0..gradient.len() / 2).map(|n| Use { row: rng.random_range(0..ROWS), start: 2 * n as u32, weight: rng.random() }).collect();
        let with = |threads: usize, calls: usize| {
            let mut table = Table::new(ROWS as usize, 2, 0.1, 1.0, &mut ChaCha8Rng::seed_from_u64(1));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let parts: Vec<Uses<'_>> = many.chunks(many.len().div_ceil(calls)).map(|part| (part, gradient.as_slice())).collect();
            pool.install(|| table.step(&parts, 0.1, 0.01));
            table.into_values()
        };
        assert_eq!(with(1, 1), with(3, 5));

        // The sum by hand, of one row.
        let mut sum = [0.0; 2];
        for Use { start, weight, .. } in many.iter().filter(|one| one.row == 700) {
            sum.iter_mut().zip(&gradient[*start as usize..]).for_each(|(sum, g)| *sum += weight * g);
        }
        let before = Table::new(ROWS as usize, 2, 0.1, 1.0, &mut ChaCha8Rng::seed_from_u64(1)).into_values()[1400..1402].to_vec();
        let sum: Vec<f32> = sum.iter().zip(&before).map(|(g, value)| g + 0.01 * value).collect();
        let rate = 0.1 / (1.0 + (sum[0] * sum[0] + sum[1] * sum[1]) / 2.0).sqrt();
        for ((after, before), g) in with(2, 1)[1400..1402].iter().zip(before).zip(sum) {
            assert!((after - (before - rate * g)).abs() < 1e-5);
        }
    }

    #[test]
    fn ten_steps_equal_pytorch() {
        let fixture = Fixture::load();
        let (rows, dim) = (fixture.rows, fixture.dim);
        let mut table = Table::from_values(dim, fixture.start, 0.0);
        for gradient in &fixture.gradients {
            let every: Vec<(u32, u32, f32)> = (0..rows).map(|row| (row as u32, (row * dim) as u32, 1.0)).collect();
            table.step(&[(&uses(&every), gradient)], fixture.learning_rate, 0.0);
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
