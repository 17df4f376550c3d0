//! `ai.generate(prompt)`: a text by a language model.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use stratagem_models::language::{Finish, Grammar, Sampling};

use crate::ask::{Asked, Literals, Manner, Memory, Question};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::error::Error;
use crate::models::Models;
use crate::usage::{Meter, OnError};

mod schema;

use schema::OutputSchema;

/// The declaration of `ai.generate`.
pub static DECLARATION: Function = Function {
    name: "ai.generate",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("prompt", Type::Text, "What to write, for each row."),
        Parameter::value("model", Type::Text, "The language model, or one that `finetune` has made of it (`'copy'`, `'copy@2'`); NULL is the installed one, `'smollm2'`.").or("NULL"),
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
            "`'fail'` ends the statement when a row has no answer, `'null'` makes that row NULL, `'report'` does so with a warning; NULL is the \
             setting `ml.on_error`.",
        )
        .or("NULL"),
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
        Failure { sqlstate: "53400", when: "too many requests are waiting, or `ml.max_tokens_per_query` is used up" },
        Failure { sqlstate: "57014", when: "`ml.timeout` is over" },
        Failure { sqlstate: "53200", when: "the memory for keys and values is too small for a prompt" },
        Failure { sqlstate: "XX001", when: "the files of the model are damaged" },
    ],
};

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

    async fn write(
        &self,
        prompt: &str,
        system: Option<&str>,
        seed: i64,
        asked: &Asked,
        options: &Options,
        meter: &Arc<Meter>,
    ) -> Result<String> {
        let question = Question::new(prompt, system, seed, asked, &format!("argument prompt of {}", DECLARATION.name))?;
        let completion = self.memory.answer(&self.models, question, meter).await.map_err(DataFusionError::Shared)?;
        if options.output.is_some() && completion.finish == Finish::Length {
            let tokens = options.sampling.max_tokens;
            return Err(Error::Unmet {
                reason: format!("a text of {} does not fit its output_schema within {tokens} tokens", DECLARATION.name),
                hint: "raise max_tokens, ask for shorter values in the prompt, or use on_error => 'null'".to_owned(),
            }
            .into());
        }
        Ok(completion.text.clone())
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
    on_error: Option<OnError>,
}

impl Options {
    fn new(value: impl Fn(&str) -> Option<ScalarValue>) -> Result<Self, Error> {
        let constants = Literals { function: &DECLARATION, value: &value };
        let sampling = Sampling {
            max_tokens: constants.count("max_tokens")?,
            temperature: constants.number("temperature")? as f32,
            top_p: constants.number("top_p")? as f32,
            stop: constants.text("stop")?.into_iter().collect(),
            ..Sampling::default()
        };
        sampling.check()?;
        let output = constants.text("output_schema")?;
        let output = output.map(|text| OutputSchema::parse(&text, &constants.object("output_schema"))).transpose()?;
        Ok(Self { model: constants.text("model")?, sampling, output, on_error: constants.on_error()? })
    }

    fn data_type(&self) -> DataType {
        self.output.as_ref().map_or(DataType::Utf8, OutputSchema::data_type)
    }

    fn manner(&self) -> Manner {
        let grammar = self.output.as_ref().map(|output| Grammar::JsonSchema(output.json_schema()));
        Manner { model: self.model.clone(), sampling: self.sampling.clone(), grammar, chat: true }
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

    fn tells(&self) -> bool {
        true
    }

    async fn call(&self, arguments: ScalarFunctionArgs, meter: &Arc<Meter>) -> Result<ArrayRef> {
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
        let asked = Asked::from(options.manner());
        let mut texts = Vec::with_capacity(rows);
        for row in 0..rows {
            if prompts.is_null(row) || prompts.value(row).trim().is_empty() {
                texts.push(None);
                continue;
            }
            let system = systems.is_valid(row).then(|| systems.value(row));
            let seed = if seeds.is_valid(row) { seeds.value(row) } else { 0 };
            match self.write(prompts.value(row), system, seed, &asked, &options, meter).await {
                Ok(text) => texts.push(Some(text)),
                Err(error) => {
                    meter.excuse(error, options.on_error)?;
                    texts.push(None);
                }
            }
        }
        match &options.output {
            None => Ok(Arc::new(datafusion::arrow::array::StringArray::from(texts))),
            Some(output) => output.read(&texts),
        }
    }
}
