//! The average effect of a treatment.

use super::inverse;
use crate::metrics::check;
use crate::metrics::moments::Moments;
use crate::metrics::part::{Reader, Writer};
use crate::metrics::policy::Estimate;
use crate::metrics::statistic::{Column, Invalid, Statistic, Template, Value};

/// The difference of the mean outcomes of treated and untreated rows; columns `outcome`, `treated`, `propensity`. With propensities each
/// mean
/// is weighted by the inverse of the probability of its arm and normalized by the weights (Hájek 1971).
#[derive(Debug, Clone)]
pub struct Ate {
    level: Option<f64>,
    /// Weighted outcome and weight, of the untreated and the treated rows.
    arms: [Moments<2>; 2],
}

impl Ate {
    /// Without rows; of the difference, or (with a level) of the fields value, std_error, low and high, where a normal distribution leaves
    /// `1 - level` outside of low and high.
    pub fn new(level: Option<f64>) -> Self {
        Self { level, arms: [Moments::default(); 2] }
    }

    /// The same, to make copies of.
    pub fn template(level: Option<f64>) -> Template {
        Template::new(Self::new(level))
    }
}

impl Statistic for Ate {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let (outcome, treated) = (check::finite("outcome", columns[0])?, check::binary("treated", columns[1])?);
        let chance = check::chance("propensity", columns[2])?;
        for (arm, moments) in self.arms.iter_mut().enumerate() {
            let rows = (0..outcome.len()).filter(|row| treated[*row] == arm as f64);
            moments.extend(rows.map(|row| {
                let weight = inverse(chance, row, arm == 1);
                [weight * outcome[row], weight]
            }));
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        self.arms.iter_mut().for_each(|arm| arm.take(part));
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.arms.iter_mut().for_each(|arm| arm.merge(part));
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let level = self.level.unwrap_or(0.5);
        let [control, treated] = &self.arms;
        let estimate = treated.ratio().zip(control.ratio()).map(|((treated, treated_error), (control, control_error))| {
            let error = treated_error.zip(control_error).map(|(left, right)| left.hypot(right));
            Estimate::new(treated - control, error, level)
        });
        let fields = Estimate::fields(estimate);
        let wanted = if self.level.is_some() { fields.len() } else { 1 };
        result.extend(fields.into_iter().take(wanted));
        Ok(())
    }

    fn heap(&self) -> usize {
        0
    }
}
