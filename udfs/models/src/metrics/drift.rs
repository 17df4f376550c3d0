//! How far a sample has moved from an earlier one.

use std::collections::{BTreeMap, BTreeSet};

use super::check;
use super::distributions::kolmogorov_tail;
use super::part::{Reader, Writer};
use super::statistic::{Column, Invalid, Statistic, Template, Value};

/// The share that stands for that of a bin without rows, where its logarithm is needed.
const LEAST: f64 = 1e-4;

/// What is told of two samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// Population stability index: `sum((a - e) * ln(a / e))` over the shares of the bins; a share below 0.0001 counts as that.
    Psi {
        /// The most bins for numbers.
        bins: usize,
    },
    /// Jensen-Shannon divergence in nats, from 0 to ln 2 (Lin 1991).
    JensenShannon {
        /// The most bins for numbers.
        bins: usize,
    },
    /// Two-sample test of Kolmogorov and Smirnov, of numbers: the fields statistic, p_value, expected_rows, actual_rows.
    KolmogorovSmirnov,
}

/// Two samples; columns `value` (numbers, or texts that are compared) and `is_actual` (0 for the earlier sample).
#[derive(Debug, Clone)]
pub struct Drift {
    distance: Distance,
    expected: Sample,
    actual: Sample,
}

#[derive(Debug, Clone, Default)]
struct Sample {
    numbers: Vec<f64>,
    categories: BTreeMap<String, u64>,
    heap: usize,
}

impl Sample {
    fn add(&mut self, name: &str, rows: u64) {
        match self.categories.get_mut(name) {
            Some(count) => *count += rows,
            None => {
                self.heap += name.len() + size_of::<(String, u64)>() + 2 * size_of::<usize>();
                self.categories.insert(name.to_owned(), rows);
            }
        }
    }

    fn rows(&self) -> u64 {
        self.numbers.len() as u64 + self.categories.values().sum::<u64>()
    }
}

impl Drift {
    /// Without rows.
    pub fn template(distance: Distance) -> Template {
        Template::new(Self { distance, expected: Sample::default(), actual: Sample::default() })
    }

    /// The shares of both samples, bin by bin.
    fn shares(&mut self, bins: usize) -> Vec<[f64; 2]> {
        let total = [&self.expected, &self.actual].map(|sample| sample.rows() as f64);
        let share = |counts: [u64; 2]| [counts[0] as f64 / total[0], counts[1] as f64 / total[1]];
        let samples = [&mut self.expected, &mut self.actual];
        if samples.iter().all(|sample| sample.numbers.is_empty()) {
            let names: BTreeSet<&String> = samples.iter().flat_map(|sample| sample.categories.keys()).collect();
            let count = |name: &String| samples.each_ref().map(|sample| sample.categories.get(name).copied().unwrap_or_default());
            return names.into_iter().map(|name| share(count(name))).collect();
        }
        let [expected, actual] = samples.map(|sample| {
            sample.numbers.sort_unstable_by(f64::total_cmp);
            sample.numbers.as_slice()
        });
        let edges = edges(expected, actual, bins);
        let below = |sample: &[f64]| -> Vec<usize> { edges.iter().map(|edge| sample.partition_point(|value| value <= edge)).collect() };
        let [mut expected_below, mut actual_below] = [below(expected), below(actual)];
        expected_below.push(expected.len());
        actual_below.push(actual.len());
        let mut before = [0, 0];
        let counted = expected_below.into_iter().zip(actual_below).map(|(expected, actual)| {
            let counts = [expected - before[0], actual - before[1]].map(|count| count as u64);
            before = [expected, actual];
            share(counts)
        });
        counted.collect()
    }
}

