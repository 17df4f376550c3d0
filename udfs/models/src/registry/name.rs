//! Names of models and references to their versions, parsed once at the edge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A model's name: `^[a-z][a-z0-9_]{0,62}$`. It is also the name of its folder, so nothing else is ever joined to a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(String);

impl ModelName {
    /// Checks a name.
    pub fn parse(raw: &str) -> Result<Self> {
        const LONGEST: usize = 63;
        let mut bytes = raw.bytes();
        let starts_well = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let goes_on_well = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if starts_well && goes_on_well && raw.len() <= LONGEST {
            return Ok(Self(raw.to_owned()));
        }
        Err(Error::InvalidName { name: raw.to_owned() })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModelName {
    type Err = Error;

    fn from_str(raw: &str) -> Result<Self> {
        Self::parse(raw)
    }
}

impl TryFrom<String> for ModelName {
    type Error = Error;

    fn try_from(raw: String) -> Result<Self> {
        Self::parse(&raw)
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0
    }
}

/// What a user writes to name a model: `ctr`, `ctr@3` or `ctr@champion`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// The model.
    pub name: ModelName,
    /// Which of its versions.
    pub selector: Selector,
}

/// Which version of a model is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The version named `default`, or the latest one.
    Default,
    /// This version.
    Version(u32),
    /// The version that has this alias.
    Alias(String),
}

impl FromStr for ModelRef {
    type Err = Error;

    fn from_str(raw: &str) -> Result<Self> {
        let invalid = || Error::InvalidName { name: raw.to_owned() };
        let Some((name, selector)) = raw.split_once('@') else {
            return Ok(Self { name: ModelName::parse(raw)?, selector: Selector::Default });
        };
        let name = ModelName::parse(name).map_err(|_| invalid())?;
        let selector = if selector.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
            Selector::Version(selector.parse().ok().filter(|v| *v > 0).ok_or_else(invalid)?)
        } else {
            Selector::Alias(ModelName::parse(selector).map_err(|_| invalid())?.into())
        };
        Ok(Self { name, selector })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Default => write!(f, "{}", self.name),
            Selector::Version(version) => write!(f, "{}@{version}", self.name),
            Selector::Alias(alias) => write!(f, "{}@{alias}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        let long = "a".repeat(64);
        for name in ["", "..", "a/b", "Ctr", "1a", "_a", "a-b", "a b", "ä", "a\0", long.as_str()] {
            assert!(ModelName::parse(name).is_err(), "{name:?}");
        }
        for name in ["a", "ctr_2", &long[..63]] {
            assert_eq!(ModelName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn references_print_as_they_were_written() {
        for text in ["ctr", "ctr@3", "ctr@champion"] {
            assert_eq!(text.parse::<ModelRef>().unwrap().to_string(), text);
        }
        for text in ["ctr@", "ctr@0", "ctr@-1", "ctr@3x", "ctr@99999999999", "@3", "ctr@a@b"] {
            let error = text.parse::<ModelRef>().unwrap_err();
            assert_eq!(error.to_string(), format!("\"{text}\" is not a model name"));
        }
    }
}
