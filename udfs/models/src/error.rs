//! What can go wrong in this crate, as values with a class.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with the object it is about. The message says what is wrong; [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No model has this name.
    #[error("model \"{name}\" does not exist")]
    NoSuchModel {
        /// The name that was asked for.
        name: String,
        /// The names that exist, sorted.
        known: Vec<String>,
    },
    /// The model exists, the version does not.
    #[error("model \"{name}\" has no version {version}")]
    NoSuchVersion {
        /// The model's name.
        name: String,
        /// The version that was asked for.
        version: u32,
        /// The highest version there is.
        latest: u32,
    },
    /// The model exists, the alias does not.
    #[error("model \"{name}\" has no alias \"{alias}\"")]
    NoSuchAlias {
        /// The model's name.
        name: String,
        /// The alias that was asked for.
        alias: String,
        /// The aliases the model has, sorted.
        known: Vec<String>,
    },
    /// Not a name of a model, or not a reference to one.
    #[error("\"{name}\" is not a model name")]
    InvalidName {
        /// The text that was given.
        name: String,
    },
    /// Bytes on disk are not what was written.
    #[error("{object} is damaged: {reason}")]
    Corrupt {
        /// The model and version, or the file.
        object: String,
        /// What does not fit.
        reason: String,
    },
    /// A file is whole, but asks for what this crate does not do.
    #[error("{object} cannot be used: {reason}")]
    Unsupported {
        /// The file or folder.
        object: String,
        /// The field and its value.
        reason: String,
    },
    /// The rows cannot be used for this model.
    #[error("{reason}")]
    Data {
        /// What is wrong with the rows.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// A training option is out of its range.
    #[error("invalid value for option \"{option}\": {reason}")]
    InvalidOption {
        /// The option's name.
        option: String,
        /// What is allowed.
        reason: String,
    },
    /// A graph was put together wrongly.
    #[error("graph: {reason}")]
    Graph {
        /// The operation and the shapes that do not fit.
        reason: String,
    },
    /// ONNX Runtime refused a graph or failed while running it.
    #[error("ONNX Runtime: {reason}")]
    Runtime {
        /// The library's own message.
        reason: String,
    },
    /// The ONNX Runtime library cannot be loaded.
    #[error("ONNX Runtime cannot be loaded from {}: {reason}", path.display())]
    RuntimeMissing {
        /// The library's path.
        path: PathBuf,
        /// The loader's message.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// An alias names the version that was to be deleted.
    #[error("version {version} of model \"{name}\" cannot be deleted: it is {}", aliases.join(", "))]
    HasAlias {
        /// The model's name.
        name: String,
        /// The version.
        version: u32,
        /// The aliases of the version, sorted.
        aliases: Vec<String>,
    },
    /// No prompt, or no version of it, has this name.
    #[error("prompt \"{prompt}\" does not exist")]
    NoSuchPrompt {
        /// The name, with the version if one was asked for.
        prompt: String,
        /// The prompts there are, or the versions of this one.
        known: Vec<String>,
    },
    /// Another writer holds the model.
    #[error("model \"{name}\" is being written by someone else")]
    Busy {
        /// The model's name.
        name: String,
    },
    /// The work was stopped on request.
    #[error("training was canceled")]
    Canceled,
    /// Too many requests wait for the language model.
    #[error("the language model is busy: {waiting} requests are waiting")]
    QueueFull {
        /// How many wait.
        waiting: usize,
    },
    /// A prompt, or a prompt with the text to come, is longer than the model or the settings allow.
    #[error("the prompt of {tokens} tokens is longer than the {limit} tokens that fit")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// The most it may have.
        limit: usize,
    },
    /// The memory for keys and values is too small for one request.
    #[error("the request needs {needed} bytes of key-value memory, and {limit} are allowed")]
    CacheMemory {
        /// Bytes it needs.
        needed: usize,
        /// Bytes there may be.
        limit: usize,
    },
    /// A constraint on generated text cannot be read, or cannot be followed.
    #[error("{constraint}: {reason}")]
    Constraint {
        /// What kind of constraint.
        constraint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The language model was shut down before it answered.
    #[error("the language model was stopped")]
    Stopped,
}

impl Error {
    /// What the user can do, as one sentence without a full stop.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchModel { known, .. } if known.is_empty() => Some("no model has been trained yet".to_owned()),
            Self::NoSuchModel { known, .. } => Some(format!("models: {}", list(known))),
            Self::NoSuchVersion { latest, .. } => Some(format!("the latest version is {latest}")),
            Self::NoSuchAlias { known, .. } if known.is_empty() => Some("the model has no aliases".to_owned()),
            Self::NoSuchAlias { known, .. } => Some(format!("aliases: {}", list(known))),
            Self::NoSuchPrompt { known, .. } if known.is_empty() => Some("CREATE PROMPT name AS '...' makes one".to_owned()),
            Self::NoSuchPrompt { known, .. } => Some(format!("prompts: {}", list(known))),
            Self::InvalidName { .. } => Some(
                "a name is a lower-case letter followed by up to 62 lower-case letters, digits or underscores; \
                 a version or an alias follows as in ctr@3 or ctr@champion"
                    .to_owned(),
            ),
            Self::Corrupt { .. } => Some("train or import the model again, or restore it from a backup".to_owned()),
            Self::Unsupported { .. } => Some(
                "supported are llama and qwen2 models as a GGUF file or a folder with config.json and safetensors, and bert, roberta and \
                 xlm-roberta encoders as such a folder with tokenizer.json"
                    .to_owned(),
            ),
            Self::Data { hint, .. } => Some(hint.clone()),
            Self::RuntimeMissing { .. } => Some("run \"make setup\"".to_owned()),
            Self::HasAlias { name, aliases, .. } => {
                let alias = aliases.first().map_or("", String::as_str);
                Some(format!("first ALTER MODEL {name} SET ALIAS {alias} = another version, or ALTER MODEL {name} DROP ALIAS {alias}"))
            }
            Self::Busy { .. } => Some("try again when the other writer is done".to_owned()),
            Self::QueueFull { .. } => Some("try again later, or ask for fewer rows at a time".to_owned()),
            Self::PromptTooLong { .. } => Some("shorten the prompt, or ask for fewer tokens".to_owned()),
            Self::CacheMemory { .. } => Some("shorten the prompt, ask for fewer tokens, or raise the limit".to_owned()),
            Self::InvalidOption { .. }
            | Self::Graph { .. }
            | Self::Runtime { .. }
            | Self::Io { .. }
            | Self::Canceled
            | Self::Constraint { .. }
            | Self::Stopped => None,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn data(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Data { reason: reason.into(), hint: hint.into() }
    }

    pub(crate) fn graph(reason: impl Into<String>) -> Self {
        Self::Graph { reason: reason.into() }
    }

    pub(crate) fn option(option: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidOption { option: option.into(), reason: reason.into() }
    }

    pub(crate) fn unsupported(object: impl Into<String>, reason: impl ToString) -> Self {
        Self::Unsupported { object: object.into(), reason: reason.to_string() }
    }

    pub(crate) fn corrupt(object: impl Into<String>, reason: impl ToString) -> Self {
        Self::Corrupt { object: object.into(), reason: reason.to_string() }
    }
}

impl<R> From<ort::Error<R>> for Error {
    fn from(error: ort::Error<R>) -> Self {
        Self::Runtime { reason: error.message().to_owned() }
    }
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
