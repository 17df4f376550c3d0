//! Language models: a checkpoint becomes a graph with a key-value cache, a tokenizer and a chat template, and an engine generates texts with it.

pub mod decoder;
pub mod template;
pub mod tokenizer;

mod adapter;
pub(crate) mod blocks;
mod config;
mod constraint;
mod engine;
pub(crate) mod folder;
mod forward;
mod gguf;
mod graph;
mod prefix;
mod priority;
pub(crate) mod quantise;
mod queue;
mod sampling;
mod slab;
mod text;
pub mod tune;
mod weights;

#[cfg(test)]
pub(crate) mod testing;

pub use adapter::{Adapter, Change, Projection};
pub use config::Architecture;
pub use constraint::{Constraint, Grammar};
pub use decoder::{Decoder, Facts, Form, Precision};
pub use engine::{Completion, Engine, Finish, Limits, Request, Usage};
pub use queue::Ticket;
pub use sampling::Sampling;
pub use template::{Chat, Message};
pub use tokenizer::{TextStream, Tokens};
