//! Queries of relations that never have a row: lists of the catalog that are never filled, and what is made of them. The engine need not be able
//! to read them.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr,
    TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins, Value, Visit, VisitMut, Visitor, VisitorMut,
};

use super::{column, last};
use crate::names::folded;
use crate::system;

/// Functions whose answer to no rows is a row.
const AGGREGATES: [&str; 13] =
    ["array_agg", "avg", "bool_and", "bool_or", "count", "every", "json_agg", "jsonb_agg", "max", "min", "string_agg", "sum", "xmlagg"];

/// A list of texts without an item.
pub(super) const NO_TEXTS: &str = "array_remove(make_array(''), '')";

/// Takes out of a query what orders no rows, and puts named queries without a row in the places that speak of them.
pub(super) fn simplify(query: &mut Query) {
    inline(query);
    if matches!(query.body.as_ref(), SetExpr::Select(select) if makes_nothing(select)) {
        query.order_by = None;
    }
}

/// Puts the queries of WITH that never have a row in the places of their names.
fn inline(query: &mut Query) {
    struct Place<'a>(&'a str, &'a Query, &'a [TableAliasColumnDef]);
    impl VisitorMut for Place<'_> {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, alias, args: None, .. } = factor
                && name.0.len() == 1
                && last(name) == self.0
            {
                let name = alias.take().map_or_else(|| Ident::new(self.0), |alias| alias.name);
                let alias = TableAlias { explicit: true, name, columns: self.2.to_vec(), at: None };
                let subquery = Box::new(self.1.clone());
                *factor = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
            }
            ControlFlow::Continue(())
        }
    }
    let Some(with) = query.with.as_mut().filter(|with| !with.recursive) else { return };
    while let Some(at) = with.cte_tables.iter().position(|named| is_nothing(&named.query)) {
        let named = with.cte_tables.remove(at);
        let name = folded(&named.alias.name);
        let mut place = Place(&name, &named.query, &named.alias.columns);
        let _: ControlFlow<()> = VisitMut::visit(&mut with.cte_tables, &mut place);
        let _: ControlFlow<()> = VisitMut::visit(&mut query.body, &mut place);
    }
    if with.cte_tables.is_empty() {
        query.with = None;
    }
}

/// Takes out of a SELECT that never has a row what stands in its rows, as that need not be found.
pub(super) fn forget(select: &mut Select) {
    if !makes_nothing(select) {
        return;
    }
    select.selection = None;
    select.projection.iter_mut().for_each(forget_value);
    for join in select.from.iter_mut().flat_map(|from| from.joins.iter_mut()) {
        if let JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::Left(on) | JoinOperator::LeftOuter(on) =
            &mut join.join_operator
            && matches!(on, JoinConstraint::On(_))
        {
            *on = JoinConstraint::On(Expr::Value(Value::Boolean(false).into()));
        }
    }
    let hard = |factor: &TableFactor| matches!(factor, TableFactor::NestedJoin { .. } | TableFactor::UNNEST { .. });
    if select.from.iter().any(|from| hard(&from.relation) || from.joins.iter().any(|join| hard(&join.relation))) {
        leave(select);
    }
}

/// Puts NULL in the place of what is more than a column.
fn forget_value(item: &mut SelectItem) {
    if let SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } = item
        && !matches!(expression, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
    {
        *expression = Expr::Value(Value::Null.into());
    }
}

/// Leaves nothing of what is joined in brackets or to the items of lists, which the engine may not take, but the names of the columns.
fn leave(select: &mut Select) {
    let named = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expression) => column(expression).map(Ident::new),
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        _ => None,
    };
    let Some(names) = select.projection.iter().map(named).collect::<Option<Vec<_>>>() else { return };
    let null = || Expr::Value(Value::Null.into());
    select.projection = names.into_iter().map(|alias| SelectItem::ExprWithAlias { expr: null(), alias }).collect();
    select.from.clear();
    select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.having = None;
    select.selection = Some(Expr::Value(Value::Boolean(false).into()));
}

/// Whether a query never has a row.
pub(super) fn is_nothing(query: &Query) -> bool {
    query.with.is_none() && matches!(query.body.as_ref(), SetExpr::Select(select) if makes_nothing(select))
}

/// Whether a SELECT reads what never has a row, and makes none of it.
pub(super) fn makes_nothing(select: &Select) -> bool {
    let grouped = matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if !keys.is_empty());
    select.from.iter().any(never_has_rows) && (grouped || !aggregates(select))
}

