//! What is above each score: ROC curves, precision-recall curves and cumulative gains, all from one ranking of the rows.

use super::statistic::Invalid;

/// Rows with labels and scores, in any order: 24 bytes each.
#[derive(Debug, Default)]
pub struct Ranking {
    rows: Vec<Step>,
}

/// The weight of the rows of one score; in a [`Ranked`] of all rows down to it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    score: f64,
    positives: f64,
    negatives: f64,
}

/// A point of a ROC curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roc {
    /// Rows from this score on are called positive; infinite for none.
    pub threshold: f64,
    /// The share of the negative rows among them; NaN without negative rows.
    pub false_positive_rate: f64,
    /// The share of the positive rows among them; NaN without positive rows.
    pub true_positive_rate: f64,
}

/// A point of a precision-recall curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrecisionRecall {
    /// Rows from this score on are called positive; infinite for none.
    pub threshold: f64,
    /// The share of positive rows among them; 1 for no rows.
    pub precision: f64,
    /// The share of the positive rows that is among them; NaN without positive rows.
    pub recall: f64,
}

/// A point of cumulative gains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// The share of all rows, those with the highest scores.
    pub rows: f64,
    /// The score down to which they go.
    pub threshold: f64,
    /// The share of the positive rows among them, equal scores in random order; NaN without positive rows.
    pub positives: f64,
    /// How many times as many positive rows as in a random choice; NaN without positive rows.
    pub lift: f64,
}

impl Ranking {
    /// Adds rows. `weights` may be empty: every row counts once.
    ///
    /// # Errors
    /// The first label that is not 0 or 1, score that is NaN, or weight that is negative or not finite.
    pub fn add(&mut self, labels: &[f64], scores: &[f64], weights: &[f64]) -> Result<(), Invalid> {
        self.rows.reserve(labels.len());
        for (row, (&label, &score)) in labels.iter().zip(scores).enumerate() {
            let weight = weights.get(row).copied().unwrap_or(1.0);
            if label != 0.0 && label != 1.0 {
                return Err(Invalid::new("label", label, "0 or 1"));
            }
            if score.is_nan() {
                return Err(Invalid::new("score", score, "a number"));
            }
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Invalid::new("weight", weight, "a number from 0"));
            }
            if weight > 0.0 {
                // Adding zero makes -0 the same as 0, for ties.
                self.rows.push(Step { score: score + 0.0, positives: weight * label, negatives: weight * (1.0 - label) });
            }
        }
        Ok(())
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
    }

    /// Bytes on the heap.
    pub fn heap(&self) -> usize {
        self.rows.capacity() * size_of::<Step>()
    }

    /// Sorts the rows by falling score. Takes O(n log n) and no further memory.
    pub fn rank(self) -> Ranked {
        let mut steps = self.rows;
        // Equal scores have an order too, so that sums do not depend on the order of the rows.
        let order = |a: &Step, b: &Step| {
            b.score.total_cmp(&a.score).then(b.positives.total_cmp(&a.positives)).then(b.negatives.total_cmp(&a.negatives))
        };
        steps.sort_unstable_by(order);
        let (mut positives, mut negatives) = (0.0, 0.0);
        for step in &mut steps {
            positives += step.positives;
            negatives += step.negatives;
            (step.positives, step.negatives) = (positives, negatives);
        }
        // Of equal scores the last one has seen them all.
        let mut kept = 0;
        for row in 0..steps.len() {
            if row + 1 == steps.len() || steps[row].score != steps[row + 1].score {
                steps[kept] = steps[row];
                kept += 1;
            }
        }
        steps.truncate(kept);
        Ranked { steps }
    }
}

/// The weights above each distinct score, the highest score first.
#[derive(Debug)]
pub struct Ranked {
    steps: Vec<Step>,
}

impl Ranked {
    /// The weight of the positive and of the negative rows.
    fn total(&self) -> (f64, f64) {
        self.steps.last().map_or((0.0, 0.0), |last| (last.positives, last.negatives))
    }

    /// The ROC curve from (0, 0) to (1, 1): scikit-learn's `roc_curve`, which leaves out points on a straight line between their neighbours. With
    /// `points`, at most so many (2 or more), evenly along the curve. Empty without rows.
    pub fn roc(&self, points: Option<usize>) -> Vec<Roc> {
        let (positives, negatives) = self.total();
        let steps = &self.steps;
        let bend = |row: usize| {
            let [before, here, after] = [steps[row - 1], steps[row], steps[row + 1]];
            let second = |of: fn(&Step) -> f64| (of(&after) - of(&here)) - (of(&here) - of(&before)) != 0.0;
            second(|step| step.negatives) || second(|step| step.positives)
        };
        let corners = (0..steps.len()).filter(|&row| row == 0 || row + 1 == steps.len() || bend(row)).map(|row| steps[row]);
        let curve = self.start().into_iter().chain(corners).collect::<Vec<_>>();
        let along = |step: &Step| share(step.positives, positives).max(0.0) + share(step.negatives, negatives).max(0.0);
        let point = |step: Step| Roc {
            threshold: step.score,
            false_positive_rate: share(step.negatives, negatives),
            true_positive_rate: share(step.positives, positives),
        };
        thinned(curve, points, along).into_iter().map(point).collect()
    }

