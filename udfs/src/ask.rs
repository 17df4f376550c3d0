//! Questions to a language model. Those of one statement share their answers and the start of their prompts.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use stratagem_models::language::{Completion, Grammar, Request, Sampling, tune};
use tokio::sync::oneshot;

use crate::declaration::Function;
use crate::error::Error;
use crate::models::{Error as ModelError, Models, Speaker, lock};
use crate::usage::{Meter, OnError, Tally};

/// The longest prompt that is looked at, in bytes.
const LONGEST: usize = 1 << 18;

/// The answers of a statement that are remembered.
const REMEMBERED: usize = 1 << 16;

/// The arguments of a call that hold for all its rows.
pub(crate) struct Literals<'a> {
    pub(crate) function: &'static Function,
    /// The value of an argument; none if it differs from row to row.
    pub(crate) value: &'a dyn Fn(&str) -> Option<ScalarValue>,
}

impl Literals<'_> {
    /// An argument as errors name it.
    pub(crate) fn object(&self, name: &str) -> String {
        format!("argument {name} of {}", self.function.name)
    }

    fn constant(&self, name: &str) -> Result<ScalarValue, Error> {
        (self.value)(name).ok_or_else(|| Error::value(self.object(name), "must be a constant"))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        self.constant(name).map(|value| value.try_as_str().flatten().map(str::to_owned))
    }

    pub(crate) fn number(&self, name: &str) -> Result<f64, Error> {
        match self.constant(name)?.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(Some(number))) => Ok(number),
            _ => Err(Error::value(self.object(name), "is NULL or not a number")),
        }
    }

    /// A count that may be NULL.
    pub(crate) fn optional_count(&self, name: &str) -> Result<Option<usize>, Error> {
        if self.constant(name)?.is_null() { Ok(None) } else { self.count(name).map(Some) }
    }

    /// A count from 1; what is none is 0, which no option accepts.
    pub(crate) fn count(&self, name: &str) -> Result<usize, Error> {
        self.number(name).map(|number| if number >= 1.0 { number as usize } else { 0 })
    }

    /// What becomes of a row without an answer; the session decides where the call does not.
    pub(crate) fn on_error(&self) -> Result<Option<OnError>, Error> {
        let Some(word) = self.text("on_error")? else { return Ok(None) };
        OnError::parse(&word).map(Some).ok_or_else(|| Error::InvalidValue {
            object: self.object("on_error"),
            reason: format!("is '{word}'"),
            hint: Some("it is 'fail', 'null' or 'report'".to_owned()),
        })
    }
}

/// How a model is asked.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    /// The model; the installed one if it has no name.
    pub(crate) model: Option<String>,
    /// How tokens are chosen; the seed is the question's own.
    pub(crate) sampling: Sampling,
    /// What the text must be like.
    pub(crate) grammar: Option<Grammar>,
    /// Whether the prompt is a message of a chat, where the model has one; otherwise the text goes on where the prompt ends.
    pub(crate) chat: bool,
}

/// What decides a text.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    prompt: String,
    system: Option<String>,
    seed: i64,
    manner: Arc<Manner>,
    /// The manner, spelled out.
    spelled: Arc<str>,
}

impl Question {
    /// `object` is named in errors.
    pub(crate) fn new(prompt: &str, system: Option<&str>, seed: i64, manner: &Asked, object: &str) -> Result<Self, Error> {
        if prompt.len() > LONGEST {
            return Err(Error::value(object, format!("has {} bytes, more than {LONGEST}", prompt.len())));
        }
        let Asked { manner, spelled } = manner.clone();
        Ok(Self { prompt: prompt.to_owned(), system: system.map(str::to_owned), seed, manner, spelled })
    }

    async fn ask(self, speaker: Speaker, memory: Arc<Memory>) -> Result<Completion> {
        let request = self.request(&speaker, &memory).map_err(Error::from)?;
        let (sender, receiver) = oneshot::channel();
        let ticket = speaker.engine.submit(request, move |answer| drop(sender.send(answer))).map_err(Error::from)?;
        let completion = receiver.await.unwrap_or(Err(ModelError::Stopped)).map_err(Error::from)?;
        drop(ticket);
        Ok(completion)
    }

    fn request(&self, Speaker { engine, adapter, .. }: &Speaker, memory: &Memory) -> Result<Request, ModelError> {
        let prompt = tune::prompt(engine.tokens(), engine.chat().filter(|_| self.manner.chat), self.system.as_deref(), &self.prompt)?;
        let constraint = self.manner.grammar.as_ref().map(|grammar| engine.constraint(grammar)).transpose()?;
        let shared = memory.shared(&prompt);
        let sampling = Sampling { seed: self.seed.cast_unsigned(), ..self.manner.sampling.clone() };
        Ok(Request { prompt, shared, sampling, constraint, adapter: adapter.clone() })
    }
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        (&self.prompt, &self.system, self.seed, &self.spelled) == (&other.prompt, &other.system, other.seed, &other.spelled)
    }
}

