//! The texts of a step side by side, padded to the longest.

use std::collections::HashMap;

use ort::session::SessionInputValue;
use ort::value::TensorRef;

use super::super::config::Pooling;
use super::super::engine::MASKED;
use super::super::graph::ROWS;
use super::super::prepare::Facts;
use crate::error::Result;

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
    /// Takes the tokens of texts in; `table` is that of the tokens.
    pub(super) fn fill(&mut self, texts: &[&[u64]], table: &[f32], facts: &Facts, hidden: usize) {
        (self.rows, self.longest) = (texts.len(), texts.iter().map(|text| text.len()).max().unwrap_or(0));
        let places = self.rows * self.longest;
        refill(&mut self.tokens, places, u32::MAX);
        refill(&mut self.mask, places, MASKED);
        refill(&mut self.pool, places, 0.0);
        // What stands at the place of padding does not matter.
        self.words.resize(places * hidden, 0.0);
        for (row, text) in texts.iter().enumerate() {
            let start = row * self.longest;
            for (place, id) in (start..).zip(*text) {
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

    /// Moves the words of each text against its loss, along its own gradient g by epsilon g / |g| (Miyato et al. 2017).
    pub(super) fn perturb(&mut self, gradient: &[f32], epsilon: f32, hidden: usize) {
        let row = self.longest * hidden;
        for (words, gradient) in self.words.chunks_exact_mut(row.max(1)).zip(gradient.chunks_exact(row.max(1))) {
            let length = gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            if length > 0.0 && length.is_finite() {
                let step = (f64::from(epsilon) / length) as f32;
                words.iter_mut().zip(gradient).for_each(|(word, value)| *word += step * value);
            }
        }
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
    /// Begins a step.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.values.clear();
        self.places.clear();
    }

    /// Adds the gradients at the places of each token.
    pub(super) fn add(&mut self, padded: &Padded, gradient: &[f32], hidden: usize) {
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

#[cfg(test)]
mod tests {
    use super::super::super::config::Family;
    use super::*;

    fn facts() -> Facts {
        Facts {
            name: "tiny".to_owned(),
            family: Family::Bert,
            layers: 1,
            dimension: 2,
            vocabulary: 4,
            max_tokens: 8,
            parameters: 0,
            pooling: Pooling::Mean,
            normalize: false,
            lowercase: false,
            prompt: String::new(),
            first_position: 0,
            session_bytes: 0,
            licence: None,
        }
    }

    #[test]
    fn words_are_moved_along_the_gradient_of_their_text_by_exactly_epsilon() {
        let table: Vec<f32> = (0..8).map(|value| value as f32).collect();
        let mut padded = Padded::default();
        padded.fill(&[&[1, 2, 3], &[3, 0]], &table, &facts(), 2);
        let before = padded.words.clone();
        // The second text ends with padding, which has no gradient; a third of gradients is zero everywhere.
        let gradient = [0.3, -0.4, 0.0, 1.2, 0.0, 0.0, -3.0, 4.0, 0.0, 0.0, 0.0, 0.0];
        padded.perturb(&gradient, 0.5, 2);
        let lengths = [1.3f32, 5.0];
        for (place, (moved, before)) in padded.words.iter().zip(&before).enumerate() {
            let expected = 0.5 * gradient[place] / lengths[place / 6];
            assert!((moved - before - expected).abs() < 1e-6, "{place}: {moved} {before} {expected}");
        }
        let moved = padded.words.clone();
        padded.perturb(&[0.0; 12], 0.5, 2);
        assert_eq!(padded.words, moved);
    }
}