    /// The precision-recall curve from recall 0 to recall 1: scikit-learn's `precision_recall_curve` with `drop_intermediate`, the other way
    /// round. With `points`, at most so many (2 or more), evenly by recall. Empty without rows.
    pub fn precision_recall(&self, points: Option<usize>) -> Vec<PrecisionRecall> {
        let (positives, _) = self.total();
        let steps = &self.steps;
        let moves = |row: usize| steps[row].positives != steps[row - 1].positives || steps[row].positives != steps[row + 1].positives;
        let corners = (0..steps.len()).filter(|&row| row == 0 || row + 1 == steps.len() || moves(row)).map(|row| steps[row]);
        let curve = self.start().into_iter().chain(corners).collect::<Vec<_>>();
        let point = |step: Step| PrecisionRecall {
            threshold: step.score,
            precision: if step.score == f64::INFINITY && step.positives == 0.0 && step.negatives == 0.0 {
                1.0
            } else {
                step.positives / (step.positives + step.negatives)
            },
            recall: share(step.positives, positives),
        };
        thinned(curve, points, |step| share(step.positives, positives).max(0.0)).into_iter().map(point).collect()
    }

    /// Cumulative gains at 1/points, 2/points ... of the rows. Empty without rows.
    pub fn gains(&self, points: usize) -> Vec<Gain> {
        let (positives, negatives) = self.total();
        let all = positives + negatives;
        if all == 0.0 {
            return vec![];
        }
        let mut row = 0;
        let gain = |point: usize| {
            let rows = point as f64 / points as f64;
            let wanted = point as f64 * all / points as f64;
            while row + 1 < self.steps.len() && self.steps[row].positives + self.steps[row].negatives < wanted {
                row += 1;
            }
            let here = self.steps[row];
            let before =
                row.checked_sub(1).map_or(Step { score: f64::INFINITY, positives: 0.0, negatives: 0.0 }, |before| self.steps[before]);
            // Rows of one score are in random order, so their positives grow evenly.
            let (from, to) = (before.positives + before.negatives, here.positives + here.negatives);
            let part = ((wanted - from) / (to - from)).clamp(0.0, 1.0);
            let found = share(before.positives + part * (here.positives - before.positives), positives);
            Gain { rows, threshold: here.score, positives: found, lift: found / rows }
        };
        (1..=points).map(gain).collect()
    }

    /// The area under the ROC curve, equal scores counted half; none unless both classes are there.
    pub fn auc(&self) -> Option<f64> {
        let (positives, negatives) = self.total();
        let (mut wins, mut before) = (0.0, (0.0, 0.0));
        for step in &self.steps {
            wins += (step.negatives - before.1) * (before.0 + step.positives) / 2.0;
            before = (step.positives, step.negatives);
        }
        (positives > 0.0 && negatives > 0.0).then(|| wins / (positives * negatives))
    }

    /// The distinct scores, the lowest first, each with the weight of its rows and of the positive ones among them.
    pub(super) fn scores(&self) -> impl DoubleEndedIterator<Item = (f64, f64, f64)> + '_ {
        let own = |row: usize| {
            let here = self.steps[row];
            let before = row.checked_sub(1).map_or((0.0, 0.0), |before| (self.steps[before].positives, self.steps[before].negatives));
            let (positives, negatives) = (here.positives - before.0, here.negatives - before.1);
            (here.score, positives + negatives, positives)
        };
        (0..self.steps.len()).rev().map(own)
    }

    /// The weight of all rows.
    pub(super) fn weight(&self) -> f64 {
        let (positives, negatives) = self.total();
        positives + negatives
    }

    /// The score of the row at this place, counted from the lowest, in a ranking without weights.
    pub(super) fn at(&self, place: usize) -> f64 {
        let above = self.weight() - place as f64;
        let row = self.steps.partition_point(|step| step.positives + step.negatives < above);
        self.steps.get(row).or(self.steps.last()).map_or(f64::NAN, |step| step.score)
    }

    /// The point above all scores.
    fn start(&self) -> Option<Step> {
        self.steps.first().map(|_| Step { score: f64::INFINITY, positives: 0.0, negatives: 0.0 })
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { f64::NAN }
}

