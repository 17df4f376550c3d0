//! `ml.encoders`

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};

use super::{Table, bigints, texts};
use crate::declaration::{Column, Type};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "encoders",
    summary: "The text encoders: the installed one, and those that `stratagem models import` has brought",
    columns: &[
        Column::new("name", Type::Text, "The name, as in `model => ...`."),
        Column::new("installed", Type::Boolean, "Whether it came with the set-up, and is meant where no model is named."),
        Column::new("title", Type::Text, "The name that the model gives itself."),
        Column::new("family", Type::Text, "`bert`, `roberta` or `xlm-roberta`."),
        Column::new("parameters", Type::BigInt, "The number of its weights."),
        Column::new("dimension", Type::BigInt, "The numbers of a vector."),
        Column::new("max_tokens", Type::BigInt, "The most tokens of a text that it reads."),
        Column::new("pooling", Type::Text, "How the vectors of tokens become that of a text: `mean`, or `cls`, that of the first one."),
        Column::new("normalized", Type::Boolean, "Whether vectors have the length 1."),
        Column::new("precision", Type::Text, "The numbers it calculates with: `f32` or `int8`."),
        Column::new("block", Type::BigInt, "How many weights share a scale; NULL for floats.").nullable(),
        Column::new("licence", Type::Text, "The licence, if the model names one.").nullable(),
        Column::new("sha256", Type::Text, "The hash of the files that were imported.").nullable(),
        Column::new("loaded", Type::Boolean, "Whether it is in memory."),
    ],
    values,
};

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let known = models.text_encoders()?;
    let flags =
        |flag: &dyn Fn(usize) -> bool| -> ArrayRef { Arc::new((0..known.len()).map(|at| Some(flag(at))).collect::<BooleanArray>()) };
    Ok(vec![
        texts(known.iter().map(|model| Some(model.name.as_str()))),
        flags(&|at| known[at].installed),
        texts(known.iter().map(|model| Some(model.facts.name.as_str()))),
        texts(known.iter().map(|model| Some(model.facts.family.name()))),
        bigints(known.iter().map(|model| Some(model.facts.parameters))),
        bigints(known.iter().map(|model| Some(model.facts.dimension as u64))),
        bigints(known.iter().map(|model| Some(model.facts.max_tokens as u64))),
        texts(known.iter().map(|model| Some(model.facts.pooling.name()))),
        flags(&|at| known[at].facts.normalize),
        texts(known.iter().map(|model| Some(model.form.precision.name()))),
        bigints(known.iter().map(|model| (!model.form.precision.is_float()).then_some(model.form.block as u64))),
        texts(known.iter().map(|model| model.facts.licence.as_deref())),
        texts(known.iter().map(|model| model.sha256.as_deref())),
        flags(&|at| known[at].loaded),
    ])
}
