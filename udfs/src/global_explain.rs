//! `ml.global_explain(model, query [, label, sample, repeats, seed])`: which columns a model lives on.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::{filter_record_batch, is_not_null, take};
use datafusion::arrow::datatypes::{FieldRef, Float64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::metrics::importance::{Quality, mean, order};
use stratagem_models::metrics::statistic::Invalid;

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::evaluate::label;
use crate::gather::{GatherExec, Gathering, Kernel};
use crate::models::{Held, Models};
use crate::named;
use crate::relation::Constants;

mod sample;

use sample::Sample;

const MOST_ROWS: usize = 100_000;
const MOST_REPEATS: usize = 100;

/// The declaration of `ml.global_explain`.
pub static DECLARATION: Function = Function {
    name: "ml.global_explain",
    kind: Kind::Table,
    parameters: &[
        Parameter::model("model", "The model: `'ctr'` (its default version), `'ctr@3'` (a version) or `'ctr@champion'` (an alias)."),
        Parameter::query("query", "The rows to explain it on."),
        Parameter::value("label", Type::Text, "The column with the outcome. NULL: the label that the model was trained on.").or("NULL"),
        Parameter::value("sample", Type::Integer, "The rows to look at, chosen at random; at most 100000.").or("10000"),
        Parameter::value("repeats", Type::Integer, "How often each column is shuffled.").or("5"),
        Parameter::value("seed", Type::BigInt, "Seed of the choice and of the shuffling.").or("0"),
    ],
    returns: Returns::Rows(&[
        Column::new("feature", Type::Text, "A column that the model reads."),
        Column::new(
            "importance",
            Type::Double,
            "By how much the area under the ROC curve falls when its values are shuffled, in the mean.",
        ),
        Column::new("error", Type::Double, "The standard error of that mean; NULL with one repeat.").nullable(),
        Column::new("logloss", Type::Double, "By how much the log loss rises."),
    ]),
    summary: "Which columns a model lives on: how much worse it gets when one of them is shuffled",
    docs: "Permutation importance (Breiman 2001), the most important column first. Each column in turn is shuffled over the rows of a sample, so \
           that it says nothing while its values stay the same, and the rows are scored again. About 0 means that the model does without the \
           column, or has another one that says the same: two columns that do are both underrated.\n\n\
           The same rows and seed give the same result, in whatever order the rows arrive. The sample is taken by hash from the distinct rows, \
           which then count as often as they occur. Take rows that the model was not trained on; rows with a NULL label are skipped.",
    example: "SELECT feature, importance, bar(importance, 0, 0.5, 20) FROM ml.global_explain('ctr', query => $$SELECT * FROM impressions$$, repeats => 2)",
    errors: &[
        Failure { sqlstate: "42704", when: "the model, the version or the alias does not exist" },
        Failure { sqlstate: "42809", when: "the model is an uplift model, which gives no probability" },
        Failure { sqlstate: "42703", when: "the query has no column for the label or for a feature of the model" },
        Failure {
            sqlstate: "42804",
            when: "a column has a type that the model was not trained on, or the label is not boolean or numeric",
        },
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, all labels of the sample are the same, an argument is out of range, or the model was imported and \
                   `label` is not given",
        },
        Failure { sqlstate: "0A000", when: "an argument is a parameter such as `$1`" },
    ],
};

/// Plans calls of `ml.global_explain`.
#[derive(Debug)]
pub(crate) struct GlobalExplain(pub(crate) Arc<Models>);

/// Checked arguments.
#[derive(Debug, Clone, Copy)]
struct Options {
    sample: usize,
    repeats: usize,
    seed: u64,
}

impl Options {
    fn new(arguments: &Constants) -> Result<Self, Error> {
        let needed = |argument: &str| Error::value(format!("argument {argument} of {}", DECLARATION.name), "is NULL");
        let within = |argument: &str, most: usize| match arguments.count::<usize>(argument)? {
            Some(value) => arguments.within(argument, value, 1..=most),
            None => Err(needed(argument)),
        };
        let seed = arguments.whole("seed").ok_or_else(|| needed("seed"))?.cast_unsigned();
        Ok(Self { sample: within("sample", MOST_ROWS)?, repeats: within("repeats", MOST_REPEATS)?, seed })
    }
}

