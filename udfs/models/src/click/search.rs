//! A small search over settings: random ones (Bergstra and Bengio 2012), the first is the one given.

use std::ops::ControlFlow;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::options::{Metric, TrainOptions};
use super::trainer::{self, Job, Outcome, Stream, random};
use super::{Member, Progress, model};
use crate::error::Result;
use crate::uplift::Stage;

/// Trains one net per setting; gives the number of the best setting among all of them, and its net. `stage` is what the net is for in an uplift
/// model.
pub(crate) fn best(
    job: &Job<'_>,
    options: &TrainOptions,
    start: &[Member],
    stage: Option<Stage>,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<(usize, Vec<TrainOptions>, Outcome)> {
    let mut rng = random(options.seed, Stream::Search);
    let mut settings = Vec::new();
    let mut best: Option<(f64, usize, Outcome)> = None;
    let figure = |outcome: &Outcome| match options.metric {
        Metric::Logloss => outcome.kept.validation_loss,
        Metric::Auc => outcome.kept.validation_auc.map(|auc| -auc),
    };
    for trial in 1..=options.trials {
        let setting = if trial == 1 { options.clone() } else { draw(options, start.is_empty(), &mut rng) };
        let stamp = Progress { stage, trial, member: 1, ..Progress::default() };
        let net = model::net(job.encoding, &setting);
        let outcome = trainer::fit(job, &setting, &net, start.first(), &stamp, on_epoch)?;
        let found = figure(&outcome).unwrap_or(f64::INFINITY);
        if best.as_ref().is_none_or(|(lowest, ..)| found < *lowest) {
            best = Some((found, settings.len(), outcome));
        }
        settings.push(setting);
    }
    let best = best.map(|(_, position, outcome)| (position, settings, outcome));
    best.ok_or_else(|| crate::error::Error::option("trials", "0 is not within 1 to 1000"))
}

/// A setting near the given one; sizes change only if the net begins anew.
fn draw(options: &TrainOptions, sizes: bool, rng: &mut impl Rng) -> TrainOptions {
    // Even on a logarithmic scale, from a quarter to four times.
    let mut times = || 4f32.powf(rng.random_range(-1.0..=1.0));
    let (learning_rate, table_learning_rate) = (options.learning_rate * times(), options.table_learning_rate * times());
    let pick = |choices: &[f32], rng: &mut _| choices.choose(rng).copied().unwrap_or_default();
    let mut drawn = TrainOptions {
        learning_rate: learning_rate.min(10.0),
        table_learning_rate: table_learning_rate.min(10.0),
        dropout: pick(&[0.0, 0.1, 0.2, 0.4], rng),
        weight_decay: pick(&[0.0, 0.01, 0.1], rng),
        value_dropout: pick(&[0.0, 0.5, 1.0, 5.0], rng),
        ..options.clone()
    };
    if sizes {
        drawn.embedding_dim = [4, 8, 16, 32].choose(rng).copied().unwrap_or(options.embedding_dim);
        drawn.cross_layers = rng.random_range(1..=3);
        let widths: [&[usize]; 4] = [&[32], &[64, 32], &[128, 64], &[256, 128, 64]];
        drawn.hidden = widths.choose(rng).map_or_else(|| options.hidden.clone(), |widths| widths.to_vec());
    }
    drawn
}
