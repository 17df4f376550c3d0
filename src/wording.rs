//! What PostgreSQL says in words that the engine does not take: EXISTS as a value, `mod`, LIKE with an escape, times that are named, intervals
//! with a time of day, and relations of one column that are called what their relation is called.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, ObjectName, Query, Select,
    SelectItem, SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor, TimezoneInfo, UnaryOperator, Value, Visit, VisitMut,
    Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::like;
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
        if let Some(time) = named_time(expression) {
            *expression = time;
        }
        if let Expr::Interval(interval) = expression {
            spell_out(&mut interval.value);
        }
        // the engine takes the sign for that of the first part alone
        if let Expr::UnaryOp { op: UnaryOperator::Minus, expr } = expression
            && matches!(expr.as_ref(), Expr::Interval(_))
            && let Some(minus) = parsed("-1")
        {
            let left = Box::new(take(expr));
            let product = Expr::BinaryOp { left, op: BinaryOperator::Multiply, right: Box::new(minus) };
            *expression = Expr::Nested(Box::new(product));
        }
        if let Expr::Cast { expr, data_type: DataType::Interval { .. }, .. } = expression {
            spell_out(expr);
        }
        if let Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } = expression
            && let Some(escape) = escape_char.take_if(|escape| !matches!(&escape.value, Value::SingleQuotedString(text) if text == "\\"))
            && let Some(Expr::Function(mut call)) = parsed(&format!("{}(NULL)", like::ESCAPE))
            && let FunctionArguments::List(list) = &mut call.args
        {
            let arguments = [take(pattern), Expr::Value(escape)];
            list.args = arguments.map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).into();
            **pattern = Expr::Function(call);
        }
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

/// What stands for a time that a text names: `'epoch'`, `'now'`, `'today'` and its neighbours.
fn named_time(expression: &Expr) -> Option<Expr> {
    let (value, data_type) = match expression {
        Expr::TypedString(typed) => (&typed.value, &typed.data_type),
        Expr::Cast { expr, data_type, .. } => match expr.as_ref() {
            Expr::Value(value) => (value, data_type),
            _ => return None,
        },
        _ => return None,
    };
    let Value::SingleQuotedString(text) = &value.value else { return None };
    let zoned = match data_type {
        DataType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => true,
        DataType::Date | DataType::Timestamp(..) => false,
        _ => return None,
    };
    let time = match text.trim().to_ascii_lowercase().as_str() {
        "epoch" if zoned => "'1970-01-01 00:00:00+00'",
        "epoch" => "'1970-01-01'",
        "now" => "now()",
        "today" => "current_date",
        "tomorrow" => "current_date + INTERVAL '1 day'",
        "yesterday" => "current_date - INTERVAL '1 day'",
        _ => return None,
    };
    parsed(&format!("CAST({time} AS {data_type})"))
}

/// Spells out the times in the text of an interval: `-04:05:06.5` is four hours, five minutes and so on, each with the sign.
fn spell_out(expression: &mut Expr) {
    let Expr::Value(value) = expression else { return };
    let Value::SingleQuotedString(text) = &mut value.value else { return };
    if !text.contains(':') {
        return;
    }
    let words: Option<Vec<String>> =
        text.split_whitespace().map(|word| if word.contains(':') { time_in_words(word) } else { Some(word.to_owned()) }).collect();
    if let Some(words) = words {
        *text = words.join(" ");
    }
}

/// A time such as `4:05` or `04:05:06.5` in words; none where it is not one.
fn time_in_words(time: &str) -> Option<String> {
    let (sign, time) = time.strip_prefix('-').map_or(("", time.strip_prefix('+').unwrap_or(time)), |time| ("-", time));
    let parts: Vec<&str> = time.split(':').collect();
    let whole = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes] => (hours, minutes, "0"),
        [hours, minutes, seconds] => (hours, minutes, *seconds),
        _ => return None,
    };
    if !whole(hours) || !whole(minutes) || seconds.parse::<f64>().is_err() || seconds.starts_with(['-', '+']) {
        return None;
    }
    Some(format!("{sign}{hours} hours {sign}{minutes} minutes {sign}{seconds} seconds"))
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

fn parsed(text: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?.parse_expr().ok()
}

/// Whether a query has rows, as a query: it counts them itself where it is a plain one, so that it may speak of the query around it.
fn counted(query: &Query, negated: bool) -> Option<Query> {
    let truth = if negated { "count(*) = 0" } else { "count(*) > 0" };
    if is_plain(query)
        && let SetExpr::Select(select) = query.body.as_ref()
    {
        let mut select = select.clone();
        select.projection = vec![SelectItem::UnnamedExpr(parsed(truth)?)];
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
    fn times_in_intervals_are_spelled_out() {
        assert_eq!(
            rewritten("SELECT INTERVAL '1 day -04:05:06.5', '10:30'::interval, -INTERVAL '2 days'"),
            "SELECT INTERVAL '1 day -04 hours -05 minutes -06.5 seconds', '10 hours 30 minutes 0 seconds'::INTERVAL, (INTERVAL '2 days' * -1)"
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
