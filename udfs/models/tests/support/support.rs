//! What the tests of several files need.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod library;

use std::ops::ControlFlow;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stratagem_models::click::Progress;
use stratagem_models::examples::{Block, Examples};
use stratagem_models::features::{Batch, Column, Values};
use stratagem_models::runtime::{Device, Runtime};

/// The installed library on the CPU.
pub(crate) fn runtime() -> Arc<Runtime> {
    Runtime::load(&library::path(), Device::Cpu).expect("the installed ONNX Runtime loads")
}

/// An `on_epoch` that lets the training run.
pub(crate) fn go_on(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Impressions of 40 items by users of age 18 to 70; `probability` of (item, age) decides the clicks.
pub(crate) fn item_and_age(rows: usize, seed: u64, probability: impl Fn(u64, f32) -> f64) -> Block {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut block = Block { batch: Batch { rows, ..Batch::default() }, ..Block::default() };
    for _ in 0..rows {
        let (item, age) = (rng.random_range(1..=40), rng.random_range(18.0..70.0));
        block.batch.ids.push(item);
        block.batch.numbers.push(age);
        block.labels.push(f32::from(u8::from(rng.random_bool(probability(item, age)))));
    }
    block
}

/// The columns of [`item_and_age`].
pub(crate) fn columns() -> Vec<Column> {
    vec![Column::new("item", "text", Values::Id), Column::new("age", "double precision", Values::Number)]
}

/// Rows as a training takes them.
pub(crate) fn examples(block: &Block) -> Examples {
    Examples::new(columns(), block, 0)
}
