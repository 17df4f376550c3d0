//! Text to tokens and back, by the tokenizer that belongs to a model.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::{Value as Json, json};
use tokenizers::Tokenizer;

use super::folder;
use super::gguf::Gguf;
use super::weights::Weights;
use crate::error::{Error, Result};

/// The file of a prepared decoder.
pub(crate) const FILE: &str = "tokenizer.json";
/// Stands within a special token's text where that text is data. No character of any script: Unicode keeps it for such uses.
pub(crate) const GUARD: char = '\u{FDD0}';
/// Longer pieces of a SentencePiece vocabulary are not split: there are none.
const LONGEST_PIECE: usize = 256;

/// The first and the ending tokens of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Special {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Vec<u32>,
}

/// A model's tokenizer.
pub struct Tokens {
    full: Tokenizer,
    /// Without the added tokens: what it makes of a text never steers the model.
    plain: Tokenizer,
    /// The text of each token one after another, and where each starts.
    bytes: Vec<u8>,
    starts: Vec<usize>,
    special: Vec<bool>,
    /// The texts of all added tokens, longest first.
    added: Vec<(String, u32)>,
    bos: Option<u32>,
    eos: Vec<u32>,
    /// A text starts with a space that the tokenizer put there.
    spaced: bool,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("vocabulary", &self.vocabulary()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads a `tokenizer.json`; `vocabulary` is the number of tokens the model knows.
    pub(crate) fn open(path: &Path, special: &Special, vocabulary: usize) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Self::from_json(&path.display().to_string(), &bytes, special, vocabulary)
    }

