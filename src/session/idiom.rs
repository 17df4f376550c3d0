//! PostgreSQL's idioms that clients use to read the catalog, in terms of what the engine plans.
//!
//! Each is known by its form, never by the client's text: `ARRAY(SELECT ...)`, casts to `regclass` and `regtype`, `tableoid`, and queries of
//! relations that never have a row.

mod nothing;
mod single;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName,
    OrderByKind, Query, Select, SelectItem, SetExpr, Statement, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::literals;
use crate::names::{self, folded};
use crate::system;
use nothing::{NO_TEXTS, is_empty, is_nothing};
use single::{one_row, one_step};

/// Rewrites the idioms of a statement.
pub(super) fn apply(statement: &mut Statement) {
    if !found(statement) {
        return;
    }
    // the columns keep the names of what was written
    names::apply(statement);
    let _: ControlFlow<()> = VisitMut::visit(statement, &mut Rewriter);
    if let Statement::Query(query) = statement
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        select.projection.iter_mut().for_each(show);
    }
}

/// Whether there is anything to rewrite.
fn found(statement: &Statement) -> bool {
    struct Search;
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            let found = match expression {
                Expr::Cast { expr, data_type, .. } => {
                    names_objects(data_type)
                        || json(data_type).is_some()
                        || item_type(data_type).is_some_and(is_regtype)
                        || (is_regproc(data_type) && literal(expr).is_some())
                }
                Expr::TypedString(typed) => json(&typed.data_type).is_some(),
                Expr::Between { expr, low, high, .. } => has_all_places(expr, low, high),
                Expr::Function(call) => matches!(call.args, FunctionArguments::Subquery(_)) || is_series(expression),
                _ => false,
            };
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            let system = |name: &ObjectName| last(name).starts_with("pg_");
            let found = is_empty(factor) || matches!(factor, TableFactor::Table { name, .. } if system(name));
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    statement.visit(&mut Search).is_break()
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        nothing::simplify(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        number_relations(select);
        select.projection.iter_mut().for_each(unfold);
        nothing::forget(select);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        let new = match expression {
            Expr::Function(call) if last(&call.name) == "array" => match &call.args {
                FunctionArguments::Subquery(query) => array(query),
                _ => None,
            },
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } if is_zero(right) && is_procedure(left) => {
                // as PostgreSQL writes the number of no function
                **right = Expr::Value(Value::SingleQuotedString("-".to_owned()).into());
                None
            }
            Expr::Function(called) if last(&called.name) == "array_agg" && is_oid(called) => call("oids", expression),
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } if is_procedure(left) => {
                if let Expr::Cast { expr, data_type, .. } = right.as_ref()
                    && is_regproc(data_type)
                    && let Some(name) = literal(expr)
                {
                    let name = name.strip_prefix("pg_catalog.").unwrap_or(name).to_owned();
                    **right = Expr::Value(Value::SingleQuotedString(name).into());
                }
                None
            }
            Expr::Function(called) if last(&called.name) == "unnest" && unfolds_arguments(called) => {
                if let FunctionArguments::List(list) = &mut called.args
                    && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))] = list.args.as_mut_slice()
                    && let Some(list) = call("regtypesin", of)
                {
                    *of = list;
                }
                None
            }
            Expr::Between { expr, negated: false, low, high } if has_all_places(expr, low, high) => {
                Some(Expr::Value(Value::Boolean(true).into()))
            }
            Expr::Subquery(query) if is_nothing(query) => Some(Expr::Value(Value::Null.into())),
            Expr::Subquery(query) => {
                one_step(query);
                one_row(query);
                None
            }
            Expr::Exists { subquery, negated } if is_nothing(subquery) => Some(Expr::Value(Value::Boolean(*negated).into())),
            Expr::InSubquery { subquery, negated, .. } if is_nothing(subquery) => Some(Expr::Value(Value::Boolean(*negated).into())),
            Expr::Cast { expr, data_type, .. } if is_regclass(data_type) && literal(expr).is_some() => call("regclassin", expr),
            Expr::Cast { expr, data_type, .. } if names_objects(data_type) && is_parameter(expr) => {
                let function = if is_regclass(data_type) { "regclassin" } else { "regtypein" };
                parsed(&format!("CAST({expr} AS TEXT)")).and_then(|text| call(function, &text))
            }
            Expr::Cast { expr, data_type, .. } if is_regtype(data_type) && (literal(expr).is_some() || is_typeof(expr)) => {
                call("regtypein", expr)
            }
            Expr::Cast { expr, data_type, .. } if is_regproc(data_type) => {
                literal(expr).and_then(system::named).map(|number| Expr::Value(Value::Number(number.to_string(), false).into()))
            }
            Expr::Cast { expr, data_type, .. } if item_type(data_type).is_some_and(is_regtype) => call("regtypesin", expr),
            Expr::Cast { expr, data_type, .. } if json(data_type).is_some() => json(data_type).and_then(|function| call(function, expr)),
            Expr::TypedString(typed) => json(&typed.data_type).and_then(|function| call(function, &Expr::Value(typed.value.clone()))),
            Expr::Cast { expr, data_type, .. } if is_text(data_type) => named(expr),
            Expr::Cast { expr, data_type, .. } if item_type(data_type).is_some_and(is_text) && are_types(expr) => call("regtypesout", expr),
            _ => None,
        };
        if let Some(new) = new {
            *expression = new;
        }
        ControlFlow::Continue(())
    }
}

