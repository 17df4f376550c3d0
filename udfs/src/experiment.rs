//! Pictures of an experiment as table functions: the rows are ranked once by their predicted uplift, and a curve or slices are read off.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use datafusion::common::Result;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use stratagem_models::metrics::statistic::{Column as Values, Invalid};
use stratagem_models::metrics::uplift::{Curve, Uplift};

use crate::declaration::{Column, Failure, Function, Parameter, Type};
use crate::error::Error;
use crate::gather::{GatherExec, Gathering, Kernel, numbers, without_nulls};
use crate::named;
use crate::relation::{Constants, Relation};

pub mod qini_curve;
pub mod uplift_by_decile;
pub mod uplift_curve;

const QUERY: Parameter = Parameter::query("query", "The rows of the experiment.");
const OUTCOME: Parameter = Parameter::value("outcome", Type::Text, "The column with what the row brought: 0 or 1, or an amount.");
const TREATED: Parameter =
    Parameter::value("treated", Type::Text, "The column that says whether the row was treated: boolean, or 0 and 1.");
const UPLIFT: Parameter = Parameter::value("uplift", Type::Text, "The column with the predicted uplift. Only its order matters.");
const PROPENSITY: Parameter = Parameter::value(
    "propensity",
    Type::Text,
    "The column with the probability with which the row was treated. NULL: it was the same for all rows.",
)
.or("NULL");
const POINTS: Parameter = Parameter::value("points", Type::Integer, "The most points, from 2 to 1000000.").or("200");

const ERRORS: &[Failure] = &[
    Failure { sqlstate: "42703", when: "the query has no column of a name that is given" },
    Failure { sqlstate: "42804", when: "a column has a type that is not a number (or boolean, for `outcome` and `treated`)" },
    Failure {
        sqlstate: "22023",
        when: "`treated` is not 0 or 1, an outcome is not finite, an uplift is NaN, a propensity is not above 0 and below 1, or an \
               argument is out of range",
    },
    Failure { sqlstate: "0A000", when: "an argument is a parameter such as `$1`" },
    Failure { sqlstate: "53200", when: "the rows do not fit into the memory of the server: 24 bytes each, twice" },
];

/// The columns of a curve.
const CURVE: &[Column] = &[
    Column::new("rows", Type::BigInt, "So many rows, those with the highest uplift."),
    Column::new("share", Type::Double, "Their share of all rows."),
    Column::new("uplift", Type::Double, "The lowest uplift among them; NULL for none.").nullable(),
    Column::new("gain", Type::Double, "The height of the curve: what treating them has added."),
    Column::new("random", Type::Double, "The height for so many rows in a random order."),
];

/// A picture.
pub(crate) trait Picture: Debug + Send + Sync + 'static {
    /// Its declaration.
    const DECLARATION: &'static Function;
    /// The argument that says how fine it is, and its limits.
    const FINENESS: (&'static str, usize, usize);

    /// The columns of the result.
    fn columns(rows: &mut Uplift, fineness: usize) -> Vec<ArrayRef>;
}

/// The table function of a picture.
pub(crate) struct PictureFunction<P>(PhantomData<fn() -> P>);

impl<P: Picture> PictureFunction<P> {
    pub(crate) fn relation() -> Arc<dyn Relation> {
        Arc::new(Self(PhantomData))
    }

    fn fineness(arguments: &Constants) -> Result<usize, Error> {
        let (name, least, most) = P::FINENESS;
        arguments.within(name, arguments.count::<usize>(name)?.unwrap_or_default(), least..=most)
    }
}

impl<P: Picture> Debug for PictureFunction<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PictureFunction").field(&P::DECLARATION.name).finish()
    }
}

/// The roles of the columns that are read, with what they accept and their names.
fn named(arguments: &Constants) -> Result<Vec<(&'static str, Type, &str)>, Error> {
    let roles = [("outcome", Type::Outcome), ("treated", Type::Label), ("uplift", Type::Number)];
    let mut columns =
        roles.map(|(role, accepted)| arguments.text(role).map(|name| (role, accepted, name))).into_iter().collect::<Result<Vec<_>, _>>()?;
    columns.extend(arguments.optional_text("propensity").map(|name| ("propensity", Type::Number, name)));
    Ok(columns)
}

impl<P: Picture> Gathering for PictureFunction<P> {
    fn declaration(&self) -> &'static Function {
        P::DECLARATION
    }

    fn input(&self, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        Self::fineness(arguments)?;
        let number = |(role, accepted, name): (&str, Type, &str)| named::number(P::DECLARATION, role, name, accepted, query.schema());
        let columns = named(arguments)?.into_iter().map(number).collect::<Result<Vec<_>, Error>>()?;
        LogicalPlanBuilder::from(query).project(columns)?.build()
    }

    fn plan(&self, arguments: &Constants, _: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let fineness = Self::fineness(arguments)?;
        let names: Arc<[(&'static str, String)]> = named(arguments)?.into_iter().map(|(role, _, name)| (role, name.to_owned())).collect();
        let start = move || Ranked::<P> { names: Arc::clone(&names), rows: Uplift::default(), fineness, picture: PhantomData };
        Ok(GatherExec::plan(P::DECLARATION, input, start))
    }
}

/// The rows of an experiment.
struct Ranked<P> {
    names: Arc<[(&'static str, String)]>,
    rows: Uplift,
    fineness: usize,
    picture: PhantomData<fn() -> P>,
}

impl<P: Picture> Kernel for Ranked<P> {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = without_nulls(batch)?;
        let column = |column| if column < batch.num_columns() { Values::Numbers(numbers(&batch, column)) } else { Values::Absent };
        self.rows.add(&[0, 1, 2, 3].map(column)).map_err(|invalid| {
            let Invalid { argument, value, allowed } = invalid;
            let name = self.names.iter().find(|(role, _)| *role == argument).map_or(argument, |(_, name)| name);
            let object = format!("column \"{name}\", the {argument} of {},", P::DECLARATION.name);
            Error::value(object, format!("is {value}, but must be {allowed}")).into()
        })
    }

    fn merge(&mut self, other: Self) {
        self.rows.append(other.rows);
    }

    fn bytes(&self) -> usize {
        2 * self.rows.heap()
    }

    fn answer(mut self) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(P::DECLARATION.schema(), P::columns(&mut self.rows, self.fineness))?)
    }
}

/// The columns of a curve.
fn curve(rows: &mut Uplift, curve: Curve, points: usize) -> Vec<ArrayRef> {
    let all = rows.rows() as f64;
    let points = rows.points(curve, points);
    vec![
        Arc::new(points.iter().map(|point| Some(point.rows as i64)).collect::<Int64Array>()),
        Arc::new(points.iter().map(|point| Some(point.rows / all)).collect::<Float64Array>()),
        Arc::new(points.iter().map(|point| point.score).collect::<Float64Array>()),
        Arc::new(points.iter().map(|point| Some(point.height)).collect::<Float64Array>()),
        Arc::new(points.iter().map(|point| Some(point.random)).collect::<Float64Array>()),
    ]
}
