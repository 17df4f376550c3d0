//! `ml.language_models`

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};

use super::{Table, bigints, texts};
use crate::declaration::{Column, Type};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "language_models",
    summary: "The language models: the installed one, and those that `stratagem models import` has brought",
    columns: &[
        Column::new("name", Type::Text, "The name, as in `model => ...`."),
        Column::new("installed", Type::Boolean, "Whether it came with the set-up, and is meant where no model is named."),
        Column::new("title", Type::Text, "The name that the model gives itself."),
        Column::new("family", Type::Text, "`llama` or `qwen2`."),
        Column::new("parameters", Type::BigInt, "The number of its weights."),
        Column::new("context", Type::BigInt, "The most tokens of a prompt and its text together."),
        Column::new("precision", Type::Text, "The numbers it calculates with: `int8`, `int4`, `f16` or `f32`."),
        Column::new("block", Type::BigInt, "How many weights share a scale; NULL for floats.").nullable(),
        Column::new("licence", Type::Text, "The licence, if the model names one.").nullable(),
        Column::new("sha256", Type::Text, "The hash of the file that was imported.").nullable(),
        Column::new("loaded", Type::Boolean, "Whether it is in memory."),
    ],
    values,
};

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let known = models.language_models()?;
    let flags =
        |flag: &dyn Fn(usize) -> bool| -> ArrayRef { Arc::new((0..known.len()).map(|at| Some(flag(at))).collect::<BooleanArray>()) };
    Ok(vec![
        texts(known.iter().map(|model| Some(model.name.as_str()))),
        flags(&|at| known[at].installed),
        texts(known.iter().map(|model| Some(model.facts.name.as_str()))),
        texts(known.iter().map(|model| Some(model.facts.architecture.name()))),
        bigints(known.iter().map(|model| Some(model.facts.parameters))),
        bigints(known.iter().map(|model| Some(model.facts.max_positions as u64))),
        texts(known.iter().map(|model| Some(model.form.precision.name()))),
        bigints(known.iter().map(|model| (!model.form.precision.is_float()).then_some(model.form.block as u64))),
        texts(known.iter().map(|model| model.facts.licence.as_deref())),
        texts(known.iter().map(|model| model.sha256.as_deref())),
        flags(&|at| known[at].loaded),
    ])
}
