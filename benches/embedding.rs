//! The peer of embed.py: the engine alone gets all texts at once, a line of a file each. One line of JSON.

use std::error::Error;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use stratagem::assets::{Assets, TEXT_ENCODERS};
use stratagem_models::encoder::{Encoder, Engine, Limits};
use stratagem_models::language::{Form, Precision};
use stratagem_models::runtime::{Device, Runtime};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let lines = std::fs::read_to_string(arguments.next().ok_or("a file of texts")?)?;
    let form = match arguments.next() {
        Some(block) => Form { precision: Precision::Int8, block: block.parse()? },
        None => Encoder::EXACT,
    };
    let tokens = arguments.next().map_or(Ok(Limits::default().tokens), |tokens| tokens.parse())?;
    let assets = Assets::locate()?;
    let runtime = Runtime::load(&assets.runtime_library()?, Device::Cpu)?;
    let encoder = Encoder::prepare(&assets.text_encoder(TEXT_ENCODERS[0])?, &assets.prepared(), form)?;
    let engine = Engine::start(&runtime, &encoder, Limits { tokens, ..Limits::default() })?;
    let texts: Vec<&str> = lines.lines().collect();
    let stop = AtomicBool::new(false);
    // Every core has its session, and its memory.
    engine.embed(&texts[..texts.len().min(64)].iter().map(|text| text.get(1..).unwrap_or_default()).collect::<Vec<_>>(), &stop)?;
    let clock = Instant::now();
    let embedded = engine.embed(&texts, &stop)?;
    let seconds = clock.elapsed().as_secs_f64();
    let sum: f64 = embedded.vectors.iter().map(|vector| f64::from(vector[0])).sum();
    let line = serde_json::json!({
        "rows": texts.len(), "tokens": embedded.tokens, "sum": sum, "sentences_per_second": texts.len() as f64 / seconds,
        "tokens_per_second": embedded.tokens as f64 / seconds,
    });
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}
