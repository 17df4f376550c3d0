//! The arguments and the rows of a text model.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::runtime::{JoinSet, SpawnedTask};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use stratagem_models::encoder::tune::{self, Base, Method, Tune};
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

/// Arguments that are for text models only.
pub(super) const OWN: [&str; 5] = ["method", "rank", "alpha", "targets", "max_length"];

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
    /// How that encoder is trained; none if it stays as it is.
    tune: Option<Tune>,
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
pub(super) fn plan(
    models: &Models,
    arguments: &Constants,
    tune: Option<Tune>,
    schema: &Schema,
    mark: Option<usize>,
) -> Result<(Texts, Label, Vec<RawColumn>)> {
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
    let encoder = base(arguments).map(str::to_owned);
    let dimension = encoder.as_deref().map(|name| models.encoder_facts(Some(name))).transpose()?.map(|facts| facts.dimension);
    let columns = match tune {
        Some(_) => tune::columns(field.name()),
        None => text::columns(field.name(), dimension),
    };
    let label = Label { column: class, name: name.to_owned(), role: "label", answer: Answer::Binary };
    Ok((Texts { text, class, encoder, tune }, label, columns))
}

/// The encoder that the arguments name.
pub(super) fn base(arguments: &Constants) -> Option<&str> {
    arguments.optional_text("base").filter(|base| *base != NGRAM)
}

/// How the encoder is to be trained, if it is.
pub(super) fn tune(arguments: &Constants) -> Result<Option<Tune>> {
    let method = match (arguments.optional_text("method"), base(arguments)) {
        (None | Some("head"), Some(_)) | (None | Some("full"), None) => None,
        (Some("full"), Some(_)) => Some(Method::Full),
        (Some("lora"), Some(_)) => Some(Method::Lora),
        (Some(method @ ("head" | "lora")), None) => {
            return Err(invalid("method", format!("is '{method}', which needs an encoder"), "name one of ml.encoders: base => 'minilm'"));
        }
        (Some(other), _) => return Err(invalid("method", format!("is '{other}'"), "one of: head, full, lora")),
    };
    let changes = ["rank", "alpha", "targets"];
    let idle = OWN[1..].iter().find(|argument| {
        let read = method.is_some_and(|method| method == Method::Lora || !changes.contains(argument));
        !read && !arguments.literal(argument).is_null()
    });
    if let Some(argument) = idle {
        let hint = if changes.contains(argument) { "write method => 'lora' with it" } else { "write method => 'full' or 'lora' with it" };
        return Err(invalid(argument, "is not for this method", hint));
    }
    let Some(method) = method else { return Ok(None) };
    let mut tune = Tune::new(method);
    tune.rank = arguments.count("rank")?.unwrap_or(tune.rank);
    tune.alpha = arguments.optional_double("alpha").map_or(2.0 * tune.rank as f32, |alpha| alpha as f32);
    if let Some(targets) = arguments.optional_text("targets") {
        tune.targets = targets.split(',').map(|target| target.trim().parse()).collect::<Result<_, _>>()?;
    }
    tune.max_length = arguments.count("max_length")?.unwrap_or(tune.max_length);
    tune.check()?;
    Ok(Some(tune))
}

impl Texts {
    /// What the model is, before it is trained.
    pub(super) fn model(&self, classes: Vec<String>, seen: Seen) -> Text {
        Text { classes, encoder: self.encoder.clone(), truncated: seen.truncated, evaluation: None, tuned: None }
    }

    /// How the encoder is trained, if it is.
    pub(super) fn tune(&self) -> Option<&Tune> {
        self.tune.as_ref()
    }

    /// The encoder that is to be trained.
    pub(super) async fn base(&self, models: &Arc<Models>) -> EngineResult<Option<Arc<Base>>> {
        let (Some(encoder), Some(tune)) = (self.encoder.clone(), self.tune.clone()) else { return Ok(None) };
        let models = Arc::clone(models);
        let opening = SpawnedTask::spawn_blocking(move || Base::new(models.encoder_files(&encoder)?, tune)).join_unwind().await;
        let base = opening.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?.map_err(Error::from)?;
        Ok(Some(Arc::new(base)))
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
}

/// Reads the texts of a training.
pub(super) struct Reader<'a> {
    pub(super) models: &'a Arc<Models>,
    pub(super) texts: &'a Texts,
    /// The encoder that is to be trained.
    pub(super) base: Option<&'a Arc<Base>>,
    pub(super) classes: &'a [String],
}

impl Reader<'_> {
    /// The rows of a batch that have a text.
    pub(super) async fn read(&self, batch: &RecordBatch) -> EngineResult<Read> {
        let Self { models, texts: Texts { text, class, encoder, .. }, base, classes } = self;
        let texts = cast(batch.column(*text), &DataType::Utf8)?;
        let own = cast(batch.column(*class), &DataType::Utf8)?;
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
        let batch = match (encoder, base) {
            (Some(_), Some(base)) => {
                let (base, texts): (_, Vec<String>) = (Arc::clone(*base), chosen.map(str::to_owned).collect());
                let reading = SpawnedTask::spawn_blocking(move || base.read(texts.iter().map(String::as_str))).join_unwind().await;
                let read = reading.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?.map_err(Error::from)?;
                seen.truncated = read.1;
                read.0
            }
            (None, _) => {
                let (batch, truncated) = text::grams(chosen);
                seen.truncated = truncated;
                batch
            }
            (Some(encoder), None) => {
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
