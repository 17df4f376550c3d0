//! Runs the step.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, filter_record_batch, prep_null_mask_filter, take};
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, DFSchema, Result, Statistics, exec_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, UserDefinedLogicalNode};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::stream::{self, FuturesOrdered, Stream, StreamExt, TryStreamExt};

use super::node::{Calls, Entry};
use super::{Work, work};
use crate::usage::{Meter, Progress};

/// Plans the steps of one statement.
#[derive(Debug)]
pub(crate) struct StepPlanner;

#[async_trait]
impl ExtensionPlanner for StepPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(step) = node.as_any().downcast_ref::<Calls>() else { return Ok(None) };
        let [input] = inputs else { return exec_err!("a step of calls has one input, not {}", inputs.len()) };
        let schema = step.input.schema();
        let physical = |expression: &Expr| planner.create_physical_expr(expression, schema, session, context);
        let calls = step.entries.iter().map(|entry| Call::new(entry, schema, &physical)).collect::<Result<Vec<_>>>()?;
        let options = Arc::clone(session.config().options());
        Ok(Some(Arc::new(CallExec::new(calls.into(), Arc::clone(input), options))))
    }
}

/// One call of the step.
#[derive(Debug)]
struct Call {
    text: String,
    function: String,
    name: String,
    work: Arc<dyn Work>,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    fields: Vec<FieldRef>,
    result: FieldRef,
    guard: Option<Arc<dyn PhysicalExpr>>,
}

impl Call {
    fn new(entry: &Entry, schema: &DFSchema, physical: &dyn Fn(&Expr) -> Result<Arc<dyn PhysicalExpr>>) -> Result<Self> {
        let Expr::ScalarFunction(call) = &entry.call else { return exec_err!("{} is no call", entry.call) };
        let Some(work) = work(call) else { return exec_err!("{} is not deferred", entry.call) };
        Ok(Self {
            text: entry.call.to_string(),
            function: call.func.name().to_owned(),
            name: entry.name.clone(),
            work,
            arguments: call.args.iter().map(physical).collect::<Result<_>>()?,
            fields: call.args.iter().map(|argument| Ok(argument.to_field(schema)?.1)).collect::<Result<_>>()?,
            result: entry.call.to_field(schema)?.1,
            guard: entry.guard.as_ref().map(physical).transpose()?,
        })
    }

    /// The results for the rows of a batch.
    async fn answer(&self, batch: &RecordBatch, side: &Side) -> Result<ArrayRef> {
        let guard = self.guard.as_ref().map(|guard| guard.evaluate(batch)?.into_array(batch.num_rows())).transpose()?;
        let Some(guard) = guard else { return self.call(batch, side).await };
        let Some(wanted) = guard.as_any().downcast_ref::<BooleanArray>() else { return exec_err!("a guard is no condition") };
        let wanted = if wanted.null_count() > 0 { prep_null_mask_filter(wanted) } else { wanted.clone() };
        if wanted.true_count() == batch.num_rows() {
            return self.call(batch, side).await;
        }
        let answers = self.call(&filter_record_batch(batch, &wanted)?, side).await?;
        let mut next = 0;
        let places: UInt32Array = wanted
            .values()
            .iter()
            .map(|wanted| {
                next += u32::from(wanted);
                wanted.then(|| next - 1)
            })
            .collect();
        Ok(take(&answers, &places, None)?)
    }

    async fn call(&self, batch: &RecordBatch, side: &Side) -> Result<ArrayRef> {
        let number_rows = batch.num_rows();
        if number_rows == 0 {
            return Ok(datafusion::arrow::array::new_empty_array(self.result.data_type()));
        }
        side.called.add(number_rows);
        let args = self.arguments.iter().map(|argument| argument.evaluate(batch)).collect::<Result<_>>()?;
        let arguments = ScalarFunctionArgs {
            args,
            arg_fields: self.fields.clone(),
            number_rows,
            return_field: Arc::clone(&self.result),
            config_options: Arc::clone(&side.options),
        };
        self.work.call(arguments, &side.meter).await
    }
}

/// What the calls of a partition are given besides their rows.
#[derive(Debug)]
struct Side {
    options: Arc<ConfigOptions>,
    called: Count,
    meter: Arc<Meter>,
}

/// Adds the results of calls as columns.
#[derive(Debug)]
struct CallExec {
    calls: Arc<[Call]>,
    input: Arc<dyn ExecutionPlan>,
    options: Arc<ConfigOptions>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// How far it is: begun with the first partition.
    progress: OnceLock<Arc<Progress>>,
}

impl CallExec {
    fn new(calls: Arc<[Call]>, input: Arc<dyn ExecutionPlan>, options: Arc<ConfigOptions>) -> Self {
        let own = input.schema();
        let added = calls.iter().map(|call| Arc::new(call.result.as_ref().clone().with_name(&call.name).with_nullable(true)));
        let fields: Vec<FieldRef> = own.fields().iter().cloned().chain(added).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, own.metadata().clone()));
        // The columns of the input keep their places, so its orders hold.
        let orders = input.equivalence_properties().oeq_class().iter().cloned();
        let equivalence = EquivalenceProperties::new_with_orderings(schema, orders);
        let from = input.properties();
        let properties = PlanProperties::new(equivalence, from.output_partitioning().clone(), from.emission_type, from.boundedness);
        Self { calls, input, options, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new(), progress: OnceLock::new() }
    }

    fn progress(&self) -> Arc<Progress> {
        let progress = self.progress.get_or_init(|| {
            let mut functions: Vec<&str> = self.calls.iter().map(|call| call.function.as_str()).collect();
            functions.dedup();
            let rows = StatisticsContext::new().compute(self.input.as_ref(), &StatisticsArgs::new());
            let total =
                rows.ok().and_then(|rows| rows.num_rows.is_exact().unwrap_or(false).then(|| rows.num_rows.get_value().copied()).flatten());
            let partitions = self.properties.output_partitioning().partition_count();
            Arc::new(Progress::new(functions.join(", "), total, partitions))
        });
        Arc::clone(progress)
    }

    fn slice(&self) -> Option<usize> {
        self.calls.iter().filter_map(|call| call.work.rows()).min()
    }
}

