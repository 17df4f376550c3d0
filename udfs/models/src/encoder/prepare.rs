//! An encoder on disk, ready to run: prepared once from a checkpoint, then found by the checkpoint's hash.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::config::{Config, Family, Pooling, SETTINGS, Sentences};
use super::graph::{self, WEIGHTS};
use super::tokens::{self, Tokens};
use crate::error::{Error, Result};
use crate::language::folder::{self, Folder, packed};
use crate::language::{Form, Precision};
use crate::net::Parameter;
use crate::onnx::{ModelProto, TensorProto};
use crate::prepared::{self, Data, Entry, Key};
use crate::shelf::Shelved;

/// Counts up with every change of what is written; what another format prepared is prepared anew.
const FORMAT: u32 = 2;
const FACTS: &str = "encoder.json";
const GRAPH: &str = "encoder.onnx";

/// What is known of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The name the checkpoint gives itself, else the name of its folder.
    pub name: String,
    /// The family.
    pub family: Family,
    /// Layers.
    pub layers: usize,
    /// Values of a vector.
    pub dimension: usize,
    /// Tokens it knows.
    pub vocabulary: usize,
    /// The most tokens of a text; what comes after is not read.
    pub max_tokens: usize,
    /// The number of weights.
    pub parameters: u64,
    /// How the vectors of tokens become one.
    pub pooling: Pooling,
    /// Whether vectors have the length 1.
    pub normalize: bool,
    /// Whether texts are turned into lower case before they are cut into tokens.
    pub lowercase: bool,
    /// What stands before every text.
    pub prompt: String,
    /// The row of the table of positions for the first token.
    pub first_position: usize,
    /// Bytes of weights that every session holds in a form of its own.
    pub session_bytes: u64,
    /// The licence, if the checkpoint names one.
    pub licence: Option<String>,
}

/// `encoder.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    form: Form,
    source_sha256: String,
    facts: Facts,
    config: Config,
    files: Vec<Entry>,
}

/// What tells of any format.
#[derive(Debug, Deserialize)]
struct Format {
    format: u32,
}

/// A prepared encoder on disk.
#[derive(Debug, Clone)]
pub struct Encoder {
    folder: PathBuf,
    manifest: Manifest,
}

impl Encoder {
    /// The form that is as exact as the checkpoint.
    pub const EXACT: Form = Form { precision: Precision::F32, block: 128 };

    /// What a folder in the style of Hugging Face holds, without preparing it.
    pub fn inspect(source: &Path) -> Result<Facts> {
        let found = Source::open(source)?;
        Ok(found.facts())
    }

    /// Prepares a folder in the style of Hugging Face or sentence-transformers; a second call with the same bytes finds what the first one left
    /// in `cache`. The precision is `f32`, or `int8` for products of 8-bit weights.
    ///
    /// A reader sees a whole model or none, also after a power cut. Errors: [`Error::Unsupported`] names the field that asks for what is
    /// not done here, [`Error::Corrupt`] what is wrong with a file.
    pub fn prepare(source: &Path, cache: &Path, form: Form) -> Result<Self> {
        if ![32, 64, 128].contains(&form.block) {
            return Err(Error::option("block", format!("{} is not 32, 64 or 128", form.block)));
        }
        let block = match form.precision {
            Precision::F32 => None,
            Precision::Int8 => Some(form.block),
            other => return Err(Error::option("precision", format!("an encoder is f32 or int8, not {}", other.name()))),
        };
        let found = Source::open(source)?;
        let sha256 = found.hash(source)?;
        let rounded = block.map(|block| format!("-{block}")).unwrap_or_default();
        let stem = format!("{sha256}-{}{rounded}-encoder-", form.precision.name());
        let key = Key { cache, stem: &stem, format: FORMAT, source };
        key.find(Self::open, |folder| found.write(form, block, sha256, folder))
    }

