//! Whole numbers in SQL are of type integer where they fit it, as in PostgreSQL; the engine alone takes each for a bigint.
//!
//! A number keeps the engine's type where it is no value of its own: as a place in the list of columns, a LIMIT, a bound of a window, a subscript,
//! a row of INSERT, and as the argument of a function whose result is of one type whatever it is given.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, ArrayElemTypeDef, CastKind, DataType, Distinct, ExactNumberInfo, Expr, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, GroupByExpr, LimitClause, NamedWindowExpr, ObjectName, OrderByExpr, OrderByKind, Query,
    Select, SetExpr, Statement, Subscript, TableFactor, UnaryOperator, Value, VisitMut, VisitorMut, WindowFrameBound, WindowSpec,
    WindowType,
};

use crate::names::take;

/// Functions whose result has the type of their arguments.
const FOLLOW: [&str; 27] = [
    "abs",
    "any_value",
    "array_agg",
    "array_append",
    "array_fill",
    "array_prepend",
    "array_remove",
    "array_replace",
    "bit_and",
    "bit_or",
    "bit_xor",
    "coalesce",
    "first_value",
    "gcd",
    "generate_series",
    "greatest",
    "lag",
    "last_value",
    "lcm",
    "lead",
    "least",
    "make_array",
    "max",
    "min",
    "nth_value",
    "nullif",
    "pg_typeof",
];

/// Gives every whole number that fits the type integer.
pub(crate) fn apply(statement: &mut Statement) {
    if let Statement::Insert(insert) = statement
        && let Some(query) = &mut insert.source
        && let SetExpr::Values(values) = query.body.as_mut()
    {
        // they take the types of the table's columns
        values.rows.iter_mut().flat_map(|row| row.content.iter_mut()).for_each(keep);
    }
    let _: ControlFlow<()> = VisitMut::visit(statement, &mut Typer);
}

/// Whether an expression is a whole number of type integer.
pub(crate) fn is_integer(expression: &Expr) -> bool {
    match expression {
        Expr::Value(value) => matches!(&value.value, Value::Number(digits, _) if digits.parse::<i32>().is_ok()),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } | Expr::Nested(expr) => is_integer(expr),
        _ => false,
    }
}

/// Whether a number is of type integer with a minus before it, and not without.
fn is_least(expression: &Expr) -> bool {
    matches!(expression, Expr::Value(value) if matches!(&value.value, Value::Number(digits, false) if digits == "2147483648"))
}

/// Marks a number that keeps the engine's type, until it is visited itself. The mark is that of another dialect's long numbers.
fn keep(expression: &mut Expr) {
    match expression {
        Expr::Value(value) => {
            if let Value::Number(_, kept) = &mut value.value {
                *kept = true;
            }
        }
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } | Expr::Nested(expr) => keep(expr),
        _ => {}
    }
}

fn keep_order(keys: &mut [OrderByExpr]) {
    keys.iter_mut().for_each(|key| keep(&mut key.expr));
}

fn keep_arguments(arguments: &mut [FunctionArg]) {
    for argument in arguments {
        let (FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } | FunctionArg::Unnamed(arg)) = argument;
        if let FunctionArgExpr::Expr(expression) = arg {
            keep(expression);
        }
    }
}

fn keep_frame(window: &mut WindowSpec) {
    let Some(frame) = &mut window.window_frame else { return };
    for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
        if let WindowFrameBound::Preceding(Some(rows)) | WindowFrameBound::Following(Some(rows)) = bound {
            keep(rows);
        }
    }
}

/// FLOAT is of double precision, unless it is told that fewer bits will do. To the engine it is of single precision.
pub(crate) fn settle(data_type: &mut DataType) {
    match data_type {
        DataType::Float(ExactNumberInfo::None) => *data_type = DataType::DoublePrecision,
        DataType::Float(ExactNumberInfo::Precision(bits) | ExactNumberInfo::PrecisionAndScale(bits, _)) => {
            *data_type = if *bits > 24 { DataType::DoublePrecision } else { DataType::Real };
        }
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => settle(item),
        _ => {}
    }
}

fn follows(name: &ObjectName) -> bool {
    let name = name.0.last().and_then(|part| part.as_ident());
    name.is_some_and(|name| FOLLOW.iter().any(|known| known.eq_ignore_ascii_case(&name.value)))
}

struct Typer;

