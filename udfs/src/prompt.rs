//! `ai.prompt(prompt, row)`: a prompt template filled in with a row.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use stratagem_models::prompt::{Prompt, Value};

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type, sql_type};
use crate::error::Error;
use crate::models::Models;
use crate::spelling;

/// The declaration of `ai.prompt`.
pub static DECLARATION: Function = Function {
    name: "ai.prompt",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("prompt", Type::Text, "The prompt: `'welcome'` (its latest version) or `'welcome@2'`."),
        Parameter::row("row", "The row whose columns fill it in: a table alias, `name => value` for each variable, or both."),
    ],
    returns: Returns::Value(Type::Text),
    summary: "A prompt that was made by CREATE PROMPT, filled in with a row",
    docs: "Each `{{variable}}` of the template is the column of that name. Values are data: a text stands between double quotes on one line, has \
           no sign that could end them, and is cut after 400 characters; numbers and truth values stand as they are, and NULL reads `none`. \
           Whether all variables are there is checked before the first row is read. Give the result to `ai.generate`.\n\n\
           Templates are in the Jinja language, so `{{name|upper}}` and `{% if offer %}...{% endif %}` work too.",
    example: "SELECT customer_id, ai.prompt('welcome', c) FROM customers c",
    errors: &[
        Failure { sqlstate: "42704", when: "the prompt or its version does not exist" },
        Failure { sqlstate: "42703", when: "a variable of the prompt is no column of the row" },
        Failure { sqlstate: "42804", when: "a variable is a list or a row" },
        Failure { sqlstate: "22023", when: "the prompt is not a constant, or its template fails" },
        Failure { sqlstate: "XX001", when: "the file of the prompt is damaged" },
    ],
};

/// The SQL function over the prompts of a server.
pub(crate) fn function(models: &Arc<Models>) -> Arc<ScalarUDF> {
    let signature = DECLARATION.engine_signature(Volatility::Stable);
    Arc::new(ScalarUDF::from(Render { models: Arc::clone(models), signature, held: None }))
}

/// `ai.prompt`.
#[derive(Debug, Clone)]
pub(crate) struct Render {
    models: Arc<Models>,
    signature: Signature,
    /// The version, once it is settled for the statement.
    held: Option<Arc<Prompt>>,
}

impl Render {
    /// The function for calls with this version.
    pub(crate) fn with(&self, held: Arc<Prompt>) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { held: Some(held), ..self.clone() }))
    }

    /// The prompt that a constant argument names.
    pub(crate) fn reference(argument: &ScalarValue) -> Result<&str, Error> {
        let object = || format!("argument prompt of {}", DECLARATION.name);
        argument.try_as_str().flatten().ok_or_else(|| Error::value(object(), if argument.is_null() { "is NULL" } else { "is not a text" }))
    }

    /// The error for a prompt that is not known before the rows.
    pub(crate) fn not_constant() -> Error {
        Error::InvalidValue {
            object: format!("argument prompt of {}", DECLARATION.name),
            reason: "must be a constant".to_owned(),
            hint: Some("for several prompts, write one call for each in a CASE".to_owned()),
        }
    }

    fn prompt(&self, argument: &ScalarValue) -> Result<Arc<Prompt>, Error> {
        match &self.held {
            Some(held) => Ok(Arc::clone(held)),
            None => Ok(Arc::new(self.models.prompts().get(Self::reference(argument)?)?)),
        }
    }
}

impl PartialEq for Render {
    fn eq(&self, other: &Self) -> bool {
        let version = |render: &Self| render.held.as_ref().map(ToString::to_string);
        Arc::ptr_eq(&self.models, &other.models) && version(self) == version(other)
    }
}

impl Eq for Render {}

impl Hash for Render {
    fn hash<H: Hasher>(&self, state: &mut H) {
        DECLARATION.name.hash(state);
    }
}

