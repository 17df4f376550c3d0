//! Calibration curves (reliability diagrams): what was predicted and what happened, bin by bin.

use super::curves::Ranked;
use super::interval::{Interval, wilson};

/// How probabilities are put into bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Bins of one width.
    Uniform,
    /// Bins with the same number of rows, as far as equal probabilities allow.
    Quantile,
}

/// A bin with rows in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// The place of the bin, from 1.
    pub bin: usize,
    /// Its rows.
    pub rows: u64,
    /// Their mean probability.
    pub predicted: f64,
    /// The share of positive rows among them.
    pub observed: f64,
    /// The lower end of the 95 % interval of that share (Wilson 1927).
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The bins with rows of a ranking of probabilities without weights: those of scikit-learn's `calibration_curve`.
pub fn reliability(ranked: &Ranked, bins: usize, strategy: Strategy) -> Vec<Bin> {
    let edges = edges(ranked, bins, strategy);
    let mut found: Vec<Bin> = Vec::new();
    let (mut rows, mut positives, mut sum, mut place) = (0.0, 0.0, 0.0, 0);
    let mut close = |place: usize, rows: f64, positives: f64, sum: f64| {
        if rows > 0.0 {
            let Interval { low, high } = wilson(positives, rows, 0.95);
            found.push(Bin { bin: place + 1, rows: rows as u64, predicted: sum / rows, observed: positives / rows, low, high });
        }
    };
    for (score, own_rows, own_positives) in ranked.scores() {
        let own = edges.partition_point(|edge| *edge < score);
        if own != place {
            close(place, rows, positives, sum);
            (rows, positives, sum, place) = (0.0, 0.0, 0.0, own);
        }
        rows += own_rows;
        positives += own_positives;
        sum += score * own_rows;
    }
    close(place, rows, positives, sum);
    found
}

/// The inner edges of the bins, with NumPy's rounding, so that a probability on an edge falls into the same bin as there.
fn edges(ranked: &Ranked, bins: usize, strategy: Strategy) -> Vec<f64> {
    let step = 1.0 / bins as f64;
    let even = (1..bins).map(|edge| edge as f64 * step);
    match strategy {
        Strategy::Uniform => even.collect(),
        Strategy::Quantile => even.map(|share| percentile(ranked, share * 100.0)).collect(),
    }
}

/// NumPy's `percentile`: linear between the two rows around it (Hyndman and Fan 1996, type 7).
fn percentile(ranked: &Ranked, percent: f64) -> f64 {
    let rows = ranked.weight();
    if rows < 1.0 {
        return f64::NAN;
    }
    let place = percent / 100.0 * (rows - 1.0);
    let (below, part) = (place.floor(), place - place.floor());
    let (low, high) = (ranked.at(below as usize), ranked.at((below as usize + 1).min(rows as usize - 1)));
    let width = high - low;
    if part >= 0.5 { high - width * (1.0 - part) } else { low + width * part }
}

#[cfg(test)]
mod tests {
    use super::super::curves::Ranking;
    use super::*;

    fn bins(labels: &[f64], scores: &[f64], bins: usize, strategy: Strategy) -> Vec<Bin> {
        let mut ranking = Ranking::default();
        ranking.add(labels, scores, &[]).unwrap();
        reliability(&ranking.rank(), bins, strategy)
    }

    #[test]
    fn empty_bins_are_left_out_and_an_edge_belongs_below() {
        let found = bins(&[0.0, 1.0, 1.0, 1.0], &[0.2, 0.5, 0.5, 1.0], 4, Strategy::Uniform);
        let shown: Vec<_> = found.iter().map(|bin| (bin.bin, bin.rows, bin.predicted, bin.observed)).collect();
        assert_eq!(shown, [(1, 1, 0.2, 0.0), (2, 2, 0.5, 1.0), (4, 1, 1.0, 1.0)]);
        assert!(bins(&[], &[], 10, Strategy::Quantile).is_empty());
        assert_eq!(bins(&[1.0], &[0.3], 10, Strategy::Quantile).len(), 1);
    }

    #[test]
    fn quantile_bins_hold_the_same_number_of_rows() {
        let scores: Vec<f64> = (0..1000).map(|row| f64::from((row * 7919) % 1000) / 1000.0).collect();
        let labels = vec![0.0; 1000];
        let found = bins(&labels, &scores, 8, Strategy::Quantile);
        assert_eq!(found.len(), 8);
        assert!(found.iter().all(|bin| bin.rows.abs_diff(125) <= 1), "{found:?}");
    }
}
