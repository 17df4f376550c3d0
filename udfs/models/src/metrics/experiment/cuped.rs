//! The test of a difference, with the part of the outcome taken out that was known before.

use super::{Arms, Difference, Names, number};
use crate::metrics::check;
use crate::metrics::distributions::t_reach;
use crate::metrics::part::{Reader, Writer};
use crate::metrics::statistic::{Column, Invalid, Statistic, Template, Value};

/// Controlled-experiment using pre-experiment data (Deng, Xu, Kohavi and Walker 2013); columns `outcome`, `variant`, `covariate`. The
/// fields
/// of the result: control, treatment, control_rows, treatment_rows, control_mean, treatment_mean (both adjusted), difference,
/// relative_lift, std_error, low, high, p_value, theta, variance_reduction.
///
/// The slope theta is that within the variants, so the difference is that of a linear regression on variant and covariate.
#[derive(Debug, Clone)]
pub struct Cuped {
    level: f64,
    arms: Arms<2>,
}

impl Cuped {
    /// Without rows; low and high leave `1 - level` outside.
    pub fn template(names: Names, level: f64) -> Template {
        Template::new(Self { level, arms: Arms::new(names) })
    }
}

impl Statistic for Cuped {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let (outcome, covariate) = (check::finite("outcome", columns[0])?, check::finite("covariate", columns[2])?);
        self.arms.extend(columns[1].texts(), |row| [outcome[row], covariate[row]])
    }

    fn take(&mut self, part: &mut Writer) {
        self.arms.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.arms.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let Some([(control, before), (treatment, after)]) = self.arms.pair()? else {
            result.extend(vec![Value::Null; 14]);
            return Ok(());
        };
        let arms = [before.rows, after.rows];
        let within = |left, right| arms.iter().map(|arm| arm.product(left, right)).sum::<f64>();
        // A covariate that is the same in all rows explains nothing.
        let theta = if within(1, 1) > 0.0 { within(0, 1) / within(1, 1) } else { 0.0 };
        let rows = arms.map(|arm| arm.rows());
        let middle = arms.iter().map(|arm| arm.sum(1)).sum::<f64>() / rows.iter().sum::<f64>();
        let squares = |theta: f64| {
            arms.map(|arm| {
                let squares = arm.product(0, 0) - 2.0 * theta * arm.product(0, 1) + theta * theta * arm.product(1, 1);
                squares.max(0.0) / (arm.rows() - 1.0) / arm.rows()
            })
        };
        let means = arms.map(|arm| arm.mean(0) - theta * (arm.mean(1) - middle));
        let adjusted = Difference { means, variances: squares(theta), rows };
        let plain = Difference { means, variances: squares(0.0), rows };
        let error = number(adjusted.error());
        let reach = error.zip(number(adjusted.freedom())).map(|(error, freedom)| t_reach(self.level, freedom) * error);
        result.extend(adjusted.fields([control, treatment]));
        result.push(error.into());
        result.extend(adjusted.within(reach));
        let reduction = number(1.0 - (adjusted.error() / plain.error()).powi(2));
        result.extend([adjusted.welch().into(), theta.into(), reduction.into()]);
        Ok(())
    }

    fn heap(&self) -> usize {
        self.arms.heap()
    }
}
