//! `ai.generate(prompt)`: a text by a language model.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use stratagem_models::language::{Completion, Engine, Finish, Grammar, Message, Request, Sampling};
use tokio::sync::oneshot;

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::error::Error;
use crate::models::{Error as ModelError, Models, lock};

mod schema;

use schema::OutputSchema;

/// The declaration of `ai.generate`.
pub static DECLARATION: Function = Function {
    name: "ai.generate",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("prompt", Type::Text, "What to write, for each row."),
        Parameter::value("model", Type::Text, "The language model; NULL is the installed one, `'smollm2'`.").or("NULL"),
        Parameter::value("max_tokens", Type::Integer, "The most tokens of a text.").or("128"),
        Parameter::value(
            "temperature",
            Type::Double,
            "0 takes the likeliest token always; 1 draws from the model's own distribution.",
        )
        .or("0"),
        Parameter::value("top_p", Type::Double, "Draws from the likeliest tokens whose probabilities reach this sum.").or("1"),
        Parameter::value("stop", Type::Text, "The text ends before this one.").or("NULL"),
        Parameter::value("seed", Type::BigInt, "Start of the random numbers, for each row.").or("0"),
        Parameter::value(
            "output_schema",
            Type::Text,
            "Names and types of fields, such as `'headline text, score integer'`: the result is then a row of these, and the model can write \
             nothing else. The types are text, integer, double precision and boolean.",
        )
        .or("NULL"),
        Parameter::value("system", Type::Text, "What the model is told before the prompt.").or("NULL"),
        Parameter::value(
            "on_error",
            Type::Text,
            "`'fail'` ends the statement when a row has no answer, `'null'` makes that row NULL.",
        )
        .or("'fail'"),
    ],
    returns: Returns::Value(Type::Text),
    summary: "A text that a language model writes for each row",
    docs: "Runs on the machine itself, with one model in memory for all sessions. Rows of all statements are computed together, and go to the \
           client as soon as they and those before them are done. A statement asks only for the rows it returns: sorts, limits and other \
           conditions come first, and equal prompts are answered once.\n\n\
           The prompt is data: names of special tokens in it stay text. A text depends on its own prompt, options and seed, not on other rows. \
           The result is NULL for a prompt that is NULL or empty.\n\n\
           With `output_schema` a field is read as `(ai.generate(...))['headline']`, or give the call a name in a subquery.",
    example: "SELECT ai.generate('Write one short sentence about running shoes.', max_tokens => 24)",
    errors: &[
        Failure { sqlstate: "42704", when: "the language model does not exist" },
        Failure { sqlstate: "22023", when: "an option is out of range or not a constant, or a prompt is too long" },
        Failure { sqlstate: "22000", when: "a text does not fit its `output_schema` within `max_tokens`" },
        Failure { sqlstate: "53400", when: "too many requests are waiting" },
        Failure { sqlstate: "53200", when: "the memory for keys and values is too small for a prompt" },
        Failure { sqlstate: "XX001", when: "the files of the model are damaged" },
    ],
};

/// The longest prompt that is looked at, in bytes.
const LONGEST: usize = 1 << 18;

/// The answers of a statement that are remembered.
const REMEMBERED: usize = 1 << 16;

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    // Volatile, so that no call runs while a statement is planned.
    let signature = DECLARATION.engine_signature(Volatility::Volatile);
    Arc::new(ScalarUDF::from(Generate { models: Arc::clone(models), signature, memory: Arc::default() }))
}

/// `ai.generate`.
#[derive(Debug, Clone)]
pub(crate) struct Generate {
    models: Arc<Models>,
    signature: Signature,
    memory: Arc<Memory>,
}

impl Generate {
    /// The function for the calls of one statement, which share their answers.
    pub(crate) fn with(&self, memory: &Arc<Memory>) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { memory: Arc::clone(memory), ..self.clone() }))
    }
}

impl PartialEq for Generate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.models, &other.models)
    }
}

impl Eq for Generate {}

impl Hash for Generate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        DECLARATION.name.hash(state);
    }
}

