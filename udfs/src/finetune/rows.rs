//! The rows of a training: read from all partitions of the query, encoded as they arrive, and put into an order of their own.

use std::sync::Arc;

use datafusion::common::runtime::JoinSet;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use stratagem_models::features::{Batch, Examples};

use super::Training;
use crate::error::Error;
use crate::features;

/// The rows of one partition.
#[derive(Default)]
struct Part {
    batch: Batch,
    labels: Vec<f32>,
    nulls: usize,
}

/// Reads and encodes all rows. What they take is accounted for in the session's memory pool until the returned reservation is dropped.
pub(super) async fn read(
    training: &Arc<Training>,
    input: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<(Examples, MemoryReservation)> {
    let partitions = input.output_partitioning().partition_count();
    let reservation = MemoryConsumer::new("finetune").register(context.memory_pool());
    let mut reading = JoinSet::new();
    for partition in 0..partitions {
        let stream = input.execute(partition, Arc::clone(context))?;
        let own = MemoryConsumer::new(format!("finetune[{partition}]")).register(context.memory_pool());
        let training = Arc::clone(training);
        reading.spawn(async move {
            let part = read_part(&training, stream, &own).await?;
            Ok::<_, DataFusionError>((part, own))
        });
    }
    let mut examples = Examples { columns: training.columns.clone(), ..Examples::default() };
    let mut nulls = 0;
    while let Some(part) = reading.join_next().await {
        let (part, own) = part.map_err(|failed| match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(failed) => DataFusionError::ExecutionJoin(Box::new(failed)),
        })??;
        nulls += part.nulls;
        reservation.try_grow(own.size())?;
        if examples.batch.rows == 0 {
            (examples.batch, examples.labels) = (part.batch, part.labels);
            continue;
        }
        examples.batch.rows += part.batch.rows;
        examples.batch.ids.extend(part.batch.ids);
        examples.batch.numbers.extend(part.batch.numbers);
        examples.labels.extend(part.labels);
    }
    if nulls > 0 {
        let hint = format!("leave these rows out: WHERE {} IS NOT NULL", training.label_name);
        return Err(Error::Nulls { column: training.label_name.clone(), rows: nulls, total: examples.batch.rows, hint }.into());
    }
    Ok((examples, reservation))
}

async fn read_part(training: &Training, mut stream: SendableRecordBatchStream, reservation: &MemoryReservation) -> Result<Part> {
    let mut part = Part::default();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        reservation.try_grow(batch.num_rows() * training.encoder.row_bytes())?;
        training.encoder.encode(batch.columns(), batch.num_rows(), &mut part.batch)?;
        part.nulls += features::labels(batch.column(training.label), &training.label_name, &mut part.labels)?;
    }
    Ok(part)
}

/// Sorts the rows by a hash of their content: the order in which they arrived depends on partitions and timing, and a training is to depend
/// on the rows and the seed alone. Equal rows have equal places, so nothing else decides.
pub(super) fn settle(examples: &mut Examples) {
    let rows = examples.batch.rows;
    if rows == 0 {
        return;
    }
    let (hashed, numeric) = (examples.batch.ids.len() / rows, examples.batch.numbers.len() / rows);
    let ids = |row: usize| &examples.batch.ids[row * hashed..][..hashed];
    let numbers = |row: usize| examples.batch.numbers[row * numeric..][..numeric].iter().map(|number| number.to_bits());
    let label = |row: usize| examples.labels[row].to_bits();
    let key = |row: usize| {
        let mut key = mix(0, u64::from(label(row)));
        key = ids(row).iter().fold(key, |key, id| mix(key, *id));
        numbers(row).fold(key, |key, number| mix(key, u64::from(number)))
    };
    let mut order: Vec<(u64, usize)> = (0..rows).map(|row| (key(row), row)).collect();
    order.sort_unstable_by(|(a, left), (b, right)| {
        a.cmp(b).then_with(|| {
            ids(*left).cmp(ids(*right)).then_with(|| numbers(*left).cmp(numbers(*right))).then(label(*left).cmp(&label(*right)))
        })
    });
    let gather = |width: usize| order.iter().flat_map(move |(_, row)| row * width..(row + 1) * width);
    let sorted_ids = gather(hashed).map(|at| examples.batch.ids[at]).collect();
    let sorted_numbers = gather(numeric).map(|at| examples.batch.numbers[at]).collect();
    let sorted_labels = gather(1).map(|at| examples.labels[at]).collect();
    examples.batch.ids = sorted_ids;
    examples.batch.numbers = sorted_numbers;
    examples.labels = sorted_labels;
}

/// One step of a hash (the finaliser of SplitMix64, Steele et al. 2014).
fn mix(key: u64, value: u64) -> u64 {
    let mut mixed = (key ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
