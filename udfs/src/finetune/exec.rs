//! Runs a training below a stream of rows.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use stratagem_models::click::{self, Progress, Trained};
use stratagem_models::encoder::tune;
use stratagem_models::examples::Examples;
use stratagem_models::language::tune as language;
use stratagem_models::registry::{Kind, Outcome, Source};
use stratagem_models::text;
use stratagem_models::uplift::{self, Gain, Output};
use tokio::sync::mpsc;

use super::record;
use super::rows::{self, Rows};
use super::{DECLARATION, Training};
use crate::error::Error;
use crate::models::{Error as ModelError, Models, Runtime};
use crate::notice::{self, Severity};
use crate::stop::StopOnDrop;

/// Trains on the rows of its input and yields a row per epoch.
#[derive(Debug)]
pub(super) struct FinetuneExec {
    models: Arc<Models>,
    training: Arc<Training>,
    input: Arc<dyn ExecutionPlan>,
    /// The synonyms of the words of texts.
    side: Option<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
}

impl FinetuneExec {
    pub(super) fn new(
        models: Arc<Models>,
        training: Arc<Training>,
        input: Arc<dyn ExecutionPlan>,
        side: Option<Arc<dyn ExecutionPlan>>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(DECLARATION.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { models, training, input, side, properties: Arc::new(properties) }
    }
}

impl DisplayAs for FinetuneExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Training { name, uplift, options, columns, .. } = &*self.training;
        let (model_type, epochs, features) = (options.model_type, options.epochs, columns.len());
        let labels = self.training.label().replace(", ", "+");
        write!(f, "FinetuneExec: model={name}, model_type={model_type}, label={labels}, features={features}, epochs={epochs}")?;
        match uplift {
            Some(plan) => write!(f, ", learner={}, treatment={}", plan.learner, plan.treatment),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for FinetuneExec {
    fn name(&self) -> &str {
        "FinetuneExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        std::iter::once(&self.input).chain(&self.side).collect()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut children = children.into_iter();
        let input = children.next().unwrap_or_else(|| Arc::clone(&self.input));
        let side = children.next().or_else(|| self.side.clone());
        Ok(Arc::new(Self::new(Arc::clone(&self.models), Arc::clone(&self.training), input, side)))
    }

    #[allow(deprecated, reason = "required by the trait until it is removed")]
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (models, training) = (Arc::clone(&self.models), Arc::clone(&self.training));
        let inputs = (Arc::clone(&self.input), self.side.clone());
        // Dropping the stream aborts the task, and what the task holds stops the training.
        let mut stream = RecordBatchReceiverStream::builder(self.schema(), 1);
        let out = stream.tx();
        stream.spawn(run(models, training, inputs, context, out));
        Ok(stream.build())
    }
}

/// What the training thread reports.
enum Report {
    /// The rows are in order.
    Began {
        rows: usize,
        on_disk: bool,
    },
    Epoch(Progress, f64),
    /// Columns that tell the label.
    Leaks(Vec<String>),
    /// The outcome of an uplift model is not 0 or 1.
    Numeric,
    Saved {
        version: u32,
        last: Progress,
        gain: Option<Gain>,
        seconds: f64,
    },
    Failed(ModelError),
}

async fn run(
    models: Arc<Models>,
    training: Arc<Training>,
    (input, side): (Arc<dyn ExecutionPlan>, Option<Arc<dyn ExecutionPlan>>),
    context: Arc<TaskContext>,
    out: mpsc::Sender<Result<RecordBatch>>,
) -> Result<()> {
    let schema = DECLARATION.schema();
    // Without a runtime there is no reason to read the rows.
    let runtime = SpawnedTask::spawn_blocking({
        let models = Arc::clone(&models);
        move || models.runtime()
    });
    let runtime = runtime.join_unwind().await.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?.map_err(Error::from)?;
    if let Some(reason) = runtime.degraded() {
        notice::send(context.session_config(), Severity::Warning, reason);
    }
    let rows = rows::read(&models, &training, &input, side, &context).await?;
    for message in told(&training, &rows) {
        notice::send(context.session_config(), Severity::Notice, message);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(Arc::clone(&stop));
    let (report, mut reports) = mpsc::unbounded_channel();
    let name = training.name.to_string();
    let thread = thread::Builder::new().name(format!("train {name}")).spawn({
        let training = Arc::clone(&training);
        move || {
            // The memory of the rows is given back when the training is over, also when that is after its statement.
            train(&models, &runtime, &training, rows, &report, &stop);
        }
    })?;
    let config = context.session_config();
    let (nets, mut begun) = (training.nets(), 0);
    while let Some(report) = reports.recv().await {
        let row = match report {
            Report::Began { rows, on_disk } => {
                let place = if on_disk { ", from temporary files because they do not fit into memory" } else { "" };
                let columns: HashSet<&str> = training.columns.iter().map(|column| column.column.as_str()).collect();
                let columns = if columns.len() == 1 { "1 column".to_owned() } else { format!("{} columns", columns.len()) };
                notice::send(config, Severity::Notice, format!("training {name} on {rows} rows of {columns}{place}"));
                continue;
            }
            Report::Leaks(columns) => {
                let columns = columns.join("\", \"");
                let message = format!("column \"{columns}\" alone tells the label: is it known before the outcome? If not, leave it out");
                notice::send(config, Severity::Warning, message);
                continue;
            }
            Report::Epoch(progress, seconds) => {
                begun += u32::from(progress.epoch == 1);
                let after = f64::from(nets.saturating_sub(begun));
                let left = f64::from(progress.epochs - progress.epoch) + after * f64::from(progress.epochs);
                row(&schema, &name, None, &progress, None, [seconds, left * progress.seconds])?
            }
            Report::Numeric => {
                let message = format!(
                    "outcome \"{}\" has other values than 0 and 1: predict_uplift gives the change of its expected value",
                    training.label()
                );
                notice::send(config, Severity::Notice, message);
                continue;
            }
            Report::Saved { version, last, gain, seconds } => row(&schema, &name, Some(version), &last, gain.as_ref(), [seconds, 0.0])?,
            Report::Failed(error) => return Err(Error::from(error).into()),
        };
        if out.send(Ok(row)).await.is_err() {
            return Ok(());
        }
    }
    // The thread has dropped its end, so it is done and this does not wait.
    thread.join().map_err(|panic| std::panic::resume_unwind(panic))
}

/// What is to be told of the texts of a text model.
fn told(training: &Training, rows: &Rows) -> Vec<String> {
    let name = &training.name;
    let mut told = Vec::new();
    if rows.seen.blank > 0 {
        told.push(format!("training {name} leaves {} out for want of a text", counted(rows.seen.blank as u64, "row")));
    }
    if rows.seen.truncated > 0 {
        let part = if training.language.is_some() { "a part" } else { "the beginning" };
        told.push(format!("training {name}: only {part} is read of {}", counted(rows.seen.truncated, "text")));
    }
    told
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Trains and saves, on a thread of its own.
fn train(
    models: &Models,
    runtime: &Arc<Runtime>,
    training: &Training,
    mut rows: Rows,
    report: &mpsc::UnboundedSender<Report>,
    stop: &AtomicBool,
) {
    let mut run = None;
    let outcome = (|| {
        let started = Instant::now();
        let examples = Examples::collect(training.raw(), std::mem::take(&mut rows.collectors), &rows.scratch)?;
        // Nobody listens to a training that was stopped; it finds out in its next step.
        let _ = report.send(Report::Began { rows: examples.rows(), on_disk: examples.is_on_disk() });
        let run = run.insert(record::begin(models, training, examples.rows())?);
        let mut on_epoch = |progress: &Progress| {
            record::epoch(run, progress);
            match report.send(Report::Epoch(progress.clone(), started.elapsed().as_secs_f64())) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let options = &training.options;
        let source = Source { label: training.label(), query: training.query.clone(), rows: examples.rows() as u64 };
        if let (Some(texts), Some(base)) = (&training.texts, &rows.base) {
            let text = texts.model(std::mem::take(&mut rows.classes), rows.seen);
            let trained = tune::train(runtime, base, &examples, options, text, &mut on_epoch, stop)?;
            if stop.load(Ordering::Relaxed) {
                return Err(ModelError::Canceled);
            }
            let (last, evaluations) = (trained.kept().clone(), record::text(trained.text()));
            let version = trained.save(models.registry(), &training.name, source)?;
            return Ok((Report::Saved { version, last, gain: None, seconds: started.elapsed().as_secs_f64() }, version, evaluations));
        }
        if let (Some(own), Some(base)) = (&training.language, &rows.language) {
            let adapted = base.model(own.objective, rows.seen.truncated);
            let trained = language::train(runtime, base, &examples, options, adapted, &mut on_epoch, stop)?;
            if stop.load(Ordering::Relaxed) {
                return Err(ModelError::Canceled);
            }
            let (last, evaluations) = (trained.kept().clone(), record::language(trained.adapted()));
            let version = trained.save(models.registry(), &training.name, source)?;
            return Ok((Report::Saved { version, last, gain: None, seconds: started.elapsed().as_secs_f64() }, version, evaluations));
        }
        let trained = match (&training.uplift, &training.texts) {
            (Some(plan), _) => uplift::train(runtime, &examples, options, plan, &mut on_epoch, stop)?,
            (None, Some(texts)) => {
                let text = texts.model(std::mem::take(&mut rows.classes), rows.seen);
                text::train(runtime, &examples, options, text, &mut on_epoch, stop)?
            }
            (None, None) => {
                let start = training.base.as_ref().map(|(_, start)| &**start);
                click::train(runtime, &examples, options, start, &mut on_epoch, stop)?
            }
        };
        if !trained.leaks().is_empty() {
            let _ = report.send(Report::Leaks(trained.leaks().to_vec()));
        }
        if stop.load(Ordering::Relaxed) {
            return Err(ModelError::Canceled);
        }
        record::trials(models, training, run, &trained);
        let (last, evaluations) = (last(&trained), record::evaluations(&trained));
        let mut gain = None;
        if let Kind::Uplift(uplift) = trained.kind() {
            gain = uplift.evaluation.clone();
            if uplift.outcome == Output::Number {
                let _ = report.send(Report::Numeric);
            }
        }
        let transform = rows.prepared.take().map(serde_json::to_value).transpose();
        let transform = transform.map_err(|error| ModelError::Corrupt { object: "the TRANSFORM".to_owned(), reason: error.to_string() })?;
        let version = trained.save(models.registry(), &training.name, source, transform)?;
        Ok((Report::Saved { version, last, gain, seconds: started.elapsed().as_secs_f64() }, version, evaluations))
    })();
    let (last, end) = match outcome {
        Ok((saved, version, evaluations)) => (saved, Outcome::Succeeded { version: Some(version), evaluations }),
        Err(ModelError::Canceled) => (Report::Failed(ModelError::Canceled), Outcome::Canceled),
        Err(error) => {
            let reason = error.to_string();
            (Report::Failed(error), Outcome::Failed(reason))
        }
    };
    if let Some(run) = run {
        record::end(run, end);
    }
    // Nobody listens to the end of a training that was stopped.
    let _ = report.send(last);
}

/// The figures of the last row: those of the whole model, as far as there are held-out rows.
fn last(trained: &Trained) -> Progress {
    let kept = Progress { member: trained.options().ensembles, ..trained.kept().clone() };
    if let Kind::Text(text) = trained.kind() {
        return Progress { validation_loss: text.loss(), ..kept };
    }
    match trained.evaluation() {
        Some(whole) => Progress { validation_loss: Some(whole.logloss), validation_auc: whole.auc, ..kept },
        // That of one stage says nothing of the whole model.
        None if kept.stage.is_some() => Progress { stage: None, validation_loss: None, validation_auc: None, ..kept },
        None => kept,
    }
}

fn row(
    schema: &SchemaRef,
    model: &str,
    version: Option<u32>,
    progress: &Progress,
    gain: Option<&Gain>,
    [seconds, eta]: [f64; 2],
) -> Result<RecordBatch> {
    let whole = |value: Option<u32>| -> ArrayRef { Arc::new(Int32Array::from(vec![value.and_then(|value| i32::try_from(value).ok())])) };
    let double = |value: Option<f64>| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![model])),
        whole(version),
        whole(Some(progress.trial)),
        whole(Some(progress.member)),
        whole(Some(progress.epoch)),
        whole(Some(progress.epochs)),
        Arc::new(Int64Array::from(vec![i64::try_from(progress.rows).unwrap_or(i64::MAX)])),
        double(Some(progress.train_loss)),
        double(progress.validation_loss),
        double(progress.validation_auc),
        double(Some(seconds)),
        double(Some(eta)),
        Arc::new(StringArray::from(vec![progress.stage.map(|stage| stage.to_string())])),
        double(gain.and_then(|gain| gain.qini)),
        double(gain.and_then(|gain| gain.auuc)),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(DataFusionError::from)
}
