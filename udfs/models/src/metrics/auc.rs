//! The area under the ROC curve, exact.

use super::part::{Reader, Writer};
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};

/// The scores of the positive and of the negative rows; columns `label`, `score`, `weight`.
#[derive(Debug, Clone, Default)]
pub struct Auc {
    positives: Side,
    negatives: Side,
}

/// The rows of one class. The weights stay empty until a row weighs other than 1.
#[derive(Debug, Clone, Default)]
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

    fn sorted(&self) -> Vec<(f64, f64)> {
        let weight = |row| self.weights.get(row).copied().unwrap_or(1.0);
        let mut pairs: Vec<_> = self.scores.iter().enumerate().map(|(row, &score)| (score, weight(row))).collect();
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        pairs
    }
}

impl Auc {
    /// Without rows.
    pub fn template() -> Template {
        Template::new(Self::default())
    }
}

impl Statistic for Auc {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let (labels, scores, weights) = (columns[0].numbers(), columns[1].numbers(), columns[2].numbers());
        for (row, (&label, &score)) in labels.iter().zip(scores).enumerate() {
            let side = if statistic::label("label", label)? { &mut self.positives } else { &mut self.negatives };
            let score = statistic::score("score", score)?;
            let weight = weights.get(row).map_or(Ok(1.0), |&weight| statistic::weight("weight", weight))?;
            if weight > 0.0 {
                side.add(score, weight);
            }
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        let Self { positives, negatives } = std::mem::take(self);
        part.numbers(&positives.scores).numbers(&positives.weights).numbers(&negatives.scores).numbers(&negatives.weights);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        for side in [&mut self.positives, &mut self.negatives] {
            let (scores, mut weights) = (part.numbers(), part.numbers());
            scores.for_each(|score| side.add(score, weights.next().unwrap_or(1.0)));
        }
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let both = !self.positives.scores.is_empty() && !self.negatives.scores.is_empty();
        result.push(both.then(|| area(&self.positives.sorted(), &self.negatives.sorted())).into());
        Ok(())
    }

    fn heap(&self) -> usize {
        let numbers = [&self.positives, &self.negatives].map(|side| side.scores.capacity() + side.weights.capacity());
        size_of::<f64>() * numbers.iter().sum::<usize>()
    }
}

/// The share of pairs, by weight, in which the positive row has the higher score; equal scores count half.
fn area(positives: &[(f64, f64)], negatives: &[(f64, f64)]) -> f64 {
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