impl DisplayAs for CallExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallExec:")?;
        for (position, call) in self.calls.iter().enumerate() {
            write!(f, "{} {} AS {}", if position == 0 { "" } else { "," }, call.text, call.name)?;
            if let Some(guard) = &call.guard {
                write!(f, " where {guard}")?;
            }
        }
        Ok(())
    }
}

impl ExecutionPlan for CallExec {
    fn name(&self) -> &str {
        "CallExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![self.calls.iter().any(|call| call.work.parallel())]
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        for expression in self.calls.iter().flat_map(|call| call.arguments.iter().chain(&call.guard)) {
            if f(expression)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::new(Arc::clone(&self.calls), input, Arc::clone(&self.options))))
    }

    #[allow(deprecated, reason = "required by the trait until it is removed")]
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    /// A call changes no number of rows. So a few rows stay together, in their order.
    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let [input] = inputs else { return exec_err!("a step of calls has one input, not {}", inputs.len()) };
        let mut statistics = input.as_ref().clone();
        statistics.total_byte_size = Precision::Absent;
        statistics.column_statistics.extend(self.calls.iter().map(|_| ColumnStatistics::new_unknown()));
        Ok(Arc::new(statistics))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let meter = Arc::new(Meter::new(&self.progress(), &context, &self.metrics, partition));
        let input = self.input.execute(partition, context)?;
        let schema = self.schema();
        let called = MetricBuilder::new(&self.metrics).counter("calls", partition);
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let slice = self.slice();
        let at_a_time = self.calls.iter().map(|call| call.work.calls()).max().unwrap_or(1);
        let slices = input.map_ok(move |batch| stream::iter(cut(batch, slice).into_iter().map(Result::Ok))).try_flatten();
        let side = Arc::new(Side { options: Arc::clone(&self.options), called, meter: Arc::clone(&meter) });
        let (calls, out) = (Arc::clone(&self.calls), Arc::clone(&schema));
        let answered = slices.map(move |batch: Result<RecordBatch>| {
            let (calls, out, side) = (Arc::clone(&calls), Arc::clone(&out), Arc::clone(&side));
            async move { answer(batch?, &calls, out, &side).await }
        });
        let answered = few_at_first(answered, at_a_time);
        let joined = Arc::clone(&schema);
        // What is done goes on at once, in as few batches as it comes in.
        let batches = answered.ready_chunks(if slice.is_some() { at_a_time } else { 1 }).map(move |ready| {
            let ready = ready.into_iter().collect::<Result<Vec<RecordBatch>>>()?;
            let batch = if let [batch] = ready.as_slice() { batch.clone() } else { concat_batches(&joined, &ready)? };
            baseline.record_output(batch.num_rows());
            Ok(batch)
        });
        if !self.calls.iter().any(|call| call.work.tells()) {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)));
        }
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, told(batches, meter))))
    }
}

/// The answers in the order of their questions. Until the first is there only few are under way, so that it does not wait for the others: what is
/// computed together is done together.
fn few_at_first<A: Future<Output = Result<RecordBatch>> + Send>(
    questions: impl Stream<Item = A> + Send,
    most: usize,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let mut questions = Box::pin(questions.fuse());
    let mut under_way = FuturesOrdered::new();
    let mut limit = most.min(2);
    stream::poll_fn(move |context| {
        while under_way.len() < limit {
            match questions.as_mut().poll_next(context) {
                Poll::Ready(Some(answer)) => under_way.push_back(answer),
                Poll::Ready(None) if under_way.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) => break,
                Poll::Pending if under_way.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let answer = std::task::ready!(under_way.poll_next_unpin(context));
        limit = most;
        Poll::Ready(answer)
    })
}

/// The batches, while the client is told from time to time how far it is.
fn told(batches: impl Stream<Item = Result<RecordBatch>> + Send, meter: Arc<Meter>) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let mut batches = Box::pin(batches);
    let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + Meter::every(), Meter::every());
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    stream::poll_fn(move |context| {
        while clock.poll_tick(context).is_ready() {
            meter.tell();
        }
        let batch = std::task::ready!(batches.as_mut().poll_next(context));
        match &batch {
            Some(Ok(batch)) => meter.done(batch.num_rows()),
            Some(Err(_)) => {}
            None => meter.report(),
        }
        Poll::Ready(batch)
    })
}

/// The batch in pieces of some rows.
fn cut(batch: RecordBatch, rows: Option<usize>) -> Vec<RecordBatch> {
    let Some(rows) = rows.filter(|rows| *rows < batch.num_rows()) else { return vec![batch] };
    (0..batch.num_rows()).step_by(rows).map(|start| batch.slice(start, rows.min(batch.num_rows() - start))).collect()
}

/// The batch with the results of the calls.
async fn answer(batch: RecordBatch, calls: &[Call], schema: SchemaRef, side: &Side) -> Result<RecordBatch> {
    let answers = futures::future::try_join_all(calls.iter().map(|call| call.answer(&batch, side))).await?;
    let columns = batch.columns().iter().cloned().chain(answers).collect();
    Ok(RecordBatch::try_new_with_options(
        schema,
        columns,
        &datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )?)
}
