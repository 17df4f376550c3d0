//! The models on disk: immutable, numbered versions and the aliases that name them.
//!
//! ```text
//! <root>/ctr/1/manifest.json      what it is: schema, statistics, metrics, options, source, SHA-256 of every file
//! <root>/ctr/1/manifest.sha256    SHA-256 of the manifest
//! <root>/ctr/1/scoring.onnx ...   the files the manifest lists
//! <root>/ctr/highest              the highest version that was ever given, once a version has been deleted
//! <root>/aliases.json             {"ctr": {"champion": 1}}
//! <root>/.runs/7.json             a training: see [`Runs`]
//! <root>/.evaluations/7.json      what a version was worth on the rows of a query: see [`Evaluations`]
//! ```
//!
//! A version appears by one rename of a folder whose files are on disk already, so a reader or a crash never meets half of one.

mod evaluations;
mod exact;
mod known;
mod manifest;
mod name;
mod remove;
mod runs;
mod temporary;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use self::evaluations::{Evaluations, Figure, Measured, Measurement};
use self::known::Known;
pub(crate) use self::manifest::FORMAT;
pub use self::manifest::{FileFacts, Kind, Manifest, Source};
pub use self::name::{ModelName, ModelRef, Selector};
pub use self::runs::{Evaluation, Metric, Outcome, Run, RunInfo, RunRecord, Runs, Status};
use crate::durable::{self, Lock, Sharing};
use crate::error::{Error, Result};

/// The alias that a bare name stands for; the latest version unless it has been set.
pub const DEFAULT_ALIAS: &str = "default";

/// The alias that is always the highest version.
pub const LATEST_ALIAS: &str = "latest";

const MANIFEST: &str = "manifest.json";
const MANIFEST_HASH: &str = "manifest.sha256";
const ALIASES: &str = "aliases.json";

/// How long a writer waits for another one: publishing takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

type Aliases = BTreeMap<ModelName, BTreeMap<String, u32>>;

/// A folder of models. Many processes may use one folder at a time.
#[derive(Debug)]
pub struct Registry {
    root: PathBuf,
    runs: Runs,
    evaluations: Evaluations,
    known: Known,
}

/// One version of a model.
#[derive(Debug, Clone)]
pub struct VersionInfo {
    /// The model's name.
    pub name: ModelName,
    /// Its version, from 1.
    pub version: u32,
    /// A reference without version or alias means this version.
    pub is_default: bool,
    /// The aliases set on this version, sorted.
    pub aliases: Vec<String>,
    /// What the manifest says, or why it cannot be read.
    pub state: State,
}

/// Whether a version's manifest can be read.
#[derive(Debug, Clone)]
pub enum State {
    /// The manifest is whole. The files it lists are verified when the model is loaded.
    Ready(Box<Manifest>),
    /// The manifest is missing or damaged, for this reason.
    Damaged(String),
}

impl VersionInfo {
    /// The manifest, unless it is damaged.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.state {
            State::Ready(manifest) => Some(manifest),
            State::Damaged(_) => None,
        }
    }

    /// When the version was saved, as RFC 3339 in UTC; `None` when the manifest is damaged.
    pub fn created_at(&self) -> Option<&str> {
        self.manifest().map(|m| m.created_at.as_str())
    }
}

/// A version that has been read and verified.
pub(crate) struct Stored {
    pub(crate) manifest: Manifest,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Registry {
    /// Opens a folder of models, creating it if it is missing, removes what interrupted writers left behind and ends the runs of dead ones.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        durable::create_directory(&root)?;
        let (runs, evaluations) = (Runs::open(root.join(".runs"))?, Evaluations::open(root.join(".evaluations"))?);
        let registry = Self { runs, evaluations, root, known: Known::default() };
        registry.sweep()?;
        Ok(registry)
    }

