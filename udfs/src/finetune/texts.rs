//! The arguments and the rows of a text model.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result as EngineResult;
use datafusion::common::runtime::JoinSet;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use stratagem_models::features::{Batch, Column as RawColumn};
use stratagem_models::text::{self, MOST_CLASSES, Text};

use super::{Answer, Label, column};
use crate::declaration::{Type, sql_type};
use crate::encoder;
use crate::error::{Error, Result};
use crate::gather::joined;
use crate::models::Models;
use crate::relation::Constants;

/// The value of `base` for n-grams.
const NGRAM: &str = "ngram";

/// Arguments of other tasks.
const OTHERS: [&str; 7] = ["conversion", "treatment", "learner", "propensity", "features", "transform", "history"];

/// What a text model is trained on.
#[derive(Debug)]
pub(super) struct Texts {
    /// The column of the texts, and that of their classes.
    text: usize,
    class: usize,
    /// The encoder whose vectors are read; none for n-grams.
    encoder: Option<String>,
}

/// What was read of some rows.
pub(super) struct Read {
    pub(super) batch: Batch,
    /// A label for each class.
    pub(super) labels: Vec<f32>,
    /// The rows that have a text, by their number.
    pub(super) rows: Vec<usize>,
    pub(super) nulls: usize,
    pub(super) seen: Seen,
}

/// What the client should know of the texts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Without a text.
    pub(super) blank: usize,
    /// Of which only the beginning was read.
    pub(super) truncated: u64,
}

impl Seen {
    pub(super) fn add(&mut self, other: Self) {
        self.blank += other.blank;
        self.truncated += other.truncated;
    }
}

fn invalid(argument: &str, reason: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::InvalidValue { object: format!("argument {argument} of finetune"), reason: reason.into(), hint: Some(hint.into()) }
}

/// Checks the arguments: the texts, their label, and the columns of a training.
pub(super) fn plan(models: &Models, arguments: &Constants, schema: &Schema, mark: Option<usize>) -> Result<(Texts, Label, Vec<RawColumn>)> {
    if let Some(other) = OTHERS.iter().find(|argument| arguments.optional_text(argument).is_some()) {
        return Err(invalid(other, "is not for text classification", "leave it out"));
    }
    let name = arguments.text("label")?;
    let class = column(name, "label", schema)?;
    let of = schema.field(class).data_type();
    if of.is_nested() || of.is_null() || of.is_floating() {
        return Err(Error::WrongType {
            object: format!("label column \"{name}\""),
            actual: sql_type(of),
            detail: Some("a class is text, a whole number or a boolean".to_owned()),
            hint: Some(format!("write {name}::text")),
        });
    }
    let others = || (0..schema.fields().len()).filter(|position| *position != class && Some(*position) != mark);
    let text = match others().collect::<Vec<_>>().as_slice() {
        [text] => *text,
        [] => return Err(Error::value("the query", "has no column besides the label")),
        more => {
            let names: Vec<&str> = more.iter().map(|position| schema.field(*position).name().as_str()).collect();
            let reason = format!("has {} columns besides the label: {}", names.len(), names.join(", "));
            return Err(invalid("query", reason, "select the text and the label only"));
        }
    };
    let field = schema.field(text);
    if !Type::Text.accepts(field.data_type()) || field.data_type().is_null() {
        return Err(Error::WrongType {
            object: format!("column \"{}\"", field.name()),
            actual: sql_type(field.data_type()),
            detail: Some("a text model is trained on texts".to_owned()),
            hint: None,
        });
    }
    let encoder = arguments.optional_text("base").filter(|base| *base != NGRAM).map(str::to_owned);
    match (arguments.optional_text("method"), &encoder) {
        (None, _) | (Some("head"), Some(_)) | (Some("full"), None) => {}
        (Some("head"), None) => {
            let hint = "name the encoder whose vectors are read: base => 'minilm'";
            return Err(invalid("method", "is 'head', which trains a net on the vectors of an encoder", hint));
        }
        (Some(other), _) => return Err(invalid("method", format!("is '{other}'"), "one of: head, full (of base 'ngram')")),
    }
    let dimension = encoder.as_deref().map(|name| models.encoder_facts(Some(name))).transpose()?.map(|facts| facts.dimension);
    let columns = text::columns(field.name(), dimension);
    let label = Label { column: class, name: name.to_owned(), role: "label", answer: Answer::Binary };
    Ok((Texts { text, class, encoder }, label, columns))
}

