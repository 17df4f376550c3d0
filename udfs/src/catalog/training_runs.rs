//! `ml.training_runs`

use datafusion::arrow::array::ArrayRef;

use super::{Table, bigints, integers, texts, times};
use crate::declaration::{Column, Type};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "training_runs",
    summary: "Trainings: those that go on and the last 10 000 that have ended",
    columns: &[
        Column::new("run", Type::BigInt, "The number of the run, from 1."),
        Column::new("model", Type::Text, "The model's name."),
        Column::new("version", Type::Integer, "The version that it saved.").nullable(),
        Column::new("status", Type::Text, "`running`, `succeeded`, `failed` or `canceled`."),
        Column::new("error", Type::Text, "Why it failed.").nullable(),
        Column::new("started_at", Type::Timestamp, "When it began.").nullable(),
        Column::new("ended_at", Type::Timestamp, "When it ended.").nullable(),
        Column::new("rows", Type::BigInt, "The rows it was trained and validated on."),
        Column::new("seed", Type::BigInt, "The seed."),
        Column::new("options", Type::Text, "The options of the training, as JSON."),
        Column::new("trial", Type::Integer, "The number of the trial, when options were searched for.").nullable(),
        Column::new("parent", Type::BigInt, "The run that searched, for a trial.").nullable(),
    ],
    values,
};

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let runs = models.registry().runs().list()?;
    Ok(vec![
        bigints(runs.iter().map(|run| Some(run.id))),
        texts(runs.iter().map(|run| Some(run.info.model.as_str()))),
        integers(runs.iter().map(|run| run.version)),
        texts(runs.iter().map(|run| Some(run.status.as_str()))),
        texts(runs.iter().map(|run| run.error.as_deref())),
        times(runs.iter().map(|run| Some(run.started_at.as_str()))),
        times(runs.iter().map(|run| run.ended_at.as_deref())),
        bigints(runs.iter().map(|run| Some(run.info.rows))),
        bigints(runs.iter().map(|run| Some(run.info.seed))),
        texts(runs.iter().map(|run| Some(run.info.options.to_string()))),
        integers(runs.iter().map(|run| run.info.trial)),
        bigints(runs.iter().map(|run| run.info.parent)),
    ])
}
