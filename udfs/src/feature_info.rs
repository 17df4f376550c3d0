//! `ml.feature_info(model)`: what a trained model makes of its columns.

use std::sync::Arc;

use datafusion::arrow::array::{Int32Array, RecordBatch, StringArray};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::{DFSchema, Result};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::features::{Feature, Kind as FeatureKind};

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
        Column::new("encoding", Type::Text, "`category`, `number`, `hour` or `weekday`."),
        Column::new("parameters", Type::Text, "What was learned from the training rows for the encoding.").nullable(),
    ]),
    summary: "What a trained model makes of its columns",
    docs: "One row per feature of the model, in the order of the training query: the column it is made from, the type that column has to \
           have, and how its values enter the net. A category is looked up in the model's embedding table, a number is standardised with the mean \
           and standard deviation of the training rows.",
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
        let features = self.0.features(&pinned).map_err(Error::from)?;
        let described: Vec<Description<'_>> = features.iter().map(describe).collect();
        let text = |value: fn(&Description<'_>) -> Option<String>| Arc::new(described.iter().map(value).collect::<StringArray>());
        let columns: Vec<datafusion::arrow::array::ArrayRef> = vec![
            Arc::new((1..).take(features.len()).map(Some).collect::<Int32Array>()),
            Arc::new(features.iter().map(|feature| Some(feature.name.as_str())).collect::<StringArray>()),
            text(|description| Some(description.source.to_owned())),
            Arc::new(features.iter().map(|feature| Some(feature.sql_type.as_str())).collect::<StringArray>()),
            text(|description| Some(description.encoding.to_owned())),
            text(|description| description.parameters.clone()),
        ];
        let schema = DECLARATION.schema();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None)?)
    }
}

/// A feature in a user's words.
struct Description<'a> {
    source: &'a str,
    encoding: &'static str,
    parameters: Option<String>,
}

fn describe(feature: &Feature) -> Description<'_> {
    let part = |suffix: &str| feature.name.strip_suffix(suffix).filter(|_| feature.sql_type.starts_with("timestamp"));
    match &feature.kind {
        FeatureKind::Numeric { mean, std, nullable } => {
            let flagged = if *nullable { ", NULL is flagged" } else { "" };
            let parameters = Some(format!("mean {mean}, standard deviation {std}{flagged}"));
            Description { source: &feature.name, encoding: "number", parameters }
        }
        FeatureKind::Hashed => {
            let (source, encoding) = match (part(".hour"), part(".weekday")) {
                (Some(source), _) => (source, "hour"),
                (None, Some(source)) => (source, "weekday"),
                (None, None) => (feature.name.as_str(), "category"),
            };
            Description { source, encoding, parameters: None }
        }
    }
}
