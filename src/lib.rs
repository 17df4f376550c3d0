//! Stratagem: placeholder

pub mod bandit;
pub mod sample;
