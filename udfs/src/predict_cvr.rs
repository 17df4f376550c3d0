//! `predict_cvr(model, features)`: the probability of a conversion after a click, by a trained model.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use crate::declaration::{Function, Kind, Parameter, Returns, Type};
use crate::models::Models;
use crate::predict_ctr::{self, Score, Task};

/// The declaration of `predict_cvr`.
pub static DECLARATION: Function = Function {
    name: "predict_cvr",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::model("model", "The model: `'ctr'` (its default version), `'ctr@3'` (a version) or `'ctr@champion'` (an alias)."),
        Parameter::row("features", "The row to score, given as for `predict_ctr`."),
    ],
    returns: Returns::Value(Type::Double),
    summary: "Probability of a conversion after a click on a row, by a trained model",
    docs: "Like `predict_ctr`, but of a model that was trained with conversions (`finetune(..., conversion => ...)`): the probability that a \
           click on the row is followed by a conversion. The probability of click and conversion together is the product of both. Any \
           other model, such as one that was trained on clicks alone with the conversion as its label, has one probability, which both \
           functions return.",
    example: "SELECT i.item_id, predict_ctr('ctr', i) * predict_cvr('ctr', i) AS p FROM impressions i ORDER BY p DESC LIMIT 20",
    errors: predict_ctr::DECLARATION.errors,
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    Score::function(&DECLARATION, Task::Conversion, models)
}
