//! Fine-tuning a language model: low-rank changes of its matrices (Hu et al. 2021) learn from texts, the model itself stays as it is.
//!
//! It is learned how prompts are completed, with the loss on the completions only ([`Objective::Generation`]), or which of two completions is the better
//! one, by direct preference optimisation (Rafailov et al. 2023, [`Objective::Preference`]). The weights that stay are those that are served: where they
//! are rounded, the changes are trained on what rounding left of them. The texts of a step lie one after another without padding, and a step is computed
//! in parts of some hundred tokens, so that memory does not grow with the number of rows in it.

mod files;
mod frozen;
mod net;
mod pack;
mod train;
mod trainer;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::adapter::Projection;
use super::{Chat, Decoder, Facts, Message, Tokens};
use crate::click::{Schedule, TrainOptions, choices};
use crate::error::{Error, Result};
use crate::features::{Bag, Batch, Column, Feature, Kind, Part, Values, Vocabulary};
use crate::low_rank;
use crate::net::Parameter;

pub use self::files::Version;
pub use self::train::{Trained, train};

use self::frozen::Frozen;

choices! {
    /// What is learned.
    Objective, "task":
    /// How prompts are completed.
    Generation = "generation",
    /// Which of two completions of a prompt is the better one.
    Preference = "preference"
}

/// How a language model is trained, besides the options of any training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tune {
    /// The rank of the changes.
    pub rank: usize,
    /// The changes are multiplied by this over the rank.
    pub alpha: f32,
    /// The matrices that are changed, in each layer.
    pub targets: Vec<Projection>,
    /// The most tokens of a prompt with its completion.
    pub max_length: usize,
    /// Whether prompts are messages of a chat, where the model has one; otherwise a completion goes on where the prompt ends.
    pub chat: bool,
    /// How far preferences may move the model from what it was: the smaller, the farther.
    pub beta: f32,
}

impl Default for Tune {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: vec![Projection::Query, Projection::Value], max_length: 512, chat: true, beta: 0.1 }
    }
}

impl Tune {
    /// The options of a training that suit an objective.
    pub fn options(objective: Objective) -> TrainOptions {
        TrainOptions {
            epochs: match objective {
                Objective::Generation => 3,
                Objective::Preference => 2,
            },
            learning_rate: match objective {
                Objective::Generation => 1e-3,
                Objective::Preference => 2e-4,
            },
            schedule: Schedule::Linear,
            warmup: 0.1,
            ensembles: 1,
            ..TrainOptions::default()
        }
    }

    /// Checks the ranges.
    ///
    /// Errors: [`Error::InvalidOption`].
    pub fn check(&self) -> Result<()> {
        low_rank::check(self.rank, self.alpha, &self.targets)?;
        if !(self.beta > 0.0 && self.beta <= 10.0) {
            return Err(Error::option("beta", format!("{} is not above 0 and at most 10", self.beta)));
        }
        if !(16..=4096).contains(&self.max_length) {
            return Err(Error::option("max_length", format!("{} is not within 16 to 4096", self.max_length)));
        }
        Ok(())
    }
}

/// What a model of changes is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapted {
    /// The language model that is changed.
    pub base: String,
    /// The SHA-256 of its checkpoint.
    pub base_sha256: String,
    /// What was learned.
    pub objective: Objective,
    /// How.
    #[serde(flatten)]
    pub tune: Tune,
    /// Weights that were trained.
    pub trainable: u64,
    /// All weights, of the language model and the changes.
    pub parameters: u64,
    /// Rows of the training of which only a part was read.
    pub truncated: u64,
    /// How good it is on the held-out rows; none without such rows.
    pub evaluation: Option<Evaluation>,
}

/// How good a model is on the held-out rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Their number.
    pub rows: u64,
    /// The tokens that counted.
    pub tokens: u64,
    /// The mean loss: of a token of a completion, or of a pair.
    pub loss: f64,
    /// The loss before the training.
    pub loss_before: f64,
    /// Of pairs: the share in which the chosen completion has become likelier against the other one.
    pub accuracy: Option<f64>,
}

/// A language model that is to be trained.
#[derive(Debug)]
pub struct Base {
    name: String,
    decoder: Decoder,
    tokens: Tokens,
    chat: Option<Chat>,
    tune: Tune,
    frozen: Frozen,
    /// The changes that the training starts from; none begins with none.
    start: Option<Vec<Parameter>>,
}

