//! The models behind Stratagem's SQL functions: graphs, gradients, training and the registry, on ONNX Runtime.
//!
//! This crate knows tensors and files. It knows neither SQL nor Arrow.

pub mod autodiff;
pub mod bm25;
pub mod click;
mod durable;
pub mod encoder;
mod epochs;
pub mod error;
pub mod examples;
pub mod exchange;
pub mod features;
pub mod foreign;
pub mod graph;
pub mod language;
mod low_rank;
pub mod metrics;
pub mod model;
mod net;
pub mod onnx;
pub mod optimizer;
mod prepared;
pub mod prompt;
pub mod registry;
pub mod runtime;
pub mod shelf;
pub mod table;
pub mod text;
pub mod uplift;

pub use crate::error::{Error, Result};

#[cfg(test)]
mod testing;
