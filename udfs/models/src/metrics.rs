//! Metrics: those that training watches, and the statistics behind the aggregates of SQL.

pub mod part;
pub mod statistic;

/// Mean log loss of probabilities against labels 0/1, in nats; probabilities are kept 1e-7 away from 0 and 1. NaN without rows.
pub(crate) fn log_loss(probabilities: &[f32], labels: &[f32]) -> f64 {
    const MARGIN: f64 = 1e-7;
    let sum: f64 = probabilities
        .iter()
        .zip(labels)
        .map(|(p, y)| {
            let p = f64::from(*p).clamp(MARGIN, 1.0 - MARGIN);
            if *y > 0.5 { -p.ln() } else { -(1.0 - p).ln() }
        })
        .sum();
    sum / labels.len() as f64
}

/// Mean squared error of numbers, each with its weight. NaN without rows.
pub(crate) fn squared_error(predictions: &[f32], numbers: &[f32], weights: &[f32]) -> f64 {
    let weight: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let error = |((p, y), w): ((&f32, &f32), &f32)| f64::from(*w) * (f64::from(*p) - f64::from(*y)).powi(2);
    predictions.iter().zip(numbers).zip(weights).map(error).sum::<f64>() / weight
}

/// Area under the ROC curve, exact, equal scores counted half; `None` unless both classes are present.
pub(crate) fn auc(scores: &[f32], labels: &[f32]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut below, mut wins, mut positives) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let hits = tied.iter().filter(|row| labels[**row] > 0.5).count() as f64;
        let misses = tied.len() as f64 - hits;
        wins += hits * (below + misses / 2.0);
        below += misses;
        positives += hits;
    }
    (positives > 0.0 && below > 0.0).then(|| wins / (positives * below))
}

/// Expected calibration error: the mean distance of prediction and outcome over 15 bins of equal width (Guo et al. 2017). NaN without rows.
pub(crate) fn calibration_error(probabilities: &[f32], labels: &[f32]) -> f64 {
    const BINS: usize = 15;
    let mut bins = [(0.0, 0.0); BINS];
    for (p, y) in probabilities.iter().zip(labels) {
        let (predicted, actual) = &mut bins[((f64::from(*p) * BINS as f64) as usize).min(BINS - 1)];
        *predicted += f64::from(*p);
        *actual += f64::from(*y);
    }
    bins.iter().map(|(predicted, actual): &(f64, f64)| (predicted - actual).abs()).sum::<f64>() / labels.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_ties_half_and_needs_both_classes() {
        // Pairs (positive, negative): 0.8 beats 0.5 and 0.2, 0.5 ties with 0.5 and beats 0.2.
        assert_eq!(auc(&[0.8, 0.5, 0.5, 0.2], &[1.0, 1.0, 0.0, 0.0]), Some(3.5 / 4.0));
        assert_eq!(auc(&[0.3; 4], &[1.0, 0.0, 0.0, 0.0]), Some(0.5));
        assert_eq!(auc(&[0.3, 0.1], &[0.0, 0.0]), None);
        assert_eq!(auc(&[], &[]), None);
    }

    #[test]
    fn calibration_error_is_the_mean_gap_of_the_bins() {
        // One bin predicts 0.1 twice with one click, one predicts 0.9 with one click.
        let gap = (0.2 - 1.0_f64).abs() + (0.9 - 1.0_f64).abs();
        assert!((calibration_error(&[0.1, 0.1, 0.9], &[1.0, 0.0, 1.0]) - gap / 3.0).abs() < 1e-6);
        assert_eq!(calibration_error(&[1.0, 0.0], &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn log_loss_of_a_sure_mistake_is_finite() {
        let expected = -(0.25f64.ln() + 0.75f64.ln()) / 2.0;
        assert!((log_loss(&[0.25, 0.25], &[1.0, 0.0]) - expected).abs() < 1e-12);
        assert!(log_loss(&[0.0], &[1.0]) < 17.0);
    }
}
