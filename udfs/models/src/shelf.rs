//! Models that were imported from checkpoints, each under a name.
//!
//! ```text
//! <folder>/NAME.json     which of the prepared models has this name
//! <folder>/prepared/...  the prepared models, such as [`Decoder`](crate::language::Decoder)s
//! ```

use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Error, Result};
use crate::language::Form;
use crate::registry::{ModelName, names_in};

const PREPARED: &str = "prepared";

/// `NAME.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    /// The folder below `prepared`.
    prepared: String,
}

/// A model that is made of a checkpoint and found in a folder.
pub trait Shelved: Sized {
    /// Whether a path is a checkpoint of such a model.
    fn accepts(source: &Path) -> bool;

    /// Prepares a checkpoint, or finds what was prepared of the same bytes in the same form.
    fn prepare(source: &Path, cache: &Path, form: Form) -> Result<Self>;

    /// Opens a prepared model.
    fn open(folder: &Path) -> Result<Self>;

    /// Its folder.
    fn folder(&self) -> &Path;
}

/// A folder of imported models of one kind.
pub struct Shelf<M> {
    folder: PathBuf,
    kind: PhantomData<fn() -> M>,
}

impl<M> std::fmt::Debug for Shelf<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("folder", &self.folder).finish()
    }
}

impl<M: Shelved> Shelf<M> {
    /// The folder need not be there: an import makes it.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, kind: PhantomData }
    }

    /// Whether a path is what [`Shelf::import`] takes.
    pub fn accepts(source: &Path) -> bool {
        M::accepts(source)
    }

    /// Prepares a checkpoint and gives it a name; a model that had the name gives way. The checkpoint is not needed any more afterwards.
    pub fn import(&self, name: &ModelName, source: &Path, form: Form) -> Result<M> {
        durable::create_directory(&self.folder)?;
        let model = M::prepare(source, &self.folder.join(PREPARED), form)?;
        let prepared = model.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let card = serde_json::to_vec(&Card { prepared }).map_err(|e| Error::corrupt(name.as_str(), e))?;
        durable::replace(&self.folder, &file(name), &card)?;
        Ok(model)
    }

    /// The model of this name.
    pub fn get(&self, name: &ModelName) -> Result<Option<M>> {
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
        M::open(&self.folder.join(PREPARED).join(card.prepared)).map(Some)
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
    use super::*;
    use crate::language::Decoder;
    use crate::language::testing::fixture;

    #[test]
    fn an_imported_model_has_its_name_until_another_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::<Decoder>::new(folder.path().join("language"));
        let name = ModelName::parse("tiny").unwrap();
        assert!(shelf.names().unwrap().is_empty() && shelf.get(&name).unwrap().is_none());
        for (source, family) in [("qwen2.gguf", "qwen2"), ("llama", "llama")] {
            assert!(Shelf::<Decoder>::accepts(&fixture(source)), "{source}");
            shelf.import(&name, &fixture(source), Form::default()).unwrap();
            let found = shelf.get(&name).unwrap().unwrap();
            found.verify().unwrap();
            assert_eq!(found.facts().architecture.name(), family);
        }
        assert_eq!(shelf.names().unwrap(), std::slice::from_ref(&name));
        assert!(!Shelf::<Decoder>::accepts(folder.path()));
        fs::write(folder.path().join("language/tiny.json"), br#"{"prepared":"../x"}"#).unwrap();
        assert!(matches!(shelf.get(&name), Err(Error::Corrupt { .. })));
    }
}
