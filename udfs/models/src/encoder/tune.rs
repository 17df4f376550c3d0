//! Fine-tuning: an encoder and a linear head over the vectors of texts, or of tokens, learn together what a text is.
//!
//! A step is one graph, the encoder's own with a loss and its gradients. The rows of the table of tokens that a step uses enter it from outside, so
//! that a step does not cost the size of the vocabulary. With [`Method::Full`] every weight is trained; with [`Method::Lora`] low-rank changes of some
//! matrices of each layer (Hu et al. 2021), whose ranks [`Method::Adalora`] shares out as it goes (Zhang et al. 2023); with [`Method::Adapter`]
//! bottlenecks between the parts of a layer (Houlsby et al. 2019) and the norms beside them; with [`Method::Prefix`] keys and values that every token
//! attends to (Li and Liang 2021). All else stays as it is. The optimizer is AdamW, with the norm of the gradient held to 1.

mod adaptive;
mod augment;
mod base;
mod explain;
mod files;
mod net;
mod padded;
mod step;
mod train;
mod trainer;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::graph::{Added, Low};
use super::prepare::Facts;
use crate::click::{Schedule, TrainOptions, choices};
use crate::error::{Error, Result};
use crate::features::{Column, Feature, Kind, Part, Values, Vocabulary};
use crate::low_rank;
use crate::text::Task;

pub use self::base::Base;
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
    Lora = "lora",
    /// Low-rank changes that share a budget of ranks.
    Adalora = "adalora",
    /// Bottlenecks between the parts of a layer.
    Adapter = "adapter",
    /// Keys and values before those of a text.
    Prefix = "prefix"
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
    /// The rank of the changes (of `adalora` on average), the width of the bottlenecks, or the number of keys.
    pub rank: usize,
    /// The changes are multiplied by this over the rank.
    pub alpha: f32,
    /// The matrices that are changed.
    pub targets: Vec<Target>,
    /// The most tokens of a text, with those that begin and end it.
    pub max_length: usize,
    /// Batches whose gradients are summed before a step.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// The learning rate of a layer over that of the one above it; the embeddings are below the first one.
    #[serde(default = "whole")]
    pub layer_decay: f32,
    /// What the difference between two passes of a text counts, each with a dropout of its own (Liang et al. 2021); 0 for one pass.
    #[serde(default)]
    pub r_drop: f32,
    /// The share of the words of a text that are left out, each time that it is learned from.
    #[serde(default)]
    pub word_dropout: f32,
    /// The share of them that change their place with another one.
    #[serde(default)]
    pub word_swap: f32,
    /// The share of those with a synonym that give way to it.
    #[serde(default)]
    pub word_synonyms: f32,
}

fn one() -> usize {
    1
}

fn whole() -> f32 {
    1.0
}

impl Tune {
    /// The usual settings of a method.
    pub fn new(method: Method) -> Self {
        let rank = match method {
            Method::Full | Method::Lora | Method::Adalora => 8,
            Method::Adapter => 32,
            Method::Prefix => 16,
        };
        let targets = vec![Target::Query, Target::Value];
        Self {
            method,
            rank,
            alpha: 2.0 * rank as f32,
            targets,
            max_length: 128,
            accumulation: 1,
            layer_decay: 1.0,
            r_drop: 0.0,
            word_dropout: 0.0,
            word_swap: 0.0,
            word_synonyms: 0.0,
        }
    }

