//! `ml.evaluations`

use datafusion::arrow::array::ArrayRef;

use super::{Table, bigints, doubles, integers, texts, times};
use crate::declaration::{Column, Type};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "evaluations",
    summary: "What each trained version is worth: the final metrics of its training",
    columns: &[
        Column::new("model", Type::Text, "The model's name."),
        Column::new("version", Type::Integer, "The version; NULL for a trial that saved none.").nullable(),
        Column::new("run", Type::BigInt, "The training, as in `ml.training_runs`."),
        Column::new("split", Type::Text, "The rows it was measured on: `train`, `validation` or `test`."),
        Column::new("metric", Type::Text, "What was measured, such as `loss` or `auc`."),
        Column::new("value", Type::Double, "The value; NULL for one that is not finite.").nullable(),
        Column::new("rows", Type::BigInt, "How many rows."),
        Column::new("created_at", Type::Timestamp, "When the training ended.").nullable(),
    ],
    values,
};

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let runs = models.registry().runs().list()?;
    let all = || runs.iter().flat_map(|run| run.evaluations.iter().map(move |evaluation| (run, evaluation)));
    Ok(vec![
        texts(all().map(|(run, _)| Some(run.info.model.as_str()))),
        integers(all().map(|(run, _)| run.version)),
        bigints(all().map(|(run, _)| Some(run.id))),
        texts(all().map(|(_, evaluation)| Some(evaluation.split.as_str()))),
        texts(all().map(|(_, evaluation)| Some(evaluation.metric.as_str()))),
        doubles(all().map(|(_, evaluation)| evaluation.value)),
        bigints(all().map(|(_, evaluation)| Some(evaluation.rows))),
        times(all().map(|(run, _)| run.ended_at.as_deref())),
    ])
}
