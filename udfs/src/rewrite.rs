//! Turns calls of our functions as users write them into calls as the engine plans them, before planning.
//!
//! - named arguments (`name => value`, `name := value`) become positional ones, defaults are filled in;
//! - a table alias as a row argument (`predict_ctr('ctr', i)`, also `i.*`) becomes `named_struct('col', i."col", ...)`;
//! - extra named arguments of a function with a row parameter become columns of that row;
//! - the `query => $$SELECT ...$$` of a table function becomes a subquery, planned in the caller's scope.
//!
//! The pass is a fixed point: rewriting its result changes nothing, so the text of a view may be rewritten again.

use std::collections::HashMap;
use std::ops::ControlFlow;

use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result};
use datafusion::sql::sqlparser::ast::{Query, Statement, VisitMut};

use crate::error::Error;

mod arguments;
mod fields;
mod pass;
mod row;
mod scope;

pub(crate) use arguments::{plain, positional};
use pass::{Pass, Stop};
pub(crate) use pass::{declared, spelled};

/// What the rewrite has to know of the session.
#[async_trait]
pub trait Scope: Send + Sync {
    /// The names of the output columns of a query, planned in the session.
    async fn columns(&self, query: &Query) -> Result<Vec<String>>;
}

/// Columns of the queries that were asked for, by their text.
type Known = HashMap<String, Vec<String>>;

/// Rewrites all calls of our functions in a statement. Fails with an [`Error`] inside the engine's error when a call does not fit the
/// function's declaration, and with the session's error when a FROM clause that a row argument refers to cannot be planned.
pub async fn rewrite(statement: &mut Statement, scope: &dyn Scope) -> Result<()> {
    if !pass::calls_ours(statement) {
        return Ok(());
    }
    let mut known = Known::new();
    loop {
        // The pass is synchronous and stops at the first question it cannot answer, which is then asked; a draft is thrown away with it.
        let mut draft = statement.clone();
        let mut pass = Pass::new(&known);
        let (question, inside) = match draft.visit(&mut pass) {
            ControlFlow::Continue(()) => {
                *statement = draft;
                return Ok(());
            }
            ControlFlow::Break(Stop::Fail(error)) => return Err(within(pass.inside(), (*error).into())),
            ControlFlow::Break(Stop::Ask(query)) => (query, pass.inside()),
        };
        let columns = scope.columns(&question).await.map_err(|error| within(inside, error))?;
        known.insert(question.to_string(), columns);
    }
}

/// Says of an error that it is in the query argument of a table function.
pub(crate) fn within(inside: Option<(&'static str, &'static str)>, error: DataFusionError) -> DataFusionError {
    match inside {
        Some((function, argument)) => Error::InQuery { function, argument, source: Box::new(error) }.into(),
        None => error,
    }
}

#[cfg(test)]
mod tests;