/// Whether a join never has a row.
fn never_has_rows(from: &TableWithJoins) -> bool {
    let inner = |join: &Join| {
        matches!(
            join.join_operator,
            JoinOperator::Join(_)
                | JoinOperator::Inner(_)
                | JoinOperator::CrossJoin(_)
                | JoinOperator::Left(_)
                | JoinOperator::LeftOuter(_)
        )
    };
    let left = is_empty(&from.relation) && from.joins.iter().all(inner);
    let joined = from.joins.iter().any(|join| {
        is_empty(&join.relation)
            && matches!(join.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
    });
    left || (joined && from.joins.iter().all(inner))
}

/// Whether a SELECT answers one row for many, apart from the queries in it.
pub(super) fn aggregates(select: &Select) -> bool {
    struct Search {
        inside: usize,
    }
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.inside += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.inside -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            match expression {
                Expr::Function(call) if self.inside == 0 && AGGREGATES.contains(&last(&call.name).as_str()) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    select.projection.visit(&mut Search { inside: 0 }).is_break()
}

/// Whether a relation never has a row: a list of the catalog that is never filled, or the items of one.
pub(super) fn is_empty(factor: &TableFactor) -> bool {
    let name = match factor {
        TableFactor::Table { name, args: None, .. } => name,
        TableFactor::Derived { subquery, .. } => return is_nothing(subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => return never_has_rows(table_with_joins),
        TableFactor::Table { name, args: Some(args), .. } if last(name) == "unnest" => {
            let list = |argument: &FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(names))) => {
                    names.last().is_some_and(|name| folded(name) == "reloptions")
                }
                _ => false,
            };
            return matches!(args.args.as_slice(), [one] if list(one));
        }
        _ => return false,
    };
    let system = match name.0.as_slice() {
        [_] => true,
        [schema, _] => schema.as_ident().is_some_and(|schema| folded(schema) == "pg_catalog"),
        _ => false,
    };
    system && system::is_empty(&last(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::idiom::tests::rewritten;

    #[test]
    fn what_never_has_a_row_is_not_read() {
        let subquery =
            "SELECT (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d WHERE d.adnum = a.n) AS d FROM a";
        assert_eq!(rewritten(subquery), "SELECT NULL AS d FROM a");
        assert_eq!(rewritten("SELECT EXISTS (SELECT 1 FROM pg_trigger) AS e"), "SELECT false AS e");
        assert_eq!(
            rewritten("SELECT (SELECT count(*) FROM pg_trigger) AS n"),
            "SELECT (SELECT count(*) AS \"count\" FROM pg_trigger) AS n"
        );
        assert_eq!(rewritten("SELECT (SELECT max(x) FROM t WHERE x = p.y) AS m FROM pg_policy p"), "SELECT NULL AS m FROM pg_policy p");
        assert_eq!(rewritten("SELECT 'd' = any(x) AS d, y FROM pg_trigger t WHERE f(x)"), "SELECT NULL AS d, y FROM pg_trigger t");
        assert_eq!(
            rewritten("SELECT ARRAY(SELECT 'toast.' || x FROM pg_catalog.unnest(c.reloptions) x) AS o FROM pg_class c"),
            format!("SELECT {NO_TEXTS} AS o FROM pg_class c")
        );
        // a user's own table of such a name
        assert_eq!(rewritten("SELECT (SELECT x FROM work.pg_policy) AS m"), "SELECT (SELECT x FROM work.pg_policy) AS m");
    }

    #[test]
    fn of_what_is_joined_in_brackets_to_nothing_the_columns_are_left() {
        assert_eq!(
            rewritten(
                "SELECT n.a, f(c.x[1]) AS b FROM ((SELECT conkey AS x FROM pg_constraint) c JOIN pg_namespace n ON n.oid = c.x[1]) ORDER BY 1"
            ),
            "SELECT NULL AS a, NULL AS b WHERE false"
        );
    }

    #[test]
    fn what_is_joined_to_nothing_is_joined_on_nothing() {
        assert_eq!(
            rewritten("SELECT a.x FROM pg_class t JOIN pg_index i ON t.oid = i.r LEFT JOIN a ON a.n = ANY(i.k)"),
            "SELECT a.x FROM pg_class t JOIN pg_index i ON false LEFT JOIN a ON false"
        );
    }

    #[test]
    fn named_queries_without_a_row_stand_in_the_places_of_their_names() {
        assert_eq!(
            rewritten(
                "WITH c AS (SELECT x, f(y) AS z FROM pg_constraint), d AS (SELECT max(z) AS z, x FROM c GROUP BY x), e AS (SELECT 1 AS x) SELECT x FROM d UNION ALL SELECT x FROM e"
            ),
            "WITH e AS (SELECT 1 AS x) SELECT x FROM (SELECT NULL AS z, x FROM (SELECT x, NULL AS z FROM pg_constraint) AS c GROUP BY x) AS d UNION ALL SELECT x FROM e"
        );
    }
}
