//! Means and covariances of columns in one pass, merged without loss of digits (Chan, Golub and LeVeque 1983).

use std::array::from_fn;

use super::part::{Reader, Writer};

/// Rows, means, and sums of products of deviations of `N` columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments<const N: usize> {
    rows: f64,
    means: [f64; N],
    products: [[f64; N]; N],
}

impl<const N: usize> Default for Moments<N> {
    fn default() -> Self {
        Self { rows: 0.0, means: [0.0; N], products: [[0.0; N]; N] }
    }
}

impl<const N: usize> Moments<N> {
    /// Adds rows.
    pub(super) fn extend(&mut self, rows: impl IntoIterator<Item = [f64; N]>) {
        const CHUNK: usize = 64;
        let mut chunk = [[0.0; CHUNK]; N];
        let mut filled = 0;
        for row in rows {
            chunk.iter_mut().zip(row).for_each(|(column, value)| column[filled] = value);
            filled += 1;
            if filled == CHUNK {
                self.add(chunk.each_ref().map(|column| &column[..]));
                filled = 0;
            }
        }
        self.add(chunk.each_ref().map(|column| &column[..filled]));
    }

    fn add(&mut self, columns: [&[f64]; N]) {
        let rows = columns.first().map_or(0, |column| column.len());
        if rows == 0 {
            return;
        }
        let count = rows as f64;
        let means = columns.map(|column| column.iter().sum::<f64>() / count);
        let product = |left: usize, right: usize| {
            let (x, y) = (columns[left].iter(), columns[right].iter());
            x.zip(y).map(|(x, y)| (x - means[left]) * (y - means[right])).sum::<f64>()
        };
        let products = from_fn(|left| from_fn(|right| product(left, right)));
        self.append(&Self { rows: count, means, products });
    }

    /// Adds the rows of another.
    pub(super) fn append(&mut self, other: &Self) {
        if other.rows == 0.0 {
            return;
        }
        let rows = self.rows + other.rows;
        let share = other.rows / rows;
        let apart: [f64; N] = from_fn(|column| other.means[column] - self.means[column]);
        let between = |left: usize, right: usize| apart[left] * apart[right] * self.rows * share;
        let product = |left: usize, right: usize| self.products[left][right] + other.products[left][right] + between(left, right);
        let products = from_fn(|left| from_fn(|right| product(left, right)));
        let means = from_fn(|column| self.means[column] + apart[column] * share);
        *self = Self { rows, means, products };
    }

    /// The number of rows.
    pub(super) fn rows(&self) -> f64 {
        self.rows
    }

    /// The mean of a column; 0 without rows.
    pub(super) fn mean(&self, column: usize) -> f64 {
        self.means[column]
    }

    /// The sum of a column.
    pub(super) fn sum(&self, column: usize) -> f64 {
        self.means[column] * self.rows
    }

    /// The sum of products of the deviations of two columns from their means.
    pub(super) fn product(&self, left: usize, right: usize) -> f64 {
        self.products[left][right]
    }

    /// The covariance of two columns of a sample, over rows - 1; NaN or infinite below two rows.
    pub(super) fn covariance(&self, left: usize, right: usize) -> f64 {
        self.products[left][right] / (self.rows - 1.0)
    }

    /// Writes all to a partial result and leaves no rows.
    pub(super) fn take(&mut self, part: &mut Writer) {
        let Self { rows, means, products } = std::mem::take(self);
        part.number(rows);
        means.iter().chain(products.as_flattened()).for_each(|value| {
            part.number(*value);
        });
    }

    /// Adds what [`Moments::take`] wrote.
    pub(super) fn merge(&mut self, part: &mut Reader<'_>) {
        let mut read = Self { rows: part.number(), ..Self::default() };
        read.means.iter_mut().chain(read.products.as_flattened_mut()).for_each(|value| *value = part.number());
        self.append(&read);
    }
}

impl Moments<1> {
    /// The mean of a sample with its standard error; the error is `None` below two rows, all without rows.
    pub(super) fn mean_and_error(&self) -> Option<(f64, Option<f64>)> {
        let error = (self.rows > 1.0).then(|| (self.covariance(0, 0) / self.rows).sqrt());
        (self.rows > 0.0).then_some((self.means[0], error))
    }
}

impl Moments<2> {
    /// The moments of the first column alone.
    pub(super) fn first(&self) -> Moments<1> {
        Moments { rows: self.rows, means: [self.means[0]], products: [[self.products[0][0]]] }
    }

    /// The ratio of the means of two columns with its standard error by the delta method: the residuals `x - ratio * y` are treated as the
    /// sample, as for a ratio estimator in survey sampling (Cochran 1977, section 2.11). `None` where the second column sums to 0.
    pub(super) fn ratio(&self) -> Option<(f64, Option<f64>)> {
        let [numerator, denominator] = self.means;
        if denominator == 0.0 || self.rows == 0.0 {
            return None;
        }
        let ratio = numerator / denominator;
        let residual = self.product(0, 0) - 2.0 * ratio * self.product(0, 1) + ratio * ratio * self.product(1, 1);
        let error = (self.rows > 1.0).then(|| (residual.max(0.0) / ((self.rows - 1.0) * self.rows)).sqrt() / denominator.abs());
        Some((ratio, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_give_the_moments_of_the_whole() {
        let x: Vec<f64> = (0..100).map(|row| f64::from(row * row % 37) + 1e6).collect();
        let y: Vec<f64> = (0..100).map(|row| f64::from(row * 7 % 11)).collect();
        let rows = |rows: std::ops::Range<usize>| rows.map(|row| [x[row], y[row]]);
        let mut whole = Moments::<2>::default();
        whole.extend(rows(0..100));
        let mut merged = Moments::<2>::default();
        for cut in [60..100, 0..1, 1..1, 1..60] {
            let mut part = Moments::<2>::default();
            part.extend(rows(cut));
            let mut written = Writer::default();
            part.take(&mut written);
            merged.merge(&mut Reader::new(&written.finish()));
            assert_eq!(part.rows(), 0.0);
        }
        let mean = x.iter().sum::<f64>() / 100.0;
        let variance = x.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 99.0;
        assert!((whole.covariance(0, 0) / variance - 1.0).abs() < 1e-14);
        for (a, b) in [(0, 0), (0, 1), (1, 1)] {
            assert!((merged.covariance(a, b) - whole.covariance(a, b)).abs() < 1e-9 * whole.covariance(a, b).abs().max(1.0));
        }
        assert!((merged.mean(0) - mean).abs() < 1e-9);
        assert_eq!(merged.rows(), 100.0);
    }

    #[test]
    fn a_ratio_to_ones_is_a_mean() {
        let x = [1.0, 4.0, 2.0, 9.0];
        let (mut ratio, mut mean) = (Moments::<2>::default(), Moments::<1>::default());
        ratio.extend(x.map(|x| [x, 1.0]));
        mean.extend(x.map(|x| [x]));
        let ((ratio, left), (mean, right)) = (ratio.ratio().unwrap(), mean.mean_and_error().unwrap());
        assert!((ratio - mean).abs() < 1e-15 && (left.unwrap() - right.unwrap()).abs() < 1e-15);
        assert_eq!(Moments::<2>::default().ratio(), None);
        assert_eq!(Moments::<1>::default().mean_and_error(), None);
    }
}
