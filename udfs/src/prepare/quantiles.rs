//! How numbers are distributed, in bounded memory and whatever the order of the rows.

use std::collections::HashMap;

/// The most different numbers that are told apart.
const KEYS: usize = 1 << 17;

/// Counts of numbers: exact up to [`KEYS`] different ones. When there are more, the last bits of all numbers are given up, as few as will do,
/// and a number stands for the narrow range around it: the histogram of relative accuracy of DDSketch (Masson et al. 2019) with bins that
/// halve. What is counted depends on the numbers alone, not on their order or on how parts were merged.
#[derive(Debug, Default)]
pub(super) struct Quantiles {
    /// The bits given up.
    lost: u32,
    counts: HashMap<u64, u64>,
}

/// A number as an integer that sorts alike.
fn key(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn number(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

impl Quantiles {
    /// Counts a finite number.
    pub(super) fn add(&mut self, number: f64) {
        *self.counts.entry(key(number) >> self.lost).or_default() += 1;
        if self.counts.len() > KEYS {
            self.coarsen(self.lost + 1);
        }
    }

    pub(super) fn merge(&mut self, mut other: Self) {
        let lost = self.lost.max(other.lost);
        self.coarsen(lost);
        other.coarsen(lost);
        for (key, count) in other.counts {
            *self.counts.entry(key).or_default() += count;
        }
        self.coarsen(lost);
    }

    /// Gives up bits until there are few enough keys, and at least up to `lost`.
    fn coarsen(&mut self, mut lost: u32) {
        while lost > self.lost || self.counts.len() > KEYS {
            lost = lost.max(self.lost + 1);
            let mut counts = HashMap::with_capacity(self.counts.len());
            for (key, count) in self.counts.drain() {
                *counts.entry(key >> (lost - self.lost)).or_default() += count;
            }
            (self.counts, self.lost) = (counts, lost);
        }
    }

    /// The numbers in ascending order, each with its count.
    fn sorted(&self) -> Vec<(f64, u64)> {
        let mut keys: Vec<(u64, u64)> = self.counts.iter().map(|(key, count)| (*key, *count)).collect();
        keys.sort_unstable();
        let middle = if self.lost == 0 { 0 } else { 1 << (self.lost - 1) };
        keys.into_iter().map(|(key, count)| (number(key << self.lost | middle), count)).collect()
    }

    /// The numbers below which 1, 2, ... of `parts` equal parts lie, with linear interpolation (type 7 of Hyndman and Fan 1996, the default
    /// of NumPy); then the smallest number. Empty without numbers.
    pub(super) fn cuts(&self, parts: u64) -> Vec<f64> {
        let mut ascending = self.sorted();
        let Some(last) = ascending.iter_mut().fold(None, |below, (_, count)| {
            *count += below.unwrap_or(0);
            Some(*count)
        }) else {
            return vec![];
        };
        // The counts are now how many numbers lie up to here.
        let at = |rank: u128| ascending[ascending.partition_point(|(_, up_to)| u128::from(*up_to) <= rank)].0;
        let (parts, last) = (u128::from(parts), u128::from(last - 1));
        let cut = |part: u128| {
            let (rank, rest) = (part * last / parts, part * last % parts);
            let (low, high) = (at(rank), at((rank + 1).min(last)));
            let share = rest as f64 / parts as f64;
            if share < 0.5 { low + (high - low) * share } else { high - (high - low) * (1.0 - share) }
        };
        (1..parts).map(cut).chain([at(0)]).collect()
    }

    /// The most frequent number, the smallest of several.
    pub(super) fn mode(&self) -> Option<f64> {
        self.sorted().into_iter().rev().max_by_key(|(_, count)| *count).map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn of(numbers: &[f64]) -> Quantiles {
        let mut quantiles = Quantiles::default();
        numbers.iter().for_each(|number| quantiles.add(*number));
        quantiles
    }

    #[test]
    fn keys_sort_like_numbers_and_give_them_back() {
        let ascending = [f64::MIN, -1.0, -1e-300, 0.0, 5e-324, 1.0, 1.5, f64::MAX];
        assert!(ascending.windows(2).all(|pair| key(pair[0]) < key(pair[1])));
        assert!(ascending.iter().all(|given| number(key(*given)) == *given));
        assert_eq!(key(-0.0), key(0.0));
    }

    #[test]
    fn cuts_interpolate_between_neighbours() {
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).cuts(2), [2.5, 1.0]);
        assert_eq!(of(&[7.0]).cuts(4), [7.0, 7.0, 7.0, 7.0]);
        assert_eq!(of(&[0.0, 10.0]).cuts(4), [2.5, 5.0, 7.5, 0.0]);
        assert!(of(&[]).cuts(4).is_empty());
    }

    #[test]
    fn the_mode_is_the_smallest_of_the_most_frequent() {
        assert_eq!(of(&[3.0, -2.0, 3.0, 9.0, -2.0]).mode(), Some(-2.0));
        assert_eq!(of(&[]).mode(), None);
    }

    #[test]
    fn many_different_numbers_keep_their_quantiles_in_any_order_and_merge() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut numbers: Vec<f64> = (0..400_000).map(|_| (rng.random::<f64>() * 20.0).exp() - 50.0).collect();
        let whole = of(&numbers);
        assert!(whole.lost > 0 && whole.counts.len() <= KEYS);
        numbers.shuffle(&mut rng);
        let (few, rest) = numbers.split_at(1_000);
        let mut merged = of(few);
        merged.merge(of(rest));
        assert_eq!((merged.lost, &merged.counts), (whole.lost, &whole.counts));
        assert_eq!(merged.cuts(50), whole.cuts(50));
        numbers.sort_by(f64::total_cmp);
        for (part, cut) in whole.cuts(50).into_iter().take(49).enumerate() {
            let exact = numbers[(part + 1) * numbers.len() / 50];
            assert!((cut - exact).abs() <= exact.abs() * 1e-3, "{part}: {cut} {exact}");
        }
    }
}
