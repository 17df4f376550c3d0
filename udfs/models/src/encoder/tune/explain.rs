//! Which tokens of a text speak for its class, by integrated gradients (Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks").
//!
//! The text is compared with one of which every token is masked. Along the straight line of embeddings between the two the gradients of the
//! class's log probability are averaged, and what a token's own difference makes of them is its attribution. All of them together are the
//! difference of the log probabilities, up to the error of the mean over steps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

use super::super::config::Pooling;
use super::super::graph::{ROWS, WORDS};
use super::super::prepare::Facts;
use super::super::tokens::{Piece, Tokens};
use super::net::{self, port};
use super::{Bases, Tuned, files};
use crate::error::{Error, Result};
use crate::metrics::softmax;
use crate::net::Parameter;
use crate::registry::{Kind, ModelName, Registry};
use crate::runtime::Runtime;
use crate::text::{Task, Text};

/// Tokens of a call.
const TOKENS: usize = 4096;

/// A text model with an encoder of its own that tells why.
pub struct Explainer {
    session: Mutex<Session>,
    weights: Vec<Parameter>,
    words: Parameter,
    tokens: Tokens,
    text: Text,
    facts: Facts,
    hidden: usize,
    /// The embedding of a masked token.
    blank: Vec<f32>,
}

impl std::fmt::Debug for Explainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Explainer").field("text", &self.text).finish_non_exhaustive()
    }
}

/// Why a text is of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The number of the class.
    pub class: usize,
    /// Its probability.
    pub probability: f64,
    /// ln of its probability, less that of the masked text, with 1e-7 added to both probabilities.
    pub difference: f64,
    /// The tokens of the text, without those that begin and end it: what stands there, and its part of the difference.
    pub tokens: Vec<(String, f64)>,
}

impl Explainer {
    /// Reads a version of a text model.
    ///
    /// Errors: [`Error::Data`] when it has no encoder of its own, [`Error::NoSuchModel`], [`Error::NoSuchVersion`], [`Error::Corrupt`],
    /// [`Error::Runtime`].
    pub fn load(runtime: &Arc<Runtime>, registry: &Registry, name: &ModelName, version: u32, bases: Bases<'_>) -> Result<Self> {
        let stored = registry.read(name, version)?;
        let object = format!("model \"{name}@{version}\"");
        let Kind::Text(text @ Text { tuned: Some(tuned), .. }) = &stored.manifest.kind else {
            return Err(Error::data(format!("{object} has no encoder of its own"), "train one with method => 'full' or 'lora'"));
        };
        if text.task != Task::Class {
            return Err(Error::data(
                format!("{object} gives no classes"),
                "explain a model with task => 'text_classification' and one class for a text",
            ));
        }
        let (weights, tokenizer) = files::weights(&object, text, tuned, stored.files, bases)?;
        Self::new(runtime, text, tuned, weights, &tokenizer).map_err(|error| match error {
            Error::Graph { reason } => Error::corrupt(object, reason),
            other => other,
        })
    }