    /// Opens a prepared encoder. The weights are only counted: [`Encoder::verify`] reads them.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FACTS);
        let object = path.display().to_string();
        let bytes = folder::bytes(folder, FACTS)?;
        let bytes = bytes.ok_or_else(|| Error::io(&path)(std::io::ErrorKind::NotFound.into()))?;
        let Format { format } = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&object, e))?;
        if format != FORMAT {
            return Err(Error::unsupported(object, format!("its format is {format}, not {FORMAT}: import the model again")));
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&object, e))?;
        for name in [GRAPH, WEIGHTS, tokens::FILE] {
            let entry = manifest.files.iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| Error::corrupt(&object, format!("it does not list {name}")))?;
            entry.check(folder, name == GRAPH)?;
        }
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// Reads every file and compares it with what was written.
    pub fn verify(&self) -> Result<()> {
        self.manifest.files.iter().try_for_each(|entry| entry.check(&self.folder, true))
    }

    /// What is known of the model.
    pub fn facts(&self) -> &Facts {
        &self.manifest.facts
    }

    /// How it was prepared.
    pub fn form(&self) -> Form {
        self.manifest.form
    }

    /// The SHA-256 of the checkpoint, lower-case hexadecimal.
    pub fn source_sha256(&self) -> &str {
        &self.manifest.source_sha256
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The graph; its weights lie beside it.
    pub(super) fn graph(&self) -> PathBuf {
        self.folder.join(GRAPH)
    }

    pub(super) fn tokens(&self) -> Result<Tokens> {
        let bytes = self.tokenizer()?;
        Tokens::new(&self.folder.join(tokens::FILE).display().to_string(), &bytes, self.facts())
    }

    /// The `tokenizer.json`.
    pub(super) fn tokenizer(&self) -> Result<Vec<u8>> {
        let path = self.folder.join(tokens::FILE);
        std::fs::read(&path).map_err(Error::io(&path))
    }

    /// The sizes.
    pub(super) fn config(&self) -> &Config {
        &self.manifest.config
    }

    /// Whether its weights are as exact as those of the checkpoint.
    pub fn is_exact(&self) -> bool {
        self.manifest.form.precision == Precision::F32
    }

    /// The weights, in the order of the graph's slots.
    ///
    /// Errors: [`Error::Data`] when they are rounded, [`Error::Corrupt`].
    pub(super) fn weights(&self) -> Result<Vec<Parameter>> {
        if !self.is_exact() {
            let reason = format!("encoder \"{}\" has weights of 8 bits, which cannot be trained", self.manifest.facts.name);
            return Err(Error::data(reason, "import it once more, with --precision f32"));
        }
        let path = self.graph();
        let object = path.display().to_string();
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let model = ModelProto::decode(bytes.as_slice()).map_err(|error| Error::corrupt(&object, error))?;
        let constants = model.graph.map(|graph| graph.initializer).unwrap_or_default();
        let path = self.folder.join(WEIGHTS);
        let file = File::open(&path).map_err(Error::io(&path))?;
        let weight = |slot: graph::Slot| {
            let constant = constants.iter().find(|constant| constant.name == slot.name);
            let place = constant.and_then(TensorProto::place);
            let place = place.ok_or_else(|| Error::corrupt(&object, format!("it does not say where {} is", slot.name)))?;
            let mut bytes = vec![0; 4 * slot.shape.iter().product::<usize>()];
            file.read_exact_at(&mut bytes, place).map_err(Error::io(&path))?;
            let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            Ok(Parameter { name: slot.name, shape: slot.shape, values })
        };
        graph::build(self.config())?.slots.into_iter().map(weight).collect()
    }
}

impl Shelved for Encoder {
    /// A folder that sentence-transformers wrote, one in the style of Hugging Face with a model of the BERT family, or one with a packed file.
    fn accepts(source: &Path) -> bool {
        let config = || folder::json(source, "config.json").ok().flatten();
        let family =
            || config().is_some_and(|config| config.get("model_type").and_then(|kind| kind.as_str()).and_then(Family::of).is_some());
        source.is_dir() && (source.join("modules.json").is_file() || source.join(packed::FILE).is_file() || family())
    }

