//! Metrics: those that training watches, and the statistics behind the aggregates of SQL.

pub mod approx_auc;
pub mod auc;
pub mod calibration;
mod check;
pub mod classification;
pub mod confusion;
pub mod curve;
pub mod curves;
pub mod distributions;
pub mod drift;
pub mod experiment;
pub mod gauc;
mod grouped;
pub mod groups;
pub mod importance;
pub mod interval;
mod moments;
pub mod paired;
pub mod part;
pub mod policy;
pub mod ranking;
pub mod ratio;
pub mod reliability;
pub mod scores;
mod sort;
pub mod statistic;
pub mod sum;
pub mod threshold;
pub mod uplift;

use scores::Scores;
use statistic::Column;
use uplift::{Curve, Definition, Uplift};

/// Mean log loss of probabilities against labels 0/1, in nats; probabilities are kept 1e-7 away from 0 and 1. NaN without rows.
pub(crate) fn log_loss(probabilities: &[f32], labels: &[f32]) -> f64 {
    let loss = |(p, y): (&f32, &f32)| ratio::log_loss(*y > 0.5, f64::from(*p), 1e-7);
    probabilities.iter().zip(labels).map(loss).sum::<f64>() / labels.len() as f64
}

/// Softmax: the shares that the logits of classes stand for, in place.
pub(crate) fn softmax(logits: &mut [f32]) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|logit| *logit = (*logit - highest).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|share| *share /= sum);
}

/// Mean log loss of the softmax of logits, rows x classes, against labels of which one in a row is 1. Rows of a class count
/// as much as `balance` says, all the same where it is empty. NaN without rows.
pub(crate) fn class_log_loss(logits: &[f32], labels: &[f32], classes: usize, balance: &[f32]) -> f64 {
    let (mut sum, mut whole) = (0.0, 0.0);
    for (logits, labels) in logits.chunks_exact(classes.max(1)).zip(labels.chunks_exact(classes.max(1))) {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let all: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
        let class = labels.iter().position(|label| *label > 0.5);
        let own = class.map_or(f64::NAN, |class| f64::from(logits[class] - highest));
        let weight = class.and_then(|class| balance.get(class)).map_or(1.0, |weight| f64::from(*weight));
        sum += weight * (all.ln() - own);
        whole += weight;
    }
    sum / whole
}

/// Mean log loss of labels in {0, 1} that do not exclude one another, from their logits; NaN without any.
pub(crate) fn label_log_loss(logits: &[f32], labels: &[f32]) -> f64 {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let loss = |(logit, label): (&f32, &f32)| softplus(f64::from(*logit)) - f64::from(*logit) * f64::from(*label);
    logits.iter().zip(labels).map(loss).sum::<f64>() / labels.len() as f64
}

/// Mean squared error of numbers, each with its weight. NaN without rows.
pub(crate) fn squared_error(predictions: &[f32], numbers: &[f32], weights: &[f32]) -> f64 {
    let weight: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let error = |((p, y), w): ((&f32, &f32), &f32)| f64::from(*w) * (f64::from(*p) - f64::from(*y)).powi(2);
    predictions.iter().zip(numbers).zip(weights).map(error).sum::<f64>() / weight
}

/// Area under the ROC curve, exact, equal scores counted half; `None` unless both classes are present.
pub(crate) fn auc(scores: &[f32], labels: &[f32]) -> Option<f64> {
    let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score) + 0.0).collect();
    let labels: Vec<f64> = labels.iter().map(|label| f64::from(u8::from(*label > 0.5))).collect();
    let mut rows = Scores::default();
    // A model that has gone astray scores NaN, and then has no area.
    rows.update(Column::Numbers(&labels), Column::Numbers(&scores), Column::Absent).ok()?;
    auc::area(&mut rows)
}

/// The normalized Qini coefficient and area under the uplift curve of effects; `None` where there are not both arms, or a perfect order would
/// gain nothing. Outcomes are 0 or 1.
pub(crate) fn qini_and_auuc(effects: &[f32], outcomes: &[f32], treated: &[f32]) -> (Option<f64>, Option<f64>) {
    let [effects, outcomes, treated] =
        [effects, outcomes, treated].map(|values| values.iter().map(|value| f64::from(*value) + 0.0).collect::<Vec<f64>>());
    let mut rows = Uplift::default();
    // As for auc: NaN has no order.
    let columns = [Column::Numbers(&outcomes), Column::Numbers(&treated), Column::Numbers(&effects), Column::Absent];
    if rows.add(&columns).is_err() {
        return (None, None);
    }
    let mut area = |curve| rows.area(curve, Definition::Normalized);
    (area(Curve::Qini), area(Curve::Uplift))
}

/// Expected calibration error: the mean distance of prediction and outcome over 15 bins of equal width (Guo et al. 2017). NaN without rows.
pub(crate) fn calibration_error(probabilities: &[f32], labels: &[f32]) -> f64 {
    let rows = probabilities.iter().zip(labels).map(|(p, y)| (f64::from(*p), *y > 0.5));
    calibration::expected(15, rows).unwrap_or(f64::NAN)
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
