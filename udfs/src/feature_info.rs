//! `ml.feature_info(model)`: what a trained model makes of its columns.

use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::{DFSchema, Result};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::features::{Bins, Feature, Kind as FeatureKind, Number, Values, Vocabulary};
use stratagem_models::foreign::Input;
use stratagem_models::registry::Kind as ModelKind;

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::models::Models;
use crate::relation::{Constants, Relation};

/// The declaration of `ml.feature_info`.
pub static DECLARATION: Function = Function {
    name: "ml.feature_info",
    kind: Kind::Table,
    parameters: &[Parameter::model(
        "model",
        "The model: `'ctr'` (its default version), `'ctr@3'` (a version) or `'ctr@champion'` (an alias).",
    )],
    returns: Returns::Rows(&[
        Column::new("position", Type::Integer, "The place of the feature in the model, from 1."),
        Column::new("feature", Type::Text, "The feature."),
        Column::new("source", Type::Text, "The column of the training query that it is made from."),
        Column::new("sql_type", Type::Text, "The type of that column."),
        Column::new(
            "encoding",
            Type::Text,
            "`category`, `hashed`, `number`, `items`, `vector`, `words`, `history`, `unused`, or `plain` for a column that an imported graph takes as it is.",
        ),
        Column::new("parameters", Type::Text, "What was learned from the training rows for the encoding; for `unused` the reason.")
            .nullable(),
        Column::new("missing", Type::Double, "Share of the training rows without a value; NULL for `plain`.").nullable(),
        Column::new(
            "distinct_values",
            Type::BigInt,
            "Distinct values in the training rows, as far as they were counted; NULL for `plain`.",
        )
        .nullable(),
    ]),
    summary: "What a trained model makes of its columns",
    docs: "One row per feature, in the order of the training query: the column it is made from, the type that column has to have, and how its \
           values enter the net. A column can give several features: an integer is a category and a number, a timestamp gives `hour`, \
           `weekday` and `age`. Features that tell nothing are `unused`, with the reason; they need not be there to score a row.",
    example: "SELECT feature, source, sql_type, encoding FROM ml.feature_info('ctr') ORDER BY position",
    errors: &[
        Failure { sqlstate: "42704", when: "the model, the version or the alias does not exist" },
        Failure { sqlstate: "XX001", when: "the manifest of the model is damaged" },
    ],
};

/// Plans calls of `ml.feature_info`.
#[derive(Debug)]
pub(crate) struct FeatureInfo(pub(crate) Arc<Models>);

impl Relation for FeatureInfo {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn reads_only(&self) -> bool {
        true
    }

    fn check(&self, arguments: &Constants, _: &DFSchema) -> Result<(), Error> {
        self.0.resolve(arguments.text("model")?)?;
        Ok(())
    }

    fn plan(&self, arguments: &Constants, _: &str, _: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let pinned = self.0.resolve(arguments.text("model")?).map_err(Error::from)?;
        let manifest = self.0.registry().manifest(&pinned.name, pinned.version).map_err(Error::from)?;
        let described: Vec<Description> = match &manifest.kind {
            ModelKind::Click | ModelKind::Uplift(_) | ModelKind::Language(_) => manifest.inputs().iter().map(describe).collect(),
            // The numbers of a vector are described once.
            ModelKind::Text(_) => manifest.inputs().iter().take(1).map(describe).collect(),
            ModelKind::Onnx(outline) => outline.inputs.iter().flat_map(describe_input).collect(),
        };
        let text = |value: fn(&Description) -> &str| Arc::new(described.iter().map(|d| Some(value(d))).collect::<StringArray>());
        let columns: Vec<datafusion::arrow::array::ArrayRef> = vec![
            Arc::new((1..).take(described.len()).map(Some).collect::<Int32Array>()),
            text(|description| &description.feature),
            text(|description| &description.source),
            text(|description| &description.sql_type),
            text(|description| description.encoding),
            text(|description| &description.parameters),
            Arc::new(described.iter().map(|description| description.missing).collect::<Float64Array>()),
            Arc::new(described.iter().map(|description| description.distinct).collect::<Int64Array>()),
        ];
        let schema = DECLARATION.schema();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None)?)
    }
}

/// A feature in a user's words.
struct Description {
    feature: String,
    source: String,
    sql_type: String,
    encoding: &'static str,
    parameters: String,
    missing: Option<f64>,
    distinct: Option<i64>,
}

/// The columns of an input of a graph that was made elsewhere.
fn describe_input(input: &Input) -> impl Iterator<Item = Description> {
    input.columns.iter().map(|column| Description {
        feature: column.clone(),
        source: column.clone(),
        sql_type: input.element.sql_type().to_owned(),
        encoding: "plain",
        parameters: format!("input {}", input.name),
        missing: None,
        distinct: None,
    })
}

fn describe(feature: &Feature) -> Description {
    let values = |vocabulary: &Vocabulary| match vocabulary.hashed {
        true => format!("{} buckets, one row for NULL", vocabulary.size),
        false => format!("{} known values, one row for rare and unseen ones, one for NULL", vocabulary.size),
    };
    let (encoding, parameters) = match &feature.kind {
        FeatureKind::Category(vocabulary) if vocabulary.hashed => ("hashed", values(vocabulary)),
        FeatureKind::Category(vocabulary) => ("category", values(vocabulary)),
        FeatureKind::Bag(vocabulary) if feature.values == Values::Tokens => ("words", values(vocabulary)),
        FeatureKind::Bag(vocabulary) => ("items", values(vocabulary)),
        FeatureKind::Vector { vocabulary, scale } => ("vector", format!("{} positions, scale {scale}", vocabulary.size)),
        FeatureKind::History { .. } => ("history", "attended to".to_owned()),
        FeatureKind::Number(number) => ("number", describe_number(number)),
        FeatureKind::Unused(reason) => ("unused", reason.clone()),
    };
    Description {
        feature: feature.name(),
        source: feature.column.clone(),
        sql_type: feature.sql_type.clone(),
        encoding,
        parameters,
        missing: Some(feature.missing),
        distinct: Some(feature.distinct.cast_signed()),
    }
}

fn describe_number(number: &Number) -> String {
    let log = if number.log { "logarithm, " } else { "" };
    let (mean, std) = (number.mean, number.std);
    let bins = match (number.bins, number.edges.as_slice()) {
        (Bins::None, _) => String::new(),
        (Bins::Piecewise(_), edges) => format!(", {} bins", edges.len().saturating_sub(1)),
        (Bins::Quantile(_), edges) => format!(", {} buckets", edges.len() + 1),
    };
    let flagged = if number.nullable { ", NULL is flagged" } else { "" };
    format!("{log}mean {mean}, standard deviation {std}{bins}{flagged}")
}
