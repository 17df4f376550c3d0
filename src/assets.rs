//! The installed files: where they are, and whether they are what the set-up installed.
//!
//! `make setup` fetches pinned packages into a cache folder outside the checkout and writes `assets/manifest.json` with the
//! SHA-256 of every file. This module reads that manifest; every error is one sentence that names the file and the repair.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The pins that the set-up script reads too: one list of packages for both.
const PINS: &str = include_str!("../setup/packages.json");
/// The format of `manifest.json` that this program reads.
const MANIFEST_FORMAT: u32 = 1;

/// The text encoders by their names in SQL, which are those of their folders. The first is meant where none is named.
pub const TEXT_ENCODERS: [&str; 2] = ["minilm", "e5"];

/// What can be wrong with the installed files. Each message is one sentence with the command that repairs it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `STRATAGEM_CACHE`, `XDG_CACHE_HOME` nor `HOME` tells where the cache folder is.
    #[error("no cache folder is known because HOME is not set, name one in STRATAGEM_CACHE and run `make setup`")]
    NoCache,
    /// `STRATAGEM_CACHE` is relative, so it would mean another folder in every working directory.
    #[error("STRATAGEM_CACHE is '{}', which is not an absolute path, set it to one or unset it", path.display())]
    RelativeCache {
        /// The value as it was given.
        path: PathBuf,
    },
    /// A file is not there.
    #[error("{} is missing, repair it with `make setup`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file is there but is not, byte for byte, the file that was installed.
    #[error("{} is damaged, repair it with `make setup`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A package of another version than this program was written for is installed.
    #[error("{package} {found} is installed in {} but {expected} is needed, repair it with `make setup`", folder.display())]
    WrongVersion {
        /// The package, as the registry names it.
        package: String,
        /// The installed version.
        found: String,
        /// The pinned version.
        expected: String,
        /// The folder it is installed in.
        folder: PathBuf,
    },
    /// The library that the user named in `ORT_DYLIB_PATH` is not there.
    #[error("ORT_DYLIB_PATH names {}, which is missing, correct it or unset it and run `make setup`", path.display())]
    NoSuchLibrary {
        /// The value of the variable.
        path: PathBuf,
    },
    /// The operating system refused to read a file.
    #[error("{} cannot be read ({source}), repair its permissions or run `make setup`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// How closely a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// It exists and has the size that was installed; takes microseconds.
    Size,
    /// Its SHA-256 is the one that was installed; reads the whole file.
    Content,
}

/// What the set-up recorded about one installed file.
#[derive(Debug, Clone, Deserialize)]
pub struct FileFacts {
    /// SHA-256 of the content, in lower-case hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// One installed package.
#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    /// Its name in the package registry.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The licence of what was taken from it.
    pub licence: String,
    /// The installed files by their path below the package's folder.
    pub files: BTreeMap<String, FileFacts>,
}

/// A table folder that the set-up wrote.
#[derive(Debug, Clone, Deserialize)]
pub struct Sample {
    /// The written files by their path below the sample's folder.
    pub files: BTreeMap<String, FileFacts>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    format: u32,
    installed: BTreeMap<String, Package>,
}

#[derive(Debug, Deserialize)]
struct Pins {
    packages: BTreeMap<String, Pin>,
    data: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Pin {
    version: String,
    folder: String,
}

/// The cache folder with everything the set-up installed in it.
#[derive(Debug, Clone)]
pub struct Assets {
    root: PathBuf,
    library: Option<PathBuf>,
}

impl Assets {
    /// The cache folder that the environment names: `STRATAGEM_CACHE`, else `XDG_CACHE_HOME/stratagem`, else
    /// `~/.cache/stratagem`. `ORT_DYLIB_PATH` replaces the installed ONNX Runtime library.
    ///
    /// Nothing is read yet: a missing file is an error of the call that asks for it.
    ///
    /// # Errors
    /// [`Error::NoCache`] without any of the variables, [`Error::RelativeCache`] when `STRATAGEM_CACHE` is relative.
    pub fn locate() -> Result<Self, Error> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = match named("STRATAGEM_CACHE") {
            Some(path) if path.is_relative() => return Err(Error::RelativeCache { path }),
            Some(path) => path,
            // A relative XDG path is invalid by its own specification and ignored.
            None => named("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .or_else(|| named("HOME").map(|home| home.join(".cache")))
                .ok_or(Error::NoCache)?
                .join("stratagem"),
        };
        Ok(Self { root, library: named("ORT_DYLIB_PATH") })
    }

