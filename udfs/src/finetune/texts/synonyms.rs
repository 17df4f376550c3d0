//! Words, and what they may give way to when a text is learned from.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result as EngineResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;

use super::super::invalid;
use super::Texts;
use crate::declaration::{Type, sql_type};
use crate::error::{Error, Result};
use crate::relation::Constants;

/// Pairs in a table, at most.
const MOST: usize = 100_000;

/// The share of the words with a synonym that give way to it, if nothing else is said.
const SHARE: f32 = 0.1;

fn refused(reason: impl Into<String>, hint: impl Into<String>) -> Error {
    invalid("synonyms", reason, hint)
}

/// The error where no encoder is trained.
pub(in crate::finetune) fn no_synonyms() -> Error {
    refused(
        "is for an encoder that is trained",
        "write task => 'text_classification', base => 'minilm', method => 'full' (or 'lora') with it",
    )
}

/// The error for a share of the words with a synonym where there are none.
pub(in crate::finetune) fn without_synonyms() -> Error {
    invalid("word_synonyms", "has no synonyms to go by", "give them too: synonyms => $$SELECT word, synonym FROM ...$$")
}

impl Texts {
    /// Takes in that there are synonyms with these columns.
    pub(in crate::finetune) fn with_synonyms(&mut self, arguments: &Constants, schema: &Schema) -> Result<()> {
        let Some(tune) = &mut self.tune else {
            return Err(no_synonyms());
        };
        let count = schema.fields().len();
        if count != 2 {
            let columns = if count == 1 { "column" } else { "columns" };
            return Err(refused(format!("has {count} {columns}"), "select a word and what it may give way to"));
        }
        if let Some(field) = schema.fields().iter().find(|field| !Type::Text.accepts(field.data_type())) {
            return Err(Error::WrongType {
                object: format!("column \"{}\" of argument synonyms of finetune", field.name()),
                actual: sql_type(field.data_type()),
                detail: Some("words are texts".to_owned()),
                hint: None,
            });
        }
        if arguments.literal("word_synonyms").is_null() {
            tune.word_synonyms = SHARE;
        }
        Ok(())
    }
}

/// The pairs of a query, sorted.
pub(in crate::finetune) async fn synonyms(side: Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> EngineResult<Vec<(String, String)>> {
    let mut rows = execute_stream(side, Arc::clone(context))?;
    let mut pairs = BTreeSet::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let [words, others] = [0, 1].map(|column| cast(batch.column(column), &DataType::Utf8));
        let (words, others) = (words?, others?);
        let (words, others): (&StringArray, &StringArray) = (words.as_string(), others.as_string());
        for row in 0..batch.num_rows() {
            let text =
                |column: &StringArray| column.is_valid(row).then(|| column.value(row).trim().to_owned()).filter(|text| !text.is_empty());
            let (Some(word), Some(other)) = (text(words), text(others)) else {
                return Err(refused("has a row without a word, or without what it may give way to", "leave it out").into());
            };
            if word.contains(char::is_whitespace) {
                return Err(refused(format!("has \"{word}\", which is more than one word"), "leave it out").into());
            }
            pairs.insert((word, other));
        }
        if pairs.len() > MOST {
            return Err(refused(format!("has more than {MOST} pairs"), "use fewer").into());
        }
    }
    Ok(pairs.into_iter().collect())
}
