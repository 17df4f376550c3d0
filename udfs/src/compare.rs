//! `ml.compare(a, b, query [, label])`: two models on the same rows, and whether their difference is more than chance.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::common::Result;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, ScalarUDF};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::metrics::paired::{Difference, Pairs};

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::evaluate::label;
use crate::gather::{GatherExec, Gathering, Kernel, numbers, without_nulls};
use crate::models::{Held, Models};
use crate::named;
use crate::predict::score;
use crate::relation::Constants;

/// Below this probability a difference counts as more than chance.
const LEVEL: f64 = 0.05;

/// The declaration of `ml.compare`.
pub static DECLARATION: Function = Function {
    name: "ml.compare",
    kind: Kind::Table,
    parameters: &[
        Parameter::model("a", "The one model: `'ctr'` (its default version), `'ctr@3'` (a version) or `'ctr@champion'` (an alias)."),
        Parameter::model("b", "The other model, or another version of the same."),
        Parameter::query("query", "The rows that both are to be judged on; neither should have been trained on them."),
        Parameter::value("label", Type::Text, "The column with the outcome. NULL: the label that `a` was trained on.").or("NULL"),
    ],
    returns: Returns::Rows(&[
        Column::new("metric", Type::Text, "`auc` (higher is better), `logloss` and `brier` (lower is better)."),
        Column::new("a", Type::Double, "The metric of the one model; NULL where the rows do not have both labels.").nullable(),
        Column::new("b", Type::Double, "The metric of the other.").nullable(),
        Column::new("difference", Type::Double, "`a` minus `b`.").nullable(),
        Column::new("low", Type::Double, "The lower end of the 95 % interval of the difference.").nullable(),
        Column::new("high", Type::Double, "The upper end.").nullable(),
        Column::new("p_value", Type::Double, "How probable a difference of this size or more is between models that are equally good.")
            .nullable(),
        Column::new("winner", Type::Text, "The better model; NULL where `p_value` is not below 0.05.").nullable(),
        Column::new("rows", Type::BigInt, "The rows that counted."),
    ]),
    summary: "Two models on the same rows: their difference, and whether it is more than chance",
    docs: "Both models score every row, and the test is paired: what makes a row hard makes it hard for both, so that much smaller differences \
           are found than by comparing two intervals. Areas under ROC curves are compared with the covariance of the two (DeLong, DeLong and \
           Clarke-Pearson 1988), losses by the mean of their differences. Three metrics are three tests: decide by one of them. Rows with a \
           NULL label are skipped.",
    example: "SELECT metric, a, b, difference, p_value, winner FROM ml.compare('ctr@1', 'ctr', query => $$SELECT * FROM impressions$$)",
    errors: &[
        Failure { sqlstate: "42704", when: "a model, a version or an alias does not exist" },
        Failure { sqlstate: "42809", when: "a model is an uplift model, which gives no probability" },
        Failure { sqlstate: "42703", when: "the query has no column for the label or for a feature of a model" },
        Failure { sqlstate: "42804", when: "a column has a type that a model was not trained on, or the label is not boolean or numeric" },
        Failure { sqlstate: "22023", when: "a label is not 0 or 1, or `a` was imported and `label` is not given" },
        Failure { sqlstate: "0A000", when: "an argument is a parameter such as `$1`" },
        Failure { sqlstate: "53200", when: "the rows do not fit into the memory of the server: 16 bytes each, three times" },
    ],
};

/// Plans calls of `ml.compare`.
#[derive(Debug)]
pub(crate) struct Compare {
    pub(crate) models: Arc<Models>,
    pub(crate) predict_ctr: Arc<ScalarUDF>,
}

impl Gathering for Compare {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        let (a, b) = (arguments.text("a")?, arguments.text("b")?);
        let of_a = Held::new(&self.models, a).map_err(Error::from)?;
        let label = label(&DECLARATION, &self.models, of_a.pinned(), arguments)?;
        let schema = query.schema();
        let columns = [
            named::number(&DECLARATION, "label", &label, Type::Label, schema)?,
            score(&self.predict_ctr, a, schema).alias("a"),
            score(&self.predict_ctr, b, schema).alias("b"),
        ];
        LogicalPlanBuilder::from(query).project(columns)?.build()
    }

    fn plan(&self, arguments: &Constants, _: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let models: [Arc<str>; 2] = [arguments.text("a")?.into(), arguments.text("b")?.into()];
        Ok(GatherExec::plan(&DECLARATION, input, move || Rows { models: models.clone(), pairs: Pairs::default() }))
    }
}

/// The rows with the scores of both.
struct Rows {
    models: [Arc<str>; 2],
    pairs: Pairs,
}

impl Rows {
    fn winner(&self, difference: &Difference, higher: bool) -> Option<&str> {
        let proven = difference.p_value().is_some_and(|p| p < LEVEL);
        let first = (difference.difference() > 0.0) == higher;
        proven.then(|| &*self.models[usize::from(!first)])
    }
}

impl Kernel for Rows {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = without_nulls(batch)?;
        let added = self.pairs.add(numbers(&batch, 0), numbers(&batch, 1), numbers(&batch, 2));
        added.map_err(|wrong| {
            let object = format!("argument {} of {}", wrong.argument, DECLARATION.name);
            Error::value(object, format!("is {}, but must be {}", wrong.value, wrong.allowed)).into()
        })
    }

    fn merge(&mut self, other: Self) {
        self.pairs.merge(other.pairs);
    }

    fn bytes(&self) -> usize {
        3 * self.pairs.heap()
    }

    fn answer(mut self) -> Result<RecordBatch> {
        self.pairs.sort();
        let found = [("auc", self.pairs.auc(), true), ("logloss", self.pairs.logloss(), false), ("brier", self.pairs.brier(), false)];
        let column = |of: fn(&Difference) -> Option<f64>| -> ArrayRef {
            Arc::new(found.iter().map(|(_, difference, _)| difference.as_ref().and_then(of)).collect::<Float64Array>())
        };
        let winners = found.iter().map(|(_, difference, higher)| self.winner(difference.as_ref()?, *higher));
        let rows = i64::try_from(self.pairs.rows()).unwrap_or(i64::MAX);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(found.iter().map(|(metric, ..)| Some(*metric)).collect::<StringArray>()),
            column(|difference| Some(difference.a)),
            column(|difference| Some(difference.b)),
            column(|difference| Some(difference.difference())),
            column(|difference| difference.interval().map(|interval| interval.low)),
            column(|difference| difference.interval().map(|interval| interval.high)),
            column(Difference::p_value),
            Arc::new(winners.collect::<StringArray>()),
            Arc::new(Int64Array::from(vec![rows; found.len()])),
        ];
        Ok(RecordBatch::try_new(DECLARATION.schema(), columns)?)
    }
}
