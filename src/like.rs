//! `LIKE ... ESCAPE`: the engine knows the backslash alone.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::sqlstate::{SqlError, SqlState};

/// The function that patterns are given to where their escape is another.
pub(crate) const ESCAPE: &str = "like_escape";

/// Registers the function.
pub(crate) fn register(functions: &mut impl FunctionRegistry) -> Result<()> {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
    functions.register_udf(Arc::new(ScalarUDF::from(LikeEscape(signature))))?;
    Ok(())
}

/// `like_escape(pattern, escape)`: the pattern with a backslash in the place of its escape.
#[derive(Debug, PartialEq, Eq, Hash)]
struct LikeEscape(Signature);

impl ScalarUDFImpl for LikeEscape {
    fn name(&self) -> &str {
        ESCAPE
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [patterns, escapes] = [0, 1].map(|at| args.args[at].to_array(args.number_rows));
        let (patterns, escapes) = (patterns?, escapes?);
        let pairs = patterns.as_string::<i32>().iter().zip(escapes.as_string::<i32>());
        let escaped = pairs.map(|pair| match pair {
            (Some(pattern), Some(escape)) => with_backslashes(pattern, escape).map(Some),
            _ => Ok(None),
        });
        Ok(ColumnarValue::Array(Arc::new(escaped.collect::<Result<StringArray, SqlError>>()?)))
    }
}

fn with_backslashes(pattern: &str, escape: &str) -> Result<String, SqlError> {
    let mut characters = escape.chars();
    let escape = characters.next();
    if characters.next().is_some() {
        return Err(SqlError::new(SqlState::InvalidEscapeSequence, "invalid escape string")
            .with_hint("Escape string must be empty or one character."));
    }
    let mut escaped = String::with_capacity(pattern.len() + 1);
    let mut after_escape = false;
    for character in pattern.chars() {
        if Some(character) == escape && !after_escape {
            escaped.push('\\');
            after_escape = true;
            continue;
        }
        if character == '\\' && !after_escape {
            escaped.push('\\');
        }
        escaped.push(character);
        after_escape = false;
    }
    Ok(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_becomes_a_backslash() {
        for (pattern, escape, expected) in
            [("a/_%", "/", "a\\_%"), ("a//b", "/", "a\\/b"), ("a\\b", "/", "a\\\\b"), ("a\\%", "", "a\\\\%"), ("a\\%", "\\", "a\\%")]
        {
            assert_eq!(with_backslashes(pattern, escape).expect("an escape"), expected, "{pattern}");
        }
        assert!(with_backslashes("a", "//").is_err());
    }
}
