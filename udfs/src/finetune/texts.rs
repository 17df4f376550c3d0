//! The arguments of a text model, and the columns that it is trained on.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result as EngineResult};
use stratagem_models::click::TrainOptions;
use stratagem_models::encoder::tune::{self, Base, Method, Tune};
use stratagem_models::features::Column as RawColumn;
use stratagem_models::text::{self, Task, Text};

use super::{Answer, Label, column, invalid, missing_label};
use crate::declaration::{Type, sql_type};
use crate::error::{Error, Result};
use crate::models::{Models, Pinned};
use crate::relation::Constants;

mod read;
mod spans;
mod synonyms;

pub(super) use read::{Read, Reader, Seen};
pub(super) use synonyms::{no_synonyms, synonyms, without_synonyms};

/// The value of `base` for n-grams.
const NGRAM: &str = "ngram";

/// The values of `task` for text models.
pub(super) const TASKS: [&str; 4] = ["text_classification", "token_classification", "similarity", "regression"];

/// Arguments that are for text models only.
pub(super) const OWN: [&str; 12] = [
    "method",
    "rank",
    "alpha",
    "targets",
    "max_length",
    "accumulation",
    "layer_decay",
    "r_drop",
    "precision",
    "word_dropout",
    "word_swap",
    "word_synonyms",
];

/// Arguments of other tasks.
const OTHERS: [&str; 7] = ["conversion", "treatment", "learner", "propensity", "features", "transform", "history"];

/// What a text model is trained on.
#[derive(Debug)]
pub(super) struct Texts {
    task: Task,
    form: Form,
    /// The column of the texts.
    text: usize,
    /// That of what is to be learned; none of pairs that are only to be near.
    label: Option<usize>,
    /// The encoder whose vectors are read, or which is trained; none for n-grams.
    encoder: Option<String>,
    /// How that encoder is trained; none if it stays as it is.
    tune: Option<Tune>,
    /// The version to go on from.
    again: Option<Pinned>,
}

/// What a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A text.
    Text,
    /// A list of words, with as many tags.
    Words,
    /// A text, with spans of its characters.
    Spans,
    /// A text, and another one in this column.
    Pair(usize),
}

/// What reads the texts, and how it is trained.
#[derive(Debug)]
pub(super) struct Plan {
    encoder: Option<String>,
    tune: Option<Tune>,
    again: Option<Pinned>,
}

impl Plan {
    pub(super) fn new(models: &Models, arguments: &Constants) -> Result<Self> {
        let again = again(models, arguments)?;
        let encoder = match &again {
            Some((_, text)) => text.encoder.clone(),
            None => base(arguments).map(str::to_owned),
        };
        let tune = tune(arguments, again.as_ref().map(|(_, text)| text))?;
        let task = arguments.text("task")?;
        if matches!(task, "token_classification" | "similarity") && tune.is_none() {
            let hint = "write base => 'minilm', method => 'full' (or 'lora') with it";
            return Err(invalid("task", format!("is '{task}', which trains an encoder"), hint));
        }
        Ok(Self { encoder, tune, again: again.map(|(pinned, _)| pinned) })
    }

    /// The usual options.
    pub(super) fn usual(&self) -> TrainOptions {
        match &self.tune {
            Some(tune) => Tune::options(tune.method),
            None if self.encoder.is_none() => text::usual(),
            None => TrainOptions::default(),
        }
    }

    /// Checks the columns of the query: the texts, their label, and the columns of a training.
    pub(super) fn columns(
        self,
        models: &Models,
        arguments: &Constants,
        schema: &Schema,
        mark: Option<usize>,
    ) -> Result<(Texts, Vec<Label>, Vec<RawColumn>)> {
        if let Some(other) = OTHERS.iter().find(|argument| arguments.optional_text(argument).is_some()) {
            return Err(invalid(other, "is not for text models", "leave it out"));
        }
        let task = arguments.text("task")?;
        let name = match (task, arguments.optional_text("label")) {
            ("similarity", name) => name,
            (_, Some(name)) => Some(name),
            (_, None) => return Err(missing_label()),
        };
        let label = name.map(|name| column(name, "label", schema)).transpose()?;
        let others: Vec<usize> =
            (0..schema.fields().len()).filter(|position| Some(*position) != label && Some(*position) != mark).collect();
        let (text, form) = sources(task, &others, label, schema)?;
        let (task, answer) = match (name, label) {
            (Some(name), Some(label)) => learned(task, form, name, schema.field(label).data_type())?,
            _ => (Task::Pairs, Answer::Binary),
        };
        let field = schema.field(text);
        let dimension = self.encoder.as_deref().filter(|_| self.tune.is_none());
        let dimension = dimension.map(|name| models.encoder_facts(Some(name))).transpose()?.map(|facts| facts.dimension);
        let columns = match &self.tune {
            Some(_) => tune::columns(field.name(), if form == Form::Words { "text[]" } else { "text" }, task),
            None => text::columns(field.name(), dimension),
        };
        let labels = name.zip(label).map(|(name, column)| Label { column, name: name.to_owned(), role: "label", answer });
        let Self { encoder, tune, again } = self;
        Ok((Texts { task, form, text, label, encoder, tune, again }, labels.into_iter().collect(), columns))
    }
}

