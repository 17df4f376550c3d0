//! `auc(label, score [, weight])`: the area under the ROC curve, exact, ties counted half.

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::metric::{self, Metric, Row};

/// The declaration of `auc`.
pub static DECLARATION: Function = Function {
    name: "auc",
    kind: Kind::Aggregate,
    parameters: &[
        Parameter::value("label", Type::Label, "The outcome: true or 1 for a positive row, false or 0 for a negative one."),
        Parameter::value("score", Type::Number, "The score to judge. Only its order matters."),
        Parameter::value("weight", Type::Number, "How much the row counts, from 0. Left out, every row counts once.").optional(),
    ],
    returns: Returns::Value(Type::Double),
    summary: "Area under the ROC curve: how often a positive row scores higher than a negative one",
    docs: "The probability that a random positive row has a higher score than a random negative row, ties counted half: 1 is a perfect order, \
           0.5 is chance. It is computed exactly from all rows (the Mann-Whitney statistic), not from a histogram, and equals scikit-learn's \
           `roc_auc_score`.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left, or when all labels (of weight above 0) are the \
           same. It needs memory for one number per row of a group (two with weights).",
    example: "SELECT auc(click, p) FROM (VALUES (1, 0.9), (0, 0.2), (0, 0.95), (1, 0.6)) AS scored (click, p)",
    errors: &[
        Failure { sqlstate: "22023", when: "a label is not 0 or 1, a score is NaN, or a weight is negative or not finite" },
        Failure { sqlstate: "42804", when: "an argument has a type that is not a number (or boolean, for the label)" },
    ],
};

/// The scores of the positive and of the negative rows. The weights stay empty until a row weighs other than 1.
#[derive(Debug, Default)]
pub(crate) struct Auc {
    positives: Side,
    negatives: Side,
}

#[derive(Debug, Default)]
struct Side {
    scores: Vec<f64>,
    weights: Vec<f64>,
}

impl Side {
    fn add(&mut self, score: f64, weight: f64) {
        if weight != 1.0 && self.weights.is_empty() {
            self.weights.resize(self.scores.len(), 1.0);
        }
        self.scores.push(score);
        if weight != 1.0 || !self.weights.is_empty() {
            self.weights.push(weight);
        }
    }

    fn merge(&mut self, scores: &[f64], weights: &[f64]) {
        if self.weights.is_empty() && !weights.is_empty() {
            self.weights.resize(self.scores.len(), 1.0);
        }
        self.scores.extend_from_slice(scores);
        if weights.is_empty() && !self.weights.is_empty() {
            self.weights.resize(self.scores.len(), 1.0);
        }
        self.weights.extend_from_slice(weights);
    }

    fn sorted(&self) -> Vec<(f64, f64)> {
        let weight = |row| self.weights.get(row).copied().unwrap_or(1.0);
        let mut pairs: Vec<_> = self.scores.iter().enumerate().map(|(row, &score)| (score, weight(row))).collect();
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        pairs
    }

    fn heap(&self) -> usize {
        (self.scores.capacity() + self.weights.capacity()) * size_of::<f64>()
    }
}

