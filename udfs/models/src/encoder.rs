//! Text encoders: a checkpoint of the BERT family becomes a graph that turns texts into vectors, and an engine computes them for all sessions.

mod checkpoint;
mod config;
mod engine;
mod graph;
mod memory;
mod prepare;
mod tokens;
pub mod tune;
mod words;

pub use config::{Family, Pooling};
pub use engine::{Embedded, Engine, Limits};
pub use prepare::{Encoder, Facts};
pub use words::Sentence;

/// The cosine of the angle between two vectors of one length; `None` where one of them has no direction.
pub fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let (mut product, mut left, mut right) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        product += a * b;
        left += a * a;
        right += b * b;
    }
    let length = (left * right).sqrt();
    (length > 0.0 && length.is_finite()).then(|| (product / length).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests;
