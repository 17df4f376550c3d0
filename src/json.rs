//! JSON as PostgreSQL reads it: `->`, `->>`, `#>`, `#>>`, `?`, the casts to json and jsonb, and the functions that say what a value is. The engine has
//! no type for it: a value is its text, that of jsonb with its keys in order and one space behind each colon and comma.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray};
use datafusion::arrow::compute::cast as converted;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DFSchema, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use serde::de::IgnoredAny;

use crate::sqlstate::{SqlError, SqlState};

/// What a function does with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// Checks it.
    Json,
    /// Checks it and puts it in order.
    Jsonb,
    /// The value of a key, or its text.
    Field { text: bool },
    /// The item at a place, from the end where that is negative, or its text.
    Element { text: bool },
    /// The value at the end of a list of keys and places, or its text.
    Path { text: bool },
    /// Whether it has a key, or a text among its items.
    Has,
    /// Its type in a word.
    Type,
    /// How many items it has.
    Length,
}

/// The functions, by their names. Those that PostgreSQL has no function for are behind operators.
const FUNCTIONS: [(&str, What); 16] = [
    ("json", What::Json),
    ("jsonb", What::Jsonb),
    ("json_object_field", What::Field { text: false }),
    ("json_object_field_text", What::Field { text: true }),
    ("json_array_element", What::Element { text: false }),
    ("json_array_element_text", What::Element { text: true }),
    ("json_extract_path_op", What::Path { text: false }),
    ("json_extract_path_text_op", What::Path { text: true }),
    ("json_extract_path", What::Path { text: false }),
    ("jsonb_extract_path", What::Path { text: false }),
    ("json_extract_path_text", What::Path { text: true }),
    ("jsonb_extract_path_text", What::Path { text: true }),
    ("jsonb_exists", What::Has),
    ("json_typeof", What::Type),
    ("jsonb_typeof", What::Type),
    ("json_array_length", What::Length),
];

/// What a function makes of the value of a row.
type Reading<'r> = dyn Fn(usize, &str) -> Result<Option<String>, SqlError> + 'r;

/// Registers the functions and the operators.
pub(crate) fn register(functions: &mut impl FunctionRegistry) -> Result<()> {
    for (name, what) in FUNCTIONS {
        let function = ScalarUDF::from(Function::new(name, what));
        // json_array_length is jsonb_array_length too
        let function = if what == What::Length { function.with_aliases(["jsonb_array_length"]) } else { function };
        functions.register_udf(Arc::new(function))?;
    }
    functions.register_expr_planner(Arc::new(Operators))
}

/// Plans the operators.
#[derive(Debug)]
struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let kind = |side: &Expr| side.get_type(schema).unwrap_or(DataType::Null);
        let (left, right) = (kind(&expr.left), kind(&expr.right));
        if !left.is_string() && !left.is_null() {
            return Ok(PlannerResult::Original(expr));
        }
        let (name, to) = match (&expr.op, right.is_integer()) {
            (BinaryOperator::Arrow, true) => ("json_array_element", Some(DataType::Int64)),
            (BinaryOperator::LongArrow, true) => ("json_array_element_text", Some(DataType::Int64)),
            (BinaryOperator::Arrow, false) => ("json_object_field", Some(DataType::Utf8)),
            (BinaryOperator::LongArrow, false) => ("json_object_field_text", Some(DataType::Utf8)),
            (BinaryOperator::HashArrow, false) => ("json_extract_path_op", None),
            (BinaryOperator::HashLongArrow, false) => ("json_extract_path_text_op", None),
            (BinaryOperator::Question, false) => ("jsonb_exists", Some(DataType::Utf8)),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let Some((_, what)) = FUNCTIONS.iter().find(|(own, _)| *own == name) else { return Ok(PlannerResult::Original(expr)) };
        let right = match to {
            Some(to) => cast(expr.right, to),
            None => expr.right,
        };
        let function = Arc::new(ScalarUDF::from(Function::new(name, *what)));
        let arguments = vec![cast(expr.left, DataType::Utf8), right];
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments))))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    name: &'static str,
    what: What,
    signature: Signature,
}

