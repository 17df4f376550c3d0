//! Does sorts and limits before calls, where these do not need their results.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::Sort as SortKey;
use datafusion::logical_expr::{Expr, Limit, LogicalPlan, Sort, SubqueryAlias};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::node::Calls;

/// Moves sorts and limits below the steps of calls.
#[derive(Debug)]
pub(crate) struct CallLate;

impl OptimizerRule for CallLate {
    fn name(&self) -> &str {
        "call_late"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|plan| {
            let moved = match &plan {
                LogicalPlan::Sort(Sort { expr, input, fetch }) => below(&Early::Sort(expr.clone(), *fetch), input)?,
                LogicalPlan::Limit(Limit { skip, fetch, input }) => below(&Early::Limit(skip.clone(), fetch.clone()), input)?,
                _ => None,
            };
            Ok(moved.map_or_else(|| Transformed::no(plan), Transformed::yes))
        })
    }
}

/// What is to be done early.
enum Early {
    Sort(Vec<SortKey>, Option<usize>),
    Limit(Option<Box<Expr>>, Option<Box<Expr>>),
}

impl Early {
    fn over(&self, input: LogicalPlan) -> LogicalPlan {
        let input = Arc::new(input);
        match self {
            Self::Sort(expr, fetch) => LogicalPlan::Sort(Sort { expr: expr.clone(), input, fetch: *fetch }),
            Self::Limit(skip, fetch) => LogicalPlan::Limit(Limit { skip: skip.clone(), fetch: fetch.clone(), input }),
        }
    }

    /// The same in terms of what columns stand for.
    fn through(&self, meaning: &HashMap<Column, Expr>) -> Result<Self> {
        let Self::Sort(keys, fetch) = self else { return Ok(Self::Limit(self.skip(), self.fetch())) };
        let meant = |expression: Expr| match &expression {
            Expr::Column(column) => {
                Ok(meaning.get(column).map_or_else(|| Transformed::no(expression.clone()), |e| Transformed::yes(e.clone())))
            }
            _ => Ok(Transformed::no(expression)),
        };
        let keys = keys.iter().map(|key| Ok(SortKey { expr: key.expr.clone().transform_up(meant)?.data, ..key.clone() }));
        Ok(Self::Sort(keys.collect::<Result<_>>()?, *fetch))
    }

    fn skip(&self) -> Option<Box<Expr>> {
        if let Self::Limit(skip, _) = self { skip.clone() } else { None }
    }

    fn fetch(&self) -> Option<Box<Expr>> {
        if let Self::Limit(_, fetch) = self { fetch.clone() } else { None }
    }

    /// Whether it can be done before the results of a step are there.
    fn precedes(&self, step: &Calls) -> bool {
        let Self::Sort(keys, _) = self else { return true };
        let results: Vec<Column> = step.entries.iter().map(super::node::Entry::column).collect();
        keys.iter().all(|key| !key.expr.is_volatile() && !key.expr.column_refs().iter().any(|column| results.contains(column)))
    }
}

/// The plan with what is to be done early below the steps at its top; `None` when there is none, or their results are needed for it.
fn below(early: &Early, plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    if let Some(step) = Calls::of(plan) {
        if !early.precedes(step) {
            return Ok(None);
        }
        let input = match below(early, &step.input)? {
            Some(input) => input,
            None => early.over(step.input.clone()),
        };
        return plan.with_new_exprs(plan.expressions(), vec![input]).map(Some);
    }
    let meaning: HashMap<Column, Expr> = match plan {
        LogicalPlan::Projection(projection) => {
            let meanings = projection.expr.iter().map(|expression| expression.clone().unalias());
            projection.schema.iter().map(Column::from).zip(meanings).collect()
        }
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, schema, .. }) => {
            schema.iter().map(Column::from).zip(input.schema().iter().map(|field| Expr::Column(Column::from(field)))).collect()
        }
        _ => return Ok(None),
    };
    let Some(input) = plan.inputs().first().copied() else { return Ok(None) };
    match below(&early.through(&meaning)?, input)? {
        Some(input) => plan.with_new_exprs(plan.expressions(), vec![input]).map(Some),
        None => Ok(None),
    }
}
