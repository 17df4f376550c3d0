//! `ml.evaluate(model, query [, label, group_col, treatment])`: what a model is worth on the rows of a query, recorded in `ml.evaluations`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::functions_aggregate::expr_fn::{avg, count, sum};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ScalarUDF, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::registry::{Figure, Measurement};
use stratagem_models::uplift::{Output, Uplift};

use crate::declaration::{self, Column, Failure, Function, Kind, Parameter, Presence, Returns, Type};
use crate::error::Error;
use crate::gather::{GatherExec, Gathering, Kernel};
use crate::models::{Held, Models, Pinned};
use crate::named;
use crate::predict::score;
use crate::relation::Constants;

/// The declaration of `ml.evaluate`.
pub static DECLARATION: Function = Function {
    name: "ml.evaluate",
    kind: Kind::Table,
    parameters: &[
        Parameter::model("model", "The model: `'ctr'` (its default version), `'ctr@3'` (a version) or `'ctr@champion'` (an alias)."),
        Parameter::query("query", "The rows to judge it on; it should not have been trained on them."),
        Parameter::value("label", Type::Text, "The column with the outcome. NULL: the label that the model was trained on.").or("NULL"),
        Parameter::value("group_col", Type::Text, "A column, such as the user, within whose groups rows are ranked; adds `gauc`.")
            .or("NULL"),
        Parameter::value(
            "treatment",
            Type::Text,
            "The column that says who was treated, for an uplift model. NULL: the one that it was trained with.",
        )
        .or("NULL"),
    ],
    returns: Returns::Rows(&[
        Column::new("metric", Type::Text, "What was measured: a count of rows, or the aggregate of that name."),
        Column::new("value", Type::Double, "The value; NULL where there is none, as for the AUC of rows that are all negative.").nullable(),
        Column::new("low", Type::Double, "The lower end of its 95 % interval; NULL for a metric without one.").nullable(),
        Column::new("high", Type::Double, "The upper end.").nullable(),
    ]),
    summary: "What a model is worth on the rows of a query, recorded in `ml.evaluations`",
    docs: "Scores the rows and measures: `rows` and `positives` that counted, `auc`, `pr_auc`, `logloss` and `brier` with \
           their intervals, `ece`, `copc` and `ks`, and with `group_col` also `gauc`. What each means is in its own entry. Rows with a NULL label are skipped.\n\n\
           Of an uplift model, on rows of an experiment: `rows` and `treated` that counted, `qini`, `auuc` and `ate` with their intervals, \
           `uplift_at_k` of the best 30 % and `predicted_uplift`, the mean of what it predicts. Areas are `'normalized'` where the outcome of its \
           training was 0 or 1, and `'per_head'` where it was an amount.\n\n\
           The figures, with the version and the hash of the query, are kept in `ml.evaluations`, so that a later version can be held against \
           them. Because it writes it has to run to its end: `LIMIT` directly on it is refused.",
    example: "SELECT * FROM ml.evaluate('ctr', query => $$SELECT * FROM impressions WHERE id > 3000$$)",
    errors: &[
        Failure { sqlstate: "42704", when: "the model, the version or the alias does not exist" },
        Failure { sqlstate: "42703", when: "the query has no column for the label, the groups, or a feature of the model" },
        Failure {
            sqlstate: "42804",
            when: "a column has a type that the model was not trained on, or the label is not boolean or numeric",
        },
        Failure {
            sqlstate: "22023",
            when: "a label or a treatment is not 0 or 1, no row counts, the model was imported and `label` is not given, or an argument is \
                   not for this kind of model",
        },
        Failure { sqlstate: "0A000", when: "an argument is a parameter such as `$1`, or a LIMIT would end it before the result is saved" },
        Failure { sqlstate: "53200", when: "the scores do not fit into the memory of the server" },
    ],
};

/// The metrics and the aggregates that compute them, in the order of the result.
const METRICS: &[(&str, &str)] = &[
    ("auc", "auc_ci"),
    ("pr_auc", "pr_auc_ci"),
    ("logloss", "logloss_ci"),
    ("brier", "brier_ci"),
    ("ece", "ece"),
    ("copc", "copc"),
    ("ks", "ks"),
];

static GROUPED: (&str, &str) = ("gauc", "gauc_ci");