impl Function {
    fn new(name: &'static str, what: What) -> Self {
        let exact = |types: &[DataType]| Signature::exact(types.to_vec(), Volatility::Immutable);
        let signature = match what {
            What::Json | What::Jsonb | What::Type | What::Length => exact(&[DataType::Utf8]),
            What::Field { .. } | What::Has => exact(&[DataType::Utf8, DataType::Utf8]),
            What::Element { .. } => exact(&[DataType::Utf8, DataType::Int64]),
            What::Path { .. } => Signature::variadic_any(Volatility::Immutable),
        };
        Self { name, what, signature }
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.what {
            What::Has => DataType::Boolean,
            What::Length => DataType::Int32,
            _ => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|value| value.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let [values, keys @ ..] = arrays.as_slice() else { return Err(few().into()) };
        let values = converted(values, &DataType::Utf8)?;
        let values = values.as_string::<i32>();
        let texts = |of: &Reading<'_>| -> Result<ArrayRef> {
            let found = (0..values.len()).map(|row| if values.is_null(row) { Ok(None) } else { of(row, checked(values.value(row))?) });
            Ok(Arc::new(found.collect::<Result<StringArray, SqlError>>()?))
        };
        let text_or_json =
            |found: Option<&str>, text: bool| found.and_then(|found| if text { plain(found) } else { Some(found.to_owned()) });
        let key =
            |row: usize| keys.first().map(|keys| keys.as_string::<i32>()).filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row));
        let result: ArrayRef = match self.what {
            What::Json => texts(&|_, value| Ok(Some(value.to_owned())))?,
            What::Jsonb => texts(&|_, value| Ok(Some(ordered(value))))?,
            What::Type => texts(&|_, value| Ok(Some(kind(value).to_owned())))?,
            What::Field { text } => texts(&|row, value| Ok(key(row).and_then(|key| text_or_json(field(value, key), text))))?,
            What::Element { text } => {
                let Some(places) = keys.first().map(|keys| keys.as_primitive::<Int64Type>()) else { return Err(few().into()) };
                let place = |row: usize| places.is_valid(row).then(|| places.value(row));
                texts(&|row, value| Ok(place(row).and_then(|place| text_or_json(element(value, place), text))))?
            }
            What::Path { text } => {
                let paths = paths(keys, values.len())?;
                texts(&|row, value| {
                    let Some(path) = &paths[row] else { return Ok(None) };
                    Ok(text_or_json(path.iter().try_fold(value, |value, step| inside(value, step)), text))
                })?
            }
            What::Has => {
                let has = |row: usize| -> Result<Option<bool>, SqlError> {
                    let (false, Some(key)) = (values.is_null(row), key(row)) else { return Ok(None) };
                    let value = checked(values.value(row))?;
                    Ok(Some(match kind(value) {
                        "object" => field(value, key).is_some(),
                        "array" => elements(value).into_iter().any(|item| kind(item) == "string" && plain(item).as_deref() == Some(key)),
                        _ => plain(value).as_deref() == Some(key),
                    }))
                };
                Arc::new((0..values.len()).map(has).collect::<Result<BooleanArray, SqlError>>()?)
            }
            What::Length => {
                let length = |row: usize| -> Result<Option<i32>, SqlError> {
                    if values.is_null(row) {
                        return Ok(None);
                    }
                    let value = checked(values.value(row))?;
                    match kind(value) {
                        "array" => Ok(Some(i32::try_from(elements(value).len()).unwrap_or(i32::MAX))),
                        kind => {
                            let what = if kind == "object" { "a non-array" } else { "a scalar" };
                            Err(SqlError::new(SqlState::InvalidParameterValue, format!("cannot get array length of {what}")))
                        }
                    }
                };
                Arc::new((0..values.len()).map(length).collect::<Result<Int32Array, SqlError>>()?)
            }
        };
        Ok(ColumnarValue::Array(result))
    }
}

fn few() -> SqlError {
    SqlError::new(SqlState::UndefinedFunction, "a value and what to read of it are needed")
}

/// The steps of each row: a list of texts, a list as text, or a text for each step.
fn paths(keys: &[ArrayRef], rows: usize) -> Result<Vec<Option<Vec<String>>>> {
    if let [list] = keys
        && let DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) = list.data_type()
    {
        let lists = converted(list, &DataType::new_list(DataType::Utf8, true))?;
        let lists = lists.as_list::<i32>();
        let steps = |row: usize| {
            let items = lists.value(row);
            items.as_string::<i32>().iter().map(|step| step.map(str::to_owned)).collect::<Option<Vec<String>>>()
        };
        return Ok((0..rows).map(|row| if lists.is_null(row) { None } else { steps(row) }).collect());
    }
    let keys = keys.iter().map(|keys| converted(keys, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
    let step = |keys: &ArrayRef, row: usize| keys.is_valid(row).then(|| keys.as_string::<i32>().value(row).to_owned());
    let steps = |row: usize| match keys.as_slice() {
        [alone] => step(alone, row).map(|text| match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            Some("") => Vec::new(),
            Some(inner) => inner.split(',').map(|step| step.trim().trim_matches('"').to_owned()).collect(),
            None => vec![text],
        }),
        keys => keys.iter().map(|keys| step(keys, row)).collect(),
    };
    Ok((0..rows).map(steps).collect())
}