    /// The cache folder at `root`, whatever the environment says.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), library: None }
    }

    /// The cache folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of sample tables that the set-up writes: one sub-folder, so one SQL schema, for each sample.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The folder of what is made of installed models: graphs of language models and encoders.
    pub fn prepared(&self) -> PathBuf {
        self.root.join("language")
    }

    /// Whether the user's own ONNX Runtime, named in `ORT_DYLIB_PATH`, replaces the installed one.
    pub fn library_is_overridden(&self) -> bool {
        self.library.is_some()
    }

    /// The ONNX Runtime library: the one that `ORT_DYLIB_PATH` names, else the installed one.
    ///
    /// # Errors
    /// The library is missing, or has another size than it was installed with.
    pub fn runtime_library(&self) -> Result<PathBuf, Error> {
        if let Some(path) = &self.library {
            return if path.is_file() { Ok(path.clone()) } else { Err(Error::NoSuchLibrary { path: path.clone() }) };
        }
        self.file("onnxruntime", |name| name.starts_with("lib/libonnxruntime."), "lib/libonnxruntime")
    }

    /// The language model, one GGUF file with its tokenizer inside.
    ///
    /// # Errors
    /// The file is missing, or has another size than it was installed with.
    pub fn language_model(&self) -> Result<PathBuf, Error> {
        self.file("smollm2", |name| name.ends_with(".gguf"), "model.gguf")
    }

    /// The folder of one of [`TEXT_ENCODERS`]: its weights, `tokenizer.json` and what belongs to them.
    ///
    /// # Errors
    /// A file of it is missing, or has another size than it was installed with.
    pub fn text_encoder(&self, name: &str) -> Result<PathBuf, Error> {
        self.whole(name)
    }

    /// The folder of the Open Bandit sample as its package holds it: `{bts,random}/{all,men,women}/*.csv`.
    ///
    /// # Errors
    /// A file of it is missing, or has another size than it was installed with.
    pub fn open_bandit(&self) -> Result<PathBuf, Error> {
        self.whole("obp")
    }

    /// The installed packages by the folder they are in.
    ///
    /// # Errors
    /// The manifest is missing, unreadable, or not one that this program understands.
    pub fn packages(&self) -> Result<BTreeMap<String, Package>, Error> {
        let path = self.root.join("assets").join("manifest.json");
        let manifest: Manifest = read_json(&path)?;
        if manifest.format != MANIFEST_FORMAT {
            return Err(Error::Damaged { path });
        }
        Ok(manifest.installed)
    }

    /// The sample tables that the set-up wrote, by schema.
    ///
    /// # Errors
    /// The list of them is missing or unreadable.
    pub fn samples(&self) -> Result<BTreeMap<String, Sample>, Error> {
        read_json(&self.root.join("data.json"))
    }

    /// Everything that is wrong with the package in `folder`, which should be one of those that [`needed_folders`] lists.
    pub fn package_faults(&self, folder: &str, package: Option<&Package>, depth: Depth) -> Vec<Error> {
        let place = self.root.join("assets").join(folder);
        let Some(package) = package else { return vec![Error::Missing { path: place }] };
        let pinned = pins().packages.remove(&package.package).map(|pin| pin.version);
        let mut faults = Vec::new();
        if pinned.as_ref() != Some(&package.version) {
            let expected = pinned.unwrap_or_else(|| "another package".to_owned());
            let (package, found) = (package.package.clone(), package.version.clone());
            faults.push(Error::WrongVersion { package, found, expected, folder: place.clone() });
        }
        faults.extend(package.files.iter().filter_map(|(name, facts)| check(&place.join(name), facts, depth).err()));
        faults
    }

