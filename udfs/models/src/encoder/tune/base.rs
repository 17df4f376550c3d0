//! What a training begins with: an encoder, or a version with an encoder of its own, and the texts as it reads them.

use std::collections::HashMap;

use super::super::config::Config;
use super::super::prepare::{Encoder, Facts};
use super::super::tokens::{FILE as TOKENIZER, Tokens};
use super::super::words::{Sentence, first_tokens};
use super::augment::Words;
use super::files::{self, Bases};
use super::{Method, Tune};
use crate::error::{Error, Result};
use crate::features::{Bag, Batch};
use crate::net::Parameter;
use crate::registry::{Kind, ModelName, Registry};
use crate::text::Text;

/// An encoder that is to be trained, and its tokenizer.
#[derive(Debug)]
pub struct Base {
    /// None where a version has all weights itself.
    encoder: Option<Encoder>,
    pub(super) tune: Tune,
    /// With the length of the training.
    pub(super) facts: Facts,
    pub(super) config: Config,
    pub(super) tokenizer: Vec<u8>,
    pub(super) source_sha256: String,
    pub(super) tokens: Tokens,
    /// How the words of a text are changed when it is learned from; none if they are not.
    pub(super) words: Option<Words>,
    start: Option<Start>,
}

/// The version that a training goes on from.
#[derive(Debug)]
struct Start {
    version: u32,
    text: Text,
    weights: HashMap<String, Parameter>,
}

impl Base {
    /// Opens what an encoder needs for a training.
    ///
    /// Errors: [`Error::Data`] when its weights are rounded, [`Error::Corrupt`], [`Error::Io`].
    pub fn new(encoder: Encoder, tune: Tune) -> Result<Self> {
        if !encoder.is_exact() {
            let reason = format!("encoder \"{}\" has weights of 8 bits, which cannot be trained", encoder.facts().name);
            return Err(Error::data(reason, "import it once more, with --precision f32"));
        }
        let (facts, config) = (encoder.facts().clone(), encoder.config().clone());
        let (tokenizer, source_sha256) = (encoder.tokenizer()?, encoder.source_sha256().to_owned());
        Self::with(Some(encoder), tune, facts, config, tokenizer, source_sha256, None)
    }

    /// Opens a version with an encoder of its own, to go on from. Its method, its changes and its task stay.
    ///
    /// Errors: [`Error::Data`] when it has no encoder of its own or another method, [`Error::NoSuchModel`], [`Error::NoSuchVersion`],
    /// [`Error::Corrupt`].
    pub fn again(registry: &Registry, name: &ModelName, version: u32, tune: Tune, bases: Bases<'_>) -> Result<Self> {
        let mut stored = registry.read(name, version)?;
        let object = format!("model \"{name}@{version}\"");
        let Kind::Text(text @ Text { tuned: Some(tuned), .. }) = &stored.manifest.kind else {
            return Err(Error::data(format!("{object} has no encoder of its own"), "go on from one with method => 'full' or 'lora'"));
        };
        if tuned.tune.method != tune.method {
            let reason = format!("{object} was trained by method '{}'", tuned.tune.method);
            return Err(Error::data(reason, format!("go on with it: method => '{}'", tuned.tune.method)));
        }
        let Tune { method, rank, alpha, targets, .. } = tuned.tune.clone();
        let tune = Tune { method, rank, alpha, targets, ..tune };
        let weights = files::own(&object, &mut stored.files)?;
        let (encoder, tokenizer) = match method {
            Method::Full => {
                (None, stored.files.remove(TOKENIZER).ok_or_else(|| Error::corrupt(&object, format!("{TOKENIZER} is missing")))?)
            }
            _ => {
                let encoder = files::base(&object, text, tuned, bases)?;
                let tokenizer = encoder.tokenizer()?;
                (Some(encoder), tokenizer)
            }
        };
        let start = Start { version, weights, text: Text { tuned: None, ..text.clone() } };
        Self::with(encoder, tune, tuned.facts.clone(), tuned.config.clone(), tokenizer, tuned.base_sha256.clone(), Some(start))
    }

    fn with(
        encoder: Option<Encoder>,
        tune: Tune,
        mut facts: Facts,
        config: Config,
        tokenizer: Vec<u8>,
        source_sha256: String,
        start: Option<Start>,
    ) -> Result<Self> {
        facts.max_tokens = facts.max_tokens.min(tune.max_length);
        let tokens = Tokens::new("the tokenizer of the encoder", &tokenizer, &facts)?;
        let words = tune.changes().iter().any(|(_, share)| *share > 0.0).then(|| Words::new(&tokens, &[])).transpose()?;
        Ok(Self { encoder, tune, facts, config, tokenizer, source_sha256, tokens, words, start })
    }

