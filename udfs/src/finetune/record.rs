//! The record of a training, kept beside the models. A record that cannot be written does not stop a training: the log says so.

use stratagem_models::click::{Progress, Trained};
use stratagem_models::language::tune::{Adapted, Objective};
use stratagem_models::registry::{Evaluation, Kind, Outcome, Run, RunInfo};
use stratagem_models::text::Text;
use stratagem_models::uplift::Uplift;

use super::Training;
use super::texts::Texts;
use crate::models::{Models, Result};

/// Begins the record of a training.
pub(super) fn begin(models: &Models, training: &Training, rows: usize) -> Result<Run> {
    models.registry().runs().begin(RunInfo {
        model: training.name.clone(),
        rows: rows as u64,
        options: options(training),
        seed: training.options.seed,
        trial: None,
        parent: None,
    })
}

/// Adds the figures of an epoch of the first trial or net; those of further ones follow as `trial` and `member` figures. In an uplift model they
/// begin with the stage: `effect.loss`.
pub(super) fn epoch(run: &mut Run, progress: &Progress) {
    let mut figures = vec![("train", "loss", progress.train_loss), ("train", "seconds", progress.seconds)];
    figures.extend(progress.validation_loss.map(|loss| ("validation", "logloss", loss)));
    figures.extend(progress.validation_auc.map(|auc| ("validation", "auc", auc)));
    figures.push(("train", "trial", f64::from(progress.trial)));
    figures.push(("train", "member", f64::from(progress.member)));
    let names: Vec<String> = match progress.stage {
        Some(stage) => figures.iter().map(|(_, metric, _)| format!("{stage}.{metric}")).collect(),
        None => Vec::new(),
    };
    figures.iter_mut().zip(&names).for_each(|(figure, name)| figure.1 = name);
    logged(run.metrics(progress.epoch, None, &figures));
}

/// Adds a record for each setting that was tried.
pub(super) fn trials(models: &Models, training: &Training, run: &Run, trained: &Trained) {
    if trained.trials().len() < 2 {
        return;
    }
    for (trial, options) in (1..).zip(trained.trials()) {
        let begun = models.registry().runs().begin(RunInfo {
            model: training.name.clone(),
            rows: trained.rows(),
            options: json(options),
            seed: options.seed,
            trial: Some(trial),
            parent: Some(run.id()),
        });
        let recorded = begun.and_then(|mut own| {
            let epochs = trained.epochs().iter().filter(|progress| progress.trial == trial && progress.member == 1);
            epochs.for_each(|progress| epoch(&mut own, progress));
            own.finish(Outcome::Succeeded { version: None, evaluations: Vec::new() })
        });
        logged(recorded);
    }
}

/// What the whole model is worth on the held-out rows.
pub(super) fn evaluations(trained: &Trained) -> Vec<Evaluation> {
    let (rows, figures) = match (trained.evaluation(), trained.kind()) {
        (Some(whole), _) => {
            let figures = [
                ("logloss", Some(whole.logloss)),
                ("auc", whole.auc),
                ("ece", Some(whole.ece)),
                ("predicted_over_actual", whole.predicted_over_actual),
            ];
            (whole.rows, figures)
        }
        (None, Kind::Uplift(Uplift { evaluation: Some(gain), .. })) => {
            (gain.rows, [("qini", gain.qini), ("auuc", gain.auuc), ("ate", Some(gain.ate)), ("predicted_uplift", Some(gain.predicted))])
        }
        (None, Kind::Text(own)) => return text(own),
        (None, _) => return Vec::new(),
    };
    figures.into_iter().map(|(metric, value)| evaluation("validation", metric, value, rows)).collect()
}

/// What a text model is worth on the held-out rows, and the weights of an encoder of its own.
pub(super) fn text(text: &Text) -> Vec<Evaluation> {
    let mut figures = Vec::new();
    if let Some(whole) = &text.evaluation {
        let truncated = [("truncated_texts", text.truncated as f64)];
        let of = whole.figures.iter().map(|(metric, value)| (metric.as_str(), *value)).chain(truncated);
        figures.extend(of.map(|(metric, value)| evaluation("validation", metric, Some(value), whole.rows)));
    }
    if let Some(tuned) = &text.tuned {
        let of = [("parameters", tuned.parameters), ("trainable_parameters", tuned.trainable)];
        figures.extend(of.map(|(metric, count)| evaluation("train", metric, Some(count as f64), 0)));
    }
    figures
}

/// What changes of a language model are worth on the held-out rows, and their weights.
pub(super) fn language(adapted: &Adapted) -> Vec<Evaluation> {
    let mut figures = Vec::new();
    if let Some(whole) = &adapted.evaluation {
        let perplexity = |loss: f64| (adapted.objective == Objective::Generation).then(|| loss.exp());
        let of = [
            ("loss", Some(whole.loss)),
            ("loss_before", Some(whole.loss_before)),
            ("perplexity", perplexity(whole.loss)),
            ("perplexity_before", perplexity(whole.loss_before)),
            ("accuracy", whole.accuracy),
            ("tokens", Some(whole.tokens as f64)),
        ];
        let known = of.into_iter().filter(|(_, value)| value.is_some());
        figures.extend(known.map(|(metric, value)| evaluation("validation", metric, value, whole.rows)));
    }
    let of = [("parameters", adapted.parameters), ("trainable_parameters", adapted.trainable), ("truncated_texts", adapted.truncated)];
    figures.extend(of.map(|(metric, count)| evaluation("train", metric, Some(count as f64), 0)));
    figures
}

fn evaluation(split: &str, metric: &str, value: Option<f64>, rows: u64) -> Evaluation {
    Evaluation { split: split.to_owned(), metric: metric.to_owned(), value: value.filter(|value| value.is_finite()), rows }
}

/// Ends the record.
pub(super) fn end(run: Run, outcome: Outcome) {
    logged(run.finish(outcome));
}

/// The options, with those of an encoder or of a language model that is trained.
fn options(training: &Training) -> serde_json::Value {
    let mut options = json(&training.options);
    let tune = training.texts.as_ref().and_then(Texts::tune).map(json).or(training.language.as_ref().map(|own| json(&own.tune)));
    if let (Some(options), Some(serde_json::Value::Object(tune))) = (options.as_object_mut(), tune) {
        options.extend(tune);
    }
    options
}

fn json(options: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(options).unwrap_or_default()
}

fn logged(written: Result<()>) {
    if let Err(error) = written {
        tracing::warn!(%error, "the record of a training could not be written");
    }
}
