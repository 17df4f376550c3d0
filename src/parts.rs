//! Rewrites of the parts of every expression of a plan, once the types are settled.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Rewrites every part, the innermost first, with the columns that it may speak of. What is a column of a plan keeps its name.
pub(crate) fn rewrite(plan: LogicalPlan, part: impl Fn(Expr, &DFSchema) -> Transformed<Expr>) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        let whole = |expression: Expr| {
            let name = names.save(&expression);
            let rewritten = expression.transform_up(|found| Ok(part(found, &schema)))?;
            Ok(rewritten.update_data(|expression| name.restore(expression)))
        };
        plan.map_expressions(|expression| match expression {
            // the columns are what it has sets of
            Expr::GroupingSet(_) => expression.map_children(&whole),
            expression => whole(expression),
        })
    });
    Ok(rewritten?.data)
}
