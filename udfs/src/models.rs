//! The models of a server: the registry, the runtime that runs them, and those that are in memory, shared by all sessions.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use stratagem_models::click::Precision;
pub use stratagem_models::click::Start;
use stratagem_models::encoder;
use stratagem_models::encoder::tune::{Base, Explainer, Tune};
use stratagem_models::exchange;
pub use stratagem_models::exchange::Import;
use stratagem_models::language::tune::Version;
use stratagem_models::language::{Adapter, Decoder, Engine};
use stratagem_models::model::Model;
use stratagem_models::prompt::Prompts;
pub use stratagem_models::registry::{DEFAULT_ALIAS, VersionInfo};
use stratagem_models::registry::{Kind, Registry};
pub use stratagem_models::runtime::{Device, Runtime};
use stratagem_models::text::Text;

pub use stratagem_models::error::{Error, Result};

use crate::encoder::{self as encoders, Encoders};
use crate::intake::Intake;
use crate::language::{Facts, Form, Installed, Known, Languages, Limits};
use crate::usage::Ledger;
pub use stratagem_models::registry::{ModelName, ModelRef, Selector};

/// The most models in memory; the one that was used longest ago gives way.
const RESIDENT: usize = 16;

/// The most versions whose columns are remembered.
const REMEMBERED: usize = 1024;

/// Where the runtime's library is, asked for when the first model is needed; an error is one sentence with the command that repairs it.
pub type Library = Box<dyn Fn() -> std::result::Result<PathBuf, String> + Send + Sync>;

/// Where what the set-up installs is found.
pub struct Sources {
    /// The runtime's library.
    pub library: Library,
    /// The language model.
    pub language: Installed,
    /// The text encoders; the first is meant where none is named.
    pub encoders: Vec<Installed>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// A language model that a statement asks.
#[derive(Debug, Clone)]
pub(crate) struct Speaker {
    pub(crate) engine: Arc<Engine>,
    /// What was made of it, if that is asked.
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// Its name.
    pub(crate) name: Arc<str>,
}

/// What a version of changes says of itself without its files being read.
struct Changed {
    /// The language model that it changes.
    base: String,
    /// When it was saved.
    created: String,
}

/// A version of a model that a statement works with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pinned {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// A version that a statement works with to its end, also when it is deleted meanwhile.
#[derive(Debug)]
pub(crate) struct Held {
    models: Arc<Models>,
    pinned: Pinned,
    intake: Arc<Intake>,
    model: OnceLock<Arc<Model>>,
}

impl Held {
    /// What the reference means now.
    pub(crate) fn new(models: &Arc<Models>, reference: &str) -> Result<Self> {
        let pinned = models.resolve(reference)?;
        Ok(Self { intake: models.intake(&pinned)?, pinned, models: Arc::clone(models), model: OnceLock::new() })
    }

    pub(crate) fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// What it takes from rows.
    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    /// The version in memory, loaded now if it was not before.
    pub(crate) fn model(&self) -> Result<Arc<Model>> {
        if let Some(model) = self.model.get() {
            return Ok(Arc::clone(model));
        }
        let model = self.models.model(&self.pinned)?;
        Ok(Arc::clone(self.model.get_or_init(|| model)))
    }
}

/// The models of a server.
pub struct Models {
    registry: Registry,
    library: Library,
    device: Device,
    runtime: Mutex<Option<Arc<Runtime>>>,
    resident: Mutex<Resident>,
    intakes: Mutex<HashMap<Pinned, Arc<Intake>>>,
    languages: Languages,
    encoders: Encoders,
    prompts: Prompts,
    ledger: Ledger,
}

/// The models in memory, with the time of their last use.
#[derive(Default)]
struct Resident {
    clock: u64,
    models: HashMap<Pinned, Slot>,
}

struct Slot {
    used: u64,
    /// Held while the model is loaded, so that two statements do not load it twice.
    model: Arc<Mutex<Option<Arc<Model>>>>,
}

impl Models {
    /// Opens a folder of models; imported language models and encoders are in the folders `language` and `encoders` beside it, prompts in
    /// `prompts`. The runtime is loaded when the first model is needed; a server without one starts all the same.
    pub fn open(folder: &Path, device: Device, sources: Sources, texts: Limits) -> Result<Self> {
        let Sources { library, language, encoders } = sources;
        Ok(Self {
            registry: Registry::open(folder)?,
            library,
            device,
            runtime: Mutex::default(),
            resident: Mutex::default(),
            intakes: Mutex::default(),
            languages: Languages::new(language, folder.with_file_name("language"), texts),
            encoders: Encoders::new(encoders, folder.with_file_name("encoders")),
            prompts: Prompts::new(folder.with_file_name("prompts")),
            ledger: Ledger::default(),
        })
    }

