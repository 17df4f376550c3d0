//! The texts of a step side by side, padded to the longest.

use std::collections::HashMap;

use ort::session::SessionInputValue;
use ort::value::TensorRef;

use super::super::config::Pooling;
use super::super::engine::MASKED;
use super::super::graph::ROWS;
use super::super::prepare::Facts;
use crate::error::Result;
use crate::examples::Block;

/// Texts as the graph takes them, in buffers that are kept between steps.
#[derive(Debug, Default)]
pub(super) struct Padded {
    rows: usize,
    longest: usize,
    /// The token at each place, `u32::MAX` for padding.
    tokens: Vec<u32>,
    words: Vec<f32>,
    positions: Vec<i64>,
    mask: Vec<f32>,
    pool: Vec<f32>,
}

impl Padded {
    /// Takes rows of a block in; `table` is that of the tokens.
    pub(super) fn fill(&mut self, block: &Block, rows: &[u32], table: &[f32], facts: &Facts, hidden: usize) {
        let bag = &block.batch.bags[0];
        let text = |row: &u32| &bag.ids[bag.row(*row as usize)];
        (self.rows, self.longest) = (rows.len(), rows.iter().map(|row| text(row).len()).max().unwrap_or(0));
        let places = self.rows * self.longest;
        refill(&mut self.tokens, places, u32::MAX);
        refill(&mut self.mask, places, MASKED);
        refill(&mut self.pool, places, 0.0);
        // What stands at the place of padding does not matter.
        self.words.resize(places * hidden, 0.0);
        for (row, text) in rows.iter().map(text).enumerate() {
            let start = row * self.longest;
            for (place, id) in (start..).zip(text) {
                let token = *id as usize;
                self.tokens[place] = *id as u32;
                self.words[place * hidden..][..hidden].copy_from_slice(&table[token * hidden..][..hidden]);
            }
            self.mask[start..start + text.len()].fill(0.0);
            match facts.pooling {
                Pooling::Mean => self.pool[start..start + text.len()].fill(1.0 / text.len() as f32),
                Pooling::Cls => self.pool[start] = 1.0,
            }
        }
        self.positions.clear();
        self.positions.extend((0..self.longest).map(|place| (place + facts.first_position) as i64));
    }

    /// Rows and the tokens of the longest one.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.rows, self.longest]
    }

    /// The inputs of the graph.
    pub(super) fn inputs(&self, hidden: usize) -> Result<Vec<(&'static str, SessionInputValue<'_>)>> {
        let shape = self.shape();
        Ok(vec![
            (ROWS, TensorRef::from_array_view(([self.rows, self.longest, hidden], self.words.as_slice()))?.into()),
            ("positions", TensorRef::from_array_view(([self.longest], self.positions.as_slice()))?.into()),
            ("mask", TensorRef::from_array_view((shape, self.mask.as_slice()))?.into()),
            ("pool", TensorRef::from_array_view((shape, self.pool.as_slice()))?.into()),
        ])
    }
}

fn refill<T: Copy>(buffer: &mut Vec<T>, length: usize, value: T) {
    buffer.clear();
    buffer.resize(length, value);
}

/// The gradients of the words of a step, a row for each token.
#[derive(Debug, Default)]
pub(super) struct WordGradients {
    /// The tokens, in the order of their first places.
    pub(super) tokens: Vec<u32>,
    /// tokens x hidden.
    pub(super) values: Vec<f32>,
    places: HashMap<u32, usize>,
}

impl WordGradients {
    /// Sums the gradients at the places of each token.
    pub(super) fn sum(&mut self, padded: &Padded, gradient: &[f32], hidden: usize) {
        self.tokens.clear();
        self.values.clear();
        self.places.clear();
        for (token, gradient) in padded.tokens.iter().zip(gradient.chunks_exact(hidden)).filter(|(token, _)| **token != u32::MAX) {
            let place = *self.places.entry(*token).or_insert_with(|| {
                self.tokens.push(*token);
                self.values.resize(self.tokens.len() * hidden, 0.0);
                self.tokens.len() - 1
            });
            self.values[place * hidden..][..hidden].iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
    }
}