/// Puts the number of the relation in the place of `tableoid`, which the relations of the catalog do not have as a column.
fn number_relations(select: &mut Select) {
    struct Number(Vec<(String, String)>);
    impl VisitorMut for Number {
        type Break = ();

        fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
            let number = match &*expression {
                Expr::CompoundIdentifier(names) => match names.as_slice() {
                    [of, column] if folded(column) == "tableoid" => self.0.iter().find(|(name, _)| *name == folded(of)),
                    _ => None,
                },
                _ => None,
            };
            if let Some(number) = number.and_then(|(_, relation)| parsed(&format!("regclassin('pg_catalog.{relation}')"))) {
                *expression = number;
            }
            ControlFlow::Continue(())
        }
    }
    let factors = select.from.iter().flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    let names = factors.filter_map(|factor| match factor {
        TableFactor::Table { name, alias, args: None, .. } if last(name).starts_with("pg_") => {
            Some((alias.as_ref().map_or_else(|| last(name), |alias| folded(&alias.name)), last(name)))
        }
        _ => None,
    });
    let mut number = Number(names.collect());
    if !number.0.is_empty() {
        let _: ControlFlow<()> = VisitMut::visit(select, &mut number);
    }
}

/// `ARRAY(SELECT e FROM ... ORDER BY o)` is `(SELECT array_agg(e ORDER BY o) FROM ...)`.
fn array(query: &Query) -> Option<Expr> {
    if is_nothing(query) {
        return parsed(NO_TEXTS);
    }
    let mut query = query.clone();
    let order = query.order_by.take();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice() else { return None };
    let whole = query.limit_clause.is_none() && query.fetch.is_none() && select.distinct.is_none() && select.having.is_none();
    if !whole {
        return parsed(&format!("(SELECT array_agg(item) FROM ({query}) AS items (item))"));
    }
    let order = match order.map(|order| order.kind) {
        Some(OrderByKind::Expressions(keys)) => {
            let keys = keys.into_iter().map(|mut key| {
                // the number of the one column there is
                if matches!(&key.expr, Expr::Value(value) if matches!(value.value, Value::Number(..))) {
                    key.expr = item.clone();
                }
                key.to_string()
            });
            format!(" ORDER BY {}", keys.collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    };
    let all = parsed(&format!("array_agg({item}{order})"))?;
    select.projection = vec![SelectItem::UnnamedExpr(all)];
    Some(Expr::Subquery(Box::new(query)))
}

fn parsed(text: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?.parse_expr().ok()
}

fn call(function: &str, argument: &Expr) -> Option<Expr> {
    let mut call = parsed(&format!("{function}(NULL)"))?;
    if let Expr::Function(function) = &mut call
        && let FunctionArguments::List(list) = &mut function.args
    {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument.clone()))];
    }
    Some(call)
}

/// The function that reads a value of type json or jsonb.
fn json(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::JSON => Some("json"),
        DataType::JSONB => Some("jsonb"),
        _ => None,
    }
}