impl ScalarUDFImpl for Generate {
    fn name(&self) -> &str {
        DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        exec_err!("the type of {} depends on its arguments", DECLARATION.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        DECLARATION.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        let options = Options::new(|name| {
            let position = DECLARATION.position(name)?;
            args.scalar_arguments.get(position).copied().flatten().cloned()
        })?;
        Ok(Arc::new(Field::new(DECLARATION.name, options.data_type(), true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(Error::Unsupported {
            reason: format!("{} cannot be called in this place", DECLARATION.name),
            hint: "put the call into the select list of a query".to_owned(),
        }
        .into())
    }
}

/// The arguments that hold for all rows.
#[derive(Debug, Clone)]
struct Options {
    model: Option<String>,
    sampling: Sampling,
    output: Option<OutputSchema>,
    null_on_error: bool,
}

impl Options {
    fn new(value: impl Fn(&str) -> Option<ScalarValue>) -> Result<Self, Error> {
        let object = |name: &str| format!("argument {name} of {}", DECLARATION.name);
        let constant = |name: &str| value(name).ok_or_else(|| Error::value(object(name), "must be a constant"));
        let text = |name: &str| constant(name).map(|value| value.try_as_str().flatten().map(str::to_owned));
        let number = |name: &str| {
            let value = constant(name)?.cast_to(&DataType::Float64).ok();
            let Some(ScalarValue::Float64(Some(number))) = value else { return Err(Error::value(object(name), "is NULL or not a number")) };
            Ok(number)
        };
        let max_tokens = number("max_tokens")?;
        let sampling = Sampling {
            max_tokens: if max_tokens >= 1.0 { max_tokens as usize } else { 0 },
            temperature: number("temperature")? as f32,
            top_p: number("top_p")? as f32,
            stop: text("stop")?.into_iter().collect(),
            ..Sampling::default()
        };
        sampling.check()?;
        let on_error = text("on_error")?;
        let null_on_error = match on_error.as_deref() {
            Some("fail") => false,
            Some("null") => true,
            other => {
                return Err(Error::InvalidValue {
                    object: object("on_error"),
                    reason: format!("is {}", other.map_or("NULL".to_owned(), |other| format!("'{other}'"))),
                    hint: Some("it is 'fail' or 'null'".to_owned()),
                });
            }
        };
        let output = text("output_schema")?.map(|text| OutputSchema::parse(&text, &object("output_schema"))).transpose()?;
        Ok(Self { model: text("model")?, sampling, output, null_on_error })
    }

    fn data_type(&self) -> DataType {
        self.output.as_ref().map_or(DataType::Utf8, OutputSchema::data_type)
    }
}

/// What decides a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    prompt: String,
    system: Option<String>,
    seed: i64,
    /// All options, spelled out.
    options: String,
}

type Outcome = std::result::Result<Arc<Completion>, Arc<DataFusionError>>;
type Pending = Shared<BoxFuture<'static, Outcome>>;

/// The answers of a statement.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    answers: Mutex<HashMap<Question, Known>>,
    /// The start that all prompts so far have in common.
    start: Mutex<Option<Vec<u32>>>,
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

    /// The answer that is there or under way, or the one that `ask` begins.
    async fn answer(self: &Arc<Self>, question: Question, ask: impl Future<Output = Result<Completion>> + Send + 'static) -> Outcome {
        let pending = {
            let mut answers = lock(&self.answers);
            if answers.len() >= REMEMBERED {
                answers.clear();
            }
            let known = answers.get(&question).and_then(|known| match known {
                Known::Answered(outcome) => Some(Ok(outcome.clone())),
                Known::Pending(pending) => pending.upgrade().map(Err),
            });
            match known {
                Some(Ok(outcome)) => return outcome,
                Some(Err(pending)) => pending,
                None => {
                    let (memory, asked) = (Arc::clone(self), question.clone());
                    let pending: Pending = async move {
                        let outcome = ask.await.map(Arc::new).map_err(Arc::new);
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
        pending.await
    }
}

#[async_trait]
impl Work for Generate {
    fn rows(&self) -> Option<usize> {
        Some(1)
    }

    fn calls(&self) -> usize {
        64
    }

    fn parallel(&self) -> bool {
        false
    }

    async fn call(&self, arguments: ScalarFunctionArgs) -> Result<ArrayRef> {
        let rows = arguments.number_rows;
        let argument = |name: &str| DECLARATION.position(name).and_then(|position| arguments.args.get(position));
        let options = Options::new(|name| match argument(name) {
            Some(ColumnarValue::Scalar(value)) => Some(value.clone()),
            _ => None,
        })?;
        let column = |name: &str, data_type: &DataType| match argument(name) {
            Some(value) => Ok(cast(&value.to_array(rows)?, data_type)?),
            None => exec_err!("{} has no argument {name}", DECLARATION.name),
        };
        let (prompts, systems) = (column("prompt", &DataType::Utf8)?, column("system", &DataType::Utf8)?);
        let seeds = column("seed", &DataType::Int64)?;
        let (prompts, systems, seeds) = (prompts.as_string::<i32>(), systems.as_string::<i32>(), seeds.as_primitive::<Int64Type>());
        let mut texts = Vec::with_capacity(rows);
        for row in 0..rows {
            if prompts.is_null(row) || prompts.value(row).trim().is_empty() {
                texts.push(None);
                continue;
            }
            let question = Question {
                prompt: prompts.value(row).to_owned(),
                system: systems.is_valid(row).then(|| systems.value(row).to_owned()),
                seed: if seeds.is_valid(row) { seeds.value(row) } else { 0 },
                options: format!("{options:?}"),
            };
            let ask = ask(Arc::clone(&self.models), Arc::clone(&self.memory), question.clone(), options.clone());
            match self.memory.answer(question, ask).await {
                Ok(completion) => texts.push(Some(completion.text.clone())),
                Err(error) if options.null_on_error && of_the_row(&error) => texts.push(None),
                Err(error) => return Err(DataFusionError::Shared(error)),
            }
        }
        match &options.output {
            None => Ok(Arc::new(datafusion::arrow::array::StringArray::from(texts))),
            Some(output) => output.read(&texts),
        }
    }
}

/// Whether an error is that of a row, so that others may still have an answer.
fn of_the_row(error: &DataFusionError) -> bool {
    let rows_own =
        |error: &ModelError| matches!(error, ModelError::PromptTooLong { .. } | ModelError::CacheMemory { .. } | ModelError::Data { .. });
    matches!(crate::error::find(error), Some(Error::InvalidValue { .. } | Error::Unmet { .. }))
        || matches!(crate::error::find(error), Some(Error::Model(error)) if rows_own(error))
}

async fn ask(models: Arc<Models>, memory: Arc<Memory>, question: Question, options: Options) -> Result<Completion> {
    if question.prompt.len() > LONGEST {
        let reason = format!("has {} bytes, more than {LONGEST}", question.prompt.len());
        return Err(Error::value(format!("argument prompt of {}", DECLARATION.name), reason).into());
    }
    let engine = engine(&models, options.model.as_deref()).await?;
    let met = options.output.is_some();
    let max_tokens = options.sampling.max_tokens;
    let request = request(&engine, &memory, &question, options).map_err(Error::from)?;
    let (sender, receiver) = oneshot::channel();
    let ticket = engine.submit(request, move |answer| drop(sender.send(answer))).map_err(Error::from)?;
    let completion = receiver.await.unwrap_or(Err(ModelError::Stopped)).map_err(Error::from)?;
    drop(ticket);
    if met && completion.finish == Finish::Length {
        return Err(Error::Unmet {
            reason: format!("a text of {} does not fit its output_schema within {max_tokens} tokens", DECLARATION.name),
            hint: "raise max_tokens, ask for shorter values in the prompt, or use on_error => 'null'".to_owned(),
        }
        .into());
    }
    Ok(completion)
}

/// The engine, loaded on a thread that may wait.
pub(crate) async fn engine(models: &Arc<Models>, name: Option<&str>) -> Result<Arc<Engine>> {
    let (models, name) = (Arc::clone(models), name.map(str::to_owned));
    match tokio::task::spawn_blocking(move || models.language(name.as_deref())).await {
        Ok(engine) => Ok(engine.map_err(Error::from)?),
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(Error::Model(ModelError::Canceled).into()),
    }
}

fn request(engine: &Engine, memory: &Memory, question: &Question, options: Options) -> Result<Request, ModelError> {
    let prompt = match engine.chat() {
        Some(chat) => {
            let system = question.system.iter().map(|system| Message::new("system", system));
            let messages: Vec<Message> = system.chain([Message::new("user", &question.prompt)]).collect();
            engine.tokens().encode(&chat.render(&messages, true)?)?
        }
        None => {
            let text = [question.system.as_deref().unwrap_or_default(), &question.prompt].join("\n\n");
            engine.tokens().bos().into_iter().chain(engine.tokens().encode_data(text.trim_start())?).collect()
        }
    };
    let constraint = options.output.as_ref().map(|output| engine.constraint(&Grammar::JsonSchema(output.json_schema()))).transpose()?;
    let shared = memory.shared(&prompt);
    let sampling = Sampling { seed: question.seed.cast_unsigned(), ..options.sampling };
    Ok(Request { prompt, shared, sampling, constraint, adapter: None })
}
