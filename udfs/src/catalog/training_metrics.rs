//! `ml.training_metrics`

use datafusion::arrow::array::ArrayRef;

use super::{Table, bigints, doubles, integers, texts, times};
use crate::declaration::{Column, Type};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "training_metrics",
    summary: "What was measured during the trainings, as it happens",
    columns: &[
        Column::new("run", Type::BigInt, "The run, as in `ml.training_runs`."),
        Column::new("epoch", Type::Integer, "The epoch, from 1."),
        Column::new("step", Type::BigInt, "The steps since the beginning, if they were counted.").nullable(),
        Column::new("split", Type::Text, "The rows it was measured on: `train`, `validation` or `test`."),
        Column::new("metric", Type::Text, "What was measured, such as `loss` or `auc`."),
        Column::new("value", Type::Double, "The value; NULL for one that is not finite.").nullable(),
        Column::new("at", Type::Timestamp, "When.").nullable(),
    ],
    values,
};

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let runs = models.registry().runs().list()?;
    let metrics = || runs.iter().flat_map(|run| run.metrics.iter().map(move |metric| (run, metric)));
    Ok(vec![
        bigints(metrics().map(|(run, _)| Some(run.id))),
        integers(metrics().map(|(_, metric)| Some(metric.epoch))),
        bigints(metrics().map(|(_, metric)| metric.step)),
        texts(metrics().map(|(_, metric)| Some(metric.split.as_str()))),
        texts(metrics().map(|(_, metric)| Some(metric.metric.as_str()))),
        doubles(metrics().map(|(_, metric)| metric.value)),
        times(metrics().map(|(_, metric)| Some(metric.at.as_str()))),
    ])
}
