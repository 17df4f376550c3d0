//! What can go wrong in a SQL function, as values with a class. They travel inside [`DataFusionError::External`];
//! [`find`] gets them out again.

use datafusion::common::DataFusionError;
use stratagem_models::error::Error as ModelError;

use crate::declaration::Function;
use crate::spelling;

/// Result of this crate where an [`Error`] is still a value of its own.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a SQL function. The message names the object; [`Error::detail`] lists what is expected and [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments do not fit the function's declaration (SQL class: undefined function).
    #[error("{reason}")]
    Call {
        /// What does not fit, with the function's name.
        reason: String,
        /// The function's signature.
        signature: String,
        /// The closest spelling, or another way out.
        hint: Option<String>,
    },
    /// No function has this name (undefined function).
    #[error("function {name} does not exist")]
    NoSuchFunction {
        /// The name that was called.
        name: String,
        /// The closest spelling.
        hint: Option<String>,
    },
    /// Something inside the `query` argument of a table function; the class is that of the source.
    #[error("in the {argument} argument of {function}: {source}")]
    InQuery {
        /// The table function.
        function: &'static str,
        /// The argument that holds the query.
        argument: &'static str,
        /// What is wrong with the query.
        source: Box<DataFusionError>,
    },
    /// A model, its files or the runtime.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A column that is needed is not there (undefined column).
    #[error("{what} needs column \"{column}\", which is not there")]
    NoSuchColumn {
        /// Who needs it, such as `model "ctr@3"`.
        what: String,
        /// The column.
        column: String,
        /// What is expected, and what is there.
        detail: String,
        /// The closest spelling.
        hint: Option<String>,
    },
    /// A name that means several columns (ambiguous column).
    #[error("column \"{column}\" of the row is ambiguous")]
    AmbiguousColumn {
        /// The column.
        column: String,
        /// How to say which one is meant.
        hint: String,
    },
    /// A value of a type that cannot be used there (datatype mismatch).
    #[error("{object} cannot be {actual}")]
    WrongType {
        /// The argument or column.
        object: String,
        /// Its type in SQL's words.
        actual: String,
        /// What is expected.
        detail: Option<String>,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A model of another kind than the one that is needed (wrong object type).
    #[error("model \"{model}\" {reason}")]
    WrongModel {
        /// The model and version.
        model: String,
        /// What it is.
        reason: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// A value out of its range (invalid parameter value).
    #[error("{object} {reason}")]
    InvalidValue {
        /// The argument or column.
        object: String,
        /// What is wrong with it; names the value.
        reason: String,
        /// What is allowed.
        hint: Option<String>,
    },
    /// NULL where it has no meaning (null value not allowed).
    #[error("column \"{column}\" is NULL in {rows} of {total} rows")]
    Nulls {
        /// The column.
        column: String,
        /// How many rows.
        rows: usize,
        /// Of how many.
        total: usize,
        /// What to do about it.
        hint: String,
    },
    /// An answer of a model that is not what was asked for (data exception).
    #[error("{reason}")]
    Unmet {
        /// What was asked for.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// What a session allows its statements is used up (configuration limit exceeded, or query canceled when it is time).
    #[error("{reason}")]
    Spent {
        /// The limit, and how much was used.
        reason: String,
        /// What to do about it.
        hint: String,
        /// Whether it is time that is used up.
        late: bool,
    },
    /// A statement that would do something else than it says (feature not supported).
    #[error("{reason}")]
    Unsupported {
        /// What is refused, and why.
        reason: String,
        /// Another way to say it.
        hint: String,
    },
}

impl Error {
    /// What is expected, and what was found.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Call { signature, .. } => Some(format!("the function is {signature}")),
            Self::InQuery { source, .. } => find(source).and_then(Self::detail),
            Self::NoSuchColumn { detail, .. } => Some(detail.clone()),
            Self::WrongType { detail, .. } => detail.clone(),
            Self::NoSuchFunction { .. }
            | Self::Model(_)
            | Self::WrongModel { .. }
            | Self::AmbiguousColumn { .. }
            | Self::InvalidValue { .. }
            | Self::Nulls { .. }
            | Self::Unmet { .. }
            | Self::Spent { .. }
            | Self::Unsupported { .. } => None,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Call { hint, .. }
            | Self::NoSuchFunction { hint, .. }
            | Self::NoSuchColumn { hint, .. }
            | Self::WrongType { hint, .. }
            | Self::InvalidValue { hint, .. } => hint.clone(),
            Self::InQuery { source, .. } => find(source).and_then(Self::hint),
            Self::Model(error) => model_hint(error),
            Self::WrongModel { hint, .. } => Some((*hint).to_owned()),
            Self::AmbiguousColumn { hint, .. }
            | Self::Nulls { hint, .. }
            | Self::Unmet { hint, .. }
            | Self::Spent { hint, .. }
            | Self::Unsupported { hint, .. } => Some(hint.clone()),
        }
    }

    pub(crate) fn call(function: &Function, reason: impl Into<String>, hint: Option<String>) -> Self {
        Self::Call { reason: reason.into(), signature: function.usage(), hint }
    }

    pub(crate) fn value(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidValue { object: object.into(), reason: reason.into(), hint: None }
    }

    /// The argument `class` names none of a model's classes.
    pub(crate) fn no_such_class(function: &Function, class: &str, model: &str, classes: &[String]) -> Self {
        let known = || classes.iter().map(String::as_str);
        let hint = match spelling::closest(known(), class) {
            Some(close) => format!("did you mean '{close}'?"),
            None => format!("its classes are: {}", known().take(20).collect::<Vec<_>>().join(", ")),
        };
        let reason = format!("is '{class}', which model \"{model}\" does not know");
        Self::InvalidValue { object: format!("argument class of {}", function.name), reason, hint: Some(hint) }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

/// The outermost [`Error`] of this crate inside an error of the engine.
pub fn find(error: &DataFusionError) -> Option<&Error> {
    let mut current: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(found) = current.downcast_ref::<Error>() {
            return Some(found);
        }
        let engine = current.downcast_ref::<DataFusionError>();
        current = match engine {
            // `source` of an external error is the inner error's own source, so look inside here.
            Some(DataFusionError::External(inner)) => inner.as_ref(),
            Some(DataFusionError::Collection(errors)) => errors.first()?,
            _ => match current.downcast_ref::<std::sync::Arc<DataFusionError>>() {
                Some(shared) => shared.as_ref(),
                None => current.source()?,
            },
        };
    }
}

/// A model that does not exist gets the closest spelling before the list of what exists.
fn model_hint(error: &ModelError) -> Option<String> {
    if let ModelError::NoSuchModel { name, known } = error
        && let Some(close) = crate::spelling::closest(known.iter().map(String::as_str), name)
    {
        return Some(format!("did you mean \"{close}\"? {}", error.hint().unwrap_or_default()));
    }
    error.hint()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_under_contexts_and_shared_errors() {
        let inner = DataFusionError::from(Error::value("propensity", "is 0"));
        let wrapped = DataFusionError::Shared(std::sync::Arc::new(inner.context("outer"))).context("more");
        assert_eq!(find(&wrapped).map(ToString::to_string).as_deref(), Some("propensity is 0"));
        assert!(find(&DataFusionError::Plan("other".to_owned())).is_none());
    }

    #[test]
    fn a_misspelt_model_gets_the_closest_name() {
        let error = Error::Model(ModelError::NoSuchModel { name: "crt".into(), known: vec!["churn".into(), "ctr".into()] });
        assert_eq!(error.hint().as_deref(), Some("did you mean \"ctr\"? models: churn, ctr"));
    }
}
