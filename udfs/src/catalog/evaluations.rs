//! `ml.evaluations`

use datafusion::arrow::array::ArrayRef;

use super::{Table, bigints, doubles, integers, texts, times};
use crate::declaration::{Column, Type};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "evaluations",
    summary: "What each version is worth: the final metrics of its training, and what ml.evaluate has measured since",
    columns: &[
        Column::new("model", Type::Text, "The model's name."),
        Column::new("version", Type::Integer, "The version; NULL for a trial that saved none.").nullable(),
        Column::new("run", Type::BigInt, "The training, as in `ml.training_runs`; NULL for `ml.evaluate`.").nullable(),
        Column::new(
            "split",
            Type::Text,
            "The rows it was measured on: `train`, `validation` or `test` of a training, or those of a `query`.",
        ),
        Column::new("metric", Type::Text, "What was measured, such as `loss` or `auc`."),
        Column::new("value", Type::Double, "The value; NULL for one that is not finite.").nullable(),
        Column::new("low", Type::Double, "The lower end of its 95 % interval, if it has one.").nullable(),
        Column::new("high", Type::Double, "The upper end.").nullable(),
        Column::new("rows", Type::BigInt, "How many rows."),
        Column::new("query_sha256", Type::Text, "SHA-256 of the text of the query; NULL for a training.").nullable(),
        Column::new("query", Type::Text, "The query; NULL for a training.").nullable(),
        Column::new("created_at", Type::Timestamp, "When the training ended, or the query was evaluated.").nullable(),
    ],
    values,
};

/// A row.
struct Row<'a> {
    model: &'a str,
    version: Option<u32>,
    run: Option<u64>,
    split: &'a str,
    metric: &'a str,
    value: [Option<f64>; 3],
    rows: u64,
    query: Option<(&'a str, &'a str)>,
    at: Option<&'a str>,
}

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let (runs, evaluations) = (models.registry().runs().list()?, models.registry().evaluations().list()?);
    let trained = runs.iter().flat_map(|run| {
        run.evaluations.iter().map(move |evaluation| Row {
            model: run.info.model.as_str(),
            version: run.version,
            run: Some(run.id),
            split: &evaluation.split,
            metric: &evaluation.metric,
            value: [evaluation.value, None, None],
            rows: evaluation.rows,
            query: None,
            at: run.ended_at.as_deref(),
        })
    });
    let measured = evaluations.iter().flat_map(|measured| {
        let measurement = &measured.measurement;
        measurement.figures.iter().map(move |figure| Row {
            model: measurement.model.as_str(),
            version: Some(measurement.version),
            run: None,
            split: "query",
            metric: &figure.metric,
            value: [figure.value, figure.low, figure.high],
            rows: measurement.rows,
            query: Some((&measured.query_sha256, &measurement.query)),
            at: Some(&measured.at),
        })
    });
    let rows: Vec<Row<'_>> = trained.chain(measured).collect();
    Ok(vec![
        texts(rows.iter().map(|row| Some(row.model))),
        integers(rows.iter().map(|row| row.version)),
        bigints(rows.iter().map(|row| row.run)),
        texts(rows.iter().map(|row| Some(row.split))),
        texts(rows.iter().map(|row| Some(row.metric))),
        doubles(rows.iter().map(|row| row.value[0])),
        doubles(rows.iter().map(|row| row.value[1])),
        doubles(rows.iter().map(|row| row.value[2])),
        bigints(rows.iter().map(|row| Some(row.rows))),
        texts(rows.iter().map(|row| row.query.map(|(sha256, _)| sha256))),
        texts(rows.iter().map(|row| row.query.map(|(_, query)| query))),
        times(rows.iter().map(|row| row.at)),
    ])
}
