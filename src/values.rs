//! VALUES with queries among them, `VALUES ((SELECT max(x) FROM t), 1)`, which the engine computes too early: each row becomes a SELECT.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr, Statement, Visit, VisitMut, Visitor, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Rewrites the rows of a statement.
pub(crate) fn apply(statement: &mut Statement) {
    struct Queries;
    impl VisitorMut for Queries {
        type Break = ();

        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            select(&mut query.body);
            ControlFlow::Continue(())
        }
    }
    let _: ControlFlow<()> = VisitMut::visit(statement, &mut Queries);
}

fn select(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            select(left);
            select(right);
        }
        SetExpr::Values(values) if values.rows.iter().flat_map(|row| row.iter()).any(asks) => {
            let row = |row: &Vec<Expr>| {
                let columns = row.iter().enumerate().map(|(at, value)| format!("{value} AS column{}", at + 1));
                format!("SELECT {}", columns.collect::<Vec<_>>().join(", "))
            };
            let rows: Vec<String> = values.rows.iter().map(|r| row(&r.content)).collect();
            let query =
                Parser::new(&PostgreSqlDialect {}).try_with_sql(&rows.join(" UNION ALL ")).and_then(|mut parser| parser.parse_query());
            if let Ok(query) = query {
                *body = *query.body;
            }
        }
        _ => {}
    }
}

/// Whether an expression has a query in it.
fn asks(expression: &Expr) -> bool {
    struct Search(bool);
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.0 = true;
            ControlFlow::Break(())
        }
    }
    let mut search = Search(false);
    let _: ControlFlow<()> = Visit::visit(expression, &mut search);
    search.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_queries_are_selects() {
        for (sql, expected) in [
            ("VALUES ((SELECT 1), 2), (3, 4)", "SELECT (SELECT 1) AS column1, 2 AS column2 UNION ALL SELECT 3 AS column1, 4 AS column2"),
            ("VALUES (1, 2)", "VALUES (1, 2)"),
            ("INSERT INTO t VALUES (1, (SELECT 2))", "INSERT INTO t SELECT 1 AS column1, (SELECT 2) AS column2"),
        ] {
            let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect(sql).remove(0);
            apply(&mut statement);
            assert_eq!(statement.to_string(), expected);
        }
    }
}
