//! Speed of text generation, as lines of JSON: tokens per second of reading prompts and of generating, by the clock and by processor time.
//!
//! ```text
//! ORT_DYLIB_PATH=.../libonnxruntime.so cargo run -p stratagem-models --example decode -- --model model.gguf --cache /tmp/prepared \
//!     --threads 2 --batch 8 --tokens 48 --prompt 150 --block 128
//! ```
//!
//! Reading is timed with requests for one token, generating as the time that the other tokens of equal requests take on top of it. Each figure is the
//! best of `--repeat` runs, after one that does not count. Processor time is that of all threads, and does not change much on a machine that is busy
//! with other things. `--shared 128` lets all prompts begin with the same tokens.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use stratagem_models::language::{Decoder, Engine, Form, Limits, Precision, Request, Sampling};
use stratagem_models::runtime::{Device, Runtime};

fn main() -> Result<(), Box<dyn Error>> {
    let number = |name: &str, default: usize| argument(name).map_or(Ok(default), |value| value.parse::<usize>());
    let (threads, batch, tokens) = (number("--threads", 1)?, number("--batch", 1)?, number("--tokens", 48)?);
    let (prompt, shared, repeat) = (number("--prompt", 150)?, number("--shared", 0)?, number("--repeat", 2)?);
    let temperature: f32 = argument("--temperature").map_or(Ok(0.0), |value| value.parse())?;
    let precision: Precision = argument("--precision").map_or(Ok(Precision::Int8), |value| value.parse())?;
    let form = Form { precision, block: number("--block", 128)? };
    let model = argument("--model").ok_or("--model names a GGUF file or a folder")?;
    let cache = argument("--cache").ok_or("--cache names a folder for the prepared model")?;
    let library = std::env::var("ORT_DYLIB_PATH").map_err(|_| "set ORT_DYLIB_PATH to the ONNX Runtime library")?;

    let runtime = Runtime::load(Path::new(&library), Device::Cpu)?;
    let decoder = Decoder::prepare(Path::new(&model), Path::new(&cache), form)?;
    let limits = Limits { slots: batch, threads, cache_bytes: 4 << 30, ..Limits::default() };
    let begin = Instant::now();
    let engine = Engine::start(&runtime, &decoder, limits)?;
    let start_seconds = begin.elapsed().as_secs_f64();
    let vocabulary = decoder.facts().vocab as u32;
    // Ragged prompts of `prompt` tokens on average; what they say makes no difference to the time.
    let prompts: Vec<Vec<u32>> = (0..batch)
        .map(|row| {
            let length = prompt + (row * 7) % (prompt / 3 + 1) - (prompt / 6).min((batch - 1) * 4);
            let token = |place: usize| (if place < shared { place } else { place * 131 + row * 7919 }) as u32 % (vocabulary - 100) + 100;
            (0..length.max(1)).map(token).collect()
        })
        .collect();
    let best = |count: usize| -> Result<(f64, f64), Box<dyn Error>> {
        let mut best = (f64::INFINITY, f64::INFINITY);
        for round in 0..=repeat {
            let (clock, cpu) = (Instant::now(), cpu_seconds());
            generate(&engine, &prompts, shared, count, temperature)?;
            if round > 0 {
                best = (best.0.min(clock.elapsed().as_secs_f64()), best.1.min(cpu_seconds() - cpu));
            }
        }
        Ok(best)
    };
    let reading = best(1)?;
    let all = best(tokens)?;
    let (read, generated) = (prompts.iter().map(Vec::len).sum::<usize>() as f64, (batch * (tokens - 1)) as f64);
    let rate = |count: f64, seconds: f64| (count / seconds * 10.0).round() / 10.0;
    let line = serde_json::json!({
        "engine": format!("stratagem, ONNX Runtime {}", runtime.version()),
        "model": decoder.facts().name,
        "precision": precision.name(),
        "block": form.block,
        "threads": threads,
        "batch": batch,
        "prompt_tokens": read,
        "shared_tokens": shared,
        "new_tokens": tokens,
        "prefill_per_second": rate(read, reading.0),
        "prefill_per_cpu_second": rate(read, reading.1),
        "decode_per_second": rate(generated, all.0 - reading.0),
        "decode_per_cpu_second": rate(generated, all.1 - reading.1),
        "requests_per_second": rate(batch as f64, all.0),
        "start_seconds": (start_seconds * 1e3).round() / 1e3,
    });
    writeln!(std::io::stdout().lock(), "{line}")?;
    Ok(())
}

/// Asks for `count` tokens after each prompt, all at once, and waits for them.
fn generate(engine: &Arc<Engine>, prompts: &[Vec<u32>], shared: usize, count: usize, temperature: f32) -> Result<(), Box<dyn Error>> {
    let (sender, receiver) = mpsc::channel();
    let mut tickets = Vec::new();
    for (row, prompt) in prompts.iter().enumerate() {
        let sampling = Sampling { max_tokens: count, temperature, top_k: 40, top_p: 0.9, seed: row as u64, ..Sampling::default() };
        let request = Request { prompt: prompt.clone(), shared, sampling, constraint: None, adapter: None };
        let sender = sender.clone();
        tickets.push(engine.submit(request, move |result| drop(sender.send(result)))?);
    }
    for _ in prompts {
        receiver.recv()??;
    }
    Ok(())
}

/// Processor time of this process so far, of all threads.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, counted from 1; the second is the program's name in parentheses.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next();
    arguments.next()
}