    /// The trainings and what they measured.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// What versions were worth on the rows of queries.
    pub fn evaluations(&self) -> &Evaluations {
        &self.evaluations
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of all models, sorted.
    pub fn names(&self) -> Result<Vec<ModelName>> {
        let mut names = Vec::new();
        for entry in entries(&self.root)? {
            let Ok(name) = ModelName::parse(&entry) else { continue };
            if self.latest(&name)?.is_some() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The model and version that a reference means now.
    pub fn resolve(&self, reference: &ModelRef) -> Result<(ModelName, u32)> {
        let name = &reference.name;
        let Some(meanings) = self.meanings(name)? else { return Err(self.no_such_model(name)) };
        let version = meanings.version(name, &reference.selector)?;
        Ok((name.clone(), version))
    }

    /// All versions of all models, sorted by name and version. A damaged version is listed as such.
    pub fn list(&self) -> Result<Vec<VersionInfo>> {
        let aliases = self.aliases()?;
        let mut list = Vec::new();
        for name in self.names()? {
            let own = aliases.get(&name);
            let versions = self.versions(&name)?;
            let default = own.and_then(|a| a.get(DEFAULT_ALIAS)).or(versions.last()).copied();
            for version in versions {
                let aliases = own.into_iter().flatten().filter(|(_, v)| **v == version).map(|(alias, _)| alias.clone()).collect();
                let state = match self.manifest(&name, version) {
                    Ok(manifest) => State::Ready(Box::new(manifest)),
                    Err(error) => State::Damaged(error.to_string()),
                };
                list.push(VersionInfo { name: name.clone(), version, is_default: default == Some(version), aliases, state });
            }
        }
        Ok(list)
    }

    /// What a version says of itself. The manifest's own hash is verified, the other files are not read.
    pub fn manifest(&self, name: &ModelName, version: u32) -> Result<Manifest> {
        read_manifest(&self.version_directory(name, version), &object(name, version))
    }

    /// The manifest and its hash as they are on disk.
    pub(crate) fn manifest_files(&self, name: &ModelName, version: u32) -> Result<Vec<(String, Vec<u8>)>> {
        let directory = self.version_directory(name, version);
        let read = |file: &str| Ok((file.to_owned(), read_file(&directory.join(file), u64::MAX)?));
        [MANIFEST, MANIFEST_HASH].map(read).into_iter().collect()
    }

    /// Points an alias (such as `champion`, or `default`) at a version.
    pub fn set_alias(&self, name: &ModelName, alias: &str, version: u32) -> Result<()> {
        if alias == LATEST_ALIAS || ModelName::parse(alias).is_err() {
            return Err(Error::InvalidName { name: format!("{name}@{alias}") });
        }
        let _lock = self.lock_aliases(name)?;
        // Looked up under the lock, so that the version is not deleted meanwhile.
        self.resolve(&ModelRef { name: name.clone(), selector: Selector::Version(version) })?;
        let mut aliases = self.aliases()?;
        aliases.entry(name.clone()).or_default().insert(alias.to_owned(), version);
        self.write_aliases(aliases)
    }

    /// Removes an alias. Without `default` a bare name means the latest version again.
    pub fn remove_alias(&self, name: &ModelName, alias: &str) -> Result<()> {
        let _lock = self.lock_aliases(name)?;
        self.resolve(&ModelRef { name: name.clone(), selector: Selector::Alias(LATEST_ALIAS.to_owned()) })?;
        let mut aliases = self.aliases()?;
        let own = aliases.entry(name.clone()).or_default();
        if own.remove(alias).is_none() {
            return Err(Error::NoSuchAlias { name: name.to_string(), alias: alias.to_owned(), known: own.keys().cloned().collect() });
        }
        self.write_aliases(aliases)
    }

    /// Saves a new version and returns its number, which is higher than every earlier one of the name.
    /// `manifest` gets the version and the facts of the files; the rest is kept as it is.
    pub(crate) fn publish(&self, mut manifest: Manifest, files: &[(String, Vec<u8>)]) -> Result<u32> {
        let name = manifest.name.clone();
        let temporary = self.temporary(&name)?;
        durable::create_directory(&temporary.path)?;
        manifest.files.clear();
        for (file, bytes) in files {
            durable::write(&temporary.path.join(file), bytes)?;
            manifest.files.insert(file.clone(), FileFacts { bytes: bytes.len() as u64, sha256: sha256(bytes) });
        }
        let own = self.root.join(name.as_str());
        durable::create_directory(&own)?;
        let _numbering = self.lock_versions(&name)?;
        manifest.version = self.highest(&name)? + 1;
        let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::Io { path: temporary.path.join(MANIFEST), source: e.into() })?;
        durable::write(&temporary.path.join(MANIFEST), &text)?;
        durable::write(&temporary.path.join(MANIFEST_HASH), sha256(&text).as_bytes())?;
        durable::publish(&temporary.path, &self.version_directory(&name, manifest.version))?;
        Ok(manifest.version)
    }

    /// Reads a version and verifies every file.
    pub(crate) fn read(&self, name: &ModelName, version: u32) -> Result<Stored> {
        let (name, version) = self.resolve(&ModelRef { name: name.clone(), selector: Selector::Version(version) })?;
        read_folder(&self.version_directory(&name, version), &object(&name, version), u64::MAX)
    }

    fn version_directory(&self, name: &ModelName, version: u32) -> PathBuf {
        self.root.join(name.as_str()).join(version.to_string())
    }

    fn versions(&self, name: &ModelName) -> Result<Vec<u32>> {
        let directory = self.root.join(name.as_str());
        if !directory.is_dir() {
            return Ok(Vec::new());
        }
        let mut versions: Vec<u32> = entries(&directory)?.iter().filter_map(|e| e.parse().ok()).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    fn latest(&self, name: &ModelName) -> Result<Option<u32>> {
        Ok(self.versions(name)?.last().copied())
    }

    fn aliases(&self) -> Result<Aliases> {
        let path = self.root.join(ALIASES);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Aliases::new()),
            Err(error) => return Err(Error::io(path)(error)),
        };
        serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(ALIASES, e))
    }

