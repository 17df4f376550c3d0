//! Queries of the catalog that have one row, which the engine must be shown.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Query, SelectItem, SetExpr, TableFactor};

use super::nothing::aggregates;
use super::{call, column, last};

/// The engine wants to be sure that a query in the place of a value answers one row. One that finds a relation of the catalog by its
/// number does, and its value is the largest of it.
pub(super) fn one_row(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let [from] = select.from.as_slice() else { return };
    let TableFactor::Table { name, args: None, .. } = &from.relation else { return };
    if !from.joins.is_empty() || !last(name).starts_with("pg_") || aggregates(select) {
        return;
    }
    let by_number = select.selection.as_ref().is_some_and(finds_by_number);
    if let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_mut_slice()
        && by_number
        && let Some(most) = call("max", item)
    {
        *item = most;
    }
}

/// A recursive walk from a type to the one that it rests on, `typbasetype`, has one step here: none rests on one that rests on another.
pub(super) fn one_step(query: &mut Query) {
    let Some(with) = query.with.as_ref().filter(|with| with.recursive) else { return };
    let [walk] = with.cte_tables.as_slice() else { return };
    let SetExpr::SetOperation { left, .. } = walk.query.body.as_ref() else { return };
    let SetExpr::Select(first) = left.as_ref() else { return };
    let base = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } => {
            column(expression).is_some_and(|name| name == "typbasetype")
        }
        _ => false,
    };
    if !first.projection.first().is_some_and(base) {
        return;
    }
    let mut first = first.clone();
    first.projection.truncate(1);
    // a name of its own is one that the engine can take for that of a column
    if let Some(SelectItem::ExprWithAlias { expr, .. }) = first.projection.pop() {
        first.projection.push(SelectItem::UnnamedExpr(expr));
    }
    query.with = None;
    query.order_by = None;
    query.limit_clause = None;
    *query.body = SetExpr::Select(first);
}

/// Whether a condition holds for one number only.
fn finds_by_number(condition: &Expr) -> bool {
    let is_number = |side: &Expr| column(side).is_some_and(|name| name == "oid");
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => finds_by_number(left) || finds_by_number(right),
        Expr::BinaryOp { left, op: BinaryOperator::Eq, .. } => is_number(left),
        Expr::Nested(inner) => finds_by_number(inner),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rewritten;

    #[test]
    fn a_walk_to_a_base_type_is_a_step() {
        let walk = "WITH RECURSIVE b(oid) AS (SELECT u.typbasetype AS oid, 0 AS d FROM pg_type u WHERE u.oid = t.oid UNION ALL SELECT v.typbasetype, 1 AS e FROM pg_type v, b WHERE b.oid = v.oid) SELECT oid FROM b ORDER BY d DESC LIMIT 1";
        assert_eq!(
            rewritten(&format!("SELECT CASE WHEN t.typtype = 'd' THEN ({walk}) END AS b FROM pg_type t")),
            "SELECT CASE WHEN t.typtype = 'd' THEN (SELECT max(u.typbasetype) FROM pg_type u WHERE u.oid = t.oid) END AS b FROM pg_type t"
        );
    }

    #[test]
    fn what_is_found_by_its_number_is_one_row() {
        assert_eq!(
            rewritten("SELECT (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = t.typrelid) AS k FROM pg_type t"),
            "SELECT (SELECT max(c.relkind = 'c') AS \"?column?\" FROM pg_class c WHERE c.oid = t.typrelid) AS k FROM pg_type t"
        );
        let many = "SELECT (SELECT c.relkind AS k FROM pg_class c WHERE c.relname = t.x) AS k FROM pg_type t";
        assert_eq!(rewritten(many), many);
    }
}
