//! Precision, recall and F1 of the rows whose score reaches a threshold.

use super::interval::{self, Interval};
use super::part::{Reader, Writer};
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};
use super::sum::Sum;

/// What is asked of the counts.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// The share of rows at the threshold or above that are positive.
    Precision,
    /// The share of positive rows that are at the threshold or above.
    Recall,
    /// The harmonic mean of both.
    F1,
}

/// Counts by label and threshold; columns `label`, `score`, `weight`.
#[derive(Debug, Clone)]
pub struct Threshold {
    threshold: f64,
    answer: Answer,
    /// The coverage of an interval, where one is asked for.
    level: Option<f64>,
    /// Positive rows at the threshold or above.
    hits: Sum,
    /// All rows at the threshold or above.
    chosen: Sum,
    positives: Sum,
}

impl Threshold {
    /// Without rows; with a level, the result has the limits of Wilson's interval behind the value.
    pub fn template(threshold: f64, answer: Answer, level: Option<f64>) -> Template {
        let [hits, chosen, positives] = [Sum::default(); 3];
        Template::new(Self { threshold, answer, level, hits, chosen, positives })
    }
}

impl Statistic for Threshold {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let weights = columns.get(2).map(|column| column.numbers()).unwrap_or_default();
        for (row, (&label, &score)) in columns[0].numbers().iter().zip(columns[1].numbers()).enumerate() {
            let positive = statistic::label("label", label)?;
            let chosen = statistic::score("score", score)? >= self.threshold;
            let weight = weights.get(row).map_or(Ok(1.0), |&weight| statistic::weight("weight", weight))?;
            if positive {
                self.positives.add(weight);
            }
            if chosen {
                self.chosen.add(weight);
            }
            if positive && chosen {
                self.hits.add(weight);
            }
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        [&mut self.hits, &mut self.chosen, &mut self.positives].into_iter().for_each(|sum| sum.take(part));
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        [&mut self.hits, &mut self.chosen, &mut self.positives].into_iter().for_each(|sum| sum.merge(part));
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let [hits, chosen, positives] = [self.hits, self.chosen, self.positives].map(Sum::value);
        let (above, below) = match self.answer {
            Answer::Precision => (hits, chosen),
            Answer::Recall => (hits, positives),
            Answer::F1 => (2.0 * hits, chosen + positives),
        };
        let value = (below > 0.0).then(|| above / below);
        match self.level {
            Some(level) => Interval::push(value, value.map(|_| interval::wilson(above, below, level)), result),
            None => result.push(value.into()),
        }
        Ok(())
    }

    fn heap(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_at_the_threshold_is_chosen() {
        let of = |answer| {
            let mut counts = Threshold::template(0.5, answer, None).one();
            let labels = [1.0, 0.0, 1.0, 1.0, 0.0];
            let scores = [0.5, 0.7, 0.4, 0.9, 0.1];
            counts.update(&[Column::Numbers(&labels), Column::Numbers(&scores), Column::Absent]).unwrap();
            let mut result = Vec::new();
            counts.evaluate(&mut result).unwrap();
            result
        };
        assert_eq!(of(Answer::Precision), [Value::Number(2.0 / 3.0)]);
        assert_eq!(of(Answer::Recall), [Value::Number(2.0 / 3.0)]);
        assert_eq!(of(Answer::F1), [Value::Number(4.0 / 6.0)]);
    }

    #[test]
    fn without_rows_above_the_threshold_there_is_no_precision() {
        let mut counts = Threshold::template(0.5, Answer::Precision, Some(0.95)).one();
        counts.update(&[Column::Numbers(&[1.0]), Column::Numbers(&[0.4]), Column::Absent]).unwrap();
        let mut result = Vec::new();
        counts.evaluate(&mut result).unwrap();
        assert_eq!(result, [Value::Null, Value::Null, Value::Null]);
    }
}
