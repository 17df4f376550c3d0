//! `ml.prompts`

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};

use super::{Table, integers, texts, times};
use crate::declaration::{Column, Type};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "prompts",
    summary: "The prompts that CREATE PROMPT has made, with all their versions",
    columns: &[
        Column::new("name", Type::Text, "The prompt's name."),
        Column::new("version", Type::Integer, "Its version, from 1."),
        Column::new("is_default", Type::Boolean, "Whether the bare name means this version: the latest."),
        Column::new("text", Type::Text, "The template."),
        Column::new("variables", Type::Text, "The columns that fill it in, with commas between them."),
        Column::new("created_at", Type::Timestamp, "When it was made."),
    ],
    values,
};

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let prompts = models.prompts().list()?;
    let latest = |at: usize| prompts.get(at + 1).is_none_or(|next| next.name != prompts[at].name);
    Ok(vec![
        texts(prompts.iter().map(|prompt| Some(prompt.name.as_str()))),
        integers(prompts.iter().map(|prompt| Some(prompt.version))),
        Arc::new((0..prompts.len()).map(|at| Some(latest(at))).collect::<BooleanArray>()),
        texts(prompts.iter().map(|prompt| Some(prompt.template.text()))),
        texts(prompts.iter().map(|prompt| Some(prompt.template.variables().join(", ")))),
        times(prompts.iter().map(|prompt| Some(prompt.created_at.as_str()))),
    ])
}
