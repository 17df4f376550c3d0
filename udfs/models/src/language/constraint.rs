//! Texts that must fit a JSON schema, a regular expression or a list.
//!
//! llguidance says before each token which ones can still lead to a fitting text; the others are taken out of the scores. Where only one token is left
//! the model is not asked.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};

use super::Tokens;
use crate::error::{Error, Result};

/// What a text must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grammar {
    /// A JSON document on one line that is valid under this JSON schema.
    JsonSchema(String),
    /// A text that this regular expression matches as a whole. The syntax is that of Rust's regex crate without anchors and look-around.
    Regex(String),
    /// One of these texts.
    Choices(Vec<String>),
}

impl Grammar {
    fn kind(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Choices(_) => "choices",
        }
    }

    fn error(&self, reason: impl ToString) -> Error {
        // llguidance adds its state to some messages; the first line says what is wrong.
        let reason = reason.to_string().lines().next().unwrap_or_default().trim().to_owned();
        Error::Constraint { constraint: self.kind().to_owned(), reason }
    }

    fn top(&self) -> Result<TopLevelGrammar> {
        match self {
            Self::JsonSchema(schema) => {
                let mut schema: serde_json::Value =
                    serde_json::from_str(schema).map_err(|error| self.error(format!("it is not JSON: {error}")))?;
                let Some(object) = schema.as_object_mut() else { return Err(self.error("a schema is a JSON object")) };
                // One way to space a document: small models otherwise spend their tokens on empty lines.
                let spacing = serde_json::json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
                object.insert("x-guidance".to_owned(), spacing);
                Ok(TopLevelGrammar::from_json_schema(schema))
            }
            Self::Regex(regex) => Ok(TopLevelGrammar::from_regex(regex)),
            Self::Choices(choices) => {
                if choices.is_empty() || choices.iter().any(String::is_empty) {
                    return Err(self.error("there must be at least one, and none may be empty"));
                }
                let choices: Vec<String> = choices.iter().map(|choice| escape(choice)).collect();
                Ok(TopLevelGrammar::from_regex(&format!("({})", choices.join("|"))))
            }
        }
    }
}

/// A regular expression that matches this text only.
fn escape(text: &str) -> String {
    let special = |c: char| c.is_ascii_punctuation() || c.is_ascii_whitespace();
    text.chars().map(|c| if special(c) { format!("\\x{{{:x}}}", u32::from(c)) } else { c.to_string() }).collect()
}

/// A model's tokens as llguidance needs them.
pub(super) struct Vocabulary {
    factory: ParserFactory,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

struct Environment {
    trie: TokTrie,
    tokens: Arc<Tokens>,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        // A text that does not encode, or bytes that are no text, are cut into the longest tokens.
        let ids = std::str::from_utf8(bytes).ok().and_then(|text| self.tokens.encode_data(text).ok());
        ids.unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }
}

impl Vocabulary {
    pub(super) fn new(tokens: &Arc<Tokens>, size: usize) -> Result<Self> {
        let failed = |reason: String| Error::Constraint { constraint: "vocabulary".to_owned(), reason };
        let eos = tokens.eos();
        let end = *eos.first().ok_or_else(|| failed("the model has no end token".to_owned()))?;
        // Special tokens are no text. 0xFF marks them: it is in no UTF-8, so no constraint can ask for them.
        let word = |id: u32| match tokens.is_special(id) {
            true => [&[TokTrie::SPECIAL_TOKEN_MARKER], format!("<{id}>").as_bytes()].concat(),
            false => tokens.bytes(id).to_vec(),
        };
        let words: Vec<Vec<u8>> = (0..size as u32).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size as u32, end), &words).with_eos_tokens(eos);
        let environment: TokEnv = Arc::new(Environment { trie, tokens: Arc::clone(tokens) });
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let mut factory =
            ParserFactory::new(&environment, capabilities, &SlicedBiasComputer::general_slices()).map_err(|e| failed(e.to_string()))?;
        factory.quiet();
        Ok(Self { factory })
    }
}

/// A constraint compiled for one model's tokens.
pub struct Constraint {
    grammar: Grammar,
    matcher: Matcher,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").field("grammar", &self.grammar).finish_non_exhaustive()
    }
}

impl Clone for Constraint {
    fn clone(&self) -> Self {
        Self { grammar: self.grammar.clone(), matcher: self.matcher.deep_clone() }
    }
}

impl Constraint {
    pub(super) fn compile(vocabulary: &Vocabulary, grammar: &Grammar) -> Result<Self> {
        let parser = vocabulary.factory.create_parser(grammar.top()?).map_err(|error| grammar.error(error))?;
        let mut matcher = Matcher::new(Ok(parser));
        // The first mask finds grammars that compile and cannot begin.
        let mask = matcher.compute_mask_or_eos().map_err(|error| grammar.error(error))?;
        if mask.is_zero() {
            return Err(grammar.error("no text fits it"));
        }
        Ok(Self { grammar: grammar.clone(), matcher })
    }

    /// A start for one text.
    pub(super) fn into_guide(self) -> Guide {
        Guide { constraint: self, mask: None }
    }
}

/// Where one text stands in its constraint.
#[derive(Debug)]
pub(super) struct Guide {
    constraint: Constraint,
    mask: Option<llguidance::toktrie::SimpleVob>,
}

impl Guide {
    /// One bit for each token that may come next, lowest first. The end tokens are among them when the text may end here.
    pub(super) fn allowed(&mut self) -> Result<&[u32]> {
        let mask = self.constraint.matcher.compute_mask_or_eos().map_err(|error| self.constraint.grammar.error(error))?;
        Ok(self.mask.insert(mask).as_slice())
    }

    /// The text goes on with this token.
    pub(super) fn accept(&mut self, id: u32) -> Result<()> {
        self.constraint.matcher.consume_token(id).map_err(|error| self.constraint.grammar.error(error))
    }

    /// Tokens that must come next whatever the model says; they are accepted already.
    pub(super) fn forced(&mut self) -> Vec<u32> {
        self.constraint.matcher.consume_ff_tokens()
    }

    /// The text fits, and nothing can follow.
    pub(super) fn complete(&self) -> bool {
        self.constraint.matcher.is_stopped() && !self.constraint.matcher.is_error()
    }
}
