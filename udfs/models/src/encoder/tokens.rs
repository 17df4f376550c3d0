//! Texts as the tokens of an encoder, cut to what it reads.

use std::ops::Range;
use std::path::Path;

use serde_json::Value as Json;
use tokenizers::{ModelWrapper, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use super::prepare::Facts;
use crate::error::{Error, Result};
use crate::language::folder;

/// The file of a prepared encoder.
pub(super) const FILE: &str = "tokenizer.json";

/// Bytes of a text for each token that it may have, of which the tokens are looked for first. Long texts are not cut into tokens to their end.
const BYTES: usize = 16;

/// An encoder's tokenizer.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    most: usize,
    lowercase: bool,
    prompt: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("most", &self.most).finish_non_exhaustive()
    }
}

/// The tokens of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// With those that begin and end a text.
    pub(super) ids: Vec<u32>,
    /// Whether the text goes on.
    pub(super) truncated: bool,
}

/// A token and what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) id: u32,
    /// None of what begins or ends a text, or comes before it.
    pub(super) text: Option<String>,
}

impl Tokens {
    /// Reads a `tokenizer.json`.
    pub(super) fn new(object: &str, bytes: &[u8], facts: &Facts) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| Error::corrupt(object, error))?;
        if let Some(id) = tokenizer.get_vocab(true).into_values().find(|id| *id as usize >= facts.vocabulary) {
            return Err(Error::corrupt(object, format!("token {id} is outside the model's vocabulary of {}", facts.vocabulary)));
        }
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: facts.max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| Error::corrupt(object, error))?;
        tokenizer.with_padding(None);
        let tokens = Self { tokenizer, most: facts.max_tokens, lowercase: facts.lowercase, prompt: facts.prompt.clone() };
        if tokens.encode("")?.ids.is_empty() {
            return Err(Error::unsupported(object, "it gives an empty text no tokens: its post_processor is missing"));
        }
        Ok(tokens)
    }

    /// The token that stands for one that is not shown, where the tokenizer has it.
    pub(super) fn masked(&self) -> Option<u32> {
        ["[MASK]", "<mask>"].into_iter().find_map(|token| self.tokenizer.token_to_id(token))
    }

    /// Of each token, whether a word begins with it. A character of a language without spaces is a word.
    pub(super) fn begins(&self) -> Vec<bool> {
        const SPACES: [char; 2] = ['▁', 'Ġ'];
        let vocabulary = self.tokenizer.get_vocab(true);
        let marked = vocabulary.keys().any(|token| token.starts_with(SPACES));
        let ideographic = |letter: char| matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}');
        let begins = |token: &str| match self.tokenizer.get_model() {
            ModelWrapper::WordPiece(model) => !token.starts_with(&model.continuing_subword_prefix),
            _ => !marked || token.starts_with(SPACES) || token.starts_with(ideographic),
        };
        let mut all = vec![true; vocabulary.values().max().map_or(0, |last| *last as usize + 1)];
        vocabulary.iter().for_each(|(token, id)| all[*id as usize] = begins(token));
        all
    }

    /// How many tokens stand before a text, and after it.
    pub(super) fn around(&self) -> Result<[usize; 2]> {
        let failed = |error| Error::data(format!("no text can be tokenized: {error}"), "use another encoder");
        let encoding = self.tokenizer.encode("a", true).map_err(failed)?;
        let special = encoding.get_special_tokens_mask();
        let [before, after] = [special.iter().position(|special| *special == 0), special.iter().rev().position(|special| *special == 0)];
        let prompt = match self.prompt.trim_end() {
            "" => 0,
            prompt => self.tokenizer.encode(prompt, false).map_err(failed)?.get_ids().len(),
        };
        Ok([before.unwrap_or(0) + prompt, after.unwrap_or(0)])
    }

    /// The tokens of a word as the first one of a text.
    pub(super) fn first(&self, word: &str) -> Result<Vec<u32>> {
        let [before, after] = self.around()?;
        let ids = self.encode(word)?.ids;
        Ok(ids.get(before..ids.len().saturating_sub(after)).unwrap_or_default().to_vec())
    }

    /// The tokens of a word that comes after another one.
    pub(super) fn inner(&self, word: &str) -> Result<Vec<u32>> {
        let first = self.first(word)?.len();
        Ok(self.first(&format!("{word} {word}"))?.split_off(first))
    }

    /// The tokens of a text with what stands there, at most as many as the encoder reads.
    pub(super) fn pieces(&self, text: &str) -> Result<Vec<Piece>> {
        let mut whole = format!("{}{}", self.prompt, &text[..end_of(text, BYTES * self.most)]);
        let mut begin = self.prompt.len();
        if self.lowercase {
            begin = self.prompt.to_lowercase().len();
            whole = whole.to_lowercase();
        }
        let encoding = self.tokenizer.encode(whole.as_str(), true);
        let encoding = encoding.map_err(|error| Error::data(format!("the text cannot be tokenized: {error}"), "use another text"))?;
        let special = encoding.get_special_tokens_mask();
        let pieces = encoding.get_ids().iter().zip(encoding.get_offsets()).zip(special).map(|((id, (from, to)), special)| {
            let stands = whole.get((*from).max(begin)..*to).map(str::trim).filter(|stands| *special == 0 && !stands.is_empty());
            Piece { id: *id, text: stands.map(str::to_owned) }
        });
        Ok(pieces.collect())
    }

    /// The tokens of a text, at most as many as the encoder reads, and where in the text each lies, as bytes; what begins or ends a text, or comes before
    /// it, lies nowhere.
    pub(super) fn placed(&self, text: &str) -> Result<(Cut, Vec<Option<Range<usize>>>)> {
        let cut = self.encode(text)?;
        // What is behind the last token that is read does not matter.
        let (begin, whole, places) = self.spelled(&text[..end_of(text, 4 * BYTES * self.most)]);
        let encoding = self.tokenizer.encode(whole, true);
        let encoding = encoding.map_err(|error| Error::data(format!("the text cannot be tokenized: {error}"), "use another text"))?;
        let of = |place: usize| places.as_ref().map_or(place - begin, |places| places[place - begin]);
        let special = encoding.get_special_tokens_mask();
        let ranges = encoding.get_offsets().iter().zip(special).take(cut.ids.len()).map(|((from, to), special)| {
            let (from, to) = ((*from).max(begin), *to);
            (*special == 0 && from < to).then(|| of(from)..of(to))
        });
        Ok((cut, ranges.collect()))
    }

    /// A text as it is cut into tokens: where it begins there, all of it, and for each of its bytes where that stands in the text, unless that is the same.
    fn spelled(&self, text: &str) -> (usize, String, Option<Vec<usize>>) {
        let whole = format!("{}{text}", self.prompt);
        if !self.lowercase {
            return (self.prompt.len(), whole, None);
        }
        let begin = self.prompt.to_lowercase().len();
        let mut places = Vec::with_capacity(text.len() + 1);
        for (at, character) in text.char_indices() {
            let length: usize = character.to_lowercase().map(char::len_utf8).sum();
            // A character that becomes longer counts as a whole.
            places.extend((0..length).map(|byte| if byte < character.len_utf8() { at + byte } else { at }));
        }
        places.push(text.len());
        (begin, whole.to_lowercase(), Some(places))
    }

    /// The tokens of a text, at most as many as the encoder reads.
    pub(super) fn encode(&self, text: &str) -> Result<Cut> {
        let mut reach = BYTES * self.most;
        loop {
            let end = end_of(text, reach);
            let mut part = std::borrow::Cow::Borrowed(&text[..end]);
            if !self.prompt.is_empty() {
                part = format!("{}{part}", self.prompt).into();
            }
            if self.lowercase {
                part = part.to_lowercase().into();
            }
            let encoding = self.tokenizer.encode_fast(part, true);
            let encoding = encoding.map_err(|error| Error::data(format!("the text cannot be tokenized: {error}"), "use another text"))?;
            let truncated = !encoding.get_overflowing().is_empty();
            if truncated || end == text.len() {
                return Ok(Cut { ids: encoding.get_ids().to_vec(), truncated });
            }
            reach *= 4;
        }
    }
}