/// Those of an uplift model.
const UPLIFT: &[(&str, &str)] = &[("qini", "qini_ci"), ("auuc", "auuc_ci"), ("ate", "ate_ci"), ("uplift_at_k", "uplift_at_k")];

/// Plans calls of `ml.evaluate` as an aggregation by the engine.
#[derive(Debug)]
pub(crate) struct Evaluate {
    pub(crate) models: Arc<Models>,
    pub(crate) predict_ctr: Arc<ScalarUDF>,
    pub(crate) predict_uplift: Arc<ScalarUDF>,
    pub(crate) aggregates: Vec<Arc<AggregateUDF>>,
}

/// The label column: the given one, or the first that the model was trained on.
pub(crate) fn label(function: &Function, models: &Models, model: &Pinned, arguments: &Constants) -> Result<String, Error> {
    if let Some(label) = arguments.optional_text("label") {
        return Ok(label.to_owned());
    }
    let manifest = models.registry().manifest(&model.name, model.version)?;
    match manifest.source.label.split(", ").next().filter(|label| !label.is_empty()) {
        Some(label) => Ok(label.to_owned()),
        None => Err(Error::InvalidValue {
            object: format!("argument label of {}", function.name),
            reason: format!("is needed, because model \"{model}\" was not trained here"),
            hint: Some("name the column with the outcome: label => ...".to_owned()),
        }),
    }
}

impl Evaluate {
    /// The call of an aggregate over the scored rows. The options of each are its defaults, but for a definition that is given.
    fn metric(&self, (metric, function): (&str, &str), definition: &str) -> Result<Expr> {
        let aggregate = self.aggregates.iter().find(|aggregate| aggregate.name() == function);
        let Some((aggregate, declaration)) = aggregate.zip(declaration::function(function)) else {
            return internal_err!("{} has no aggregate {function}", DECLARATION.name);
        };
        let arguments = declaration.parameters.iter().take_while(|parameter| parameter.presence != Presence::Optional);
        let argument = |parameter: &Parameter| match (parameter.presence, parameter.name) {
            (_, "definition") => lit(definition),
            (Presence::Default(_), _) => Expr::Literal(ScalarValue::Null, None),
            (_, "label" | "outcome") => col("label"),
            (_, "treated") => col("treated"),
            (_, name) if name.starts_with("group") => col("group_col"),
            _ => col("score"),
        };
        Ok(aggregate.call(arguments.map(argument).collect()).alias(metric))
    }

    /// The label and the score of each row, with its group where that is asked for, and the figures of a model that gives probabilities.
    fn of_probabilities(&self, arguments: &Constants, model: &str, schema: &DFSchema) -> Result<(Vec<Expr>, Vec<Expr>)> {
        if arguments.optional_text("treatment").is_some() {
            return Err(misplaced("treatment", "is for uplift models, which this model is not").into());
        }
        let mut columns = vec![score(&self.predict_ctr, model, schema).alias("score")];
        let group = arguments.optional_text("group_col");
        if let Some(group) = group {
            columns.push(named::column(&DECLARATION, "group_col", group, schema)?.0.alias("group_col"));
        }
        let mut figures = vec![sum(col("label")).filter(col("score").is_not_null()).build()?.alias("positives")];
        for metric in METRICS.iter().chain(group.map(|_| &GROUPED)) {
            figures.push(self.metric(*metric, "")?);
        }
        Ok((columns, figures))
    }

    /// The same of an uplift model.
    fn of_uplift(&self, arguments: &Constants, model: &str, uplift: &Uplift, schema: &DFSchema) -> Result<(Vec<Expr>, Vec<Expr>)> {
        if arguments.optional_text("group_col").is_some() {
            return Err(misplaced("group_col", "is for models of a probability, which this model is not").into());
        }
        let treatment = arguments.optional_text("treatment").unwrap_or(&uplift.treatment);
        let columns = vec![
            named::number(&DECLARATION, "treatment", treatment, Type::Label, schema)?.alias("treated"),
            score(&self.predict_uplift, model, schema).alias("score"),
        ];
        let counts = || col("treated").is_not_null().and(col("label").is_not_null());
        let definition = match uplift.outcome {
            Output::Probability => "normalized",
            Output::Number => "per_head",
        };
        let mut figures = vec![sum(col("treated")).filter(col("label").is_not_null()).build()?.alias("treated")];
        for metric in UPLIFT {
            figures.push(self.metric(*metric, definition)?);
        }
        figures.push(avg(col("score")).filter(counts()).build()?.alias("predicted_uplift"));
        Ok((columns, figures))
    }
}

