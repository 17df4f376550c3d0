//! The peer of generation_sql.py: the engine alone answers the same prompts, all of which it is given at once. One line of JSON.

use std::error::Error;
use std::io::Write;
use std::sync::mpsc;
use std::time::Instant;

use stratagem::assets::Assets;
use stratagem_models::language::{Decoder, Engine, Form, Limits, Message, Request, Sampling};
use stratagem_models::runtime::{Device, Runtime};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (rows, tokens): (usize, usize) = (arguments.next().ok_or("rows")?.parse()?, arguments.next().ok_or("tokens")?.parse()?);
    let begin = arguments.next().ok_or("the begin of the prompts")?;
    let assets = Assets::locate()?;
    let runtime = Runtime::load(&assets.runtime_library()?, Device::Cpu)?;
    let decoder = Decoder::prepare(&assets.language_model()?, &assets.prepared(), Form::default())?;
    let engine = Engine::start(&runtime, &decoder, Limits::default())?;
    let chat = engine.chat().ok_or("the model has no chat template")?;
    let sampling = Sampling { max_tokens: tokens, ..Sampling::default() };
    let prompts = (1..=rows).map(|row| {
        let messages = [Message::new("user", format!("{begin}{row}"))];
        Ok(engine.tokens().encode(&chat.render(&messages, true)?)?)
    });
    let prompts = prompts.collect::<Result<Vec<Vec<u32>>>>()?;
    let shared = prompts.iter().map(|prompt| prompt.iter().zip(&prompts[0]).take_while(|(a, b)| a == b).count()).min().unwrap_or(0);
    // The graph is there, and its memory: the first text does not count.
    generate(&engine, &prompts[..1], 0, &sampling)?;
    let clock = Instant::now();
    let written = generate(&engine, &prompts, shared, &sampling)?;
    let seconds = clock.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "rows": rows, "tokens": written, "rows_per_second": rows as f64 / seconds, "tokens_per_second": written as f64 / seconds,
    });
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

fn generate(engine: &Engine, prompts: &[Vec<u32>], shared: usize, sampling: &Sampling) -> Result<usize> {
    let (sender, answers) = mpsc::channel();
    let tickets = prompts.iter().map(|prompt| {
        let sender = sender.clone();
        let request = Request { prompt: prompt.clone(), shared, sampling: sampling.clone(), constraint: None, adapter: None };
        // The receiver lives until all are counted.
        engine.submit(request, move |answer| drop(sender.send(answer)))
    });
    let tickets = tickets.collect::<std::result::Result<Vec<_>, _>>()?;
    drop(sender);
    let mut written = 0;
    for answer in answers.iter() {
        written += answer?.ids.len();
    }
    drop(tickets);
    Ok(written)
}
