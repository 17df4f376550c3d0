//! A call of a table function in a logical plan.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Memory};

use datafusion::common::{DFSchema, DFSchemaRef, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::qualifier;
use crate::declaration::{Function, Presence, Role};

/// The call: its arguments, the plan of its query, that of a second one beside it, and the text of the first.
#[derive(Clone)]
pub(crate) struct RelationNode {
    function: &'static Function,
    reads_only: bool,
    /// Tells two calls from one call that a common table expression has brought into a plan twice.
    call: u64,
    arguments: Vec<Expr>,
    input: LogicalPlan,
    side: Option<LogicalPlan>,
    query: Arc<str>,
    schema: DFSchemaRef,
}

impl RelationNode {
    pub(super) fn new(
        function: &'static Function,
        reads_only: bool,
        arguments: Vec<Expr>,
        input: LogicalPlan,
        side: Option<LogicalPlan>,
        query: String,
    ) -> Result<Self> {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let schema = Arc::new(DFSchema::try_from_qualified_schema(qualifier(function).value, &function.schema())?);
        Ok(Self { function, reads_only, call: CALLS.fetch_add(1, Memory::Relaxed), arguments, input, side, query: query.into(), schema })
    }

    pub(crate) fn function(&self) -> &'static Function {
        self.function
    }

    pub(super) fn reads_only(&self) -> bool {
        self.reads_only
    }

    pub(super) fn call(&self) -> u64 {
        self.call
    }

    pub(super) fn arguments(&self) -> &[Expr] {
        &self.arguments
    }

    pub(super) fn input(&self) -> &LogicalPlan {
        &self.input
    }

    pub(super) fn query(&self) -> &str {
        &self.query
    }
}

impl PartialEq for RelationNode {
    fn eq(&self, other: &Self) -> bool {
        self.call == other.call && self.arguments == other.arguments && self.input == other.input && self.side == other.side
    }
}

impl Eq for RelationNode {}

impl Hash for RelationNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call.hash(state);
        self.arguments.hash(state);
        self.input.hash(state);
        self.side.hash(state);
    }
}

impl PartialOrd for RelationNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl fmt::Debug for RelationNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

impl UserDefinedLogicalNodeCore for RelationNode {
    fn name(&self) -> &str {
        self.function.name
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(&self.input).chain(&self.side).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.arguments.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.function.name)?;
        let mut comma = "";
        for (parameter, argument) in self
            .function
            .parameters
            .iter()
            .zip(&self.arguments)
            .filter(|(parameter, _)| !matches!(parameter.role, Role::Query | Role::Side))
        {
            let text = match argument {
                Expr::Literal(ScalarValue::Utf8(Some(text)), _) => text.clone(),
                Expr::Literal(value, _) => value.to_string(),
                other => other.to_string(),
            };
            // What was left out is not shown.
            if !matches!(parameter.presence, Presence::Default(default) if default.trim_matches('\'') == text) {
                write!(f, "{comma} {}={text}", parameter.name)?;
                comma = ",";
            }
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, arguments: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut inputs = inputs.into_iter();
        let input = inputs.next().unwrap_or_else(|| self.input.clone());
        let side = inputs.next().or_else(|| self.side.clone());
        Ok(Self { arguments, input, side, ..self.clone() })
    }
}
