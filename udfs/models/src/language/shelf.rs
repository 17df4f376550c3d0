//! Language models that were imported, each under a name.
//!
//! ```text
//! <folder>/NAME.json     which of the prepared models has this name
//! <folder>/prepared/...  the prepared models, see [`Decoder`]
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::decoder::{Decoder, Form};
use crate::durable;
use crate::error::{Error, Result};
use crate::registry::{ModelName, names_in};

const PREPARED: &str = "prepared";

/// `NAME.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    /// The folder below `prepared`.
    prepared: String,
}

/// A folder of imported language models.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// The folder need not be there: an import makes it.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Whether a path is what [`Shelf::import`] takes: a GGUF file, or a folder with `config.json` and weights in the style of Hugging Face.
    pub fn accepts(source: &Path) -> bool {
        let has = |name: &str| source.join(name).is_file();
        match source.is_dir() {
            true => has("config.json") && (has("model.safetensors") || has("model.safetensors.index.json")),
            false => source.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")),
        }
    }

    /// Prepares a checkpoint and gives it a name; a model that had the name gives way. The checkpoint is not needed any more afterwards.
    pub fn import(&self, name: &ModelName, source: &Path, form: Form) -> Result<Decoder> {
        durable::create_directory(&self.folder)?;
        let decoder = Decoder::prepare(source, &self.folder.join(PREPARED), form)?;
        let prepared = decoder.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let card = serde_json::to_vec(&Card { prepared }).map_err(|e| Error::corrupt(name.as_str(), e))?;
        durable::replace(&self.folder, &file(name), &card)?;
        Ok(decoder)
    }

    /// The model of this name.
    pub fn get(&self, name: &ModelName) -> Result<Option<Decoder>> {
        let path = self.folder.join(file(name));
        let card = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            card => card.map_err(Error::io(&path))?,
        };
        let corrupt = |reason: String| Error::corrupt(path.display().to_string(), reason);
        let card: Card = serde_json::from_slice(&card).map_err(|e| corrupt(e.to_string()))?;
        if card.prepared.contains(['/', '\\']) || card.prepared.starts_with('.') {
            return Err(corrupt(format!("\"{}\" is no name of a folder", card.prepared)));
        }
        Decoder::open(&self.folder.join(PREPARED).join(card.prepared)).map(Some)
    }

    /// The names, sorted.
    pub fn names(&self) -> Result<Vec<ModelName>> {
        names_in(&self.folder)
    }
}

fn file(name: &ModelName) -> String {
    format!("{name}.json")
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;

    #[test]
    fn an_imported_model_has_its_name_until_another_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path().join("language"));
        let name = ModelName::parse("tiny").unwrap();
        assert!(shelf.names().unwrap().is_empty() && shelf.get(&name).unwrap().is_none());
        for (source, family) in [("qwen2.gguf", "qwen2"), ("llama", "llama")] {
            assert!(Shelf::accepts(&fixture(source)), "{source}");
            shelf.import(&name, &fixture(source), Form::default()).unwrap();
            let found = shelf.get(&name).unwrap().unwrap();
            found.verify().unwrap();
            assert_eq!(found.facts().architecture.name(), family);
        }
        assert_eq!(shelf.names().unwrap(), std::slice::from_ref(&name));
        assert!(!Shelf::accepts(folder.path()));
        fs::write(folder.path().join("language/tiny.json"), br#"{"prepared":"../x"}"#).unwrap();
        assert!(matches!(shelf.get(&name), Err(Error::Corrupt { .. })));
    }
}
