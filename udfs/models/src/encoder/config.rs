//! What a checkpoint says about its encoder: sizes, where positions begin, and how the vectors of tokens become that of a text.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::language::folder::{self, packed};

/// Sizes above these are no models of today; a made-up file must not cost memory.
const MOST_LAYERS: usize = 512;
const WIDEST: usize = 1 << 17;
const LARGEST_VOCABULARY: usize = 1 << 21;
/// Longer texts cost memory by the square of their length.
const MOST_TOKENS: usize = 8192;

/// The families of encoders that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// BERT (Devlin et al. 2019) and what has its form: MiniLM, E5, BGE.
    Bert,
    /// RoBERTa (Liu et al. 2019): positions begin after that of the padding.
    Roberta,
    /// XLM-RoBERTa (Conneau et al. 2020) and CamemBERT: RoBERTa with a SentencePiece tokenizer.
    XlmRoberta,
}

impl Family {
    /// The family of a `model_type` in `config.json`.
    pub(crate) fn of(model_type: &str) -> Option<Self> {
        match model_type {
            "bert" => Some(Self::Bert),
            "roberta" => Some(Self::Roberta),
            "xlm-roberta" | "camembert" => Some(Self::XlmRoberta),
            _ => None,
        }
    }

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::XlmRoberta => "xlm-roberta",
        }
    }
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    Cls,
}

impl Pooling {
    /// Its name: `mean` or `cls`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

/// What stands between the two products of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Activation {
    Gelu,
    Relu,
}

/// The sizes of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) family: Family,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    /// The width of the feed-forward part.
    pub(crate) inner: usize,
    pub(crate) vocabulary: usize,
    /// Rows of the table of positions.
    pub(crate) positions: usize,
    /// The row of the first token.
    pub(crate) first_position: usize,
    /// Rows of the table of token types.
    pub(crate) types: usize,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
}

impl Config {
    /// Reads `config.json` of a folder in the layout of Hugging Face.
    pub(crate) fn new(object: &str, json: &Map<String, Json>) -> Result<Self> {
        let unsupported = |reason: String| Err(Error::unsupported(object, reason));
        let size = |key: &str, most: usize| -> Result<usize> {
            let value = json.get(key).and_then(Json::as_u64).and_then(|value| usize::try_from(value).ok());
            let value = value.ok_or_else(|| Error::corrupt(object, format!("{key} is missing or no count")))?;
            if value == 0 || value > most {
                return Err(Error::corrupt(object, format!("{key} is {value}")));
            }
            Ok(value)
        };
        let text = |key: &str| json.get(key).and_then(Json::as_str);
        let model_type = text("model_type").unwrap_or("missing");
        let Some(family) = Family::of(model_type) else { return unsupported(format!("model_type is \"{model_type}\"")) };
        if let Some(other) = text("position_embedding_type").filter(|kind| *kind != "absolute") {
            return unsupported(format!("position_embedding_type is \"{other}\""));
        }
        if json.get("is_decoder").and_then(Json::as_bool) == Some(true) {
            return unsupported("is_decoder is true".to_owned());
        }
        let activation = match text("hidden_act").unwrap_or("gelu") {
            "gelu" => Activation::Gelu,
            "relu" => Activation::Relu,
            other => return unsupported(format!("hidden_act is \"{other}\"")),
        };
        let (hidden, heads) = (size("hidden_size", WIDEST)?, size("num_attention_heads", WIDEST)?);
        if !hidden.is_multiple_of(heads) {
            return Err(Error::corrupt(object, format!("{heads} heads do not share {hidden} values evenly")));
        }
        let positions = size("max_position_embeddings", WIDEST)?;
        let first_position = match family {
            Family::Bert => 0,
            Family::Roberta | Family::XlmRoberta => {
                json.get("pad_token_id").and_then(Json::as_u64).map_or(1, |id| usize::try_from(id).unwrap_or(usize::MAX)).saturating_add(1)
            }
        };
        if positions < first_position.saturating_add(8) {
            return Err(Error::corrupt(object, format!("max_position_embeddings is {positions}, and positions begin at {first_position}")));
        }
        let epsilon = json.get("layer_norm_eps").and_then(Json::as_f64).unwrap_or(1e-12);
        if !(epsilon > 0.0 && epsilon < 1.0) {
            return Err(Error::corrupt(object, format!("layer_norm_eps is {epsilon}")));
        }
        Ok(Self {
            family,
            layers: size("num_hidden_layers", MOST_LAYERS)?,
            hidden,
            heads,
            inner: size("intermediate_size", WIDEST)?,
            vocabulary: size("vocab_size", LARGEST_VOCABULARY)?,
            positions,
            first_position,
            types: size("type_vocab_size", WIDEST)?,
            epsilon: epsilon as f32,
            activation,
        })
    }

