//! Two models on the same rows: is the difference more than chance?

use super::distributions::normal_tails;
use super::interval::{self, Interval};
use super::ratio;
use super::statistic::Invalid;

/// Rows with a label and the probabilities of two models: 16 bytes each.
#[derive(Debug, Default)]
pub struct Pairs {
    positives: Vec<[f64; 2]>,
    negatives: Vec<[f64; 2]>,
}

/// One metric of both models, and their difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The metric of the first model.
    pub a: f64,
    /// The metric of the second model.
    pub b: f64,
    /// The standard error of `a - b`; none where it cannot be told from so few rows.
    pub error: Option<f64>,
}

impl Difference {
    /// The first minus the second.
    pub fn difference(&self) -> f64 {
        self.a - self.b
    }

    /// The 95 % interval of the difference.
    pub fn interval(&self) -> Option<Interval> {
        self.error.map(|error| interval::normal(self.difference(), error * error, 0.95))
    }

    /// The two-sided probability of a difference like this, or a larger one, between models that are equally good.
    pub fn p_value(&self) -> Option<f64> {
        let error = self.error?;
        // Two models that give every row the same do not differ at all.
        Some(if self.difference() == 0.0 { 1.0 } else { normal_tails(self.difference() / error) })
    }
}

impl Pairs {
    /// Adds rows: labels and the probabilities of both models.
    ///
    /// # Errors
    /// The first label that is not 0 or 1, or probability that is not from 0 to 1.
    pub fn add(&mut self, labels: &[f64], a: &[f64], b: &[f64]) -> Result<(), Invalid> {
        for ((&label, &a), &b) in labels.iter().zip(a).zip(b) {
            for (argument, probability) in [("a", a), ("b", b)] {
                if !(0.0..=1.0).contains(&probability) {
                    return Err(Invalid::new(argument, probability, "from 0 to 1"));
                }
            }
            match label {
                1.0 => self.positives.push([a, b]),
                0.0 => self.negatives.push([a, b]),
                _ => return Err(Invalid::new("label", label, "0 or 1")),
            }
        }
        Ok(())
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, mut other: Self) {
        self.positives.append(&mut other.positives);
        self.negatives.append(&mut other.negatives);
    }

    /// Bytes on the heap; [`Pairs::auc`] takes as much again and half of it.
    pub fn heap(&self) -> usize {
        (self.positives.capacity() + self.negatives.capacity()) * size_of::<[f64; 2]>()
    }

    /// The rows.
    pub fn rows(&self) -> usize {
        self.positives.len() + self.negatives.len()
    }

    /// Puts the rows into one order, so that sums do not depend on how they arrived.
    pub fn sort(&mut self) {
        let order = |x: &[f64; 2], y: &[f64; 2]| x[0].total_cmp(&y[0]).then(x[1].total_cmp(&y[1]));
        self.positives.sort_unstable_by(order);
        self.negatives.sort_unstable_by(order);
    }

    /// The areas under the two ROC curves, with the standard error of their difference from the covariance of the two (DeLong, DeLong and
    /// Clarke-Pearson 1988), in O(n log n). None unless both classes are there.
    pub fn auc(&self) -> Option<Difference> {
        let (m, n) = (self.positives.len(), self.negatives.len());
        if m == 0 || n == 0 {
            return None;
        }
        let mut areas = [0.0; 2];
        // What each row contributes to the difference of the areas.
        let (mut of_positives, mut of_negatives) = (vec![0.0; m], vec![0.0; n]);
        for (model, area) in areas.iter_mut().enumerate() {
            let sign = if model == 0 { 1.0 } else { -1.0 };
            let sorted = |rows: &[[f64; 2]]| {
                let mut scores: Vec<f64> = rows.iter().map(|row| row[model]).collect();
                scores.sort_unstable_by(f64::total_cmp);
                scores
            };
            // The share of the sorted scores below a score, equal ones counted half.
            let below = |scores: &[f64], score: f64| {
                let (less, up_to) = (scores.partition_point(|s| *s < score), scores.partition_point(|s| *s <= score));
                (less + up_to) as f64 / (2.0 * scores.len() as f64)
            };
            let negatives = sorted(&self.negatives);
            for (row, part) in self.positives.iter().zip(&mut of_positives) {
                let beaten = below(&negatives, row[model]);
                *part += sign * beaten;
                *area += beaten;
            }
            *area /= m as f64;
            let positives = sorted(&self.positives);
            for (row, part) in self.negatives.iter().zip(&mut of_negatives) {
                *part += sign * (1.0 - below(&positives, row[model]));
            }
        }
        let error = Some(variance(&of_positives)? / m as f64 + variance(&of_negatives)? / n as f64);
        Some(Difference { a: areas[0], b: areas[1], error: error.map(f64::sqrt) })
    }

    /// The mean log losses, probabilities kept 2.2e-16 away from 0 and 1, with the standard error of their paired difference. None without rows.
    pub fn logloss(&self) -> Option<Difference> {
        self.mean(|p, positive| ratio::log_loss(positive, p, f64::EPSILON))
    }

    /// The mean squared errors (Brier 1950), with the standard error of their paired difference. None without rows.
    pub fn brier(&self) -> Option<Difference> {
        self.mean(|p, positive| (p - f64::from(u8::from(positive))).powi(2))
    }

