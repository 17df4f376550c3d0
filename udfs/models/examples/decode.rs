//! Speed of text generation, as lines of JSON: tokens per second of reading prompts and of generating, by the clock and by processor time.
//!
//! ```text
//! ORT_DYLIB_PATH=.../libonnxruntime.so cargo run -p stratagem-models --example decode -- --model model.gguf --cache /tmp/prepared \
//!     --threads 2 --batch 8 --tokens 48 --prompt 150 --block 128
//! ```
//!
//! Reading is timed with requests for one token, generating as the time that the other tokens of equal requests take on top of it. Each figure is the
//! median of `--repeat` rounds, after one that does not count. Processor time is that of all threads, and does not change much on a machine that is
//! busy with other things. `--shared 128` lets all prompts begin with the same tokens. `new_tokens` are those of a text on average: some end early.

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
    let (prompt, shared, repeat) = (number("--prompt", 150)?, number("--shared", 0)?, number("--repeat", 3)?.max(1));
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
    let timed = |count: usize| -> Result<Run, Box<dyn Error>> {
        let (clock, cpu) = (Instant::now(), cpu_seconds());
        let tokens = generate(&engine, &prompts, shared, count, temperature)? as f64;
        Ok(Run { tokens, seconds: clock.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu })
    };
    let mut runs = Vec::new();
    for round in 0..=repeat {
        let (reading, all) = (timed(1)?, timed(tokens)?);
        if round > 0 {
            runs.push((reading, all));
        }
    }
    let read = prompts.iter().map(Vec::len).sum::<usize>() as f64;
    let of = |value: fn(&Run, &Run) -> f64| median(runs.iter().map(|(reading, all)| value(reading, all)).collect());
    let generated = of(|reading, all| all.tokens - reading.tokens);
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
        "new_tokens": of(|_, all| all.tokens) / batch as f64,
        "prefill_per_second": rate(read, of(|reading, _| reading.seconds)),
        "prefill_per_cpu_second": rate(read, of(|reading, _| reading.cpu)),
        "decode_per_second": rate(generated, of(|reading, all| all.seconds - reading.seconds)),
        "decode_per_cpu_second": rate(generated, of(|reading, all| all.cpu - reading.cpu)),
        "requests_per_second": rate(batch as f64, of(|_, all| all.seconds)),
        "start_seconds": (start_seconds * 1e3).round() / 1e3,
    });
    writeln!(std::io::stdout().lock(), "{line}")?;
    Ok(())
}

/// One answer to all prompts.
struct Run {
    tokens: f64,
    seconds: f64,
    cpu: f64,
}

/// The upper one of two middle values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Asks for `count` tokens after each prompt, all at once, and waits for them. Gives the number of all new tokens: texts may end early.
fn generate(engine: &Arc<Engine>, prompts: &[Vec<u32>], shared: usize, count: usize, temperature: f32) -> Result<usize, Box<dyn Error>> {
    let (sender, receiver) = mpsc::channel();
    let mut tickets = Vec::new();
    for (row, prompt) in prompts.iter().enumerate() {
        let sampling = Sampling { max_tokens: count, temperature, top_k: 40, top_p: 0.9, seed: row as u64, ..Sampling::default() };
        let request = Request { prompt: prompt.clone(), shared, sampling, constraint: None, adapter: None };
        let sender = sender.clone();
        tickets.push(engine.submit(request, move |result| drop(sender.send(result)))?);
    }
    let mut generated = 0;
    for _ in prompts {
        generated += receiver.recv()??.ids.len();
    }
    Ok(generated)
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
