//! `ml.predict(model, query)`: the rows of a query with the predictions of a trained model.

use std::sync::Arc;

use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::core::named_struct;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, lit};
use stratagem_models::text::Task;

use crate::classify;
use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::intake::{self, Intake};
use crate::models::{Held, Models};
use crate::relation::{Constants, Expansion};

const PREDICTED: &str = "predicted";
const PREDICTED_CVR: &str = "predicted_cvr";
const UPLIFT: &str = "uplift";

/// The declaration of `ml.predict`.
pub static DECLARATION: Function = Function {
    name: "ml.predict",
    kind: Kind::Table,
    parameters: &[
        Parameter::model("model", "The model: `'ctr'` (its default version), `'ctr@3'` (a version) or `'ctr@champion'` (an alias)."),
        Parameter::query("query", "The rows to score."),
    ],
    returns: Returns::QueryRows(&[
        Column::new(
            PREDICTED,
            Type::Double,
            "What `predict_ctr` returns for the row; of a text model what `ai.classify`, `ai.estimate`, `ai.entities` or, for lists of words, \
             `ai.tags` returns for its text; not of an uplift model.",
        )
        .nullable(),
        Column::new(
            PREDICTED_CVR,
            Type::Double,
            "What `predict_cvr` returns for the row; only of a model that was trained with conversions.",
        )
        .nullable(),
        Column::new(UPLIFT, Type::Double, "What `predict_uplift` returns for the row; only of an uplift model.").nullable(),
    ]),
    summary: "The rows of a query with the predictions of a trained model",
    docs: "Adds the prediction of a model to every row of a query; the rows come as they are scored. The model finds its features by name among \
           the query's columns, as `predict_ctr` does; a text model finds the column of the texts that it was trained on. Columns that neither the model nor the statement reads are not read from the tables \
           either, and a condition on other columns is checked before a row is scored.",
    example: "SELECT * FROM ml.predict('ctr', query => $$SELECT * FROM impressions$$) ORDER BY predicted DESC LIMIT 20",
    errors: &[
        Failure { sqlstate: "42704", when: "the model, the version or the alias does not exist" },
        Failure { sqlstate: "42703", when: "the query has no column for a feature of the model" },
        Failure { sqlstate: "42804", when: "a column has a type that the model was not trained on" },
        Failure { sqlstate: "22023", when: "the query already has a column of the name of an added one" },
        Failure { sqlstate: "0A000", when: "an argument is a parameter such as `$1`" },
        Failure { sqlstate: "XX001", when: "the files of the model are damaged" },
    ],
};

/// Plans calls of `ml.predict` as a projection with `predict_ctr` and `predict_cvr`, or with `predict_uplift`.
#[derive(Debug)]
pub(crate) struct Predict {
    pub(crate) models: Arc<Models>,
    pub(crate) predict_ctr: Arc<ScalarUDF>,
    pub(crate) predict_cvr: Arc<ScalarUDF>,
    pub(crate) predict_uplift: Arc<ScalarUDF>,
    pub(crate) texts: Texts,
}

/// What is called of a text model, by its task.
#[derive(Debug)]
pub(crate) struct Texts {
    classify: Arc<ScalarUDF>,
    estimate: Arc<ScalarUDF>,
    entities: Arc<ScalarUDF>,
    tags: Arc<ScalarUDF>,
}

impl Texts {
    pub(crate) fn new(classify: &Arc<ScalarUDF>, estimate: &Arc<ScalarUDF>, entities: &Arc<ScalarUDF>, tags: &Arc<ScalarUDF>) -> Self {
        let [classify, estimate, entities, tags] = [classify, estimate, entities, tags].map(Arc::clone);
        Self { classify, estimate, entities, tags }
    }
}

impl Expansion for Predict {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn expand(&self, arguments: &Constants, input: LogicalPlan) -> Result<LogicalPlan> {
        let model = arguments.text("model")?;
        let held = Held::new(&self.models, model).map_err(Error::from)?;
        let schema = input.schema();
        let scored = |(name, function): (&'static str, &Arc<ScalarUDF>)| (name, score(function, model, schema));
        let added = match held.intake() {
            Intake::Text(texts) => vec![(PREDICTED, self.of_text(model, &held, texts, schema)?)],
            intake if intake.is_uplift() => vec![scored((UPLIFT, &self.predict_uplift))],
            intake => {
                let both = [(PREDICTED, &self.predict_ctr), (PREDICTED_CVR, &self.predict_cvr)];
                both.into_iter().take(intake.tasks()).map(scored).collect()
            }
        };
        let mut columns: Vec<Expr> = schema.iter().map(Expr::from).collect();
        let taken = |name: &&str| added.iter().any(|(added, _)| name == added);
        if let Some(name) = schema.fields().iter().map(|field| field.name().as_str()).find(taken) {
            return Err(Error::InvalidValue {
                object: "the query".to_owned(),
                reason: format!("has a column \"{name}\", which {} adds", DECLARATION.name),
                hint: Some(format!("give it another name: {name} AS ...")),
            }
            .into());
        }
        columns.extend(added.into_iter().map(|(name, value)| value.alias(name)));
        LogicalPlanBuilder::from(input).project(columns)?.build()
    }
}

impl Predict {
    /// What a text model gives for the text, or the words, in its column.
    fn of_text(&self, model: &str, held: &Held, intake: &intake::Texts, query: &DFSchema) -> Result<Expr> {
        let column = intake.column.as_str();
        held.intake().check_task(held.pinned(), |task| !task.gives_vectors())?;
        let Some(text) = query.iter().find(|(_, field)| field.name() == column) else {
            let names: Vec<&str> = query.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::NoSuchColumn {
                what: format!("model \"{model}\""),
                column: column.to_owned(),
                detail: format!("the query has: {}", names.join(", ")),
                hint: Some(format!("give the text that name: ... AS {column}")),
            }
            .into());
        };
        let words = Type::Texts.accepts(text.1.data_type());
        let (function, declaration) = match intake.task {
            Task::Number { .. } => (&self.texts.estimate, &classify::estimate::DECLARATION),
            Task::Tags if words => (&self.texts.tags, &classify::tagging::TAGS),
            Task::Tags => (&self.texts.entities, &classify::tagging::ENTITIES),
            _ => (&self.texts.classify, &classify::DECLARATION),
        };
        let given = declaration.parameters.iter().enumerate().map(|(place, parameter)| match parameter.name {
            _ if place == 0 => Expr::from(text),
            "model" => lit(model),
            _ => Expr::Literal(ScalarValue::Null, None),
        });
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), given.collect())))
    }
}

/// The call of `predict_ctr` or `predict_cvr` with a row of all columns there are; those that the model does not read are dropped later.
pub(crate) fn score(function: &Arc<ScalarUDF>, model: &str, query: &DFSchema) -> Expr {
    let fields = query.iter().flat_map(|column| [lit(column.1.name()), Expr::from(column)]).collect();
    let row = Expr::ScalarFunction(ScalarFunction::new_udf(named_struct(), fields));
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), vec![lit(model), row]))
}
