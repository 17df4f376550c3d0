//! The rows of a training: read from all partitions of the query and encoded as they arrive; in memory as long as there is room for them.

use std::fs::File;
use std::io;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use stratagem_models::encoder::tune::Base;
use stratagem_models::examples::{Block, Collector, Scratch};
use stratagem_models::language::tune::Base as LanguageBase;

use super::Training;
use super::language::Language;
use super::texts::{self, Read, Reader, Seen};
use crate::error::Error;
use crate::features;
use crate::gather::joined;
use crate::intake::Prepared;
use crate::models::Models;
use crate::prepare::{Bound, Fitted, Transform};

/// The rows of all partitions, and the memory they take in the session's pool until this is dropped.
pub(super) struct Rows {
    pub(super) collectors: Vec<Collector>,
    pub(super) scratch: Temporary,
    /// What the transform has learned, to be saved with the model.
    pub(super) prepared: Option<Prepared>,
    /// The classes of a text model, and what is to be told of its texts.
    pub(super) classes: Vec<String>,
    pub(super) seen: Seen,
    /// The encoder that is to be trained.
    pub(super) base: Option<Arc<Base>>,
    /// The language model that is to be trained.
    pub(super) language: Option<Arc<LanguageBase>>,
    _memory: Vec<MemoryReservation>,
}

/// Reads and encodes all rows. With a transform that learns, the query runs twice: to learn, and to prepare the rows. So it does for a text model:
/// for the classes, and for the texts.
pub(super) async fn read(
    models: &Arc<Models>,
    training: &Arc<Training>,
    input: &Arc<dyn ExecutionPlan>,
    side: Option<Arc<dyn ExecutionPlan>>,
    context: &Arc<TaskContext>,
) -> Result<Rows> {
    let fitted = match &training.transform {
        Some(transform) if transform.learns() => Some(learn(transform, input, context).await?),
        Some(transform) => Some(transform.fitting()?.finish()?),
        None => None,
    };
    let bound = fitted.as_ref().map(|fitted| fitted.bind(training.name.as_str(), input.schema().fields(), &[])).transpose()?;
    let bound = bound.map(Arc::new);
    let synonyms = match side {
        Some(side) => texts::synonyms(side, context).await?,
        None => Vec::new(),
    };
    let base = match &training.texts {
        Some(texts) => texts.base(models, synonyms).await?,
        None => None,
    };
    let classes: Arc<[String]> = match &training.texts {
        Some(texts) => texts.classes(input, context, base.as_deref()).await?.into(),
        None => Arc::default(),
    };
    let language = match &training.language {
        Some(language) => Some(language.base(models).await?),
        None => None,
    };
    let again = training.texts.is_some() || training.transform.as_ref().is_some_and(Transform::learns);
    let input = if again { reset_plan_states(Arc::clone(input))? } else { Arc::clone(input) };
    let mut reading = JoinSet::new();
    for partition in 0..input.output_partitioning().partition_count() {
        let stream = input.execute(partition, Arc::clone(context))?;
        let own = MemoryConsumer::new(format!("finetune[{partition}]")).with_can_spill(true).register(context.memory_pool());
        let (training, scratch, bound) = (Arc::clone(training), Temporary(Arc::clone(context)), bound.clone());
        let (models, classes, base, language) = (Arc::clone(models), Arc::clone(&classes), base.clone(), language.clone());
        reading.spawn(async move {
            match (&training.texts, &training.language, &language) {
                (Some(texts), ..) => {
                    let label = training.labels.first().map(|label| label.name.as_str()).unwrap_or_default();
                    let reader = Reader { models: &models, texts, base: base.as_ref(), classes: &classes, label };
                    read_texts(&training, &Texts::Classes(reader), stream, own, &scratch).await
                }
                (None, Some(language), Some(base)) => {
                    read_texts(&training, &Texts::Completions(language, base), stream, own, &scratch).await
                }
                _ => read_part(&training, bound.as_deref(), stream, own, &scratch).await,
            }
        });
    }
    let prepared = fitted.map(|fitted| Prepared { fitted, except: training.except() });
    let scratch = Temporary(Arc::clone(context));
    let mut rows =
        Rows { collectors: vec![], scratch, prepared, classes: classes.to_vec(), seen: Seen::default(), base, language, _memory: vec![] };
    let mut seen = 0;
    let mut nulls = vec![0; training.labels.len()];
    while let Some(part) = reading.join_next().await {
        let part = joined(part)?;
        seen += part.rows;
        nulls.iter_mut().zip(&part.nulls).for_each(|(sum, nulls)| *sum += nulls);
        rows.seen.add(part.seen);
        rows.collectors.push(part.collector);
        rows._memory.push(part.memory);
    }
    if let Some(task) = nulls.iter().position(|nulls| *nulls > 0) {
        let column = training.labels[task].name.clone();
        let hint = format!("leave these rows out: WHERE {column} IS NOT NULL");
        return Err(Error::Nulls { column, rows: nulls[task], total: seen, hint }.into());
    }
    Ok(rows)
}

