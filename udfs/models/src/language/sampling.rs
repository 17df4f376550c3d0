//! How the next token is chosen from the model's scores.
//!
//! The order is that of Hugging Face transformers: repetition penalty, temperature, top-k, top-p, min-p (llama.cpp applies the temperature last,
//! which makes its top-p independent of it). A seed and the scores decide the choice; nothing else does.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// How tokens are chosen, and when a text ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// The text ends after this many tokens.
    pub max_tokens: usize,
    /// Scores are divided by it. 0 takes the best token always; 1 is the model's own distribution.
    pub temperature: f32,
    /// Only this many best tokens (Fan et al. 2018); of equal scores the lower token number is the better one. 0 is off.
    pub top_k: usize,
    /// The smallest set of best tokens whose probabilities reach this sum (Holtzman et al. 2020), taken after `top_k` and normalised. 1 is off.
    pub top_p: f32,
    /// Only tokens at least this share as probable as the best one (Nguyen et al. 2024). 0 is off.
    pub min_p: f32,
    /// Scores of tokens that the text already has are divided by it when positive and multiplied when negative (CTRL, Keskar et al. 2019). As in
    /// that paper only generated tokens count; transformers counts the prompt too, which keeps a text from naming what it was asked about. 1 is off.
    pub repetition_penalty: f32,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// Start of the random numbers. Equal requests with equal seeds give equal texts.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { max_tokens: 128, temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, stop: Vec::new(), seed: 0 }
    }
}

impl Sampling {
    /// Errors: [`Error::InvalidOption`] for a value out of its range.
    pub fn check(&self) -> Result<()> {
        let check = |holds: bool, option: &str, reason: &str| if holds { Ok(()) } else { Err(Error::option(option, reason)) };
        check(self.max_tokens >= 1, "max_tokens", "it must be at least 1")?;
        check((0.0..=100.0).contains(&self.temperature), "temperature", "it must be from 0 to 100")?;
        check(self.top_p > 0.0 && self.top_p <= 1.0, "top_p", "it must be above 0 and at most 1")?;
        check((0.0..=1.0).contains(&self.min_p), "min_p", "it must be from 0 to 1")?;
        check((0.01..=100.0).contains(&self.repetition_penalty), "repetition_penalty", "it must be from 0.01 to 100")?;
        check(self.stop.iter().all(|stop| !stop.is_empty()), "stop", "a stop string must not be empty")
    }
}

/// A token and what the model itself thought of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    pub(super) id: u32,
    /// Natural logarithm of the token's probability under the model's own distribution: temperature 1, nothing removed.
    pub(super) log_probability: f64,
}

/// Working memory for choices, shared by all rows.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    scores: Vec<f32>,
    weights: Vec<f32>,
    best: BinaryHeap<Reverse<Candidate>>,
    candidates: Vec<Candidate>,
}

/// One row's chooser.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    seen: BTreeSet<u32>,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        Self { sampling, rng, seen: BTreeSet::new() }
    }

    pub(super) fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The text has this token now.
    pub(super) fn note(&mut self, id: u32) {
        if self.sampling.repetition_penalty != 1.0 {
            self.seen.insert(id);
        }
    }

    /// The next token. `allowed` has one bit for each token, lowest first. `None` when no token is left or the scores are not numbers.
    pub(super) fn choose(&mut self, logits: &[f32], allowed: Option<&[u32]>, scratch: &mut Scratch) -> Option<Choice> {
        let best = maximum(logits);
        if !best.is_finite() {
            return None;
        }
        let normaliser = f64::from(best) + sum_of_exponentials(logits, best, 1.0, &mut scratch.weights).ln();
        let mut scores = std::mem::take(&mut scratch.scores);
        let changed = allowed.is_some() || !self.seen.is_empty();
        if changed {
            scores.clear();
            scores.extend_from_slice(logits);
            self.penalise(&mut scores);
            if let Some(allowed) = allowed {
                forbid(&mut scores, allowed);
            }
        }
        let id = self.pick(if changed { &scores } else { logits }, scratch);
        scratch.scores = scores;
        let id = id?;
        let score = *logits.get(id as usize)?;
        Some(Choice { id, log_probability: f64::from(score) - normaliser })
    }

    fn penalise(&self, scores: &mut [f32]) {
        let penalty = self.sampling.repetition_penalty;
        for id in &self.seen {
            let Some(score) = scores.get_mut(*id as usize) else { continue };
            *score = if *score > 0.0 { *score / penalty } else { *score * penalty };
        }
    }

    fn pick(&mut self, scores: &[f32], scratch: &mut Scratch) -> Option<u32> {
        let best = maximum(scores);
        if !best.is_finite() {
            return None;
        }
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        if temperature == 0.0 {
            return scores.iter().position(|score| *score == best).map(|id| id as u32);
        }
        if top_k == 0 && top_p >= 1.0 {
            return Some(self.draw_from_all(scores, best, scratch));
        }
        let weight = |candidate: &Candidate| (f64::from(candidate.score - best) / f64::from(temperature)).exp();
        if top_k > 0 {
            largest(scores, top_k, scratch);
        } else {
            // The set is small for most distributions: look at more tokens only until it is reached.
            let total = sum_of_exponentials(scores, best, temperature, &mut scratch.weights);
            let mut count = FIRST_LOOK;
            loop {
                largest(scores, count, scratch);
                let sum: f64 = scratch.candidates.iter().map(weight).sum();
                if sum >= f64::from(top_p) * total || scratch.candidates.len() < count {
                    break;
                }
                count *= 8;
            }
            return Some(self.draw(&scratch.candidates, weight, f64::from(top_p) * total, f64::from(min_p)));
        }
        let total: f64 = scratch.candidates.iter().map(weight).sum();
        Some(self.draw(&scratch.candidates, weight, f64::from(top_p) * total, f64::from(min_p)))
    }

    /// Draws among the best candidates whose weights reach `sum`, without those below `least` times the best.
    fn draw(&mut self, candidates: &[Candidate], weight: impl Fn(&Candidate) -> f64, sum: f64, least: f64) -> u32 {
        let (mut reached, mut kept) = (0.0, 0);
        for candidate in candidates {
            let weight = weight(candidate);
            if kept > 0 && (reached >= sum || weight < least) {
                break;
            }
            reached += weight;
            kept += 1;
        }
        let mut left = self.rng.random::<f64>() * reached;
        for candidate in &candidates[..kept] {
            left -= weight(candidate);
            if left < 0.0 {
                return candidate.id;
            }
        }
        candidates[kept - 1].id
    }

    /// Draws among all tokens at least `min_p` as probable as the best, in the order of their numbers: nothing has to be sorted.
    fn draw_from_all(&mut self, scores: &[f32], best: f32, scratch: &mut Scratch) -> u32 {
        sum_of_exponentials(scores, best, self.sampling.temperature, &mut scratch.weights);
        let least = self.sampling.min_p;
        let kept = |weight: f32| if weight >= least { f64::from(weight) } else { 0.0 };
        let blocks: Vec<f64> = scratch.weights.chunks(BLOCK).map(|block| block.iter().map(|w| kept(*w)).sum()).collect();
        let mut left = self.rng.random::<f64>() * blocks.iter().sum::<f64>();
        let mut chosen = 0;
        for (block, sum) in blocks.iter().enumerate() {
            if left >= *sum {
                left -= sum;
                continue;
            }
            for (offset, weight) in scratch.weights[block * BLOCK..].iter().take(BLOCK).enumerate() {
                let weight = kept(*weight);
                if weight > 0.0 {
                    chosen = block * BLOCK + offset;
                }
                left -= weight;
                if left < 0.0 {
                    return chosen as u32;
                }
            }
        }
        // Rounding left a rest: the last token with a weight.
        scratch.weights.iter().rposition(|weight| kept(*weight) > 0.0).unwrap_or(chosen) as u32
    }
}

