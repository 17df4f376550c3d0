//! `ips(reward, target_probability, logged_propensity)`: what another policy would have earned.

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::metric::{self, Metric, Row, Sum};

/// The declaration of `ips`.
pub static DECLARATION: Function = Function {
    name: "ips",
    kind: Kind::Aggregate,
    parameters: &[
        Parameter::value("reward", Type::Outcome, "What the shown action earned: a click, or an amount."),
        Parameter::value("target_probability", Type::Number, "The probability with which the new policy would have shown that action."),
        Parameter::value("logged_propensity", Type::Number, "The probability with which the logging policy showed it, above 0."),
    ],
    returns: Returns::Value(Type::Double),
    summary: "Inverse propensity score: what another policy would have earned per row of the log",
    docs: "The mean of `reward * target_probability / logged_propensity` over the rows of a log: an unbiased estimate of the mean reward if \
           the new policy had chosen instead of the logging policy, as long as the logging policy showed every action the new one would \
           show with some probability (Horvitz and Thompson 1952). Equal to `InverseProbabilityWeighting` of Open Bandit Pipeline. For a \
           policy without randomness the target probability is 1 where it agrees with the log and 0 elsewhere.\n\n\
           The variance grows as propensities shrink: compare few policies on many rows. Rows with a NULL argument are skipped. The result \
           is NULL when no row is left.",
    example: "SELECT ips(click, CASE WHEN item = best THEN 1 ELSE 0 END, propensity)\n\
              FROM (VALUES (1, 7, 7, 0.25), (0, 3, 7, 0.5), (0, 7, 7, 0.25)) AS log (click, item, best, propensity)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a propensity is not above 0 and at most 1, a target probability is not from 0 to 1, or a reward is not finite",
        },
        Failure { sqlstate: "42804", when: "an argument has a type that is not a number (or boolean, for the reward)" },
    ],
};

/// Weighted reward and rows so far.
#[derive(Debug, Default)]
pub(crate) struct Ips {
    reward: Sum,
    rows: f64,
}

impl Metric for Ips {
    const DECLARATION: &'static Function = &DECLARATION;
    const STATE: &'static [&'static str] = &["sums"];

    fn add(&mut self, [reward, target, logged]: Row) -> Result<(), Error> {
        if !reward.is_finite() {
            return Err(metric::out_of_range(&DECLARATION, "reward", reward, "a finite number"));
        }
        let target = metric::probability(&DECLARATION, "target_probability", target)?;
        if !(logged > 0.0 && logged <= 1.0) {
            return Err(metric::out_of_range(&DECLARATION, "logged_propensity", logged, "above 0 and at most 1"));
        }
        self.reward.add(reward * target / logged);
        self.rows += 1.0;
        Ok(())
    }

    fn take(&mut self) -> Vec<Vec<f64>> {
        let Self { reward, rows } = std::mem::take(self);
        let [total, lost] = reward.parts();
        vec![vec![total, lost, rows]]
    }

    fn merge(&mut self, state: &[&[f64]]) {
        if let [total, lost, rows] = *state[0] {
            self.reward.add(total);
            self.reward.add(lost);
            self.rows += rows;
        }
    }

    fn evaluate(&mut self) -> Option<f64> {
        (self.rows > 0.0).then(|| self.reward.value() / self.rows)
    }

    fn heap(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreeing_rows_count_by_their_rarity() {
        let mut ips = Ips::default();
        for row in [[1.0, 1.0, 0.25], [1.0, 0.0, 0.5], [0.0, 1.0, 0.25], [2.0, 0.5, 1.0]] {
            ips.add(row).unwrap();
        }
        assert_eq!(ips.evaluate(), Some((4.0 + 0.0 + 0.0 + 1.0) / 4.0));
    }

    #[test]
    fn an_impossible_propensity_is_named() {
        for (propensity, text) in [(0.0, "0"), (-0.5, "-0.5"), (1.5, "1.5"), (f64::NAN, "NaN")] {
            let error = Ips::default().add([1.0, 1.0, propensity]).unwrap_err();
            assert_eq!(error.to_string(), format!("argument logged_propensity of ips is {text}, but must be above 0 and at most 1"));
        }
    }
}
