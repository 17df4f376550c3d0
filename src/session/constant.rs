//! The answer to a query without FROM whose values are all known when it is planned, such as the score of one row that the client sends.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, Projection};
use datafusion::optimizer::OptimizerConfig;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

/// The row of a plan that is a list of constants once it is simplified. None of any other plan and of one that fails: those are run as usual,
/// and say what is wrong themselves.
pub(super) fn row(state: &SessionState, plan: &LogicalPlan) -> Option<RecordBatch> {
    list(plan)?;
    let analysed = state.analyzer().execute_and_check(plan.clone(), &state.options(), |_, _| {}).ok()?;
    let projection = list(&analysed)?;
    let context = SimplifyContext::builder()
        .with_config_options(state.options())
        .with_query_execution_start_time(state.query_execution_start_time())
        .build();
    let simplifier = ExprSimplifier::new(context);
    let columns = projection.expr.iter().map(|expression| match simplifier.simplify(expression.clone().unalias()).ok()? {
        Expr::Literal(value, _) => value.to_array().ok(),
        _ => None,
    });
    RecordBatch::try_new(Arc::clone(projection.schema.inner()), columns.collect::<Option<_>>()?).ok()
}

/// The select list of a query without FROM and other clauses.
fn list(plan: &LogicalPlan) -> Option<&Projection> {
    match plan {
        LogicalPlan::Projection(projection) => {
            matches!(&*projection.input, LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, .. })).then_some(projection)
        }
        _ => None,
    }
}