    pub(crate) fn from_json(object: &str, bytes: &[u8], special: &Special, vocabulary: usize) -> Result<Self> {
        let corrupt = |error: tokenizers::Error| Error::corrupt(object, error);
        let mut json: Json = serde_json::from_slice(bytes).map_err(|e| Error::corrupt(object, e))?;
        let full = Tokenizer::from_bytes(bytes).map_err(corrupt)?;
        let decoder = json["decoder"].to_string();
        let byte_level = decoder.contains("\"ByteLevel\"");
        if !byte_level && !decoder.contains("\"ByteFallback\"") {
            return Err(Error::unsupported(object, "its decoder is neither ByteLevel nor ByteFallback"));
        }
        json["added_tokens"] = json!([]);
        let plain = Tokenizer::from_bytes(json.to_string()).map_err(corrupt)?;
        let added = full.get_added_tokens_decoder();
        let alphabet = byte_level.then(byte_alphabet);
        let mut tokens = Self {
            full,
            plain,
            bytes: Vec::new(),
            starts: vec![0],
            special: Vec::new(),
            added: added.iter().map(|(id, token)| (token.content.clone(), *id)).collect(),
            bos: special.bos,
            eos: special.eos.clone(),
            spaced: decoder.contains("\"Strip\""),
        };
        tokens.added.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.1.cmp(&b.1)));
        if let Some(id) = tokens.full.get_vocab(true).into_values().find(|id| *id as usize >= vocabulary) {
            return Err(Error::corrupt(object, format!("token {id} is outside the model's vocabulary of {vocabulary}")));
        }
        for id in 0..vocabulary as u32 {
            let text = tokens.full.id_to_token(id);
            let is_special = match (added.get(&id), &text) {
                (Some(token), _) => token.special,
                // The model has more rows than the tokenizer has tokens.
                (None, None) => true,
                (None, Some(_)) => special.bos == Some(id) || special.eos.contains(&id),
            };
            match text {
                None => {}
                Some(text) if added.contains_key(&id) => tokens.bytes.extend(text.bytes()),
                Some(text) => match &alphabet {
                    Some(alphabet) => tokens.bytes.extend(text.chars().filter_map(|char| alphabet.get(&char))),
                    None => match byte_token(&text) {
                        Some(byte) => tokens.bytes.push(byte),
                        None => tokens.bytes.extend(text.replace('\u{2581}', " ").bytes()),
                    },
                },
            }
            tokens.special.push(is_special);
            tokens.starts.push(tokens.bytes.len());
        }
        Ok(tokens)
    }

    /// Tokens of the model, with those that have no text.
    pub fn vocabulary(&self) -> usize {
        self.special.len()
    }

    /// The token a text starts with, if the model has one. No method here puts it there: chat templates write it.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens that end an answer.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// True for tokens that stand for no text, such as those between messages.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(true)
    }

    /// The bytes of a token's text, which need not be whole characters; the name of a special token.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        match (self.starts.get(id), self.starts.get(id + 1)) {
            (Some(from), Some(to)) => &self.bytes[*from..*to],
            _ => &[],
        }
    }

    /// The text of a token by itself, such as `<|im_end|>`.
    pub fn name(&self, id: u32) -> String {
        String::from_utf8_lossy(self.bytes(id)).into_owned()
    }

    /// The token with this text exactly.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.full.token_to_id(text)
    }

    /// The texts that are special tokens, longest first.
    pub(crate) fn special_texts(&self) -> impl Iterator<Item = &str> {
        self.added.iter().map(|(text, _)| text.as_str())
    }

    /// The tokens of a prompt: the names of special tokens in it are these tokens. Nothing is added.
    ///
    /// For text from [`Chat::render`](super::template::Chat::render), in which the messages' own text can never become a special token.
    /// For other text from outside use [`Tokens::encode_data`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if !text.contains(GUARD) {
            return ids(&self.full, text);
        }
        let mut all = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let next = self.added.iter().filter_map(|(name, id)| rest.find(name.as_str()).map(|at| (at, name.len(), *id)));
            // The first one; of several at one place the longest, which comes first.
            let next = next.reduce(|best, found| if found.0 < best.0 { found } else { best });
            let (before, token) = next.map_or((rest.len(), None), |(at, length, id)| (at, Some((length, id))));
            all.extend(self.encode_data(&rest[..before])?);
            rest = &rest[before..];
            if let Some((length, id)) = token {
                all.push(id);
                rest = &rest[length..];
            }
        }
        Ok(all)
    }

    /// The tokens of a text that is data: never a special token, whatever it says.
    pub fn encode_data(&self, text: &str) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let clean;
        let text = if text.contains(GUARD) {
            clean = text.replace(GUARD, "");
            &clean
        } else {
            text
        };
        let mut ids = ids(&self.plain, text)?;
        ids.retain(|id| !self.is_special(*id));
        Ok(ids)
    }

    /// How many tokens a text has as data.
    pub fn count(&self, text: &str) -> Result<usize> {
        self.encode_data(text).map(|ids| ids.len())
    }

    /// The text of tokens, without special ones. Bytes that are no text become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = TextStream::default();
        let mut text: String = ids.iter().map(|id| self.push(&mut stream, *id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// The text that is complete after one more token: a character may need several. Empty for special tokens.
    pub fn push(&self, stream: &mut TextStream, id: u32) -> String {
        if self.is_special(id) {
            return String::new();
        }
        let mut bytes = self.bytes(id);
        if self.spaced && !stream.started {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        stream.started = true;
        stream.pending.extend_from_slice(bytes);
        let whole = whole(&stream.pending);
        let rest = stream.pending.split_off(whole);
        String::from_utf8_lossy(&std::mem::replace(&mut stream.pending, rest)).into_owned()
    }
}

/// Bytes of a text whose last character is not complete.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    pending: Vec<u8>,
    started: bool,
}

impl TextStream {
    /// What is left when no more tokens come.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode_fast(text, false);
    let encoding = encoding.map_err(|error| Error::data(format!("the text cannot be tokenized: {error}"), "use another text"))?;
    Ok(encoding.get_ids().to_vec())
}

/// How many of these bytes are no unfinished character.
fn whole(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for start in (tail..bytes.len()).rev() {
        let length = match bytes[start] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => break,
        };
        let present = &bytes[start..];
        let unfinished = present.len() < length && std::str::from_utf8(present).is_err_and(|error| error.error_len().is_none());
        return if unfinished { start } else { bytes.len() };
    }
    bytes.len()
}

/// `<0x0A>` of SentencePiece.
fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The bytes that GPT-2's printable characters stand for.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=255u8).filter(|byte| !printable(byte)).zip(256u32..).filter_map(|(byte, code)| Some((char::from_u32(code)?, byte)));
    (0..=255u8).filter(printable).map(|byte| (char::from(byte), byte)).chain(others).collect()
}

/// The special tokens of a checkpoint.
pub(crate) fn special(weights: &Weights) -> Result<Special> {
    match weights {
        Weights::Gguf(file) => special_of_gguf(file),
        Weights::Folder(folder) => special_of_folder(folder.path()),
    }
}

