//! Prompt templates: texts with places for values, kept under a name in numbered versions.
//!
//! ```text
//! <folder>/NAME.json   the versions of a prompt, and the highest number that was ever given
//! ```
//!
//! A template is written in the Jinja language. Values are data: each text stands between double quotes, on one line, without what could end the
//! quotes, and is cut when it is long, so that no value can pass for an instruction of the template.

mod template;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

pub use self::template::{Template, Value};
use crate::durable::{self, Lock, Sharing};
use crate::error::{Error, Result};
use crate::registry::{ModelName, ModelRef, Selector, names_in};

/// How long a writer waits for another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// One version of a prompt.
#[derive(Debug)]
pub struct Prompt {
    /// Its name.
    pub name: ModelName,
    /// Its version, from 1.
    pub version: u32,
    /// When it was made, as RFC 3339 in UTC.
    pub created_at: String,
    /// Its text.
    pub template: Template,
}

impl Prompt {
    fn new(name: ModelName, version: u32, Text { created_at, text }: Text) -> Result<Self> {
        let template = Template::parse(&format!("prompt \"{name}@{version}\""), &text)?;
        Ok(Self { name, version, created_at, template })
    }
}

impl std::fmt::Display for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// A folder of prompts. Many processes may use one folder at a time.
#[derive(Debug)]
pub struct Prompts {
    folder: PathBuf,
}

/// `NAME.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    highest: u32,
    versions: BTreeMap<u32, Text>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    created_at: String,
    text: String,
}

impl Prompts {
    /// The folder need not be there: the first prompt makes it.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Saves the next version of a prompt and returns its number, which is higher than every earlier one of the name.
    ///
    /// # Errors
    /// [`Error::Data`] when the text is no template.
    pub fn create(&self, name: &ModelName, text: &str) -> Result<u32> {
        Template::parse(&format!("prompt \"{name}\""), text)?;
        durable::create_directory(&self.folder)?;
        let _lock = self.lock(name)?;
        let mut card = self.card(name)?.unwrap_or_default();
        card.highest += 1;
        let created_at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        card.versions.insert(card.highest, Text { created_at, text: text.to_owned() });
        self.write(name, &card)?;
        Ok(card.highest)
    }

    /// The version that a reference means now: `welcome` is the latest, `welcome@2` that one.
    ///
    /// # Errors
    /// [`Error::NoSuchPrompt`].
    pub fn get(&self, reference: &str) -> Result<Prompt> {
        let parsed: ModelRef = reference.parse()?;
        let mut card = self.card(&parsed.name)?.unwrap_or_default();
        let version = match parsed.selector {
            Selector::Default => card.versions.keys().next_back().copied(),
            Selector::Version(version) => Some(version),
            Selector::Alias(_) => None,
        };
        let found = version.and_then(|version| Some((version, card.versions.remove(&version)?)));
        let Some((version, text)) = found else { return Err(self.missing(reference, &parsed.name, &card)) };
        Prompt::new(parsed.name, version, text)
    }

    /// Whether there is such a prompt, or such a version of it.
    ///
    /// # Errors
    /// [`Error::NoSuchPrompt`] where there is none.
    pub fn contains(&self, name: &ModelName, version: Option<u32>) -> Result<()> {
        self.holding(name, version).map(drop)
    }

    /// The card that has a version, or any.
    fn holding(&self, name: &ModelName, version: Option<u32>) -> Result<Card> {
        let card = self.card(name)?.unwrap_or_default();
        if version.map_or(!card.versions.is_empty(), |version| card.versions.contains_key(&version)) {
            return Ok(card);
        }
        let reference = version.map_or(name.to_string(), |version| format!("{name}@{version}"));
        Err(self.missing(&reference, name, &card))
    }

    /// All versions of all prompts, by name and number.
    pub fn list(&self) -> Result<Vec<Prompt>> {
        let mut all = Vec::new();
        for name in names_in(&self.folder)? {
            for (version, text) in self.card(&name)?.unwrap_or_default().versions {
                all.push(Prompt::new(name.clone(), version, text)?);
            }
        }
        Ok(all)
    }

