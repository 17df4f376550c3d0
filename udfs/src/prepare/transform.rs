//! `TRANSFORM (...)`: a select list over the columns of a training query. It learns what its functions need from the training rows; what it
//! has learned is kept with the model, which then takes raw rows and prepares them alike.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;

use crate::error::{Error, Result};

mod bind;
mod calls;
mod columns;
mod fitting;
mod plan;
mod select;

pub use bind::Bound;
pub use fitting::{Fitted, Fitting};

use columns::Column;
use plan::{Plan, Source};

/// A select list that fits the columns of a training query, before it has learned anything.
#[derive(Debug, Clone)]
pub struct Transform {
    plan: Arc<Plan>,
    output: SchemaRef,
}

impl Transform {
    /// Plans the text inside `TRANSFORM (...)` against the columns of the training query. All names and types are checked.
    pub fn parse(select: &str, input: &Schema) -> Result<Self> {
        let columns = input.fields().iter().map(|field| Column::new(field)).collect();
        let plan = Plan::new(select, columns).map_err(within)?;
        let outputs = plan.outputs.iter().map(|output| match &output.source {
            Source::Column(column) => Ok(input.field(*column).clone().with_name(&output.name)),
            Source::Expression { value, .. } => Ok(Field::new(&output.name, value.data_type(&plan.wide)?, true)),
        });
        let output = outputs.collect::<datafusion::common::Result<Vec<_>>>().map_err(within)?;
        Ok(Self { plan: Arc::new(plan), output: Arc::new(Schema::new(output)) })
    }

    /// The columns of the result. A plain column passes through as it is; what an expression makes of text is `Utf8` or `Utf8View`.
    pub fn output(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// The columns of the training query that are read, with their SQL types, in the query's order. Outputs named in `except` do not count:
    /// with the label in it, what remains are the columns that a model needs to score.
    pub fn input_columns(&self, except: &[&str]) -> Vec<(&str, &str)> {
        self.plan.input_columns(except)
    }

    /// Whether any function has to see the training rows first; if not, [`Transform::fitting`] may be finished at once.
    pub fn learns(&self) -> bool {
        !self.plan.calls.is_empty()
    }

    /// Begins to learn.
    pub fn fitting(&self) -> Result<Fitting> {
        Fitting::new(Arc::clone(&self.plan))
    }
}

/// Says of an error that it is in the select list.
fn within(error: DataFusionError) -> Error {
    Error::InQuery { function: "finetune", argument: "transform", source: Box::new(error) }
}

#[cfg(test)]
mod tests;
