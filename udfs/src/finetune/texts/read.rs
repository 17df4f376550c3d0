//! The rows of a text model: what there is to learn in them, and the rows as they are trained on.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::runtime::{JoinSet, SpawnedTask};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use stratagem_models::encoder::Sentence;
use stratagem_models::encoder::tune::Base;
use stratagem_models::features::Batch;
use stratagem_models::text::{self, MOST_CLASSES, Task, tags};

use super::super::invalid;
use super::{Form, Texts, spans};
use crate::encoder;
use crate::error::{Error, Result};
use crate::gather::joined;
use crate::models::{Models, Result as ModelResult};

/// What was read of some rows.
pub(in crate::finetune) struct Read {
    pub(in crate::finetune) batch: Batch,
    /// What is to be learned of each row.
    pub(in crate::finetune) labels: Vec<f32>,
    /// The rows that have a text, by their number.
    pub(in crate::finetune) rows: Vec<usize>,
    pub(in crate::finetune) nulls: usize,
    pub(in crate::finetune) seen: Seen,
}

/// What the client should know of the texts.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::finetune) struct Seen {
    /// Without a text.
    pub(in crate::finetune) blank: usize,
    /// Of which only the beginning was read.
    pub(in crate::finetune) truncated: u64,
}

impl Seen {
    pub(in crate::finetune) fn add(&mut self, other: Self) {
        self.blank += other.blank;
        self.truncated += other.truncated;
    }
}

impl Texts {
    /// The classes, labels or tags of all rows, sorted; of a training that goes on also those that it knew before.
    pub(in crate::finetune) async fn classes(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        context: &Arc<TaskContext>,
        base: Option<&Base>,
    ) -> EngineResult<Vec<String>> {
        let Some(label) = self.label.filter(|_| matches!(self.task, Task::Class | Task::Labels | Task::Tags)) else {
            return Ok(Vec::new());
        };
        let mut reading = JoinSet::new();
        for partition in 0..input.output_partitioning().partition_count() {
            let mut stream = input.execute(partition, Arc::clone(context))?;
            let (task, form) = (self.task, self.form);
            reading.spawn(async move {
                let mut classes = BTreeSet::new();
                while let Some(batch) = stream.next().await {
                    own_classes(task, form, batch?.column(label), &mut classes)?;
                    check(classes.len())?;
                }
                EngineResult::Ok(classes)
            });
        }
        let mut classes = BTreeSet::new();
        while let Some(own) = reading.join_next().await {
            classes.extend(joined(own)?);
        }
        classes.extend(base.and_then(Base::text).into_iter().flat_map(|before| before.classes.iter().cloned()));
        if self.task == Task::Tags {
            classes.insert(tags::OUTSIDE.to_owned());
        }
        check(classes.len())?;
        Ok(classes.into_iter().collect())
    }
}

/// Adds the classes of a column.
fn own_classes(task: Task, form: Form, column: &ArrayRef, classes: &mut BTreeSet<String>) -> EngineResult<()> {
    let mut add = |own: &str| {
        if !classes.contains(own) {
            classes.insert(own.to_owned());
        }
    };
    match (task, form) {
        (Task::Tags, Form::Spans) => {
            let labels: BTreeSet<String> = spans::rows(column)?.into_iter().flatten().flatten().map(|span| span.label).collect();
            labels.iter().for_each(|label| ["B", "I"].into_iter().for_each(|part| add(&format!("{part}-{label}"))));
        }
        (Task::Tags | Task::Labels, _) => lists(column)?.values().as_string::<i32>().iter().flatten().for_each(add),
        _ => cast(column, &DataType::Utf8)?.as_string::<i32>().iter().flatten().for_each(add),
    }
    Ok(())
}

fn lists(column: &ArrayRef) -> EngineResult<ListArray> {
    Ok(cast(column, &DataType::new_list(DataType::Utf8, true))?.as_list::<i32>().clone())
}

/// The texts of a list.
fn items(lists: &ListArray, row: usize) -> Vec<String> {
    lists.value(row).as_string::<i32>().iter().map(|item| item.unwrap_or_default().to_owned()).collect()
}

/// Reads the texts of a training.
pub(in crate::finetune) struct Reader<'a> {
    pub(in crate::finetune) models: &'a Arc<Models>,
    pub(in crate::finetune) texts: &'a Texts,
    /// The encoder that is to be trained.
    pub(in crate::finetune) base: Option<&'a Arc<Base>>,
    pub(in crate::finetune) classes: &'a [String],
    /// The name of the label.
    pub(in crate::finetune) label: &'a str,
}

