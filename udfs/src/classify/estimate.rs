//! `ai.estimate(text, model)`: the number that a trained text model gives for a text.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;

use super::{Classify, What};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::models::{Held, Models};
use crate::usage::Meter;

/// The declaration of `ai.estimate`.
pub static DECLARATION: Function = Function {
    name: "ai.estimate",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("text", Type::Text, "The text."),
        Parameter::value(
            "model",
            Type::Text,
            "A model that `finetune(..., task => 'regression')` has trained: `'stars'` (its default version), `'stars@3'` or `'stars@champion'`.",
        ),
    ],
    returns: Returns::Value(Type::Double),
    summary: "The number that a trained text model gives for a text",
    docs: "In the unit of the label that the model was trained on. `ml.evaluations` says how far it is off on held-out rows: `rmse`, `mae` and `r2`. NULL for \
           NULL.",
    example: "SELECT review_id, ai.estimate(text, 'stars') AS stars FROM reviews ORDER BY stars LIMIT 10",
    errors: &[
        Failure { sqlstate: "42704", when: "the model does not exist" },
        Failure { sqlstate: "42809", when: "the model is no text model that gives numbers" },
        Failure { sqlstate: "22023", when: "the name of the model is not a constant" },
    ],
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Classify::new(models, &DECLARATION, What::Number)))
}

/// The numbers of texts (`Utf8`).
pub(super) async fn of(classify: &Classify, held: &Arc<Held>, texts: &ArrayRef, meter: &Meter) -> Result<ArrayRef> {
    let (_, numbers) = classify.shares(held, texts, meter).await?;
    let mut numbers = numbers.into_iter().map(f64::from);
    let number = |row: usize| if texts.is_valid(row) { numbers.next() } else { None };
    Ok(Arc::new((0..texts.len()).map(number).collect::<Float64Array>()))
}
