//! `bar(x, lo, hi [, width])`: a bar of text.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;

use super::Drawing;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;

/// The widest bar.
const MOST: i64 = 1000;

/// One to seven eighths of a character, from the left.
const EIGHTHS: [&str; 7] = ["▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// The declaration of `bar`.
pub static DECLARATION: Function = Function {
    name: "bar",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("x", Type::Number, "The number to draw."),
        Parameter::value("lo", Type::Number, "The number whose bar is empty."),
        Parameter::value("hi", Type::Number, "The number whose bar is full."),
        Parameter::value("width", Type::Integer, "The characters of a full bar, from 1 to 1000.").or("20"),
    ],
    returns: Returns::Value(Type::Text),
    summary: "A number as a bar of text, to an eighth of a character",
    docs: "A chart in psql: `bar(x, 0, 1)` is as long as `x` is large. Numbers beyond `lo` and `hi` give an empty and a full bar, infinite ones \
           too. With `lo` above `hi` smaller numbers have longer bars. Where `lo` and `hi` are the same, a number from there on is full and one \
           below is empty. The result is NULL where an argument is NULL or not a number (NaN), or a bound is infinite. There are no spaces after \
           the bar: psql aligns columns itself.",
    example: "SELECT item_id, avg(price) AS price, bar(avg(price), 0, 5, 10) FROM impressions GROUP BY item_id ORDER BY item_id",
    errors: &[
        Failure { sqlstate: "22023", when: "the width is not from 1 to 1000" },
        Failure { sqlstate: "42804", when: "an argument is not a number" },
    ],
};

/// The drawing of `bar`.
pub(super) struct Bar;

/// The share of a full bar, or none.
fn share(x: f64, lo: f64, hi: f64) -> Option<f64> {
    if x.is_nan() || !lo.is_finite() || !hi.is_finite() {
        return None;
    }
    if lo == hi {
        return Some(if x >= hi { 1.0 } else { 0.0 });
    }
    // Halves, so that bounds at the ends of the range do not overflow.
    Some(((x / 2.0 - lo / 2.0) / (hi / 2.0 - lo / 2.0)).clamp(0.0, 1.0))
}

fn write(out: &mut String, share: f64, width: usize) {
    let eighths = (share * width as f64 * 8.0).round() as usize;
    (0..eighths / 8).for_each(|_| out.push('█'));
    if let Some(rest) = (eighths % 8).checked_sub(1) {
        out.push_str(EIGHTHS[rest]);
    }
}

impl Drawing for Bar {
    const DECLARATION: &'static Function = &DECLARATION;

    fn draw(columns: &[ArrayRef]) -> Result<ArrayRef> {
        let numbers = columns[..3].iter().map(|column| cast(column, &DataType::Float64)).collect::<Result<Vec<_>, _>>()?;
        let [x, lo, hi]: [&Float64Array; 3] = [0, 1, 2].map(|column: usize| numbers[column].as_primitive::<Float64Type>());
        let widths = cast(&columns[3], &DataType::Int64)?;
        let widths = widths.as_primitive::<Int64Type>();
        let (mut texts, mut text) = (StringBuilder::new(), String::new());
        for row in 0..x.len() {
            let known = x.is_valid(row) && lo.is_valid(row) && hi.is_valid(row) && widths.is_valid(row);
            if known && !(1..=MOST).contains(&widths.value(row)) {
                let reason = format!("is {}, but must be from 1 to {MOST}", widths.value(row));
                return Err(Error::value(format!("argument width of {}", DECLARATION.name), reason).into());
            }
            match known.then(|| share(x.value(row), lo.value(row), hi.value(row))).flatten() {
                Some(share) => {
                    text.clear();
                    write(&mut text, share, widths.value(row) as usize);
                    texts.append_value(&text);
                }
                None => texts.append_null(),
            }
        }
        Ok(Arc::new(texts.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(x: f64, lo: f64, hi: f64, width: usize) -> Option<String> {
        let mut text = String::new();
        write(&mut text, share(x, lo, hi)?, width);
        Some(text)
    }

    #[test]
    fn a_bar_is_as_long_as_its_number_is_large() {
        for (x, text) in
            [(-1.0, ""), (0.0, ""), (0.5, "▌"), (1.0, "█"), (2.25, "██▎"), (4.0, "████"), (9.0, "████"), (f64::INFINITY, "████")]
        {
            assert_eq!(bar(x, 0.0, 4.0, 4).as_deref(), Some(text), "{x}");
        }
        assert_eq!(bar(1.0, 4.0, 0.0, 4).as_deref(), Some("███"), "reversed bounds");
        assert_eq!((bar(3.0, 3.0, 3.0, 2).as_deref(), bar(2.0, 3.0, 3.0, 2).as_deref()), (Some("██"), Some("")));
        assert_eq!(bar(0.0, -f64::MAX, f64::MAX, 2).as_deref(), Some("█"));
        assert_eq!((bar(f64::NAN, 0.0, 1.0, 4), bar(1.0, 0.0, f64::INFINITY, 4), bar(1.0, f64::NAN, 1.0, 4)), (None, None, None));
    }
}
