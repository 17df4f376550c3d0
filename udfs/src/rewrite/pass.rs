//! One walk over a statement that keeps track of the scopes and rewrites the calls it meets.

use std::mem;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, FromTable, FunctionArg, FunctionArguments, Ident, JoinConstraint, JoinOperator, ObjectName, OrderBy, Query, Select, SetExpr,
    Statement, TableFactor, TableWithJoins, VisitMut, Visitor, VisitorMut, With,
};

use super::arguments::{self, normal};
use super::scope::{Level, Scopes, first_term, is_lateral};
use super::{Known, fields, row};
use crate::declaration::{self, Function, Kind, Role};
use crate::error::Error;

/// Why a walk ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The columns of this query are needed first.
    Ask(Box<Query>),
    /// The call is wrong.
    Fail(Box<Error>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Fail(Box::new(error))
    }
}

/// The walk. Parts of the statement move into the scopes while they are in sight and back when they are left.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    known: &'a Known,
    scopes: Scopes,
    /// ORDER BY of the queries around, kept back until their FROM is in sight.
    orders: Vec<Option<OrderBy>>,
    /// The table functions whose query argument is being visited.
    inside: Vec<Option<(&'static str, &'static str)>>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(known: &'a Known) -> Self {
        Self { known, scopes: Scopes::default(), orders: Vec::new(), inside: Vec::new() }
    }

    /// The table function and argument the walk is inside of.
    pub(super) fn inside(&self) -> Option<(&'static str, &'static str)> {
        self.inside.iter().rev().find_map(|inside| *inside)
    }

    fn push_from(&mut self, from: Vec<TableWithJoins>) {
        self.scopes.0.push(Level::From(from));
    }

    fn pop_from(&mut self) -> Vec<TableWithJoins> {
        match self.scopes.0.pop() {
            Some(Level::From(from)) => from,
            _ => unreachable!("levels are popped in the order they were pushed"),
        }
    }

    fn call(&mut self, function: &'static Function, given: Vec<FunctionArg>) -> Result<Vec<FunctionArg>, Stop> {
        let mut bound = arguments::bind(function, given)?;
        let row = row::row(function, mem::take(&mut bound.row), &self.scopes, self.known)?;
        Ok(arguments::positions(function, bound, row)?)
    }

    fn visit_with(&mut self, with: Option<With>) -> ControlFlow<Stop> {
        let empty = With { with_token: AttachedToken::empty(), recursive: false, cte_tables: vec![] };
        let Some(mut with) = with else {
            self.scopes.0.push(Level::With(empty));
            return ControlFlow::Continue(());
        };
        let expressions = mem::take(&mut with.cte_tables);
        let recursive = with.recursive;
        self.scopes.0.push(Level::With(with));
        for mut expression in expressions {
            if recursive {
                self.visible(first_term(&expression));
            }
            expression.query.visit(self)?;
            if recursive && let Some(Level::With(with)) = self.scopes.0.last_mut() {
                with.cte_tables.pop();
            }
            self.visible(expression);
        }
        ControlFlow::Continue(())
    }

    fn visible(&mut self, expression: Cte) {
        match self.scopes.0.last_mut() {
            Some(Level::With(with)) => with.cte_tables.push(expression),
            _ => unreachable!("the WITH level was pushed before its expressions"),
        }
    }

    /// Visits the tables of a FROM clause, then its join conditions with the tables in sight.
    fn visit_from(&mut self, mut from: Vec<TableWithJoins>) -> ControlFlow<Stop, Vec<TableWithJoins>> {
        for position in 0..from.len() {
            let (before, rest) = from.split_at_mut(position);
            let table = &mut rest[0];
            self.visit_factor(&mut table.relation, || before.to_vec())?;
            for join in 0..table.joins.len() {
                let (left, right) = table.joins.split_at_mut(join);
                let relation = &table.relation;
                self.visit_factor(&mut right[0].relation, || {
                    let mut before = before.to_vec();
                    before.push(TableWithJoins { relation: relation.clone(), joins: left.to_vec() });
                    before
                })?;
            }
        }
        let mut operators = Vec::new();
        for join in from.iter_mut().flat_map(|table| &mut table.joins) {
            operators.push(mem::replace(&mut join.join_operator, JoinOperator::CrossJoin(JoinConstraint::None)));
        }
        self.push_from(from);
        for operator in &mut operators {
            operator.visit(self)?;
        }
        let mut from = self.pop_from();
        for (join, operator) in from.iter_mut().flat_map(|table| &mut table.joins).zip(operators) {
            join.join_operator = operator;
        }
        ControlFlow::Continue(from)
    }

    /// Visits a table; a lateral one sees the tables before it.
    fn visit_factor(&mut self, factor: &mut TableFactor, before: impl FnOnce() -> Vec<TableWithJoins>) -> ControlFlow<Stop> {
        if !is_lateral(factor) {
            return factor.visit(self);
        }
        self.push_from(before());
        factor.visit(self)?;
        self.pop_from();
        ControlFlow::Continue(())
    }

    fn table_function(&mut self, name: &ObjectName, args: &mut Vec<FunctionArg>) -> ControlFlow<Stop> {
        let Some(function) = declared(name) else { return proceed(Ok(())) };
        if function.kind != Kind::Table {
            return proceed(Err(arguments::misplaced(function).into()));
        }
        *args = proceed(self.call(function, mem::take(args)))?;
        let query = function.parameters.iter().find(|parameter| parameter.role == Role::Query);
        if let (Some(query), Some(inside)) = (query, self.inside.last_mut()) {
            *inside = Some((function.name, query.name));
        }
        ControlFlow::Continue(())
    }
}

