//! `ml.aliases`

use datafusion::arrow::array::ArrayRef;

use super::{Table, integers, texts};
use crate::declaration::{Column, Type};
use crate::models::{Models, Result};

pub(super) static TABLE: Table = Table {
    name: "aliases",
    summary: "What `model@alias` means",
    columns: &[
        Column::new("model", Type::Text, "The model's name."),
        Column::new("alias", Type::Text, "The alias; `default` is what the bare name means."),
        Column::new("version", Type::Integer, "The version it stands for."),
    ],
    values,
};

fn values(models: &Models) -> Result<Vec<ArrayRef>> {
    let versions = models.list()?;
    let aliases = || versions.iter().flat_map(|version| version.aliases.iter().map(move |alias| (version, alias)));
    Ok(vec![
        texts(aliases().map(|(version, _)| Some(version.name.as_str()))),
        texts(aliases().map(|(_, alias)| Some(alias.as_str()))),
        integers(aliases().map(|(version, _)| Some(version.version))),
    ])
}