impl Gathering for GlobalExplain {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        Options::new(arguments)?;
        let held = Held::new(&self.0, arguments.text("model")?).map_err(Error::from)?;
        held.intake().check_probability(held.pinned())?;
        let model = held.pinned().to_string();
        let schema = query.schema();
        // Says what is missing or of a wrong type, with the words of the model.
        held.intake().bind(&model, schema.fields())?;
        let label = label(&DECLARATION, &self.0, held.pinned(), arguments)?;
        // The first column is named after the version, which the others are for.
        let mut columns = vec![named::number(&DECLARATION, "label", &label, Type::Label, schema)?.alias(&model)];
        for name in held.intake().columns() {
            columns.push(named::column(&DECLARATION, "query", name, schema)?.0.alias(name));
        }
        LogicalPlanBuilder::from(query).project(columns)?.build()
    }

    fn plan(&self, arguments: &Constants, _: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let options = Options::new(arguments)?;
        let schema = input.schema();
        let held = Arc::new(Held::new(&self.0, schema.field(0).name()).map_err(Error::from)?);
        let fields: Arc<[FieldRef]> = schema.fields().iter().map(Arc::clone).collect();
        let start =
            move || Rows { held: Arc::clone(&held), options, sample: Sample::new(Arc::clone(&fields), options.sample, options.seed) };
        Ok(GatherExec::plan(&DECLARATION, input, start))
    }
}

/// The rows to explain on: the label, then what the model reads.
struct Rows {
    held: Arc<Held>,
    options: Options,
    sample: Sample,
}

/// What shuffling a column did.
struct Explained {
    feature: String,
    importance: f64,
    error: f64,
    logloss: f64,
}

impl Rows {
    fn explain(&self) -> Result<Vec<Explained>> {
        let (columns, weights) = self.sample.rows()?;
        let Some((labels, features)) = columns.split_first() else { return Ok(vec![]) };
        let labels = labels.as_primitive::<Float64Type>().values();
        let (rows, fields) = (weights.len(), &self.sample.fields()[1..]);
        let reader = self.held.intake().bind(&self.held.pinned().to_string(), fields)?;
        let model = self.held.model().map_err(Error::from)?;
        let quality = |columns: &[ArrayRef]| -> Result<Quality> {
            let scores = model.predict(&reader.read(columns, rows)?).map_err(Error::from)?;
            let probabilities: Vec<f64> = scores.task(0).map(f64::from).collect();
            Ok(Quality::of(labels, &probabilities, &weights).map_err(refused)?)
        };
        let whole = quality(features)?;
        let same = || Error::value(format!("the label of {}", DECLARATION.name), "is the same in all rows of the sample");
        let auc = whole.auc.ok_or_else(same)?;
        let mut explained = Vec::with_capacity(fields.len());
        for (position, field) in fields.iter().enumerate() {
            let (mut falls, mut rises) = (vec![], vec![]);
            for repeat in 0..self.options.repeats {
                // Each shuffling has a seed of its own.
                let seed = self.options.seed.wrapping_add((position * MOST_REPEATS + repeat) as u64 + 1);
                let mut columns = features.to_vec();
                columns[position] = take(&features[position], &UInt32Array::from(order(rows, seed)), None)?;
                let shuffled = quality(&columns)?;
                falls.push(auc - shuffled.auc.ok_or_else(same)?);
                rises.push(shuffled.logloss - whole.logloss);
            }
            let (importance, error) = mean(&falls);
            explained.push(Explained { feature: field.name().clone(), importance, error, logloss: mean(&rises).0 });
        }
        explained.sort_by(|a, b| b.importance.total_cmp(&a.importance));
        Ok(explained)
    }
}

fn refused(invalid: Invalid) -> Error {
    Error::value(format!("the label of {}", DECLARATION.name), format!("is {}, but must be {}", invalid.value, invalid.allowed))
}

impl Kernel for Rows {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.sample.push(&filter_record_batch(batch, &is_not_null(batch.column(0))?)?)
    }

    fn merge(&mut self, other: Self) {
        self.sample.merge(other.sample);
    }

    fn bytes(&self) -> usize {
        // The rows are decoded, encoded for the model, and shuffled column by column.
        4 * self.sample.bytes()
    }

    fn answer(self) -> Result<RecordBatch> {
        let explained = self.explain()?;
        let numbers = |of: fn(&Explained) -> f64| -> ArrayRef {
            Arc::new(explained.iter().map(|explained| Some(of(explained)).filter(|number| !number.is_nan())).collect::<Float64Array>())
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(explained.iter().map(|explained| Some(explained.feature.as_str())).collect::<StringArray>()),
            numbers(|explained| explained.importance),
            numbers(|explained| explained.error),
            numbers(|explained| explained.logloss),
        ];
        Ok(RecordBatch::try_new(DECLARATION.schema(), columns)?)
    }
}
