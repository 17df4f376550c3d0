//! `ai.class_probability(text, class, model)`: the probability that a text is of a class.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ScalarFunctionArgs, ScalarUDF};
use stratagem_models::model::Model;

use super::{Classify, What};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::encoder;
use crate::error::Error;
use crate::models::{Held, Models};
use crate::usage::Meter;

/// The declaration of `ai.class_probability`.
pub static DECLARATION: Function = Function {
    name: "ai.class_probability",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("text", Type::Text, "The text."),
        Parameter::value("class", Type::Text, "A class of the model, as `ai.classify` gives it."),
        Parameter::value(
            "model",
            Type::Text,
            "A text model that `finetune` has trained: `'intent'` (its default version), `'intent@3'` (a version) or `'intent@champion'` (an alias).",
        ),
    ],
    returns: Returns::Value(Type::Double),
    summary: "The probability that a text is of a class, by a trained text model",
    docs: "For thresholds, rankings and metrics: `auc(label, ai.class_probability(text, 'bad', 'review'))`. The probabilities of all classes add up to 1, and \
           `ai.classify` gives the class with the highest; labels of which a text may have several have probabilities of their own. NULL where the text or the class is NULL.",
    example: "SELECT question, ai.class_probability(question, 'refund', 'intent') AS p FROM questions ORDER BY p DESC LIMIT 10",
    errors: &[
        Failure { sqlstate: "42704", when: "the model does not exist" },
        Failure { sqlstate: "42809", when: "the model is no text model" },
        Failure { sqlstate: "22023", when: "the model has no such class, or its name is not a constant" },
    ],
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Classify::new(models, &DECLARATION, What::Probability)))
}

/// The probabilities of the classes that the arguments name.
pub(super) async fn of(
    classify: &Classify,
    held: &Arc<Held>,
    texts: &ArrayRef,
    arguments: &ScalarFunctionArgs,
    meter: &Meter,
) -> Result<ArrayRef> {
    let [_, asked, ..] = arguments.args.as_slice() else { return exec_err!("{} has no class", DECLARATION.name) };
    let asked = encoder::texts(&asked.to_array(arguments.number_rows)?)?;
    let (model, shares) = classify.shares(held, texts, meter).await?;
    let Model::Text(text) = &*model else { return exec_err!("{} is no text model", held.pinned()) };
    let (asked, classes): (&StringArray, _) = (asked.as_string(), &text.text().classes);
    let mut shares = shares.chunks_exact(classes.len());
    let mut probability = |row: usize| -> Result<Option<f64>> {
        let Some(shares) = texts.is_valid(row).then(|| shares.next()).flatten() else { return Ok(None) };
        if asked.is_null(row) {
            return Ok(None);
        }
        let class = asked.value(row);
        match classes.binary_search_by(|known| known.as_str().cmp(class)) {
            Ok(place) => Ok(Some(f64::from(shares[place]))),
            Err(_) => Err(Error::no_such_class(&DECLARATION, class, &held.pinned().to_string(), classes).into()),
        }
    };
    Ok(Arc::new((0..texts.len()).map(&mut probability).collect::<Result<Float64Array>>()?))
}
