//! The options of a training by the arguments of its call.

use datafusion::arrow::datatypes::Schema;
use stratagem_models::click::{Split, TrainOptions};

use super::column;
use crate::declaration::{Type, sql_type};
use crate::error::Error;
use crate::relation::Constants;

/// The position of the split's column.
pub(super) fn split(arguments: &Constants, options: &TrainOptions, schema: &Schema) -> Result<Option<usize>, Error> {
    let name = match (options.split, arguments.optional_text("split_col")) {
        (Split::Random, None) => return Ok(None),
        (Split::Random, Some(_)) => {
            let hint = Some("write split => 'time' or split => 'column' with it".to_owned());
            return Err(Error::InvalidValue {
                object: "argument split_col of finetune".to_owned(),
                reason: "needs another split".to_owned(),
                hint,
            });
        }
        (split, None) => {
            let hint = Some("name the column: split_col => ...".to_owned());
            let reason = format!("is '{split}', which needs a split_col");
            return Err(Error::InvalidValue { object: "argument split of finetune".to_owned(), reason, hint });
        }
        (_, Some(name)) => name,
    };
    let position = column(name, "split_col", schema)?;
    let data_type = schema.field(position).data_type();
    let (fits, wanted) = match options.split {
        Split::Column => (Type::Label.accepts(data_type), "boolean, or a number that is 0 or 1"),
        _ => (data_type.is_numeric() || data_type.is_temporal(), "a timestamp, a date or a number"),
    };
    if fits && !data_type.is_null() {
        return Ok(Some(position));
    }
    Err(Error::WrongType {
        object: format!("split column \"{name}\""),
        actual: sql_type(data_type),
        detail: Some(format!("split => '{}' goes by {wanted}", options.split)),
        hint: None,
    })
}

/// The options that the arguments ask for; those that are NULL are the usual ones.
pub(super) fn options(arguments: &Constants, labels: usize, usual: TrainOptions) -> Result<TrainOptions, Error> {
    let needed = |name: &str| Error::value(format!("argument {name} of finetune"), "is NULL");
    let count = |name: &str| arguments.count(name)?.ok_or_else(|| needed(name));
    let size = |name: &str| arguments.count::<usize>(name)?.ok_or_else(|| needed(name));
    let share = |name: &str| arguments.double(name).map(|value| value as f32);
    let chosen = |name: &str, usual: f32| arguments.optional_double(name).map_or(usual, |value| value as f32);
    let default = if labels > 1 { "esmm" } else { "dcnv2" };
    let options = TrainOptions {
        model_type: arguments.optional_text("model_type").unwrap_or(default).parse()?,
        epochs: arguments.count("epochs")?.unwrap_or(usual.epochs),
        batch_size: arguments.count("batch_size")?,
        embedding_dim: arguments.count("embedding_dim")?.unwrap_or(usual.embedding_dim),
        cross_layers: size("cross_layers")?,
        hidden: widths(arguments.text("hidden")?)?,
        experts: size("experts")?,
        // A text model knows its classes when the rows have been read.
        classes: 0,
        several: false,
        learning_rate: chosen("learning_rate", usual.learning_rate),
        table_learning_rate: share("table_learning_rate")?,
        schedule: arguments.optional_text("schedule").map_or(Ok(usual.schedule), str::parse)?,
        warmup: chosen("warmup", usual.warmup),
        weight_decay: share("weight_decay")?,
        l2: share("l2")?,
        dropout: chosen("dropout", usual.dropout),
        value_dropout: share("value_dropout")?,
        token_dropout: chosen("token_dropout", usual.token_dropout),
        label_smoothing: share("label_smoothing")?,
        adversarial: share("adversarial")?,
        positive_weight: arguments.optional_double("positive_weight").map(|value| value as f32),
        negative_sampling: share("negative_sampling")?,
        calibration: arguments.text("calibration")?.parse()?,
        ensembles: arguments.count("ensembles")?.unwrap_or(usual.ensembles),
        trials: count("trials")?,
        split: arguments.text("split")?.parse()?,
        validation: share("validation")?,
        early_stop: arguments.boolean("early_stop")?,
        metric: arguments.text("metric")?.parse()?,
        patience: count("patience")?,
        history: arguments.optional_text("history").map(pair).transpose()?,
        precision: arguments.optional_text("precision").map_or(Ok(usual.precision), str::parse)?,
        // Any bigint is a seed.
        seed: arguments.whole("seed").ok_or_else(|| needed("seed"))?.cast_unsigned(),
        threads: 0,
    };
    if options.model_type.tasks() != labels {
        let (reason, hint) = match labels {
            1 => (format!("is '{}', which learns clicks and conversions", options.model_type), "name the column: conversion => ..."),
            _ => (format!("is '{}', which learns one label", options.model_type), "esmm and mmoe learn a conversion too"),
        };
        return Err(Error::InvalidValue { object: "argument model_type of finetune".to_owned(), reason, hint: Some(hint.to_owned()) });
    }
    options.check()?;
    Ok(options)
}

/// `'128, 64'`; empty for none.
fn widths(text: &str) -> Result<Vec<usize>, Error> {
    let widths = text.split(',').map(str::trim).filter(|width| !width.is_empty()).map(str::parse);
    widths.collect::<Result<_, _>>().map_err(|_| Error::InvalidValue {
        object: "argument hidden of finetune".to_owned(),
        reason: format!("is '{text}'"),
        hint: Some("write the widths of the layers: hidden => '128, 64'".to_owned()),
    })
}

/// `'seen_items: item_id'`
fn pair(text: &str) -> Result<(String, String), Error> {
    let pair = text.split_once(':').map(|(list, target)| (list.trim().to_owned(), target.trim().to_owned()));
    pair.ok_or_else(|| Error::InvalidValue {
        object: "argument history of finetune".to_owned(),
        reason: format!("is '{text}'"),
        hint: Some("write the list and what it is attended with: history => 'seen_items: item_id'".to_owned()),
    })
}
