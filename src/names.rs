//! Output columns named as PostgreSQL names them: `?column?`, `count`, the column below a cast, and so on.
//!
//! The engine wants every column of one SELECT to have a name of its own, PostgreSQL does not. Where two are alike, the later one carries
//! an invisible mark, which [`shown`] takes off again before a client sees it.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType, Expr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, Statement, Subscript, Value, VisitMut, VisitorMut,
};

/// Stands between a name and the number that makes it unique; no identifier holds it.
const MARK: char = '\u{1}';

/// The name a client sees.
pub(crate) fn shown(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// A name as it stands in SQL, in double quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Gives every unnamed output expression of the statement PostgreSQL's name for it.
pub(crate) fn apply(statement: &mut Statement) {
    struct Namer;
    impl VisitorMut for Namer {
        type Break = ();
        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
            name_columns(select);
            ControlFlow::Continue(())
        }
    }
    let _: ControlFlow<()> = VisitMut::visit(statement, &mut Namer);
}

fn name_columns(select: &mut Select) {
    let mut taken = HashSet::new();
    let spread = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    for item in &mut select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                let of_column = is_of_column(expr);
                let name = column_name(expr).unwrap_or_else(|| "?column?".to_owned());
                let repeated = !taken.insert(name.clone()) || (of_column && spread);
                if repeated || !column {
                    let alias = if repeated { marked(&name, &mut taken) } else { name };
                    let expr = take(expr);
                    *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', alias) };
                }
            }
            SelectItem::ExprWithAlias { alias, .. } => {
                let name = folded(alias);
                if !taken.insert(name.clone()) {
                    *alias = Ident::with_quote('"', marked(&name, &mut taken));
                }
            }
            SelectItem::ExprWithAliases { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {}
        }
    }
}

/// Whether an expression is a column, cast or not.
fn is_of_column(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Cast { expr, .. } => is_of_column(expr),
        _ => false,
    }
}

fn marked(name: &str, taken: &mut HashSet<String>) -> String {
    let marked = (1..).map(|n| format!("{name}{MARK}{n}")).find(|m| !taken.contains(m)).unwrap_or_default();
    taken.insert(marked.clone());
    marked
}

/// What PostgreSQL takes an identifier for: in lower case, unless it is quoted.
pub(crate) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The last part of a name.
pub(crate) fn last(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(folded)
}

/// An expression, in whose place NULL stays.
pub(crate) fn take(expression: &mut Expr) -> Expr {
    std::mem::replace(expression, Expr::Value(Value::Null.into()))
}

/// The rules of PostgreSQL's FigureColname: what an expression is called when nothing names it.
fn column_name(expr: &Expr) -> Option<String> {
    let name = match expr {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(idents) => folded(idents.last()?),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            // A field of a row, which the rewrite of functions has made of `(row).field`.
            Some(AccessExpr::Subscript(Subscript::Index { index: Expr::Value(name) })) => match &name.value {
                Value::SingleQuotedString(field) => field.clone(),
                _ => column_name(root)?,
            },
            _ => column_name(root)?,
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => column_name(inner)?,
        Expr::Function(function) => last(&function.name)?,
        Expr::Cast { expr, data_type, .. } => column_name(expr).or_else(|| type_name(data_type))?,
        Expr::TypedString(typed) => type_name(&typed.data_type)?,
        Expr::Interval(_) => "interval".to_owned(),
        Expr::Case { else_result, .. } => else_result.as_deref().and_then(column_name).unwrap_or_else(|| "case".to_owned()),
        Expr::Extract { .. } => "extract".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Overlay { .. } => "overlay".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        Expr::AtTimeZone { .. } => "timezone".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Tuple(_) | Expr::Struct { .. } => "row".to_owned(),
        Expr::Subquery(query) => first_column(query)?,
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => "bool".to_owned(),
        _ => return None,
    };
    Some(name)
}

fn first_column(query: &Query) -> Option<String> {
    match query.body.as_ref() {
        SetExpr::Select(select) => match select.projection.first()? {
            SelectItem::UnnamedExpr(expr) => column_name(expr),
            SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
            _ => None,
        },
        SetExpr::Query(query) => first_column(query),
        _ => None,
    }
}

/// PostgreSQL's own name of a type, without its precision.
pub(crate) fn type_name(data_type: &DataType) -> Option<String> {
    let name = match data_type {
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => "int4",
        DataType::BigInt(_) | DataType::Int8(_) => "int8",
        DataType::SmallInt(_) | DataType::Int2(_) => "int2",
        DataType::Real | DataType::Float4 => "float4",
        DataType::Double(_) | DataType::DoublePrecision | DataType::Float8 | DataType::Float(_) => "float8",
        DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_) => "numeric",
        DataType::Text => "text",
        DataType::Varchar(_) | DataType::CharacterVarying(_) | DataType::CharVarying(_) => "varchar",
        DataType::Char(_) | DataType::Character(_) => "bpchar",
        DataType::Boolean | DataType::Bool => "bool",
        DataType::Date => "date",
        DataType::Time(..) => "time",
        DataType::Timestamp(
            _,
            datafusion::sql::sqlparser::ast::TimezoneInfo::None | datafusion::sql::sqlparser::ast::TimezoneInfo::WithoutTimeZone,
        ) => "timestamp",
        DataType::Timestamp(..) => "timestamptz",
        DataType::Interval { .. } => "interval",
        DataType::Bytea => "bytea",
        DataType::Uuid => "uuid",
        DataType::JSON => "json",
        DataType::JSONB => "jsonb",
        DataType::Regclass => "regclass",
        DataType::Custom(name, _) => return last(name),
        _ => return None,
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn names(sql: &str) -> Vec<String> {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect("valid SQL").remove(0);
        apply(&mut statement);
        let Statement::Query(query) = statement else { panic!("a query") };
        let SetExpr::Select(select) = *query.body else { panic!("a select") };
        select
            .projection
            .iter()
            .map(|item| match item {
                SelectItem::UnnamedExpr(expr) => column_name(expr).expect("a column"),
                SelectItem::ExprWithAlias { alias, .. } => shown(&alias.value).to_owned(),
                other => other.to_string(),
            })
            .collect()
    }

    #[test]
    fn expressions_are_named_as_postgresql_names_them() {
        let sql = "SELECT 1, count(*), a + 1, b::text, 'x'::int, CASE WHEN true THEN 1 END, extract(year FROM d), t.c, true, (SELECT max(z) FROM u)";
        assert_eq!(names(sql), ["?column?", "count", "?column?", "b", "int4", "case", "extract", "c", "bool", "max"]);
    }

    #[test]
    fn repeated_names_are_told_apart_inside_and_alike_outside() {
        assert_eq!(names("SELECT id, id, 1 AS id, 2 AS x, 3 AS x"), ["id", "id", "id", "x", "x"]);
    }
}
