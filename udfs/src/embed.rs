//! `ai.embed(text)`: a text as a vector.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, FixedSizeListArray, Float32Array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::ask::Literals;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::encoder::{self, Vector};
use crate::error::Error;
use crate::models::{Error as ModelError, Models};
use crate::usage::Meter;

/// The declaration of `ai.embed`.
pub static DECLARATION: Function = Function {
    name: "ai.embed",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("text", Type::Text, "The text."),
        Parameter::value("model", Type::Text, "The text encoder, one of `ml.encoders`; NULL is the installed one, `'minilm'`.").or("NULL"),
    ],
    returns: Returns::Value(Type::Reals),
    summary: "A text as a vector: texts of like meaning have vectors of like direction",
    docs: "As many numbers as the encoder's `dimension` in `ml.encoders`: 384 for the installed all-MiniLM-L6-v2 (Wang et al. 2020; Reimers and \
           Gurevych 2019), which was made for English. `ai.similarity` compares vectors.\n\n\
           Runs on the machine itself, with one encoder in memory for all sessions. A statement asks only for the rows it returns, and a text \
           that was asked for lately is not computed again. An encoder reads the first `max_tokens` tokens of a text; a notice tells how many \
           texts are longer. NULL stays NULL; an empty text has a vector too.",
    example: "SELECT ai.embed('Running shoes, 10% off')",
    errors: &[
        Failure { sqlstate: "42704", when: "the encoder does not exist" },
        Failure { sqlstate: "22023", when: "`model` is not a constant" },
        Failure { sqlstate: "XX001", when: "the files of the encoder are damaged" },
    ],
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    // Volatile, so that no call runs while a statement is planned.
    let signature = DECLARATION.engine_signature(Volatility::Volatile);
    Arc::new(ScalarUDF::from(Embed { models: Arc::clone(models), signature }))
}

/// `ai.embed`.
#[derive(Debug, Clone)]
pub(crate) struct Embed {
    models: Arc<Models>,
    signature: Signature,
}

impl PartialEq for Embed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.models, &other.models)
    }
}

impl Eq for Embed {}

impl Hash for Embed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        DECLARATION.name.hash(state);
    }
}

impl ScalarUDFImpl for Embed {
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
        let model = model(&DECLARATION, |position| args.scalar_arguments.get(position).copied().flatten().cloned())?;
        let dimension = self.models.encoder_facts(model.as_deref()).map_err(Error::from)?.dimension;
        Ok(Arc::new(Field::new(DECLARATION.name, data_type(dimension), true)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} is planned as a step", DECLARATION.name)
    }
}

/// The argument `model`, which holds for all rows.
pub(crate) fn model(function: &'static Function, value: impl Fn(usize) -> Option<ScalarValue>) -> Result<Option<String>, Error> {
    let value = |name: &str| value(function.position(name)?);
    Literals { function, value: &value }.text("model")
}

/// The argument `model` of a call.
pub(crate) fn model_of(function: &'static Function, arguments: &ScalarFunctionArgs) -> Result<Option<String>, Error> {
    model(function, |position| match arguments.args.get(position) {
        Some(ColumnarValue::Scalar(value)) => Some(value.clone()),
        _ => None,
    })
}

/// The type of a vector.
fn data_type(dimension: usize) -> DataType {
    DataType::FixedSizeList(item(), i32::try_from(dimension).unwrap_or(i32::MAX))
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float32, true))
}

/// Rows of vectors.
fn lists(rows: &[Option<Vector>], dimension: usize) -> Result<ArrayRef> {
    let mut values = Vec::with_capacity(rows.len() * dimension);
    for row in rows {
        match row {
            Some(vector) if vector.len() == dimension => values.extend_from_slice(vector),
            Some(_) => {
                return Err(Error::Model(ModelError::Data {
                    reason: "the encoder was replaced by another one while the statement ran".to_owned(),
                    hint: "run the statement again".to_owned(),
                })
                .into());
            }
            None => values.resize(values.len() + dimension, 0.0),
        }
    }
    let nulls: NullBuffer = rows.iter().map(Option::is_some).collect();
    let values = Arc::new(Float32Array::from(values));
    let dimension = i32::try_from(dimension).unwrap_or(i32::MAX);
    Ok(Arc::new(FixedSizeListArray::try_new(item(), dimension, values, Some(nulls))?))
}

#[async_trait]
impl Work for Embed {
    /// Enough that batches of texts of about one length can be made.
    fn rows(&self) -> Option<usize> {
        Some(1024)
    }

    fn calls(&self) -> usize {
        2
    }

    fn parallel(&self) -> bool {
        false
    }

    fn tells(&self) -> bool {
        true
    }

    async fn call(&self, arguments: ScalarFunctionArgs, meter: &Arc<Meter>) -> Result<ArrayRef> {
        let model = model_of(&DECLARATION, &arguments)?;
        let Some(texts) = arguments.args.first() else { return exec_err!("{} has no text", DECLARATION.name) };
        let texts = encoder::texts(&texts.to_array(arguments.number_rows)?)?;
        let DataType::FixedSizeList(_, dimension) = arguments.return_field.data_type() else {
            return exec_err!("{} has no dimension", DECLARATION.name);
        };
        let rows = encoder::embed(&self.models, model.as_deref(), texts, meter).await?;
        lists(&rows, usize::try_from(*dimension).unwrap_or(0))
    }
}