impl Base {
    /// Reads the language model of this name.
    ///
    /// Errors: [`Error::InvalidOption`], [`Error::Corrupt`], [`Error::Io`].
    pub fn new(name: &str, decoder: Decoder, tune: Tune) -> Result<Self> {
        tune.check()?;
        let tokens = decoder.tokens()?;
        let chat = decoder.chat(&tokens)?;
        let tune = Tune { max_length: tune.max_length.min(decoder.facts().max_positions), ..tune };
        Ok(Self { name: name.to_owned(), frozen: Frozen::read(&decoder)?, decoder, tokens, chat, tune, start: None })
    }

    /// The same with the changes of an earlier version to start from: their rank, factor and targets replace those asked for.
    ///
    /// Errors: [`Error::Data`] when it belongs to another language model.
    pub fn from(self, before: Version) -> Result<Self> {
        let Version { adapted, changes } = before;
        if adapted.base_sha256 != self.decoder.source_sha256() {
            let reason = format!("the version has changes of another language model \"{}\" than there is now", adapted.base);
            return Err(Error::data(reason, "train it anew"));
        }
        let Tune { rank, alpha, targets, .. } = adapted.tune;
        let start = changes.into_iter().flat_map(|change| files::parameters(change, self.decoder.facts())).collect();
        Ok(Self { start: Some(start), tune: Tune { rank, alpha, targets, ..self.tune.clone() }, ..self })
    }

    /// How it is trained.
    pub fn tune(&self) -> &Tune {
        &self.tune
    }

    /// What the model is, before it is trained.
    pub fn model(&self, objective: Objective, truncated: u64) -> Adapted {
        Adapted {
            base: self.name.clone(),
            base_sha256: self.decoder.source_sha256().to_owned(),
            objective,
            tune: self.tune.clone(),
            trainable: 0,
            parameters: 0,
            truncated,
            evaluation: None,
        }
    }

    /// The tokens of rows, each a prompt and one or two completions, which a model is asked for as [`prompt`] asks, and of how many only a part was
    /// read: a completion is cut at its end, and a prompt that leaves it less than half of the length at its beginning.
    pub fn read<'t>(&self, rows: impl IntoIterator<Item = (Option<&'t str>, &'t str, Vec<&'t str>)>) -> Result<(Batch, u64)> {
        let most = self.tune.max_length;
        let (mut bags, mut truncated, mut count) = (Vec::new(), 0, 0);
        for (system, text, completions) in rows {
            let mut prompt = prompt(&self.tokens, self.chat.as_ref().filter(|_| self.tune.chat), system, text)?;
            let completions = completions.into_iter().map(|text| -> Result<Vec<u32>> {
                let end = self.tokens.eos().first().copied();
                Ok(self.tokens.encode_data(text)?.into_iter().chain(end).collect())
            });
            let mut completions = completions.collect::<Result<Vec<_>>>()?;
            if prompt.is_empty() || completions.iter().any(Vec::is_empty) {
                return Err(Error::data("a prompt or a completion is empty", "leave such rows out"));
            }
            let longest = completions.iter().map(Vec::len).max().unwrap_or(0);
            let room = most - prompt.len().min(most - longest.min(most / 2));
            let cut = prompt.len().saturating_sub(most - room);
            prompt.drain(..cut);
            truncated += u64::from(cut > 0 || longest > room);
            completions.iter_mut().for_each(|completion| completion.truncate(room));
            bags.resize_with(1 + completions.len(), Bag::default);
            for (bag, ids) in bags.iter_mut().zip(std::iter::once(prompt).chain(completions)) {
                bag.ids.extend(ids.into_iter().map(u64::from));
                bag.end_row();
            }
            count += 1;
        }
        Ok((Batch { rows: count, bags, ..Batch::default() }, truncated))
    }
}

/// The tokens with which a model is asked: as messages of a chat where the model has a template, else as one text that goes on.
///
/// Errors: [`Error::Data`] when the template fails.
pub fn prompt(tokens: &Tokens, chat: Option<&Chat>, system: Option<&str>, text: &str) -> Result<Vec<u32>> {
    match chat {
        Some(chat) => {
            let system = system.iter().map(|system| Message::new("system", *system));
            let messages: Vec<Message> = system.chain([Message::new("user", text)]).collect();
            tokens.encode(&chat.render(&messages, true)?)
        }
        None => {
            let text = [system.unwrap_or_default(), text].join("\n\n");
            Ok(tokens.bos().into_iter().chain(tokens.encode_data(text.trim_start())?).collect())
        }
    }
}

/// The columns of the examples: the tokens of the prompt and of each completion.
pub fn columns(names: &[&str]) -> Vec<Column> {
    names.iter().map(|name| Column::new(name, "text", Values::Tokens)).collect()
}

/// A column as the manifest has it.
fn feature(column: &Column, facts: &Facts) -> Feature {
    let size = u32::try_from(facts.vocab).unwrap_or(u32::MAX);
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
