//! Which ranks of low-rank changes are kept (Zhang et al. 2023, "Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning").
//!
//! A change is B diag(E) A. Every factor of E stands for a row of A and a column of B, and is as important as these weights are sensitive: |weight x
//! gradient|, smoothed over the steps, times how much that varies. The budget of factors falls along a cubic curve from those that there are at first to
//! the rank asked for, on average; the least important ones are set to 0, wherever they are.

use std::collections::HashMap;

use super::Tune;
use crate::net::Parameter;

/// How slowly sensitivity and its variation follow the last step.
const SMOOTH: f32 = 0.85;

/// The share of the steps before the budget falls, and that at the end in which the choice stays.
const BEFORE: f64 = 0.1;
const AFTER: f64 = 0.3;

/// The importance of what is trained.
#[derive(Debug)]
pub(super) struct Adaptive {
    /// Of each weight that is part of a change, by its place among those that are trained.
    parts: Vec<Part>,
    /// The factors that are left in the end.
    budget: usize,
    /// Those that are set to 0 for good, once that is settled.
    settled: Option<Vec<(usize, usize)>>,
}

/// A weight of a change.
#[derive(Debug)]
struct Part {
    /// The place among all weights.
    weight: usize,
    kind: Kind,
    /// The change that it is part of, by its number.
    change: usize,
    sensitivity: Vec<f32>,
    variation: Vec<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `[rank, inputs]`
    Rows,
    /// `[outputs, rank]`
    Columns,
    Factors,
}

impl Adaptive {
    pub(super) fn new(tune: &Tune, weights: &[(Parameter, bool)]) -> Self {
        let mut changes: HashMap<&str, usize> = HashMap::new();
        let mut parts = Vec::new();
        for (weight, (parameter, _)) in weights.iter().enumerate() {
            let Some((stem, kind)) = parameter.name.rsplit_once(".lora_") else { continue };
            let number = changes.len();
            let change = *changes.entry(stem).or_insert(number);
            let kind = match kind {
                "A" => Kind::Rows,
                "B" => Kind::Columns,
                _ => Kind::Factors,
            };
            let count = parameter.values.len();
            parts.push(Part { weight, kind, change, sensitivity: vec![0.0; count], variation: vec![0.0; count] });
        }
        Self { budget: changes.len() * tune.rank, parts, settled: None }
    }

    /// Sees the gradients of a step, which are those of the trained weights in their order.
    pub(super) fn watch(&mut self, weights: &[(Parameter, bool)], gradients: &[&[f32]]) {
        let trained: HashMap<usize, &[f32]> = weights
            .iter()
            .enumerate()
            .filter(|(_, (_, trained))| *trained)
            .map(|(place, _)| place)
            .zip(gradients.iter().copied())
            .collect();
        for part in &mut self.parts {
            let Some(gradient) = trained.get(&part.weight) else { continue };
            let values = weights[part.weight].0.values.iter().zip(*gradient);
            for ((sensitivity, variation), (value, gradient)) in part.sensitivity.iter_mut().zip(&mut part.variation).zip(values) {
                let now = (value * gradient).abs();
                *sensitivity = SMOOTH * *sensitivity + (1.0 - SMOOTH) * now;
                *variation = SMOOTH * *variation + (1.0 - SMOOTH) * (now - *sensitivity).abs();
            }
        }
    }

    /// Sets the factors to 0 for which there is no room after a step of `steps`.
    pub(super) fn keep(&mut self, weights: &mut [(Parameter, bool)], step: usize, steps: usize) {
        let set = |weights: &mut [(Parameter, bool)], out: &[(usize, usize)]| {
            out.iter().for_each(|(weight, place)| weights[*weight].0.values[*place] = 0.0);
        };
        if let Some(out) = &self.settled {
            set(weights, out);
            return;
        }
        let factors = self.importance(weights);
        let room = room(step, steps, factors.len(), self.budget);
        if room >= factors.len() {
            return;
        }
        let mut order = factors;
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let out: Vec<(usize, usize)> = order[room..].iter().map(|(factor, _)| *factor).collect();
        set(weights, &out);
        if room == self.budget {
            self.settled = Some(out);
        }
    }

    /// Every factor, as its weight and its place there, and how important it is.
    fn importance(&self, weights: &[(Parameter, bool)]) -> Vec<((usize, usize), f64)> {
        let mut sums: HashMap<(usize, usize), f64> = HashMap::new();
        let mut factors = Vec::new();
        for part in &self.parts {
            let shape = &weights[part.weight].0.shape;
            let rank = if part.kind == Kind::Columns { shape[1] } else { shape[0] };
            let each = (part.sensitivity.len() / rank.max(1)).max(1);
            for (place, (sensitivity, variation)) in part.sensitivity.iter().zip(&part.variation).enumerate() {
                let of = if part.kind == Kind::Columns { place % rank } else { place / each };
                *sums.entry((part.change, of)).or_default() += f64::from(sensitivity * variation) / each as f64;
            }
            if part.kind == Kind::Factors {
                factors.extend((0..rank).map(|place| ((part.weight, place), (part.change, place))));
            }
        }
        factors.into_iter().map(|(factor, of)| (factor, sums.get(&of).copied().unwrap_or(0.0))).collect()
    }
}

/// The factors that there is room for.
fn room(step: usize, steps: usize, all: usize, budget: usize) -> usize {
    let at = (step as f64 / steps.max(1) as f64 - BEFORE) / (1.0 - BEFORE - AFTER);
    let rest = (1.0 - at.clamp(0.0, 1.0)).powi(3);
    budget.min(all) + ((all - budget.min(all)) as f64 * rest).round() as usize
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::*;

    #[test]
    fn the_budget_falls_to_what_was_asked_for_and_the_least_sensitive_factors_go() {
        assert_eq!([1, 10, 40, 70, 100].map(|step| room(step, 100, 12, 8)), [12, 12, 9, 8, 8]);
        let parameter = |name: &str, shape: &[usize], values: &[f32]| {
            (Parameter { name: name.to_owned(), shape: shape.to_vec(), values: values.to_vec() }, true)
        };
        let mut weights = vec![
            parameter("x.lora_A", &[3, 2], &[1.0; 6]),
            parameter("x.lora_E", &[3], &[1.0, 2.0, 3.0]),
            parameter("x.lora_B", &[2, 3], &[1.0; 6]),
        ];
        let mut adaptive = Adaptive::new(&Tune { rank: 2, ..Tune::new(Method::Adalora) }, &weights);
        // The second factor's row has large gradients, the third factor itself; the first one moves nothing.
        let gradients: [&[f32]; 3] = [&[0.0, 0.0, 5.0, 5.0, 0.0, 0.0], &[0.0, 0.0, 2.0], &[0.0; 6]];
        adaptive.watch(&weights, &gradients);
        adaptive.keep(&mut weights, 5, 100);
        assert_eq!(weights[1].0.values, [1.0, 2.0, 3.0], "nothing goes before the budget falls");
        adaptive.keep(&mut weights, 99, 100);
        assert_eq!(weights[1].0.values, [0.0, 2.0, 3.0]);
        weights[1].0.values[0] = 7.0;
        adaptive.keep(&mut weights, 100, 100);
        assert_eq!(weights[1].0.values[0], 0.0, "what is settled stays");
    }
}
