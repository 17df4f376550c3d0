//! A language model on disk, ready to run: prepared once from a checkpoint, then found by the checkpoint's hash.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::config::Architecture;
use super::template::Chat;
use super::tokenizer::{self, Special, Tokens};
use super::weights::{Role, Weights};
use super::{folder, graph};
use crate::durable;
use crate::error::{Error, Result};
use crate::prepared::{self, Entry, Key};
use crate::shelf::Shelved;

/// Counts up with every change of what is written; what another format prepared is prepared anew.
const FORMAT: u32 = 3;
const FACTS: &str = "decoder.json";
const GRAPH: &str = "decoder.onnx";
const LORA_GRAPH: &str = "decoder_lora.onnx";

/// The numbers a model calculates with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 8-bit weights with a scale for each block of a row, activations in float: near the original, and the fastest on a CPU.
    #[default]
    Int8,
    /// 4-bit weights. A GGUF file's own 4-bit blocks (`Q4_0`, `Q4_1`, `Q4_K`) stay exactly as they are; finer ones of such a file become
    /// 8-bit; plain floats and `Q8_0` are rounded to 4 bits, which small models feel: 135 M parameters lost a quarter in perplexity.
    Int4,
    /// Weights, activations and cache in half precision: for a GPU.
    F16,
    /// Everything in float: the reference.
    F32,
}

impl Precision {
    /// Whether weights are floats, without scales.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32)
    }

    /// Its name: `int8`, `int4`, `f16` or `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(raw: &str) -> Result<Self> {
        let known = [Self::Int8, Self::Int4, Self::F16, Self::F32].into_iter().find(|precision| precision.name() == raw);
        known.ok_or_else(|| Error::option("precision", format!("\"{raw}\" is not int8, int4, f16 or f32")))
    }
}

/// How a checkpoint is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// The numbers it calculates with.
    pub precision: Precision,
    /// Values that share a scale, 32, 64 or 128: fewer are more exact, more are faster. Without meaning for floats, for the embedding of a
    /// `Q8_0` file, for 4-bit blocks that are kept, and for queries, keys and values in 8 bits, which always have 32.
    pub block: usize,
}

impl Default for Form {
    fn default() -> Self {
        Self { precision: Precision::default(), block: 128 }
    }
}

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The name the checkpoint gives itself, else the name of its file or folder.
    pub name: String,
    /// The family.
    pub architecture: Architecture,
    /// Layers.
    pub layers: usize,
    /// Values of an activation.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Heads of the key-value cache.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Values within the feed-forward part.
    pub inner: usize,
    /// Tokens the model has logits for.
    pub vocab: usize,
    /// The longest text in tokens, prompt and answer together.
    pub max_positions: usize,
    /// The number of weights.
    pub parameters: u64,
    /// The token a text starts with.
    pub bos: Option<u32>,
    /// The tokens that end an answer.
    pub eos: Vec<u32>,
    /// The chat template in Jinja.
    pub chat_template: Option<String>,
    /// The licence, if the checkpoint names one.
    pub licence: Option<String>,
}

impl Facts {
    /// Bytes that one token takes in the key-value cache.
    pub fn cache_bytes_per_token(&self, precision: Precision) -> usize {
        let width = if precision == Precision::F16 { 2 } else { 4 };
        2 * self.layers * self.kv_heads * self.head_dim * width
    }
}

/// `decoder.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    form: Form,
    source_sha256: String,
    facts: Facts,
    files: Vec<Entry>,
}

/// A prepared model on disk.
#[derive(Debug, Clone)]
pub struct Decoder {
    folder: PathBuf,
    manifest: Manifest,
}

impl Decoder {
    /// What a GGUF file or a Hugging Face folder holds, without preparing it.
    pub fn inspect(source: &Path) -> Result<Facts> {
        facts(&Weights::open(source)?)
    }

    /// Prepares a GGUF file or a Hugging Face folder; a second call with the same bytes finds what the first one left in `cache`.
    ///
    /// A reader sees a whole model or none, also after a power cut. Errors: [`Error::Unsupported`] names the field that asks for what is
    /// not done here, [`Error::Corrupt`] what is wrong with a file.
    pub fn prepare(source: &Path, cache: &Path, form: Form) -> Result<Self> {
        if ![32, 64, 128].contains(&form.block) {
            return Err(Error::option("block", format!("{} is not 32, 64 or 128", form.block)));
        }
        let weights = Weights::open(source)?;
        let sha256 = source_hash(source, &weights)?;
        let block = if form.precision.is_float() { String::new() } else { format!("-{}", form.block) };
        let stem = format!("{sha256}-{}{block}-", form.precision.name());
        let key = Key { cache, stem: &stem, format: FORMAT, source };
        key.find(Self::open, |folder| write(&weights, form, sha256, folder))
    }