impl Metric for Auc {
    const DECLARATION: &'static Function = &DECLARATION;
    const STATE: &'static [&'static str] = &["positives", "positive_weights", "negatives", "negative_weights"];

    fn add(&mut self, [label, score, weight]: Row) -> Result<(), Error> {
        if score.is_nan() {
            return Err(metric::out_of_range(&DECLARATION, "score", score, "a number"));
        }
        let weight = metric::weight(&DECLARATION, weight)?;
        let side = if metric::label(&DECLARATION, label)? { &mut self.positives } else { &mut self.negatives };
        if weight > 0.0 {
            side.add(score, weight);
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<Vec<f64>> {
        let Self { positives, negatives } = std::mem::take(self);
        vec![positives.scores, positives.weights, negatives.scores, negatives.weights]
    }

    fn merge(&mut self, state: &[&[f64]]) {
        self.positives.merge(state[0], state[1]);
        self.negatives.merge(state[2], state[3]);
    }

    fn evaluate(&mut self) -> Option<f64> {
        if self.positives.scores.is_empty() || self.negatives.scores.is_empty() {
            return None;
        }
        if self.positives.weights.is_empty() && self.negatives.weights.is_empty() {
            return Some(unweighted(&mut self.positives.scores, &mut self.negatives.scores));
        }
        Some(weighted(&self.positives.sorted(), &self.negatives.sorted()))
    }

    fn heap(&self) -> usize {
        self.positives.heap() + self.negatives.heap()
    }
}

/// Counts, for every positive row, the negative rows below it twice and the equal ones once: whole numbers, so exact.
fn unweighted(positives: &mut [f64], negatives: &mut [f64]) -> f64 {
    positives.sort_unstable_by(f64::total_cmp);
    negatives.sort_unstable_by(f64::total_cmp);
    let (mut below, mut up_to) = (0, 0);
    let mut twice = 0_u128;
    for &score in positives.iter() {
        while below < negatives.len() && negatives[below] < score {
            below += 1;
        }
        up_to = up_to.max(below);
        while up_to < negatives.len() && negatives[up_to] <= score {
            up_to += 1;
        }
        twice += (below + up_to) as u128;
    }
    twice as f64 / (2.0 * positives.len() as f64 * negatives.len() as f64)
}

/// The same with the weight of rows in place of their number.
fn weighted(positives: &[(f64, f64)], negatives: &[(f64, f64)]) -> f64 {
    let (mut below, mut up_to) = (0, 0);
    let (mut weight_below, mut weight_up_to) = (0.0, 0.0);
    let (mut pairs, mut total) = (0.0, 0.0);
    for &(score, weight) in positives {
        while below < negatives.len() && negatives[below].0 < score {
            weight_below += negatives[below].1;
            below += 1;
        }
        while up_to < negatives.len() && negatives[up_to].0 <= score {
            weight_up_to += negatives[up_to].1;
            up_to += 1;
        }
        pairs += weight * (weight_below + weight_up_to) / 2.0;
        total += weight;
    }
    pairs / (total * negatives.iter().map(|row| row.1).sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auc(rows: &[Row]) -> Option<f64> {
        let mut auc = Auc::default();
        rows.iter().for_each(|&row| auc.add(row).unwrap());
        auc.evaluate()
    }

    #[test]
    fn ties_count_half_and_order_does_not_matter() {
        let mut rows = vec![[1.0, 0.5, 1.0], [0.0, 0.5, 1.0], [1.0, 0.7, 1.0], [0.0, 0.1, 1.0], [0.0, 0.7, 1.0]];
        // Pairs: 0.5 beats 0.1, ties 0.5, loses to 0.7; 0.7 beats 0.1 and 0.5, ties 0.7.
        let expected = (1.0 + 0.5 + 0.0 + 1.0 + 1.0 + 0.5) / 6.0;
        assert_eq!(auc(&rows), Some(expected));
        rows.reverse();
        assert_eq!(auc(&rows), Some(expected));
    }

    #[test]
    fn a_weight_counts_like_repeated_rows() {
        let weighted = [[1.0, 0.3, 2.0], [0.0, 0.4, 3.0], [0.0, 0.3, 1.0], [1.0, 0.9, 1.0], [0.0, 0.2, 0.0]];
        let repeated: Vec<Row> = weighted.iter().flat_map(|&[label, score, weight]| vec![[label, score, 1.0]; weight as usize]).collect();
        assert!((auc(&weighted).unwrap() - auc(&repeated).unwrap()).abs() < 1e-15);
    }

    #[test]
    fn one_class_has_no_area() {
        assert_eq!(auc(&[]), None);
        assert_eq!(auc(&[[1.0, 0.5, 1.0]]), None);
        assert_eq!(auc(&[[1.0, 0.5, 1.0], [0.0, 0.5, 0.0]]), None);
    }

    #[test]
    fn weights_survive_a_merge_with_a_part_without_weights() {
        let parts: [&[Row]; 3] = [&[[1.0, 0.3, 1.0], [0.0, 0.4, 1.0]], &[[0.0, 0.2, 5.0], [1.0, 0.1, 2.0]], &[[1.0, 0.6, 1.0]]];
        let whole: Vec<Row> = parts.concat();
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut merged = Auc::default();
            for part in order {
                let mut one = Auc::default();
                parts[part].iter().for_each(|&row| one.add(row).unwrap());
                let state = one.take();
                merged.merge(&state.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
            assert_eq!(merged.evaluate(), auc(&whole));
        }
    }

    #[test]
    fn bad_values_are_named() {
        let message = |row| Auc::default().add(row).unwrap_err().to_string();
        assert_eq!(message([2.0, 0.5, 1.0]), "argument label of auc is 2, but must be 0 or 1");
        assert_eq!(message([1.0, f64::NAN, 1.0]), "argument score of auc is NaN, but must be a number");
        assert_eq!(message([1.0, 0.5, -1.0]), "argument weight of auc is -1, but must be a number from 0");
    }
}
