//! `format(text, ...)`: texts with the values of arguments in them, quoted as SQL wants them where that is asked for.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::functions::{literal, quoted};
use crate::sqlstate::{SqlError, SqlState};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Format(Signature);

impl Format {
    pub(super) fn new() -> Self {
        Self(Signature::variadic_any(Volatility::Immutable))
    }
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = args.args.iter().map(|argument| Ok(cast(&argument.to_array(args.number_rows)?, &DataType::Utf8)?));
        let texts = texts.collect::<Result<Vec<ArrayRef>>>()?;
        let texts: Vec<&StringArray> = texts.iter().map(|text| text.as_string::<i32>()).collect();
        let rows = (0..args.number_rows).map(|row| {
            let mut values = texts.iter().map(|text| text.iter().nth(row).flatten());
            let Some(template) = values.next().flatten() else { return Ok(None) };
            written(template, &values.collect::<Vec<_>>()).map(Some)
        });
        Ok(ColumnarValue::Array(Arc::new(rows.collect::<Result<StringArray, SqlError>>()?)))
    }
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::InvalidParameterValue, message)
}

/// The digits at the front of a text, as a number.
fn number(text: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut digits = String::new();
    while let Some(digit) = text.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    digits.parse().ok()
}

/// The text with values where it says `%[position$][-][width]type`.
fn written(template: &str, values: &[Option<&str>]) -> Result<String, SqlError> {
    let mut out = String::new();
    let mut text = template.chars().peekable();
    let mut next = 0;
    while let Some(c) = text.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if text.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let (mut width, mut left) = (number(&mut text), false);
        if let Some(position) = width
            && text.next_if_eq(&'$').is_some()
        {
            next = position.checked_sub(1).ok_or_else(|| invalid("format specifies argument 0, but arguments are numbered from 1"))?;
            width = None;
        }
        if width.is_none() {
            left = text.next_if_eq(&'-').is_some();
            width = number(&mut text);
        }
        let value = *values.get(next).ok_or_else(|| invalid("too few arguments for format()"))?;
        next += 1;
        let shown = match (text.next(), value) {
            (Some('s'), value) => value.unwrap_or_default().to_owned(),
            (Some('L'), value) => value.map_or_else(|| "NULL".to_owned(), literal),
            (Some('I'), Some(value)) => quoted(value),
            (Some('I'), None) => {
                return Err(SqlError::new(SqlState::NullValueNotAllowed, "null values cannot be formatted as an SQL identifier"));
            }
            (Some(other), _) => return Err(invalid(format!("unrecognized format() type specifier \"{other}\""))),
            (None, _) => return Err(invalid("unterminated format() type specifier")),
        };
        let padding = " ".repeat(width.unwrap_or_default().min(1 << 20).saturating_sub(shown.chars().count()));
        let parts = if left { [&shown, &padding] } else { [&padding, &shown] };
        parts.into_iter().for_each(|part| out.push_str(part));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_the_text_says() {
        // answers of PostgreSQL 15
        let values = [Some("a"), Some("B c"), Some("x'y"), Some("q"), None];
        assert_eq!(written("%s %I %L %% %2$s|%-5s|%5s", &values).expect("text"), "a \"B c\" 'x''y' % B c|x'y  |    q");
        assert_eq!(written("%3$s %1$I", &[Some("a"), Some("2"), Some("c")]).expect("text"), "c a");
        assert_eq!(written("%L", &[None]).expect("text"), "NULL");
        for (template, values) in [("%s", &[][..]), ("%I", &[None]), ("%x", &[Some("a")]), ("%", &[Some("a")]), ("%0$s", &[Some("a")])] {
            assert!(written(template, values).is_err(), "{template}");
        }
    }
}