/// The `tokenizer.json` that belongs to a checkpoint.
pub(crate) fn import(weights: &Weights) -> Result<Vec<u8>> {
    match weights {
        Weights::Gguf(file) => Ok(from_gguf(file)?.to_string().into_bytes()),
        Weights::Folder(folder) => {
            let path = folder.path();
            let Some(bytes) = folder::bytes(path, FILE)? else {
                return Err(Error::unsupported(path.display().to_string(), format!("it has no {FILE}")));
            };
            let object = path.join(FILE).display().to_string();
            let mut json: Json = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&object, e))?;
            if !json.is_object() {
                return Err(Error::corrupt(object, "it holds no tokenizer"));
            }
            // What is added to a text is the template's affair, how long it may be the engine's.
            for key in ["truncation", "padding", "post_processor"] {
                json[key] = Json::Null;
            }
            Ok(json.to_string().into_bytes())
        }
    }
}

fn special_of_gguf(file: &Gguf) -> Result<Special> {
    /// Ends of a turn, by name: files often name only one of them.
    const ENDS: [&str; 7] = ["<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|eom_id|>", "<|end|>", "</s>"];
    let id = |key: &str| -> Result<Option<u32>> { Ok(file.int(key)?.and_then(|id| u32::try_from(id).ok())) };
    let mut eos = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        eos.extend(id(key)?);
    }
    let (tokens, types) = (file.texts("tokenizer.ggml.tokens")?, file.ints("tokenizer.ggml.token_type")?);
    for ((index, token), kind) in tokens.unwrap_or_default().iter().enumerate().zip(types.unwrap_or_default()) {
        if *kind == CONTROL && ENDS.contains(&token.as_str()) {
            eos.push(index as u32);
        }
    }
    // The file's own one stays the first: templates write it.
    let mut known = HashSet::new();
    eos.retain(|id| known.insert(*id));
    Ok(Special { bos: id("tokenizer.ggml.bos_token_id")?, eos })
}

fn special_of_folder(path: &Path) -> Result<Special> {
    let config = folder::json(path, "config.json")?.unwrap_or_default();
    let generation = folder::json(path, "generation_config.json")?.unwrap_or_default();
    let ids = |key: &str| -> Vec<u32> {
        let value = [&generation, &config].into_iter().find_map(|map| map.get(key).filter(|value| !value.is_null()));
        let list = match value {
            Some(Json::Array(list)) => list.iter().collect(),
            Some(one) => vec![one],
            None => Vec::new(),
        };
        list.into_iter().filter_map(Json::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
    };
    Ok(Special { bos: ids("bos_token_id").first().copied(), eos: ids("eos_token_id") })
}

/// The chat template of a checkpoint.
pub(crate) fn template(weights: &Weights) -> Result<Option<String>> {
    let path = match weights {
        Weights::Gguf(file) => return Ok(file.text("tokenizer.chat_template")?.map(str::to_owned)),
        Weights::Folder(folder) => folder.path(),
    };
    if let Some(bytes) = folder::bytes(path, "chat_template.jinja")? {
        let text = String::from_utf8(bytes);
        return text.map(Some).map_err(|_| Error::corrupt(path.join("chat_template.jinja").display().to_string(), "it is no text"));
    }
    let config = folder::json(path, "tokenizer_config.json")?.unwrap_or_default();
    Ok(match config.get("chat_template") {
        Some(Json::String(text)) => Some(text.clone()),
        // Several by name.
        Some(Json::Array(list)) => {
            let default = list.iter().find(|entry| entry["name"] == "default");
            default.and_then(|entry| entry["template"].as_str()).map(str::to_owned)
        }
        _ => None,
    })
}

/// Types of tokens in a GGUF file.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// Rebuilds the tokenizer from the vocabulary of a GGUF file.
fn from_gguf(file: &Gguf) -> Result<Json> {
    let object = file.path().display().to_string();
    let missing = |key: &str| Error::corrupt(&object, format!("it has no {key}"));
    let tokens = file.texts("tokenizer.ggml.tokens")?.ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
    let types = file.ints("tokenizer.ggml.token_type")?.ok_or_else(|| missing("tokenizer.ggml.token_type"))?;
    if types.len() != tokens.len() {
        return Err(Error::corrupt(&object, "tokenizer.ggml.token_type and tokenizer.ggml.tokens differ in length"));
    }
    let model = file.text("tokenizer.ggml.model")?.ok_or_else(|| missing("tokenizer.ggml.model"))?;
    let mut json = match model {
        "gpt2" => byte_pairs(file, tokens)?,
        "llama" => sentence_piece(file, tokens, types)?,
        other => return Err(Error::unsupported(&object, format!("tokenizer.ggml.model is \"{other}\""))),
    };
    let added = tokens.iter().zip(types).enumerate().filter(|(_, (_, kind))| matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED));
    let added = added.map(|(id, (token, kind))| {
        json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": *kind != USER_DEFINED,
        })
    });
    json["version"] = json!("1.0");
    json["added_tokens"] = added.collect();
    Ok(json)
}

