//! What a checkpoint says about its model: sizes, rotary embedding, special tokens.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::gguf::Gguf;
use crate::error::{Error, Result};

/// Positions beyond this many get no rotary table: a cache of that length would not fit anyway.
const MOST_POSITIONS: u64 = 32_768;
/// Sizes above these are no models of today; a made-up file must not cost memory.
const MOST_LAYERS: u64 = 512;
const WIDEST: u64 = 1 << 17;
pub(crate) const LARGEST_VOCABULARY: u64 = 1 << 21;

/// The families of models that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Llama and what has its form: SmolLM2, Mistral without a sliding window, TinyLlama.
    Llama,
    /// Qwen2 and Qwen2.5: biases on queries, keys and values.
    Qwen2,
}

impl Architecture {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }
}

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) architecture: Architecture,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// The width of the feed-forward part.
    pub(crate) inner: usize,
    pub(crate) max_positions: usize,
    pub(crate) epsilon: f32,
    pub(crate) theta: f64,
    pub(crate) scaling: Scaling,
    /// The head uses the embedding's weights; `None` where only the presence of a head tells.
    pub(crate) tied: Option<bool>,
}

/// How rotary frequencies differ from `theta^(-2i/d)`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// Positions are divided by this factor.
    Linear(f64),
    /// Llama 3.1: slow frequencies are divided, fast ones stay, those between are mixed.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// Each frequency has its divisor (`rope_freqs.weight` of a GGUF file).
    Divisors(Vec<f32>),
}

impl Config {
    /// The frequencies of the rotary embedding, half as many as a head has values.
    pub(crate) fn frequencies(&self) -> Vec<f64> {
        let plain = (0..self.head_dim / 2).map(|i| self.theta.powf(-2.0 * i as f64 / self.head_dim as f64));
        match &self.scaling {
            Scaling::None => plain.collect(),
            Scaling::Linear(factor) => plain.map(|f| f / factor).collect(),
            Scaling::Divisors(divisors) => plain.zip(divisors).map(|(f, divisor)| f / f64::from(*divisor)).collect(),
            Scaling::Llama3 { factor, low, high, original } => plain
                .map(|f| {
                    let turns = original * f / std::f64::consts::TAU;
                    let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    fast * f + (1.0 - fast) * f / factor
                })
                .collect(),
        }
    }

