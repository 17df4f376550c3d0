//! Two metrics that training watches.

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
    fn log_loss_of_a_sure_mistake_is_finite() {
        let expected = -(0.25f64.ln() + 0.75f64.ln()) / 2.0;
        assert!((log_loss(&[0.25, 0.25], &[1.0, 0.0]) - expected).abs() < 1e-12);
        assert!(log_loss(&[0.0], &[1.0]) < 17.0);
    }
}