impl VisitorMut for Typer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(order) = &mut query.order_by
            && let OrderByKind::Expressions(keys) = &mut order.kind
        {
            keep_order(keys);
        }
        match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
                limit.iter_mut().chain(limit_by).for_each(keep);
                offset.iter_mut().for_each(|offset| keep(&mut offset.value));
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                keep(offset);
                keep(limit);
            }
            None => {}
        }
        if let Some(quantity) = query.fetch.as_mut().and_then(|fetch| fetch.quantity.as_mut()) {
            keep(quantity);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            for key in keys {
                match key {
                    Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => sets.iter_mut().flatten().for_each(keep),
                    Expr::Tuple(keys) => keys.iter_mut().for_each(keep),
                    key => keep(key),
                }
            }
        }
        if let Some(Distinct::On(keys)) = &mut select.distinct {
            keys.iter_mut().for_each(keep);
        }
        for window in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(window) = &mut window.1 {
                keep_frame(window);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(arguments), .. } if !follows(name) => keep_arguments(&mut arguments.args),
            TableFactor::Function { name, args, .. } if !follows(name) => keep_arguments(args),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        match expression {
            Expr::Function(call) => {
                if let FunctionArguments::List(list) = &mut call.args {
                    if !follows(&call.name) {
                        keep_arguments(&mut list.args);
                    }
                    for clause in &mut list.clauses {
                        if let FunctionArgumentClause::OrderBy(keys) = clause {
                            keep_order(keys);
                        }
                    }
                }
                if let Some(WindowType::WindowSpec(window)) = &mut call.over {
                    keep_frame(window);
                }
            }
            Expr::Interval(interval) => keep(&mut interval.value),
            Expr::CompoundFieldAccess { access_chain, .. } => {
                for access in access_chain {
                    match access {
                        AccessExpr::Subscript(Subscript::Index { index }) => keep(index),
                        AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride }) => {
                            lower_bound.iter_mut().chain(upper_bound).chain(stride).for_each(keep);
                        }
                        AccessExpr::Dot(_) => {}
                    }
                }
            }
            // a type is said already
            Expr::Cast { expr, data_type, .. } => {
                settle(data_type);
                keep(expr);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        match expression {
            Expr::Value(value) => match &mut value.value {
                Value::Number(_, kept) if *kept => *kept = false,
                Value::Number(digits, _) if digits.parse::<i32>().is_ok() => {
                    let number = take(expression);
                    *expression = integer(number);
                }
                _ => {}
            },
            // the engine reads a sign as part of the number
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } if is_least(expr) => {
                let number = take(expr);
                *expression = integer(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) });
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
                if let Expr::Cast { expr: number, .. } = expr.as_mut()
                    && is_integer(number)
                {
                    let number = take(number);
                    *expression = integer(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) });
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn integer(number: Expr) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(number), data_type: DataType::Int4(None), array: false, format: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn typed(sql: &str) -> String {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect(sql).remove(0);
        apply(&mut statement);
        statement.to_string().replace("AS INT4", "AS i")
    }

    #[test]
    fn values_are_integers_where_they_fit() {
        assert_eq!(
            typed("SELECT 1, -2, 2147483648, -2147483648, 1.5, a + 3"),
            "SELECT CAST(1 AS i), CAST(-2 AS i), 2147483648, CAST(-2147483648 AS i), 1.5, a + CAST(3 AS i)"
        );
        assert_eq!(
            typed("SELECT x FROM t WHERE a IN (1, 2) AND b = ARRAY[3]"),
            "SELECT x FROM t WHERE a IN (CAST(1 AS i), CAST(2 AS i)) AND b = ARRAY[CAST(3 AS i)]"
        );
        assert_eq!(typed("SELECT coalesce(a, 0), max(1)"), "SELECT coalesce(a, CAST(0 AS i)), max(CAST(1 AS i))");
        assert_eq!(typed("SELECT * FROM generate_series(1, 3) AS s"), "SELECT * FROM generate_series(CAST(1 AS i), CAST(3 AS i)) AS s");
    }

    #[test]
    fn float_is_of_double_precision() {
        assert_eq!(typed("SELECT a::FLOAT, b::FLOAT(24), c::REAL"), "SELECT a::DOUBLE PRECISION, b::REAL, c::REAL");
    }

    #[test]
    fn places_counts_and_arguments_are_left_alone() {
        for sql in [
            "SELECT a, b FROM t GROUP BY 1, ROLLUP (2) ORDER BY 1 LIMIT 2 OFFSET 3",
            "SELECT DISTINCT ON (1) a FROM t",
            "SELECT round(a, 2), f(x => -3), a::BIGINT, 7::SMALLINT, INTERVAL '1' DAY",
            "SELECT sum(a) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING), (c)[1] FROM t",
            "SELECT array_agg(a ORDER BY 1) FROM f(5, last => 6) AS t FETCH FIRST 4 ROWS ONLY",
            "INSERT INTO t VALUES (1, -2), (3, 4)",
        ] {
            assert_eq!(typed(sql), sql);
        }
    }
}