/// The error for an argument that is about another kind of model.
fn misplaced(argument: &str, reason: &str) -> Error {
    Error::InvalidValue {
        object: format!("argument {argument} of {}", DECLARATION.name),
        reason: reason.to_owned(),
        hint: Some("leave it out".to_owned()),
    }
}

impl Gathering for Evaluate {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn reads_only(&self) -> bool {
        false
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        let held = Held::new(&self.models, arguments.text("model")?).map_err(Error::from)?;
        let model = held.pinned().to_string();
        let label = label(&DECLARATION, &self.models, held.pinned(), arguments)?;
        let schema = query.schema();
        let manifest = self.models.registry().manifest(&held.pinned().name, held.pinned().version).map_err(Error::from)?;
        let (outcome, (scored, measured), counts) = match manifest.uplift() {
            Some(uplift) => (Type::Outcome, self.of_uplift(arguments, &model, uplift, schema)?, col("treated").is_not_null()),
            None => (Type::Label, self.of_probabilities(arguments, &model, schema)?, col("score").is_not_null()),
        };
        let mut columns = vec![named::number(&DECLARATION, "label", &label, outcome, schema)?];
        columns.extend(scored);
        // The first column is named after the version, which the record needs.
        let mut figures = vec![count(col("label")).filter(counts).build()?.alias(&model)];
        figures.extend(measured);
        LogicalPlanBuilder::from(query).project(columns)?.aggregate(Vec::<Expr>::new(), figures)?.build()
    }

    fn plan(&self, _: &Constants, query: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let model = self.models.resolve(input.schema().field(0).name()).map_err(Error::from)?;
        let (models, query) = (Arc::clone(&self.models), query.to_owned());
        let start = move || Figures { models: Arc::clone(&models), model: model.clone(), query: query.clone(), figures: vec![] };
        Ok(GatherExec::plan(&DECLARATION, input, start))
    }
}

/// The figures of the aggregation.
struct Figures {
    models: Arc<Models>,
    model: Pinned,
    query: String,
    figures: Vec<Figure>,
}

impl Kernel for Figures {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        for (position, (field, column)) in batch.schema().fields().iter().zip(batch.columns()).enumerate() {
            // A metric with an interval is a row of the value and its ends.
            let part = |name: &str| column.as_struct_opt().and_then(|row| row.column_by_name(name)).map(first).transpose();
            let value = column.as_struct_opt().map_or(column, |row| row.column(0));
            self.figures.push(Figure {
                metric: if position == 0 { "rows" } else { field.name() }.to_owned(),
                value: first(value)?,
                low: part("low")?.flatten(),
                high: part("high")?.flatten(),
            });
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.figures.extend(other.figures);
    }

    fn bytes(&self) -> usize {
        0
    }

    fn answer(self) -> Result<RecordBatch> {
        let rows = self.figures.first().and_then(|rows| rows.value).unwrap_or_default();
        if rows == 0.0 {
            return Err(Error::value(format!("the query of {}", DECLARATION.name), "gives no row with a label and a score").into());
        }
        let Pinned { name: model, version } = self.model;
        let measurement = Measurement { model, version, query: self.query, rows: rows as u64, figures: self.figures };
        let result = table(&measurement.figures)?;
        self.models.registry().evaluations().add(measurement).map_err(Error::from)?;
        Ok(result)
    }
}

/// The number in the only row of a column.
fn first(column: &ArrayRef) -> Result<Option<f64>> {
    let column = cast(column, &DataType::Float64)?;
    let numbers = column.as_primitive::<Float64Type>();
    Ok(numbers.is_valid(0).then(|| numbers.value(0)).filter(|number| number.is_finite()))
}

fn table(figures: &[Figure]) -> Result<RecordBatch> {
    let numbers = |of: fn(&Figure) -> Option<f64>| -> ArrayRef { Arc::new(figures.iter().map(of).collect::<Float64Array>()) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(figures.iter().map(|figure| Some(figure.metric.as_str())).collect::<StringArray>()),
        numbers(|figure| figure.value),
        numbers(|figure| figure.low),
        numbers(|figure| figure.high),
    ];
    Ok(RecordBatch::try_new(DECLARATION.schema(), columns)?)
}