    /// Opens a prepared model. The weights are only counted: [`Decoder::verify`] reads them.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FACTS);
        let object = path.display().to_string();
        let bytes = folder::bytes(folder, FACTS)?;
        let bytes = bytes.ok_or_else(|| Error::io(&path)(std::io::ErrorKind::NotFound.into()))?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&object, e))?;
        if manifest.format != FORMAT {
            return Err(Error::unsupported(object, format!("its format is {}, not {FORMAT}: import the model again", manifest.format)));
        }
        let decoder = Self { folder: folder.to_owned(), manifest };
        for name in [GRAPH, LORA_GRAPH, graph::WEIGHTS, tokenizer::FILE] {
            let entry = decoder.manifest.files.iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| Error::corrupt(&object, format!("it does not list {name}")))?;
            entry.check(folder, name != graph::WEIGHTS)?;
        }
        Ok(decoder)
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
    pub fn graph(&self) -> PathBuf {
        self.folder.join(GRAPH)
    }

    /// The graph with adapters as inputs, on the same weights.
    pub fn lora_graph(&self) -> PathBuf {
        self.folder.join(LORA_GRAPH)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.iter().map(|entry| entry.bytes).sum()
    }

    /// The tokenizer.
    pub fn tokens(&self) -> Result<Tokens> {
        let facts = self.facts();
        let special = Special { bos: facts.bos, eos: facts.eos.clone() };
        Tokens::open(&self.folder.join(tokenizer::FILE), &special, facts.vocab)
    }

    /// The chat template, if the model has one.
    pub fn chat(&self, tokens: &Tokens) -> Result<Option<Chat>> {
        let facts = self.facts();
        facts.chat_template.as_deref().map(|template| Chat::new(&facts.name, template, tokens)).transpose()
    }
}

impl Shelved for Decoder {
    /// A GGUF file, or a folder with `config.json` and weights in the style of Hugging Face.
    fn accepts(source: &Path) -> bool {
        let has = |name: &str| source.join(name).is_file();
        match source.is_dir() {
            true => has("config.json") && (has("model.safetensors") || has("model.safetensors.index.json")),
            false => source.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")),
        }
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

fn facts(weights: &Weights) -> Result<Facts> {
    let config = weights.config()?;
    let vocab = weights.get(&config, Role::Embedding)?.rows;
    let special = tokenizer::special(weights)?;
    let inside = |id: &u32| (*id as usize) < vocab;
    Ok(Facts {
        name: weights.title()?,
        architecture: config.architecture,
        layers: config.layers,
        hidden: config.hidden,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        inner: config.inner,
        vocab,
        max_positions: config.max_positions,
        parameters: weights.parameters(),
        bos: special.bos.filter(inside),
        eos: special.eos.into_iter().filter(inside).collect(),
        chat_template: tokenizer::template(weights)?,
        licence: weights.licence()?,
    })
}

/// Writes all files of a prepared model.
fn write(weights: &Weights, form: Form, source_sha256: String, target: &Path) -> Result<()> {
    let config = weights.config()?;
    let facts = facts(weights)?;
    let tokenizer_json = tokenizer::import(weights)?;
    // What cannot be read later fails here.
    let special = Special { bos: facts.bos, eos: facts.eos.clone() };
    let tokens = Tokens::from_json(&weights.object(), &tokenizer_json, &special, facts.vocab)?;
    if let Some(template) = &facts.chat_template {
        Chat::new(&weights.object(), template, &tokens)?;
    }
    drop(tokens);
    let built = graph::build(weights, &config, form, target)?;
    let mut files = vec![Entry { name: graph::WEIGHTS.to_owned(), bytes: built.bytes, sha256: built.sha256 }];
    let small = [(GRAPH, built.plain.encode_to_vec()), (LORA_GRAPH, built.lora.encode_to_vec()), (tokenizer::FILE, tokenizer_json)];
    for (name, bytes) in small {
        files.push(Entry::write(target, name, &bytes)?);
    }
    let manifest = Manifest { format: FORMAT, form, source_sha256, facts, files };
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::corrupt(FACTS, e))?;
    durable::write(&target.join(FACTS), &bytes)
}

/// The hash of a file, or of all files of a folder that matter, with their names.
fn source_hash(source: &Path, weights: &Weights) -> Result<String> {
    const SETTINGS: [&str; 5] = ["chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
    let Weights::Folder(folder) = weights else { return prepared::hash_file(source) };
    prepared::hash_files(source, SETTINGS.into_iter().chain(folder.files()))
}

#[cfg(test)]
mod tests;
