//! Text models: which of some classes a text is of.
//!
//! The nets, the loop and the files are those of click models ([`crate::click`]) with a logit for each class. A text enters as the bag of its
//! n-grams (Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification"), or as its vector by an encoder that is not trained. One with an
//! encoder of its own is made by [`crate::encoder::tune`].

mod model;
mod ngrams;
mod train;

use serde::{Deserialize, Serialize};

use crate::encoder::tune::Tuned;

pub use self::model::{Shares, TextModel};
pub(crate) use self::train::{class, judge, strata};
pub use self::train::{columns, grams, numbers, train, usual};

/// The most classes.
pub const MOST_CLASSES: usize = 1000;

/// What a text model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The classes, sorted.
    pub classes: Vec<String>,
    /// The encoder whose vectors it reads; none for n-grams.
    pub encoder: Option<String>,
    /// Texts of the training of which only the beginning was read.
    pub truncated: u64,
    /// How good it is on the held-out rows; none without such rows.
    pub evaluation: Option<Evaluation>,
    /// How its own encoder was made of that one; none where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Box<Tuned>>,
}

/// How good a text model is on the held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Held-out rows.
    pub rows: u64,
    /// Cross-entropy, in nats.
    pub logloss: f64,
    /// Share of the rows whose likeliest class is the right one.
    pub accuracy: f64,
    /// Mean F1 of the classes.
    pub macro_f1: f64,
}

#[cfg(test)]
mod tests;