/// Shows all rows to a transform.
async fn learn(transform: &Transform, input: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Result<Fitted> {
    let mut learning = JoinSet::new();
    for partition in 0..input.output_partitioning().partition_count() {
        let mut stream = input.execute(partition, Arc::clone(context))?;
        let mut fitting = transform.fitting()?;
        learning.spawn(async move {
            while let Some(batch) = stream.next().await {
                fitting.update(&batch?)?;
            }
            Ok::<_, DataFusionError>((partition, fitting))
        });
    }
    let mut parts = Vec::new();
    while let Some(part) = learning.join_next().await {
        parts.push(joined(part)?);
    }
    // What is learned must not depend on which partition was read first.
    parts.sort_by_key(|(partition, _)| *partition);
    let mut whole = transform.fitting()?;
    parts.into_iter().try_for_each(|(_, part)| whole.merge(part))?;
    whole.finish()
}

/// The rows of one partition.
struct Part {
    collector: Collector,
    memory: MemoryReservation,
    rows: usize,
    /// NULLs of each label.
    nulls: Vec<usize>,
    seen: Seen,
}

impl Part {
    fn new(training: &Training, memory: MemoryReservation) -> Self {
        let nulls = vec![0; training.labels.len()];
        Self { collector: Collector::new(training.options.seed), memory, rows: 0, nulls, seen: Seen::default() }
    }

    /// Moves the rows to disk where there is no room for them.
    fn make_room(&mut self, scratch: &Temporary) -> Result<()> {
        // The rows are there twice while they are put in order.
        if let Err(full) = self.memory.try_resize(self.collector.bytes() * 2) {
            self.collector.spill(scratch).map_err(|error| if error.kind() == io::ErrorKind::OutOfMemory { full } else { error.into() })?;
            self.memory.free();
        }
        Ok(())
    }
}

/// What reads the texts of a training.
enum Texts<'a> {
    Classes(Reader<'a>),
    Completions(&'a Language, &'a Arc<LanguageBase>),
}

impl Texts<'_> {
    async fn read(&self, batch: &RecordBatch) -> Result<Read> {
        match self {
            Self::Classes(reader) => reader.read(batch).await,
            Self::Completions(language, base) => language.read(batch, base).await,
        }
    }
}

/// The texts of one partition.
async fn read_texts(
    training: &Training,
    texts: &Texts<'_>,
    mut stream: SendableRecordBatchStream,
    memory: MemoryReservation,
    scratch: &Temporary,
) -> Result<Part> {
    let mut part = Part::new(training, memory);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let read = texts.read(&batch).await?;
        let split = training.split.map(|column| features::split(batch.column(column))).transpose()?.unwrap_or_default();
        let split = if split.is_empty() { split } else { read.rows.iter().map(|row| split[*row]).collect() };
        part.rows += read.rows.len();
        part.nulls.iter_mut().for_each(|nulls| *nulls += read.nulls);
        part.seen.add(read.seen);
        if read.batch.rows > 0 {
            part.collector.push(&Block { batch: read.batch, labels: read.labels, split });
        }
        part.make_room(scratch)?;
    }
    Ok(part)
}

async fn read_part(
    training: &Training,
    bound: Option<&Bound>,
    mut stream: SendableRecordBatchStream,
    memory: MemoryReservation,
    scratch: &Temporary,
) -> Result<Part> {
    let tasks = training.labels.len();
    let mut part = Part::new(training, memory);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let batch = match bound {
            Some(bound) => bound.apply(batch.columns(), batch.num_rows())?,
            None => batch,
        };
        let rows = batch.num_rows();
        let mut labels = vec![0.0; rows * tasks];
        for (task, label) in training.labels.iter().enumerate() {
            part.nulls[task] += label.read(batch.columns(), labels.iter_mut().skip(task).step_by(tasks))?;
        }
        let split = training.split.map(|column| features::split(batch.column(column))).transpose()?.unwrap_or_default();
        training.encoder.texts(batch.columns(), &mut part.collector.texts)?;
        part.collector.push(&training.block(training.encoder.encode(batch.columns(), rows)?, labels, split));
        part.rows += rows;
        part.make_room(scratch)?;
    }
    Ok(part)
}

/// Temporary files of the session.
pub(super) struct Temporary(Arc<TaskContext>);

impl Scratch for Temporary {
    fn file(&self) -> io::Result<File> {
        let disk = &self.0.runtime_env().disk_manager;
        if !disk.tmp_files_enabled() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let named = disk.create_tmp_file("rows of a training").map_err(io::Error::other)?;
        let path = named.path().ok_or(io::ErrorKind::NotFound)?;
        // The name goes with `named`; the file stays until it is closed.
        File::options().read(true).write(true).open(path)
    }
}