    fn lock_aliases(&self, name: &ModelName) -> Result<Lock> {
        Lock::take(self.root.join(".aliases"), Sharing::Exclusive, PATIENCE)?.ok_or_else(|| Error::Busy { name: name.to_string() })
    }

    /// Keeps other writers from giving or deleting versions of a model whose folder is there.
    fn lock_versions(&self, name: &ModelName) -> Result<Lock> {
        let path = self.root.join(name.as_str()).join(".lock");
        Lock::take(path, Sharing::Exclusive, PATIENCE)?.ok_or_else(|| Error::Busy { name: name.to_string() })
    }

    fn write_aliases(&self, mut aliases: Aliases) -> Result<()> {
        aliases.retain(|_, own| !own.is_empty());
        let text = serde_json::to_vec_pretty(&aliases).map_err(|e| Error::Io { path: self.root.join(ALIASES), source: e.into() })?;
        durable::replace(&self.root, ALIASES, &text)
    }

    fn no_such_model(&self, name: &ModelName) -> Error {
        let known = self.names().unwrap_or_default().iter().map(ToString::to_string).collect();
        Error::NoSuchModel { name: name.to_string(), known }
    }
}

/// Reads the manifest of a version's folder; `object` is named in errors.
fn read_manifest(directory: &Path, object: &str) -> Result<Manifest> {
    let damaged = |file: &str, reason: std::io::Error| Error::corrupt(object, format!("{file}: {reason}"));
    let bytes = fs::read(directory.join(MANIFEST)).map_err(|e| damaged(MANIFEST, e))?;
    let expected = fs::read_to_string(directory.join(MANIFEST_HASH)).map_err(|e| damaged(MANIFEST_HASH, e))?;
    if sha256(&bytes) != expected.trim() {
        return Err(Error::corrupt(object, format!("{MANIFEST} does not match its SHA-256")));
    }
    serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(object, format!("{MANIFEST}: {e}")))
}

/// Reads the folder of a version and verifies every file, none of which may be larger than `most`; `object` is named in errors.
pub(crate) fn read_folder(directory: &Path, object: &str, most: u64) -> Result<Stored> {
    let manifest = read_manifest(directory, object)?;
    let mut files = BTreeMap::new();
    for (file, facts) in &manifest.files {
        // A folder from elsewhere may say anything.
        if Path::new(file).file_name() != Some(file.as_ref()) || facts.bytes > most {
            return Err(Error::corrupt(object, format!("it has no file \"{file}\" of {} bytes", facts.bytes)));
        }
        let bytes = fs::read(directory.join(file)).map_err(|e| Error::corrupt(object, format!("{file}: {e}")))?;
        if bytes.len() as u64 != facts.bytes {
            return Err(Error::corrupt(object, format!("{file} has {} bytes instead of {}", bytes.len(), facts.bytes)));
        }
        if sha256(&bytes) != facts.sha256 {
            return Err(Error::corrupt(object, format!("{file} does not match its SHA-256")));
        }
        files.insert(file.clone(), bytes);
    }
    Ok(Stored { manifest, files })
}

/// Reads a file that is not larger than `most`.
pub(crate) fn read_file(path: &Path, most: u64) -> Result<Vec<u8>> {
    let bytes = fs::metadata(path).map_err(Error::io(path))?.len();
    if bytes > most {
        return Err(Error::data(format!("{} has {bytes} bytes, and at most {most} are read", path.display()), "name a smaller file"));
    }
    fs::read(path).map_err(Error::io(path))
}

fn object(name: &ModelName, version: u32) -> String {
    format!("model \"{name}@{version}\"")
}

fn entries(directory: &Path) -> Result<Vec<String>> {
    fs::read_dir(directory)
        .and_then(|entries| entries.map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned())).collect())
        .map_err(Error::io(directory))
}

/// The names for which a folder has a file `NAME.json`, sorted; none where there is no such folder.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<ModelName>> {
    let entries = match entries(folder) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let named = entries.iter().filter_map(|entry| ModelName::parse(entry.strip_suffix(".json")?).ok());
    let mut names: Vec<ModelName> = named.collect();
    names.sort_unstable();
    Ok(names)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
