//! What whole columns may be; single values are checked in [`super::statistic`].

use super::statistic::{Column, Invalid};

fn all<'a>(argument: &'static str, column: Column<'a>, allowed: &'static str, accepts: impl Fn(f64) -> bool) -> Result<&'a [f64], Invalid> {
    let numbers = column.numbers();
    match numbers.iter().find(|number| !accepts(**number)) {
        Some(number) => Err(Invalid::new(argument, number, allowed)),
        None => Ok(numbers),
    }
}

/// Numbers that are neither NaN nor infinite.
pub(super) fn finite<'a>(argument: &'static str, column: Column<'a>) -> Result<&'a [f64], Invalid> {
    all(argument, column, "a finite number", f64::is_finite)
}

/// Numbers that have an order.
pub(super) fn ordered<'a>(argument: &'static str, column: Column<'a>) -> Result<&'a [f64], Invalid> {
    all(argument, column, "a number", |number| !number.is_nan())
}

/// Labels and the like.
pub(super) fn binary<'a>(argument: &'static str, column: Column<'a>) -> Result<&'a [f64], Invalid> {
    all(argument, column, "0 or 1", |number| number == 0.0 || number == 1.0)
}

/// Probabilities.
pub(super) fn probability<'a>(argument: &'static str, column: Column<'a>) -> Result<&'a [f64], Invalid> {
    all(argument, column, "from 0 to 1", |number| (0.0..=1.0).contains(&number))
}

/// Probabilities of what has happened.
pub(super) fn propensity<'a>(argument: &'static str, column: Column<'a>) -> Result<&'a [f64], Invalid> {
    all(argument, column, "above 0 and at most 1", |number| number > 0.0 && number <= 1.0)
}

/// Probabilities of what could have gone either way.
pub(super) fn chance<'a>(argument: &'static str, column: Column<'a>) -> Result<&'a [f64], Invalid> {
    all(argument, column, "above 0 and below 1", |number| number > 0.0 && number < 1.0)
}