/// The name of what an expression of type regclass or regtype stands for.
fn named(expression: &Expr) -> Option<Expr> {
    match expression {
        Expr::Cast { expr, data_type, kind: CastKind::Cast | CastKind::DoubleColon, .. } if is_regclass(data_type) => {
            call("regclassout", expr)
        }
        Expr::Cast { expr, data_type, kind: CastKind::Cast | CastKind::DoubleColon, .. } if is_regtype(data_type) => {
            call("regtypeout", expr)
        }
        Expr::Function(function) if last(&function.name) == "regclassin" => call("regclassout", expression),
        Expr::Function(function) if last(&function.name) == "regtypein" => call("regtypeout", expression),
        Expr::Function(function) if last(&function.name) == "regtypesin" => call("regtypesout", expression),
        Expr::Nested(inner) => named(inner),
        _ => None,
    }
}

/// A column of type regclass or regtype is shown by name.
fn show(item: &mut SelectItem) {
    match item {
        SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } => {
            if let Some(new) = named(expression) {
                *expression = new;
            }
        }
        _ => {}
    }
}

/// A series in the list of columns is a row for each of its values, as is what else is a list to the engine and rows to PostgreSQL.
fn unfold(item: &mut SelectItem) {
    if let SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } = item
        && let Some(series) = series(expression)
        && let Some(new) = call("unnest", &series)
    {
        *expression = new;
    }
}

/// A series, which is one of integers where it is given integers.
fn series(expression: &Expr) -> Option<Expr> {
    let Expr::Function(called) = expression else { return None };
    if !is_series(expression) {
        return None;
    }
    let FunctionArguments::List(list) = &called.args else { return None };
    let integer = |argument: &FunctionArg| matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(of)) if literals::is_integer(of));
    if !list.args.is_empty() && list.args.iter().all(integer) {
        parsed(&format!("CAST({expression} AS INT[])"))
    } else {
        Some(expression.clone())
    }
}

fn is_series(expression: &Expr) -> bool {
    matches!(expression, Expr::Function(call) if matches!(last(&call.name).as_str(), "generate_series" | "pg_listening_channels"))
}

/// Whether a condition is that a row stands on one of all the pages that a table may have. Rows have no pages here.
fn has_all_places(of: &Expr, low: &Expr, high: &Expr) -> bool {
    let place = |bound: &Expr| match bound {
        Expr::Cast { expr, data_type: DataType::Custom(name, _), .. } if last(name) == "tid" => literal(expr).map(str::to_owned),
        _ => None,
    };
    column(of).as_deref() == Some("ctid") && place(low).as_deref() == Some("(0,0)") && place(high).as_deref() == Some("(4294967295,0)")
}

fn is_zero(expression: &Expr) -> bool {
    matches!(expression, Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number == "0"))
}

/// Whether a column is of type regproc in PostgreSQL; here it is the name of the function.
fn is_procedure(expression: &Expr) -> bool {
    const PROCEDURES: [&str; 7] = ["typinput", "typoutput", "typreceive", "typsend", "typmodin", "typmodout", "typanalyze"];
    column(expression).is_some_and(|name| PROCEDURES.contains(&name.as_str()))
}

/// Whether an aggregate gathers the numbers of objects of the catalog.
fn is_oid(called: &Function) -> bool {
    const NUMBERS: [&str; 9] =
        ["atttypid", "attrelid", "oid", "prorettype", "relnamespace", "reltype", "typbasetype", "typelem", "typnamespace"];
    let FunctionArguments::List(list) = &called.args else { return false };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))] = list.args.as_slice() else { return false };
    column(of).is_some_and(|name| NUMBERS.contains(&name.as_str()))
}

/// Whether the types of a function's arguments are made rows of, which are a text here.
fn unfolds_arguments(called: &Function) -> bool {
    let FunctionArguments::List(list) = &called.args else { return false };
    matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))] if column(of).as_deref() == Some("proargtypes"))
}

/// The type of the items of a type of lists.
fn item_type(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => Some(item),
        _ => None,
    }
}

/// Whether an expression is a list of types.
fn are_types(expression: &Expr) -> bool {
    let Expr::Function(called) = expression else { return false };
    let FunctionArguments::List(list) = &called.args else { return false };
    let types = |argument: &FunctionArg| matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(of)) if are_types(of));
    match last(&called.name).as_str() {
        "regtypesin" => true,
        "coalesce" => list.args.iter().any(types),
        _ => false,
    }
}

