//! Takes the calls of functions that learn out of an expression: a column stands in their place.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, VisitMut, VisitorMut, WindowType,
};

use crate::declaration::{Function, Kind};
use crate::error::{Error, Result};
use crate::{prepare, rewrite};

/// A call with its arguments by position.
#[derive(Debug)]
pub(super) struct Found {
    /// The name of the column that stands for it: the text of the call.
    pub(super) name: String,
    pub(super) function: &'static Function,
    pub(super) arguments: Vec<Expr>,
}

/// The calls found so far; equal ones are one.
#[derive(Debug)]
pub(super) struct Calls<'a> {
    /// Names that columns of the query have.
    taken: &'a [&'a str],
    pub(super) found: Vec<Found>,
    /// The function whose arguments are visited.
    inside: Option<&'static Function>,
}

impl<'a> Calls<'a> {
    pub(super) fn new(taken: &'a [&'a str]) -> Self {
        Self { taken, found: Vec::new(), inside: None }
    }

    /// Puts columns in the place of calls, and the arguments of our other functions into their positions.
    pub(super) fn take(&mut self, expression: &mut Expr) -> Result<()> {
        match expression.visit(self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    fn enter(&mut self, function: &'static Function, call: &Call) -> Result<()> {
        if !prepare::prepares(function) {
            return Err(refused(
                format!("{} cannot stand in TRANSFORM", function.name),
                "functions of a row and of the schema ml that prepare columns can",
            ));
        }
        if function.kind != Kind::Window {
            return Ok(());
        }
        if let Some(outer) = self.inside.replace(function) {
            let reason = format!("{} cannot learn from the result of {}", outer.name, function.name);
            return Err(refused(reason, "compute the inner one in the training query, or leave it out"));
        }
        let over = match &call.over {
            None => true,
            Some(WindowType::WindowSpec(window)) => window.to_string().is_empty(),
            Some(WindowType::NamedWindow(_)) => false,
        };
        if over && rewrite::plain(call) {
            return Ok(());
        }
        Err(refused(
            format!("in TRANSFORM {} learns from all training rows", function.name),
            "write it without further clauses, or with OVER ()",
        ))
    }

    fn leave(&mut self, function: &'static Function, call: &mut Call) -> Result<Option<Expr>> {
        let given = match &mut call.args {
            FunctionArguments::List(list) => std::mem::take(&mut list.args),
            FunctionArguments::None | FunctionArguments::Subquery(_) => vec![],
        };
        let given = rewrite::positional(function, given)?;
        call.name = ObjectName::from(function.name.split('.').map(Ident::new).collect::<Vec<_>>());
        if function.kind != Kind::Window {
            if let FunctionArguments::List(list) = &mut call.args {
                list.args = given;
            }
            return Ok(None);
        }
        self.inside = None;
        let arguments: Vec<Expr> = given
            .into_iter()
            .filter_map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
                _ => None,
            })
            .collect();
        let texts: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let mut name = format!("{}({})", function.name, texts.join(", "));
        while self.taken.contains(&name.as_str()) {
            name.push('\'');
        }
        let column = Expr::Identifier(Ident::with_quote('"', name.clone()));
        if !self.found.iter().any(|found| found.name == name) {
            self.found.push(Found { name, function, arguments });
        }
        Ok(Some(column))
    }
}

fn refused(reason: String, hint: &str) -> Error {
    Error::Unsupported { reason, hint: hint.to_owned() }
}

impl VisitorMut for Calls<'_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Box<Error>> {
        if let Expr::Function(call) = expression
            && let Some(function) = rewrite::declared(&call.name)
            && let Err(error) = self.enter(function, call)
        {
            return ControlFlow::Break(Box::new(error));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Box<Error>> {
        if let Expr::Function(call) = expression
            && let Some(function) = rewrite::declared(&call.name)
        {
            match self.leave(function, call) {
                Ok(Some(column)) => *expression = column,
                Ok(None) => {}
                Err(error) => return ControlFlow::Break(Box::new(error)),
            }
        }
        ControlFlow::Continue(())
    }
}
