//! The arguments of an uplift model.

use datafusion::arrow::datatypes::Schema;
use stratagem_models::uplift::{Learner, Plan, Propensity};

use super::{Answer, Label, column, invalid};
use crate::declaration::{Type, sql_type};
use crate::error::{Error, Result};
use crate::features::Treatments;
use crate::relation::Constants;

/// Arguments that are about nothing else.
const OWN: [&str; 3] = ["treatment", "learner", "propensity"];

/// Not a column but a net.
const LEARNED: &str = "learned";

/// Checks that a task is one of rows, not of texts.
pub(super) fn check_task(task: &str) -> Result<()> {
    if matches!(task, "ctr" | "uplift") {
        return Ok(());
    }
    let known = "one of: ctr, uplift, text_classification, regression, token_classification, similarity, generation, preference";
    Err(invalid("task", format!("is '{task}'"), known))
}

/// How the uplift model is trained, if it is to be one, and the labels that it has besides the outcome.
pub(super) fn plan(arguments: &Constants, outcome: &str, wishes: &Treatments, schema: &Schema) -> Result<Option<(Plan, Vec<Label>)>> {
    if arguments.text("task")? == "ctr" {
        let stray = OWN.iter().find(|argument| arguments.optional_text(argument).is_some());
        return stray.map_or(Ok(None), |stray| Err(invalid(stray, "is for uplift models only", "write task => 'uplift' with it")));
    }
    for (argument, about) in [("conversion", "clicks and conversions"), ("base", "going on from a click model")] {
        if arguments.optional_text(argument).is_some() {
            return Err(invalid(argument, format!("is about {about}, not about an uplift model"), "leave it out"));
        }
    }
    let learner: Learner = arguments.optional_text("learner").unwrap_or("x").parse()?;
    let Some(treatment) = arguments.optional_text("treatment") else {
        let hint = "name the boolean column that tells who was treated: treatment => ...";
        return Err(invalid("task", "is 'uplift', which needs a treatment", hint));
    };
    if treatment == outcome {
        return Err(invalid(
            "treatment",
            format!("is '{treatment}', which is the outcome too"),
            "name the column that tells who was treated",
        ));
    }
    if wishes.of(treatment).is_some() {
        let reason = format!("wants \"{treatment}\" as a feature, which is the treatment");
        return Err(invalid("features", reason, "leave it out: every learner reads the treatment by itself"));
    }
    let mut labels = vec![labelled(treatment, "treatment", Answer::Binary, schema)?];
    let propensity = match arguments.optional_text("propensity") {
        None => Propensity::Share,
        Some(_) if matches!(learner, Learner::S | Learner::T) => {
            return Err(invalid("propensity", format!("is not used by learner '{learner}'"), "leave it out, or use learner => 'x' or 'r'"));
        }
        Some(LEARNED) => Propensity::Learned,
        Some(text) => match text.parse::<f32>() {
            Ok(share) if share > 0.0 && share < 1.0 => Propensity::Constant(share),
            Ok(share) => return Err(invalid("propensity", format!("is {share}"), "a propensity is above 0 and below 1")),
            Err(_) => {
                labels.push(labelled(text, "propensity", Answer::Number, schema)?);
                Propensity::Given
            }
        },
    };
    Ok(Some((Plan { learner, propensity, treatment: treatment.to_owned() }, labels)))
}

fn labelled(name: &str, argument: &'static str, answer: Answer, schema: &Schema) -> Result<Label> {
    let position = column(name, argument, schema)?;
    let data_type = schema.field(position).data_type();
    let (fits, wanted) = match answer {
        Answer::Binary => (Type::Label.accepts(data_type), "a treatment is boolean, or a number that is 0 or 1"),
        Answer::Number => (data_type.is_numeric(), "a propensity is a number between 0 and 1"),
    };
    if fits && !data_type.is_null() {
        return Ok(Label { column: position, name: name.to_owned(), role: argument, answer });
    }
    Err(Error::WrongType {
        object: format!("{argument} column \"{name}\""),
        actual: sql_type(data_type),
        detail: Some(wanted.to_owned()),
        hint: matches!(answer, Answer::Binary).then(|| format!("write a condition in the query, such as {name} = 'A' AS {name}")),
    })
}