    /// The same with words and what each may give way to, in the share of [`Tune::word_synonyms`].
    ///
    /// Errors: [`Error::Data`] when one cannot be cut into tokens.
    pub fn with_synonyms(self, synonyms: &[(String, String)]) -> Result<Self> {
        Ok(Self { words: Some(Words::new(&self.tokens, synonyms)?), ..self })
    }

    /// What the version that the training goes on from is.
    pub fn text(&self) -> Option<&Text> {
        self.start.as_ref().map(|start| &start.text)
    }

    /// How it is trained.
    pub fn tune(&self) -> &Tune {
        &self.tune
    }

    /// That version.
    pub(super) fn parent(&self) -> Option<u32> {
        self.start.as_ref().map(|start| start.version)
    }

    /// The weights to begin with, by their names; the head for these classes.
    pub(super) fn weights(&self, classes: &[String]) -> Result<HashMap<String, Parameter>> {
        let of_encoder = self.encoder.as_ref().map(Encoder::weights).transpose()?.unwrap_or_default();
        let mut all: HashMap<String, Parameter> = of_encoder.into_iter().map(|weight| (weight.name.clone(), weight)).collect();
        if let Some(start) = &self.start {
            all.extend(start.weights.iter().map(|(name, weight)| (name.clone(), weight.clone())));
            start.head(classes, &mut all);
        }
        Ok(all)
    }

    /// The tokens of texts, and of how many only the beginning was read.
    pub fn read<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> Result<(Batch, u64)> {
        let (mut bag, mut truncated) = (Bag::default(), 0);
        for text in texts {
            truncated += self.add(text, &mut bag)?;
        }
        Ok((Batch { rows: bag.offsets.len() - 1, bags: vec![bag], ..Batch::default() }, truncated))
    }

    /// The tokens of pairs of texts, and of how many only the beginning was read.
    pub fn read_pairs<'t>(&self, pairs: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<(Batch, u64)> {
        let (mut bags, mut truncated) = ([Bag::default(), Bag::default()], 0);
        for (left, right) in pairs {
            truncated += self.add(left, &mut bags[0])? + self.add(right, &mut bags[1])?;
        }
        Ok((Batch { rows: bags[0].offsets.len() - 1, bags: bags.into(), ..Batch::default() }, truncated))
    }

    /// The tokens of sentences and the tag of each, one more than its number, or 0 for a token that has none; a sentence has a tag for each of its words.
    /// And of how many only the beginning was read.
    pub fn read_tags<'t>(&self, sentences: impl IntoIterator<Item = (&'t Sentence, &'t [usize])>) -> Result<(Batch, u64)> {
        let (mut tokens, mut tags, mut truncated) = (Bag::default(), Bag::default(), 0);
        for (sentence, own) in sentences {
            let (cut, places) = self.tokens.placed(&sentence.text)?;
            truncated += u64::from(cut.truncated);
            let from = tags.ids.len();
            tags.ids.resize(from + cut.ids.len(), 0);
            for (token, tag) in first_tokens(&places, &sentence.words).into_iter().zip(own) {
                // Where two words share a token, it is that of the first.
                if let Some(place) = token.map(|token| &mut tags.ids[from + token]).filter(|place| **place == 0) {
                    *place = *tag as u64 + 1;
                }
            }
            tags.end_row();
            tokens.ids.extend(cut.ids.into_iter().map(u64::from));
            tokens.end_row();
        }
        Ok((Batch { rows: tokens.offsets.len() - 1, bags: vec![tokens, tags], ..Batch::default() }, truncated))
    }

    fn add(&self, text: &str, bag: &mut Bag) -> Result<u64> {
        let cut = self.tokens.encode(text)?;
        bag.ids.extend(cut.ids.into_iter().map(u64::from));
        bag.end_row();
        Ok(u64::from(cut.truncated))
    }
}

impl Start {
    /// Puts the head in the order of these classes; one that the version does not know begins as the mean of those that it knows.
    fn head(&self, classes: &[String], all: &mut HashMap<String, Parameter>) {
        if self.text.classes == classes {
            return;
        }
        let old = |class: &String| self.text.classes.iter().position(|own| own == class);
        for name in super::net::port::HEAD {
            let Some(weight) = all.get_mut(name) else { continue };
            let width = weight.values.len() / self.text.classes.len().max(1);
            // What is new begins as the mean of what is known: neither likely nor out of the question.
            let mut mean = vec![0.0; width];
            for row in weight.values.chunks_exact(width.max(1)) {
                mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / self.text.classes.len() as f32);
            }
            let rows = classes.iter().flat_map(|class| match old(class) {
                Some(place) => weight.values[place * width..(place + 1) * width].to_vec(),
                None => mean.clone(),
            });
            weight.values = rows.collect();
            weight.shape[0] = classes.len();
        }
    }
}