/// At most so many points of a curve: the first, the last, and those next to evenly spaced places. `along` does not fall along the curve.
fn thinned(mut curve: Vec<Step>, points: Option<usize>, along: impl Fn(&Step) -> f64) -> Vec<Step> {
    let (Some(points), Some(&last)) = (points.filter(|points| *points < curve.len()), curve.last()) else { return curve };
    let (length, cells) = (along(&last), points.saturating_sub(1).max(1));
    let mut cell: Option<usize> = None;
    curve.retain(|step| {
        let own = if length > 0.0 { (along(step) / length * cells as f64) as usize } else { 0 };
        let new = cell.is_none_or(|cell| own > cell);
        cell = Some(own);
        new
    });
    if curve.last() != Some(&last) {
        if curve.len() >= points.max(2) {
            curve.pop();
        }
        curve.push(last);
    }
    curve
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    fn ranked(labels: &[f64], scores: &[f64], weights: &[f64]) -> Ranked {
        let mut ranking = Ranking::default();
        ranking.add(labels, scores, weights).unwrap();
        ranking.rank()
    }

    #[test]
    fn a_curve_of_few_rows_is_what_one_draws_by_hand() {
        let ranked = ranked(&[0.0, 0.0, 1.0, 1.0], &[0.1, 0.4, 0.35, 0.8], &[]);
        let roc: Vec<_> = ranked.roc(None).iter().map(|p| (p.threshold, p.false_positive_rate, p.true_positive_rate)).collect();
        assert_eq!(roc, [(f64::INFINITY, 0.0, 0.0), (0.8, 0.0, 0.5), (0.4, 0.5, 0.5), (0.35, 0.5, 1.0), (0.1, 1.0, 1.0)]);
        let pr: Vec<_> = ranked.precision_recall(None).iter().map(|p| (p.threshold, p.precision, p.recall)).collect();
        assert_eq!(pr, [(f64::INFINITY, 1.0, 0.0), (0.8, 1.0, 0.5), (0.4, 0.5, 0.5), (0.35, 2.0 / 3.0, 1.0), (0.1, 0.5, 1.0)]);
    }

    #[test]
    fn gains_share_equal_scores_evenly() {
        // The upper three rows have one score and two positives: a third of them holds a third of the positives.
        let gains = ranked(&[1.0, 1.0, 0.0, 0.0, 1.0, 0.0], &[0.9, 0.9, 0.9, 0.5, 0.4, 0.1], &[]).gains(6);
        let positives: Vec<_> = gains.iter().map(|gain| (gain.positives * 9.0).round()).collect();
        assert_eq!(positives, [2.0, 4.0, 6.0, 6.0, 9.0, 9.0]);
        assert!((gains[0].lift - 4.0 / 3.0).abs() < 1e-12 && (gains[5].lift - 1.0).abs() < 1e-12);
        assert_eq!(gains.iter().map(|gain| gain.threshold).collect::<Vec<_>>(), [0.9, 0.9, 0.9, 0.5, 0.4, 0.1]);
    }

    #[test]
    fn the_area_under_a_thinned_curve_stays() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let scores: Vec<f64> = (0..20_000).map(|_| rng.random()).collect();
        let labels: Vec<f64> = scores.iter().map(|score| f64::from(u8::from(rng.random::<f64>() < *score))).collect();
        let ranked = ranked(&labels, &scores, &[]);
        let area = |points| {
            let curve = ranked.roc(points);
            let strip = |pair: &[Roc]| {
                (pair[1].false_positive_rate - pair[0].false_positive_rate) * (pair[1].true_positive_rate + pair[0].true_positive_rate)
                    / 2.0
            };
            (curve.len(), curve.windows(2).map(strip).sum::<f64>())
        };
        let ((_, whole), (few, thin)) = (area(None), area(Some(100)));
        assert!(few <= 100 && few > 60, "{few}");
        assert!((whole - thin).abs() < 1e-3, "{whole} {thin}");
        for points in [2, 3, 7] {
            let (roc, pr) = (ranked.roc(Some(points)), ranked.precision_recall(Some(points)));
            assert!(roc.len() <= points && pr.len() <= points, "{points}: {} {}", roc.len(), pr.len());
            assert_eq!(roc.last().unwrap().true_positive_rate, 1.0);
            assert_eq!(pr.last().unwrap().recall, 1.0);
        }
    }

    #[test]
    fn one_class_or_no_rows_have_no_rates() {
        let ranked = ranked(&[0.0, 0.0], &[0.2, 0.1], &[]);
        assert!(ranked.roc(None).iter().all(|point| point.true_positive_rate.is_nan() && !point.false_positive_rate.is_nan()));
        assert!(ranked.precision_recall(None).iter().all(|point| point.recall.is_nan()));
        assert!(ranked.gains(2).iter().all(|gain| gain.lift.is_nan()));
        let none = Ranking::default().rank();
        assert!(none.roc(Some(5)).is_empty() && none.precision_recall(None).is_empty() && none.gains(3).is_empty());
    }

    #[test]
    fn rows_without_weight_do_not_count_and_what_is_no_label_is_named() {
        let heavy = ranked(&[1.0, 0.0, 1.0, 0.0], &[0.9, 0.8, 0.7, 0.6], &[2.0, 0.0, 1.0, 4.0]);
        let same = ranked(&[1.0, 1.0, 1.0, 0.0], &[0.9, 0.9, 0.7, 0.6], &[1.0, 1.0, 1.0, 4.0]);
        assert_eq!(heavy.roc(None), same.roc(None));
        let invalid = Ranking::default().add(&[2.0], &[0.1], &[]).unwrap_err();
        assert_eq!((invalid.argument, invalid.value.as_str()), ("label", "2"));
        assert!(Ranking::default().add(&[1.0], &[f64::NAN], &[]).is_err());
        assert!(Ranking::default().add(&[1.0], &[0.5], &[-1.0]).is_err());
    }
}
