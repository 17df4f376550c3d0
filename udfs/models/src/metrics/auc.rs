//! The area under the ROC curve, exact, and its interval.

use super::interval::{self, Interval};
use super::part::{Reader, Writer};
use super::scores::Scores;
use super::statistic::{Column, Invalid, Statistic, Template, Value};
use super::sum::Sum;

/// The area: the share of pairs of a positive and a negative row in which the positive one has the higher score, equal scores counted half.
/// Columns `label`, `score`, `weight`.
#[derive(Debug, Clone, Default)]
pub struct Auc(Scores);

impl Auc {
    /// Without rows.
    pub fn template() -> Template {
        Template::new(Self::default())
    }
}

/// The area; `None` unless both classes are there.
pub(super) fn area(scores: &mut Scores) -> Option<f64> {
    let (positives, negatives) = scores.totals();
    if positives <= 0.0 || negatives <= 0.0 {
        return None;
    }
    if let Some(twice) = scores.wins() {
        return Some(twice as f64 / (2.0 * positives * negatives));
    }
    let (mut wins, mut below) = (Sum::default(), 0.0);
    scores.steps(|step| {
        wins.add(step.positives * (below + step.negatives / 2.0));
        below += step.negatives;
    });
    Some(wins.value() / (positives * negatives))
}

impl Statistic for Auc {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        self.0.update(columns[0], columns[1], columns[2])
    }

    fn take(&mut self, part: &mut Writer) {
        self.0.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.0.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        result.push(area(&mut self.0).into());
        Ok(())
    }

    fn heap(&self) -> usize {
        self.0.heap()
    }
}

/// The area with a confidence interval by the variance of DeLong, DeLong and Clarke-Pearson (1988), from sorted scores as Sun and Xu (2014) show.
/// Columns `label`, `score`; values: area, low, high.
#[derive(Debug, Clone)]
pub struct AucInterval {
    scores: Scores,
    level: f64,
}

impl AucInterval {
    /// Without rows; `level` is the coverage, such as 0.95.
    pub fn template(level: f64) -> Template {
        Template::new(Self { scores: Scores::default(), level })
    }
}

/// The variance of the area: the placements of the positive rows among the negative ones, and the reverse, vary independently.
fn variance(scores: &mut Scores, area: f64) -> Option<f64> {
    let (positives, negatives) = scores.totals();
    if positives < 2.0 || negatives < 2.0 {
        return None;
    }
    let (mut of_positives, mut of_negatives) = (Sum::default(), Sum::default());
    let (mut positives_below, mut negatives_below) = (0.0, 0.0);
    scores.steps(|step| {
        let above = (negatives_below + step.negatives / 2.0) / negatives;
        let beaten = (positives - positives_below - step.positives / 2.0) / positives;
        of_positives.add(step.positives * (above - area).powi(2));
        of_negatives.add(step.negatives * (beaten - area).powi(2));
        positives_below += step.positives;
        negatives_below += step.negatives;
    });
    Some(of_positives.value() / (positives - 1.0) / positives + of_negatives.value() / (negatives - 1.0) / negatives)
}

impl Statistic for AucInterval {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        self.scores.update(columns[0], columns[1], Column::Absent)
    }

    fn take(&mut self, part: &mut Writer) {
        self.scores.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.scores.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let area = area(&mut self.scores);
        let interval = area.and_then(|area| Some(interval::normal(area, variance(&mut self.scores, area)?, self.level).within(0.0, 1.0)));
        Interval::push(area, interval, result);
        Ok(())
    }

    fn heap(&self) -> usize {
        self.scores.heap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auc(rows: &[[f64; 3]]) -> Option<f64> {
        let mut scores = Scores::default();
        let column = |position: usize| rows.iter().map(|row| row[position]).collect::<Vec<_>>();
        let (labels, values, weights) = (column(0), column(1), column(2));
        scores.update(Column::Numbers(&labels), Column::Numbers(&values), Column::Numbers(&weights)).unwrap();
        area(&mut scores)
    }

    #[test]
    fn ties_count_half_and_order_does_not_matter() {
        let mut rows = vec![[1.0, 0.5, 1.0], [0.0, 0.5, 1.0], [1.0, 0.7, 1.0], [0.0, 0.1, 1.0], [0.0, 0.7, 1.0]];
        // Pairs: 0.5 beats 0.1, ties 0.5, loses to 0.7; 0.7 beats 0.1 and 0.5, ties 0.7.
        let expected = (1.0 + 0.5 + 0.0 + 1.0 + 1.0 + 0.5) / 6.0;
        assert_eq!(auc(&rows), Some(expected));
        rows.reverse();
        assert_eq!(auc(&rows), Some(expected));
        let lower: Vec<_> = rows.iter().map(|&[label, score, weight]| [label, score - 0.6, weight]).collect();
        assert_eq!(auc(&lower), Some(expected));
    }

    #[test]
    fn a_weight_counts_like_repeated_rows() {
        let weighted = [[1.0, 0.3, 2.0], [0.0, 0.4, 3.0], [0.0, 0.3, 1.0], [1.0, 0.9, 1.0], [0.0, 0.2, 0.0]];
        let repeated: Vec<_> = weighted.iter().flat_map(|&[label, score, weight]| vec![[label, score, 1.0]; weight as usize]).collect();
        assert!((auc(&weighted).unwrap() - auc(&repeated).unwrap()).abs() < 1e-15);
    }

    #[test]
    fn one_class_has_no_area() {
        assert_eq!(auc(&[]), None);
        assert_eq!(auc(&[[1.0, 0.5, 1.0]]), None);
        assert_eq!(auc(&[[1.0, 0.5, 1.0], [0.0, 0.5, 0.0]]), None);
    }

    #[test]
    fn the_variance_is_that_of_the_placements() {
        // Positives 0.8, 0.4 against negatives 0.6, 0.4, 0.1: placements 1, 0.5 and 1/2, 3/4, 1.
        let mut scores = Scores::default();
        scores.update(Column::Numbers(&[1.0, 1.0, 0.0, 0.0, 0.0]), Column::Numbers(&[0.8, 0.4, 0.6, 0.4, 0.1]), Column::Absent).unwrap();
        let area = area(&mut scores).unwrap();
        assert_eq!(area, 0.75);
        let of_positives = 2.0 * 0.25_f64.powi(2);
        let of_negatives = 2.0 * 0.25_f64.powi(2);
        let expected = of_positives / 1.0 / 2.0 + of_negatives / 2.0 / 3.0;
        assert!((variance(&mut scores, area).unwrap() - expected).abs() < 1e-15);
    }
}
