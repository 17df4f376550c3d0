//! What PostgreSQL says in words that the engine does not take: EXISTS as a value, `mod`, and relations of one column that are called what their
//! relation is called.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, ObjectName, Query, Select, SelectItem,
    SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::names::take;

/// Rewrites a statement.
pub(crate) fn apply(statement: &mut Statement) {
    let _: ControlFlow<()> = VisitMut::visit(statement, &mut Rewriter);
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        select.projection.iter_mut().for_each(|item| {
            let _: ControlFlow<()> = VisitMut::visit(item, &mut Values { inside: 0 });
        });
        // what the engine calls the column of a series, and statements may still call it
        let by_engine = speaks_of(select, "value");
        let factors = select
            .from
            .iter_mut()
            .flat_map(|from| std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation)));
        for factor in factors {
            match factor {
                TableFactor::Table { name, args: Some(_), alias, with_ordinality: false, .. }
                    if last(name) == "generate_series" && !by_engine =>
                {
                    name_column(alias, "generate_series");
                }
                TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality: false, .. } if array_exprs.len() == 1 => {
                    name_column(alias, "unnest");
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(call) = expression
            && last(&call.name) == "mod"
            && let FunctionArguments::List(list) = &mut call.args
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(left)), FunctionArg::Unnamed(FunctionArgExpr::Expr(right))] =
                list.args.as_mut_slice()
        {
            let side = |side: &mut Expr| Box::new(Expr::Nested(Box::new(take(side))));
            let (left, right) = (side(left), side(right));
            *expression = Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::Modulo, right }));
        }
        ControlFlow::Continue(())
    }
}

/// Whether a column of this name is spoken of.
fn speaks_of(select: &Select, name: &str) -> bool {
    struct Search<'a>(&'a str);
    impl Visitor for Search<'_> {
        type Break = ();

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            let column = match expression {
                Expr::Identifier(name) => Some(name),
                Expr::CompoundIdentifier(names) => names.last(),
                _ => None,
            };
            if column.is_some_and(|column| column.value == self.0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    select.visit(&mut Search(name)).is_break()
}

/// A relation of one column: without a name for the column, it has that of the relation.
fn name_column(alias: &mut Option<TableAlias>, function: &str) {
    let alias = alias.get_or_insert_with(|| TableAlias { explicit: true, name: Ident::new(function), columns: Vec::new(), at: None });
    if alias.columns.is_empty() {
        alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
}

/// Puts a query of a truth in the place of EXISTS in a list of columns.
struct Values {
    /// Queries in a query see to their own.
    inside: usize,
}

impl VisitorMut for Values {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.inside += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.inside -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if self.inside == 0
            && let Expr::Exists { subquery, negated } = expression
            && let Some(counted) = counted(subquery, *negated)
        {
            *expression = Expr::Subquery(Box::new(counted));
        }
        ControlFlow::Continue(())
    }
}

/// Whether a query has rows, as a query: it counts them itself where it is a plain one, so that it may speak of the query around it.
fn counted(query: &Query, negated: bool) -> Option<Query> {
    let truth = if negated { "count(*) = 0" } else { "count(*) > 0" };
    if is_plain(query)
        && let SetExpr::Select(select) = query.body.as_ref()
    {
        let mut select = select.clone();
        select.projection = vec![SelectItem::UnnamedExpr(Parser::new(&PostgreSqlDialect {}).try_with_sql(truth).ok()?.parse_expr().ok()?)];
        return Some(Query { body: Box::new(SetExpr::Select(select)), order_by: None, ..query.clone() });
    }
    let text = format!("SELECT {truth} FROM ({query}) AS rows");
    Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).ok()?.parse_query().ok().map(|query| *query)
}

/// Whether a query has a row for each that its FROM and WHERE give.
fn is_plain(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let whole = query.limit_clause.is_none() && query.fetch.is_none() && select.distinct.is_none() && select.having.is_none();
    ungrouped && whole && !calls(select)
}

/// Whether a list of columns calls a function, which may be an aggregate.
fn calls(select: &Select) -> bool {
    struct Search;
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            if matches!(expression, Expr::Function(_)) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    select.projection.visit(&mut Search).is_break()
}

fn last(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect(sql).remove(0);
        apply(&mut statement);
        statement.to_string()
    }

    #[test]
    fn exists_is_a_value() {
        assert_eq!(
            rewritten(
                "SELECT EXISTS (SELECT 1 FROM u WHERE u.x = t.x), NOT EXISTS (SELECT * FROM u LIMIT 1) FROM t WHERE EXISTS (SELECT 1 FROM v)"
            ),
            "SELECT (SELECT count(*) > 0 FROM u WHERE u.x = t.x), (SELECT count(*) = 0 FROM (SELECT * FROM u LIMIT 1) AS rows) FROM t WHERE EXISTS (SELECT 1 FROM v)"
        );
        assert_eq!(
            rewritten("SELECT CASE WHEN EXISTS (SELECT max(x) FROM u) THEN 1 END"),
            "SELECT CASE WHEN (SELECT count(*) > 0 FROM (SELECT max(x) FROM u) AS rows) THEN 1 END"
        );
    }

    #[test]
    fn relations_of_one_column_name_it() {
        assert_eq!(rewritten("SELECT g FROM generate_series(1, 3) AS g"), "SELECT g FROM generate_series(1, 3) AS g (g)");
        assert_eq!(rewritten("SELECT value FROM generate_series(1, 3)"), "SELECT value FROM generate_series(1, 3)");
        assert_eq!(rewritten("SELECT * FROM unnest(a) AS u (x)"), "SELECT * FROM UNNEST(a) AS u (x)");
        assert_eq!(rewritten("SELECT * FROM unnest(a)"), "SELECT * FROM UNNEST(a) AS unnest (unnest)");
        assert_eq!(rewritten("SELECT mod(a + 1, 3) FROM t"), "SELECT ((a + 1) % (3)) FROM t");
    }
}
