//! Lifts calls out of expressions.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, Operator, binary_expr};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::node::{Calls, Entry};
use super::{has_call, is_call, is_inline};
use crate::error::Error;

/// Puts a step below every part of a plan that calls. It runs after the engine's own rules, which have by then dropped what nobody asked for.
#[derive(Debug)]
pub(crate) struct HoistCalls;

impl OptimizerRule for HoistCalls {
    fn name(&self) -> &str {
        "hoist_calls"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|plan| hoist(plan, config))
    }
}

fn hoist(plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    if Calls::of(&plan).is_some() || !plan.expressions().iter().any(has_call) {
        return Ok(Transformed::no(plan));
    }
    let plan = match plan {
        LogicalPlan::Filter(filter) => cheap_first(filter)?,
        // What a scan is told of a condition is told besides it: the condition itself stays above.
        LogicalPlan::TableScan(_) => return Ok(Transformed::no(plan)),
        LogicalPlan::Projection(_) | LogicalPlan::Sort(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => plan,
        other if other.expressions().iter().all(is_inline) => return Ok(Transformed::no(other)),
        other => {
            return Err(Error::Unsupported {
                reason: format!("a model cannot be called in this place: {}", other.display()),
                hint: "put the call into the select list of a subquery and use its column here".to_owned(),
            }
            .into());
        }
    };
    let before = plan.schema().clone();
    let kept = match &plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => 0,
        other => other.inputs().first().map_or(0, |input| input.schema().fields().len()),
    };
    let mut plan = plan;
    let mut added = 0;
    loop {
        let mut entries = Vec::new();
        let names = NamePreserver::new(&plan);
        let lifted = plan.map_expressions(|expression| {
            let name = names.save(&expression);
            let lifted = lift(expression, None, &mut entries, config)?;
            Ok(lifted.update_data(|expression| name.restore(expression)))
        })?;
        plan = lifted.data;
        if entries.is_empty() {
            break;
        }
        added += entries.len();
        let input = plan.inputs().first().map(|input| (*input).clone());
        let input = input.map(|input| Calls::over(input, entries)).transpose()?;
        plan = plan.with_new_exprs(plan.expressions(), input.into_iter().collect())?;
    }
    // The columns of before, by their position: those that were passed on, then those that the plan makes.
    let after = plan.schema().clone();
    let columns = before.iter().enumerate().map(|(position, (qualifier, field))| {
        let column = Expr::Column(Column::from(after.qualified_field(if position < kept {
            position
        } else {
            position + if kept > 0 { added } else { 0 }
        })));
        match column.qualified_name() == (qualifier.cloned(), field.name().clone()) {
            true => column,
            false => column.alias_qualified(qualifier.cloned(), field.name()),
        }
    });
    let columns: Vec<Expr> = columns.collect();
    if after.fields().len() == before.fields().len() && columns.iter().all(|column| matches!(column, Expr::Column(_))) {
        return Ok(Transformed::yes(plan));
    }
    LogicalPlanBuilder::from(plan).project(columns)?.build().map(Transformed::yes)
}

/// The filter with its conditions that do not call in a filter below.
fn cheap_first(filter: Filter) -> Result<LogicalPlan> {
    let (calling, cheap): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate).into_iter().partition(has_call);
    let mut builder = LogicalPlanBuilder::from(std::sync::Arc::unwrap_or_clone(filter.input));
    if let Some(cheap) = conjunction(cheap) {
        builder = builder.filter(cheap)?;
    }
    match conjunction(calling) {
        Some(calling) => builder.filter(calling)?.build(),
        None => builder.build(),
    }
}

/// Replaces the calls whose arguments and guard call nothing themselves by columns.
fn lift(expression: Expr, guard: Option<&Expr>, entries: &mut Vec<Entry>, config: &dyn OptimizerConfig) -> Result<Transformed<Expr>> {
    if !has_call(&expression) {
        return Ok(Transformed::no(expression));
    }
    match expression {
        Expr::Case(case) => lift_case(case, guard, entries, config),
        call if is_call(&call) && !arguments_call(&call) => {
            if guard.is_some_and(has_call) {
                return Ok(Transformed::no(call));
            }
            if let Some(known) = entries.iter().find(|entry| entry.call == call && entry.guard.as_ref() == guard) {
                return Ok(Transformed::yes(Expr::Column(known.column())));
            }
            let entry = Entry { call, guard: guard.cloned(), name: config.alias_generator().next("__call") };
            let column = entry.column();
            entries.push(entry);
            Ok(Transformed::yes(Expr::Column(column)))
        }
        other => other.map_children(|child| lift(child, guard, entries, config)),
    }
}

fn arguments_call(call: &Expr) -> bool {
    matches!(call, Expr::ScalarFunction(call) if call.args.iter().any(has_call))
}

/// A branch of a CASE is guarded by its condition, and by those before it that did not hold.
fn lift_case(case: Case, guard: Option<&Expr>, entries: &mut Vec<Entry>, config: &dyn OptimizerConfig) -> Result<Transformed<Expr>> {
    let Case { expr, when_then_expr, else_expr } = case;
    let mut before: Vec<Expr> = guard.cloned().into_iter().collect();
    let mut take = |expression: Expr, guards: &[Expr]| {
        let guard = conjunction(guards.iter().cloned());
        lift(expression, guard.as_ref(), entries, config).map(|lifted| lifted.data)
    };
    let base = expr.map(|base| take(*base, &before)).transpose()?;
    let mut branches = Vec::with_capacity(when_then_expr.len());
    for (when, then) in when_then_expr {
        let when = take(*when, &before)?;
        let holds = match &base {
            Some(base) => binary_expr(base.clone(), Operator::Eq, when.clone()).is_true(),
            None => when.clone().is_true(),
        };
        before.push(holds.clone());
        let then = take(*then, &before)?;
        before.pop();
        before.push(holds.is_not_true());
        branches.push((Box::new(when), Box::new(then)));
    }
    let other = else_expr.map(|other| take(*other, &before)).transpose()?;
    Ok(Transformed::yes(Expr::Case(Case::new(base.map(Box::new), branches, other.map(Box::new)))))
}
