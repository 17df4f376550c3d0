//! What names mean at a place in a statement: the FROM clauses and WITH lists around it, innermost last.

use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Ident, Query, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins,
    WildcardAdditionalOptions, With,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::Known;
use super::arguments::normal;
use super::pass::Stop;
use crate::error::Error;

/// A level of names.
#[derive(Debug)]
pub(super) enum Level {
    /// The common table expressions of a query, as far as they are visible.
    With(With),
    /// A FROM clause.
    From(Vec<TableWithJoins>),
}

/// The levels around the place that is visited, innermost last.
#[derive(Debug, Default)]
pub(super) struct Scopes(pub(super) Vec<Level>);

/// All columns of one table of a FROM clause.
#[derive(Debug)]
pub(super) struct Whole {
    /// How its columns are qualified.
    pub(super) qualifier: Vec<Ident>,
    /// Their names.
    pub(super) columns: Vec<String>,
}

impl Scopes {
    /// The table called `name` as a whole row, unless some visible column has that name: PostgreSQL looks for columns first.
    pub(super) fn bare(&self, name: &Ident, known: &Known) -> Result<Option<Whole>, Stop> {
        let Some((level, from, factor)) = self.find(std::slice::from_ref(name)) else { return Ok(None) };
        let wanted = normal(name);
        for (depth, from) in self.froms() {
            for other in factors(from) {
                if reference(other).is_some() && self.columns(depth, from, other, known)?.contains(&wanted) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(Whole { qualifier: vec![name.clone()], columns: self.columns(level, from, factor, known)? }))
    }

    /// The table written as `name` (`t`, `schema.t`), for `name.*`.
    pub(super) fn qualified(&self, name: &[Ident], known: &Known) -> Result<Option<Whole>, Stop> {
        let Some((level, from, factor)) = self.find(name) else { return Ok(None) };
        Ok(Some(Whole { qualifier: name.to_vec(), columns: self.columns(level, from, factor, known)? }))
    }

    /// All columns of all tables of the innermost FROM clause, for `*`.
    pub(super) fn all(&self, known: &Known) -> Result<Vec<(String, Expr)>, Stop> {
        let Some((level, from)) = self.froms().last() else {
            return Err(Error::value("*", "stands for the columns of FROM, but there is no FROM").into());
        };
        let mut fields = Vec::new();
        for factor in factors(from) {
            let Some(qualifier) = reference(factor) else { continue };
            for column in self.columns(level, from, factor, known)? {
                let mut path = qualifier.clone();
                path.push(Ident::with_quote('"', column.clone()));
                fields.push((column, Expr::CompoundIdentifier(path)));
            }
        }
        Ok(fields)
    }

    fn froms(&self) -> impl DoubleEndedIterator<Item = (usize, &[TableWithJoins])> {
        self.0.iter().enumerate().filter_map(|(depth, level)| match level {
            Level::From(from) => Some((depth, from.as_slice())),
            Level::With(_) => None,
        })
    }

    /// The innermost table with this name.
    fn find(&self, name: &[Ident]) -> Option<(usize, &[TableWithJoins], &TableFactor)> {
        let wanted: Vec<_> = name.iter().map(normal).collect();
        let fits = |factor: &&TableFactor| {
            reference(factor).is_some_and(|path| {
                let path: Vec<_> = path.iter().map(normal).collect();
                path.ends_with(&wanted)
            })
        };
        self.froms().rev().find_map(|(depth, from)| Some((depth, from, factors(from).into_iter().find(fits)?)))
    }

    /// The columns of a table of the FROM clause at `level`.
    fn columns(&self, level: usize, from: &[TableWithJoins], factor: &TableFactor, known: &Known) -> Result<Vec<String>, Stop> {
        let question = self.question(level, from, factor);
        match known.get(&question.to_string()) {
            Some(columns) => Ok(columns.clone()),
            None => Err(Stop::Ask(Box::new(question))),
        }
    }

    /// `WITH ... SELECT * FROM factor`, with the WITH lists that are visible at `level`.
    fn question(&self, level: usize, from: &[TableWithJoins], factor: &TableFactor) -> Query {
        let alias = reference(factor).filter(|_| is_lateral(factor));
        let mut query = match alias {
            // A lateral subquery can only be planned next to what it refers to.
            Some(alias) => {
                let name = datafusion::sql::sqlparser::ast::ObjectName::from(alias);
                let wildcard = SelectItemQualifiedWildcardKind::ObjectName(name);
                select(SelectItem::QualifiedWildcard(wildcard, WildcardAdditionalOptions::default()), from.to_vec())
            }
            None => select(
                SelectItem::Wildcard(WildcardAdditionalOptions::default()),
                vec![TableWithJoins { relation: factor.clone(), joins: vec![] }],
            ),
        };
        for outer in self.0[..level].iter().rev() {
            let Level::With(with) = outer else { continue };
            if with.cte_tables.is_empty() {
                continue;
            }
            if query.with.is_some() {
                query = nest(query);
            }
            query.with = Some(with.clone());
        }
        query
    }
}

/// The parts that a common table expression shows of itself inside its own recursive definition: the first term.
pub(super) fn first_term(cte: &Cte) -> Cte {
    let mut first = cte.clone();
    if let SetExpr::SetOperation { left, .. } = &*cte.query.body {
        first.query.body = left.clone();
    }
    first
}

/// The tables of a FROM clause, those inside parentheses included.
pub(super) fn factors(from: &[TableWithJoins]) -> Vec<&TableFactor> {
    fn collect<'a>(factor: &'a TableFactor, all: &mut Vec<&'a TableFactor>) {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => joined(table_with_joins, all),
            other => all.push(other),
        }
    }
    fn joined<'a>(table: &'a TableWithJoins, all: &mut Vec<&'a TableFactor>) {
        collect(&table.relation, all);
        for join in &table.joins {
            collect(&join.relation, all);
        }
    }
    let mut all = Vec::new();
    for table in from {
        joined(table, &mut all);
    }
    all
}

/// How the columns of a table are qualified: its alias, or its name.
fn reference(factor: &TableFactor) -> Option<Vec<Ident>> {
    let (name, alias) = match factor {
        TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. } => (Some(name), alias),
        TableFactor::Derived { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. }
        | TableFactor::Pivot { alias, .. }
        | TableFactor::Unpivot { alias, .. } => (None, alias),
        _ => return None,
    };
    match (alias, name) {
        (Some(alias), _) => Some(vec![alias.name.clone()]),
        (None, Some(name)) => name.0.iter().map(|part| part.as_ident().cloned()).collect(),
        (None, None) => None,
    }
}

pub(super) fn is_lateral(factor: &TableFactor) -> bool {
    matches!(factor, TableFactor::Derived { lateral: true, .. } | TableFactor::Function { lateral: true, .. })
}

/// `SELECT item FROM from`
fn select(item: SelectItem, from: Vec<TableWithJoins>) -> Query {
    let mut query = empty_query();
    if let SetExpr::Select(select) = &mut *query.body {
        select.projection = vec![item];
        select.from = from;
    }
    query
}

/// The query as the body of another, so that it can have one more WITH list around it.
fn nest(inner: Query) -> Query {
    let mut outer = empty_query();
    outer.body = Box::new(SetExpr::Query(Box::new(inner)));
    outer
}

fn empty_query() -> Query {
    match Parser::parse_sql(&PostgreSqlDialect {}, "SELECT 1").map(|mut statements| statements.pop()) {
        Ok(Some(Statement::Query(query))) => *query,
        _ => unreachable!("SELECT 1 is a query"),
    }
}
