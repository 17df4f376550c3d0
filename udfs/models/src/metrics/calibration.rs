//! How far predicted probabilities are from what happened, bin by bin.

use super::part::{Reader, Writer};
use super::scores::Scores;
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};
use super::sum::Sum;

/// Which probabilities share a bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binning {
    /// Bins of equal width between 0 and 1.
    Width,
    /// Bins of equally many rows: their limits are percentiles of the probabilities, interpolated. Equal probabilities share a bin.
    Mass,
}

/// What is asked of the bins.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// The mean gap between probability and outcome, weighted by rows (expected calibration error; Naeini, Cooper and Hauskrecht 2015).
    Expected,
    /// The largest gap (maximum calibration error).
    Maximum,
}

/// The rows of one bin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bin {
    /// How many there are.
    pub rows: f64,
    /// How many of them are positive.
    pub positives: f64,
    /// Their probabilities, added up.
    pub predicted: Sum,
}

impl Bin {
    fn add(&mut self, positives: f64, negatives: f64, probability: f64) {
        self.rows += positives + negatives;
        self.positives += positives;
        self.predicted.add(probability * (positives + negatives));
    }

    fn gap(&self) -> f64 {
        (self.predicted.value() - self.positives).abs()
    }
}

/// The gap of all bins together.
fn answer(answer: Answer, bins: &[Bin]) -> Option<f64> {
    let rows: f64 = bins.iter().map(|bin| bin.rows).sum();
    let filled = bins.iter().filter(|bin| bin.rows > 0.0);
    (rows > 0.0).then(|| match answer {
        Answer::Expected => filled.map(Bin::gap).sum::<f64>() / rows,
        Answer::Maximum => filled.map(|bin| bin.gap() / bin.rows).fold(0.0, f64::max),
    })
}

/// The upper limits of all bins of equal width but the last. A probability at a limit belongs to the lower bin.
fn limits(bins: usize) -> Vec<f64> {
    let step = 1.0 / bins as f64;
    (1..bins).map(|limit| limit as f64 * step).collect()
}

/// The bin of a probability.
fn place(limits: &[f64], probability: f64) -> usize {
    limits.partition_point(|limit| *limit < probability)
}

/// The expected calibration error of probabilities against labels, over bins of equal width; `None` without rows.
pub(super) fn expected(bins: usize, rows: impl Iterator<Item = (f64, bool)>) -> Option<f64> {
    let limits = limits(bins);
    let mut filled = vec![Bin::default(); bins];
    for (probability, positive) in rows {
        filled[place(&limits, probability)].add(f64::from(u8::from(positive)), f64::from(u8::from(!positive)), probability);
    }
    answer(Answer::Expected, &filled)
}

/// Calibration over bins of equal width; columns `label`, `probability`.
#[derive(Debug, Clone)]
struct OfWidth {
    answer: Answer,
    limits: Vec<f64>,
    bins: Vec<Bin>,
}

/// Calibration over bins of equal mass; columns `label`, `probability`.
#[derive(Debug, Clone)]
struct OfMass {
    answer: Answer,
    bins: usize,
    scores: Scores,
}

/// A calibration error, without rows.
pub fn template(answer: Answer, bins: usize, binning: Binning) -> Template {
    match binning {
        Binning::Width => Template::new(OfWidth { answer, limits: limits(bins), bins: vec![Bin::default(); bins] }),
        Binning::Mass => Template::new(OfMass { answer, bins, scores: Scores::default() }),
    }
}

impl Statistic for OfWidth {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        for (&label, &probability) in columns[0].numbers().iter().zip(columns[1].numbers()) {
            let positive = statistic::label("label", label)?;
            let probability = statistic::probability("probability", probability)?;
            self.bins[place(&self.limits, probability)].add(label, f64::from(u8::from(!positive)), probability);
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        for bin in &mut self.bins {
            part.number(bin.rows).number(bin.positives);
            bin.predicted.take(part);
            *bin = Bin::default();
        }
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        for bin in &mut self.bins {
            bin.rows += part.number();
            bin.positives += part.number();
            bin.predicted.merge(part);
        }
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        result.push(answer(self.answer, &self.bins).into());
        Ok(())
    }

