//! The texts of a part of a step, one after another without padding, as the graph takes them.

use ort::session::SessionInputValue;
use ort::value::TensorRef;

use super::super::Facts;
use super::frozen::Frozen;
use super::net::port;
use crate::error::Result;
use crate::examples::Block;

/// What a token that must not be seen adds to a score.
const UNSEEN: f32 = -1e9;

/// A text: tokens, of which those from `start` on count.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sequence {
    pub(super) tokens: Vec<u32>,
    pub(super) start: usize,
}

impl Sequence {
    /// The texts of a row: the prompt with each of the others.
    pub(super) fn of(block: &Block, row: u32) -> Vec<Self> {
        let text = |bag: usize| {
            let bag = &block.batch.bags[bag];
            bag.ids[bag.row(row as usize)].iter().map(|id| *id as u32)
        };
        let whole = |bag: usize| Self { start: text(0).len(), tokens: text(0).chain(text(bag)).collect() };
        (1..block.batch.bags.len()).map(whole).collect()
    }

    /// How many of its tokens count.
    pub(super) fn counted(&self) -> usize {
        self.tokens.len() - self.start
    }
}

/// Buffers that are kept between steps.
#[derive(Debug, Default)]
pub(super) struct Packed {
    words: Vec<f32>,
    rotary: [Vec<f32>; 2],
    mask: Vec<f32>,
    places: Vec<i64>,
    labels: Vec<f32>,
    tokens: usize,
}

impl Packed {
    /// Takes texts in. Errors: [`crate::error::Error::Graph`] when the model has no head.
    pub(super) fn fill<'s>(&mut self, texts: impl IntoIterator<Item = &'s Sequence> + Clone, frozen: &Frozen, facts: &Facts) -> Result<()> {
        let (head, half) = (frozen.weight("head")?, facts.head_dim / 2);
        self.tokens = texts.clone().into_iter().map(|text| text.tokens.len()).sum();
        self.words.clear();
        self.rotary.iter_mut().for_each(Vec::clear);
        self.places.clear();
        self.labels.clear();
        self.mask.clear();
        self.mask.resize(self.tokens * self.tokens, UNSEEN);
        let mut first = 0;
        for Sequence { tokens, start } in texts {
            for (place, token) in tokens.iter().enumerate() {
                frozen.embedding.row(*token as usize, &mut self.words);
                for (own, table) in self.rotary.iter_mut().zip(&frozen.rotary) {
                    own.extend_from_slice(&table[place * half..][..half]);
                }
                self.mask[(first + place) * self.tokens + first..][..=place].fill(0.0);
            }
            self.places.extend((first + start - 1..first + tokens.len() - 1).map(|place| place as i64));
            tokens[*start..].iter().for_each(|token| head.row(*token as usize, &mut self.labels));
            first += tokens.len();
        }
        Ok(())
    }

    /// All tokens, and those that count.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.tokens, self.places.len()]
    }

    /// The inputs of the graph, but for weights.
    pub(super) fn inputs(&self, facts: &Facts) -> Result<Vec<(&'static str, SessionInputValue<'_>)>> {
        let ([s, n], half) = (self.shape(), facts.head_dim / 2);
        let [cos, sin] = &self.rotary;
        Ok(vec![
            (port::WORDS, TensorRef::from_array_view(([s, facts.hidden], self.words.as_slice()))?.into()),
            (port::ROTARY[0], TensorRef::from_array_view(([s, half], cos.as_slice()))?.into()),
            (port::ROTARY[1], TensorRef::from_array_view(([s, half], sin.as_slice()))?.into()),
            (port::MASK, TensorRef::from_array_view(([s, s], self.mask.as_slice()))?.into()),
            (port::PLACES, TensorRef::from_array_view(([n], self.places.as_slice()))?.into()),
            (port::LABELS, TensorRef::from_array_view(([n, facts.hidden], self.labels.as_slice()))?.into()),
        ])
    }
}