    fn new(runtime: &Arc<Runtime>, text: &Text, tuned: &Tuned, mut weights: HashMap<String, Parameter>, tokenizer: &[u8]) -> Result<Self> {
        let plan = net::Plan { config: &tuned.config, tune: &tuned.tune, task: text.task, outputs: text.classes.len() };
        let (graph, slots) = plan.explaining()?;
        let mut take = |name: &str, shape: Option<&[usize]>| {
            let weight = weights.remove(name).filter(|weight| shape.is_none_or(|shape| weight.shape == shape));
            weight.ok_or_else(|| Error::graph(format!("{name} is missing or has another shape")))
        };
        let hidden = tuned.config.hidden;
        let words = take(WORDS, Some(&[tuned.config.vocabulary, hidden]))?;
        let weights = slots.iter().map(|slot| take(&slot.name, Some(&slot.shape))).collect::<Result<_>>()?;
        let tokens = Tokens::new("the tokenizer of a text model", tokenizer, &tuned.facts)?;
        let masked = tokens.masked().map(|id| words.values[id as usize * hidden..][..hidden].to_vec());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            session: Mutex::new(runtime.session_for_training(&graph.model(), threads)?),
            weights,
            tokens,
            text: text.clone(),
            facts: tuned.facts.clone(),
            hidden,
            blank: masked.unwrap_or_else(|| vec![0.0; hidden]),
            words,
        })
    }

    /// What the model is.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// Why a text is of a class, by its number, or of the likeliest one; the mean is over so many steps. Ends early with [`Error::Canceled`] once `stop`
    /// is set.
    ///
    /// Errors: [`Error::Data`] when the text cannot be tokenized, [`Error::Runtime`].
    pub fn explain(&self, text: &str, class: Option<usize>, steps: usize, stop: &AtomicBool) -> Result<Explanation> {
        let pieces = self.tokens.pieces(text)?;
        let (own, blank) = self.ends(&pieces);
        let classes = self.text.classes.len();
        let whole = self.run(&[1.0], &own, &blank, 0)?;
        let mut shares = whole.logits;
        softmax(&mut shares);
        let class =
            class.unwrap_or_else(|| (0..classes).reduce(|best, next| if shares[next] > shares[best] { next } else { best }).unwrap_or(0));
        let ends = self.run(&[0.0, 1.0], &own, &blank, class)?;
        let mut sums = vec![0.0; own.len()];
        let along: Vec<f32> = (0..steps).map(|step| (step as f32 + 0.5) / steps as f32).collect();
        for part in along.chunks((TOKENS / pieces.len().max(1)).max(1)) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Canceled);
            }
            let found = self.run(part, &own, &blank, class)?;
            for gradient in found.gradient.chunks_exact(own.len()) {
                sums.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
        let tokens = pieces.into_iter().enumerate().filter_map(|(place, piece)| {
            let range = place * self.hidden..(place + 1) * self.hidden;
            let moved = own[range.clone()].iter().zip(&blank[range.clone()]).map(|(own, blank)| f64::from(own - blank));
            // The gradient is that of the loss, which is the negative log probability.
            let value: f64 = moved.zip(&sums[range]).map(|(moved, sum)| -moved * sum / steps as f64).sum();
            Some((piece.text?, value))
        });
        Ok(Explanation {
            class,
            probability: f64::from(shares[class]),
            difference: f64::from(ends.losses[0]) - f64::from(ends.losses[1]),
            tokens: tokens.collect(),
        })
    }

    /// How much of the attention each token of a text has in the end ([`Explanation::tokens`]); those that begin and end it have the rest of 1. It says what
    /// is read, not what speaks for the class.
    ///
    /// Errors: as [`Explainer::explain`].
    pub fn attend(&self, text: &str, class: Option<usize>, stop: &AtomicBool) -> Result<Explanation> {
        let explained = self.explain(text, class, 1, stop)?;
        let pieces = self.tokens.pieces(text)?;
        let (own, blank) = self.ends(&pieces);
        let found = self.run(&[1.0], &own, &blank, 0)?;
        let tokens = pieces.into_iter().zip(found.attention).filter_map(|(piece, share)| Some((piece.text?, f64::from(share))));
        Ok(Explanation { tokens: tokens.collect(), ..explained })
    }

    /// The embeddings of the text and of the masked one, tokens x hidden.
    fn ends(&self, pieces: &[Piece]) -> (Vec<f32>, Vec<f32>) {
        let row = |piece: &Piece| &self.words.values[piece.id as usize * self.hidden..][..self.hidden];
        let own = pieces.iter().flat_map(row).copied().collect();
        let blank = pieces.iter().flat_map(|piece| if piece.text.is_some() { &self.blank } else { row(piece) }).copied().collect();
        (own, blank)
    }

    /// Runs the graph at some places between the masked text, 0, and the text, 1.
    fn run(&self, along: &[f32], own: &[f32], blank: &[f32], class: usize) -> Result<Found> {
        let (rows, length, classes) = (along.len(), own.len() / self.hidden, self.text.classes.len());
        let words: Vec<f32> =
            along.iter().flat_map(|share| own.iter().zip(blank).map(move |(own, blank)| blank + share * (own - blank))).collect();
        let positions: Vec<i64> = (0..length).map(|place| (place + self.facts.first_position) as i64).collect();
        let mask = vec![0.0f32; rows * length];
        let pool: Vec<f32> = match self.facts.pooling {
            Pooling::Mean => vec![1.0 / length as f32; rows * length],
            Pooling::Cls => (0..rows * length).map(|place| if place % length == 0 { 1.0 } else { 0.0 }).collect(),
        };
        let labels: Vec<f32> = (0..rows * classes).map(|place| if place % classes == class { 1.0 } else { 0.0 }).collect();
        let mut inputs: Vec<(&str, SessionInputValue<'_>)> = vec![
            (ROWS, TensorRef::from_array_view(([rows, length, self.hidden], words.as_slice()))?.into()),
            ("positions", TensorRef::from_array_view(([length], positions.as_slice()))?.into()),
            ("mask", TensorRef::from_array_view(([rows, length], mask.as_slice()))?.into()),
            ("pool", TensorRef::from_array_view(([rows, length], pool.as_slice()))?.into()),
            (port::LABELS, TensorRef::from_array_view(([rows, classes], labels.as_slice()))?.into()),
        ];
        for weight in &self.weights {
            inputs.push((&weight.name, TensorRef::from_array_view((weight.shape.clone(), weight.values.as_slice()))?.into()));
        }
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(inputs)?;
        let take = |place: usize| -> Result<Vec<f32>> { Ok(outputs[place].try_extract_tensor::<f32>()?.1.to_vec()) };
        Ok(Found { losses: take(0)?, logits: take(1)?, gradient: take(2)?, attention: take(3)? })
    }
}

/// What the graph gives: rows, rows x classes, rows x tokens x hidden, and rows x tokens.
struct Found {
    losses: Vec<f32>,
    logits: Vec<f32>,
    gradient: Vec<f32>,
    attention: Vec<f32>,
}
