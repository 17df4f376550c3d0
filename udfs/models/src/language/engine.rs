//! One language model for all sessions: requests wait in a bounded queue, and one thread computes them together.
//!
//! Continuous batching (Yu et al. 2022, "Orca"): a row leaves the batch when its text ends and another takes its place between two steps.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::adapter::Adapter;
use super::constraint::{Constraint, Grammar, Vocabulary};
use super::forward::{Forward, Lazy};
use super::queue::{Answer, Job, Queue, Ticket};
use super::sampling::Sampling;
use super::slab::Cell;
use super::{Chat, Decoder, Facts, Precision, Tokens, priority};
use crate::error::{Error, Result};
use crate::runtime::Runtime;

mod plan;
mod row;
mod worker;

/// What an engine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows that are computed together.
    pub slots: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Bytes for keys and values, of running rows and of shared prompt starts together.
    pub cache_bytes: usize,
    /// Tokens of a prompt.
    pub max_prompt: usize,
    /// Tokens of a text.
    pub max_tokens: usize,
    /// Threads that compute.
    pub threads: usize,
    /// After this long without a request the memory of the model, of keys and values and of constraints is given back, and the next request loads
    /// the model again. [`Duration::MAX`] keeps it always.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { slots: 32, queue: 4096, cache_bytes: 1 << 30, max_prompt: 4096, max_tokens: 1024, threads, idle: Duration::from_secs(600) }
    }
}

impl Limits {
    fn check(&self) -> Result<()> {
        let named = [
            ("slots", self.slots),
            ("queue", self.queue),
            ("max_prompt", self.max_prompt),
            ("max_tokens", self.max_tokens),
            ("threads", self.threads),
        ];
        named.iter().find(|(_, value)| *value == 0).map_or(Ok(()), |(name, _)| Err(Error::option(*name, "it must be at least 1")))
    }
}

/// What to generate from.
#[derive(Debug)]
pub struct Request {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The first so many tokens are the same in many requests: they are computed once and kept as long as there is memory. It changes only the cost.
    pub shared: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What the text must be like; from [`Engine::constraint`].
    pub constraint: Option<Constraint>,
    /// A change of the model's weights.
    pub adapter: Option<Arc<Adapter>>,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    End,
    /// A stop string came; the text ends before it.
    Stop,
    /// It has `max_tokens` tokens. A constraint is then not met.
    Length,
    /// The constraint is met.
    Constraint,
}

/// A generated text.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text. A character whose last bytes did not come is left out.
    pub text: String,
    /// Its tokens, with the end token if there was one, and those of a stop string.
    pub ids: Vec<u32>,
    /// Sum of the natural logarithms of the probabilities of the chosen tokens under the model's own distribution, whatever the sampling.
    pub log_probability: f64,
    /// Tokens that the model chose: all but those that a constraint left no choice for.
    pub chosen: usize,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that another request had computed.
    pub shared_tokens: usize,
    /// Time in the queue.
    pub queued: Duration,
    /// The request's share of the time of the calls it took part in.
    pub device: Duration,
}

/// What an engine has done and is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that are computed.
    pub active: usize,
    /// Requests that were answered with a text.
    pub completed: u64,
    /// Requests that were answered with an error.
    pub failed: u64,
    /// Requests whose ticket was dropped.
    pub cancelled: u64,
    /// Tokens of prompts, without those that a prefix saved.
    pub prompt_tokens: u64,
    /// Tokens of prompts that a prefix saved.
    pub shared_tokens: u64,
    /// Requests that found their prefix.
    pub prefix_hits: u64,
    /// Tokens of texts.
    pub generated_tokens: u64,
    /// Time of all calls.
    pub device: Duration,
    /// Bytes of keys and values: rows and prefixes.
    pub cache_bytes: usize,
    /// Whether the model is in memory.
    pub loaded: bool,
    /// How often it was loaded, with and without adapters.
    pub loads: u64,
}

/// What the engine and its thread share.
#[derive(Debug)]
struct Shared {
    queue: Queue,
    usage: Mutex<Usage>,
    tokens: Arc<Tokens>,
    vocabulary: Mutex<Option<Arc<Vocabulary>>>,
}

