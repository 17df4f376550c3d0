//! Calls of models are steps of a plan, not expressions in it. A call is lifted out of the expression it stands in (a select list, a condition,
//! a sort key, a group, an aggregate, another call) into a step below, which adds its results as a column. So a call works everywhere, equal
//! calls of a step run once, a CASE calls only for the rows of its branch, conditions without calls go first, and a LIMIT or a sort by other
//! columns is done before the call: `ORDER BY id LIMIT 5` calls for five rows.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ScalarFunctionArgs, ScalarUDFImpl};

use crate::classify::Classify;
use crate::count_tokens::CountTokens;
use crate::embed::Embed;
use crate::generate::Generate;
use crate::generate_strategy::Strategy;
use crate::predict_ctr::Score;
use crate::sentiment::Sentiment;
use crate::similarity::Similarity;
use crate::usage::Meter;

mod exec;
mod hoist;
mod late;
mod node;

pub(crate) use exec::StepPlanner;
pub(crate) use hoist::HoistCalls;
pub(crate) use late::CallLate;

/// What a deferred function does.
#[async_trait]
pub(crate) trait Work: Debug + Send + Sync {
    /// The rows of a call; `None` takes them as they come. Results go on as soon as their call and those before it are done.
    fn rows(&self) -> Option<usize> {
        None
    }

    /// How many calls of one step are under way at a time.
    fn calls(&self) -> usize {
        1
    }

    /// Whether several steps side by side are faster than one.
    fn parallel(&self) -> bool;

    /// Whether it can also run where it stands, in a place that has no step below (a join's condition).
    fn inline(&self) -> bool {
        false
    }

    /// Whether it takes so long that the client is told how far it is.
    fn tells(&self) -> bool {
        false
    }

    /// The results of some rows; what they cost is counted.
    async fn call(&self, arguments: ScalarFunctionArgs, meter: &Arc<Meter>) -> Result<ArrayRef>;
}

/// The work of a function, if it is of a kind.
type Find = fn(&dyn ScalarUDFImpl) -> Option<Arc<dyn Work>>;

/// The work of a call, if its function is one that is deferred.
fn work(call: &ScalarFunction) -> Option<Arc<dyn Work>> {
    const ALL: [Find; 8] =
        [of::<Score>, of::<Generate>, of::<Strategy>, of::<CountTokens>, of::<Embed>, of::<Similarity>, of::<Classify>, of::<Sentiment>];
    ALL.iter().find_map(|of| of(call.func.inner().as_ref()))
}

/// The work of a function, if it is this one.
fn of<F: Work + ScalarUDFImpl + Clone>(function: &dyn ScalarUDFImpl) -> Option<Arc<dyn Work>> {
    function.downcast_ref::<F>().map(|function| Arc::new(function.clone()) as Arc<dyn Work>)
}

/// Whether an expression is a deferred call.
fn is_call(expression: &Expr) -> bool {
    matches!(expression, Expr::ScalarFunction(call) if work(call).is_some())
}

/// Whether all deferred calls in an expression can run where they stand.
fn is_inline(expression: &Expr) -> bool {
    let waits = |part: &Expr| matches!(part, Expr::ScalarFunction(call) if work(call).is_some_and(|work| !work.inline()));
    !expression.exists(|part| Ok(waits(part))).unwrap_or(false)
}

/// Whether there is a deferred call in an expression.
fn has_call(expression: &Expr) -> bool {
    expression.exists(|part| Ok(is_call(part))).unwrap_or(false)
}
