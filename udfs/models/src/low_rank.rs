//! What low-rank changes of an encoder and of a language model have in common (Hu et al. 2021).

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// Checks the rank, the factor and the names of the matrices that are changed.
///
/// Errors: [`Error::InvalidOption`].
pub(crate) fn check<T: PartialEq>(rank: usize, alpha: f32, targets: &[T]) -> Result<()> {
    if !(1..=256).contains(&rank) {
        return Err(Error::option("rank", format!("{rank} is not within 1 to 256")));
    }
    if !(alpha > 0.0 && alpha <= 1024.0) {
        return Err(Error::option("alpha", format!("{alpha} is not above 0 and at most 1024")));
    }
    let twice = (1..targets.len()).any(|place| targets[..place].contains(&targets[place]));
    if targets.is_empty() || twice {
        return Err(Error::option("targets", "it names no matrix, or one twice"));
    }
    Ok(())
}

/// First weights, even within `bound` of 0. Those of A are within 1/sqrt(inputs), those of B zeros, so that a change begins as none.
pub(crate) fn even(count: usize, bound: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * bound).collect()
}