/// `?` for results in a walk.
fn proceed<T>(result: Result<T, Stop>) -> ControlFlow<Stop, T> {
    match result {
        Ok(value) => ControlFlow::Continue(value),
        Err(stop) => ControlFlow::Break(stop),
    }
}

/// The declaration of a called function, if it is one of ours.
pub(crate) fn declared(name: &ObjectName) -> Option<&'static Function> {
    declaration::function(&spelled(name))
}

/// The name as the engine compares it.
pub(crate) fn spelled(name: &ObjectName) -> String {
    let parts: Vec<_> = name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), normal)).collect();
    parts.join(".")
}

/// Whether a statement calls any of our functions; if not, it need not be copied for the walk.
pub(super) fn calls_ours(statement: &Statement) -> bool {
    struct Search;
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            match expression {
                Expr::Function(call) if declared(&call.name).is_some() => ControlFlow::Break(()),
                Expr::CompoundFieldAccess { .. } => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            match factor {
                TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } if declared(name).is_some() => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    datafusion::sql::sqlparser::ast::Visit::visit(statement, &mut Search).is_break()
}

impl VisitorMut for Pass<'_> {
    type Break = Stop;

    fn pre_visit_statement(&mut self, statement: &mut Statement) -> ControlFlow<Stop> {
        let from = match statement {
            Statement::Update(update) => vec![update.table.clone()],
            Statement::Delete(delete) => match &delete.from {
                FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from) => from.clone(),
            },
            _ => vec![],
        };
        self.push_from(from);
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, _: &mut Statement) -> ControlFlow<Stop> {
        self.pop_from();
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Stop> {
        self.orders.push(query.order_by.take());
        self.visit_with(query.with.take())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Stop> {
        if let Some(Some(mut order)) = self.orders.pop() {
            let from = match &mut *query.body {
                SetExpr::Select(select) => mem::take(&mut select.from),
                _ => vec![],
            };
            self.push_from(from);
            order.visit(self)?;
            let from = self.pop_from();
            if let SetExpr::Select(select) = &mut *query.body {
                select.from = from;
            }
            query.order_by = Some(order);
        }
        if let Some(Level::With(with)) = self.scopes.0.pop()
            && !with.cte_tables.is_empty()
        {
            query.with = Some(with);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Stop> {
        let from = self.visit_from(mem::take(&mut select.from))?;
        self.push_from(from);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Stop> {
        select.from = self.pop_from();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Stop> {
        self.inside.push(None);
        match factor {
            TableFactor::Table { name, args: Some(args), .. } => self.table_function(name, &mut args.args),
            TableFactor::Function { name, args, .. } => self.table_function(name, args),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_table_factor(&mut self, _: &mut TableFactor) -> ControlFlow<Stop> {
        self.inside.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Stop> {
        fields::subscript(expression);
        let Expr::Function(call) = expression else { return ControlFlow::Continue(()) };
        let Some(function) = declared(&call.name) else { return ControlFlow::Continue(()) };
        if function.kind == Kind::Table {
            return proceed(Err(arguments::misplaced(function).into()));
        }
        if function.kind == Kind::Window {
            proceed(arguments::window(function, call).map_err(Stop::from))?;
        }
        if call.name.0.len() > 1 {
            // The engine looks functions with a schema up by the text of their name.
            call.name = ObjectName::from(function.name.split('.').map(Ident::new).collect::<Vec<_>>());
        }
        match &mut call.args {
            FunctionArguments::List(list) => list.args = proceed(self.call(function, mem::take(&mut list.args)))?,
            FunctionArguments::None | FunctionArguments::Subquery(_) => {
                proceed(self.call(function, vec![]))?;
            }
        }
        ControlFlow::Continue(())
    }
}