    /// The options of a training that suit the method.
    pub fn options(method: Method) -> TrainOptions {
        TrainOptions {
            epochs: match method {
                Method::Full => 4,
                Method::Lora | Method::Adalora | Method::Adapter => 6,
                Method::Prefix => 8,
            },
            learning_rate: match method {
                Method::Full => 5e-5,
                Method::Lora | Method::Adalora | Method::Adapter => 1e-3,
                Method::Prefix => 1e-2,
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
        low_rank::check(self.rank, self.alpha, &self.targets)?;
        if !(1..=1024).contains(&self.accumulation) {
            return Err(Error::option("accumulation", format!("{} is not within 1 to 1024", self.accumulation)));
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            return Err(Error::option("layer_decay", format!("{} is not above 0 and at most 1", self.layer_decay)));
        }
        if !(0.0..=100.0).contains(&self.r_drop) {
            return Err(Error::option("r_drop", format!("{} is not within 0 to 100", self.r_drop)));
        }
        for (option, share) in self.changes() {
            if !(0.0..1.0).contains(&share) {
                return Err(Error::option(option, format!("{share} is not at least 0 and below 1")));
            }
        }
        if self.max_length < 8 {
            return Err(Error::option("max_length", format!("{} is less than 8", self.max_length)));
        }
        Ok(())
    }

    /// The shares of the words that are changed, by the names of the options.
    fn changes(&self) -> [(&'static str, f32); 3] {
        [("word_dropout", self.word_dropout), ("word_swap", self.word_swap), ("word_synonyms", self.word_synonyms)]
    }

    /// The learning rate of the head over that of the encoder's weights: it begins at zero, they do not.
    fn head_rate(&self) -> f32 {
        match self.method {
            Method::Full => 20.0,
            Method::Lora | Method::Adalora | Method::Adapter => 2.0,
            Method::Prefix => 0.2,
        }
    }

    /// The learning rate of a weight over that of the training, by its name. A layer's is `layer_decay` times that of the one above it.
    fn rate(&self, name: &str, layers: usize) -> f32 {
        if net::port::HEAD.contains(&name) {
            return self.head_rate();
        }
        let layer =
            name.strip_prefix("encoder.layer.").and_then(|rest| rest.split('.').next()).and_then(|layer| layer.parse::<usize>().ok());
        let above = layer.map_or(layers, |layer| layers.saturating_sub(layer + 1));
        self.layer_decay.powi(i32::try_from(above).unwrap_or(i32::MAX))
    }

    /// Whether a weight of the encoder, or of what is added to it, is trained.
    fn trains(&self, name: &str) -> bool {
        match self.method {
            Method::Full => true,
            Method::Lora | Method::Adalora => name.contains(".lora_"),
            Method::Adapter => name.contains(".adapter.") || (name.contains("LayerNorm") && name.starts_with("encoder.")),
            Method::Prefix => name.contains(".prefix."),
        }
    }

    /// The ranks that changes begin with: those of `adalora` are more than are left in the end.
    fn first_rank(&self) -> usize {
        if self.method == Method::Adalora { (self.rank * 3).div_ceil(2) } else { self.rank }
    }

    /// What is added to the graph that serves; low-rank changes become part of the encoder's weights.
    fn served(&self) -> Option<Added> {
        match self.method {
            Method::Full | Method::Lora | Method::Adalora => None,
            Method::Adapter => Some(Added::Adapters(self.rank)),
            Method::Prefix => Some(Added::Prefixes(self.rank)),
        }
    }

    /// What is added to the graph of a training; `masks` tells whether the inputs of low-rank changes have dropout.
    fn added(&self, masks: bool) -> Option<Added> {
        match self.method {
            Method::Lora | Method::Adalora => {
                let targets = self.targets.iter().map(|target| target.part()).collect();
                let factors = self.method == Method::Adalora;
                Some(Added::Low(Low { rank: self.first_rank(), scale: self.alpha / self.rank as f32, targets, masks, factors }))
            }
            Method::Full | Method::Adapter | Method::Prefix => self.served(),
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
    /// What is known of its encoder.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The most tokens of a text that it reads.
    pub fn max_tokens(&self) -> usize {
        self.facts.max_tokens
    }
}

/// The columns of the examples: the tokens of texts, and of tags one for each token, or the tokens of the other texts. `name` is that of the texts, which
/// have this type.
pub fn columns(name: &str, sql_type: &str, task: Task) -> Vec<Column> {
    let mut columns = vec![Column::new(name, sql_type, Values::Tokens)];
    match task {
        Task::Tags => columns.push(Column::new("tags", "text[]", Values::Tokens)),
        Task::Pairs | Task::Likeness => columns.push(Column::new("partner", sql_type, Values::Tokens)),
        Task::Class | Task::Labels | Task::Number { .. } => {}
    }
    columns
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