    /// The models on disk.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The prompt templates.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Checks that models can be trained in a precision, before rows are read for it.
    pub(crate) fn check_precision(&self, precision: Precision) -> Result<()> {
        if precision == Precision::Float32 { Ok(()) } else { self.runtime()?.check_precision(precision) }
    }

    /// The runtime, loaded now if it was not before. A failure is not remembered: the library may be there the next time.
    pub fn runtime(&self) -> Result<Arc<Runtime>> {
        let mut runtime = lock(&self.runtime);
        if let Some(runtime) = &*runtime {
            return Ok(Arc::clone(runtime));
        }
        let path = (self.library)().map_err(|reason| Error::RuntimeMissing { path: "the installed files".into(), reason })?;
        let loaded = Runtime::load(&path, self.device)?;
        Ok(Arc::clone(runtime.insert(loaded)))
    }

    /// The runtime, if a model has needed it already.
    pub fn loaded_runtime(&self) -> Option<Arc<Runtime>> {
        lock(&self.runtime).clone()
    }

    /// The version that a reference (`ctr`, `ctr@3`, `ctr@champion`) means now.
    pub fn resolve(&self, reference: &str) -> Result<Pinned> {
        let reference: ModelRef = reference.parse()?;
        let (name, version) = self.registry.resolve(&reference)?;
        Ok(Pinned { name, version })
    }

    /// What a version takes from rows; it is not loaded for that.
    fn intake(&self, pinned: &Pinned) -> Result<Arc<Intake>> {
        if let Some(known) = lock(&self.intakes).get(pinned) {
            return Ok(Arc::clone(known));
        }
        let intake = Arc::new(Intake::new(self.registry.manifest(&pinned.name, pinned.version)?)?);
        let mut known = lock(&self.intakes);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(pinned.clone(), Arc::clone(&intake));
        Ok(intake)
    }

    /// A version in memory, loaded now if it was not before.
    pub fn model(&self, pinned: &Pinned) -> Result<Arc<Model>> {
        let slot = lock(&self.resident).slot(pinned);
        let mut model = lock(&slot);
        if let Some(model) = &*model {
            return Ok(Arc::clone(model));
        }
        let bases = |name: &str| self.encoders.prepared(Some(name));
        let loaded = Arc::new(Model::load_with(&self.runtime()?, &self.registry, &pinned.name, pinned.version, &bases)?);
        Ok(Arc::clone(model.insert(loaded)))
    }

    /// The language model of this name, or the installed one, in memory: the first call takes seconds. The name may be that of a version that
    /// `finetune` made of one.
    pub(crate) fn language(&self, name: Option<&str>) -> Result<Speaker> {
        match self.changed(name)? {
            None => {
                let engine = self.languages.engine(name, || self.runtime())?;
                Ok(Speaker { engine, adapter: None, name: self.languages.name(name)?.into() })
            }
            Some((pinned, Changed { base, created })) => {
                let load = || {
                    let version = Version::read(&self.registry, &pinned.name, pinned.version)?;
                    version.adapter(&self.languages.decoder(Some(&base))?).map(Arc::new)
                };
                let adapter = self.languages.adapter(format!("{pinned} {created}"), load)?;
                let engine = self.languages.engine(Some(&base), || self.runtime())?;
                Ok(Speaker { engine, adapter: Some(adapter), name: pinned.to_string().into() })
            }
        }
    }

    /// The version of changes that a name means, if it is not that of a language model itself.
    fn changed(&self, name: Option<&str>) -> Result<Option<(Pinned, Changed)>> {
        let Some(name) = name else { return Ok(None) };
        if !name.contains('@') && self.languages.has(name)? {
            return Ok(None);
        }
        let pinned = match self.resolve(name) {
            Ok(pinned) => pinned,
            Err(Error::NoSuchModel { .. } | Error::InvalidName { .. }) => {
                let (imported, made) = (self.languages.list()?, self.made_of_languages()?);
                let known = imported.into_iter().map(|known| known.name).chain(made).collect();
                return Err(Error::NoSuchModel { name: name.to_owned(), known });
            }
            Err(error) => return Err(error),
        };
        let manifest = self.registry.manifest(&pinned.name, pinned.version)?;
        match manifest.kind {
            Kind::Language(adapted) => Ok(Some((pinned, Changed { base: adapted.base, created: manifest.created_at }))),
            _ => {
                let reason = format!("model \"{pinned}\" is no language model");
                Err(Error::Data { reason, hint: "name one of ml.language_models, or one that finetune made of it".to_owned() })
            }
        }
    }

