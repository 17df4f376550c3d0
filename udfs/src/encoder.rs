//! The text encoders of a server: the installed one and those that were imported, each with one engine, shared by all sessions.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result as EngineResult, exec_err};
use stratagem_models::encoder::{Embedded, Encoder, Engine, Limits};
pub use stratagem_models::encoder::{Facts, Family};
use stratagem_models::language::Form;
use stratagem_models::runtime::Runtime;
use stratagem_models::shelf::{Shelf, Shelved};

use crate::error::Error;
use crate::language::{Checkpoint, Installed};
use crate::models::{Error as ModelError, ModelName, Models, Result};
use crate::resident::Resident;
use crate::stop::StopOnDrop;
use crate::usage::Meter;

/// The most engines at a time.
const RESIDENT: usize = 4;

/// The form that is as exact as a checkpoint.
pub const EXACT: Form = Encoder::EXACT;

/// A vector that many rows may share.
pub(crate) type Vector = Arc<[f32]>;

/// Whether a path is an encoder that can be imported.
pub fn accepts(source: &Path) -> bool {
    Encoder::accepts(source)
}

/// The encoders, in memory once they were needed.
pub(crate) struct Encoders {
    installed: Installed,
    shelf: Shelf<Encoder>,
    resident: Resident<Engine>,
    /// What the files of the installed one say: they do not change while a server runs.
    facts: OnceLock<Facts>,
}

/// What is known of an encoder without loading it.
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) installed: bool,
    pub(crate) facts: Facts,
    pub(crate) form: Form,
    pub(crate) sha256: Option<String>,
    /// Whether its weights are in memory.
    pub(crate) loaded: bool,
}

impl Encoders {
    pub(crate) fn new(installed: Installed, folder: PathBuf) -> Self {
        Self { installed, shelf: Shelf::new(folder), resident: Resident::new(RESIDENT), facts: OnceLock::new() }
    }

    fn installed(&self) -> Result<Checkpoint> {
        (self.installed)().map_err(|reason| ModelError::RuntimeMissing { path: "the installed text encoder".into(), reason })
    }

    /// The imported encoder of this name; none is the installed one.
    fn imported(&self, name: Option<&str>) -> Result<Option<(ModelName, Encoder)>> {
        let Some(raw) = name else { return Ok(None) };
        let found = ModelName::parse(raw).ok().map(|name| self.shelf.get(&name).map(|found| found.map(|encoder| (name, encoder))));
        match found.transpose()?.flatten() {
            Some(found) => Ok(Some(found)),
            None if self.installed()?.name == raw => Ok(None),
            None => {
                let mut known = vec![self.installed()?.name];
                known.extend(self.shelf.names()?.into_iter().map(|name| name.to_string()));
                Err(ModelError::NoSuchModel { name: raw.to_owned(), known })
            }
        }
    }

    fn installed_facts(&self) -> Result<Facts> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts.clone());
        }
        let facts = Encoder::inspect(&self.installed()?.source)?;
        Ok(self.facts.get_or_init(|| facts).clone())
    }

    /// What is known of the encoder that a name, or none, stands for. It is not loaded for that.
    pub(crate) fn facts(&self, name: Option<&str>) -> Result<Facts> {
        match self.imported(name)? {
            Some((_, encoder)) => Ok(encoder.facts().clone()),
            None => self.installed_facts(),
        }
    }

    /// The encoder of this name, or the installed one. The first call loads it, and prepares the installed one.
    pub(crate) fn engine(&self, name: Option<&str>, runtime: impl FnOnce() -> Result<Arc<Runtime>>) -> Result<Arc<Engine>> {
        let imported = self.imported(name)?;
        let key = imported.as_ref().map(|(name, encoder)| format!("{name} {}", encoder.folder().display())).unwrap_or_default();
        self.resident.get(key, || {
            let encoder = self.files(imported)?;
            Engine::start(&runtime()?, &encoder, Limits::default())
        })
    }

    /// The files of the encoder of this name, or of the installed one, which are prepared if they are not yet.
    pub(crate) fn prepared(&self, name: Option<&str>) -> Result<Encoder> {
        self.files(self.imported(name)?)
    }

    fn files(&self, imported: Option<(ModelName, Encoder)>) -> Result<Encoder> {
        if let Some((_, encoder)) = imported {
            return Ok(encoder);
        }
        let Checkpoint { source, cache, .. } = self.installed()?;
        Encoder::prepare(&source, &cache, EXACT)
    }

    /// Prepares a checkpoint under a name of its own.
    pub(crate) fn import(&self, name: &ModelName, source: &Path, form: Form) -> Result<Facts> {
        if self.installed().is_ok_and(|installed| installed.name == name.as_str()) {
            return Err(ModelError::Data {
                reason: format!("the installed text encoder is called {name}"),
                hint: "choose another name".to_owned(),
            });
        }
        Ok(self.shelf.import(name, source, form)?.facts().clone())
    }

    /// All of them, the installed one first.
    pub(crate) fn list(&self) -> Result<Vec<Known>> {
        let resident = self.resident.list();
        let loaded = |of: &dyn Fn(&str) -> bool| resident.iter().any(|(key, engine)| of(key) && engine.loaded());
        let mut known = Vec::new();
        if let Ok(Checkpoint { name, .. }) = self.installed() {
            let (facts, loaded) = (self.installed_facts()?, loaded(&str::is_empty));
            known.push(Known { name, installed: true, facts, form: EXACT, sha256: None, loaded });
        }
        for name in self.shelf.names()? {
            let Some(encoder) = self.shelf.get(&name)? else { continue };
            let loaded = loaded(&|key| key.starts_with(&format!("{name} ")));
            let (facts, form, sha256) = (encoder.facts().clone(), encoder.form(), Some(encoder.source_sha256().to_owned()));
            known.push(Known { name: name.to_string(), installed: false, facts, form, sha256, loaded });
        }
        Ok(known)
    }
}

/// A column of texts of any of the engine's types.
pub(crate) fn texts(column: &ArrayRef) -> EngineResult<ArrayRef> {
    Ok(cast(column, &DataType::Utf8)?)
}

/// The vectors of a column of texts (`Utf8`); NULL has none.
pub(crate) async fn embed(models: &Arc<Models>, model: Option<&str>, texts: ArrayRef, meter: &Meter) -> EngineResult<Vec<Option<Vector>>> {
    let texts: &StringArray = texts.as_string();
    let embedded = vectors(models, model, texts.iter().flatten().map(str::to_owned).collect()).await?;
    meter.read(embedded.tokens, embedded.truncated, models.encoder_facts(model).map_err(Error::from)?.max_tokens);
    let mut vectors = embedded.vectors.into_iter();
    Ok((0..texts.len()).map(|row| if texts.is_valid(row) { vectors.next() } else { None }).collect())
}

/// The vectors of texts. They are computed on other threads, which stop when nobody waits any more.
pub(crate) async fn vectors(models: &Arc<Models>, model: Option<&str>, texts: Vec<String>) -> EngineResult<Embedded> {
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(Arc::clone(&stop));
    let (models, model) = (Arc::clone(models), model.map(str::to_owned));
    let work = move || -> Result<Embedded> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        models.encoder(model.as_deref())?.embed(&texts, &stop)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(embedded)) => Ok(embedded),
        Ok(Err(error)) => Err(Error::Model(error).into()),
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => exec_err!("the server ends"),
    }
}
