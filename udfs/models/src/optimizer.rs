//! The optimizer of the dense weights. Embedding rows have their own ([`crate::table`]).

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
        let (beta1, beta2, epsilon) = (self.beta1, self.beta2, self.epsilon);
        let correction1 = 1.0 - f64::from(beta1).powi(self.steps);
        let correction2 = 1.0 - f64::from(beta2).powi(self.steps);
        let rate = (f64::from(self.learning_rate) / correction1) as f32;
        let scale = (1.0 / correction2.sqrt()) as f32;
        let keep = if decay { 1.0 - self.learning_rate * self.weight_decay } else { 1.0 };
        let Moments { first, second } = &mut self.moments[index];
        for (((w, g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
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
    fn a_bias_does_not_decay() {
        let mut adam = AdamW::new(0.1, 0.5, [1]);
        let mut bias = [1.0];
        adam.begin();
        adam.update(0, &mut bias, &[0.0], false);
        assert_eq!(bias, [1.0]);
    }
}
