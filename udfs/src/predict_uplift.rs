//! `predict_uplift(model, features)`: what a treatment changes in the outcome of a row, by a trained uplift model.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::models::Models;
use crate::predict_ctr::{Score, Task};

/// The declaration of `predict_uplift`.
pub static DECLARATION: Function = Function {
    name: "predict_uplift",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::model("model", "The uplift model: `'who'` (its default version), `'who@3'` (a version) or `'who@champion'` (an alias)."),
        Parameter::row(
            "features",
            "The row to score, given as for `predict_ctr`. Whether it was treated is not among its columns, or is left alone.",
        ),
    ],
    returns: Returns::Value(Type::Double),
    summary: "What a treatment changes in the outcome of a row, by a trained uplift model",
    docs: "The expected change of the outcome by treating: for an outcome of 0 and 1 of its probability, from -1 to 1 (0.03 is three more in a hundred); \
           for a numeric outcome, such as an amount, of its expected value. The model is one that `finetune(..., task => 'uplift')` has trained. Rows, \
           NULL, versions and the checks before the first row are as for `predict_ctr`; the result is never NaN.\n\n\
           Treat those for whom the uplift is worth what the treatment costs: `ORDER BY predict_uplift('who', c) DESC LIMIT 1000`. `qini` and `auuc` say \
           how well a model orders the rows of an experiment that it was not trained on.",
    example: "SELECT i.user_id, predict_uplift('who', i) AS uplift FROM impressions i ORDER BY uplift DESC LIMIT 20",
    errors: &[
        Failure { sqlstate: "42704", when: "the model, the version or the alias does not exist" },
        Failure { sqlstate: "42809", when: "the model is no uplift model" },
        Failure { sqlstate: "42703", when: "a feature of the model is missing in the row" },
        Failure { sqlstate: "42804", when: "a feature has a type that the model was not trained on" },
        Failure { sqlstate: "22023", when: "the model is not a constant" },
        Failure { sqlstate: "XX001", when: "the files of the model are damaged" },
    ],
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    Score::function(&DECLARATION, Task::Uplift, models)
}