impl Texts {
    /// What the model is, before it is trained.
    pub(super) fn model(&self, classes: Vec<String>, seen: Seen) -> Text {
        Text { classes, encoder: self.encoder.clone(), truncated: seen.truncated, evaluation: None }
    }

    /// The classes of all rows, sorted.
    pub(super) async fn classes(&self, input: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> EngineResult<Vec<String>> {
        let mut reading = JoinSet::new();
        for partition in 0..input.output_partitioning().partition_count() {
            let mut stream = input.execute(partition, Arc::clone(context))?;
            let class = self.class;
            reading.spawn(async move {
                let mut classes = BTreeSet::new();
                while let Some(batch) = stream.next().await {
                    let column = cast(batch?.column(class), &DataType::Utf8)?;
                    for own in column.as_string::<i32>().iter().flatten() {
                        if !classes.contains(own) {
                            classes.insert(own.to_owned());
                        }
                    }
                    check(classes.len())?;
                }
                EngineResult::Ok(classes)
            });
        }
        let mut classes = BTreeSet::new();
        while let Some(own) = reading.join_next().await {
            classes.extend(joined(own)?);
        }
        check(classes.len())?;
        Ok(classes.into_iter().collect())
    }

    /// The rows of a batch that have a text.
    pub(super) async fn read(&self, models: &Arc<Models>, batch: &RecordBatch, classes: &[String]) -> EngineResult<Read> {
        let texts = cast(batch.column(self.text), &DataType::Utf8)?;
        let own = cast(batch.column(self.class), &DataType::Utf8)?;
        let (texts, own): (&StringArray, &StringArray) = (texts.as_string(), own.as_string());
        let rows: Vec<usize> = (0..batch.num_rows()).filter(|row| texts.is_valid(*row) && !texts.value(*row).trim().is_empty()).collect();
        let mut labels = vec![0.0; rows.len() * classes.len()];
        let mut nulls = 0;
        for (labels, row) in labels.chunks_exact_mut(classes.len().max(1)).zip(&rows) {
            let place = own.is_valid(*row).then(|| classes.binary_search_by(|class| class.as_str().cmp(own.value(*row))));
            match place {
                Some(Ok(place)) => labels[place] = 1.0,
                // Of a query that gives other rows when it is run again.
                Some(Err(_)) => return Err(Error::value("the query", "has other labels when it is run again").into()),
                None => nulls += 1,
            }
        }
        let mut seen = Seen { blank: batch.num_rows() - rows.len(), truncated: 0 };
        let chosen = rows.iter().map(|row| texts.value(*row));
        let batch = match &self.encoder {
            None => {
                let (batch, truncated) = text::grams(chosen);
                seen.truncated = truncated;
                batch
            }
            Some(encoder) => {
                let embedded = encoder::vectors(models, Some(encoder), chosen.map(str::to_owned).collect()).await?;
                seen.truncated = embedded.truncated as u64;
                text::numbers(embedded.vectors.iter().map(|vector| &**vector))
            }
        };
        Ok(Read { batch, labels, rows, nulls, seen })
    }
}

fn check(classes: usize) -> Result<()> {
    if classes <= MOST_CLASSES {
        return Ok(());
    }
    let reason = format!("has more than {MOST_CLASSES} values");
    Err(invalid("label", reason, "a label names one of a few classes"))
}
