//! The text encoders of a server: the installed ones and those that were imported, each with one engine, shared by all sessions.

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
    /// Those that came with the set-up; the first is meant where none is named.
    installed: Vec<Installed>,
    shelf: Shelf<Encoder>,
    resident: Resident<Engine>,
    /// What the files of the installed ones say: they do not change while a server runs.
    facts: Vec<OnceLock<Facts>>,
}

/// What a name stands for.
enum Found {
    /// The number of an installed one.
    Installed(usize, Checkpoint),
    Imported(ModelName, Box<Encoder>),
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
    pub(crate) fn new(installed: Vec<Installed>, folder: PathBuf) -> Self {
        let facts = installed.iter().map(|_| OnceLock::new()).collect();
        Self { installed, shelf: Shelf::new(folder), resident: Resident::new(RESIDENT), facts }
    }

    /// Where the installed ones are, each or why it is not there.
    fn installed(&self) -> impl Iterator<Item = (usize, Result<Checkpoint>)> {
        let missing = |reason| ModelError::RuntimeMissing { path: "the installed text encoder".into(), reason };
        self.installed.iter().map(move |find| find().map_err(missing)).enumerate()
    }

    /// What a name stands for; none stands for the first of the installed ones.
    fn find(&self, name: Option<&str>) -> Result<Found> {
        if let Some(name) = name.and_then(|name| ModelName::parse(name).ok())
            && let Some(encoder) = self.shelf.get(&name)?
        {
            return Ok(Found::Imported(name, Box::new(encoder)));
        }
        let (mut known, mut missing) = (Vec::new(), None);
        for (place, checkpoint) in self.installed() {
            match checkpoint {
                Ok(checkpoint) if name.is_none_or(|name| name == checkpoint.name) => return Ok(Found::Installed(place, checkpoint)),
                Ok(checkpoint) => known.push(checkpoint.name),
                Err(error) if name.is_none() => return Err(error),
                Err(error) => missing = Some(error),
            }
        }
        // It may be the one whose files are missing.
        if let Some(missing) = missing {
            return Err(missing);
        }
        known.extend(self.shelf.names()?.into_iter().map(|name| name.to_string()));
        Err(ModelError::NoSuchModel { name: name.unwrap_or_default().to_owned(), known })
    }

    fn installed_facts(&self, place: usize, checkpoint: &Checkpoint) -> Result<Facts> {
        let kept = &self.facts[place];
        if let Some(facts) = kept.get() {
            return Ok(facts.clone());
        }
        let facts = Encoder::inspect(&checkpoint.source)?;
        Ok(kept.get_or_init(|| facts).clone())
    }

    /// What is known of the encoder that a name, or none, stands for. It is not loaded for that.
    pub(crate) fn facts(&self, name: Option<&str>) -> Result<Facts> {
        match self.find(name)? {
            Found::Imported(_, encoder) => Ok(encoder.facts().clone()),
            Found::Installed(place, checkpoint) => self.installed_facts(place, &checkpoint),
        }
    }

    /// The encoder of this name, or the first installed one. The first call loads it, and prepares an installed one.
    pub(crate) fn engine(&self, name: Option<&str>, runtime: impl FnOnce() -> Result<Arc<Runtime>>) -> Result<Arc<Engine>> {
        let found = self.find(name)?;
        self.resident.get(key(&found), || Engine::start(&runtime()?, &files(found)?, Limits::default()))
    }

    /// The files of the encoder of this name, or of the first installed one, which are prepared if they are not yet.
    pub(crate) fn prepared(&self, name: Option<&str>) -> Result<Encoder> {
        files(self.find(name)?)
    }

    /// Prepares a checkpoint under a name of its own.
    pub(crate) fn import(&self, name: &ModelName, source: &Path, form: Form) -> Result<Facts> {
        if self.installed().any(|(_, installed)| installed.is_ok_and(|installed| installed.name == name.as_str())) {
            return Err(ModelError::Data {
                reason: format!("an installed text encoder is called {name}"),
                hint: "choose another name".to_owned(),
            });
        }
        Ok(self.shelf.import(name, source, form)?.facts().clone())
    }

    /// All of them, the installed ones first.
    pub(crate) fn list(&self) -> Result<Vec<Known>> {
        let resident = self.resident.list();
        let mut all: Vec<Found> =
            self.installed().filter_map(|(place, checkpoint)| Some(Found::Installed(place, checkpoint.ok()?))).collect();
        for name in self.shelf.names()? {
            all.extend(self.shelf.get(&name)?.map(|encoder| Found::Imported(name, Box::new(encoder))));
        }
        let known = all.into_iter().map(|found| {
            let own = key(&found);
            let loaded = resident.iter().any(|(key, engine)| *key == own && engine.loaded());
            Ok(match found {
                Found::Installed(place, checkpoint) => {
                    let facts = self.installed_facts(place, &checkpoint)?;
                    Known { name: checkpoint.name, installed: true, facts, form: EXACT, sha256: None, loaded }
                }
                Found::Imported(name, encoder) => Known {
                    name: name.to_string(),
                    installed: false,
                    facts: encoder.facts().clone(),
                    form: encoder.form(),
                    sha256: Some(encoder.source_sha256().to_owned()),
                    loaded,
                },
            })
        });
        known.collect()
    }
}

/// The files of an encoder; those of an installed one are prepared if they are not yet.
fn files(found: Found) -> Result<Encoder> {
    match found {
        Found::Imported(_, encoder) => Ok(*encoder),
        Found::Installed(_, Checkpoint { source, cache, .. }) => Encoder::prepare(&source, &cache, EXACT),
    }
}

/// What the engine of an encoder is kept under: another one after an import under the same name.
fn key(found: &Found) -> String {
    match found {
        Found::Installed(place, _) => place.to_string(),
        Found::Imported(name, encoder) => format!("{name} {}", encoder.folder().display()),
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