    fn prepare(source: &Path, cache: &Path, form: Form) -> Result<Self> {
        Self::prepare(source, cache, form)
    }

    fn open(folder: &Path) -> Result<Self> {
        Self::open(folder)
    }

    fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A checkpoint that is being read.
struct Source {
    sentences: Sentences,
    folder: Folder,
    config: Config,
    name: String,
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let sentences = Sentences::read(path)?;
        let folder = Folder::open(&sentences.transformer)?;
        let object = folder.path().join("config.json").display().to_string();
        let config = Config::new(&object, folder.config())?;
        let own = folder.config().get("_name_or_path").and_then(|name| name.as_str()).map(str::trim);
        let own = own.filter(|name| !name.is_empty() && !name.starts_with(['/', '.']));
        let name = own.map_or_else(|| path.file_name().unwrap_or_default().to_string_lossy().into_owned(), str::to_owned);
        Ok(Self { sentences, folder, config, name })
    }

    fn facts(&self) -> Facts {
        let Self { sentences, folder, config, name } = self;
        let per_layer = 4 * config.hidden * config.hidden + 2 * config.hidden * config.inner;
        Facts {
            name: name.clone(),
            family: config.family,
            layers: config.layers,
            dimension: config.hidden,
            vocabulary: config.vocabulary,
            max_tokens: sentences.max_tokens.map_or(config.room(), |most| most.min(config.room())),
            parameters: folder.tensors().map(|place| place.dims.iter().map(|dim| *dim as u64).product::<u64>()).sum(),
            pooling: sentences.pooling,
            normalize: sentences.normalize,
            lowercase: sentences.lowercase,
            prompt: sentences.prompt.clone(),
            first_position: config.first_position,
            session_bytes: 4 * (config.layers * per_layer) as u64,
            licence: folder.config().get("license").and_then(|name| name.as_str()).map(str::to_owned),
        }
    }

    /// The hash of the files that decide what is written.
    fn hash(&self, path: &Path) -> Result<String> {
        let settings = prepared::hash_files(path, SETTINGS)?;
        let own = ["config.json", "sentence_bert_config.json", tokens::FILE, "tokenizer_config.json"];
        let model = prepared::hash_files(self.folder.path(), own.into_iter().chain(self.folder.files()))?;
        // What the settings say counts too: folders of other names hold it in the same words.
        Ok(prepared::hash(
            format!("{settings} {model} {:?} {:?} {:?}", self.sentences.pooling, self.sentences.normalize, self.sentences.prompt)
                .as_bytes(),
        ))
    }

    fn write(&self, form: Form, block: Option<usize>, source_sha256: String, target: &Path) -> Result<()> {
        let mut facts = self.facts();
        if block.is_some() {
            facts.session_bytes /= 4;
        }
        let tokenizer = tokens::import(self.folder.path())?;
        // What cannot be read later fails here.
        Tokens::new(&self.folder.path().join(tokens::FILE).display().to_string(), &tokenizer, &facts)?;
        let checkpoint = Checkpoint::new(&self.folder, &self.config)?;
        let mut data = Data::create(target.join(WEIGHTS))?;
        let model = graph::serve(&self.config, &checkpoint, block, &mut data)?;
        let (bytes, sha256) = data.finish()?;
        let mut files = vec![Entry { name: WEIGHTS.to_owned(), bytes, sha256 }];
        for (name, bytes) in [(GRAPH, model.encode_to_vec()), (tokens::FILE, tokenizer)] {
            files.push(Entry::write(target, name, &bytes)?);
        }
        let manifest = Manifest { format: FORMAT, form, source_sha256, facts, config: self.config.clone(), files };
        let bytes = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::corrupt(FACTS, e))?;
        crate::durable::write(&target.join(FACTS), &bytes)
    }
}