    /// Everything that is wrong with the sample tables of `schema`, which should be one of those that [`needed_samples`] lists.
    pub fn sample_faults(&self, schema: &str, sample: Option<&Sample>, depth: Depth) -> Vec<Error> {
        let place = self.data().join(schema);
        let Some(sample) = sample else { return vec![Error::Missing { path: place }] };
        sample.files.iter().filter_map(|(name, facts)| check(&place.join(name), facts, depth).err()).collect()
    }

    /// The first file of the package in `folder` that `matches`; `likely` names it when the package is not installed.
    fn file(&self, folder: &str, matches: impl Fn(&str) -> bool, likely: &str) -> Result<PathBuf, Error> {
        let place = self.root.join("assets").join(folder);
        let packages = self.packages()?;
        let found = packages.get(folder).and_then(|package| package.files.iter().find(|(name, _)| matches(name)));
        let Some((name, facts)) = found else { return Err(Error::Missing { path: place.join(likely) }) };
        let path = place.join(name);
        check(&path, facts, Depth::Size).map(|()| path)
    }

    fn whole(&self, folder: &str) -> Result<PathBuf, Error> {
        let place = self.root.join("assets").join(folder);
        let packages = self.packages()?;
        let Some(package) = packages.get(folder) else { return Err(Error::Missing { path: place }) };
        for (name, facts) in &package.files {
            check(&place.join(name), facts, Depth::Size)?;
        }
        Ok(place)
    }
}

/// The folders below `assets` that a complete set-up fills, in alphabetical order.
pub fn needed_folders() -> Vec<String> {
    let mut folders: Vec<String> = pins().packages.into_values().map(|pin| pin.folder).collect();
    folders.sort();
    folders.dedup();
    folders
}

/// The schemas below `data` that a complete set-up writes, in alphabetical order.
pub fn needed_samples() -> Vec<String> {
    pins().data.into_keys().collect()
}

fn pins() -> Pins {
    serde_json::from_str(PINS).expect("setup/packages.json is compiled in and read by a test")
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read(path).map_err(|source| unreadable(path, source))?;
    serde_json::from_slice(&text).map_err(|_| Error::Damaged { path: path.to_owned() })
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::Missing { path: path.to_owned() },
        _ => Error::Unreadable { path: path.to_owned(), source },
    }
}

fn check(path: &Path, facts: &FileFacts, depth: Depth) -> Result<(), Error> {
    let found = std::fs::metadata(path).map_err(|source| unreadable(path, source))?;
    let same = found.is_file()
        && found.len() == facts.bytes
        && (depth == Depth::Size || sha256(path).map_err(|source| unreadable(path, source))? == facts.sha256);
    if same { Ok(()) } else { Err(Error::Damaged { path: path.to_owned() }) }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        digest.update(&block[..count]);
    }
}

/// A small cache folder for tests: every needed package with one or two short files, and every sample.
#[cfg(test)]
pub(crate) mod fixture {
    use super::*;
    use serde_json::json;

    pub(crate) fn install(root: &Path) -> Assets {
        let mut installed = serde_json::Map::new();
        for (name, pin) in pins().packages.iter().filter(|(name, _)| *name != "onnxruntime-gpu") {
            let files: &[&str] = match pin.folder.as_str() {
                "onnxruntime" => &["lib/libonnxruntime.so.1.32.0", "lib/libonnxruntime_providers_shared.so"],
                "smollm2" => &["SmolLM2.gguf"],
                "minilm" => &["model.safetensors", "tokenizer.json"],
                "e5" => &["e5-small-q4.bin", "tokenizer.json"],
                _ => &["random/all/all.csv"],
            };
            let folder = root.join("assets").join(&pin.folder);
            let entry = json!({ "package": name, "version": pin.version, "licence": "MIT", "files": write(&folder, files) });
            installed.insert(pin.folder.clone(), entry);
        }
        let manifest = json!({ "format": MANIFEST_FORMAT, "installed": installed });
        std::fs::write(root.join("assets/manifest.json"), manifest.to_string()).unwrap();
        let samples: serde_json::Map<_, _> = needed_samples()
            .into_iter()
            .map(|name| (name.clone(), json!({ "files": write(&root.join("data").join(name), &["table.parquet"]) })))
            .collect();
        std::fs::write(root.join("data.json"), serde_json::Value::from(samples).to_string()).unwrap();
        Assets::at(root)
    }

