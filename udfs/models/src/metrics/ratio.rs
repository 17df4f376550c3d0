//! Ratios of two sums over rows, such as the mean of a loss: metrics that need a few numbers, however many rows there are.

use std::fmt::Debug;
use std::marker::PhantomData;

use super::interval::{self, Interval};
use super::part::{Reader, Writer};
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};
use super::sum::Sum;

/// What a row adds to both sums.
pub trait Terms: Debug + Clone + Copy + Default + Send + Sync + 'static {
    /// How many columns a row has; a weight may follow.
    const COLUMNS: usize = 2;

    /// The terms of a row, numerator first.
    ///
    /// # Errors
    /// A value that is not accepted.
    fn of(row: [f64; 3]) -> Result<[f64; 2], Invalid>;

    /// The result from the ratio of the sums.
    fn finish(ratio: f64) -> f64 {
        ratio
    }
}

/// The loss of one row, in nats. Probabilities are clipped to `margin` from 0 and 1, so that one certain mistake is not infinite.
#[inline]
pub(super) fn log_loss(positive: bool, probability: f64, margin: f64) -> f64 {
    let probability = probability.clamp(margin, 1.0 - margin);
    -if positive { probability.ln() } else { (-probability).ln_1p() }
}

/// Mean negative log-likelihood; columns `label`, `probability`, `weight`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogLoss;

impl Terms for LogLoss {
    fn of([label, probability, _]: [f64; 3]) -> Result<[f64; 2], Invalid> {
        let positive = statistic::label("label", label)?;
        Ok([log_loss(positive, statistic::probability("probability", probability)?, f64::EPSILON), 1.0])
    }
}

/// Mean squared distance of probability and label (Brier 1950); columns `label`, `probability`, `weight`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Brier;

impl Terms for Brier {
    fn of([label, probability, _]: [f64; 3]) -> Result<[f64; 2], Invalid> {
        statistic::label("label", label)?;
        Ok([(statistic::probability("probability", probability)? - label).powi(2), 1.0])
    }
}

/// Positive rows per predicted positive row; columns `label`, `probability`, `weight`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Copc;

impl Terms for Copc {
    fn of([label, probability, _]: [f64; 3]) -> Result<[f64; 2], Invalid> {
        statistic::label("label", label)?;
        Ok([label, statistic::probability("probability", probability)?])
    }
}

fn both(actual: f64, predicted: f64) -> Result<(), Invalid> {
    statistic::finite("actual", actual)?;
    statistic::finite("predicted", predicted)?;
    Ok(())
}

/// Root of the mean squared error; columns `actual`, `predicted`, `weight`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rmse;

impl Terms for Rmse {
    fn of([actual, predicted, _]: [f64; 3]) -> Result<[f64; 2], Invalid> {
        both(actual, predicted)?;
        Ok([(actual - predicted).powi(2), 1.0])
    }

    fn finish(ratio: f64) -> f64 {
        ratio.sqrt()
    }
}

/// Mean absolute error; columns `actual`, `predicted`, `weight`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mae;

impl Terms for Mae {
    fn of([actual, predicted, _]: [f64; 3]) -> Result<[f64; 2], Invalid> {
        both(actual, predicted)?;
        Ok([(actual - predicted).abs(), 1.0])
    }
}

/// Absolute errors per absolute actual value; columns `actual`, `predicted`, `weight`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wape;

impl Terms for Wape {
    fn of([actual, predicted, _]: [f64; 3]) -> Result<[f64; 2], Invalid> {
        both(actual, predicted)?;
        Ok([(actual - predicted).abs(), actual.abs()])
    }
}

/// Mean of the absolute error per mean of both absolute values; columns `actual`, `predicted`, `weight`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Smape;

impl Terms for Smape {
    fn of([actual, predicted, _]: [f64; 3]) -> Result<[f64; 2], Invalid> {
        both(actual, predicted)?;
        let size = actual.abs() + predicted.abs();
        Ok([if size > 0.0 { 2.0 * (actual - predicted).abs() / size } else { 0.0 }, 1.0])
    }
}

/// Root of the mean squared error, each divided by a squared error that is usual for it; columns `actual`, `predicted`, `scale`, `weight`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rmsse;

impl Terms for Rmsse {
    const COLUMNS: usize = 3;

    fn of([actual, predicted, scale]: [f64; 3]) -> Result<[f64; 2], Invalid> {
        both(actual, predicted)?;
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(Invalid::new("scale", scale, "a number above 0"));
        }
        Ok([(actual - predicted).powi(2) / scale, 1.0])
    }

    fn finish(ratio: f64) -> f64 {
        ratio.sqrt()
    }
}

