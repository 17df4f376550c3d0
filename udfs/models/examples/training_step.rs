//! Time of a training step of a large click net, as one line of JSON; `benches/training_step.py` of the repository is its peer in PyTorch.
//!
//! ```text
//! ORT_DYLIB_PATH=.../libonnxruntime.so cargo run -p stratagem-models --example training_step -- --threads 2 --steps 24
//! ```
//!
//! Batch 4096, 26 categories and 13 numbers, embeddings of 16 in a table of 2^20 rows (`--table 24` for 2^24), 3 cross layers, MLP 256-128-64. The
//! time is that of whole epochs of the public training call: shuffling, copying the batch, gradients, both optimizers.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stratagem_models::click::{TrainOptions, train};
use stratagem_models::examples::{Block, Examples};
use stratagem_models::features::{Batch, Column, Treatment, Values};
use stratagem_models::runtime::{Device, Runtime};

const BATCH: usize = 4096;
const CATEGORIES: usize = 26;
const NUMBERS: usize = 13;
const VOCABULARY: f32 = 100_000.0;

fn main() -> Result<(), Box<dyn Error>> {
    let threads = argument("--threads")?.unwrap_or(2);
    let steps = argument("--steps")?.unwrap_or(24);
    let batch = argument("--batch")?.unwrap_or(BATCH);
    let table = argument("--table")?.unwrap_or(20);
    let device: Device = std::env::var("DEVICE").unwrap_or_else(|_| "cpu".to_owned()).parse()?;
    let library = std::env::var("ORT_DYLIB_PATH").map_err(|_| "set ORT_DYLIB_PATH to the ONNX Runtime library")?;
    let runtime = Runtime::load(Path::new(&library), device)?;
    let options = TrainOptions {
        epochs: 2,
        batch_size: Some(batch),
        cross_layers: 3,
        hidden: vec![256, 128, 64],
        validation: 0.0,
        ensembles: 1,
        threads,
        ..TrainOptions::default()
    };
    let (mut seconds, mut loss) = (0.0, 0.0);
    let mut cpu = Vec::new();
    let mut on_epoch = |progress: &stratagem_models::click::Progress| {
        // The first epoch warms up: the last one counts.
        (seconds, loss) = (progress.seconds, progress.train_loss);
        cpu.push(cpu_seconds());
        ControlFlow::Continue(())
    };
    train(&runtime, &examples(steps * BATCH, 1 << table), &options, None, &mut on_epoch, &AtomicBool::new(false))?;
    let milliseconds = seconds * 1e3 / steps as f64;
    let line = serde_json::json!({
        "engine": format!("stratagem, ONNX Runtime {} on {}", runtime.version(), runtime.device()),
        "threads": threads,
        "table_rows": 1 << table,
        "steps": steps,
        "ms_per_step": (milliseconds * 10.0).round() / 10.0,
        "cpu_ms_per_step": ((cpu[1] - cpu[0]) * 1e4 / steps as f64).round() / 10.0,
        "rows_per_second": (BATCH as f64 / milliseconds * 1e3).round(),
        "loss": loss,
    });
    writeln!(std::io::stdout().lock(), "{line}")?;
    Ok(())
}

/// Processor time of this process so far, of all threads: the fair figure on a machine that is busy with other things.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, counted from 1; the second is the program's name in parentheses.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

fn argument(name: &str) -> Result<Option<usize>, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(position) = arguments.iter().position(|a| a == name) else { return Ok(None) };
    let value = arguments.get(position + 1).ok_or_else(|| format!("{name} needs a number"))?;
    Ok(Some(value.parse()?))
}

/// Rows with skewed categories: value number floor(vocabulary * u^4), u even in 0..1, so that few values are frequent. Numbers have no bins:
/// the peer has none.
fn examples(rows: usize, table: usize) -> Examples {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let column = |position: usize| {
        let name = format!("c{position}");
        if position >= CATEGORIES {
            return Column { treatment: Some(Treatment::Standard), ..Column::new(&name, "real", Values::Number) };
        }
        let buckets = (table / CATEGORIES) as u32;
        Column { treatment: Some(Treatment::Hash(buckets)), ..Column::new(&name, "bigint", Values::Id) }
    };
    let scatter = |value: u64| (value + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let ids = (0..rows * CATEGORIES).map(|_| scatter((VOCABULARY * rng.random::<f32>().powi(4)) as u64)).collect();
    let numbers = (0..rows * NUMBERS).map(|_| rng.random::<f32>() - 0.5).collect();
    let labels = (0..rows).map(|_| f32::from(u8::from(rng.random::<f32>() < 0.3))).collect();
    let batch = Batch { rows, ids, numbers, bags: vec![] };
    Examples::new((0..CATEGORIES + NUMBERS).map(column).collect(), &Block { batch, labels, split: vec![] }, 0)
}
