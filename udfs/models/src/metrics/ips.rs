//! What another policy would have earned, by inverse propensities.

use super::part::{Reader, Writer};
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};
use super::sum::Sum;

/// Weighted reward and rows so far; columns `reward`, `target_probability`, `logged_propensity`.
#[derive(Debug, Clone, Default)]
pub struct Ips {
    reward: Sum,
    rows: u64,
}

impl Ips {
    /// Without rows.
    pub fn template() -> Template {
        Template::new(Self::default())
    }
}

impl Statistic for Ips {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let (targets, propensities) = (columns[1].numbers(), columns[2].numbers());
        for ((&reward, &target), &logged) in columns[0].numbers().iter().zip(targets).zip(propensities) {
            let reward = statistic::finite("reward", reward)?;
            let target = statistic::probability("target_probability", target)?;
            if !(logged > 0.0 && logged <= 1.0) {
                return Err(Invalid::new("logged_propensity", logged, "above 0 and at most 1"));
            }
            self.reward.add(reward * target / logged);
            self.rows += 1;
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        self.reward.take(part);
        part.whole(std::mem::take(&mut self.rows));
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.reward.merge(part);
        self.rows += part.whole();
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        result.push((self.rows > 0).then(|| self.reward.value() / self.rows as f64).into());
        Ok(())
    }

    fn heap(&self) -> usize {
        0
    }
}