/// The upper ends of all bins but the last: quantiles of the earlier sample, or every value of both where those are few.
fn edges(expected: &[f64], actual: &[f64], bins: usize) -> Vec<f64> {
    let mut distinct = BTreeSet::new();
    for sample in [expected, actual] {
        for same in sample.chunk_by(|a, b| a == b) {
            distinct.insert(same[0].to_bits() ^ if same[0] < 0.0 { u64::MAX } else { 1 << 63 });
            if distinct.len() > bins {
                break;
            }
        }
    }
    if distinct.len() <= bins {
        let number = |key: u64| f64::from_bits(key ^ if key >> 63 == 1 { 1 << 63 } else { u64::MAX });
        let mut edges: Vec<f64> = distinct.into_iter().map(number).collect();
        edges.pop();
        return edges;
    }
    let quantile = |part: usize| {
        let place = (expected.len() - 1) * part;
        let (below, rest) = (place / bins, (place % bins) as f64 / bins as f64);
        let value = expected[below];
        if rest == 0.0 { value } else { value + (expected[below + 1] - value) * rest }
    };
    let mut edges: Vec<f64> = (1..bins).map(quantile).collect();
    edges.dedup();
    edges
}

impl Statistic for Drift {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let actual = check::binary("is_actual", columns[1])?;
        let numbers = check::finite("value", columns[0])?;
        for (number, is_actual) in numbers.iter().zip(actual) {
            let sample = if *is_actual == 1.0 { &mut self.actual } else { &mut self.expected };
            sample.numbers.push(*number);
        }
        for (name, is_actual) in columns[0].texts().iter().zip(actual) {
            let sample = if *is_actual == 1.0 { &mut self.actual } else { &mut self.expected };
            sample.add(name, 1);
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        for sample in [&mut self.expected, &mut self.actual] {
            let Sample { numbers, categories, .. } = std::mem::take(sample);
            part.numbers(&numbers).whole(categories.len() as u64);
            for (name, rows) in categories {
                part.text(&name).whole(rows);
            }
        }
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        for sample in [&mut self.expected, &mut self.actual] {
            sample.numbers.extend(part.numbers());
            for _ in 0..part.whole() {
                sample.add(part.text(), part.whole());
            }
        }
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let both = self.expected.rows() > 0 && self.actual.rows() > 0;
        match self.distance {
            Distance::Psi { bins } => result.push(both.then(|| stability(&self.shares(bins))).into()),
            Distance::JensenShannon { bins } => result.push(both.then(|| divergence(&self.shares(bins))).into()),
            Distance::KolmogorovSmirnov if both => {
                let samples = [&mut self.expected, &mut self.actual].map(|sample| {
                    sample.numbers.sort_unstable_by(f64::total_cmp);
                    sample.numbers.as_slice()
                });
                let statistic = largest_gap(samples);
                let [expected, actual] = samples.map(|sample| sample.len() as f64);
                let p_value = kolmogorov_tail(statistic * (expected * actual / (expected + actual)).sqrt());
                result.extend([statistic.into(), p_value.into(), (expected as u64).into(), (actual as u64).into()]);
            }
            Distance::KolmogorovSmirnov => result.extend(vec![Value::Null; 4]),
        }
        Ok(())
    }

    fn heap(&self) -> usize {
        [&self.expected, &self.actual].iter().map(|sample| sample.heap + sample.numbers.capacity() * size_of::<f64>()).sum()
    }
}

fn stability(shares: &[[f64; 2]]) -> f64 {
    let part = |shares: &[f64; 2]| {
        let [expected, actual] = shares.map(|share| share.max(LEAST));
        (actual - expected) * (actual / expected).ln()
    };
    shares.iter().map(part).sum()
}

fn divergence(shares: &[[f64; 2]]) -> f64 {
    let part = |shares: &[f64; 2]| {
        let middle = (shares[0] + shares[1]) / 2.0;
        shares.iter().filter(|share| **share > 0.0).map(|share| share * (share / middle).ln() / 2.0).sum::<f64>()
    };
    shares.iter().map(part).sum::<f64>().max(0.0)
}

