//! The area under the ROC curve in constant memory, between limits that are certain.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::part::{Reader, Writer};
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};

/// Rows by the highest bits of their score; columns `label`, `score`; values: value, low, high.
///
/// Scores as whole numbers of the same order share a bin when they are equal but for the lowest bits. While there are more bins than allowed, one
/// more bit is dropped. How many are dropped at the end depends on the set of scores alone, so the result does not depend on the order of rows, and
/// parts merge exactly.
#[derive(Debug, Clone)]
pub struct ApproxAuc {
    most: usize,
    dropped: u32,
    /// Negative and positive rows by bin.
    bins: Bins,
}

type Bins = HashMap<u64, [u64; 2], BuildHasherDefault<Spread>>;

/// Spreads bins over a table.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

impl ApproxAuc {
    /// Without rows; `most` is the number of bins, at least 2.
    pub fn template(most: usize) -> Template {
        Template::new(Self { most, dropped: 0, bins: Bins::default() })
    }

    fn add(&mut self, bin: u64, [negatives, positives]: [u64; 2]) {
        let counts = self.bins.entry(bin).or_default();
        counts[0] += negatives;
        counts[1] += positives;
        // With 63 bits dropped two bins are left.
        while self.bins.len() > self.most && self.dropped < 63 {
            self.drop_to(self.dropped + 1);
        }
    }

    fn drop_to(&mut self, dropped: u32) {
        let more = dropped - self.dropped;
        self.dropped = dropped;
        for (bin, [negatives, positives]) in std::mem::take(&mut self.bins) {
            let counts = self.bins.entry(bin >> more).or_default();
            counts[0] += negatives;
            counts[1] += positives;
        }
    }
}

/// The score as a whole number of the same order.
fn ordered(score: f64) -> u64 {
    let bits = score.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

impl Statistic for ApproxAuc {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        for (&label, &score) in columns[0].numbers().iter().zip(columns[1].numbers()) {
            let positive = u64::from(statistic::label("label", label)?);
            let score = ordered(statistic::score("score", score)?);
            self.add(score >> self.dropped, [1 - positive, positive]);
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        part.whole(u64::from(std::mem::take(&mut self.dropped)));
        for (bin, [negatives, positives]) in std::mem::take(&mut self.bins) {
            part.whole(bin).whole(negatives).whole(positives);
        }
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        let dropped = part.whole() as u32;
        if dropped > self.dropped {
            self.drop_to(dropped.min(63));
        }
        while !part.is_empty() {
            let (bin, counts) = (part.whole(), [part.whole(), part.whole()]);
            self.add(bin >> (self.dropped - dropped), counts);
        }
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let mut bins: Vec<_> = self.bins.iter().collect();
        bins.sort_unstable_by_key(|(bin, _)| **bin);
        let (mut won, mut within) = (0_u128, 0_u128);
        let (mut below, mut all) = (0_u64, 0_u64);
        for (_, &[negatives, positives]) in bins {
            won += u128::from(positives) * u128::from(below);
            within += u128::from(positives) * u128::from(negatives);
            below += negatives;
            all += positives;
        }
        if all == 0 || below == 0 {
            result.extend([Value::Null, Value::Null, Value::Null]);
            return Ok(());
        }
        let pairs = all as f64 * below as f64;
        let value = (won as f64 + within as f64 / 2.0) / pairs;
        // A bin of a single score holds ties, which count half.
        let limits = if self.dropped == 0 { [value, value] } else { [won as f64 / pairs, (won + within) as f64 / pairs] };
        result.extend([value, limits[0], limits[1]].map(Value::Number));
        Ok(())
    }

    fn heap(&self) -> usize {
        // A hash table keeps one byte of control beside each entry.
        self.bins.capacity() * (size_of::<(u64, [u64; 2])>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::auc;
    use super::super::scores::Scores;
    use super::*;

    fn rows(count: usize, of: impl Fn(&mut ChaCha8Rng) -> f64) -> (Vec<f64>, Vec<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let scores: Vec<f64> = (0..count).map(|_| of(&mut rng)).collect();
        let labels = scores.iter().map(|score| f64::from(u8::from(rng.random::<f64>() * 2.0 < score.abs().min(1.0)))).collect();
        (labels, scores)
    }

    fn of(approx: &mut dyn Statistic) -> [f64; 3] {
        let mut result = Vec::new();
        approx.evaluate(&mut result).unwrap();
        let [Value::Number(value), Value::Number(low), Value::Number(high)] = result[..] else { panic!("{result:?}") };
        [value, low, high]
    }

    #[test]
    fn the_exact_area_lies_between_the_limits() {
        let spread: [fn(&mut ChaCha8Rng) -> f64; 4] = [
            |rng| rng.random(),
            |rng| rng.random::<f64>().powi(9),
            |rng| rng.random_range(-5.0..5.0),
            |rng| 0.5 + rng.random::<f64>() * 1e-6,
        ];
        for (case, score) in spread.into_iter().enumerate() {
            let (labels, scores) = rows(50_000, score);
            let mut exact = Scores::default();
            exact.update(Column::Numbers(&labels), Column::Numbers(&scores), Column::Absent).unwrap();
            let exact = auc::area(&mut exact).unwrap();
            for most in [2, 64, 4096] {
                let mut approx = ApproxAuc::template(most).one();
                approx.update(&[Column::Numbers(&labels), Column::Numbers(&scores)]).unwrap();
                let [value, low, high] = of(approx.as_mut());
                assert!(low <= exact && exact <= high && low <= value && value <= high, "{case} {most}: {low} {exact} {high}");
                assert!(most < 4096 || high - low < 2e-3, "{case}: {low} {high}");
                assert!(approx.heap() < 200_000);
            }
        }
    }

    #[test]
    fn few_scores_are_exact_and_parts_do_not_matter() {
        let (labels, scores) = rows(9000, |rng| f64::from(rng.random_range(0..300)) / 300.0);
        let (more_labels, more) = rows(9000, |rng| rng.random());
        for (labels, scores, exact) in [(&labels, &scores, true), (&more_labels, &more, false)] {
            let mut whole = ApproxAuc::template(512).one();
            whole.update(&[Column::Numbers(labels), Column::Numbers(scores)]).unwrap();
            let mut merged = ApproxAuc::template(512).one();
            for (labels, scores) in labels.chunks(700).zip(scores.chunks(700)).rev() {
                let (mut one, mut part) = (ApproxAuc::template(512).one(), Writer::default());
                one.update(&[Column::Numbers(labels), Column::Numbers(scores)]).unwrap();
                one.take(&mut part);
                merged.merge(&mut Reader::new(&part.finish()));
            }
            assert_eq!(of(whole.as_mut()), of(merged.as_mut()));
            let [value, low, high] = of(whole.as_mut());
            assert_eq!(value == low && value == high, exact);
        }
    }
}
