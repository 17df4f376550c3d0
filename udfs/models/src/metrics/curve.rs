//! Single numbers of the curves of a ranking: average precision, and the largest distance of two distributions.

use super::interval::{self, Interval};
use super::part::{Reader, Writer};
use super::scores::Scores;
use super::statistic::{Column, Invalid, Statistic, Template, Value};
use super::sum::Sum;

/// What is computed from the sorted scores.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// The mean precision at each positive row.
    AveragePrecision,
    /// The same with an interval of this coverage.
    AveragePrecisionInterval(f64),
    /// The distance of the distributions of positive and negative scores.
    KolmogorovSmirnov,
}

/// A number of a curve; columns `label`, `score`, `weight`.
#[derive(Debug, Clone)]
pub struct Curve {
    scores: Scores,
    answer: Answer,
}

impl Curve {
    fn template(answer: Answer) -> Template {
        Template::new(Self { scores: Scores::default(), answer })
    }

    /// Average precision, without rows.
    pub fn average_precision() -> Template {
        Self::template(Answer::AveragePrecision)
    }

    /// Average precision with limits on the scale of log odds (Boyd, Eng and Page 2013), without rows; values: value, low, high.
    pub fn average_precision_interval(level: f64) -> Template {
        Self::template(Answer::AveragePrecisionInterval(level))
    }

    /// The two-sample Kolmogorov-Smirnov statistic, without rows.
    pub fn kolmogorov_smirnov() -> Template {
        Self::template(Answer::KolmogorovSmirnov)
    }
}

/// The precision at every distinct score, weighted by the positive rows there; `None` without a positive row. Linear interpolation between the
/// points of the curve would be too optimistic (Davis and Goadrich 2006).
fn average_precision(scores: &mut Scores) -> Option<f64> {
    let (positives, negatives) = scores.totals();
    if positives <= 0.0 {
        return None;
    }
    let (mut hits, mut others, mut sum) = (positives, negatives, Sum::default());
    scores.steps(|step| {
        if step.positives > 0.0 {
            sum.add(step.positives / positives * (hits / (hits + others)));
        }
        hits -= step.positives;
        others = (others - step.negatives).max(0.0);
    });
    Some(sum.value())
}

/// The largest difference between the shares of positive and of negative rows up to a score; `None` unless both classes are there.
fn kolmogorov_smirnov(scores: &mut Scores) -> Option<f64> {
    let (positives, negatives) = scores.totals();
    if positives <= 0.0 || negatives <= 0.0 {
        return None;
    }
    let (mut hits, mut others, mut largest) = (0.0, 0.0, 0.0_f64);
    scores.steps(|step| {
        hits += step.positives;
        others += step.negatives;
        largest = largest.max((hits / positives - others / negatives).abs());
    });
    Some(largest)
}

impl Statistic for Curve {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        self.scores.update(columns[0], columns[1], columns.get(2).copied().unwrap_or(Column::Absent))
    }

    fn take(&mut self, part: &mut Writer) {
        self.scores.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.scores.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        match self.answer {
            Answer::AveragePrecision => result.push(average_precision(&mut self.scores).into()),
            Answer::KolmogorovSmirnov => result.push(kolmogorov_smirnov(&mut self.scores).into()),
            Answer::AveragePrecisionInterval(level) => {
                let value = average_precision(&mut self.scores);
                let (positives, _) = self.scores.totals();
                Interval::push(value, value.map(|value| interval::logit(value, positives, level)), result);
            }
        }
        Ok(())
    }

    fn heap(&self) -> usize {
        self.scores.heap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(rows: &[(f64, f64)]) -> Scores {
        let (labels, values): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
        let mut scores = Scores::default();
        scores.update(Column::Numbers(&labels), Column::Numbers(&values), Column::Absent).unwrap();
        scores
    }

    #[test]
    fn average_precision_by_hand() {
        // From the top: hit (1/1), miss, hit (2/3), a tie of hit and miss (3/5).
        let rows = [(1.0, 0.9), (0.0, 0.8), (1.0, 0.7), (1.0, 0.4), (0.0, 0.4)];
        let expected = (1.0 + 2.0 / 3.0 + 3.0 / 5.0) / 3.0;
        assert!((average_precision(&mut scores(&rows)).unwrap() - expected).abs() < 1e-15);
        assert_eq!(average_precision(&mut scores(&[(1.0, 0.5)])), Some(1.0));
        assert_eq!(average_precision(&mut scores(&[(0.0, 0.5)])), None);
    }

    #[test]
    fn distributions_apart_are_at_distance_one() {
        assert_eq!(kolmogorov_smirnov(&mut scores(&[(1.0, 0.9), (1.0, 0.8), (0.0, 0.1)])), Some(1.0));
        assert_eq!(kolmogorov_smirnov(&mut scores(&[(1.0, 0.5), (0.0, 0.5)])), Some(0.0));
        assert_eq!(kolmogorov_smirnov(&mut scores(&[(1.0, 0.9), (1.0, 0.2), (0.0, 0.5)])), Some(0.5));
        assert_eq!(kolmogorov_smirnov(&mut scores(&[(1.0, 0.5)])), None);
    }
}