    fn mean(&self, loss: impl Fn(f64, bool) -> f64) -> Option<Difference> {
        let rows = self.rows();
        if rows == 0 {
            return None;
        }
        let each = || self.positives.iter().map(|row| (row, true)).chain(self.negatives.iter().map(|row| (row, false)));
        let losses = || each().map(|([a, b], positive)| (loss(*a, positive), loss(*b, positive)));
        let (a, b) = losses().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        let (a, b) = (a / rows as f64, b / rows as f64);
        let squares: f64 = losses().map(|(x, y)| (x - y - (a - b)).powi(2)).sum();
        let error = (rows > 1).then(|| (squares / (rows - 1) as f64 / rows as f64).sqrt());
        Some(Difference { a, b, error })
    }
}

/// The sample variance.
fn variance(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Some(values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    fn pairs(labels: &[f64], a: &[f64], b: &[f64]) -> Pairs {
        let mut pairs = Pairs::default();
        pairs.add(labels, a, b).unwrap();
        pairs
    }

    /// The paper's formulas, pair by pair, in O(n²).
    fn by_definition(labels: &[f64], a: &[f64], b: &[f64]) -> (f64, f64, f64) {
        let of = |label: f64| (0..labels.len()).filter(|&row| labels[row] == label).collect::<Vec<_>>();
        let (positives, negatives) = (of(1.0), of(0.0));
        let (m, n) = (positives.len() as f64, negatives.len() as f64);
        let psi = |x: f64, y: f64| {
            if y < x {
                1.0
            } else if y == x {
                0.5
            } else {
                0.0
            }
        };
        let v10 = |s: &[f64]| positives.iter().map(|&i| negatives.iter().map(|&j| psi(s[i], s[j])).sum::<f64>() / n).collect::<Vec<_>>();
        let v01 = |s: &[f64]| negatives.iter().map(|&j| positives.iter().map(|&i| psi(s[i], s[j])).sum::<f64>() / m).collect::<Vec<_>>();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let covariance = |x: &[f64], y: &[f64]| {
            let (mx, my) = (mean(x), mean(y));
            x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / (x.len() - 1) as f64
        };
        let s = |x: &[f64], y: &[f64]| covariance(&v10(x), &v10(y)) / m + covariance(&v01(x), &v01(y)) / n;
        (mean(&v10(a)), mean(&v10(b)), s(a, a) + s(b, b) - 2.0 * s(a, b))
    }

    #[test]
    fn areas_and_their_error_are_those_of_the_definition() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(9);
        for (rows, levels) in [(12, 3), (60, 5), (150, 1000)] {
            let labels: Vec<f64> = (0..rows).map(|row| f64::from(u8::from(row % 3 == 0))).collect();
            let mut scores = || {
                labels
                    .iter()
                    .map(|label| f64::from(rng.random_range(0..levels)) / f64::from(levels) * (0.5 + label / 2.0))
                    .collect::<Vec<_>>()
            };
            let (a, b) = (scores(), scores());
            let (area_a, area_b, variance) = by_definition(&labels, &a, &b);
            let ours = pairs(&labels, &a, &b).auc().unwrap();
            assert!((ours.a - area_a).abs() < 1e-12 && (ours.b - area_b).abs() < 1e-12);
            assert!((ours.error.unwrap().powi(2) - variance).abs() < 1e-12, "{rows}: {ours:?} {variance}");
        }
    }

    #[test]
    fn equal_models_do_not_differ_and_too_few_rows_say_nothing() {
        let same = pairs(&[1.0, 0.0, 1.0, 0.0], &[0.9, 0.2, 0.6, 0.7], &[0.9, 0.2, 0.6, 0.7]);
        for difference in [same.auc(), same.logloss(), same.brier()] {
            let difference = difference.unwrap();
            assert_eq!((difference.p_value(), difference.interval()), (Some(1.0), Some(Interval { low: 0.0, high: 0.0 })));
        }
        assert_eq!(pairs(&[1.0, 0.0, 0.0], &[0.9, 0.2, 0.1], &[0.1, 0.2, 0.3]).auc(), None);
        assert_eq!(pairs(&[1.0], &[0.9], &[0.8]).auc(), None);
        assert_eq!(pairs(&[1.0], &[0.9], &[0.8]).logloss().unwrap().p_value(), None);
        assert!(Pairs::default().logloss().is_none());
    }

    #[test]
    fn paired_losses_are_the_paired_t_statistic() {
        let (labels, a, b) = ([1.0, 0.0, 1.0, 0.0], [0.8, 0.3, 0.6, 0.1], [0.7, 0.4, 0.9, 0.1]);
        let brier = pairs(&labels, &a, &b).brier().unwrap();
        let d: [f64; 4] = [0.04 - 0.09, 0.09 - 0.16, 0.16 - 0.01, 0.0];
        let mean = d.iter().sum::<f64>() / 4.0;
        let error = (d.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 3.0 / 4.0).sqrt();
        assert!((brier.difference() - mean).abs() < 1e-12 && (brier.error.unwrap() - error).abs() < 1e-12);
        assert!(Pairs::default().add(&[1.0], &[1.5], &[0.5]).is_err());
        assert!(Pairs::default().add(&[0.5], &[0.5], &[0.5]).is_err());
    }
}
