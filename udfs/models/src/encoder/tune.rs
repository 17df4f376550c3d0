//! Fine-tuning: an encoder and a linear head over the vectors of texts learn together which class a text is of.
//!
//! A step is one graph, the encoder's own with a loss and its gradients. The rows of the table of tokens that a step uses enter it from outside, so
//! that a step does not cost the size of the vocabulary. With [`Method::Full`] every weight is trained; with [`Method::Lora`] low-rank changes of some
//! matrices of each layer (Hu et al. 2021), all else stays as it is. The optimizer is AdamW, with the norm of the gradient held to 1.

mod explain;
mod files;
mod net;
mod padded;
mod train;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::graph::Low;
use super::prepare::{Encoder, Facts};
use super::tokens::Tokens;
use crate::click::{Schedule, TrainOptions, choices};
use crate::error::{Error, Result};
use crate::features::{Bag, Batch, Column, Feature, Kind, Part, Values, Vocabulary};

pub use self::explain::{Explainer, Explanation};
pub use self::files::Bases;
pub(crate) use self::files::load;
pub use self::train::{Trained, train};

choices! {
    /// What of an encoder is trained.
    Method, "method":
    /// Every weight.
    Full = "full",
    /// Low-rank changes.
    Lora = "lora"
}

choices! {
    /// A matrix of each layer that may have a low-rank change.
    Target, "targets":
    /// Of the queries of the attention.
    Query = "query",
    /// Of its keys.
    Key = "key",
    /// Of its values.
    Value = "value",
    /// Of its output.
    Output = "output",
    /// The first one of the feed-forward part.
    Up = "up",
    /// The second one.
    Down = "down"
}

impl Target {
    /// The name within a layer.
    fn part(self) -> &'static str {
        match self {
            Self::Query => "attention.self.query",
            Self::Key => "attention.self.key",
            Self::Value => "attention.self.value",
            Self::Output => "attention.output.dense",
            Self::Up => "intermediate.dense",
            Self::Down => "output.dense",
        }
    }
}

/// How an encoder is trained, besides the options of any training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tune {
    /// What is trained.
    pub method: Method,
    /// The rank of the changes.
    pub rank: usize,
    /// The changes are multiplied by this over the rank.
    pub alpha: f32,
    /// The matrices that are changed.
    pub targets: Vec<Target>,
    /// The most tokens of a text, with those that begin and end it.
    pub max_length: usize,
}

impl Tune {
    /// The usual settings of a method.
    pub fn new(method: Method) -> Self {
        Self { method, rank: 8, alpha: 16.0, targets: vec![Target::Query, Target::Value], max_length: 128 }
    }

    /// The options of a training that suit the method.
    pub fn options(method: Method) -> TrainOptions {
        TrainOptions {
            epochs: match method {
                Method::Full => 4,
                Method::Lora => 6,
            },
            learning_rate: match method {
                Method::Full => 5e-5,
                Method::Lora => 1e-3,
            },
            schedule: Schedule::Linear,
            warmup: 0.1,
            dropout: 0.1,
            ensembles: 1,
            ..TrainOptions::default()
        }
    }

    /// Checks the ranges.
    ///
    /// Errors: [`Error::InvalidOption`].
    pub fn check(&self) -> Result<()> {
        if !(1..=256).contains(&self.rank) {
            return Err(Error::option("rank", format!("{} is not within 1 to 256", self.rank)));
        }
        if !(self.alpha > 0.0 && self.alpha <= 1024.0) {
            return Err(Error::option("alpha", format!("{} is not above 0 and at most 1024", self.alpha)));
        }
        if self.max_length < 8 {
            return Err(Error::option("max_length", format!("{} is less than 8", self.max_length)));
        }
        let twice = (1..self.targets.len()).any(|place| self.targets[..place].contains(&self.targets[place]));
        if self.targets.is_empty() || twice {
            return Err(Error::option("targets", "it names no matrix, or one twice"));
        }
        Ok(())
    }

    /// The learning rate of the head over that of the encoder's weights: it begins at zero, they do not.
    fn head_rate(&self) -> f32 {
        match self.method {
            Method::Full => 20.0,
            Method::Lora => 2.0,
        }
    }

    /// The changes of the graph; `masks` tells whether their inputs have dropout.
    fn low(&self, masks: bool) -> Option<Low> {
        match self.method {
            Method::Full => None,
            Method::Lora => {
                let targets = self.targets.iter().map(|target| target.part()).collect();
                Some(Low { rank: self.rank, scale: self.alpha / self.rank as f32, targets, masks })
            }
        }
    }
}

/// What a model with an encoder of its own is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// How it was trained.
    #[serde(flatten)]
    pub tune: Tune,
    /// The SHA-256 of the checkpoint that it was trained from.
    pub base_sha256: String,
    /// Weights that were trained, those of the head among them.
    pub trainable: u64,
    /// All weights.
    pub parameters: u64,
    facts: Facts,
    config: Config,
}

impl Tuned {
    /// The most tokens of a text that it reads.
    pub fn max_tokens(&self) -> usize {
        self.facts.max_tokens
    }
}

/// An encoder that is to be trained, and its tokenizer.
#[derive(Debug)]
pub struct Base {
    encoder: Encoder,
    tune: Tune,
    /// With the length of the training.
    facts: Facts,
    tokens: Tokens,
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
        let mut facts = encoder.facts().clone();
        facts.max_tokens = facts.max_tokens.min(tune.max_length);
        let tokens = Tokens::new("the tokenizer of the encoder", &encoder.tokenizer()?, &facts)?;
        Ok(Self { encoder, tune, facts, tokens })
    }

    /// The tokens of texts, and of how many only the beginning was read.
    pub fn read<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> Result<(Batch, u64)> {
        let (mut bag, mut truncated) = (Bag::default(), 0);
        for text in texts {
            let cut = self.tokens.encode(text)?;
            truncated += u64::from(cut.truncated);
            bag.ids.extend(cut.ids.into_iter().map(u64::from));
            bag.end_row();
        }
        Ok((Batch { rows: bag.offsets.len() - 1, bags: vec![bag], ..Batch::default() }, truncated))
    }
}

/// The columns of the examples, which have the tokens of texts; `name` is that of the texts.
pub fn columns(name: &str) -> Vec<Column> {
    vec![Column::new(name, "text", Values::Tokens)]
}

/// The column as the manifest has it.
fn feature(column: &Column, facts: &Facts) -> Feature {
    let size = u32::try_from(facts.vocabulary).unwrap_or(u32::MAX);
    Feature {
        column: column.column.clone(),
        part: Part::Whole,
        sql_type: column.sql_type.clone(),
        values: Values::Tokens,
        kind: Kind::Bag(Vocabulary { offset: 0, size, hashed: true }),
        missing: 0.0,
        distinct: 0,
    }
}

#[cfg(test)]
mod tests;