/// The name of a column, without that of its relation.
fn column(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(names) => names.last().map(folded),
        _ => None,
    }
}

fn last(name: &ObjectName) -> String {
    names::last(name).unwrap_or_default()
}

fn literal(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn is_regclass(data_type: &DataType) -> bool {
    match data_type {
        DataType::Regclass => true,
        DataType::Custom(name, _) => last(name) == "regclass",
        _ => false,
    }
}

/// Whether values of a type are the numbers of objects that a text can name.
pub(super) fn names_objects(data_type: &DataType) -> bool {
    is_regclass(data_type) || is_regtype(data_type)
}

fn is_parameter(expression: &Expr) -> bool {
    matches!(expression, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

fn is_regtype(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Custom(name, _) if last(name) == "regtype")
}

/// Whether it names a type.
fn is_typeof(expression: &Expr) -> bool {
    matches!(expression, Expr::Function(call) if last(&call.name) == "pg_typeof")
}

fn is_regproc(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Custom(name, _) if matches!(last(name).as_str(), "regproc" | "regprocedure"))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_) => true,
        DataType::Custom(name, _) => last(name) == "text",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn rewritten(sql: &str) -> String {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect(sql).remove(0);
        apply(&mut statement);
        statement.to_string()
    }

    #[test]
    fn arrays_of_queries_are_aggregates() {
        assert_eq!(
            rewritten("SELECT ARRAY(SELECT x FROM t WHERE t.a = u.a ORDER BY 1) AS xs FROM u"),
            "SELECT (SELECT array_agg(x ORDER BY x) FROM t WHERE t.a = u.a) AS xs FROM u"
        );
        assert_eq!(
            rewritten("SELECT ARRAY(SELECT DISTINCT x FROM t) AS xs"),
            "SELECT (SELECT array_agg(item) FROM (SELECT DISTINCT x FROM t) AS items (item)) AS xs"
        );
        assert_eq!(rewritten("SELECT ARRAY[1, 2]"), "SELECT ARRAY[1, 2]");
    }

    #[test]
    fn lists_of_types_and_of_numbers_are_lists_of_their_own() {
        assert_eq!(
            rewritten("SELECT coalesce(a::regtype[], b::regtype[])::text[] AS t FROM pg_proc"),
            "SELECT regtypesout(coalesce(regtypesin(a), regtypesin(b))) AS t FROM pg_proc"
        );
        assert_eq!(
            rewritten(
                "SELECT (SELECT array_agg(ia.atttypid ORDER BY ia.attnum) FROM pg_attribute ia WHERE ia.x = t.y) AS a FROM pg_type t"
            ),
            "SELECT (SELECT oids(array_agg(ia.atttypid ORDER BY ia.attnum)) AS \"array_agg\" FROM pg_attribute ia WHERE ia.x = t.y) AS a FROM pg_type t"
        );
    }

    #[test]
    fn a_range_of_all_places_has_every_row() {
        assert_eq!(
            rewritten("SELECT x FROM t WHERE ctid BETWEEN '(0,0)'::tid AND '(4294967295,0)'::tid AND x > 1"),
            "SELECT x FROM t WHERE true AND x > 1"
        );
    }

    #[test]
    fn casts_to_regclass_are_numbers_inside_and_names_outside() {
        assert_eq!(
            rewritten("SELECT 1 FROM c WHERE oid = 'items'::regclass"),
            "SELECT 1 AS \"?column?\" FROM c WHERE oid = regclassin('items')"
        );
        assert_eq!(rewritten("SELECT 'items'::regclass::oid"), "SELECT regclassin('items')::oid AS \"regclass\"");
        assert_eq!(rewritten("SELECT 'items'::regclass"), "SELECT regclassout(regclassin('items')) AS \"regclass\"");
        assert_eq!(
            rewritten("SELECT c.oid::pg_catalog.regclass, c.oid::regclass::pg_catalog.text AS t FROM c"),
            "SELECT regclassout(c.oid) AS \"oid\", regclassout(c.oid) AS t FROM c"
        );
        assert_eq!(
            rewritten("SELECT 'auc'::regproc::oid = 1 AS t"),
            format!("SELECT {}::oid = 1 AS t", system::named("auc").expect("listed"))
        );
    }
}