    fn heap(&self) -> usize {
        self.limits.capacity() * size_of::<f64>() + self.bins.capacity() * size_of::<Bin>()
    }
}

/// The rows of sorted scores in bins of equal mass.
pub fn of_equal_mass(scores: &mut Scores, bins: usize) -> Vec<Bin> {
    let (positives, negatives) = scores.totals();
    let rows = positives + negatives;
    // Where the limits lie among the sorted rows: between two neighbours, for each the row below and the way to the next.
    let places = limits(bins).into_iter().map(|share| share * 100.0 / 100.0 * (rows - 1.0)).map(|place| (place.floor(), place.fract()));
    let mut places = places.peekable();
    let mut limits = Vec::with_capacity(bins);
    let (mut seen, mut before) = (0.0, 0.0);
    scores.steps(|step| {
        let upto = seen + step.positives + step.negatives;
        while let Some((row, part)) = places.next_if(|(row, part)| row + f64::from(u8::from(*part > 0.0)) < upto) {
            let below = if row < seen { before } else { step.score };
            let way = step.score - below;
            limits.push(if part < 0.5 { below + way * part } else { step.score - way * (1.0 - part) });
        }
        (seen, before) = (upto, step.score);
    });
    let mut filled = vec![Bin::default(); bins];
    scores.steps(|step| filled[place(&limits, step.score)].add(step.positives, step.negatives, step.score));
    filled
}

impl Statistic for OfMass {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        columns[1].numbers().iter().try_for_each(|&value| statistic::probability("probability", value).map(|_| ()))?;
        self.scores.update(columns[0], columns[1], Column::Absent)
    }

    fn take(&mut self, part: &mut Writer) {
        self.scores.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.scores.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        result.push(answer(self.answer, &of_equal_mass(&mut self.scores, self.bins)).into());
        Ok(())
    }

    fn heap(&self) -> usize {
        self.scores.heap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(template: &Template, rows: &[(f64, f64)]) -> Vec<Value> {
        let (labels, probabilities): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
        let mut statistic = template.one();
        statistic.update(&[Column::Numbers(&labels), Column::Numbers(&probabilities)]).unwrap();
        let mut result = Vec::new();
        statistic.evaluate(&mut result).unwrap();
        result
    }

    fn near(result: &[Value], expected: f64) {
        let [Value::Number(number)] = result else { panic!("{result:?}") };
        assert!((number - expected).abs() < 1e-15, "{number}");
    }

    #[test]
    fn gaps_are_weighted_by_rows_or_the_largest_counts() {
        // One bin predicts 0.1 twice with one click, one predicts 0.9 with one click.
        let rows = [(1.0, 0.1), (0.0, 0.1), (1.0, 0.9)];
        near(&of(&template(Answer::Expected, 15, Binning::Width), &rows), (0.8 + 0.1) / 3.0);
        near(&of(&template(Answer::Maximum, 15, Binning::Width), &rows), 0.4);
        assert_eq!(of(&template(Answer::Expected, 15, Binning::Width), &[]), [Value::Null]);
        assert_eq!(of(&template(Answer::Maximum, 15, Binning::Mass), &[]), [Value::Null]);
    }

    #[test]
    fn a_probability_at_a_limit_belongs_to_the_lower_bin() {
        let limits = limits(10);
        assert_eq!([0.0, 0.05, 0.1, 0.10001, 1.0].map(|probability| place(&limits, probability)), [0, 0, 0, 1, 9]);
    }

    #[test]
    fn bins_of_equal_mass_hold_equally_many_rows() {
        let mut scores = Scores::default();
        let probabilities: Vec<f64> = (0..100).map(|row| f64::from(row).powi(2) / 1e4).collect();
        scores.update(Column::Numbers(&[0.0; 100]), Column::Numbers(&probabilities), Column::Absent).unwrap();
        assert!(of_equal_mass(&mut scores, 10).iter().all(|bin| bin.rows == 10.0));
        // Equal probabilities stay together, and a bin may be empty.
        let mut scores = Scores::default();
        scores.update(Column::Numbers(&[0.0; 5]), Column::Numbers(&[0.5; 5]), Column::Absent).unwrap();
        let bins = of_equal_mass(&mut scores, 3);
        assert_eq!(bins.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [5.0, 0.0, 0.0]);
    }
}
