//! The step in a logical plan.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{Column, DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

/// One column of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    /// The call.
    pub(super) call: Expr,
    /// For which rows; the others get NULL.
    pub(super) guard: Option<Expr>,
    /// The name of the column.
    pub(super) name: String,
}

impl Entry {
    pub(super) fn column(&self) -> Column {
        Column::from_name(&self.name)
    }
}

/// Adds the results of calls to the columns of its input.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) input: LogicalPlan,
    pub(super) entries: Vec<Entry>,
    schema: DFSchemaRef,
}

impl Calls {
    /// The plan with the results of calls as last columns.
    pub(super) fn over(input: LogicalPlan, entries: Vec<Entry>) -> Result<LogicalPlan> {
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Self::new(input, entries)?) }))
    }

    fn new(input: LogicalPlan, entries: Vec<Entry>) -> Result<Self> {
        let own = input.schema();
        let mut fields: Vec<_> = own.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for entry in &entries {
            let (_, field) = entry.call.to_field(own)?;
            fields.push((None, Arc::new(field.as_ref().clone().with_name(&entry.name).with_nullable(true))));
        }
        let schema = DFSchema::new_with_metadata(fields, own.metadata().clone())?;
        Ok(Self { input, entries, schema: Arc::new(schema) })
    }

    /// The step that a plan is.
    pub(super) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

impl PartialEq for Calls {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.input == other.input
    }
}

impl Eq for Calls {}

impl Hash for Calls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entries.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for Calls {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

impl UserDefinedLogicalNodeCore for Calls {
    fn name(&self) -> &str {
        "Calls"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// The calls, then the guards of those that have one.
    fn expressions(&self) -> Vec<Expr> {
        let calls = self.entries.iter().map(|entry| entry.call.clone());
        calls.chain(self.entries.iter().filter_map(|entry| entry.guard.clone())).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls:")?;
        for (position, Entry { call, guard, name }) in self.entries.iter().enumerate() {
            write!(f, "{} {call} AS {name}", if position == 0 { "" } else { "," })?;
            if let Some(guard) = guard {
                write!(f, " where {guard}")?;
            }
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, expressions: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.pop().unwrap_or_else(|| self.input.clone());
        let mut expressions = expressions.into_iter();
        let mut entries = self.entries.clone();
        entries.iter_mut().zip(&mut expressions).for_each(|(entry, call)| entry.call = call);
        entries.iter_mut().filter_map(|entry| entry.guard.as_mut()).zip(expressions).for_each(|(guard, own)| *guard = own);
        Self::new(input, entries)
    }
}
