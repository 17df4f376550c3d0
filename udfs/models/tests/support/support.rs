//! What the tests of several files need.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod library;

use std::ops::ControlFlow;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stratagem_models::click::Progress;
use stratagem_models::features::{Batch, Column, Examples};
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
pub(crate) fn item_and_age(rows: usize, seed: u64, probability: impl Fn(u64, f32) -> f64) -> Examples {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let column = |name: &str, sql_type: &str, numeric| Column { name: name.to_owned(), sql_type: sql_type.to_owned(), numeric };
    let mut examples = Examples {
        columns: vec![column("item", "text", false), column("age", "double precision", true)],
        batch: Batch { rows, ..Batch::default() },
        labels: Vec::new(),
    };
    for _ in 0..rows {
        let (item, age) = (rng.random_range(1..=40), rng.random_range(18.0..70.0));
        examples.batch.ids.push(item);
        examples.batch.numbers.push(age);
        examples.labels.push(f32::from(u8::from(rng.random_bool(probability(item, age)))));
    }
    examples
}
