//! Does filters, sorts and limits before calls, where these do not need their results.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::Sort as SortKey;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, Limit, LogicalPlan, Sort, SubqueryAlias};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::node::Calls;

/// Moves filters, sorts and limits below the steps of calls. Filters mostly are there by then, but the engine also moves what reads a field of a
/// call's result below them. A sort stays above the calls too: what is above the last sort of a plan may run in partitions of its own, which
/// end in no order. Where it does not, the rows are in order already and the engine takes the sort out again.
#[derive(Debug)]
pub(crate) struct CallLate;

impl OptimizerRule for CallLate {
    fn name(&self) -> &str {
        "call_late"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|plan| {
            let moved = match &plan {
                LogicalPlan::Filter(Filter { predicate, input, .. }) => filter_below(predicate, input)?,
                LogicalPlan::Sort(sort) => below(&Early::of(sort), &sort.input)?.map(|input| again(sort, input)),
                LogicalPlan::Limit(Limit { skip, fetch, input }) => below(&Early::Limit(skip.clone(), fetch.clone()), input)?,
                _ => None,
            };
            Ok(moved.map_or_else(|| Transformed::no(plan), Transformed::yes))
        })
    }
}

/// What is to be done early.
enum Early {
    Filter(Expr),
    Sort(Vec<SortKey>, Option<usize>),
    Limit(Option<Box<Expr>>, Option<Box<Expr>>),
}

/// The sort over another input.
fn again(sort: &Sort, input: LogicalPlan) -> LogicalPlan {
    LogicalPlan::Sort(Sort { input: Arc::new(input), ..sort.clone() })
}

impl Early {
    fn of(sort: &Sort) -> Self {
        Self::Sort(sort.expr.clone(), sort.fetch)
    }

    /// Whether a plan is this sort, perhaps with a limit.
    fn is_done_by(&self, plan: &LogicalPlan) -> bool {
        match (self, plan) {
            (Self::Sort(keys, fetch), LogicalPlan::Sort(sort)) => sort.expr == *keys && sort.fetch == *fetch,
            (_, LogicalPlan::Limit(limit)) => self.is_done_by(&limit.input),
            _ => false,
        }
    }

    fn over(&self, input: LogicalPlan) -> Result<LogicalPlan> {
        let input = Arc::new(input);
        Ok(match self {
            Self::Filter(predicate) => LogicalPlan::Filter(Filter::try_new(predicate.clone(), input)?),
            Self::Sort(expr, fetch) => LogicalPlan::Sort(Sort { expr: expr.clone(), input, fetch: *fetch }),
            Self::Limit(skip, fetch) => LogicalPlan::Limit(Limit { skip: skip.clone(), fetch: fetch.clone(), input }),
        })
    }

    /// The same in terms of what columns stand for.
    fn through(&self, meaning: &HashMap<Column, Expr>) -> Result<Self> {
        let meant = |expression: Expr| match &expression {
            Expr::Column(column) => {
                Ok(meaning.get(column).map_or_else(|| Transformed::no(expression.clone()), |e| Transformed::yes(e.clone())))
            }
            _ => Ok(Transformed::no(expression)),
        };
        let meaning_of = |expression: &Expr| -> Result<Expr> { Ok(expression.clone().transform_up(meant)?.data) };
        match self {
            Self::Filter(predicate) => meaning_of(predicate).map(Self::Filter),
            Self::Sort(keys, fetch) => {
                let keys = keys.iter().map(|key| Ok(SortKey { expr: meaning_of(&key.expr)?, ..key.clone() }));
                Ok(Self::Sort(keys.collect::<Result<_>>()?, *fetch))
            }
            Self::Limit(skip, fetch) => Ok(Self::Limit(skip.clone(), fetch.clone())),
        }
    }

    fn reads(&self) -> Vec<&Expr> {
        match self {
            Self::Filter(predicate) => vec![predicate],
            Self::Sort(keys, _) => keys.iter().map(|key| &key.expr).collect(),
            Self::Limit(..) => Vec::new(),
        }
    }

    /// Whether it can be done before the results of a step are there.
    fn precedes(&self, step: &Calls) -> bool {
        let results: Vec<Column> = step.entries.iter().map(super::node::Entry::column).collect();
        self.reads().into_iter().all(|read| !read.is_volatile() && !read.column_refs().iter().any(|column| results.contains(column)))
    }
}

/// The plan with those conditions below the steps at its top that do not need their results; `None` when there is none.
fn filter_below(predicate: &Expr, plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let (mut early, mut late) = (Vec::new(), Vec::new());
    for condition in split_conjunction(predicate) {
        let moves = below(&Early::Filter(condition.clone()), plan)?.is_some();
        if moves { early.push(condition.clone()) } else { late.push(condition.clone()) }
    }
    let Some(early) = conjunction(early) else { return Ok(None) };
    let moved = below(&Early::Filter(early), plan)?;
    match (moved, conjunction(late)) {
        (Some(moved), Some(late)) => Ok(Some(LogicalPlan::Filter(Filter::try_new(late, Arc::new(moved))?))),
        (moved, _) => Ok(moved),
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
            None if early.is_done_by(&step.input) => step.input.clone(),
            None => early.over(step.input.clone())?,
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
        // Of rows that were sorted before the calls, the first ones may be taken there too.
        LogicalPlan::Sort(sort) if matches!(early, Early::Limit(..)) => {
            let sorted = below(&Early::of(sort), &sort.input)?.is_some_and(|input| input == *sort.input);
            return Ok(if sorted { below(early, &sort.input)?.map(|input| again(sort, input)) } else { None });
        }
        _ => return Ok(None),
    };
    let Some(input) = plan.inputs().first().copied() else { return Ok(None) };
    match below(&early.through(&meaning)?, input)? {
        Some(input) => plan.with_new_exprs(plan.expressions(), vec![input]).map(Some),
        None => Ok(None),
    }
}
