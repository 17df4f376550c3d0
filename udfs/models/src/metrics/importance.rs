//! Permutation importance (Breiman 2001): how much worse a model gets when a column says nothing.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::curves::Ranking;
use super::ratio;
use super::statistic::Invalid;

/// How good probabilities are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// The area under the ROC curve; none unless both classes are there.
    pub auc: Option<f64>,
    /// The mean log loss, probabilities kept 2.2e-16 away from 0 and 1; NaN without rows.
    pub logloss: f64,
}

impl Quality {
    /// Of the probabilities of weighted rows. A probability that is NaN does not count.
    ///
    /// # Errors
    /// The first label that is not 0 or 1, or weight that is negative or not finite.
    pub fn of(labels: &[f64], probabilities: &[f64], weights: &[f64]) -> Result<Self, Invalid> {
        let known = |row: &usize| !probabilities[*row].is_nan();
        let pick = |of: &[f64]| (0..labels.len()).filter(known).map(|row| of[row]).collect::<Vec<_>>();
        let (labels, probabilities, weights) = (pick(labels), pick(probabilities), pick(weights));
        let mut ranking = Ranking::default();
        ranking.add(&labels, &probabilities, &weights)?;
        let loss = |p: f64, label: f64| ratio::log_loss(label == 1.0, p, f64::EPSILON);
        let losses = labels.iter().zip(&probabilities).zip(&weights).map(|((label, p), weight)| weight * loss(*p, *label));
        Ok(Self { logloss: losses.sum::<f64>() / weights.iter().sum::<f64>(), auc: ranking.rank().auc() })
    }
}

/// An order of rows: a permutation that depends on the seed only.
pub fn order(rows: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows as u32).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order
}

/// The mean, and its standard error; NaN for the error of a single value.
pub fn mean(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0) / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_as_many_rows() {
        let (labels, p) = ([1.0, 0.0, 0.0, 1.0], [0.8, 0.8, 0.1, f64::NAN]);
        let weighted = Quality::of(&labels, &p, &[2.0, 1.0, 1.0, 1.0]).unwrap();
        let repeated = Quality::of(&[1.0, 1.0, 0.0, 0.0], &[0.8, 0.8, 0.8, 0.1], &[1.0; 4]).unwrap();
        assert_eq!(weighted, repeated);
        assert_eq!(weighted.auc, Some(0.75));
        assert_eq!(Quality::of(&[1.0], &[0.5], &[1.0]).unwrap(), Quality { auc: None, logloss: std::f64::consts::LN_2 });
    }

    #[test]
    fn the_same_seed_gives_the_same_order_of_all_rows() {
        let order = |seed| super::order(1000, seed);
        assert_eq!(order(3), order(3));
        assert_ne!(order(3), order(4));
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        assert_eq!(mean(&[1.0, 2.0, 3.0]), (2.0, (1.0_f64 / 3.0).sqrt()));
    }
}