impl ScalarUDFImpl for Render {
    fn name(&self) -> &str {
        DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        DECLARATION.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        let [Some(prompt), ..] = args.scalar_arguments else { return Err(Self::not_constant().into()) };
        let prompt = self.prompt(prompt)?;
        check(&prompt, fields(&args.arg_fields[1]), &[])?;
        Ok(Arc::new(Field::new(DECLARATION.name, DataType::Utf8, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(prompt), row] = args.args.as_slice() else { return Err(Self::not_constant().into()) };
        let prompt = self.prompt(prompt)?;
        let constant = matches!(row, ColumnarValue::Scalar(_));
        let row = row.to_array(if constant { 1 } else { args.number_rows })?;
        let Some(row) = row.as_struct_opt() else { return exec_err!("{} has no row", DECLARATION.name) };
        let values = Variables::new(&prompt, row.fields(), row.columns())?;
        let texts = (0..row.len()).map(|place| match row.is_null(place) {
            true => Ok(None),
            false => prompt.template.render(values.at(place)).map(Some),
        });
        let texts: StringArray = texts.collect::<Result<_, crate::models::Error>>().map_err(Error::from)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(texts)))
    }
}

/// The columns of a row argument.
fn fields(argument: &Field) -> &[FieldRef] {
    if let DataType::Struct(fields) = argument.data_type() { fields } else { &[] }
}

/// Whether a row has all variables of a prompt, in types that can be written; `more` are there besides.
pub(crate) fn check(prompt: &Prompt, row: &[FieldRef], more: &[&str]) -> Result<(), Error> {
    for variable in prompt.template.variables() {
        if more.contains(&variable.as_str()) {
            continue;
        }
        let what = format!("prompt \"{prompt}\"");
        let Some(field) = row.iter().find(|field| field.name() == variable) else {
            let names: Vec<&str> = row.iter().map(|field| field.name().as_str()).chain(more.iter().copied()).collect();
            return Err(Error::NoSuchColumn {
                what,
                column: variable.clone(),
                detail: format!("its variables are {}; the row has {}", prompt.template.variables().join(", "), names.join(", ")),
                hint: Some(match spelling::closest(names, variable) {
                    Some(close) => format!("did you mean {close}? Otherwise name it in the call: {variable} => ..."),
                    None => format!("name it in the call: {variable} => ..."),
                }),
            });
        };
        if field.data_type().is_nested() {
            return Err(Error::WrongType {
                object: format!("variable \"{variable}\" of {what}"),
                actual: sql_type(field.data_type()),
                detail: None,
                hint: Some("give a text: array_to_string(list, ', ')".to_owned()),
            });
        }
    }
    Ok(())
}

/// The columns that fill in a prompt.
pub(crate) struct Variables<'a>(Vec<(&'a str, ArrayRef)>);

impl<'a> Variables<'a> {
    /// The variables of a prompt that the row has.
    pub(crate) fn new(prompt: &'a Prompt, fields: &[FieldRef], columns: &[ArrayRef]) -> Result<Self> {
        let mut variables = Vec::new();
        for name in prompt.template.variables() {
            let Some(place) = fields.iter().position(|field| field.name() == name) else { continue };
            let column = &columns[place];
            let readable = match column.data_type() {
                DataType::Boolean => DataType::Boolean,
                DataType::UInt64 => DataType::Utf8,
                integer if integer.is_integer() => DataType::Int64,
                number if number.is_numeric() => DataType::Float64,
                _ => DataType::Utf8,
            };
            variables.push((name.as_str(), cast(column, &readable)?));
        }
        Ok(Self(variables))
    }

    /// The values of a row.
    pub(crate) fn at(&self, place: usize) -> impl Iterator<Item = (&'a str, Value<'_>)> {
        self.0.iter().map(move |(name, column)| {
            let value = match column.data_type() {
                _ if column.is_null(place) => Value::Null,
                DataType::Boolean => Value::Boolean(column.as_boolean().value(place)),
                DataType::Int64 => Value::Integer(column.as_primitive::<Int64Type>().value(place)),
                DataType::Float64 => Value::Number(column.as_primitive::<Float64Type>().value(place)),
                _ => Value::Text(column.as_string::<i32>().value(place)),
            };
            (*name, value)
        })
    }
}
