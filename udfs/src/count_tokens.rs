//! `ai.count_tokens(text)`: how long a text is for a language model.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::ask;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::error::Error;
use crate::models::Models;
use crate::usage::Meter;

/// The declaration of `ai.count_tokens`.
pub static DECLARATION: Function = Function {
    name: "ai.count_tokens",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("text", Type::Text, "The text."),
        Parameter::value("model", Type::Text, "The language model; NULL is the installed one, `'smollm2'`.").or("NULL"),
    ],
    returns: Returns::Value(Type::Integer),
    summary: "The number of tokens of a text",
    docs: "What a text costs in a prompt of `ai.generate`, whose chat template adds some tokens of its own. NULL for NULL.",
    example: "SELECT ai.count_tokens('Running shoes, 10% off')",
    errors: &[Failure { sqlstate: "42704", when: "the language model does not exist" }],
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    let signature = DECLARATION.engine_signature(Volatility::Volatile);
    Arc::new(ScalarUDF::from(CountTokens { models: Arc::clone(models), signature }))
}

/// `ai.count_tokens`.
#[derive(Debug, Clone)]
pub(crate) struct CountTokens {
    models: Arc<Models>,
    signature: Signature,
}

impl PartialEq for CountTokens {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.models, &other.models)
    }
}

impl Eq for CountTokens {}

impl Hash for CountTokens {
    fn hash<H: Hasher>(&self, state: &mut H) {
        DECLARATION.name.hash(state);
    }
}

impl ScalarUDFImpl for CountTokens {
    fn name(&self) -> &str {
        DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<datafusion::arrow::datatypes::FieldRef> {
        DECLARATION.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        Ok(Arc::new(datafusion::arrow::datatypes::Field::new(DECLARATION.name, DataType::Int32, true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} is planned as a step", DECLARATION.name)
    }
}

#[async_trait]
impl Work for CountTokens {
    fn parallel(&self) -> bool {
        true
    }

    async fn call(&self, arguments: ScalarFunctionArgs, _: &Arc<Meter>) -> Result<ArrayRef> {
        let model = match arguments.args.get(1) {
            Some(ColumnarValue::Scalar(model)) => model.try_as_str().flatten().map(str::to_owned),
            _ => return Err(Error::value(format!("argument model of {}", DECLARATION.name), "must be a constant").into()),
        };
        let engine = ask::speaker(&self.models, model.as_deref()).await?.engine;
        let Some(texts) = arguments.args.first() else { return exec_err!("{} has no text", DECLARATION.name) };
        let texts = cast(&texts.to_array(arguments.number_rows)?, &DataType::Utf8)?;
        let count = |text: &str| Ok(i32::try_from(engine.tokens().count(text)?).unwrap_or(i32::MAX));
        let counts = texts.as_string::<i32>().iter().map(|text| text.map(count).transpose());
        let counts = counts.collect::<std::result::Result<Int32Array, crate::models::Error>>();
        Ok(Arc::new(counts.map_err(Error::from)?))
    }
}
