//! `ai.similarity(a, b)`: how like two texts or vectors are.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use stratagem_models::encoder::cosine;

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::defer::Work;
use crate::embed::model_of;
use crate::encoder::{self, Vector};
use crate::error::Error;
use crate::models::Models;
use crate::usage::Meter;

/// The declaration of `ai.similarity`.
pub static DECLARATION: Function = Function {
    name: "ai.similarity",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("a", Type::TextOrReals, "A text, or a vector such as `ai.embed` gives."),
        Parameter::value("b", Type::TextOrReals, "Another one."),
        Parameter::value("model", Type::Text, "The text encoder, one of `ml.encoders`; NULL is the installed one, `'minilm'`.").or("NULL"),
    ],
    returns: Returns::Value(Type::Double),
    summary: "How like two texts or two vectors are: the cosine of the angle between them",
    docs: "From -1 to 1. A text counts as its vector by `ai.embed`: with the installed encoder, two ways to ask the same are \
           mostly above 0.5. NULL where one of them is NULL or a vector has no direction, as one of zeros.\n\n\
           To compare many texts with one, keep the vectors: `CREATE TABLE v AS SELECT id, ai.embed(title) AS e FROM products`.",
    example: "SELECT ai.similarity('a parcel that came late', 'my delivery is delayed')",
    errors: &[
        Failure { sqlstate: "42704", when: "the encoder does not exist" },
        Failure { sqlstate: "22023", when: "two vectors have different lengths" },
        Failure { sqlstate: "42804", when: "an argument is neither text nor a list of numbers" },
    ],
};

/// The SQL function over the models of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    let signature = DECLARATION.engine_signature(Volatility::Volatile);
    Arc::new(ScalarUDF::from(Similarity { models: Arc::clone(models), signature }))
}

/// `ai.similarity`.
#[derive(Debug, Clone)]
pub(crate) struct Similarity {
    models: Arc<Models>,
    signature: Signature,
}

impl PartialEq for Similarity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.models, &other.models)
    }
}

impl Eq for Similarity {}

impl Hash for Similarity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        DECLARATION.name.hash(state);
    }
}

impl ScalarUDFImpl for Similarity {
    fn name(&self) -> &str {
        DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        DECLARATION.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        Ok(Arc::new(Field::new(DECLARATION.name, DataType::Float64, true)))
    }

    /// Where a call cannot be a step, as in the condition of a join: vectors only.
    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let sides = sides(&arguments)?.map(|side| match side {
            Side::Vectors(rows) => Ok(rows),
            Side::Texts(_) => Err(Error::Unsupported {
                reason: format!("{} of texts cannot be called in this place", DECLARATION.name),
                hint: "make vectors of the texts with ai.embed in subqueries, and compare these".to_owned(),
            }),
        });
        let [a, b] = sides;
        Ok(ColumnarValue::Array(Arc::new(cosines(&a?, &b?, rows)?)))
    }
}

/// An argument.
enum Side {
    Texts(ArrayRef),
    Vectors(Vec<Option<Vector>>),
}

fn sides(arguments: &ScalarFunctionArgs) -> Result<[Side; 2]> {
    let [a, b, ..] = arguments.args.as_slice() else { return exec_err!("{} has two arguments", DECLARATION.name) };
    let side = |name: &str, value: &ColumnarValue| -> Result<Side> {
        let column = value.to_array(arguments.number_rows)?;
        if column.data_type().is_null() {
            return Ok(Side::Vectors(vec![None; column.len()]));
        }
        if Type::Text.accepts(column.data_type()) {
            return encoder::texts(&column).map(Side::Texts);
        }
        if !Type::Reals.accepts(column.data_type()) {
            return Err(Error::value(format!("argument {name} of {}", DECLARATION.name), "is neither text nor numbers").into());
        }
        vectors(&column).map(Side::Vectors)
    };
    Ok([side("a", a)?, side("b", b)?])
}

/// The rows of a list of numbers; one with a NULL in it is NULL.
fn vectors(column: &ArrayRef) -> Result<Vec<Option<Vector>>> {
    let lists = cast(column, &DataType::new_list(DataType::Float32, true))?;
    let lists = lists.as_list::<i32>();
    let row = |list: ArrayRef| {
        let numbers = list.as_primitive::<Float32Type>();
        (numbers.null_count() == 0).then(|| Vector::from(&numbers.values()[..]))
    };
    Ok(lists.iter().map(|list| list.and_then(row)).collect())
}

fn cosines(a: &[Option<Vector>], b: &[Option<Vector>], rows: usize) -> Result<Float64Array> {
    let pair = |row: usize| {
        let (Some(a), Some(b)) = (&a[row], &b[row]) else { return Ok(None) };
        if a.len() != b.len() {
            let reason = format!("has {} numbers, and a has {}", b.len(), a.len());
            return Err(Error::value(format!("argument b of {}", DECLARATION.name), reason));
        }
        Ok(cosine(a, b))
    };
    Ok((0..rows).map(pair).collect::<Result<Float64Array, Error>>()?)
}

#[async_trait]
impl Work for Similarity {
    fn rows(&self) -> Option<usize> {
        Some(1024)
    }

    fn calls(&self) -> usize {
        2
    }

    fn parallel(&self) -> bool {
        false
    }

    fn inline(&self) -> bool {
        true
    }

    fn tells(&self) -> bool {
        true
    }

    async fn call(&self, arguments: ScalarFunctionArgs, meter: &Arc<Meter>) -> Result<ArrayRef> {
        let rows = arguments.number_rows;
        let model = model_of(&DECLARATION, &arguments)?;
        let mut found = Vec::with_capacity(2);
        for side in sides(&arguments)? {
            found.push(match side {
                Side::Texts(texts) => encoder::embed(&self.models, model.as_deref(), texts, meter).await?,
                Side::Vectors(rows) => rows,
            });
        }
        let [a, b] = found.as_slice() else { return Ok(new_null_array(&DataType::Float64, rows)) };
        Ok(Arc::new(cosines(a, b, rows)?))
    }
}