/// Where the first part of a text ends: before a space where there is one, so that no word is cut.
fn end_of(text: &str, reach: usize) -> usize {
    if reach >= text.len() {
        return text.len();
    }
    let end = text.floor_char_boundary(reach);
    let space = text[..end].rfind(char::is_whitespace);
    space.filter(|space| *space >= end / 2).unwrap_or(end)
}

/// The `tokenizer.json` of a folder, without what it says of lengths: that is the engine's affair.
pub(super) fn import(path: &Path) -> Result<Vec<u8>> {
    let Some(bytes) = folder::bytes(path, FILE)? else {
        return Err(Error::unsupported(path.display().to_string(), format!("it has no {FILE}")));
    };
    let object = path.join(FILE).display().to_string();
    let mut json: Json = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(&object, e))?;
    if !json.is_object() {
        return Err(Error::corrupt(object, "it holds no tokenizer"));
    }
    for key in ["truncation", "padding"] {
        json[key] = Json::Null;
    }
    Ok(json.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_between_words_where_it_has_spaces() {
        assert_eq!(end_of("one two three", 9), 7);
        assert_eq!(end_of("one two three", 13), 13);
        assert_eq!(end_of("ééééé", 5), 4);
        assert_eq!(end_of("a bcdefghij", 8), 8);
    }
}
