//! Curves over thresholds as table functions: the label and score columns of a query are ranked once, and a curve is read off.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch};
use datafusion::common::Result;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::metrics::curves::{Ranked, Ranking};

use crate::declaration::{Failure, Function, Parameter, Type};
use crate::error::Error;
use crate::gather::{GatherExec, Gathering, Kernel, numbers, without_nulls};
use crate::named;
use crate::relation::{Constants, Relation};

pub mod calibration_curve;
pub mod lift_curve;
pub mod pr_curve;
pub mod roc_curve;

const QUERY: Parameter = Parameter::query("query", "The scored rows.");
const LABEL: Parameter = Parameter::value("label", Type::Text, "The column with the outcome: boolean, or 0 and 1.");
const SCORE: Parameter = Parameter::value("score", Type::Text, "The column with the score. Only its order matters.");
const WEIGHT: Parameter =
    Parameter::value("weight", Type::Text, "The column that says how much a row counts, from 0. NULL: every row counts once.").or("NULL");

const ERRORS: &[Failure] = &[
    Failure { sqlstate: "42703", when: "the query has no column of a name that is given" },
    Failure { sqlstate: "42804", when: "a column has a type that is not a number (or boolean, for the label)" },
    Failure {
        sqlstate: "22023",
        when: "a label is not 0 or 1, a score is NaN (or no probability, where one is needed), a weight is negative or not finite, or an \
               argument is out of range",
    },
    Failure { sqlstate: "0A000", when: "an argument is a parameter such as `$1`" },
    Failure { sqlstate: "53200", when: "the rows do not fit into the memory of the server: about 100 bytes each" },
];

/// The most points that may be asked for.
const MOST_POINTS: usize = 1_000_000;

/// A curve.
pub(crate) trait Curve: Debug + Send + Sync + 'static {
    /// Its declaration.
    const DECLARATION: &'static Function;
    /// Whether scores must be probabilities.
    const PROBABILITIES: bool = false;
    /// Its arguments besides the columns.
    type Options: Copy + Send + Sync;

    /// Checks its arguments.
    fn options(arguments: &Constants) -> Result<Self::Options, Error>;
    /// The columns of the result.
    fn points(ranked: &Ranked, options: Self::Options) -> Vec<ArrayRef>;
}

/// The table function of a curve.
pub(crate) struct CurveFunction<C>(PhantomData<fn() -> C>);

impl<C: Curve> CurveFunction<C> {
    pub(crate) fn relation() -> Arc<dyn Relation> {
        Arc::new(Self(PhantomData))
    }
}

impl<C: Curve> Debug for CurveFunction<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CurveFunction").field(&C::DECLARATION.name).finish()
    }
}

/// The columns of the query that a curve reads: label, score and weight, if there is one.
fn names<C: Curve>(arguments: &Constants) -> Result<Vec<&str>, Error> {
    let weight = C::DECLARATION.position("weight").and_then(|_| arguments.optional_text("weight"));
    Ok([arguments.text("label")?, arguments.text("score")?].into_iter().chain(weight).collect())
}

impl<C: Curve> Gathering for CurveFunction<C> {
    fn declaration(&self) -> &'static Function {
        C::DECLARATION
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        C::options(arguments)?;
        let roles = [("label", Type::Label), ("score", Type::Number), ("weight", Type::Number)];
        let names = names::<C>(arguments)?;
        let column = |((role, accepted), name): ((&str, Type), &&str)| named::number(C::DECLARATION, role, name, accepted, query.schema());
        let columns = roles.into_iter().zip(&names).map(column).collect::<Result<Vec<_>, Error>>()?;
        LogicalPlanBuilder::from(query).project(columns)?.build()
    }

    fn plan(&self, arguments: &Constants, _: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let options = C::options(arguments)?;
        let names: Arc<[String]> = names::<C>(arguments)?.into_iter().map(str::to_owned).collect();
        let start = move || Rows::<C> { names: Arc::clone(&names), ranking: Ranking::default(), options };
        Ok(GatherExec::plan(C::DECLARATION, input, start))
    }
}

/// The rows of a curve.
struct Rows<C: Curve> {
    names: Arc<[String]>,
    ranking: Ranking,
    options: C::Options,
}

impl<C: Curve> Kernel for Rows<C> {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = without_nulls(batch)?;
        let (labels, scores, weights) = (numbers(&batch, 0), numbers(&batch, 1), numbers(&batch, 2));
        let invalid = |argument: &str, value: &dyn std::fmt::Display, allowed: &str| {
            let role = ["label", "score", "weight"].iter().position(|role| *role == argument);
            let name = role.and_then(|role| self.names.get(role)).map_or(argument, String::as_str);
            let object = format!("column \"{name}\", the {argument} of {},", C::DECLARATION.name);
            Error::value(object, format!("is {value}, but must be {allowed}"))
        };
        if C::PROBABILITIES
            && let Some(score) = scores.iter().find(|score| !(0.0..=1.0).contains(*score))
        {
            return Err(invalid("score", score, "from 0 to 1").into());
        }
        let added = self.ranking.add(labels, scores, weights);
        added.map_err(|wrong| invalid(wrong.argument, &wrong.value, wrong.allowed).into())
    }

    fn merge(&mut self, other: Self) {
        self.ranking.merge(other.ranking);
    }

    fn bytes(&self) -> usize {
        // The curve may have a point for every row, which is there twice more while it becomes the result.
        4 * self.ranking.heap()
    }

    fn answer(self) -> Result<RecordBatch> {
        let ranked = self.ranking.rank();
        Ok(RecordBatch::try_new(C::DECLARATION.schema(), C::points(&ranked, self.options))?)
    }
}

/// The `points` argument.
fn points(arguments: &Constants, least: usize) -> Result<Option<usize>, Error> {
    let points = arguments.count::<usize>("points")?;
    points.map(|points| arguments.within("points", points, least..=MOST_POINTS)).transpose()
}

/// Numbers; NaN is NULL.
fn doubles(values: impl Iterator<Item = f64>) -> ArrayRef {
    Arc::new(values.map(|value| (!value.is_nan()).then_some(value)).collect::<Float64Array>())
}
