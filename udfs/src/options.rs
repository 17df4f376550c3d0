//! The constant arguments of a call.

use std::ops::RangeInclusive;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::ScalarValue;

use crate::declaration::{Function, Presence, Type, sql_type};
use crate::error::{Error, Result};
use crate::spelling;

/// The constant arguments of a call, by parameter.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    function: &'static Function,
    values: Vec<Option<ScalarValue>>,
}

impl Options {
    /// The arguments of a call; one that is not a constant is `None`.
    pub(crate) fn new(function: &'static Function, values: impl IntoIterator<Item = Option<ScalarValue>>) -> Self {
        Self { function, values: values.into_iter().collect() }
    }

    /// The same, with the declared default for an option that is NULL.
    pub(crate) fn with_defaults(function: &'static Function, values: impl IntoIterator<Item = Option<ScalarValue>>) -> Self {
        let mut options = Self::new(function, values);
        for (parameter, value) in function.parameters.iter().zip(&mut options.values) {
            if let (Presence::Default(literal), Some(given)) = (parameter.presence, value.as_mut())
                && given.is_null()
                && literal != "NULL"
            {
                // As text: it takes the parameter's type like a quoted literal.
                *given = ScalarValue::from(literal.trim_matches('\''));
            }
        }
        options
    }

    /// Whether an option is NULL, which is its default.
    pub(crate) fn is_null(&self, name: &str) -> bool {
        let position = self.function.position(name);
        position.and_then(|position| self.values.get(position)?.as_ref()).is_some_and(ScalarValue::is_null)
    }

    /// Whether all arguments after the first `columns` are known.
    pub(crate) fn known(&self, columns: usize) -> bool {
        self.values.iter().skip(columns).all(Option::is_some)
    }

    pub(crate) fn object(&self, name: &str) -> String {
        format!("argument {name} of {}", self.function.name)
    }

    fn value(&self, name: &str) -> Result<ScalarValue> {
        let position = self.function.position(name).expect("functions ask for parameters of their own declaration");
        let data_type = self.function.parameters[position].data_type;
        let Some(value) = self.values.get(position).and_then(Option::as_ref) else {
            return Err(Error::value(self.object(name), "must be a constant"));
        };
        let actual = value.data_type();
        // Text is what a parameter without a type arrives as, and what a quoted literal is before it has one.
        if !data_type.accepts(&actual) && !Type::Text.accepts(&actual) {
            return Err(Error::WrongType {
                object: self.object(name),
                actual: sql_type(&actual),
                detail: Some(format!("the function is {}", self.function.signature())),
                hint: Some(format!("it takes {}", data_type.sql())),
            });
        }
        let cast = value.cast_to(&data_type.arrow()).map_err(|_| Error::value(self.object(name), format!("cannot be {value}")))?;
        if cast.is_null() { Err(Error::value(self.object(name), "is NULL")) } else { Ok(cast) }
    }

    pub(crate) fn text(&self, name: &str) -> Result<String> {
        Ok(self.value(name)?.try_as_str().flatten().unwrap_or_default().to_owned())
    }

    /// One of a few words.
    pub(crate) fn word(&self, name: &str, words: &[&'static str]) -> Result<&'static str> {
        let given = self.text(name)?;
        if let Some(word) = words.iter().find(|word| word.eq_ignore_ascii_case(&given)) {
            return Ok(word);
        }
        let close = spelling::closest(words.iter().copied(), &given);
        Err(Error::InvalidValue {
            object: self.object(name),
            reason: format!("is '{given}', but must be one of {}", words.join(", ")),
            hint: close.map(|close| format!("did you mean '{close}'?")),
        })
    }

    /// A whole number within limits.
    pub(crate) fn whole(&self, name: &str, limits: RangeInclusive<i64>) -> Result<i64> {
        let value = match self.value(name)? {
            ScalarValue::Int32(value) => value.map(i64::from),
            ScalarValue::Int64(value) => value,
            _ => None,
        };
        match value {
            Some(value) if limits.contains(&value) => Ok(value),
            value => {
                let reason = format!("is {}, but must be from {} to {}", value.unwrap_or_default(), limits.start(), limits.end());
                Err(Error::value(self.object(name), reason))
            }
        }
    }

    /// A number within limits.
    pub(crate) fn double(&self, name: &str, limits: RangeInclusive<f64>) -> Result<f64> {
        let value = if let ScalarValue::Float64(Some(value)) = self.value(name)? { value } else { f64::NAN };
        if limits.contains(&value) {
            return Ok(value);
        }
        Err(Error::value(self.object(name), format!("is {value}, but must be from {} to {}", limits.start(), limits.end())))
    }

    /// A list of numbers without NULL.
    pub(crate) fn doubles(&self, name: &str) -> Result<Vec<f64>> {
        let ScalarValue::List(list) = self.value(name)? else { return Ok(vec![]) };
        let items = list.value(0);
        if items.null_count() > 0 {
            return Err(Error::value(self.object(name), "has a NULL in it"));
        }
        Ok(items.as_primitive::<Float64Type>().values().to_vec())
    }
}