    /// The names of the models that were made of a language model.
    fn made_of_languages(&self) -> Result<Vec<String>> {
        let versions = self.registry.list()?;
        let made = versions.iter().filter_map(VersionInfo::manifest).filter(|manifest| matches!(manifest.kind, Kind::Language(_)));
        let mut names: Vec<String> = made.map(|manifest| manifest.name.to_string()).collect();
        names.dedup();
        Ok(names)
    }

    /// Whether a name is that of a language model itself.
    pub(crate) fn is_language_model(&self, name: &ModelName) -> Result<bool> {
        self.languages.has(name.as_str())
    }

    /// What a training of a language model starts from: the model's name and files, and the version to go on from, if the name is that of one.
    pub(crate) fn language_base(&self, name: Option<&str>) -> Result<(String, Decoder, Option<Version>)> {
        let Some((pinned, Changed { base, .. })) = self.changed(name)? else {
            return Ok((self.languages.name(name)?, self.languages.decoder(name)?, None));
        };
        let version = Version::read(&self.registry, &pinned.name, pinned.version)?;
        let decoder = self.languages.decoder(Some(&base))?;
        Ok((base, decoder, Some(version)))
    }

    /// What statements have asked of language models.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The name of the language model, or of the version made of one, that a name, or none, stands for.
    pub(crate) fn language_name(&self, name: Option<&str>) -> Result<String> {
        match self.changed(name)? {
            Some((pinned, _)) => Ok(pinned.to_string()),
            None => self.languages.name(name),
        }
    }

    /// Prepares a language model, a GGUF file or a folder in the style of Hugging Face, and gives it a name.
    pub fn import_language(&self, name: &str, from: &Path, form: Form) -> Result<Facts> {
        self.languages.import(&ModelName::parse(name)?, from, form)
    }

    /// The language models, the installed one first.
    pub(crate) fn language_models(&self) -> Result<Vec<Known>> {
        self.languages.list()
    }

    /// The text encoder of this name, or the first installed one, in memory. The first call may take seconds.
    /// A text model that gives vectors is one too.
    pub(crate) fn encoder(&self, name: Option<&str>) -> Result<Arc<encoder::Engine>> {
        match (self.encoders.engine(name, || self.runtime()), name) {
            (Err(Error::NoSuchModel { name: asked, known }), Some(name)) => {
                let Some((pinned, _)) = self.giving_vectors(name)? else { return Err(Error::NoSuchModel { name: asked, known }) };
                let model = self.model(&pinned)?;
                let Model::Text(text) = &*model else { return Err(Error::NoSuchModel { name: asked, known }) };
                text.vectors().map(Arc::clone).ok_or(Error::NoSuchModel { name: asked, known })
            }
            (found, _) => found,
        }
    }

    /// Whether an encoder has this name.
    pub(crate) fn is_encoder(&self, name: &str) -> bool {
        self.encoders.facts(Some(name)).is_ok()
    }

    /// The text model that gives vectors and that a reference means now.
    fn giving_vectors(&self, reference: &str) -> Result<Option<(Pinned, Text)>> {
        let Ok(pinned) = self.resolve(reference) else { return Ok(None) };
        let text = self.text(&pinned)?.filter(|text| text.task.gives_vectors());
        Ok(text.map(|text| (pinned, text)))
    }

    /// What tells why a text model with an encoder of its own gives a class. It is loaded for that.
    pub(crate) fn explainer(&self, pinned: &Pinned) -> Result<Explainer> {
        let bases = |name: &str| self.encoders.prepared(Some(name));
        Explainer::load(&self.runtime()?, &self.registry, &pinned.name, pinned.version, &bases)
    }

