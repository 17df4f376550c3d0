//! Casts to whole numbers go to the nearest one, as in PostgreSQL: of a numeric away from zero where two are as near, of floating point to the
//! even one. The engine alone cuts off what is behind the point.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::array::types::{Decimal128Type, Float32Type, Float64Type};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err, internal_datafusion_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TryCast, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::parts;

/// Rounds what is cast to whole numbers, once the types are settled.
#[derive(Debug)]
pub(crate) struct RoundCasts(Arc<ScalarUDF>);

impl RoundCasts {
    pub(crate) fn new() -> Self {
        Self(Arc::new(ScalarUDF::from(Nearest(Signature::any(1, Volatility::Immutable)))))
    }

    fn rounded(&self, expression: Expr, schema: &DFSchema) -> Transformed<Expr> {
        let has_parts = |of: &Expr, to: &FieldRef| {
            let parts = |of: DataType| matches!(of, DataType::Float32 | DataType::Float64 | DataType::Decimal128(_, 1..));
            to.data_type().is_integer() && of.get_type(schema).is_ok_and(parts)
        };
        let nearest = |of: Box<Expr>| Box::new(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.0), vec![*of])));
        match expression {
            Expr::Cast(Cast { expr, field }) if has_parts(&expr, &field) => {
                Transformed::yes(Expr::Cast(Cast { expr: nearest(expr), field }))
            }
            Expr::TryCast(TryCast { expr, field }) if has_parts(&expr, &field) => {
                Transformed::yes(Expr::TryCast(TryCast { expr: nearest(expr), field }))
            }
            other => Transformed::no(other),
        }
    }
}

impl AnalyzerRule for RoundCasts {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        parts::rewrite(plan, |part, schema| self.rounded(part, schema))
    }

    fn name(&self) -> &str {
        "round_casts"
    }
}

/// The nearest whole number, in the type of its argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Nearest(Signature);

impl ScalarUDFImpl for Nearest {
    fn name(&self) -> &str {
        "nearest"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(internal_datafusion_err!("the type is that of the field"))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        args.arg_fields.first().cloned().ok_or_else(|| exec_datafusion_err!("the nearest of nothing"))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(values) = args.args.first() else { return Err(exec_datafusion_err!("the nearest of nothing")) };
        let scalar = matches!(values, ColumnarValue::Scalar(_));
        let values = values.to_array(if scalar { 1 } else { args.number_rows })?;
        let rounded = match values.data_type() {
            DataType::Float32 => Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round_ties_even)) as _,
            DataType::Float64 => Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even)) as _,
            DataType::Decimal128(precision, scale) => {
                let one = 10_i128.checked_pow(u32::from(scale.unsigned_abs())).ok_or_else(|| exec_datafusion_err!("too many digits"))?;
                let nearest = |value: i128| {
                    let rest = value % one;
                    let up = if rest.abs() >= one - rest.abs() { value.signum() * one } else { 0 };
                    (value - rest).saturating_add(up)
                };
                let rounded = values.as_primitive::<Decimal128Type>().unary::<_, Decimal128Type>(nearest);
                Arc::new(rounded.with_precision_and_scale(*precision, *scale)?) as _
            }
            other => return Err(exec_datafusion_err!("{other} is whole")),
        };
        Ok(if scalar { ColumnarValue::Scalar(ScalarValue::try_from_array(&rounded, 0)?) } else { ColumnarValue::Array(rounded) })
    }
}