    /// The most tokens of a text that it has positions for.
    pub(crate) fn room(&self) -> usize {
        (self.positions - self.first_position).min(MOST_TOKENS)
    }
}

/// How a folder turns texts into vectors: what sentence-transformers keeps beside the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sentences {
    /// The folder of the model itself.
    pub(crate) transformer: PathBuf,
    pub(crate) pooling: Pooling,
    /// Whether vectors are divided by their length.
    pub(crate) normalize: bool,
    /// The most tokens of a text, if the folder says it.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) lowercase: bool,
    /// What stands before every text.
    pub(crate) prompt: String,
}

/// Files that decide what [`Sentences::read`] gives, besides those of the model.
pub(crate) const SETTINGS: [&str; 4] =
    ["modules.json", "1_Pooling/config.json", "config_sentence_transformers.json", "sentence_bert_config.json"];

impl Sentences {
    /// Reads a folder. One without `modules.json` is a bare model, whose tokens are averaged, as sentence-transformers does.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if path.join(packed::FILE).is_file() {
            let (transformer, prompt) = (path.to_owned(), packed::PROMPT.to_owned());
            return Ok(Self { transformer, pooling: Pooling::Mean, normalize: true, max_tokens: None, lowercase: false, prompt });
        }
        let mut found = Self {
            transformer: path.to_owned(),
            pooling: Pooling::Mean,
            normalize: false,
            max_tokens: None,
            lowercase: false,
            prompt: default_prompt(path)?,
        };
        let object = path.join("modules.json").display().to_string();
        let Some(bytes) = folder::bytes(path, "modules.json")? else {
            found.limits(path)?;
            return Ok(found);
        };
        let modules: Vec<Module> = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&object, e))?;
        for (place, module) in modules.iter().enumerate() {
            let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
            let sub = &module.path;
            if !(sub.is_empty() || sub.split('/').all(plain)) {
                return Err(Error::corrupt(&object, format!("\"{sub}\" is no folder of it")));
            }
            let folder = path.join(sub);
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" if place == 0 => {
                    found.limits(&folder)?;
                    found.transformer = folder;
                }
                "Pooling" => found.pooling = pooling(&folder)?,
                "Normalize" => found.normalize = true,
                _ => return Err(Error::unsupported(object, format!("module {} is \"{}\"", place, module.kind))),
            }
        }
        Ok(found)
    }

    fn limits(&mut self, folder: &Path) -> Result<()> {
        let settings = folder::json(folder, "sentence_bert_config.json")?.unwrap_or_default();
        let tokenizer = folder::json(folder, "tokenizer_config.json")?.unwrap_or_default();
        let count =
            |value: Option<&Json>| value.and_then(Json::as_u64).and_then(|count| usize::try_from(count).ok()).filter(|count| *count >= 8);
        // Files without a limit say so with an enormous one, which is no integer.
        self.max_tokens = count(settings.get("max_seq_length")).or_else(|| count(tokenizer.get("model_max_length")));
        self.lowercase = settings.get("do_lower_case").and_then(Json::as_bool).unwrap_or(false);
        Ok(())
    }
}

/// An entry of `modules.json`.
#[derive(Debug, Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Reads the settings of a pooling, of which exactly one kind is on.
fn pooling(folder: &Path) -> Result<Pooling> {
    let object = folder.join("config.json").display().to_string();
    let Some(json) = folder::json(folder, "config.json")? else { return Err(Error::unsupported(object, "it is missing")) };
    let mut kinds: Vec<&str> =
        json.iter().filter(|(_, value)| **value == Json::Bool(true)).filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).collect();
    kinds.extend(json.get("pooling_mode").and_then(Json::as_str));
    match kinds.as_slice() {
        ["mean_tokens" | "mean"] => Ok(Pooling::Mean),
        ["cls_token" | "cls"] => Ok(Pooling::Cls),
        other => Err(Error::unsupported(object, format!("its pooling is {}, not mean or cls", other.join(" and ")))),
    }
}

/// The prompt that stands before every text unless another is asked for.
fn default_prompt(path: &Path) -> Result<String> {
    let settings = folder::json(path, "config_sentence_transformers.json")?.unwrap_or_default();
    let name = settings.get("default_prompt_name").and_then(Json::as_str);
    let prompt = name.and_then(|name| settings.get("prompts")?.get(name)?.as_str());
    Ok(prompt.unwrap_or_default().to_owned())
}
