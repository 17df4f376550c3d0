//! From logits to probabilities that are right on the held-out rows.

use serde::{Deserialize, Serialize};

use super::options::Calibrate;
use crate::net::Output;

/// Held-out rows of each class without which nothing is fitted: fewer say more about chance than about the net.
const ENOUGH: usize = 30;

/// From the logit of a net to a probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The logit is multiplied by this ...
    pub scale: f32,
    /// ... and then this is added.
    pub shift: f32,
    /// Then a monotone function maps it to the probability: points (logit, probability), with straight lines between.
    pub steps: Vec<(f32, f32)>,
}

impl Calibration {
    /// No correction but `shift`.
    pub(crate) fn shifted(shift: f32) -> Self {
        Self { scale: 1.0, shift, steps: Vec::new() }
    }

    /// The probability for a logit, within 0 to 1.
    pub fn probability(&self, logit: f32) -> f32 {
        let logit = logit * self.scale + self.shift;
        if self.steps.is_empty() {
            return 1.0 / (1.0 + (-logit).exp());
        }
        let after = self.steps.partition_point(|(at, _)| *at <= logit);
        match (after.checked_sub(1).map(|before| self.steps[before]), self.steps.get(after)) {
            (Some((left, low)), Some((right, high))) => low + (high - low) * (logit - left) / (right - left),
            (Some((_, last)), None) => last,
            (None, Some((_, first))) => *first,
            (None, None) => f32::NAN,
        }
    }

    /// What a net's output stands for: the probability for a logit, or the number for a standardised one.
    pub(crate) fn value(&self, output: Output, logit: f32) -> f32 {
        match output {
            Output::Probability => self.probability(logit),
            Output::Number => logit * self.scale + self.shift,
        }
    }

    /// Fits the correction to held-out rows. `shift` undoes what the training did to the classes.
    pub(super) fn fit(how: Calibrate, logits: &[f32], labels: &[f32], shift: f32) -> Self {
        let positives = labels.iter().filter(|label| **label > 0.5).count();
        let enough = positives >= ENOUGH && labels.len() - positives >= ENOUGH;
        let plain = Self::shifted(shift);
        match how {
            _ if !enough => plain,
            Calibrate::None => plain,
            Calibrate::Temperature => {
                let corrected: Vec<f32> = logits.iter().map(|logit| logit + shift).collect();
                let scale = temperature(&corrected, labels);
                Self { scale, shift: shift * scale, steps: Vec::new() }
            }
            Calibrate::Isotonic => {
                let corrected: Vec<f32> = logits.iter().map(|logit| logit + shift).collect();
                Self { steps: isotonic(&corrected, labels), ..plain }
            }
        }
    }
}

/// The factor that gives the logits the lowest log loss, within 0.2 to 5, by bisection on the slope, which rises.
fn temperature(logits: &[f32], labels: &[f32]) -> f32 {
    let slope = |scale: f64| -> f64 {
        let term = |(logit, label): (&f32, &f32)| {
            let logit = f64::from(*logit);
            (1.0 / (1.0 + (-scale * logit).exp()) - f64::from(*label)) * logit
        };
        logits.iter().zip(labels).map(term).sum()
    };
    let (mut low, mut high) = (0.2, 5.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high) as f32
}

/// Pool adjacent violators (Ayer et al. 1955): the monotone function of the logits with the least squared error.
/// A block of equal values gives its first and last logit.
fn isotonic(logits: &[f32], labels: &[f32]) -> Vec<(f32, f32)> {
    struct Pool {
        first: f32,
        last: f32,
        sum: f64,
        count: f64,
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    let mut pools: Vec<Pool> = Vec::new();
    for rows in order.chunk_by(|a, b| logits[*a] == logits[*b]) {
        let logit = logits[rows[0]];
        let sum = rows.iter().map(|row| f64::from(labels[*row])).sum();
        pools.push(Pool { first: logit, last: logit, sum, count: rows.len() as f64 });
        while let [.., before, last] = pools.as_slice()
            && before.sum * last.count >= last.sum * before.count
        {
            let (sum, count, to) = (last.sum, last.count, last.last);
            pools.pop();
            if let Some(pool) = pools.last_mut() {
                (pool.sum, pool.count, pool.last) = (pool.sum + sum, pool.count + count, to);
            }
        }
    }
    // Half a row of the other class keeps the ends from being sure.
    let rate = |pool: &Pool| (pool.sum / pool.count).clamp(0.5 / (pool.count + 1.0), 1.0 - 0.5 / (pool.count + 1.0)) as f32;
    let mut steps = Vec::new();
    for pool in &pools {
        steps.push((pool.first, rate(pool)));
        if pool.last > pool.first {
            steps.push((pool.last, rate(pool)));
        }
    }
    // Clipping may have bent the ends.
    let mut highest = 0.0_f32;
    for (_, value) in &mut steps {
        highest = highest.max(*value);
        *value = highest;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(true_scale: f32) -> (Vec<f32>, Vec<f32>) {
        let mut logits = Vec::new();
        let mut labels = Vec::new();
        for bin in -20..=20 {
            let logit = bin as f32 / 5.0;
            let rate = 1.0 / (1.0 + (-true_scale * logit).exp());
            for row in 0..200 {
                logits.push(logit);
                labels.push(f32::from(u8::from((row as f32 + 0.5) / 200.0 < rate)));
            }
        }
        (logits, labels)
    }

    #[test]
    fn the_temperature_of_rows_that_are_too_sure_is_found() {
        let (logits, labels) = rows(0.5);
        let fitted = Calibration::fit(Calibrate::Temperature, &logits, &labels, 0.0);
        assert!((fitted.scale - 0.5).abs() < 0.01, "{fitted:?}");
        assert!((fitted.probability(2.0) - 1.0 / (1.0 + (-1.0f32).exp())).abs() < 0.01);
    }

    #[test]
    fn an_isotonic_map_is_monotone_and_near_the_rates() {
        let (logits, labels) = rows(2.0);
        let fitted = Calibration::fit(Calibrate::Isotonic, &logits, &labels, 0.0);
        let values: Vec<f32> = (-100..=100).map(|n| fitted.probability(n as f32 / 20.0)).collect();
        assert!(values.is_sorted() && values[0] > 0.0 && values[200] < 1.0, "{values:?}");
        assert!((fitted.probability(0.4) - 1.0 / (1.0 + (-0.8f32).exp())).abs() < 0.02);
    }

    #[test]
    fn a_pool_of_violators_takes_its_mean() {
        // Scores 1, 2, 3, 4 with labels 0, 1, 0, 1: the middle two are pooled at one half.
        let steps = isotonic(&[1.0, 2.0, 3.0, 4.0], &[0.0, 1.0, 0.0, 1.0]);
        assert_eq!(steps.iter().map(|s| s.0).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);
        assert!((steps[1].1 - 0.5).abs() < 1e-6 && steps[1].1 == steps[2].1, "{steps:?}");
    }

    #[test]
    fn a_handful_of_positives_fits_nothing() {
        let logits = vec![0.0; 100];
        let labels: Vec<f32> = (0..100).map(|row| f32::from(u8::from(row < 5))).collect();
        assert_eq!(Calibration::fit(Calibrate::Temperature, &logits, &labels, 0.7), Calibration::shifted(0.7));
    }
}
