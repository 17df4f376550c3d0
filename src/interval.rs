//! Intervals times numbers, which the engine alone does not compute.

use std::sync::Arc;

use datafusion::arrow::array::types::{Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType};
use datafusion::arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::compute::try_binary;
use datafusion::arrow::datatypes::{DataType, IntervalUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast, lit,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::sqlstate::{SqlError, SqlState};

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

const NANOSECONDS_PER_DAY: f64 = 86_400e9;

/// Plans `interval * number`, `number * interval` and `interval / number`.
#[derive(Debug)]
pub(crate) struct Intervals(Arc<ScalarUDF>);

impl Intervals {
    pub(crate) fn new() -> Self {
        Self(Arc::new(ScalarUDF::from(Times(Signature::exact(vec![INTERVAL, DataType::Float64], Volatility::Immutable)))))
    }
}

impl ExprPlanner for Intervals {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let kind = |side: &Expr| side.get_type(schema).ok();
        let is_interval = |side: &Expr| matches!(kind(side), Some(DataType::Interval(_)));
        let is_number = |side: &Expr| kind(side).is_some_and(|kind| kind.is_numeric());
        let (interval, number) = match expr.op {
            BinaryOperator::Multiply if is_interval(&expr.left) && is_number(&expr.right) => {
                (expr.left, cast(expr.right, DataType::Float64))
            }
            BinaryOperator::Multiply if is_number(&expr.left) && is_interval(&expr.right) => {
                (expr.right, cast(expr.left, DataType::Float64))
            }
            BinaryOperator::Divide if is_interval(&expr.left) && is_number(&expr.right) => {
                (expr.left, lit(1.0) / cast(expr.right, DataType::Float64))
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let arguments = vec![cast(interval, INTERVAL), number];
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.0), arguments))))
    }
}

/// An interval times a number.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Times(Signature);

impl ScalarUDFImpl for Times {
    fn name(&self) -> &str {
        "interval_mul"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [intervals, numbers] = [0, 1].map(|at| args.args[at].to_array(args.number_rows));
        let (intervals, numbers) = (intervals?, numbers?);
        let product: PrimitiveArray<IntervalMonthDayNanoType> =
            try_binary(intervals.as_primitive::<IntervalMonthDayNanoType>(), numbers.as_primitive::<Float64Type>(), |interval, number| {
                times(interval, number).ok_or_else(|| ArrowError::ArithmeticOverflow("interval out of range".to_owned()))
            })
            .map_err(|_| SqlError::new(SqlState::DatetimeFieldOverflow, "interval out of range"))?;
        Ok(ColumnarValue::Array(Arc::new(product) as ArrayRef))
    }
}

/// What is left of a month is days, thirty to a month, and what is left of a day is time, as in PostgreSQL.
fn times(interval: IntervalMonthDayNano, number: f64) -> Option<IntervalMonthDayNano> {
    let whole = |value: f64| (value.is_finite() && value.abs() < f64::from(i32::MAX)).then_some(value.trunc() as i32);
    let months = f64::from(interval.months) * number;
    let days = f64::from(interval.days) * number;
    let more_days = ((months - months.trunc()) * 30.0 * 1e6).round() / 1e6;
    let part = days - days.trunc() + more_days - more_days.trunc();
    let time = (interval.nanoseconds as f64 * number + part * NANOSECONDS_PER_DAY) / 1e3;
    if !time.is_finite() || time.abs() * 1e3 >= i64::MAX as f64 {
        return None;
    }
    Some(IntervalMonthDayNano::new(whole(months)?, whole(days.trunc() + more_days.trunc())?, time.round() as i64 * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_months_is_days_and_of_days_time() {
        // answers of PostgreSQL 15
        let hour = 3_600_000_000_000;
        for ((months, days, nanoseconds), number, product) in [
            ((0, 1, 0), 2.0, (0, 2, 0)),
            ((1, 0, 0), 0.5, (0, 15, 0)),
            ((0, 1, 0), 0.5, (0, 0, 12 * hour)),
            ((1, 1, hour), 1.5, (1, 16, 13 * hour + hour / 2)),
            ((0, 0, hour), -0.25, (0, 0, -hour / 4)),
        ] {
            let product = IntervalMonthDayNano::new(product.0, product.1, product.2);
            assert_eq!(times(IntervalMonthDayNano::new(months, days, nanoseconds), number), Some(product));
        }
        assert_eq!(times(IntervalMonthDayNano::new(1, 0, 0), f64::MAX), None);
    }
}
