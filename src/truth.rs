//! Truths compared with texts that say them, as in `ok = 'true'`, which the engine alone does not compare.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Takes a text beside a truth for a truth.
#[derive(Debug)]
pub(crate) struct Truths;

impl ExprPlanner for Truths {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if matches!(expr.op, BinaryOperator::Eq | BinaryOperator::NotEq) {
            let is_truth = |side: &Expr| side.get_type(schema).is_ok_and(|of| of == DataType::Boolean);
            if is_text(&expr.right) && is_truth(&expr.left) {
                expr.right = cast(expr.right, DataType::Boolean);
            } else if is_text(&expr.left) && is_truth(&expr.right) {
                expr.left = cast(expr.left, DataType::Boolean);
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// Whether an expression is a text in the statement.
fn is_text(expression: &Expr) -> bool {
    matches!(expression, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Utf8View(_) | ScalarValue::LargeUtf8(_), _))
}
