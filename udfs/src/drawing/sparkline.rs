//! `sparkline(values [, lo, hi])`: a list of numbers as a line of small bars.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result;

use super::Drawing;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};

/// From the lowest to the highest.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The declaration of `sparkline`.
pub static DECLARATION: Function = Function {
    name: "sparkline",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("values", Type::Doubles, "The numbers, in order."),
        Parameter::value("lo", Type::Number, "The number at the bottom. NULL: the smallest one of the list.").or("NULL"),
        Parameter::value("hi", Type::Number, "The number at the top. NULL: the largest one of the list.").or("NULL"),
    ],
    returns: Returns::Value(Type::Text),
    summary: "A list of numbers as a line of small bars",
    docs: "One character per number, in eight heights between the smallest and the largest number of the list, or between `lo` and `hi`, with \
           which the lines of several rows can be compared. A number that is NULL or NaN leaves a gap, one beyond the bounds is drawn at them. \
           With `lo` above `hi` the line is upside down. Equal numbers without bounds give a line at half height, an empty list an empty \
           text, NULL gives NULL.",
    example: "SELECT slot, sparkline(array_agg(clicks ORDER BY price))\n\
              FROM (SELECT slot, price, sum(CAST(click AS int)) AS clicks FROM impressions GROUP BY slot, price) AS c GROUP BY slot ORDER BY slot",
    errors: &[Failure { sqlstate: "42804", when: "the values are not a list of numbers, or a bound is not a number" }],
};

/// The drawing of `sparkline`.
pub(super) struct Sparkline;

fn write(out: &mut String, values: &Float64Array, lo: Option<f64>, hi: Option<f64>) {
    let finite = || values.iter().flatten().filter(|value| value.is_finite());
    let lo = lo.filter(|lo| lo.is_finite()).unwrap_or_else(|| finite().fold(f64::INFINITY, f64::min));
    let hi = hi.filter(|hi| hi.is_finite()).unwrap_or_else(|| finite().fold(f64::NEG_INFINITY, f64::max));
    for value in values {
        let Some(value) = value.filter(|value| !value.is_nan()) else {
            out.push(' ');
            continue;
        };
        let share = (value / 2.0 - lo / 2.0) / (hi / 2.0 - lo / 2.0);
        // Without a height to measure by, numbers stand in the middle, infinite ones at the ends.
        let share = match share.is_nan() || lo == hi {
            true if value > hi => 1.0,
            true if value < lo => 0.0,
            true => 0.45,
            false => share.clamp(0.0, 1.0),
        };
        out.push(LEVELS[((share * 8.0) as usize).min(7)]);
    }
}

impl Drawing for Sparkline {
    const DECLARATION: &'static Function = &DECLARATION;

    fn draw(columns: &[ArrayRef]) -> Result<ArrayRef> {
        let lists = cast(&columns[0], &DataType::new_list(DataType::Float64, true))?;
        let lists = lists.as_list::<i32>();
        let bounds = columns[1..].iter().map(|column| cast(column, &DataType::Float64)).collect::<Result<Vec<_>, _>>()?;
        let bound = |column: usize, row: usize| {
            let bounds = bounds[column].as_primitive::<Float64Type>();
            bounds.is_valid(row).then(|| bounds.value(row))
        };
        let (mut texts, mut text) = (StringBuilder::new(), String::new());
        for row in 0..lists.len() {
            if lists.is_null(row) {
                texts.append_null();
                continue;
            }
            text.clear();
            write(&mut text, lists.value(row).as_primitive::<Float64Type>(), bound(0, row), bound(1, row));
            texts.append_value(&text);
        }
        Ok(Arc::new(texts.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparkline(values: &[Option<f64>], lo: Option<f64>, hi: Option<f64>) -> String {
        let mut text = String::new();
        write(&mut text, &Float64Array::from(values.to_vec()), lo, hi);
        text
    }

    #[test]
    fn a_line_rises_and_falls_with_its_numbers() {
        let rising: Vec<_> = (0..8).map(|value| Some(f64::from(value))).collect();
        assert_eq!(sparkline(&rising, None, None), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&rising, Some(7.0), Some(0.0)), "█▇▆▅▄▃▂▁");
        assert_eq!(sparkline(&rising[..3], Some(0.0), Some(7.0)), "▁▂▃");
        assert_eq!(sparkline(&[Some(1.0), None, Some(f64::NAN), Some(2.0)], None, None), "▁  █");
        assert_eq!(sparkline(&[Some(3.0), Some(3.0)], None, None), "▄▄");
        assert_eq!(sparkline(&[Some(f64::NEG_INFINITY), Some(0.0), Some(1.0), Some(f64::INFINITY)], None, None), "▁▁██");
        assert_eq!(sparkline(&[], None, None), "");
        assert_eq!(sparkline(&[Some(-9.0), Some(99.0)], Some(0.0), Some(1.0)), "▁█");
    }
}