    /// What a version of a text model is; `None` for a model of another kind.
    pub(crate) fn text(&self, pinned: &Pinned) -> Result<Option<Text>> {
        match self.registry.manifest(&pinned.name, pinned.version)?.kind {
            Kind::Text(text) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    /// A version of a text model with an encoder of its own, to be trained further.
    pub(crate) fn again(&self, pinned: &Pinned, tune: Tune) -> Result<Base> {
        let bases = |name: &str| self.encoders.prepared(Some(name));
        Base::again(&self.registry, &pinned.name, pinned.version, tune, &bases)
    }

    /// The files of the encoder of this name.
    pub(crate) fn encoder_files(&self, name: &str) -> Result<encoder::Encoder> {
        self.encoders.prepared(Some(name))
    }

    /// What is known of the encoder that a name, or none, stands for.
    pub(crate) fn encoder_facts(&self, name: Option<&str>) -> Result<encoders::Facts> {
        match (self.encoders.facts(name), name) {
            (Err(Error::NoSuchModel { name: asked, known }), Some(name)) => {
                let found = self.giving_vectors(name)?.and_then(|(_, text)| text.tuned);
                found.map(|tuned| tuned.facts().clone()).ok_or(Error::NoSuchModel { name: asked, known })
            }
            (found, _) => found,
        }
    }

    /// Prepares a text encoder, a folder in the style of Hugging Face or sentence-transformers, and gives it a name.
    pub fn import_encoder(&self, name: &str, from: &Path, form: Form) -> Result<encoders::Facts> {
        self.encoders.import(&ModelName::parse(name)?, from, form)
    }

    /// The text encoders, the installed ones first.
    pub(crate) fn text_encoders(&self) -> Result<Vec<encoders::Known>> {
        self.encoders.list()
    }

    /// A version to go on training from, with its weights.
    pub fn start(&self, reference: &str) -> Result<(Pinned, Arc<Start>)> {
        let pinned = self.resolve(reference)?;
        let start = Start::load(&self.registry, &pinned.name, pinned.version)?;
        Ok((pinned, Arc::new(start)))
    }

    /// Writes a version to a folder: the model as one ONNX graph of plain columns, what it takes and gives, and its own files. `replace` allows
    /// an earlier export there to be replaced.
    pub fn export(&self, reference: &str, to: &Path, replace: bool) -> Result<Pinned> {
        let pinned = self.resolve(reference)?;
        let intake = self.intake(&pinned)?;
        exchange::export(&self.registry, &pinned.name, pinned.version, intake.transform(), to, replace)?;
        Ok(pinned)
    }

    /// Saves what [`Models::export`] wrote to a folder, or an ONNX file from elsewhere, as the next version of a name.
    pub fn import(&self, from: &Path, import: &Import) -> Result<Pinned> {
        let version = exchange::import(&self.runtime()?, &self.registry, from, import)?;
        Ok(Pinned { name: ModelName::parse(&import.name)?, version })
    }

    /// Deletes a version, or with `None` a model with all its versions, and forgets what is in memory of it. Statements that run with it keep
    /// their copy.
    pub fn remove(&self, name: &ModelName, version: Option<u32>) -> Result<()> {
        self.registry.remove(name, version)?;
        let stays = |pinned: &Pinned| pinned.name != *name || version.is_some_and(|version| pinned.version != version);
        lock(&self.resident).models.retain(|pinned, _| stays(pinned));
        lock(&self.intakes).retain(|pinned, _| stays(pinned));
        Ok(())
    }

    /// All versions on disk, by name and version.
    pub fn list(&self) -> Result<Vec<VersionInfo>> {
        self.registry.list()
    }

    /// How many models are in memory.
    pub fn resident(&self) -> usize {
        lock(&self.resident).models.len()
    }
}

impl Resident {
    fn slot(&mut self, pinned: &Pinned) -> Arc<Mutex<Option<Arc<Model>>>> {
        self.clock += 1;
        if !self.models.contains_key(pinned)
            && self.models.len() >= RESIDENT
            && let Some(oldest) = self.models.iter().min_by_key(|(_, slot)| slot.used).map(|(oldest, _)| oldest.clone())
        {
            self.models.remove(&oldest);
        }
        let slot = self.models.entry(pinned.clone()).or_insert_with(|| Slot { used: 0, model: Arc::default() });
        slot.used = self.clock;
        Arc::clone(&slot.model)
    }
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").field("registry", &self.registry).field("device", &self.device).finish_non_exhaustive()
    }
}

/// A lock whose data is valid at every moment, so that a panic while it was held does no harm.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
