//! The test of a difference between two variants.

use super::{Arms, Difference, Names, number};
use crate::metrics::check;
use crate::metrics::distributions::{normal_tails, t_reach};
use crate::metrics::interval;
use crate::metrics::part::{Reader, Writer};
use crate::metrics::statistic::{Column, Invalid, Statistic, Template, Value};

/// When the experiment is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Design {
    /// Once, when the sample that was planned is complete: z-test of two proportions, or Welch's t-test.
    Fixed,
    /// At any time and as often as one likes: the mixture sequential probability ratio test (Johari, Koomen, Pekelis and Walsh 2022).
    Sequential {
        /// The standard deviation of the mixture over effects: the size of effect at which the interval is about as short as it can be.
        effect: f64,
    },
}

/// The fields of a [`Design::Fixed`] result: control, treatment, control_rows, treatment_rows, control_mean, treatment_mean, difference,
/// relative_lift, std_error, low, high, p_value, method. Columns `outcome`, `variant`.
#[derive(Debug, Clone)]
pub struct AbTest {
    design: Design,
    level: f64,
    arms: Arms<1>,
}

impl AbTest {
    /// Without rows; low and high leave `1 - level` outside.
    pub fn template(design: Design, names: Names, level: f64) -> Template {
        Template::new(Self { design, level, arms: Arms::new(names) })
    }
}

/// What a design makes of a difference.
struct Outcome {
    error: Option<f64>,
    reach: Option<f64>,
    p_value: Option<f64>,
    method: &'static str,
}

impl Statistic for AbTest {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let outcome = check::finite("outcome", columns[0])?;
        self.arms.extend(columns[1].texts(), |row| [outcome[row]])
    }

    fn take(&mut self, part: &mut Writer) {
        self.arms.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.arms.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let Some([(control, before), (treatment, after)]) = self.arms.pair()? else {
            result.extend(vec![Value::Null; 13]);
            return Ok(());
        };
        let moments = [before.rows, after.rows];
        let binary = before.binary && after.binary;
        // Of zeros and ones the variance follows from the mean, so it is not estimated with one row less.
        let variance = |rows: f64, squares: f64| squares / if binary { rows } else { rows - 1.0 } / rows;
        let difference = Difference {
            means: moments.map(|arm| arm.mean(0)),
            variances: moments.map(|arm| variance(arm.rows(), arm.product(0, 0))),
            rows: moments.map(|arm| arm.rows()),
        };
        let outcome = match self.design {
            Design::Fixed if binary => proportions(&difference, self.level),
            Design::Fixed => welch(&difference, self.level),
            Design::Sequential { effect } => sequential(&difference, effect, self.level),
        };
        result.extend(difference.fields([control, treatment]));
        result.push(outcome.error.into());
        result.extend(difference.within(outcome.reach));
        result.extend([outcome.p_value.into(), Value::Text(outcome.method.to_owned())]);
        Ok(())
    }

    fn heap(&self) -> usize {
        self.arms.heap()
    }
}

/// The interval takes each variant's own variance (Wald), the test that of both together, as it supposes no difference.
fn proportions(difference: &Difference, level: f64) -> Outcome {
    let [control, treatment] = difference.rows;
    let rate = (difference.means[0] * control + difference.means[1] * treatment) / (control + treatment);
    let pooled = (rate * (1.0 - rate) * (1.0 / control + 1.0 / treatment)).sqrt();
    let error = difference.error();
    Outcome {
        error: Some(error),
        reach: Some(interval::reach(level) * error),
        p_value: number(normal_tails(difference.value() / pooled)),
        method: "two-proportion z-test",
    }
}

fn welch(difference: &Difference, level: f64) -> Outcome {
    let error = number(difference.error());
    let freedom = number(difference.freedom());
    Outcome {
        error,
        reach: error.zip(freedom).map(|(error, freedom)| t_reach(level, freedom) * error),
        p_value: difference.welch(),
        method: "Welch's t-test",
    }
}

fn sequential(difference: &Difference, effect: f64, level: f64) -> Outcome {
    let error = number(difference.error());
    let positive = error.filter(|error| *error > 0.0);
    let mixture = effect * effect;
    let reach = |error: f64| {
        let variance = error * error;
        let both = variance + mixture;
        (variance * both / mixture * (-2.0 * (1.0 - level).ln() + (both / variance).ln())).sqrt()
    };
    let p_value = |error: f64| {
        let variance = error * error;
        let both = variance + mixture;
        let evidence = mixture * difference.value().powi(2) / (2.0 * variance * both) - (both / variance).ln() / 2.0;
        (-evidence).exp().min(1.0)
    };
    Outcome { error, reach: positive.map(reach), p_value: positive.map(p_value), method: "mixture sequential test" }
}
