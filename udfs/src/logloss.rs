//! `logloss(label, probability [, weight])`: the mean negative log-likelihood of probabilities.

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::metric::{self, Metric, Row, Sum};

/// The declaration of `logloss`.
pub static DECLARATION: Function = Function {
    name: "logloss",
    kind: Kind::Aggregate,
    parameters: &[
        Parameter::value("label", Type::Label, "The outcome: true or 1 for a positive row, false or 0 for a negative one."),
        Parameter::value("probability", Type::Number, "The predicted probability of a positive row, from 0 to 1."),
        Parameter::value("weight", Type::Number, "How much the row counts, from 0. Left out, every row counts once.").optional(),
    ],
    returns: Returns::Value(Type::Double),
    summary: "Logarithmic loss of predicted probabilities: lower is better",
    docs: "The weighted mean of `-ln(p)` over positive rows and `-ln(1 - p)` over negative ones. Unlike `auc` it punishes probabilities that \
           are too high or too low, not only a wrong order. Probabilities are clipped to [2.2e-16, 1 - 2.2e-16] (the machine epsilon), as \
           scikit-learn's `log_loss` does, so that one certain mistake costs 36 and not infinity.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row (of weight above 0) is left.",
    example: "SELECT logloss(click, p) FROM (VALUES (true, 0.9), (false, 0.2), (false, 0.4)) AS scored (click, p)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, a probability is not from 0 to 1, or a weight is negative or not finite",
        },
        Failure { sqlstate: "42804", when: "an argument has a type that is not a number (or boolean, for the label)" },
    ],
};

/// Loss and weight so far.
#[derive(Debug, Default)]
pub(crate) struct LogLoss {
    loss: Sum,
    weight: Sum,
}

impl Metric for LogLoss {
    const DECLARATION: &'static Function = &DECLARATION;
    const STATE: &'static [&'static str] = &["sums"];

    fn add(&mut self, [label, probability, weight]: Row) -> Result<(), Error> {
        let positive = metric::label(&DECLARATION, label)?;
        let probability = metric::probability(&DECLARATION, "probability", probability)?.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        let weight = metric::weight(&DECLARATION, weight)?;
        self.loss.add(-weight * if positive { probability.ln() } else { (-probability).ln_1p() });
        self.weight.add(weight);
        Ok(())
    }

    fn take(&mut self) -> Vec<Vec<f64>> {
        let Self { loss, weight } = std::mem::take(self);
        vec![[loss.parts(), weight.parts()].concat()]
    }

    fn merge(&mut self, state: &[&[f64]]) {
        for (sum, parts) in [&mut self.loss, &mut self.weight].into_iter().zip(state[0].chunks(2)) {
            parts.iter().for_each(|&part| sum.add(part));
        }
    }

    fn evaluate(&mut self) -> Option<f64> {
        let weight = self.weight.value();
        (weight > 0.0).then(|| self.loss.value() / weight)
    }

    fn heap(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certain_mistake_is_finite() {
        let mut loss = LogLoss::default();
        loss.add([1.0, 0.0, 1.0]).unwrap();
        assert!((loss.evaluate().unwrap() - 36.043_653_389_117_15).abs() < 1e-12);
    }

    #[test]
    fn rows_without_weight_do_not_count() {
        let mut loss = LogLoss::default();
        assert_eq!(loss.evaluate(), None);
        loss.add([1.0, 0.1, 0.0]).unwrap();
        assert_eq!(loss.evaluate(), None);
        loss.add([0.0, 0.5, 4.0]).unwrap();
        assert_eq!(loss.evaluate(), Some(std::f64::consts::LN_2));
    }

    #[test]
    fn a_value_that_is_no_probability_is_named() {
        let error = LogLoss::default().add([1.0, 1.5, 1.0]).unwrap_err();
        assert_eq!(error.to_string(), "argument probability of logloss is 1.5, but must be from 0 to 1");
        assert!(LogLoss::default().add([1.0, f64::NAN, 1.0]).is_err());
    }
}
