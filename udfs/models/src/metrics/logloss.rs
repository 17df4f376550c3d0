//! The mean negative log-likelihood of probabilities.

use super::part::{Reader, Writer};
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};
use super::sum::Sum;

/// Loss and weight so far; columns `label`, `probability`, `weight`.
#[derive(Debug, Clone, Default)]
pub struct LogLoss {
    loss: Sum,
    weight: Sum,
}

impl LogLoss {
    /// Without rows.
    pub fn template() -> Template {
        Template::new(Self::default())
    }
}

/// The loss of one row, in nats. Probabilities are clipped to `margin` from 0 and 1, so that one certain mistake is not infinite.
#[inline]
pub(super) fn loss(positive: bool, probability: f64, margin: f64) -> f64 {
    let probability = probability.clamp(margin, 1.0 - margin);
    -if positive { probability.ln() } else { (-probability).ln_1p() }
}

impl Statistic for LogLoss {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let (labels, probabilities, weights) = (columns[0].numbers(), columns[1].numbers(), columns[2].numbers());
        for (row, (&label, &probability)) in labels.iter().zip(probabilities).enumerate() {
            let positive = statistic::label("label", label)?;
            let probability = statistic::probability("probability", probability)?;
            let weight = weights.get(row).map_or(Ok(1.0), |&weight| statistic::weight("weight", weight))?;
            self.loss.add(weight * loss(positive, probability, f64::EPSILON));
            self.weight.add(weight);
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        self.loss.take(part);
        self.weight.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.loss.merge(part);
        self.weight.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let weight = self.weight.value();
        result.push((weight > 0.0).then(|| self.loss.value() / weight).into());
        Ok(())
    }

    fn heap(&self) -> usize {
        0
    }
}