/// Byte-level pairs as of GPT-2. How a text is cut into words before is told by a name, whose patterns are those of `llama-vocab.cpp`.
fn byte_pairs(file: &Gguf, tokens: &[String]) -> Result<Json> {
    const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
    let object = file.path().display().to_string();
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes = |words: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": words});
    let llama3 = |digits: &str| {
        let pattern = format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        json!([split(&pattern), bytes(false)])
    };
    let (steps, normalizer, whole_words) = match file.text("tokenizer.ggml.pre")?.unwrap_or("default") {
        "gpt-2" => (json!([bytes(true)]), Json::Null, false),
        "smollm" | "starcoder" | "codeshell" | "refact" => {
            (json!([{"type": "Digits", "individual_digits": true}, bytes(true)]), Json::Null, false)
        }
        "llama-bpe" | "llama3" | "llama-v3" => (llama3(r"\p{N}{1,3}"), Json::Null, true),
        "qwen2" | "deepseek-r1-qwen" => (llama3(r"\p{N}"), json!({"type": "NFC"}), false),
        "default" => {
            let steps = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"].map(split);
            (steps.into_iter().chain([bytes(false)]).collect(), Json::Null, false)
        }
        other => return Err(Error::unsupported(object, format!("tokenizer.ggml.pre is \"{other}\""))),
    };
    let merges = file.texts("tokenizer.ggml.merges")?.ok_or_else(|| Error::corrupt(&object, "it has no tokenizer.ggml.merges"))?;
    let pairs = merges.iter().map(|merge| merge.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty()));
    let pairs: Option<Vec<_>> = pairs.collect();
    let pairs = pairs.ok_or_else(|| Error::corrupt(&object, "tokenizer.ggml.merges holds an entry that is no pair"))?;
    Ok(json!({
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole_words, "vocab": vocabulary(tokens), "merges": pairs,
        },
    }))
}

/// SentencePiece's pairs: pieces have scores, and of two neighbours those are joined first whose piece has the highest one.
fn sentence_piece(file: &Gguf, tokens: &[String], types: &[i64]) -> Result<Json> {
    let object = file.path().display().to_string();
    let scores = file.floats("tokenizer.ggml.scores")?.filter(|scores| scores.len() == tokens.len());
    let scores = scores.ok_or_else(|| Error::corrupt(&object, "it has no tokenizer.ggml.scores for every token"))?;
    let joins = |index: usize| !matches!(types[index], UNKNOWN | CONTROL | BYTE);
    let pieces: HashMap<&str, usize> =
        tokens.iter().enumerate().filter(|(index, _)| joins(*index)).map(|(index, token)| (token.as_str(), index)).collect();
    let mut merges = Vec::new();
    for (index, token) in tokens.iter().enumerate().filter(|(index, token)| joins(*index) && token.len() <= LONGEST_PIECE) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if pieces.contains_key(left) && pieces.contains_key(right) {
                merges.push((scores[index], left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.chars().count().cmp(&a.1.chars().count())).then_with(|| a.1.cmp(b.1)));
    let unknown = types.iter().position(|kind| *kind == UNKNOWN).map(|index| tokens[index].as_str());
    let prefix = file.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let mut normalizers = vec![space];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "\u{2581}"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let pairs: Vec<(&str, &str)> = merges.into_iter().map(|(_, left, right)| (left, right)).collect();
    Ok(json!({
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary(tokens), "merges": pairs,
        },
    }))
}

fn vocabulary(tokens: &[String]) -> BTreeMap<&str, usize> {
    tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect()
}

#[cfg(test)]
mod tests;