/// Top-p first looks at this many tokens.
const FIRST_LOOK: usize = 64;
/// Sums are taken over blocks in single precision and added up in double precision.
const BLOCK: usize = 256;
/// Independent sums, so that the processor's vector unit has work.
const LANES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    score: f32,
    id: u32,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.id.cmp(&self.id))
    }
}

/// The `count` best tokens into `scratch.candidates`, best first; forbidden tokens are never among them.
fn largest(scores: &[f32], count: usize, scratch: &mut Scratch) {
    let heap = &mut scratch.best;
    heap.clear();
    let mut bar = f32::NEG_INFINITY;
    for (block, values) in scores.chunks(64).enumerate() {
        // Most blocks hold nothing better than what is known.
        if maximum(values) <= bar {
            continue;
        }
        for (offset, score) in values.iter().enumerate() {
            if *score > bar {
                if heap.len() == count {
                    heap.pop();
                }
                heap.push(Reverse(Candidate { score: *score, id: (block * 64 + offset) as u32 }));
                if heap.len() == count {
                    bar = heap.peek().map_or(bar, |worst| worst.0.score);
                }
            }
        }
    }
    scratch.candidates.clear();
    scratch.candidates.extend(heap.drain().map(|reversed| reversed.0));
    scratch.candidates.sort_unstable_by(|a, b| b.cmp(a));
}

/// The largest value; values that are not numbers are passed over.
fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |best, value| if *value > best { *value } else { best })
}

/// Sum of exp((score - best) / temperature), and each of them in `weights`.
fn sum_of_exponentials(scores: &[f32], best: f32, temperature: f32, weights: &mut Vec<f32>) -> f64 {
    let inverse = 1.0 / temperature;
    weights.clear();
    weights.extend(scores.iter().map(|score| exponential((score - best) * inverse)));
    let mut sum = 0.0;
    for block in weights.chunks(BLOCK) {
        let mut lanes = [0.0f32; LANES];
        let chunks = block.chunks_exact(LANES);
        let rest: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for (lane, weight) in lanes.iter_mut().zip(chunk) {
                *lane += weight;
            }
        }
        sum += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>() + f64::from(rest);
    }
    sum
}

/// exp(x) for x <= 0 to 2e-7 relative, without a branch: the library's function is not vectorised. Below -87 it is 0.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) by its series to the sixth power, 2^n by the exponent bits (Cody and Waite 1980).
#[inline]
fn exponential(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let in_range = if x > -87.0 { x } else { -87.0 };
    let shifted = in_range * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = in_range - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let value = series * power;
    if x > -87.0 { value } else { 0.0 }
}

/// Takes away the tokens whose bit is not set.
fn forbid(scores: &mut [f32], allowed: &[u32]) {
    for (position, scores) in scores.chunks_mut(32).enumerate() {
        let bits = allowed.get(position).copied().unwrap_or(0);
        if bits == u32::MAX {
            continue;
        }
        for (bit, score) in scores.iter_mut().enumerate() {
            if bits >> bit & 1 == 0 {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests;
