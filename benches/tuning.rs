//! The peer of tuning.py: steps of fine-tuning by the public training calls, as one line of JSON.
//!
//! `full` and `lora` train MiniLM-L6 on 32 texts of 64 tokens a step, `language` low-rank changes of SmolLM2-135M on 4 texts of 128 tokens. The first
//! epoch warms up, the last one counts: shuffling, padding, gradients, the optimizer.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use stratagem::assets::{Assets, TEXT_ENCODERS};
use stratagem_models::click::{Progress, TrainOptions};
use stratagem_models::encoder::{Encoder, tune as encoder};
use stratagem_models::examples::{Block, Examples};
use stratagem_models::language::{Decoder, Form, tune as language};
use stratagem_models::runtime::{Device, Runtime};
use stratagem_models::text::{Task, Text};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().ok_or("full, lora or language")?;
    let steps: usize = arguments.next().ok_or("a number of steps")?.parse()?;
    let assets = Assets::locate()?;
    let runtime = Runtime::load(&assets.runtime_library()?, Device::Cpu)?;
    let seconds = std::cell::Cell::new(0.0);
    let mut on_epoch = |progress: &Progress| {
        seconds.set(progress.seconds);
        ControlFlow::Continue(())
    };
    let stop = AtomicBool::new(false);
    if what == "language" {
        let (source, cache) = (assets.language_model()?, assets.prepared());
        let base = language::Base::new("smollm2", Decoder::prepare(&source, &cache, Form::default())?, language::Tune::default())?;
        let completions: Vec<String> = (0..4 * steps).map(|row| words(row, 120)).collect();
        // Prompts of 6 tokens; a completion of 120 words has one more, which ends it.
        let rows = completions.iter().map(|text| (None, "one two three four five", vec![text.as_str()]));
        let base_read = base.read(rows)?.0;
        let examples = Examples::new(language::columns(&["prompt", "text"]), &Block { batch: base_read, labels: vec![], split: vec![] }, 0);
        let options = TrainOptions { batch_size: Some(4), ..language::Tune::options(language::Objective::Generation) };
        let options = TrainOptions { epochs: 2, validation: 0.0, early_stop: false, ..options };
        let model = base.model(language::Objective::Generation, 0);
        language::train(&runtime, &base, &examples, &options, model, &mut on_epoch, &stop)?;
    } else {
        let encoder = Encoder::prepare(&assets.text_encoder(TEXT_ENCODERS[0])?, &assets.prepared(), Encoder::EXACT)?;
        let tune = encoder::Tune::new(what.parse()?);
        let options = TrainOptions { batch_size: Some(32), ..encoder::Tune::options(tune.method) };
        let options = TrainOptions { epochs: 2, validation: 0.0, early_stop: false, ..options };
        let base = encoder::Base::new(encoder, tune)?;
        let texts: Vec<String> = (0..32 * steps).map(|row| words(row, 62)).collect();
        let batch = base.read(texts.iter().map(String::as_str))?.0;
        let labels = (0..texts.len()).flat_map(|row| [f32::from(u8::from(row % 2 == 0)), f32::from(u8::from(row % 2 == 1))]).collect();
        let examples = Examples::new(encoder::columns("text", "text", Task::Class), &Block { batch, labels, split: vec![] }, 0);
        let classes = vec!["no".to_owned(), "yes".to_owned()];
        let text = Text { task: Task::Class, classes, encoder: Some("minilm".to_owned()), truncated: 0, evaluation: None, tuned: None };
        encoder::train(&runtime, &base, &examples, &options, text, &mut on_epoch, &stop)?;
    }
    let line = serde_json::json!({
        "engine": format!("stratagem, ONNX Runtime {}", runtime.version()),
        "steps": steps,
        "ms_per_step": seconds.get() * 1e3 / steps as f64,
        "peak_mib": peak_mib().unwrap_or_default(),
    });
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// Words that are one token each for both models.
fn words(row: usize, count: usize) -> String {
    const WORDS: [&str; 8] = ["order", "shop", "red", "blue", "never", "good", "late", "today"];
    (0..count).map(|at| WORDS[(row * 7 + at * at + at) % 8]).collect::<Vec<_>>().join(" ")
}

/// The most memory that this process has had.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