/// The column of the texts, and what a row holds.
fn sources(task: &str, others: &[usize], label: Option<usize>, schema: &Schema) -> Result<(usize, Form)> {
    let names = || others.iter().map(|position| schema.field(*position).name().as_str()).collect::<Vec<_>>().join(", ");
    let besides = if label.is_some() { " besides the label" } else { "" };
    let pair = task == "similarity";
    let (text, other) = match others {
        [] => return Err(Error::value("the query", format!("has no column{besides}"))),
        [text] if !pair => (*text, None),
        [text, other] if pair => (*text, Some(*other)),
        more => {
            let hint = if pair { "select two texts, and perhaps a label" } else { "select the text and the label only" };
            let columns = if more.len() == 1 { "column" } else { "columns" };
            return Err(invalid("query", format!("has {} {columns}{besides}: {}", more.len(), names()), hint));
        }
    };
    let words = task == "token_classification" && Type::Texts.accepts(schema.field(text).data_type());
    for position in [Some(text), other].into_iter().flatten().filter(|_| !words) {
        let field = schema.field(position);
        if !Type::Text.accepts(field.data_type()) || field.data_type().is_null() {
            let detail =
                if task == "token_classification" { "words are a text, or a list of texts" } else { "a text model is trained on texts" };
            return Err(Error::WrongType {
                object: format!("column \"{}\"", field.name()),
                actual: sql_type(field.data_type()),
                detail: Some(detail.to_owned()),
                hint: None,
            });
        }
    }
    Ok((
        text,
        match (words, task, other) {
            (true, ..) => Form::Words,
            (false, "token_classification", _) => Form::Spans,
            (_, _, Some(other)) => Form::Pair(other),
            (_, _, None) => Form::Text,
        },
    ))
}

/// What a label column of this type is learned as.
fn learned(task: &str, form: Form, name: &str, of: &DataType) -> Result<(Task, Answer)> {
    let texts = of.is_nested() && Type::Texts.accepts(of);
    let (found, detail, hint) = match task {
        "regression" | "similarity" => {
            let found = (of.is_numeric() && !of.is_null()).then_some(if task == "regression" { Task::NUMBER } else { Task::Likeness });
            (found.map(|task| (task, Answer::Number)), "a label of this task is a number", format!("write {name}::double precision"))
        }
        "token_classification" if form == Form::Words => (
            texts.then_some((Task::Tags, Answer::Binary)),
            "the tags of words are a list of texts",
            "write ARRAY['B-brand', 'O', ...]".to_owned(),
        ),
        "token_classification" => {
            let spans = spans::Fields::of(of).is_some();
            let hint = "write ARRAY[named_struct('start', 1, 'length', 4, 'label', 'brand'), ...]".to_owned();
            (spans.then_some((Task::Tags, Answer::Binary)), "the spans of a text are a list of rows of start, length and label", hint)
        }
        _ if texts => (Some((Task::Labels, Answer::Binary)), "", String::new()),
        _ => {
            let fits = !(of.is_nested() || of.is_null() || of.is_floating());
            let detail = "a class is text, a whole number or a boolean, and several of them a list of texts";
            (fits.then_some((Task::Class, Answer::Binary)), detail, format!("write {name}::text"))
        }
    };
    found.ok_or_else(|| Error::WrongType {
        object: format!("label column \"{name}\""),
        actual: sql_type(of),
        detail: Some(detail.to_owned()),
        hint: Some(hint),
    })
}

/// The encoder that the arguments name.
fn base(arguments: &Constants) -> Option<&str> {
    arguments.optional_text("base").filter(|base| *base != NGRAM)
}

/// The version of a text model that `base` names, if it is one and no encoder.
fn again(models: &Models, arguments: &Constants) -> Result<Option<(Pinned, Text)>> {
    let Some(base) = base(arguments) else { return Ok(None) };
    if models.is_encoder(base) {
        return Ok(None);
    }
    let Ok(pinned) = models.resolve(base) else {
        // An encoder is what is meant, unless a version is.
        return if base.contains('@') { models.resolve(base).map(|_| None).map_err(Error::from) } else { Ok(None) };
    };
    match models.text(&pinned)? {
        Some(text) if text.tuned.is_some() => Ok(Some((pinned, text))),
        _ => {
            let reason = format!("is '{base}', which has no encoder of its own");
            Err(invalid("base", reason, "go on from a text model that was trained by method 'full' or 'lora', or name one of ml.encoders"))
        }
    }
}

