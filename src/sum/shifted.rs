//! `sum(x + 1), sum(x + 2)` from one sum of `x`, one count and one extreme, which tells whether an addition would not have fitted.

use std::sync::Arc;

use datafusion::arrow::array::types::{Decimal128Type, Int64Type};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue, exec_datafusion_err};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::{NUMERIC, Sum};
use crate::overflow;
use crate::sqlstate::{SqlError, SqlState};

/// Sums of one column and constants that are worth it.
const WORTH: usize = 2;

/// Lets sums share what they have in common.
#[derive(Debug)]
pub(crate) struct ShareSums(Arc<ScalarUDF>);

impl ShareSums {
    pub(crate) fn new() -> Self {
        Self(Arc::new(ScalarUDF::from(ShiftedSum(Signature::any(4, Volatility::Immutable)))))
    }

    fn share(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let grouped = |expression: &Expr| matches!(expression, Expr::GroupingSet(_));
        let sums: Vec<Option<(&AggregateFunction, &Column, i128)>> = aggregate.aggr_expr.iter().map(shifted).collect();
        let worth = |column: &Column| sums.iter().flatten().filter(|(_, other, _)| *other == column).count() >= WORTH;
        if aggregate.group_expr.iter().any(grouped) || !sums.iter().flatten().any(|(_, column, _)| worth(column)) {
            return Ok(Transformed::no(plan));
        }
        let mut parts = Parts(Vec::new());
        let mut columns: Vec<Expr> =
            plan.schema().iter().take(aggregate.group_expr.len()).map(|field| Expr::from(Column::from(field))).collect();
        for (expression, sum) in aggregate.aggr_expr.iter().zip(&sums) {
            let name = expression.schema_name().to_string();
            let whole = sum.as_ref().filter(|(_, column, _)| worth(column)).map(|(call, column, by)| {
                let of = Expr::Column((*column).clone());
                let extreme = if *by < 0 { min(of.clone()) } else { max(of.clone()) };
                let mut total = (*call).clone();
                total.params.args = vec![of.clone()];
                let parts = [Expr::AggregateFunction(total), count(of), extreme].map(|part| parts.column(part));
                let by = lit(ScalarValue::Decimal128(Some(*by), 38, 0));
                Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.0), parts.into_iter().chain([by]).collect()))
            });
            columns.push(whole.unwrap_or_else(|| parts.column(unnamed(expression).clone())).alias(name));
        }
        let input = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), parts.0)?;
        let shared = LogicalPlanBuilder::from(LogicalPlan::Aggregate(input)).project(columns)?.build()?;
        Ok(Transformed::yes(shared))
    }
}

impl AnalyzerRule for ShareSums {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|plan| self.share(plan))?.data)
    }

    fn name(&self) -> &str {
        "share_sums"
    }
}

/// The column that a plain sum is of, and what is added to each of its numbers.
fn shifted(expression: &Expr) -> Option<(&AggregateFunction, &Column, i128)> {
    let Expr::AggregateFunction(call) = unnamed(expression) else { return None };
    let params = &call.params;
    call.func.inner().downcast_ref::<Sum>()?;
    if params.distinct || params.filter.is_some() || !params.order_by.is_empty() || params.null_treatment.is_some() {
        return None;
    }
    let [argument] = params.args.as_slice() else { return None };
    let (of, by) = overflow::shifted(argument)?;
    let Expr::Column(column) = of else { return None };
    Some((call, column, by))
}

/// An aggregate without the name that it keeps in spite of what became of it.
fn unnamed(expression: &Expr) -> &Expr {
    match expression {
        Expr::Alias(named) => &named.expr,
        other => other,
    }
}

/// The aggregates that are computed, each under a name of its own.
struct Parts(Vec<Expr>);

impl Parts {
    fn column(&mut self, part: Expr) -> Expr {
        let known = self.0.iter().position(|known| matches!(known, Expr::Alias(known) if *known.expr == part));
        let at = known.unwrap_or_else(|| {
            let name = format!("{} #{}", part.schema_name(), self.0.len());
            self.0.push(part.alias(name));
            self.0.len() - 1
        });
        let name = self.0[at].schema_name().to_string();
        Expr::Column(Column::new_unqualified(name))
    }
}

/// `shifted_sum(sum, count, extreme, by)`: the sum of as many numbers when each is greater `by` so much. An error where that does not fit the
/// type of the extreme.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ShiftedSum(Signature);

impl ScalarUDFImpl for ShiftedSum {
    fn name(&self) -> &str {
        "shifted_sum"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| exec_datafusion_err!("a sum of nothing"))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|argument| argument.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let [sums, counts, extremes, by] = arrays.as_slice() else { return Err(exec_datafusion_err!("shifted_sum takes four arguments")) };
        let (range, name) = overflow::range(extremes.data_type()).ok_or_else(|| exec_datafusion_err!("shifted_sum takes whole numbers"))?;
        let (sums, extremes) = (cast(sums, &NUMERIC)?, cast(extremes, &DataType::Int64)?);
        let (sums, extremes) = (sums.as_primitive::<Decimal128Type>(), extremes.as_primitive::<Int64Type>());
        let (counts, by) = (counts.as_primitive::<Int64Type>(), by.as_primitive::<Decimal128Type>());
        let out_of_range = |name: &str| SqlError::new(SqlState::NumericValueOutOfRange, format!("{name} out of range"));
        let rows = (0..sums.len()).map(|row| {
            if sums.is_null(row) || extremes.is_null(row) {
                return Ok(None);
            }
            let by = by.value(row);
            if !range.contains(&(i128::from(extremes.value(row)) + by)) {
                return Err(out_of_range(name));
            }
            let sum = by.checked_mul(counts.value(row).into()).and_then(|more| more.checked_add(sums.value(row)));
            sum.map(Some).ok_or_else(|| out_of_range("numeric"))
        });
        let values = rows.collect::<Result<Vec<Option<i128>>, SqlError>>()?;
        let values: ArrayRef = match args.return_field.data_type() {
            DataType::Int64 => {
                let narrow = |value: i128| i64::try_from(value).map_err(|_| out_of_range("bigint"));
                let narrow = values.into_iter().map(|value| value.map(narrow).transpose());
                Arc::new(narrow.collect::<Result<Int64Array, SqlError>>()?)
            }
            _ => Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 0)?),
        };
        Ok(ColumnarValue::Array(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overflow::CheckOverflow;
    use datafusion::prelude::SessionContext;

    async fn planned(sql: &str) -> String {
        let mut context = SessionContext::new();
        crate::sum::register(&mut context).expect("the engine has a sum");
        context.add_analyzer_rule(Arc::new(CheckOverflow::new()));
        context.add_analyzer_rule(Arc::new(ShareSums::new()));
        let plan = context.sql(sql).await.expect(sql).into_optimized_plan().expect(sql);
        plan.display_indent().to_string()
    }

    #[tokio::test]
    async fn sums_of_one_column_have_a_sum_in_common() {
        let plan = planned("SELECT sum(x + 1), sum(x + 2), sum(y + 1) FROM (VALUES (1, 2)) AS v (x, y)").await;
        assert_eq!(plan.matches("shifted_sum(").count(), 2, "{plan}");
        for alone in
            ["SELECT sum(x + 1), sum(x) FROM (VALUES (1)) AS v (x)", "SELECT sum(x + 1), sum(DISTINCT x + 2) FROM (VALUES (1)) AS v (x)"]
        {
            assert!(!planned(alone).await.contains("shifted_sum("), "{alone}");
        }
    }
}
