//! The labels of an experiment.

use crate::click::split::Parts;
use crate::error::{Error, Result};
use crate::examples::Examples;
use crate::net::Output;

/// Outcome and treatment of each row, by its number among all rows.
pub(super) struct Arms {
    pub(super) outcomes: Vec<f32>,
    /// 0 or 1.
    pub(super) treated: Vec<f32>,
    /// Empty unless the rows have them.
    pub(super) propensities: Vec<f32>,
    /// What the outcome is.
    pub(super) output: Output,
}

/// The rows of which the same share is held out: those of an arm with an outcome, and those without.
pub(super) fn stratum(labels: &[f32]) -> usize {
    2 * usize::from(labels[1] > 0.5) + usize::from(labels[0] > 0.5)
}

impl Arms {
    /// Reads and checks the labels.
    pub(super) fn read(examples: &Examples, given: bool) -> Result<Self> {
        let tasks = examples.tasks();
        let wanted = if given { 3 } else { 2 };
        if tasks != wanted {
            let reason = format!("the rows have {tasks} labels instead of {wanted}");
            return Err(Error::data(reason, "give every row its outcome, its treatment and, where it is a column, its propensity"));
        }
        let rows = examples.rows();
        let column = || Vec::with_capacity(rows);
        let mut arms = Self { outcomes: column(), treated: column(), propensities: Vec::new(), output: Output::Probability };
        for index in 0..examples.windows() {
            let window = examples.window(index)?;
            for labels in window.block.labels[window.first * tasks..][..window.rows * tasks].chunks_exact(tasks) {
                arms.outcomes.push(labels[0]);
                arms.treated.push(labels[1]);
                arms.propensities.extend(labels.get(2));
            }
        }
        let odd = |values: &[f32], fits: fn(f32) -> bool| values.iter().copied().find(|value| !fits(*value));
        if let Some(outcome) = odd(&arms.outcomes, f32::is_finite) {
            return Err(Error::data(format!("an outcome is {outcome}"), "an outcome is true or false, or a number"));
        }
        if let Some(treatment) = odd(&arms.treated, |treated| treated == 0.0 || treated == 1.0) {
            return Err(Error::data(format!("a treatment is {treatment}"), "a treatment is 1 or 0 (or true or false)"));
        }
        if let Some(propensity) = odd(&arms.propensities, |propensity| propensity > 0.0 && propensity < 1.0) {
            let hint = "every row must have had a chance of either arm: leave out the rows that were certain to be treated, or not to be";
            return Err(Error::data(format!("a propensity is {propensity}, which is not between 0 and 1"), hint));
        }
        if odd(&arms.outcomes, |outcome| outcome == 0.0 || outcome == 1.0).is_some() {
            arms.output = Output::Number;
        }
        arms.check(&format!("all {rows} rows"), |_| true)?;
        Ok(arms)
    }

    pub(super) fn is_treated(&self, row: usize) -> bool {
        self.treated[row] > 0.5
    }

    /// Checks that there are both arms among the rows that are trained on, with an outcome that differs in each.
    pub(super) fn check_training(&self, parts: &Parts) -> Result<()> {
        self.check(&format!("all {} rows that are not held out", parts.training), |row| parts.is_trained(row))
    }

    fn check(&self, all: &str, among: impl Fn(usize) -> bool) -> Result<()> {
        for (treated, are) in [(true, "treated"), (false, "not treated")] {
            let mut outcomes =
                (0..self.outcomes.len()).filter(|row| self.is_treated(*row) == treated && among(*row)).map(|row| self.outcomes[row]);
            let Some(first) = outcomes.next() else {
                let are = if treated { "not treated" } else { "treated" };
                return Err(Error::data(
                    format!("{all} are {are}"),
                    "an uplift model compares rows that were treated with rows that were not",
                ));
            };
            if outcomes.all(|outcome| outcome == first) {
                let reason = format!("the rows that are {are} all have the outcome {first}");
                return Err(Error::data(reason, "choose an outcome that happens, and does not always happen, in both arms, or more rows"));
            }
        }
        Ok(())
    }

    /// The rows of each stratum.
    pub(super) fn strata(&self) -> [u64; 4] {
        let mut strata = [0; 4];
        self.outcomes.iter().zip(&self.treated).for_each(|(outcome, treated)| strata[stratum(&[*outcome, *treated])] += 1);
        strata
    }
}
