//! The language models of a server: the installed one and those that were imported, each with one engine, shared by all sessions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stratagem_models::language::{Adapter, Decoder, Engine};
pub use stratagem_models::language::{Facts, Form, Limits, Precision};
use stratagem_models::runtime::Runtime;
use stratagem_models::shelf::{self, Shelved};

use crate::models::{Error, ModelName, Result};
use crate::resident::Resident;

/// The most engines at a time.
const RESIDENT: usize = 4;

/// The most changes of them in memory.
const ADAPTERS: usize = 16;

/// Imported language models.
type Shelf = shelf::Shelf<Decoder>;

/// Whether a path is a language model that can be imported.
pub fn accepts(source: &Path) -> bool {
    Decoder::accepts(source)
}

/// A language model or an encoder on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its name in SQL.
    pub name: String,
    /// A GGUF file, or a folder in the style of Hugging Face.
    pub source: PathBuf,
    /// Where what is made of it is kept.
    pub cache: PathBuf,
}

/// Where an installed model is, asked for when it is first needed; an error is one sentence with the command that repairs it.
pub type Installed = Box<dyn Fn() -> std::result::Result<Checkpoint, String> + Send + Sync>;

/// The language models, in memory once they were needed.
pub(crate) struct Languages {
    installed: Installed,
    shelf: Shelf,
    limits: Limits,
    resident: Resident<Engine>,
    adapters: Resident<Adapter>,
}

/// What is known of a language model without loading it.
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) installed: bool,
    pub(crate) facts: Facts,
    /// How it was prepared; the installed one is prepared when it is first asked.
    pub(crate) form: Form,
    pub(crate) sha256: Option<String>,
    /// Whether its engine is there and its weights are in memory.
    pub(crate) loaded: bool,
}

impl Languages {
    pub(crate) fn new(installed: Installed, folder: PathBuf, limits: Limits) -> Self {
        Self { installed, shelf: Shelf::new(folder), limits, resident: Resident::new(RESIDENT), adapters: Resident::new(ADAPTERS) }
    }

    fn installed(&self) -> Result<Checkpoint> {
        (self.installed)().map_err(|reason| Error::RuntimeMissing { path: "the installed language model".into(), reason })
    }

    /// The imported model of this name; none is the installed one.
    fn imported(&self, name: Option<&str>) -> Result<Option<(ModelName, Decoder)>> {
        let Some(raw) = name else { return Ok(None) };
        let found = ModelName::parse(raw).ok().map(|name| self.shelf.get(&name).map(|found| found.map(|decoder| (name, decoder))));
        match found.transpose()?.flatten() {
            Some(found) => Ok(Some(found)),
            None if self.installed()?.name == raw => Ok(None),
            None => {
                let mut known = vec![self.installed()?.name];
                known.extend(self.shelf.names()?.into_iter().map(|name| name.to_string()));
                Err(Error::NoSuchModel { name: raw.to_owned(), known })
            }
        }
    }

    /// The name of the model that a name, or none, stands for.
    pub(crate) fn name(&self, name: Option<&str>) -> Result<String> {
        match self.imported(name)? {
            Some((name, _)) => Ok(name.to_string()),
            None => Ok(self.installed()?.name),
        }
    }

    /// The model of this name, or the installed one. The first call loads it, and prepares the installed one, which takes seconds.
    pub(crate) fn engine(&self, name: Option<&str>, runtime: impl FnOnce() -> Result<Arc<Runtime>>) -> Result<Arc<Engine>> {
        let imported = self.imported(name)?;
        let key = imported.as_ref().map(|(name, decoder)| format!("{name} {}", decoder.folder().display())).unwrap_or_default();
        self.resident.get(key, || Engine::start(&runtime()?, &self.files(imported.map(|(_, decoder)| decoder))?, self.limits))
    }

    /// The files of an imported model, or of the installed one.
    fn files(&self, imported: Option<Decoder>) -> Result<Decoder> {
        if let Some(decoder) = imported {
            return Ok(decoder);
        }
        let Checkpoint { source, cache, .. } = self.installed()?;
        Decoder::prepare(&source, &cache, Form::default())
    }

    /// The files of the model of this name, or of the installed one.
    pub(crate) fn decoder(&self, name: Option<&str>) -> Result<Decoder> {
        self.files(self.imported(name)?.map(|(_, decoder)| decoder))
    }

    /// Whether there is a model of this name.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        match self.imported(Some(name)) {
            Ok(_) => Ok(true),
            Err(Error::NoSuchModel { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The changes that `load` reads, kept in memory under a key.
    pub(crate) fn adapter(&self, key: String, load: impl FnOnce() -> Result<Arc<Adapter>>) -> Result<Arc<Adapter>> {
        self.adapters.get(key, load)
    }

    /// Prepares a checkpoint under a name of its own.
    pub(crate) fn import(&self, name: &ModelName, source: &Path, form: Form) -> Result<Facts> {
        if self.installed().is_ok_and(|installed| installed.name == name.as_str()) {
            return Err(Error::Data {
                reason: format!("the installed language model is called {name}"),
                hint: "choose another name".to_owned(),
            });
        }
        Ok(self.shelf.import(name, source, form)?.facts().clone())
    }

    /// All of them, the installed one first.
    pub(crate) fn list(&self) -> Result<Vec<Known>> {
        let resident: Vec<String> = self.resident.list().into_iter().map(|(key, _)| key).collect();
        let mut known = Vec::new();
        if let Ok(Checkpoint { name, source, .. }) = self.installed() {
            let (facts, loaded) = (Decoder::inspect(&source)?, resident.iter().any(String::is_empty));
            known.push(Known { name, installed: true, facts, form: Form::default(), sha256: None, loaded });
        }
        for name in self.shelf.names()? {
            let Some(decoder) = self.shelf.get(&name)? else { continue };
            let loaded = resident.iter().any(|key| key.starts_with(&format!("{name} ")));
            let (facts, form, sha256) = (decoder.facts().clone(), decoder.form(), Some(decoder.source_sha256().to_owned()));
            known.push(Known { name: name.to_string(), installed: false, facts, form, sha256, loaded });
        }
        Ok(known)
    }
}
