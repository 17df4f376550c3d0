//! `ml.standard_scaler(x)`: numbers with mean 0 and standard deviation 1.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result;
use serde::{Deserialize, Serialize};
use stratagem_models::metrics::sum::Sum;

use super::fit::{Fit, State};
use super::number::Number;
use super::values::{counts, numbers};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// The declaration of `ml.standard_scaler`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.standard_scaler",
    kind: Kind::Window,
    parameters: &[Parameter::value("x", Type::Number, "The number.")],
    returns: Returns::Value(Type::Double),
    summary: "Numbers with mean 0 and standard deviation 1",
    docs: "`(x - mean) / deviation` with the mean and the standard deviation of the population (dividing by n), equal to scikit-learn's \
           `StandardScaler`. Numbers that are all the same become 0. NULL stays NULL; NULL, NaN and infinities are left out of the mean and \
           the deviation. Without any number the result is NULL.",
    example: "SELECT price, ml.standard_scaler(price) OVER () AS price_s FROM impressions",
    errors: &[
        Failure { sqlstate: "42883", when: "it stands without `OVER`, outside of a model's `TRANSFORM`" },
        Failure { sqlstate: "42804", when: "the argument is not a number" },
    ],
};

/// Moments so far, without the rounding that would make them depend on the order of the rows.
#[derive(Debug, Default)]
pub(super) struct StandardScaler {
    rows: u64,
    sum: Sum,
    squares: Sum,
}

/// Mean and deviation, if there were numbers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Scale {
    mean: Option<Number>,
    deviation: Option<Number>,
}

/// A product and its rounding error.
fn product(a: f64, b: f64) -> (f64, f64) {
    let high = a * b;
    (high, a.mul_add(b, -high))
}

/// A sum as its nearest number and the rest.
fn parts(sum: Sum) -> (f64, f64) {
    let [total, lost] = sum.parts();
    let high = total + lost;
    (high, lost - (high - total))
}

impl StandardScaler {
    /// The variance from the sums with twice the digits, because a mean far from 0 costs the leading ones.
    fn variance(&self) -> f64 {
        let rows = self.rows as f64;
        let (sum, sum_rest) = parts(self.sum);
        let (squares, squares_rest) = parts(self.squares);
        let (a, a_rest) = product(rows, squares);
        let (b, b_rest) = product(sum, sum);
        let rest = (a_rest + rows * squares_rest) - (b_rest + 2.0 * sum * sum_rest);
        (((a - b) + rest) / (rows * rows)).max(0.0)
    }
}

impl Fit for StandardScaler {
    const DECLARATION: &'static Function = &DECLARATION;
    type State = Scale;

    fn returns(_: &DataType) -> DataType {
        DataType::Float64
    }

    fn start(_: &DataType, _: &Options) -> Result<Self, Error> {
        Ok(Self::default())
    }

    fn update(&mut self, values: &ArrayRef) -> Result<()> {
        for number in numbers(values)?.iter().flatten().filter(|number| counts(*number)) {
            self.rows += 1;
            self.sum.add(number);
            let (square, rest) = product(number, number);
            self.squares.add(square);
            self.squares.add(rest);
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.rows += other.rows;
        other.sum.parts().into_iter().for_each(|part| self.sum.add(part));
        other.squares.parts().into_iter().for_each(|part| self.squares.add(part));
        Ok(())
    }

    fn finish(self) -> Result<Scale> {
        if self.rows == 0 {
            return Ok(Scale { mean: None, deviation: None });
        }
        let mean = self.sum.value() / self.rows as f64;
        let deviation = self.variance().sqrt();
        // Equal numbers have a deviation of 0 but for the last digit of their mean.
        let constant = deviation <= 4.0 * f64::EPSILON * mean.abs();
        Ok(Scale { mean: Some(Number(mean)), deviation: Some(Number(if constant { 1.0 } else { deviation })) })
    }
}

impl State for Scale {
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let (Some(Number(mean)), Some(Number(deviation))) = (self.mean, self.deviation) else {
            return Ok(Arc::new(Float64Array::new_null(values.len())));
        };
        Ok(Arc::new(numbers(values)?.unary::<_, Float64Type>(|number| (number - mean) / deviation)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(numbers: &[f64]) -> StandardScaler {
        let mut fit = StandardScaler::default();
        let column: ArrayRef = Arc::new(Float64Array::from(numbers.to_vec()));
        fit.update(&column).unwrap();
        fit
    }

    #[test]
    fn a_mean_far_from_zero_costs_no_digits() {
        let scale = fit(&[1e15 + 1.0, 1e15 + 2.0, 1e15 + 3.0, 1e15 + 4.0]).finish().unwrap();
        assert_eq!((scale.mean, scale.deviation), (Some(Number(1e15 + 2.5)), Some(Number(1.25_f64.sqrt()))));
    }

    #[test]
    fn equal_numbers_become_zero() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![0.1; 7]));
        let scaled = fit(&[0.1; 7]).finish().unwrap().apply(&column).unwrap();
        assert!(numbers(&scaled).unwrap().values().iter().all(|number| number.abs() < 1e-15));
    }

    #[test]
    fn parts_in_any_order_give_the_same_state() {
        let numbers: Vec<f64> = (0..1000).map(|n| f64::from(n * 7919 % 1009) / 7.0 - 50.0).collect();
        let whole = serde_json::to_string(&fit(&numbers).finish().unwrap()).unwrap();
        for at in [1, 333, 999] {
            let mut merged = fit(&numbers[at..]);
            merged.merge(fit(&numbers[..at])).unwrap();
            assert_eq!(serde_json::to_string(&merged.finish().unwrap()).unwrap(), whole);
        }
    }
}