    fn checked(self, object: &str) -> Result<Self> {
        let wrong = |reason: String| Err(Error::corrupt(object, reason));
        if self.layers == 0 || self.hidden == 0 || self.heads == 0 || self.kv_heads == 0 || self.inner == 0 || self.max_positions == 0 {
            return wrong("a size is zero".to_owned());
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return wrong(format!("{} heads do not share {} key-value heads evenly", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(8) || self.head_dim == 0 || self.head_dim > 512 {
            return Err(Error::unsupported(object, format!("heads have {} values, not a multiple of 8 up to 512", self.head_dim)));
        }
        if !(self.theta > 1.0 && self.theta.is_finite() && self.epsilon > 0.0 && self.epsilon < 1.0) {
            return wrong("the rotary base or the norm's epsilon is out of range".to_owned());
        }
        Ok(self)
    }
}

/// Reads the metadata of a GGUF file.
pub(crate) fn from_gguf(file: &Gguf) -> Result<Config> {
    let object = file.path().display().to_string();
    let unsupported = |reason: String| Error::unsupported(&object, reason);
    let missing = |key: &str| Error::corrupt(&object, format!("it has no {key}"));
    let name = file.text("general.architecture")?.ok_or_else(|| missing("general.architecture"))?;
    let architecture = match name {
        "llama" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        _ => return Err(unsupported(format!("general.architecture is \"{name}\""))),
    };
    let key = |suffix: &str| format!("{name}.{suffix}");
    let size = |suffix: &str, most: u64| -> Result<usize> {
        let key = key(suffix);
        let value = file.int(&key)?.ok_or_else(|| missing(&key))?;
        if value > most {
            return Err(Error::corrupt(&object, format!("{key} is {value}")));
        }
        Ok(value as usize)
    };
    for (suffix, allowed) in [("expert_count", 0), ("attention.sliding_window", 0)] {
        if let Some(value) = file.int(&key(suffix))?.filter(|value| *value > allowed) {
            return Err(unsupported(format!("{} is {value}", key(suffix))));
        }
    }
    if let Some(count) = file.int("split.count")?.filter(|count| *count > 1) {
        return Err(unsupported(format!("split.count is {count}: join the parts first")));
    }
    let (hidden, heads) = (size("embedding_length", WIDEST)?, size("attention.head_count", WIDEST)?);
    let kv_heads = match file.get(&key("attention.head_count_kv")) {
        None => heads,
        Some(_) => size("attention.head_count_kv", WIDEST)?,
    };
    let head_dim = match file.int(&key("attention.key_length"))? {
        Some(value) if value <= WIDEST => value as usize,
        _ => hidden.checked_div(heads).unwrap_or(0),
    };
    for suffix in ["attention.value_length", "rope.dimension_count"] {
        if let Some(value) = file.int(&key(suffix))?.filter(|value| *value != head_dim as u64) {
            return Err(unsupported(format!("{} is {value}, heads have {head_dim} values", key(suffix))));
        }
    }
    let epsilon = key("attention.layer_norm_rms_epsilon");
    let config = Config {
        architecture,
        layers: size("block_count", MOST_LAYERS)?,
        hidden,
        heads,
        kv_heads,
        head_dim,
        inner: size("feed_forward_length", WIDEST)?,
        max_positions: file.int(&key("context_length"))?.ok_or_else(|| missing(&key("context_length")))?.min(MOST_POSITIONS) as usize,
        epsilon: file.float(&epsilon)?.ok_or_else(|| missing(&epsilon))? as f32,
        theta: file.float(&key("rope.freq_base"))?.unwrap_or(10_000.0),
        scaling: gguf_scaling(file, name, head_dim)?,
        tied: None,
    };
    config.checked(&object)
}

fn gguf_scaling(file: &Gguf, name: &str, head_dim: usize) -> Result<Scaling> {
    let object = file.path().display().to_string();
    if let Some(place) = file.tensor("rope_freqs.weight") {
        if place.dims.as_slice() != [head_dim / 2] || place.length > 1 << 16 {
            return Err(Error::corrupt(&object, "rope_freqs.weight has not half as many values as a head"));
        }
        let mut bytes = vec![0; place.length as usize];
        file.read(place, 0, &mut bytes)?;
        let mut divisors = vec![0.0; head_dim / 2];
        super::blocks::dequantise(place.kind, &bytes, &mut divisors);
        if divisors.iter().any(|divisor| !(divisor.is_finite() && *divisor > 0.0)) {
            return Err(Error::corrupt(&object, "rope_freqs.weight holds a value that is no divisor"));
        }
        return Ok(Scaling::Divisors(divisors));
    }
    let key = format!("{name}.rope.scaling.type");
    match file.text(&key)? {
        None | Some("none") => Ok(Scaling::None),
        Some("linear") => {
            let factor = file.float(&format!("{name}.rope.scaling.factor"))?.unwrap_or(1.0);
            linear(&object, factor)
        }
        Some(other) => Err(Error::unsupported(&object, format!("{key} is \"{other}\""))),
    }
}

fn linear(object: &str, factor: f64) -> Result<Scaling> {
    if !(factor.is_finite() && factor > 0.0) {
        return Err(Error::corrupt(object, format!("the factor of the rotary scaling is {factor}")));
    }
    Ok(Scaling::Linear(factor))
}

/// Reads `config.json` of a folder in the layout of Hugging Face.
pub(crate) fn from_json(object: &str, json: &Map<String, Json>) -> Result<Config> {
    let unsupported = |reason: String| Error::unsupported(object, reason);
    let text = |key: &str| json.get(key).and_then(Json::as_str);
    let present = |key: &str| json.get(key).filter(|value| !value.is_null());
    let size = |key: &str, most: u64| -> Result<usize> {
        let value = json.get(key).and_then(Json::as_u64);
        let value = value.ok_or_else(|| Error::corrupt(object, format!("{key} is missing or no count")))?;
        if value > most {
            return Err(Error::corrupt(object, format!("{key} is {value}")));
        }
        Ok(value as usize)
    };
    let model_type = text("model_type").unwrap_or("missing");
    let architecture = match model_type {
        "llama" | "mistral" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        other => return Err(unsupported(format!("model_type is \"{other}\""))),
    };
    let act = text("hidden_act").unwrap_or("silu");
    if act != "silu" {
        return Err(unsupported(format!("hidden_act is \"{act}\"")));
    }
    let slides = match architecture {
        Architecture::Llama => present("sliding_window").is_some(),
        Architecture::Qwen2 => present("use_sliding_window").is_some_and(|value| value.as_bool() != Some(false)),
    };
    if slides {
        return Err(unsupported("sliding_window is set".to_owned()));
    }
    if present("quantization_config").is_some() {
        return Err(unsupported("quantization_config is set: use the model in float16, or a GGUF file".to_owned()));
    }
    for key in ["pretraining_tp", "partial_rotary_factor"] {
        if let Some(value) = present(key).filter(|value| value.as_f64() != Some(1.0)) {
            return Err(unsupported(format!("{key} is {value}")));
        }
    }
    let (hidden, heads) = (size("hidden_size", WIDEST)?, size("num_attention_heads", WIDEST)?);
    let optional = |key: &str, otherwise: usize| present(key).map_or(Ok(otherwise), |_| size(key, WIDEST));
    let (theta, scaling) = json_rotary(object, json)?;
    let config = Config {
        architecture,
        layers: size("num_hidden_layers", MOST_LAYERS)?,
        hidden,
        heads,
        kv_heads: optional("num_key_value_heads", heads)?,
        head_dim: optional("head_dim", hidden.checked_div(heads).unwrap_or(0))?,
        inner: size("intermediate_size", WIDEST)?,
        max_positions: size("max_position_embeddings", u64::MAX)?.min(MOST_POSITIONS as usize),
        epsilon: present("rms_norm_eps").and_then(Json::as_f64).unwrap_or(1e-6) as f32,
        theta,
        scaling,
        tied: Some(json.get("tie_word_embeddings").and_then(Json::as_bool).unwrap_or(false)),
    };
    config.checked(object)
}

/// The base and the scaling: in `rope_parameters` since transformers 5, before in `rope_theta` and `rope_scaling`.
fn json_rotary(object: &str, json: &Map<String, Json>) -> Result<(f64, Scaling)> {
    let part = |key: &str| json.get(key).and_then(Json::as_object);
    let parameters = part("rope_parameters").or_else(|| part("rope_scaling"));
    let number = |key: &str| parameters.and_then(|p| p.get(key)).and_then(Json::as_f64);
    let theta = number("rope_theta").or_else(|| json.get("rope_theta").and_then(Json::as_f64)).unwrap_or(10_000.0);
    let kind = parameters.and_then(|p| p.get("rope_type").or_else(|| p.get("type"))).and_then(Json::as_str).unwrap_or("default");
    let need = |key: &str| {
        let value = number(key).filter(|value| value.is_finite() && *value > 0.0);
        value.ok_or_else(|| Error::corrupt(object, format!("{key} of the rotary scaling is missing or no positive number")))
    };
    let scaling = match kind {
        "default" => Scaling::None,
        "linear" => linear(object, need("factor")?)?,
        "llama3" => {
            let (low, high) = (need("low_freq_factor")?, need("high_freq_factor")?);
            if high <= low {
                return Err(Error::corrupt(object, "high_freq_factor is not above low_freq_factor"));
            }
            Scaling::Llama3 { factor: need("factor")?, low, high, original: need("original_max_position_embeddings")? }
        }
        other => return Err(Error::unsupported(object, format!("rope_type is \"{other}\""))),
    };
    Ok((theta, scaling))
}

#[cfg(test)]
mod tests;