impl Shared {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        // Every state of the counters is whole, so a panic elsewhere does not spoil it.
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vocabulary(&self) -> MutexGuard<'_, Option<Arc<Vocabulary>>> {
        self.vocabulary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A resident model with the thread that computes it. Dropping it stops the thread and answers what waits with [`Error::Stopped`].
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    facts: Facts,
    chat: Option<Chat>,
    limits: Limits,
    cell: Cell,
    multiple: usize,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("facts", &self.facts).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Engine {
    /// Loads the model and starts its thread. Errors: [`Error::InvalidOption`] for limits, and what reading and loading the files gives.
    pub fn start(runtime: &Arc<Runtime>, decoder: &Decoder, limits: Limits) -> Result<Arc<Self>> {
        limits.check()?;
        if decoder.form().precision == Precision::F16 {
            return Err(Error::unsupported(
                &decoder.facts().name,
                "half precision needs a GPU, and texts are generated on the CPU: import it as int8",
            ));
        }
        let facts = decoder.facts().clone();
        let cell = Cell { layers: facts.layers, kv_heads: facts.kv_heads, head_dim: facts.head_dim };
        let graph = |path: PathBuf| {
            let runtime = Arc::clone(runtime);
            Lazy::new(move || runtime.session_of_file(&path, limits.threads))
        };
        let (plain, adapted) = (graph(decoder.graph()), graph(decoder.lora_graph()));
        let load = || {
            priority::give_way();
            Forward::new(plain, adapted, cell, facts.vocab)
        };
        // The runtime's own threads have the priority of the thread that loads the model.
        let loaded = std::thread::scope(|scope| scope.spawn(load).join());
        let forward = loaded.map_err(|_| Error::Runtime { reason: "loading the language model panicked".to_owned() })??;
        let multiple = forward.multiple();
        let tokens = Arc::new(decoder.tokens()?);
        let chat = decoder.chat(&tokens)?;
        let usage = Usage { loaded: forward.loaded(), loads: forward.loads(), ..Usage::default() };
        let shared = Shared { queue: Queue::new(limits.queue), usage: Mutex::new(usage), tokens, vocabulary: Mutex::default() };
        let shared = Arc::new(shared);
        let worker = worker::Worker::new(Arc::clone(&shared), forward, cell, limits, facts.eos.clone());
        let queue = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("language model".to_owned()).spawn(move || {
            priority::give_way();
            // The rows' answers are given while the worker is unwound, those of the queue by closing it.
            if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
                tracing::error!("the language model's thread panicked");
            }
            queue.queue.close();
        });
        let thread = thread.map_err(|error| Error::Runtime { reason: format!("no thread for the language model: {error}") })?;
        Ok(Arc::new(Self { shared, thread: Some(thread), facts, chat, limits, cell, multiple }))
    }

    /// Puts a request into the queue. `done` is called once, on the engine's thread, so it must be quick; it is not called when the ticket was
    /// dropped before.
    ///
    /// Errors: [`Error::QueueFull`], [`Error::PromptTooLong`], [`Error::CacheMemory`] when the request alone is larger than the memory,
    /// [`Error::InvalidOption`] for sampling, [`Error::Data`] for a prompt that is empty or not of this model, [`Error::Stopped`]. After an error
    /// `done` is not called.
    pub fn submit(&self, request: Request, done: impl FnOnce(Result<Completion>) + Send + 'static) -> Result<Ticket> {
        self.check(&request)?;
        let (answer, ticket) = Answer::new(done);
        self.shared.queue.push(Job { request, answer, submitted: Instant::now() })?;
        Ok(ticket)
    }

    /// What the engine has done and is doing.
    pub fn usage(&self) -> Usage {
        Usage { waiting: self.shared.queue.len(), ..*self.shared.usage() }
    }

    /// The model's tokenizer.
    pub fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// The model's chat template, if it has one.
    pub fn chat(&self) -> Option<&Chat> {
        self.chat.as_ref()
    }

    /// Facts of the model.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Compiles a constraint for this model's tokens; it serves any number of requests. Errors: [`Error::Constraint`].
    pub fn constraint(&self, grammar: &Grammar) -> Result<Constraint> {
        Constraint::compile(&*self.vocabulary()?, grammar)
    }

    /// Made when the first constraint is: it takes a good part of a second.
    fn vocabulary(&self) -> Result<Arc<Vocabulary>> {
        let mut vocabulary = self.shared.vocabulary();
        if let Some(vocabulary) = vocabulary.as_ref() {
            return Ok(Arc::clone(vocabulary));
        }
        let made = Arc::new(Vocabulary::new(&self.shared.tokens, self.facts.vocab)?);
        *vocabulary = Some(Arc::clone(&made));
        Ok(made)
    }

    fn check(&self, request: &Request) -> Result<()> {
        request.sampling.check()?;
        let (tokens, more) = (request.prompt.len(), request.sampling.max_tokens);
        if more > self.limits.max_tokens {
            return Err(Error::option("max_tokens", format!("it must be at most {}", self.limits.max_tokens)));
        }
        if tokens == 0 {
            return Err(Error::data("the prompt is empty", "give at least one token"));
        }
        if let Some(id) = request.prompt.iter().find(|id| **id as usize >= self.facts.vocab) {
            let reason = format!("the prompt has token {id}, and the model knows {} tokens", self.facts.vocab);
            return Err(Error::data(reason, "use the tokenizer of this model"));
        }
        let limit = self.limits.max_prompt.min(self.facts.max_positions.saturating_sub(more));
        if tokens > limit {
            return Err(Error::PromptTooLong { tokens, limit });
        }
        let needed = self.multiple * plan::tokens_of(request, self.multiple) * self.cell.bytes();
        if needed > self.limits.cache_bytes {
            return Err(Error::CacheMemory { needed, limit: self.limits.cache_bytes });
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.queue.close();
        let Some(thread) = self.thread.take() else { return };
        // The last owner may be a closure that this very thread calls.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
