//! The language models of a server: one resident engine, shared by all sessions.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use stratagem_models::language::{Decoder, Engine, Form, Limits};
use stratagem_models::runtime::Runtime;

use crate::models::{Error, Result, lock};

/// A language model on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its name in SQL.
    pub name: String,
    /// A GGUF file, or a folder in the style of Hugging Face.
    pub source: PathBuf,
    /// Where what is made of it is kept.
    pub cache: PathBuf,
}

/// Where the installed language model is, asked for when it is first needed; an error is one sentence with the command that repairs it.
pub type Installed = Box<dyn Fn() -> std::result::Result<Checkpoint, String> + Send + Sync>;

/// The installed language model, in memory once it was needed.
pub(crate) struct Languages {
    installed: Installed,
    engine: Mutex<Option<Arc<Engine>>>,
}

impl Languages {
    pub(crate) fn new(installed: Installed) -> Self {
        Self { installed, engine: Mutex::new(None) }
    }

    /// The files of the model of this name, or of the installed one.
    fn checkpoint(&self, name: Option<&str>) -> Result<Checkpoint> {
        let missing = |reason| Error::RuntimeMissing { path: "the installed language model".into(), reason };
        let checkpoint = (self.installed)().map_err(missing)?;
        match name.filter(|name| *name != checkpoint.name) {
            Some(name) => Err(Error::NoSuchModel { name: name.to_owned(), known: vec![checkpoint.name] }),
            None => Ok(checkpoint),
        }
    }

    /// The name of the model that a name, or none, stands for.
    pub(crate) fn name(&self, name: Option<&str>) -> Result<String> {
        self.checkpoint(name).map(|checkpoint| checkpoint.name)
    }

    /// The model of this name, or the installed one. The first call prepares and loads it, which takes seconds.
    pub(crate) fn engine(&self, name: Option<&str>, runtime: impl FnOnce() -> Result<Arc<Runtime>>) -> Result<Arc<Engine>> {
        let checkpoint = self.checkpoint(name)?;
        let mut engine = lock(&self.engine);
        if let Some(engine) = &*engine {
            return Ok(Arc::clone(engine));
        }
        let decoder = Decoder::prepare(&checkpoint.source, &checkpoint.cache, Form::default())?;
        let started = Engine::start(&runtime()?, &decoder, Limits::default())?;
        Ok(Arc::clone(engine.insert(started)))
    }
}
