//! `finetune(model, query, label, ...)`: trains a click model on the rows of a query, one result row per epoch as it happens.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::{DFSchema, Result};
use datafusion::physical_plan::ExecutionPlan;

use crate::declaration::Function;
use crate::error::Error;
use crate::models::Models;
use crate::relation::{Constants, Relation};
use crate::spelling;

mod declaration;
mod exec;
mod experiment;
mod language;
mod options;
mod record;
mod rows;
mod texts;
mod training;

pub use declaration::DECLARATION;
use exec::FinetuneExec;
use training::{Answer, Label, Training};

/// Plans calls of `finetune`.
#[derive(Debug)]
pub(crate) struct Finetune(pub(crate) Arc<Models>);

impl Relation for Finetune {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn check(&self, arguments: &Constants, input: &DFSchema) -> Result<(), Error> {
        Training::new(&self.0, arguments, input.as_arrow(), "").map(drop)
    }

    fn plan(
        &self,
        arguments: &Constants,
        query: &str,
        input: Arc<dyn ExecutionPlan>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let training = Training::new(&self.0, arguments, &input.schema(), query)?;
        if !arguments.literal("word_synonyms").is_null() {
            return Err(texts::without_synonyms().into());
        }
        Ok(Arc::new(FinetuneExec::new(Arc::clone(&self.0), Arc::new(training), input, None)))
    }

    fn plan_beside(
        &self,
        arguments: &Constants,
        query: &str,
        input: Arc<dyn ExecutionPlan>,
        side: Arc<dyn ExecutionPlan>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let mut training = Training::new(&self.0, arguments, &input.schema(), query)?;
        training.with_synonyms(arguments, &side.schema())?;
        Ok(Arc::new(FinetuneExec::new(Arc::clone(&self.0), Arc::new(training), input, Some(side))))
    }
}

/// A column of the query, by the name that an argument gives.
fn column(name: &str, argument: &str, schema: &Schema) -> Result<usize, Error> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.iter().position(|other| *other == name).ok_or_else(|| Error::NoSuchColumn {
        what: "finetune".to_owned(),
        column: name.to_owned(),
        detail: format!("the query has: {}", names.join(", ")),
        hint: spelling::closest(names, name).map(|close| format!("did you mean {argument} => '{close}'?")),
    })
}

/// The error for an argument with a value that it cannot have.
fn invalid(argument: &str, reason: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::InvalidValue { object: format!("argument {argument} of finetune"), reason: reason.into(), hint: Some(hint.into()) }
}

/// The error for a training that needs a label and has none.
fn missing_label() -> Error {
    let hint = Some("give it as label => ...".to_owned());
    Error::call(&DECLARATION, "finetune needs argument \"label\"".to_owned(), hint)
}