impl Reader<'_> {
    /// The rows of a batch that have a text.
    pub(in crate::finetune) async fn read(&self, batch: &RecordBatch) -> EngineResult<Read> {
        let all = batch.num_rows();
        let (read, nulls, rows) = match self.texts.form {
            Form::Words | Form::Spans => self.tagged(batch).await?,
            Form::Pair(other) => self.pairs(batch, other).await?,
            Form::Text => self.single(batch).await?,
        };
        let (batch, labels, truncated) = read;
        Ok(Read { batch, labels, nulls, seen: Seen { blank: all - rows.len(), truncated }, rows })
    }

    /// Texts, each with a class, labels or a number.
    async fn single(&self, batch: &RecordBatch) -> EngineResult<Found> {
        let texts = cast(batch.column(self.texts.text), &DataType::Utf8)?;
        let texts: &StringArray = texts.as_string();
        let rows: Vec<usize> = (0..batch.num_rows()).filter(|row| spoken(texts, *row)).collect();
        let (labels, nulls) = match self.texts.label {
            Some(label) => self.labels(batch.column(label), &rows)?,
            None => (Vec::new(), 0),
        };
        let chosen: Vec<String> = rows.iter().map(|row| texts.value(*row).to_owned()).collect();
        let (batch, truncated) = match (&self.texts.encoder, self.base) {
            (Some(_), Some(base)) => {
                let base = Arc::clone(base);
                blocking(move || base.read(chosen.iter().map(String::as_str))).await?
            }
            (None, _) => text::grams(chosen.iter().map(String::as_str)),
            (Some(encoder), None) => {
                let embedded = encoder::vectors(self.models, Some(encoder), chosen).await?;
                (text::numbers(embedded.vectors.iter().map(|vector| &**vector)), embedded.truncated as u64)
            }
        };
        Ok(((batch, labels, truncated), nulls, rows))
    }

    /// Pairs of texts, perhaps with how like they are.
    async fn pairs(&self, batch: &RecordBatch, other: usize) -> EngineResult<Found> {
        let [left, right] = [self.texts.text, other].map(|column| cast(batch.column(column), &DataType::Utf8));
        let (left, right) = (left?, right?);
        let (left, right): (&StringArray, &StringArray) = (left.as_string(), right.as_string());
        let rows: Vec<usize> = (0..batch.num_rows()).filter(|row| spoken(left, *row) && spoken(right, *row)).collect();
        let (labels, nulls) = match self.texts.label {
            Some(label) => self.labels(batch.column(label), &rows)?,
            None => (vec![0.0; rows.len()], 0),
        };
        let base = self.base()?;
        let chosen: Vec<(String, String)> = rows.iter().map(|row| (left.value(*row).to_owned(), right.value(*row).to_owned())).collect();
        let read = move || base.read_pairs(chosen.iter().map(|(left, right)| (left.as_str(), right.as_str())));
        let (batch, truncated) = blocking(read).await?;
        Ok(((batch, labels, truncated), nulls, rows))
    }

    /// Words or texts, with tags.
    async fn tagged(&self, batch: &RecordBatch) -> EngineResult<Found> {
        let Texts { text, label, .. } = *self.texts;
        let (column, label) = (batch.column(text), batch.column(label.unwrap_or(text)));
        let mut nulls = 0;
        let (mut rows, mut sentences) = (Vec::new(), Vec::new());
        if self.texts.form == Form::Words {
            let (words, own) = (lists(column)?, lists(label)?);
            for row in (0..words.len()).filter(|row| words.is_valid(*row) && !words.value(*row).is_empty()) {
                rows.push(row);
                if own.is_null(row) {
                    nulls += 1;
                    continue;
                }
                let (words, own) = (items(&words, row), items(&own, row));
                self.check_tags(&words, &own)?;
                sentences.push((Sentence::of_words(words.iter().map(String::as_str)), self.places(&own)?));
            }
        } else {
            let texts = cast(column, &DataType::Utf8)?;
            let texts: &StringArray = texts.as_string();
            for (row, spans) in spans::rows(label)?.into_iter().enumerate().filter(|(row, _)| spoken(texts, *row)) {
                rows.push(row);
                let Some(spans) = spans else {
                    nulls += 1;
                    continue;
                };
                let sentence = Sentence::of_text(texts.value(row));
                let own = self.places(&spans::tags(&sentence, &spans, self.label)?)?;
                sentences.push((sentence, own));
            }
        }
        let labels = vec![0.0; sentences.len()];
        let base = self.base()?;
        let (batch, truncated) =
            blocking(move || base.read_tags(sentences.iter().map(|(sentence, tags)| (sentence, tags.as_slice())))).await?;
        Ok(((batch, labels, truncated), nulls, rows))
    }

    fn base(&self) -> EngineResult<Arc<Base>> {
        let missing = || Error::value("argument base of finetune", "names no encoder that is trained");
        Ok(self.base.map(Arc::clone).ok_or_else(missing)?)
    }

    /// Checks that there is a tag for each word.
    fn check_tags(&self, words: &[String], own: &[String]) -> Result<()> {
        let object = || format!("label column \"{}\"", self.label);
        if words.len() != own.len() {
            let begin: String = words.join(" ").chars().take(60).collect();
            let reason = format!("has {} tags for the {} words of \"{begin}\"", own.len(), words.len());
            return Err(Error::InvalidValue { object: object(), reason, hint: Some("give every word one tag".to_owned()) });
        }
        match own.iter().find(|tag| !tags::is_tag(tag)) {
            Some(tag) => Err(Error::InvalidValue {
                object: object(),
                reason: format!("has \"{tag}\", which is no tag"),
                hint: Some("write O outside of spans, and B- and I- with the label of a span: B-brand, I-brand".to_owned()),
            }),
            None => Ok(()),
        }
    }

    /// The numbers of classes.
    fn places(&self, own: &[String]) -> Result<Vec<usize>> {
        own.iter().map(|own| self.place(own)).collect()
    }

    fn place(&self, own: &str) -> Result<usize> {
        // Of a query that gives other rows when it is run again.
        let other = |_| Error::value("the query", "has other labels when it is run again");
        self.classes.binary_search_by(|class| class.as_str().cmp(own)).map_err(other)
    }

    /// The labels of these rows, and how many of them are NULL.
    fn labels(&self, column: &ArrayRef, rows: &[usize]) -> EngineResult<(Vec<f32>, usize)> {
        let (classes, mut nulls) = (self.classes.len(), 0);
        let mut labels = Vec::with_capacity(rows.len() * classes.max(1));
        match self.texts.task {
            Task::Number { .. } | Task::Likeness => {
                let numbers = cast(column, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>();
                for row in rows {
                    let number = if numbers.is_valid(*row) { numbers.value(*row) } else { f64::NAN };
                    nulls += usize::from(numbers.is_null(*row));
                    if self.texts.task == Task::Likeness && !(-1.0..=1.0).contains(&number) && numbers.is_valid(*row) {
                        return Err(Error::InvalidValue {
                            object: format!("label column \"{}\"", self.label),
                            reason: format!("has {number}, which is no cosine"),
                            hint: Some("bring it to -1 to 1: for stars from 1 to 5 write (stars - 1) / 4.0".to_owned()),
                        }
                        .into());
                    }
                    labels.push(number as f32);
                }
            }
            Task::Labels => {
                let lists = lists(column)?;
                for row in rows {
                    let from = labels.len();
                    labels.resize(from + classes, 0.0);
                    nulls += usize::from(lists.is_null(*row));
                    if lists.is_valid(*row) {
                        for own in lists.value(*row).as_string::<i32>().iter().flatten() {
                            labels[from + self.place(own)?] = 1.0;
                        }
                    }
                }
            }
            _ => {
                let own = cast(column, &DataType::Utf8)?;
                let own: &StringArray = own.as_string();
                for row in rows {
                    let from = labels.len();
                    labels.resize(from + classes, 0.0);
                    nulls += usize::from(own.is_null(*row));
                    if own.is_valid(*row) {
                        labels[from + self.place(own.value(*row))?] = 1.0;
                    }
                }
            }
        }
        Ok((labels, nulls))
    }
}

/// A batch with its labels and the truncated texts; NULL labels; the rows that have a text.
type Found = ((Batch, Vec<f32>, u64), usize, Vec<usize>);

/// Whether a row has a text with something in it.
fn spoken(texts: &StringArray, row: usize) -> bool {
    texts.is_valid(row) && !texts.value(row).trim().is_empty()
}

/// Runs what takes long on another thread.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> ModelResult<R> + Send + 'static) -> EngineResult<R> {
    let done = SpawnedTask::spawn_blocking(work).join_unwind().await;
    Ok(done.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?.map_err(Error::from)?)
}

fn check(classes: usize) -> Result<()> {
    if classes <= MOST_CLASSES {
        return Ok(());
    }
    let reason = format!("has more than {MOST_CLASSES} values");
    Err(invalid("label", reason, "a label names one of a few classes"))
}