/// Calls `act` with the columns of each row.
fn rows<T: Terms>(columns: &[Column<'_>], mut act: impl FnMut(usize, [f64; 3]) -> Result<(), Invalid>) -> Result<(), Invalid> {
    let (first, second) = (columns[0].numbers(), columns[1].numbers());
    let third = if T::COLUMNS > 2 { columns[2].numbers() } else { &[] };
    for (row, (&first, &second)) in first.iter().zip(second).enumerate() {
        act(row, [first, second, third.get(row).copied().unwrap_or_default()])?;
    }
    Ok(())
}

/// The ratio of two sums; NULL while the lower one is 0.
#[derive(Debug, Clone, Default)]
pub struct Ratio<T> {
    above: Sum,
    below: Sum,
    terms: PhantomData<T>,
}

impl<T: Terms> Statistic for Ratio<T> {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let weights = columns[T::COLUMNS].numbers();
        rows::<T>(columns, |row, values| {
            let [above, below] = T::of(values)?;
            let weight = weights.get(row).map_or(Ok(1.0), |&weight| statistic::weight("weight", weight))?;
            self.above.add(weight * above);
            self.below.add(weight * below);
            Ok(())
        })
    }

    fn take(&mut self, part: &mut Writer) {
        self.above.take(part);
        self.below.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.above.merge(part);
        self.below.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let below = self.below.value();
        result.push((below > 0.0).then(|| T::finish(self.above.value() / below)).into());
        Ok(())
    }

    fn heap(&self) -> usize {
        0
    }
}

/// The mean of a loss with the interval of the central limit theorem; values: mean, low, high. The limits need two rows.
#[derive(Debug, Clone)]
pub struct MeanInterval<T> {
    rows: f64,
    mean: f64,
    /// Squared distances from the mean, added up (Welford 1962; parts as Chan, Golub and LeVeque 1979).
    squares: f64,
    level: f64,
    terms: PhantomData<T>,
}

impl<T: Terms> Statistic for MeanInterval<T> {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        rows::<T>(columns, |_, values| {
            let loss = T::of(values)?[0];
            self.rows += 1.0;
            let distance = loss - self.mean;
            self.mean += distance / self.rows;
            self.squares += distance * (loss - self.mean);
            Ok(())
        })
    }

    fn take(&mut self, part: &mut Writer) {
        part.number(self.rows).number(self.mean).number(self.squares);
        (self.rows, self.mean, self.squares) = (0.0, 0.0, 0.0);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        let (rows, mean, squares) = (part.number(), part.number(), part.number());
        let total = self.rows + rows;
        if total > 0.0 {
            let distance = mean - self.mean;
            self.mean += distance * rows / total;
            self.squares += squares + distance * distance * self.rows * rows / total;
            self.rows = total;
        }
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let variance = (self.rows > 1.0).then(|| self.squares / (self.rows - 1.0) / self.rows);
        let interval = variance.map(|variance| interval::normal(self.mean, variance, self.level).within(0.0, f64::INFINITY));
        Interval::push((self.rows > 0.0).then_some(self.mean), interval, result);
        Ok(())
    }

    fn heap(&self) -> usize {
        0
    }
}

fn ratio<T: Terms>() -> Template {
    Template::new(Ratio::<T>::default())
}

fn mean<T: Terms>(level: f64) -> Template {
    Template::new(MeanInterval::<T> { rows: 0.0, mean: 0.0, squares: 0.0, level, terms: PhantomData })
}

/// [`LogLoss`] without rows.
pub fn logloss() -> Template {
    ratio::<LogLoss>()
}

/// [`Brier`] without rows.
pub fn brier() -> Template {
    ratio::<Brier>()
}

/// [`Copc`] without rows.
pub fn copc() -> Template {
    ratio::<Copc>()
}

/// [`Rmse`] without rows.
pub fn rmse() -> Template {
    ratio::<Rmse>()
}

/// [`Mae`] without rows.
pub fn mae() -> Template {
    ratio::<Mae>()
}

/// [`Wape`] without rows.
pub fn wape() -> Template {
    ratio::<Wape>()
}

/// [`Smape`] without rows.
pub fn smape() -> Template {
    ratio::<Smape>()
}

/// [`Rmsse`] without rows.
pub fn rmsse() -> Template {
    ratio::<Rmsse>()
}

/// The mean of [`LogLoss`] with an interval of this coverage, without rows.
pub fn logloss_interval(level: f64) -> Template {
    mean::<LogLoss>(level)
}

