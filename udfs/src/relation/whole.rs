//! A function that does something (trains and saves a model) must run, once, to its end; a plan that would not is refused.

use std::collections::HashSet;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::RelationNode;
use crate::error::Error;

/// Refuses plans that would stop such a function early or run it twice.
#[derive(Debug)]
pub(crate) struct WholeRelations;

impl AnalyzerRule for WholeRelations {
    fn name(&self) -> &str {
        "whole_relations"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        if !writes(&plan) {
            return Ok(plan);
        }
        let mut calls = HashSet::new();
        plan.apply_with_subqueries(|plan| {
            if let Some(node) = writer(plan)
                && !calls.insert(node.call())
            {
                let name = node.function().name;
                let reason = format!("{name} would run twice, because a common table expression or view with it is used twice");
                let hint = format!("use it once, or keep its rows with CREATE TABLE ... AS SELECT * FROM {name}(...)");
                return Err(Error::Unsupported { reason, hint }.into());
            }
            if matches!(plan, LogicalPlan::Limit(_))
                && let Some(node) = cut_short(plan)
            {
                return Err(early_end(node, "LIMIT"));
            }
            if matches!(plan, LogicalPlan::RecursiveQuery(_))
                && let Some(node) = first(plan)
            {
                return Err(early_end(node, "a recursive query"));
            }
            plan.apply_expressions(|expression| {
                expression.apply(|expression| {
                    let subquery = match expression {
                        Expr::Exists(exists) => &exists.subquery,
                        Expr::InSubquery(inside) => &inside.subquery,
                        _ => return Ok(TreeNodeRecursion::Continue),
                    };
                    match first(&subquery.subquery) {
                        Some(node) => Err(early_end(node, "EXISTS or IN")),
                        None => Ok(TreeNodeRecursion::Continue),
                    }
                })
            })
        })?;
        Ok(plan)
    }
}

fn early_end(node: &RelationNode, what: &str) -> datafusion::common::DataFusionError {
    let name = node.function().name;
    let trains = node.function().columns().iter().any(|column| column.name == "version");
    let (saved, hint) = match trains {
        true => ("model", format!("read all its rows; for the saved version only: SELECT * FROM {name}(...) WHERE version IS NOT NULL")),
        false => ("result", "read all its rows".to_owned()),
    };
    Error::Unsupported { reason: format!("{what} would end {name} before its {saved} is saved"), hint }.into()
}

/// The call that a plan begins with, if it writes.
fn writer(plan: &LogicalPlan) -> Option<&RelationNode> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    extension.node.as_any().downcast_ref::<RelationNode>().filter(|node| !node.reads_only())
}

/// The call below a LIMIT that would be dropped before its end: there is nothing between that reads all rows first.
fn cut_short(plan: &LogicalPlan) -> Option<&RelationNode> {
    if let Some(node) = writer(plan) {
        return Some(node);
    }
    let reads_all = match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    };
    if reads_all { None } else { plan.inputs().into_iter().find_map(cut_short) }
}

fn first(plan: &LogicalPlan) -> Option<&RelationNode> {
    writer(plan).or_else(|| plan.inputs().into_iter().find_map(first))
}

/// Whether a plan writes when it is run as a query: it trains and saves a model.
pub fn writes(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walk = plan.apply_with_subqueries(|plan| {
        found |= writer(plan).is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walk.is_err() || found
}