    fn write(folder: &Path, names: &[&str]) -> serde_json::Value {
        let mut facts = serde_json::Map::new();
        for name in names {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("content of {name}")).unwrap();
            facts.insert((*name).to_owned(), json!({ "sha256": sha256(&path).unwrap(), "bytes": path.metadata().unwrap().len() }));
        }
        facts.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Assets, Error> {
        Assets::from_variables(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
    }

    #[test]
    fn cache_folder_follows_stratagem_cache_then_xdg_then_home() {
        let all = [("STRATAGEM_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        assert_eq!(from(&all).unwrap().root(), Path::new("/a"));
        assert_eq!(from(&all[1..]).unwrap().root(), Path::new("/b/stratagem"));
        assert_eq!(from(&all[2..]).unwrap().root(), Path::new("/c/.cache/stratagem"));
        assert_eq!(
            from(&[("STRATAGEM_CACHE", ""), ("XDG_CACHE_HOME", "b"), ("HOME", "/c")]).unwrap().root(),
            Path::new("/c/.cache/stratagem")
        );
        assert!(matches!(from(&[]), Err(Error::NoCache)));
        assert!(matches!(from(&[("STRATAGEM_CACHE", "here")]), Err(Error::RelativeCache { .. })));
    }

    #[test]
    fn installed_files_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let assets = fixture::install(folder.path());
        assert_eq!(assets.runtime_library().unwrap(), folder.path().join("assets/onnxruntime/lib/libonnxruntime.so.1.32.0"));
        assert_eq!(assets.language_model().unwrap(), folder.path().join("assets/smollm2/SmolLM2.gguf"));
        assert_eq!(assets.text_encoder("minilm").unwrap(), folder.path().join("assets/minilm"));
        assert_eq!(assets.open_bandit().unwrap(), folder.path().join("assets/obp"));
    }

    #[test]
    fn own_library_replaces_the_installed_one() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libmine.so");
        std::fs::write(&library, "elf").unwrap();
        let assets = from(&[("HOME", "/nowhere"), ("ORT_DYLIB_PATH", library.to_str().unwrap())]).unwrap();
        assert_eq!(assets.runtime_library().unwrap(), library);
        std::fs::remove_file(&library).unwrap();
        let message = assets.runtime_library().unwrap_err().to_string();
        assert_eq!(
            message,
            format!("ORT_DYLIB_PATH names {}, which is missing, correct it or unset it and run `make setup`", library.display())
        );
    }

    #[test]
    fn missing_file_is_one_sentence_with_the_file_and_the_repair() {
        let folder = tempfile::tempdir().unwrap();
        let assets = fixture::install(folder.path());
        let model = folder.path().join("assets/smollm2/SmolLM2.gguf");
        std::fs::remove_file(&model).unwrap();
        assert_eq!(
            assets.language_model().unwrap_err().to_string(),
            format!("{} is missing, repair it with `make setup`", model.display())
        );
        assert!(assets.text_encoder("minilm").is_ok(), "other packages are not affected");
    }

    #[test]
    fn nothing_installed_names_the_manifest_and_the_repair() {
        let folder = tempfile::tempdir().unwrap();
        let message = Assets::at(folder.path()).runtime_library().unwrap_err().to_string();
        assert_eq!(message, format!("{} is missing, repair it with `make setup`", folder.path().join("assets/manifest.json").display()));
    }

    #[test]
    fn truncated_file_is_damaged_before_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let assets = fixture::install(folder.path());
        std::fs::write(folder.path().join("assets/minilm/tokenizer.json"), "").unwrap();
        assert!(matches!(assets.text_encoder("minilm"), Err(Error::Damaged { path }) if path.ends_with("minilm/tokenizer.json")));
    }

    #[test]
    fn every_pin_has_a_folder_and_samples_are_known() {
        assert_eq!(needed_folders(), ["e5", "minilm", "obp", "onnxruntime", "smollm2"]);
        assert_eq!(needed_samples(), ["open_bandit", "shop"]);
    }
}
