//! Language models: a checkpoint becomes a graph with a key-value cache, a tokenizer and a chat template.

pub mod decoder;
pub mod template;
pub mod tokenizer;

mod blocks;
mod config;
mod folder;
mod gguf;
mod graph;
mod quantise;
mod weights;

#[cfg(test)]
mod testing;

pub use config::Architecture;
pub use decoder::{Decoder, Facts, Form, Precision};
pub use template::{Chat, Message};
pub use tokenizer::{TextStream, Tokens};