/// The largest distance of the distribution functions of two sorted samples.
fn largest_gap([left, right]: [&[f64]; 2]) -> f64 {
    let (mut below_left, mut below_right) = (0, 0);
    let mut gap: f64 = 0.0;
    while below_left < left.len() && below_right < right.len() {
        let value = left[below_left].min(right[below_right]);
        below_left += left[below_left..].iter().take_while(|other| **other <= value).count();
        below_right += right[below_right..].iter().take_while(|other| **other <= value).count();
        gap = gap.max((below_left as f64 / left.len() as f64 - below_right as f64 / right.len() as f64).abs());
    }
    gap
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(distance: Distance, expected: &[f64], actual: &[f64]) -> Vec<Value> {
        let mut drift = Drift::template(distance).one();
        let mut part = Drift::template(distance).one();
        drift.update(&[Column::Numbers(expected), Column::Numbers(&vec![0.0; expected.len()])]).unwrap();
        part.update(&[Column::Numbers(actual), Column::Numbers(&vec![1.0; actual.len()])]).unwrap();
        let mut written = Writer::default();
        part.take(&mut written);
        drift.merge(&mut Reader::new(&written.finish()));
        let mut result = Vec::new();
        drift.evaluate(&mut result).unwrap();
        result
    }

    fn number(value: &Value) -> f64 {
        if let Value::Number(number) = value { *number } else { panic!("{value:?}") }
    }

    #[test]
    fn few_values_are_bins_of_their_own() {
        // Shares 0.5, 0.5, 0 and 0.25, 0.5, 0.25: -1 is new below, so it has a bin.
        let (expected, actual) = ([0.0, 3.0, 0.0, 3.0], [-1.0, 0.0, 3.0, 3.0]);
        let psi = number(&drift(Distance::Psi { bins: 10 }, &expected, &actual)[0]);
        let by_hand = (0.25 - 1e-4) * (0.25_f64 / 1e-4).ln() + (0.25 - 0.5) * (0.25_f64 / 0.5).ln();
        assert!((psi - by_hand).abs() < 1e-14, "{psi} {by_hand}");
        let shannon = number(&drift(Distance::JensenShannon { bins: 10 }, &expected, &actual)[0]);
        let by_hand = 0.25 / 2.0 * 2_f64.ln() + 0.5 / 2.0 * (0.5_f64 / 0.375).ln() + 0.25 / 2.0 * (0.25_f64 / 0.375).ln();
        assert!((shannon - by_hand).abs() < 1e-14, "{shannon} {by_hand}");
    }

    #[test]
    fn many_values_are_cut_at_quantiles_of_the_earlier_sample() {
        let expected: Vec<f64> = (0..101).map(f64::from).collect();
        let moved: Vec<f64> = expected.iter().map(|value| value + 50.0).collect();
        assert_eq!(edges(&expected, &moved, 4), [25.0, 50.0, 75.0]);
        assert_eq!(number(&drift(Distance::Psi { bins: 4 }, &expected, &expected)[0]), 0.0);
        // 26, 25, 25, 25 rows become 0, 1, 25, 75.
        let shares = [[26.0, 0.0], [25.0, 1.0], [25.0, 25.0], [25.0, 75.0]].map(|bin| bin.map(|rows| f64::max(rows / 101.0, 1e-4)));
        let by_hand: f64 = shares.iter().map(|[e, a]| (a - e) * (a / e).ln()).sum();
        assert!((number(&drift(Distance::Psi { bins: 4 }, &expected, &moved)[0]) - by_hand).abs() < 1e-12);
        assert!((number(&drift(Distance::KolmogorovSmirnov, &expected, &moved)[0]) - 50.0 / 101.0).abs() < 1e-15);
    }

    #[test]
    fn texts_are_categories_and_one_sample_is_null() {
        let mut drift = Drift::template(Distance::JensenShannon { bins: 3 }).one();
        drift.update(&[Column::Texts(&["a", "b", "a"]), Column::Numbers(&[0.0, 0.0, 0.0])]).unwrap();
        let mut result = Vec::new();
        drift.evaluate(&mut result).unwrap();
        drift.update(&[Column::Texts(&["c"]), Column::Numbers(&[1.0])]).unwrap();
        drift.evaluate(&mut result).unwrap();
        assert_eq!(result[0], Value::Null);
        assert!((number(&result[1]) - 2_f64.ln()).abs() < 1e-15, "nothing in common");
        let refused = drift.update(&[Column::Numbers(&[f64::NAN]), Column::Numbers(&[1.0])]).unwrap_err();
        assert_eq!((refused.argument, refused.allowed), ("value", "a finite number"));
    }
}
