//! Table functions that take in all rows of a plan over their query before they answer: partition by partition, what they keep counted by
//! the memory pool.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, Float64Array, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::runtime::{JoinSet, SpawnedTask};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::declaration::Function;
use crate::notice::{self, Severity};
use crate::relation::{Constants, Relation};
use crate::stop::StopOnDrop;

/// A table function that measures or judges: it reads the columns it needs, and most leave everything as it is.
pub(crate) trait Gathering: fmt::Debug + Send + Sync {
    /// Its declaration.
    fn declaration(&self) -> &'static Function;

    /// Whether it changes nothing.
    fn reads_only(&self) -> bool {
        true
    }

    /// The plan that it reads: the columns it needs, computed by the engine.
    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan>;

    /// The plan that runs it over that plan, a [`GatherExec`].
    fn plan(&self, arguments: &Constants, query: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>;
}

impl<G: Gathering> Relation for G {
    fn declaration(&self) -> &'static Function {
        Gathering::declaration(self)
    }

    fn reads_only(&self) -> bool {
        Gathering::reads_only(self)
    }

    fn narrows(&self) -> bool {
        true
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        Gathering::input(self, arguments, query)
    }

    fn plan(&self, arguments: &Constants, query: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        Gathering::plan(self, arguments, query, input)
    }
}

/// What takes the rows in and answers.
pub(crate) trait Kernel: Send + Sized + 'static {
    /// Takes rows in.
    fn push(&mut self, batch: &RecordBatch) -> Result<()>;
    /// Adds the rows of another partition.
    fn merge(&mut self, other: Self);
    /// Bytes that it will have taken when it has answered.
    fn bytes(&self) -> usize;
    /// What the client should know of the rows that were taken in.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// Takes a flag that is set when nobody waits for the answer any more.
    fn watch(&mut self, _: Arc<AtomicBool>) {}
    /// The rows of the result; it may take its time.
    fn answer(self) -> Result<RecordBatch>;
}

/// Makes a kernel without rows.
type Start<K> = Arc<dyn Fn() -> K + Send + Sync>;

/// Gives all rows of its input to a kernel and yields its answer.
pub(crate) struct GatherExec<K> {
    function: &'static Function,
    start: Start<K>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl<K: Kernel> GatherExec<K> {
    pub(crate) fn plan(
        function: &'static Function,
        input: Arc<dyn ExecutionPlan>,
        start: impl Fn() -> K + Send + Sync + 'static,
    ) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self::new(function, input, Arc::new(start)))
    }

    fn new(function: &'static Function, input: Arc<dyn ExecutionPlan>, start: Start<K>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(function.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { function, start, input, properties: Arc::new(properties) }
    }
}

impl<K> fmt::Debug for GatherExec<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatherExec").field("function", &self.function.name).field("input", &self.input).finish_non_exhaustive()
    }
}

impl<K> DisplayAs for GatherExec<K> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatherExec: {}", self.function.name)
    }
}

impl<K: Kernel> ExecutionPlan for GatherExec<K> {
    fn name(&self) -> &str {
        "GatherExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::new(self.function, input, Arc::clone(&self.start))))
    }

    #[allow(deprecated, reason = "required by the trait until it is removed")]
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        // Dropping the stream aborts the task, and with it those that read.
        let mut stream = RecordBatchReceiverStream::builder(self.schema(), 2);
        let out = stream.tx();
        stream.spawn(run(self.function, Arc::clone(&self.start), Arc::clone(&self.input), context, out));
        Ok(stream.build())
    }
}

async fn run<K: Kernel>(
    function: &'static Function,
    start: Start<K>,
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    out: mpsc::Sender<Result<RecordBatch>>,
) -> Result<()> {
    let mut reading = JoinSet::new();
    for partition in 0..input.output_partitioning().partition_count() {
        let mut stream = input.execute(partition, Arc::clone(&context))?;
        let memory = MemoryConsumer::new(format!("{}[{partition}]", function.name)).register(context.memory_pool());
        let mut kernel = start();
        reading.spawn(async move {
            while let Some(batch) = stream.next().await {
                kernel.push(&batch?)?;
                memory.try_resize(kernel.bytes())?;
            }
            Ok::<_, DataFusionError>((partition, kernel, memory))
        });
    }
    let mut parts = Vec::new();
    while let Some(part) = reading.join_next().await {
        parts.push(joined(part)?);
    }
    // Nothing may depend on which partition was read first.
    parts.sort_by_key(|(partition, ..)| *partition);
    let (kernels, _memory): (Vec<K>, Vec<_>) = parts.into_iter().map(|(_, kernel, memory)| (kernel, memory)).unzip();
    let mut whole = start();
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(Arc::clone(&stop));
    whole.watch(stop);
    let answer = SpawnedTask::spawn_blocking(move || {
        kernels.into_iter().for_each(|kernel| whole.merge(kernel));
        (whole.warnings(), whole.answer())
    });
    let (warnings, answer) = answer.join_unwind().await.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?;
    let answer = answer?;
    warnings.into_iter().for_each(|warning| notice::send(context.session_config(), Severity::Warning, warning));
    let size = context.session_config().batch_size();
    for from in (0..answer.num_rows()).step_by(size) {
        if out.send(Ok(answer.slice(from, size.min(answer.num_rows() - from)))).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// What a task gave; its panic goes on.
pub(crate) fn joined<T>(part: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    part.map_err(|failed| match failed.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(failed) => DataFusionError::ExecutionJoin(Box::new(failed)),
    })?
}

/// The rows that have no NULL.
pub(crate) fn without_nulls(batch: &RecordBatch) -> Result<RecordBatch> {
    let nulls = batch.columns().iter().fold(None, |all, column| NullBuffer::union(all.as_ref(), column.logical_nulls().as_ref()));
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => Ok(filter_record_batch(batch, &BooleanArray::new(nulls.into_inner(), None))?),
        None => Ok(batch.clone()),
    }
}

/// A column of numbers; empty for one that is not there.
pub(crate) fn numbers(batch: &RecordBatch, column: usize) -> &[f64] {
    let numbers = batch.columns().get(column).and_then(|column| column.as_primitive_opt::<Float64Type>());
    numbers.map_or(&[], |numbers: &Float64Array| &numbers.values()[..])
}
