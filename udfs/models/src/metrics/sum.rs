//! Sums of many numbers.

use super::part::{Reader, Writer};

/// A sum that does not depend on the order of its terms beyond the last digits (Neumaier 1974).
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    total: f64,
    lost: f64,
}

impl Sum {
    /// Adds a number.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let total = self.total + value;
        self.lost += if self.total.abs() >= value.abs() { (self.total - total) + value } else { (value - total) + self.total };
        self.total = total;
    }

    /// The sum so far.
    pub fn value(self) -> f64 {
        self.total + self.lost
    }

    /// The parts of the sum: added up one by one they give it again.
    pub fn parts(self) -> [f64; 2] {
        [self.total, self.lost]
    }

    /// Writes the sum and leaves 0.
    pub fn take(&mut self, part: &mut Writer) {
        let Self { total, lost } = std::mem::take(self);
        part.number(total).number(lost);
    }

    /// Adds a sum that was written.
    pub fn merge(&mut self, part: &mut Reader<'_>) {
        let (total, lost) = (part.number(), part.number());
        self.add(total);
        self.lost += lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_beside_large_ones_are_not_lost() {
        let mut sum = Sum::default();
        [1e16, 1.0, 1.0, -1e16].into_iter().for_each(|value| sum.add(value));
        assert_eq!(sum.value(), 2.0);
        let mut part = Writer::default();
        sum.take(&mut part);
        assert_eq!(sum.value(), 0.0);
        sum.add(0.5);
        sum.merge(&mut Reader::new(&part.finish()));
        assert_eq!(sum.value(), 2.5);
    }
}
