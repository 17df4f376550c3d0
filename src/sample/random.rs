//! Random numbers that are the same on every machine.
//!
//! A [`Random`] is a ChaCha8 stream named by (seed, topic, number), so a customer, a product or a session can be drawn alone and again
//! without drawing what came before it. Logarithms and the like come from `libm`: those of the system differ in the last bit.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a stream is about; two topics never share a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Topic {
    Products = 1,
    Traits,
    Profile,
    Block,
    Session,
    Review,
}

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// Stream `number` of the topic.
    pub(crate) fn new(seed: u64, topic: Topic, number: u64) -> Self {
        Self::pair(seed, topic, number, 0)
    }

    /// Stream `second` of stream `first` of the topic.
    pub(crate) fn pair(seed: u64, topic: Topic, first: u64, second: u64) -> Self {
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([seed, topic as u64, first, second]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in 0..count.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.word()) * count as u128) >> 64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// An index drawn in proportion to the weights.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        weights.len() - 1
    }

    /// Standard normal (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(TAU * self.unit())
    }

    /// Lognormal with this median; `spread` is the deviation of the logarithm.
    pub(crate) fn lognormal(&mut self, median: f64, spread: f64) -> f64 {
        median * libm::exp(spread * self.normal())
    }

    /// Failures before the first success.
    pub(crate) fn geometric(&mut self, success: f64) -> usize {
        (libm::log(1.0 - self.unit()) / libm::log(1.0 - success)) as usize
    }
}

/// Weights summed up, to draw an index in proportion to them in logarithmic time.
#[derive(Debug, Clone)]
pub(crate) struct Cumulative(Vec<f64>);

impl Cumulative {
    pub(crate) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        Self(
            weights
                .into_iter()
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
        )
    }

    /// Sum of the first `count` weights.
    pub(crate) fn sum(&self, count: usize) -> f64 {
        if count == 0 { 0.0 } else { self.0[count - 1] }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The weight at `index`.
    pub(crate) fn weight(&self, index: usize) -> f64 {
        self.sum(index + 1) - self.sum(index)
    }

    /// The index in which the point `at` of the summed weights lies.
    pub(crate) fn find(&self, at: f64) -> usize {
        self.0.partition_point(|sum| *sum <= at).min(self.0.len() - 1)
    }

    /// An index below `count`, drawn in proportion to the weights.
    pub(crate) fn draw(&self, random: &mut Random, count: usize) -> usize {
        self.find(random.unit() * self.sum(count)).min(count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_and_do_not_touch() {
        let first = |topic, number| Random::new(7, topic, number).word();
        assert_eq!(first(Topic::Session, 1), first(Topic::Session, 1));
        assert_ne!(first(Topic::Session, 1), first(Topic::Session, 2));
        assert_ne!(first(Topic::Session, 1), first(Topic::Traits, 1));
    }

    #[test]
    fn draws_follow_their_distributions() {
        let mut random = Random::new(1, Topic::Products, 0);
        let many = 20_000;
        let mean = |draw: &mut dyn FnMut() -> f64| (0..many).map(|_| draw()).sum::<f64>() / f64::from(many);
        assert!((mean(&mut || random.unit()) - 0.5).abs() < 0.01);
        assert!(mean(&mut || random.normal()).abs() < 0.03);
        assert!((mean(&mut || random.normal().powi(2)) - 1.0).abs() < 0.05);
        assert!((mean(&mut || random.geometric(0.25) as f64) - 3.0).abs() < 0.1);
        assert!((mean(&mut || random.weighted(&[1.0, 0.0, 3.0]) as f64) - 1.5).abs() < 0.05);
        let cumulative = Cumulative::new([1.0, 0.0, 3.0, 9.0]);
        assert!((mean(&mut || cumulative.draw(&mut random, 3) as f64) - 1.5).abs() < 0.05);
        assert_eq!((cumulative.len(), cumulative.weight(2)), (4, 3.0));
    }
}