/// The text of a value, if it is JSON, without space around it.
fn checked(text: &str) -> Result<&str, SqlError> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(text.trim_matches([' ', '\t', '\n', '\r'])),
        Err(error) => {
            Err(SqlError::new(SqlState::InvalidTextRepresentation, "invalid input syntax for type json").with_detail(error.to_string()))
        }
    }
}

fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// The text that a value stands for; none for null.
fn plain(value: &str) -> Option<String> {
    match kind(value) {
        "null" => None,
        "string" => serde_json::from_str(value).ok(),
        _ => Some(value.to_owned()),
    }
}

/// The value of a key, the last one where it comes again.
fn field<'v>(value: &'v str, key: &str) -> Option<&'v str> {
    members(value).into_iter().rev().find(|(own, _)| own == key).map(|(_, value)| value)
}

/// The item at a place.
fn element(value: &str, place: i64) -> Option<&str> {
    let items = elements(value);
    let place = if place < 0 { place.checked_add(i64::try_from(items.len()).ok()?)? } else { place };
    items.get(usize::try_from(place).ok()?).copied()
}

/// The value at a key or, of an array, a place.
fn inside<'v>(value: &'v str, step: &str) -> Option<&'v str> {
    if kind(value) == "array" { element(value, step.parse().ok()?) } else { field(value, step) }
}

/// The keys and values of an object.
fn members(value: &str) -> Vec<(String, &str)> {
    let mut members = Vec::new();
    if kind(value) == "object" {
        for member in parts(value) {
            let end = end(member, 0);
            let Some(value) = member[end..].trim_start().strip_prefix(':') else { continue };
            members.push((serde_json::from_str(&member[..end]).unwrap_or_default(), value.trim()));
        }
    }
    members
}

/// The items of an array.
fn elements(value: &str) -> Vec<&str> {
    if kind(value) == "array" { parts(value) } else { Vec::new() }
}

/// What lies between the commas of an object or an array.
fn parts(value: &str) -> Vec<&str> {
    let inner = value[1..value.len() - 1].trim();
    let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
    while at < inner.len() {
        match inner.as_bytes()[at] {
            b',' => {
                parts.push(inner[from..at].trim());
                at += 1;
                from = at;
            }
            b'"' | b'{' | b'[' => at = end(inner, at),
            _ => at += 1,
        }
    }
    if !inner.is_empty() {
        parts.push(inner[from..].trim());
    }
    parts
}

/// Where the string, object or array ends that begins at a place.
fn end(text: &str, from: usize) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate().skip(from) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && !quoted {
            return at + 1;
        }
    }
    text.len()
}

/// The value as jsonb shows it: of each key the last value, short keys first, then in the order of their bytes.
fn ordered(value: &str) -> String {
    match kind(value) {
        "object" => {
            let mut members = members(value);
            members.reverse();
            members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
            members.dedup_by(|next, kept| next.0 == kept.0);
            let member = |(key, value): (String, &str)| format!("{}: {}", serde_json::Value::String(key), ordered(value));
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(", "))
        }
        "array" => format!("[{}]", elements(value).into_iter().map(ordered).collect::<Vec<_>>().join(", ")),
        "string" => plain(value).map_or_else(|| value.to_owned(), |text| serde_json::Value::String(text).to_string()),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_they_are_written() {
        let value = checked(r#" {"a": [1, {"b": "x,]}\"\u00e9"}, null], "c" : 1.10 , "a,b":{} } "#).expect("JSON");
        assert_eq!(field(value, "c"), Some("1.10"));
        assert_eq!(field(value, "a,b"), Some("{}"));
        let items = field(value, "a").expect("a");
        assert_eq!(
            (element(items, 0), element(items, -1), element(items, 3), element(items, i64::MIN)),
            (Some("1"), Some("null"), None, None)
        );
        assert_eq!(inside(element(items, 1).expect("an object"), "b").and_then(plain).as_deref(), Some("x,]}\"é"));
        assert_eq!((elements("[]").len(), members("{}").len(), field("[1]", "a"), element("{}", 0)), (0, 0, None, None));
        for bad in ["", "{", "{'a':1}", "[1,]", "1 2"] {
            assert_eq!(checked(bad).expect_err(bad).state, SqlState::InvalidTextRepresentation);
        }
    }

    #[test]
    fn jsonb_is_in_order() {
        assert_eq!(ordered(r#"{"bb":1,"a":{"z":[true,null] , "y":"\u0041"},"bb":2}"#), r#"{"a": {"y": "A", "z": [true, null]}, "bb": 2}"#);
    }
}
