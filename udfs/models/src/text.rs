//! Text models: which of some classes a text is of.
//!
//! The nets, the loop and the files are those of click models ([`crate::click`]) with a logit for each class. A text enters as the bag of its
//! n-grams (Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification"), or as its vector by an encoder that is not trained. One with an
//! encoder of its own is made by [`crate::encoder::tune`].

mod judge;
mod linear;
mod model;
mod ngrams;
mod ready;
pub mod tags;
mod train;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::encoder::tune::Tuned;

pub(crate) use self::judge::{Held, judge, likeliest, loss};
pub use self::model::{Shares, Tagged, TextModel};
pub(crate) use self::ready::{Ready, ready};
pub use self::train::{columns, grams, numbers, train, usual};
pub(crate) use self::words::words;

/// The most classes.
pub const MOST_CLASSES: usize = 1000;

/// Cosines are multiplied by this before the partner of a text is told by a softmax of them (Henderson et al. 2017 have none; this one is usual).
pub(crate) const SHARPNESS: f32 = 20.0;

/// What a text model learns of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Which one of its classes it is of.
    #[default]
    Class,
    /// Which of the classes, none, one or several, it is of.
    Labels,
    /// A number, with the mean and the standard deviation of those that were trained on.
    Number {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        scale: f64,
    },
    /// The tag of each word; the classes are the tags.
    Tags,
    /// A vector, which is near to that of the partner of the text.
    Pairs,
    /// A vector, whose cosine with that of another text is how like they are.
    Likeness,
}

impl Task {
    /// A number whose mean and scale are found in the rows.
    pub const NUMBER: Self = Self::Number { mean: 0.0, scale: 1.0 };

    /// Whether it is the usual one.
    fn is_class(&self) -> bool {
        *self == Self::Class
    }

    /// Whether a model of it gives vectors.
    pub fn gives_vectors(self) -> bool {
        matches!(self, Self::Pairs | Self::Likeness)
    }

    /// The values that a model with these classes gives for a text, or for a token; a vector has its own length.
    pub(crate) fn outputs(self, classes: usize) -> usize {
        if let Self::Number { .. } = self { 1 } else { classes }
    }
}

/// What a text model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// What it learns.
    #[serde(default, skip_serializing_if = "Task::is_class")]
    pub task: Task,
    /// The classes, sorted; the tags, where it tags words.
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

impl Text {
    /// The loss of the whole model on the held-out rows.
    pub fn loss(&self) -> Option<f64> {
        let evaluation = self.evaluation.as_ref()?;
        match self.task {
            Task::Class | Task::Labels | Task::Tags => evaluation.get("logloss"),
            Task::Number { scale, .. } => evaluation.get("rmse").map(|error| (error / scale).powi(2)),
            Task::Pairs => evaluation.get("ranking_loss"),
            Task::Likeness => evaluation.get("squared_error"),
        }
    }
}

/// How good a text model is on the held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Held-out rows.
    pub rows: u64,
    /// The figures by their names, such as `accuracy`.
    #[serde(flatten)]
    pub figures: BTreeMap<String, f64>,
}

impl Evaluation {
    /// The figure of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }
}

#[cfg(test)]
mod tests;