impl Eq for Question {}

impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.prompt, &self.system, self.seed, &self.spelled).hash(state);
    }
}

/// A manner that many questions have.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    manner: Arc<Manner>,
    spelled: Arc<str>,
}

impl From<Manner> for Asked {
    fn from(manner: Manner) -> Self {
        Self { spelled: format!("{manner:?}").into(), manner: Arc::new(manner) }
    }
}

type Outcome = std::result::Result<Arc<Completion>, Arc<DataFusionError>>;
type Pending = Shared<BoxFuture<'static, Outcome>>;

/// The answers of a statement.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    answers: Mutex<HashMap<Question, Known>>,
    /// The start that all prompts so far have in common.
    start: Mutex<Option<Vec<u32>>>,
    /// The models that were asked, by the names they were asked by, so that a name means one model to the end.
    speakers: Mutex<HashMap<Option<String>, Speaker>>,
    /// What the statement has asked, from its first question on.
    tally: OnceLock<Arc<Tally>>,
}

enum Known {
    /// Under way as long as somebody waits for it.
    Pending(WeakShared<BoxFuture<'static, Outcome>>),
    Answered(Outcome),
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Pending(_)) { "Pending" } else { "Answered" })
    }
}

impl Memory {
    /// How many tokens of a prompt are those of all prompts so far.
    fn shared(&self, prompt: &[u32]) -> usize {
        let mut start = lock(&self.start);
        match &mut *start {
            Some(start) => {
                let common = start.iter().zip(prompt).take_while(|(a, b)| a == b).count();
                start.truncate(common);
                common
            }
            None => {
                *start = Some(prompt.to_vec());
                0
            }
        }
    }

    /// The model that a name, or none, means in this statement.
    pub(crate) async fn speaker(&self, models: &Arc<Models>, name: Option<&str>) -> Result<Speaker> {
        let known = lock(&self.speakers).get(&name.map(str::to_owned)).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let speaker = speaker(models, name).await?;
        Ok(lock(&self.speakers).entry(name.map(str::to_owned)).or_insert(speaker).clone())
    }

    /// The answer that is there or under way, or else a new one.
    pub(crate) async fn answer(self: &Arc<Self>, models: &Arc<Models>, question: Question, meter: &Arc<Meter>) -> Outcome {
        let speaker = self.speaker(models, question.manner.model.as_deref()).await.map_err(Arc::new)?;
        let tally = self.tally.get_or_init(|| models.ledger().open(meter.client()));
        let pending = {
            let mut answers = lock(&self.answers);
            if answers.len() >= REMEMBERED {
                answers.clear();
            }
            let known = answers.get(&question).and_then(|known| match known {
                Known::Answered(outcome) => Some(Ok(outcome.clone())),
                Known::Pending(pending) => pending.upgrade().map(Err),
            });
            if known.is_some() {
                tally.repeated();
            }
            match known {
                Some(Ok(outcome)) => return outcome,
                Some(Err(pending)) => pending,
                None => {
                    let refused = |error: Error| Arc::new(DataFusionError::from(error));
                    tally.admit(&speaker.name).map_err(refused)?;
                    let (memory, asked) = (Arc::clone(self), question.clone());
                    let (tally, meter) = (Arc::clone(tally), Arc::clone(meter));
                    let pending: Pending = async move {
                        let outcome = asked.clone().ask(speaker, Arc::clone(&memory)).await.map(Arc::new).map_err(Arc::new);
                        tally.ended(outcome.as_deref().ok());
                        if let Ok(completion) = &outcome {
                            meter.wrote(completion);
                        }
                        lock(&memory.answers).insert(asked, Known::Answered(outcome.clone()));
                        outcome
                    }
                    .boxed()
                    .shared();
                    if let Some(weak) = pending.downgrade() {
                        answers.insert(question, Known::Pending(weak));
                    }
                    pending
                }
            }
        };
        match tally.deadline() {
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), pending).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Arc::new(tally.late().into())),
            },
            None => pending.await,
        }
    }
}

/// The model, loaded on a thread that may wait.
pub(crate) async fn speaker(models: &Arc<Models>, name: Option<&str>) -> Result<Speaker> {
    let (models, name) = (Arc::clone(models), name.map(str::to_owned));
    match tokio::task::spawn_blocking(move || models.language(name.as_deref())).await {
        Ok(speaker) => Ok(speaker.map_err(Error::from)?),
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(Error::Model(ModelError::Canceled).into()),
    }
}

/// Whether an error is that of a row, so that others may still have an answer.
pub(crate) fn of_the_row(error: &DataFusionError) -> bool {
    let rows_own =
        |error: &ModelError| matches!(error, ModelError::PromptTooLong { .. } | ModelError::CacheMemory { .. } | ModelError::Data { .. });
    matches!(crate::error::find(error), Some(Error::InvalidValue { .. } | Error::Unmet { .. } | Error::Spent { .. }))
        || matches!(crate::error::find(error), Some(Error::Model(error)) if rows_own(error))
}