/// How the encoder is to be trained, if it is; of a version that the training goes on from as it was.
fn tune(arguments: &Constants, again: Option<&Text>) -> Result<Option<Tune>> {
    let before = again.and_then(|text| text.tuned.as_ref()).map(|tuned| tuned.tune.clone());
    let method = match (arguments.optional_text("method"), base(arguments)) {
        (None, Some(_)) if before.is_some() => before.as_ref().map(|tune| tune.method),
        (None | Some("head"), Some(_)) | (None | Some("full"), None) => None,
        (Some(method @ ("full" | "lora" | "adalora" | "adapter" | "prefix")), Some(_)) => Some(method.parse::<Method>()?),
        (Some(method @ ("head" | "lora" | "adalora" | "adapter" | "prefix")), None) => {
            return Err(invalid("method", format!("is '{method}', which needs an encoder"), "name one of ml.encoders: base => 'minilm'"));
        }
        (Some(other), _) => return Err(invalid("method", format!("is '{other}'"), "one of: head, full, lora, adalora, adapter, prefix")),
    };
    let low = method.is_some_and(|method| matches!(method, Method::Lora | Method::Adalora));
    let reads = |argument: &str| match argument {
        "rank" => method.is_some_and(|method| method != Method::Full),
        "alpha" | "targets" => low,
        _ => method.is_some(),
    };
    let given = |argument: &str| !arguments.literal(argument).is_null();
    if let Some(argument) = OWN[1..].iter().find(|argument| !reads(argument) && given(argument)) {
        let hint = match *argument {
            "rank" | "alpha" | "targets" => "write method => 'lora' with it",
            _ => "write method => 'full' or 'lora' with it",
        };
        return Err(invalid(argument, "is not for this method", hint));
    }
    let Some(method) = method else { return Ok(None) };
    if before.is_some()
        && let Some(argument) = ["rank", "alpha", "targets"].into_iter().find(|argument| given(argument))
    {
        return Err(invalid(argument, "is that of the version to go on from", "leave it out"));
    }
    let mut tune = before.unwrap_or_else(|| Tune::new(method));
    tune.method = method;
    if let Some(rank) = arguments.count("rank")? {
        tune.rank = rank;
        tune.alpha = 2.0 * rank as f32;
    }
    tune.alpha = arguments.optional_double("alpha").map_or(tune.alpha, |alpha| alpha as f32);
    if let Some(targets) = arguments.optional_text("targets") {
        tune.targets = targets.split(',').map(|target| target.trim().parse()).collect::<Result<_, _>>()?;
    }
    tune.max_length = arguments.count("max_length")?.unwrap_or(tune.max_length);
    tune.accumulation = arguments.count("accumulation")?.unwrap_or(1);
    tune.layer_decay = arguments.optional_double("layer_decay").map_or(1.0, |decay| decay as f32);
    let share = |argument: &str| arguments.optional_double(argument).map_or(0.0, |share| share as f32);
    tune.r_drop = share("r_drop");
    tune.word_dropout = share("word_dropout");
    tune.word_swap = share("word_swap");
    tune.word_synonyms = share("word_synonyms");
    tune.check()?;
    Ok(Some(tune))
}

impl Texts {
    /// What the model is, before it is trained.
    pub(super) fn model(&self, classes: Vec<String>, seen: Seen) -> Text {
        Text { task: self.task, classes, encoder: self.encoder.clone(), truncated: seen.truncated, evaluation: None, tuned: None }
    }

    /// How the encoder is trained, if it is.
    pub(super) fn tune(&self) -> Option<&Tune> {
        self.tune.as_ref()
    }

    /// The encoder that is to be trained.
    pub(super) async fn base(&self, models: &Arc<Models>, synonyms: Vec<(String, String)>) -> EngineResult<Option<Arc<Base>>> {
        let (Some(encoder), Some(tune)) = (self.encoder.clone(), self.tune.clone()) else { return Ok(None) };
        let (models, again) = (Arc::clone(models), self.again.clone());
        let open = move || {
            let base = match again {
                Some(pinned) => models.again(&pinned, tune)?,
                None => Base::new(models.encoder_files(&encoder)?, tune)?,
            };
            if synonyms.is_empty() { Ok(base) } else { base.with_synonyms(&synonyms) }
        };
        let opening = SpawnedTask::spawn_blocking(open).join_unwind().await;
        let base = opening.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?.map_err(Error::from)?;
        if let Some(before) = base.text().filter(|before| !alike(before.task, self.task)) {
            let reason = format!("is a model of another task: {:?}", before.task).to_lowercase();
            return Err(invalid("base", reason, "go on with the task that it was trained for").into());
        }
        Ok(Some(Arc::new(base)))
    }
}

/// Whether two tasks are the same but for what was found in rows.
fn alike(a: Task, b: Task) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}