    /// The names of all prompts that have a version, sorted.
    pub fn names(&self) -> Result<Vec<ModelName>> {
        let mut names = Vec::new();
        for name in names_in(&self.folder)? {
            if self.card(&name)?.is_some_and(|card| !card.versions.is_empty()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Deletes a version, or with `None` all versions of a prompt. Their numbers are not given again.
    ///
    /// # Errors
    /// [`Error::NoSuchPrompt`].
    pub fn remove(&self, name: &ModelName, version: Option<u32>) -> Result<()> {
        // Without the folder there is nothing to lock.
        self.contains(name, version)?;
        let _lock = self.lock(name)?;
        let mut card = self.holding(name, version)?;
        match version {
            Some(version) => drop(card.versions.remove(&version)),
            None => card.versions.clear(),
        }
        self.write(name, &card)
    }

    fn card(&self, name: &ModelName) -> Result<Option<Card>> {
        let path = self.folder.join(file(name));
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path)(error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::corrupt(format!("prompt \"{name}\""), e)),
        }
    }

    fn write(&self, name: &ModelName, card: &Card) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(card).map_err(|e| Error::corrupt(format!("prompt \"{name}\""), e))?;
        durable::replace(&self.folder, &file(name), &bytes)
    }

    fn lock(&self, name: &ModelName) -> Result<Lock> {
        Lock::take(self.folder.join(".lock"), Sharing::Exclusive, PATIENCE)?.ok_or_else(|| Error::Busy { name: name.to_string() })
    }

    fn missing(&self, reference: &str, name: &ModelName, card: &Card) -> Error {
        let known = match card.versions.is_empty() {
            true => self.names().unwrap_or_default().iter().map(ToString::to_string).collect(),
            false => card.versions.keys().map(|version| format!("{name}@{version}")).collect(),
        };
        Error::NoSuchPrompt { prompt: reference.to_owned(), known }
    }
}

fn file(name: &ModelName) -> String {
    format!("{name}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ModelName {
        ModelName::parse(name).unwrap()
    }

    #[test]
    fn versions_stay_and_their_numbers_are_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let prompts = Prompts::new(folder.path().join("prompts"));
        assert!(prompts.names().unwrap().is_empty() && prompts.list().unwrap().is_empty());
        assert_eq!(prompts.create(&name("welcome"), "Hello {{first_name}}").unwrap(), 1);
        assert_eq!(prompts.create(&name("welcome"), "Good day {{first_name}}").unwrap(), 2);
        assert_eq!(prompts.get("welcome").unwrap().to_string(), "welcome@2");
        assert_eq!(prompts.get("welcome@1").unwrap().template.text(), "Hello {{first_name}}");
        prompts.remove(&name("welcome"), Some(2)).unwrap();
        assert_eq!(prompts.get("welcome").unwrap().version, 1);
        assert_eq!(prompts.create(&name("welcome"), "Again").unwrap(), 3);
        prompts.remove(&name("welcome"), None).unwrap();
        assert!(prompts.names().unwrap().is_empty());
        assert!(matches!(prompts.remove(&name("welcome"), None), Err(Error::NoSuchPrompt { .. })));
        assert_eq!(prompts.create(&name("welcome"), "New").unwrap(), 4);
        // Another process sees the same.
        assert_eq!(Prompts::new(folder.path().join("prompts")).list().unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let folder = tempfile::tempdir().unwrap();
        let prompts = Prompts::new(folder.path().to_owned());
        prompts.create(&name("welcome"), "Hello").unwrap();
        let told = |reference: &str| {
            let error = prompts.get(reference).unwrap_err();
            (error.to_string(), error.hint().unwrap())
        };
        assert_eq!(told("welcom"), ("prompt \"welcom\" does not exist".to_owned(), "prompts: welcome".to_owned()));
        assert_eq!(told("welcome@7"), ("prompt \"welcome@7\" does not exist".to_owned(), "prompts: welcome@1".to_owned()));
        fs::write(folder.path().join("welcome.json"), "{").unwrap();
        assert!(matches!(prompts.get("welcome"), Err(Error::Corrupt { .. })));
    }
}