/// The mean of [`Brier`] with an interval of this coverage, without rows.
pub fn brier_interval(level: f64) -> Template {
    mean::<Brier>(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(template: &Template, rows: &[[f64; 3]]) -> Result<Vec<Value>, Invalid> {
        let column = |position: usize| rows.iter().map(|row| row[position]).collect::<Vec<_>>();
        let (first, second, third) = (column(0), column(1), column(2));
        let columns = [&first, &second, &third].map(|column| Column::Numbers(column));
        let mut statistic = template.one();
        statistic.update(&[columns[0], columns[1], columns[2], Column::Absent])?;
        let mut result = Vec::new();
        statistic.evaluate(&mut result)?;
        Ok(result)
    }

    fn number(template: &Template, rows: &[[f64; 3]]) -> f64 {
        match of(template, rows).unwrap()[0] {
            Value::Number(number) => number,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_certain_mistake_is_finite() {
        assert!((number(&logloss(), &[[1.0, 0.0, 1.0]]) - 36.043_653_389_117_15).abs() < 1e-12);
    }

    #[test]
    fn rows_without_weight_do_not_count() {
        assert_eq!(of(&logloss(), &[]).unwrap(), [Value::Null]);
        assert_eq!(of(&logloss(), &[[1.0, 0.1, 0.0]]).unwrap(), [Value::Null]);
        assert_eq!(number(&logloss(), &[[1.0, 0.1, 0.0], [0.0, 0.5, 4.0]]), std::f64::consts::LN_2);
    }

    #[test]
    fn errors_of_forecasts_by_hand() {
        // Errors -1, 2, 0 of actual values 2, -3, 0.
        let rows = [[2.0, 3.0, 1.0], [-3.0, -5.0, 1.0], [0.0, 0.0, 1.0]];
        assert_eq!(number(&mae(), &rows), 1.0);
        assert_eq!(number(&rmse(), &rows), (5.0_f64 / 3.0).sqrt());
        assert_eq!(number(&wape(), &rows), 3.0 / 5.0);
        assert!((number(&smape(), &rows) - (2.0 / 5.0 + 4.0 / 8.0) / 3.0).abs() < 1e-15);
        let scaled = [[2.0, 3.0, 4.0], [-3.0, -5.0, 2.0]];
        assert!((number(&rmsse(), &scaled) - ((0.25_f64 + 2.0) / 2.0).sqrt()).abs() < 1e-15);
        assert_eq!(of(&wape(), &[[0.0, 1.0, 1.0]]).unwrap(), [Value::Null]);
    }

    #[test]
    fn clicks_per_predicted_click() {
        assert_eq!(number(&copc(), &[[1.0, 0.5, 1.0], [0.0, 0.25, 1.0]]), 1.0 / 0.75);
        assert_eq!(of(&copc(), &[[1.0, 0.0, 1.0]]).unwrap(), [Value::Null]);
    }

    #[test]
    fn an_interval_of_a_mean_does_not_depend_on_the_cut_of_the_rows() {
        let rows: Vec<[f64; 3]> = (0..50).map(|row| [f64::from(row % 2), f64::from(row % 7) / 10.0, 0.0]).collect();
        let whole = of(&brier_interval(0.9), &rows).unwrap();
        let mut merged = brier_interval(0.9).one();
        for piece in rows.chunks(9) {
            let column = |position: usize| piece.iter().map(|row| row[position]).collect::<Vec<_>>();
            let mut one = brier_interval(0.9).one();
            one.update(&[Column::Numbers(&column(0)), Column::Numbers(&column(1)), Column::Absent]).unwrap();
            let mut part = Writer::default();
            one.take(&mut part);
            merged.merge(&mut Reader::new(&part.finish()));
        }
        let mut result = Vec::new();
        merged.evaluate(&mut result).unwrap();
        for (merged, whole) in result.iter().zip(&whole) {
            let (Value::Number(merged), Value::Number(whole)) = (merged, whole) else { panic!("{result:?}") };
            assert!((merged - whole).abs() < 1e-14);
        }
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        assert_eq!(of(&logloss(), &[[1.0, 1.5, 1.0]]).unwrap_err(), Invalid::new("probability", 1.5, "from 0 to 1"));
        assert_eq!(of(&brier(), &[[0.5, 0.5, 1.0]]).unwrap_err(), Invalid::new("label", 0.5, "0 or 1"));
        assert_eq!(of(&mae(), &[[f64::INFINITY, 0.5, 1.0]]).unwrap_err(), Invalid::new("actual", "inf", "a finite number"));
        assert_eq!(of(&rmsse(), &[[1.0, 0.5, 0.0]]).unwrap_err(), Invalid::new("scale", 0, "a number above 0"));
        assert!(of(&logloss(), &[[1.0, f64::NAN, 1.0]]).is_err());
    }
}
