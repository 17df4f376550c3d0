//! `ml.pca(vector, num_components)`: lists of numbers as shorter ones that keep most of what differs.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result;
use serde::{Deserialize, Serialize};
use stratagem_models::metrics::sum::Sum;

use super::eigen::eigen;
use super::fit::{Fit, State};
use super::number::Number;
use super::values::{counts, lists, of_width};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// The most numbers in a list: the work grows with its third power.
const WIDEST: usize = 1024;

/// The declaration of `ml.pca`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.pca",
    kind: Kind::Window,
    parameters: &[
        Parameter::value("vector", Type::Doubles, "The numbers: as many in every row, 1024 at most."),
        Parameter::value("num_components", Type::Integer, "How many numbers are left; a constant."),
    ],
    returns: Returns::Value(Type::Doubles),
    summary: "Lists of numbers as shorter lists along the directions in which they differ most",
    docs: "Principal components (Pearson 1901): the numbers less their means, projected onto the `num_components` eigenvectors of the covariance \
           matrix with the largest eigenvalues. Equal to scikit-learn's `PCA`, with its signs: the largest entry of a component is \
           positive. Numbers of different units should be scaled first, with `ml.standard_scaler`. NULL, a list with a NULL or NaN in it, and \
           an infinity give NULL and are not learned from.",
    example: "SELECT ml.pca(ARRAY[price, id, item_id], num_components => 2) OVER () AS components FROM impressions",
    errors: &[
        Failure { sqlstate: "42883", when: "it stands without `OVER`, outside of a model's `TRANSFORM`" },
        Failure {
            sqlstate: "22023",
            when: "`num_components` is not a constant from 1 to the width of the lists, or the lists differ in width or are wider than 1024",
        },
        Failure { sqlstate: "42804", when: "the argument is not a list of numbers" },
    ],
};

/// Sums so far. The sums of products are those of the upper triangle, row by row.
#[derive(Debug)]
pub(super) struct Pca {
    components: usize,
    width: Option<usize>,
    rows: u64,
    sums: Vec<Sum>,
    products: Vec<Sum>,
}

/// The means and the components; empty if there were no rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Components {
    means: Vec<Number>,
    components: Vec<Vec<Number>>,
}

fn wrong(reason: String) -> Error {
    Error::value("argument vector of ml.pca", reason)
}

/// The rows of a column as numbers; `None` for one that cannot be used.
fn rows(values: &ArrayRef) -> Result<impl Iterator<Item = Option<Float64Array>>> {
    let lists = lists(values)?;
    Ok((0..lists.len()).map(move |row| {
        let numbers = lists.is_valid(row).then(|| lists.value(row))?;
        let usable = numbers.null_count() == 0 && numbers.as_primitive::<Float64Type>().values().iter().all(|number| counts(*number));
        usable.then(|| numbers.as_primitive::<Float64Type>().clone())
    }))
}

impl Pca {
    /// Sets or checks the width.
    fn fit_width(&mut self, width: usize) -> Result<(), Error> {
        match self.width {
            Some(known) if known == width => return Ok(()),
            Some(known) => return Err(wrong(format!("has {known} numbers in one row and {width} in another"))),
            None => {}
        }
        if width > WIDEST {
            return Err(wrong(format!("has {width} numbers, but {WIDEST} are the most")));
        }
        if width < self.components {
            let reason = format!("is {}, but the lists have {width} numbers", self.components);
            return Err(Error::value("argument num_components of ml.pca", reason));
        }
        self.width = Some(width);
        self.sums = vec![Sum::default(); width];
        self.products = vec![Sum::default(); width * (width + 1) / 2];
        Ok(())
    }
}

impl Fit for Pca {
    const DECLARATION: &'static Function = &DECLARATION;
    type State = Components;

    fn returns(_: &DataType) -> DataType {
        Type::Doubles.arrow()
    }

    fn start(_: &DataType, options: &Options) -> Result<Self, Error> {
        let components = options.whole("num_components", 1..=WIDEST as i64)? as usize;
        Ok(Self { components, width: None, rows: 0, sums: vec![], products: vec![] })
    }

    fn update(&mut self, values: &ArrayRef) -> Result<()> {
        for numbers in rows(values)?.flatten() {
            self.fit_width(numbers.len())?;
            self.rows += 1;
            let numbers = numbers.values();
            let mut products = self.products.iter_mut();
            for (at, (number, sum)) in numbers.iter().zip(&mut self.sums).enumerate() {
                sum.add(*number);
                numbers[at..].iter().zip(&mut products).for_each(|(other, sum)| sum.add(number * other));
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        let Some(width) = other.width else { return Ok(()) };
        self.fit_width(width)?;
        self.rows += other.rows;
        let sums = self.sums.iter_mut().chain(&mut self.products).zip(other.sums.iter().chain(&other.products));
        sums.for_each(|(sum, other)| other.parts().into_iter().for_each(|part| sum.add(part)));
        Ok(())
    }

    fn finish(self) -> Result<Components> {
        let width = self.width.unwrap_or(0);
        let rows = self.rows as f64;
        let means: Vec<f64> = self.sums.iter().map(|sum| sum.value() / rows).collect();
        let mut covariance = vec![0.0; width * width];
        let mut products = self.products.iter();
        for i in 0..width {
            for (j, product) in (i..width).zip(&mut products) {
                let [total, lost] = product.parts();
                let [expected, rest] = [means[i] * self.sums[j].value(), lost];
                let value = ((total - expected) + rest) / (rows - 1.0).max(1.0);
                covariance[i * width + j] = value;
                covariance[j * width + i] = value;
            }
        }
        let components = eigen(covariance, width).into_iter().take(self.components).map(|(_, mut vector)| {
            // The first of the largest entries is positive.
            let largest = vector.iter().fold(0.0_f64, |largest, x| if x.abs() > largest.abs() { *x } else { largest });
            vector.iter_mut().for_each(|x| *x *= 1.0_f64.copysign(largest));
            vector.into_iter().map(Number).collect()
        });
        Ok(Components { components: components.collect(), means: means.into_iter().map(Number).collect() })
    }
}

impl State for Components {
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let width = self.components.len();
        let mut numbers = Vec::with_capacity(values.len() * width);
        let mut valid = Vec::with_capacity(values.len());
        for row in rows(values)? {
            let row = row.filter(|_| width > 0);
            valid.push(row.is_some());
            let Some(row) = row else {
                numbers.extend(std::iter::repeat_n(0.0, width));
                continue;
            };
            if row.len() != self.means.len() {
                return Err(wrong(format!("has {} numbers, but the components were learned from {}", row.len(), self.means.len())).into());
            }
            let centred: Vec<f64> = row.values().iter().zip(&self.means).map(|(number, mean)| number - mean.0).collect();
            numbers.extend(self.components.iter().map(|axis| centred.iter().zip(axis).map(|(x, weight)| x * weight.0).sum::<f64>()));
        }
        of_width(&DECLARATION, values.len(), width, numbers, Some(NullBuffer::from(valid)))
    }
}
