//! A training from its rows to the best epoch.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::trainer::Trainer;
use super::{Base, Tuned, feature};
use crate::click::{Progress, TrainOptions};
use crate::epochs;
use crate::error::{Error, Result};
use crate::examples::Examples;
use crate::features::Feature;
use crate::net::Parameter;
use crate::runtime::Runtime;
use crate::text::{Task, Text, judge, ready};

/// A trained model that is not saved yet.
#[derive(Debug)]
pub struct Trained {
    pub(super) runtime: Arc<Runtime>,
    pub(super) text: Text,
    pub(super) features: Vec<Feature>,
    pub(super) options: TrainOptions,
    pub(super) epochs: Vec<Progress>,
    pub(super) kept: Progress,
    pub(super) rows: u64,
    /// What was trained.
    pub(super) weights: Vec<Parameter>,
    pub(super) tokenizer: Vec<u8>,
    /// The version that the training went on from.
    pub(super) parent: Option<u32>,
}

impl Trained {
    /// What it is.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// Figures of every epoch.
    pub fn epochs(&self) -> &[Progress] {
        &self.epochs
    }

    /// Figures of the epoch whose weights were kept.
    pub fn kept(&self) -> &Progress {
        &self.kept
    }

    /// The options of the training, with every default filled in.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }
}

/// Trains an encoder and what there is on top of it. The examples have the columns of [`super::columns`], with the tokens by [`Base::read`] or its
/// siblings, and labels: one for each class, of which one or, for labels, any is 1; a number, or how like a pair is; of tags and of mere pairs a 0. Else as
/// [`crate::click::train`].
///
/// Errors: [`Error::Data`] when the rows cannot be used, [`Error::InvalidOption`], [`Error::Runtime`], [`Error::Canceled`].
pub fn train(
    runtime: &Arc<Runtime>,
    base: &Base,
    examples: &Examples,
    options: &TrainOptions,
    mut text: Text,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    stop: &AtomicBool,
) -> Result<Trained> {
    base.tune.check()?;
    let twins = base.tune.r_drop > 0.0;
    if twins && (text.task != Task::Class || options.dropout == 0.0) {
        return Err(Error::option("r_drop", "it is for classes, and needs dropout"));
    }
    if let Some((option, _)) = base.tune.changes().into_iter().find(|(_, share)| *share > 0.0 && text.task == Task::Tags) {
        return Err(Error::option(option, "it is not for tags, which belong to the words as they stand"));
    }
    let refused = [("ensembles", options.ensembles != 1), ("trials", options.trials != 1)];
    let batch = |rows: usize| if rows < 2048 { 16 } else { 32 };
    let ready = ready(examples, options, &text, &refused, batch)?;
    text.task = ready.task;
    let options = &ready.options;
    let mut trainer = Trainer::new(runtime, base, &text, examples, &ready, stop)?;
    let best = epochs::best(&mut trainer, options, on_epoch)?;
    let own: usize = best.weights.iter().map(|weight| weight.values.len()).sum();
    text.evaluation = judge(text.task, &text.classes, &best.held);
    text.tuned = Some(Box::new(Tuned {
        tune: base.tune.clone(),
        base_sha256: base.source_sha256.clone(),
        trainable: own as u64,
        parameters: trainer.parameters(),
        facts: base.facts.clone(),
        config: base.config.clone(),
    }));
    Ok(Trained {
        runtime: Arc::clone(runtime),
        text,
        features: examples.columns.iter().take(1).map(|column| feature(column, &base.facts)).collect(),
        options: options.clone(),
        epochs: best.epochs,
        kept: best.progress,
        rows: examples.rows() as u64,
        weights: best.weights,
        tokenizer: base.tokenizer.clone(),
        parent: base.parent(),
    })
}
