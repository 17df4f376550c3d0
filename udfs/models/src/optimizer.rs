//! The optimizer of the dense weights, and of the words of a text encoder. Embeddings of categories have their own ([`crate::table`]).

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

/// The length of a step's gradient where text encoders and language models are trained, at most (Pascanu et al. 2013).
pub(crate) const LONGEST_GRADIENT: f64 = 1.0;

/// AdamW: Adam with bias correction and decoupled weight decay (Loshchilov and Hutter 2019).
#[derive(Debug, Clone)]
pub struct AdamW {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the mean of the gradients.
    pub beta1: f32,
    /// Decay of the mean of their squares.
    pub beta2: f32,
    /// Added to the denominator.
    pub epsilon: f32,
    /// Share of a weight, times the learning rate, that is taken off in every step.
    pub weight_decay: f32,
    steps: i32,
    moments: Vec<Moments>,
}

#[derive(Debug, Clone)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl AdamW {
    /// An optimizer with the usual constants (0.9, 0.999, 1e-8) for tensors of the given lengths.
    pub fn new(learning_rate: f32, weight_decay: f32, lengths: impl IntoIterator<Item = usize>) -> Self {
        let moments = lengths.into_iter().map(|n| Moments { first: vec![0.0; n], second: vec![0.0; n] }).collect();
        Self { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, steps: 0, moments }
    }

    /// Begins a step; then every tensor is updated once.
    pub fn begin(&mut self) {
        self.steps = self.steps.saturating_add(1);
    }

    /// Updates tensor `index` with its gradient of this step. `decay` tells whether its weights decay (biases should not).
    pub fn update(&mut self, index: usize, weights: &mut [f32], gradient: &[f32], decay: bool) {
        let rule = self.rule(Pace { decay, ..Pace::default() });
        let Moments { first, second } = &mut self.moments[index];
        rule.apply(weights, gradient, first, second);
    }

    /// [`AdamW::update`] on all cores.
    pub(crate) fn update_all(&mut self, index: usize, weights: &mut [f32], gradient: &[f32], pace: Pace) {
        const PART: usize = 1 << 16;
        let rule = self.rule(pace);
        let Moments { first, second } = &mut self.moments[index];
        let parts = weights.par_chunks_mut(PART).zip(gradient.par_chunks(PART));
        let moments = first.par_chunks_mut(PART).zip(second.par_chunks_mut(PART));
        parts.zip(moments).for_each(|((weights, gradient), (first, second))| rule.apply(weights, gradient, first, second));
    }

    /// Updates some rows of tensor `index` and leaves the others as they are, also in their moments. `rows` has no number twice, and `gradients`
    /// is rows x width.
    pub(crate) fn update_rows(&mut self, index: usize, weights: &mut [f32], rows: &[u32], gradients: &[f32], pace: Pace) {
        let rule = self.rule(pace);
        let Moments { first, second } = &mut self.moments[index];
        let width = gradients.len() / rows.len().max(1);
        for (row, gradient) in rows.iter().zip(gradients.chunks_exact(width.max(1))) {
            let place = *row as usize * width..(*row as usize + 1) * width;
            rule.apply(&mut weights[place.clone()], gradient, &mut first[place.clone()], &mut second[place]);
        }
    }

    fn rule(&self, Pace { decay, gradient, rate }: Pace) -> Rule {
        let correction1 = 1.0 - f64::from(self.beta1).powi(self.steps);
        let correction2 = 1.0 - f64::from(self.beta2).powi(self.steps);
        let learning_rate = self.learning_rate * rate;
        Rule {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            gradient,
            rate: (f64::from(learning_rate) / correction1) as f32,
            scale: (1.0 / correction2.sqrt()) as f32,
            keep: if decay { 1.0 - learning_rate * self.weight_decay } else { 1.0 },
        }
    }
}

/// How a tensor is updated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Whether its weights decay.
    pub(crate) decay: bool,
    /// Factor of its gradient.
    pub(crate) gradient: f32,
    /// Factor of the learning rate.
    pub(crate) rate: f32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { decay: true, gradient: 1.0, rate: 1.0 }
    }
}

/// The numbers of one step of a tensor.
#[derive(Clone, Copy)]
struct Rule {
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    gradient: f32,
    rate: f32,
    scale: f32,
    keep: f32,
}

impl Rule {
    fn apply(self, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let Self { beta1, beta2, epsilon, gradient: factor, rate, scale, keep } = self;
        for (((w, g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * factor;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w = *w * keep - rate * *m / (v.sqrt() * scale + epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn the_first_step_moves_every_weight_by_the_learning_rate_after_the_decay() {
        let mut adam = AdamW::new(0.1, 0.5, [3]);
        let mut weights = [1.0, -2.0, 0.0];
        adam.begin();
        adam.update(0, &mut weights, &[0.5, -1e-3, 3.0], true);
        // w (1 - 0.1 * 0.5) - 0.1 sign(g): the corrected moments of one gradient are g and g squared.
        for (weight, expected) in weights.iter().zip([0.85, -1.8, -0.1]) {
            assert!((weight - expected).abs() < 1e-5, "{weight} {expected}");
        }
    }

    #[test]
    fn ten_steps_equal_pytorch() {
        let fixture = Fixture::load();
        let mut adam = AdamW::new(fixture.learning_rate, fixture.weight_decay, [fixture.start.len()]);
        let mut weights = fixture.start;
        for gradient in &fixture.gradients {
            adam.begin();
            adam.update(0, &mut weights, gradient, true);
        }
        for (ours, theirs) in weights.iter().zip(fixture.adamw) {
            assert!((ours - theirs).abs() < 2e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn parts_and_rows_are_updated_like_a_whole() {
        let fixture = Fixture::load();
        let width = 4;
        let (mut whole, mut parts, mut rows) = (fixture.start.clone(), fixture.start.clone(), fixture.start.clone());
        let own = || AdamW::new(fixture.learning_rate, fixture.weight_decay, [fixture.start.len()]);
        let (mut one, mut two, mut three) = (own(), own(), own());
        let numbers: Vec<u32> = (0..(fixture.start.len() / width) as u32).rev().collect();
        let pace = Pace { gradient: 0.5, rate: 2.0, ..Pace::default() };
        for gradient in &fixture.gradients {
            [&mut one, &mut two, &mut three].into_iter().for_each(AdamW::begin);
            let halved: Vec<f32> = gradient.iter().map(|g| g * 0.5).collect();
            one.learning_rate = 2.0 * fixture.learning_rate;
            one.update(0, &mut whole, &halved, true);
            two.update_all(0, &mut parts, gradient, pace);
            let turned: Vec<f32> = gradient.chunks_exact(width).rev().flatten().copied().collect();
            three.update_rows(0, &mut rows, &numbers, &turned, pace);
        }
        assert_eq!(whole, parts);
        let known = numbers.len() * width;
        assert_eq!(whole[..known], rows[..known]);
    }

    #[test]
    fn a_bias_does_not_decay() {
        let mut adam = AdamW::new(0.1, 0.5, [1]);
        let mut bias = [1.0];
        adam.begin();
        adam.update(0, &mut bias, &[0.0], false);
        assert_eq!(bias, [1.0]);
    }
}
