//! `ml.confusion_matrix(query, label, predicted)`: how often each class was called what.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, col};

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type, sql_type};
use crate::error::Error;
use crate::named;
use crate::relation::{Constants, Expansion};

pub(crate) const LABEL: Parameter =
    Parameter::value("label", Type::Text, "The column with the actual class: of any type but a list or a row.");
pub(crate) const PREDICTED: Parameter =
    Parameter::value("predicted", Type::Text, "The column with the predicted class, of a type that can be compared with it.");

pub(crate) const ERRORS: &[Failure] = &[
    Failure { sqlstate: "42703", when: "the query has no column of a name that is given" },
    Failure { sqlstate: "42804", when: "a column is a list or a row, or the two cannot be compared" },
    Failure { sqlstate: "0A000", when: "an argument is a parameter such as `$1`" },
];

/// The declaration of `ml.confusion_matrix`.
pub static DECLARATION: Function = Function {
    name: "ml.confusion_matrix",
    kind: Kind::Table,
    parameters: &[Parameter::query("query", "The classified rows."), LABEL, PREDICTED],
    returns: Returns::Rows(&[
        Column::new("actual", Type::Text, "The actual class, as text.").nullable(),
        Column::new("predicted", Type::Text, "The predicted class, as text.").nullable(),
        Column::new("rows", Type::BigInt, "How many rows have both."),
    ]),
    summary: "How often each actual class was predicted as each class",
    docs: "One row per pair of classes that occurs, in no order but that of an ORDER BY. Any number of classes will do; write the threshold of a click \
           model into the query. A class that is NULL is shown as such. Numbers and booleans can be compared: true is 1. It is a plain \
           GROUP BY: it runs in parallel and needs memory for the pairs only.",
    example: "SELECT * FROM ml.confusion_matrix(query => $$SELECT click, predict_ctr('ctr', i) > 0.3 AS says FROM impressions i$$,\n\
              \x20                                label => 'click', predicted => 'says')",
    errors: ERRORS,
};

/// Plans calls of `ml.confusion_matrix`.
#[derive(Debug)]
pub(crate) struct ConfusionMatrix;

impl Expansion for ConfusionMatrix {
    fn declaration(&self) -> &'static Function {
        &DECLARATION
    }

    fn expand(&self, arguments: &Constants, input: LogicalPlan) -> Result<LogicalPlan> {
        LogicalPlanBuilder::from(cells(&DECLARATION, arguments, input)?).project(as_text())?.build()
    }
}

/// The cells as text.
pub(crate) fn as_text() -> [Expr; 3] {
    let text = |name: &str| cast(col(name), DataType::Utf8).alias(name);
    [text("actual"), text("predicted"), col("rows")]
}

/// The plan that counts the rows of each pair of classes, in their common type.
pub(crate) fn cells(function: &Function, arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
    let (actual, of_actual) = named::column(function, "label", arguments.text("label")?, query.schema())?;
    let (predicted, of_predicted) = named::column(function, "predicted", arguments.text("predicted")?, query.schema())?;
    let common = common(&of_actual, &of_predicted).ok_or_else(|| Error::WrongType {
        object: format!("the class that {} compares with {}", function.name, sql_type(&of_actual)),
        actual: sql_type(&of_predicted),
        detail: None,
        hint: Some("cast one of the two in the query".to_owned()),
    })?;
    let as_common = |column: Expr, own: &DataType, name: &str| match *own == common {
        true => column.alias(name),
        false => cast(column, common.clone()).alias(name),
    };
    LogicalPlanBuilder::from(query)
        .project([as_common(actual, &of_actual, "actual"), as_common(predicted, &of_predicted, "predicted")])?
        .aggregate([col("actual"), col("predicted")], [count_all().alias("rows")])?
        .build()
}

/// The type in which both classes are told apart.
fn common(left: &DataType, right: &DataType) -> Option<DataType> {
    if left.is_nested() || right.is_nested() {
        return None;
    }
    match (left, right) {
        (DataType::Boolean, number) | (number, DataType::Boolean) if number.is_integer() => Some(DataType::Int64),
        (DataType::Boolean, number) | (number, DataType::Boolean) if number.is_numeric() => Some(DataType::Float64),
        _ => comparison_coercion(left, right),
    }
}
