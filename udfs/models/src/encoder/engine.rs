//! One encoder for all sessions: texts are computed in batches of about one length, side by side on the cores, and vectors are remembered.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ort::session::Session;
use ort::value::TensorRef;
use rayon::prelude::*;

use super::config::Pooling;
use super::memory::{self, Key, Known, Memory};
use super::prepare::{Encoder, Facts};
use super::tokens::{Cut, Tokens};
use super::words::{Sentence, first_tokens};
use crate::error::{Error, Result};
use crate::runtime::Runtime;

/// A score for padding from which nothing is left after the softmax.
pub(super) const MASKED: f32 = -1e9;

/// With more bytes of weights than these, one session uses all cores; else each core has a session of its own, with weights of its own.
const OWN: u64 = 256 << 20;

/// What an engine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tokens that are computed together, with padding; a longer text is computed alone.
    pub tokens: usize,
    /// Bytes for vectors that are remembered.
    pub memory: usize,
    /// Threads that compute.
    pub threads: usize,
    /// After this long without a text the memory of the model and of the vectors is given back, and the next text loads the model again.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { tokens: 1024, memory: 64 << 20, threads, idle: Duration::from_secs(600) }
    }
}

/// The vectors of some texts.
#[derive(Debug, Clone, Default)]
pub struct Embedded {
    /// A vector for each text, in their order.
    pub vectors: Vec<Arc<[f32]>>,
    /// Tokens that were computed for them: none for a text whose vector was known.
    pub tokens: usize,
    /// How many of the texts are longer than what the model reads.
    pub truncated: usize,
}

/// A resident encoder.
pub struct Engine {
    facts: Facts,
    tokens: Tokens,
    limits: Limits,
    sessions: Sessions,
    known: Mutex<State>,
    /// Some texts are not under way any more.
    settled: Condvar,
    computed: AtomicU64,
    /// Whether the values are those of each token, not of the text.
    each: bool,
    /// When it was used last.
    used: Mutex<Instant>,
    /// Whether a thread waits to give memory back.
    watched: AtomicBool,
}

/// What is known of texts.
struct State {
    memory: Memory,
    /// Those that somebody is computing.
    pending: HashSet<Key>,
}

/// Texts that one caller computes; others wait for them.
struct Claim<'e> {
    engine: &'e Engine,
    keys: Vec<Key>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.engine.known);
        for key in &self.keys {
            state.pending.remove(key);
        }
        self.engine.settled.notify_all();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("facts", &self.facts).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Texts with their keys.
type Asked<'t> = Vec<(Key, &'t str)>;

impl Engine {
    /// Loads the model. Errors: [`Error::InvalidOption`] for limits, and what reading and loading the files gives.
    pub fn start(runtime: &Arc<Runtime>, encoder: &Encoder, limits: Limits) -> Result<Arc<Self>> {
        let (runtime, path) = (Arc::clone(runtime), encoder.graph());
        let open = move |threads| runtime.session_of_file(&path, threads);
        Self::over(encoder.facts().clone(), encoder.tokens()?, Box::new(open), limits, false)
    }

    /// An engine whose sessions come from `open`, which is given their threads. The graph's output has `dimension` values for each text, or with `each`
    /// for each token.
    pub(super) fn over(facts: Facts, tokens: Tokens, open: Open, limits: Limits, each: bool) -> Result<Arc<Self>> {
        for (name, value) in [("tokens", limits.tokens), ("threads", limits.threads)] {
            if value == 0 {
                return Err(Error::option(name, "it must be at least 1"));
            }
        }
        let shared = facts.session_bytes > OWN;
        let threads = if shared { limits.threads } else { 1 };
        let sessions = Sessions { open, threads, idle: Mutex::default(), turn: shared.then(Mutex::default) };
        let first = sessions.open()?;
        lock(&sessions.idle).push(first);
        // Of tokens there are at most as many as a text may have.
        let width = if each { facts.dimension * facts.max_tokens } else { facts.dimension };
        let state = State { memory: Memory::new(limits.memory, width), pending: HashSet::new() };
        let engine = Arc::new(Self {
            tokens,
            facts,
            limits,
            sessions,
            known: Mutex::new(state),
            settled: Condvar::new(),
            computed: AtomicU64::new(0),
            each,
            used: Mutex::new(Instant::now()),
            watched: AtomicBool::new(false),
        });
        engine.watch()?;
        Ok(engine)
    }

    /// Facts of the model.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether the model is in memory.
    pub fn loaded(&self) -> bool {
        !lock(&self.sessions.idle).is_empty()
    }

    /// How many texts were computed so far: not those whose vectors were known.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    /// The vectors of texts. Equal texts are computed once. A text depends on no other one, but for the last digits. Ends early with
    /// [`Error::Canceled`] once `stop` is set.
    pub fn embed(self: &Arc<Self>, texts: &[&str], stop: &AtomicBool) -> Result<Embedded> {
        self.watch()?;
        let keys: Vec<Key> = texts.par_iter().map(|text| memory::key(text)).collect();
        let mut found: HashMap<Key, Known> = HashMap::new();
        let mut asked = HashSet::new();
        let mut missing: Vec<(Key, &str)> = keys.iter().copied().zip(texts.iter().copied()).filter(|(key, _)| asked.insert(*key)).collect();
        let mut tokens = 0;
        while !missing.is_empty() {
            let (own, others) = self.claim(missing, &mut found);
            let claim = Claim { engine: self, keys: own.iter().map(|(key, _)| *key).collect() };
            tokens += self.compute(&own, stop, &mut found)?;
            drop(claim);
            self.wait(&others, stop)?;
            missing = others;
        }
        *lock(&self.used) = Instant::now();
        let mut embedded = Embedded { tokens, ..Embedded::default() };
        for key in &keys {
            let known = found.get(key).ok_or_else(|| Error::graph("a text without a vector"))?;
            embedded.truncated += usize::from(known.truncated);
            embedded.vectors.push(Arc::clone(&known.vector));
        }
        Ok(embedded)
    }

    /// Takes what is remembered. Of the others, gives those that the caller is to compute now, and those that somebody else is computing.
    fn claim<'t>(&self, texts: Asked<'t>, found: &mut HashMap<Key, Known>) -> (Asked<'t>, Asked<'t>) {
        let State { memory, pending } = &mut *lock(&self.known);
        let unknown = texts.into_iter().filter(|(key, _)| match memory.get(key) {
            Some(known) => {
                found.insert(*key, known);
                false
            }
            None => true,
        });
        unknown.partition(|(key, _)| pending.insert(*key))
    }

    /// Waits until nobody is computing any of these texts.
    fn wait(&self, texts: &[(Key, &str)], stop: &AtomicBool) -> Result<()> {
        // How soon a wait that nobody needs any more ends.
        const LOOK: Duration = Duration::from_millis(50);
        let mut state = lock(&self.known);
        while texts.iter().any(|(key, _)| state.pending.contains(key)) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Canceled);
            }
            (state, _) = self.settled.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Computes texts; gives their tokens.
    fn compute(&self, texts: &[(Key, &str)], stop: &AtomicBool, found: &mut HashMap<Key, Known>) -> Result<usize> {
        if texts.is_empty() {
            return Ok(0);
        }
        let cuts =
            texts.par_iter().map(|(_, text)| if stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { self.tokens.encode(text) });
        let cuts: Vec<Cut> = cuts.collect::<Result<_>>()?;
        let batches = batches(&cuts, self.limits.tokens);
        let run = |rows: &Vec<usize>| -> Result<Vec<(usize, Arc<[f32]>)>> {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Canceled);
            }
            let ids: Vec<&[u32]> = rows.iter().map(|row| cuts[*row].ids.as_slice()).collect();
            Ok(rows.iter().copied().zip(self.sessions.with(|session| self.forward(session, &ids))?).collect())
        };
        let vectors: Vec<Vec<(usize, Arc<[f32]>)>> = match self.sessions.turn {
            Some(_) => batches.iter().map(run).collect::<Result<_>>()?,
            None => batches.par_iter().map(run).collect::<Result<_>>()?,
        };
        self.computed.fetch_add(texts.len() as u64, Ordering::Relaxed);
        let mut state = lock(&self.known);
        for (row, vector) in vectors.into_iter().flatten() {
            let known = Known { vector, truncated: cuts[row].truncated };
            state.memory.insert(texts[row].0, known.clone());
            found.insert(texts[row].0, known);
        }
        Ok(cuts.iter().map(|cut| cut.ids.len()).sum())
    }

    /// The place of the first token of each word among those that are read of a text.
    pub(crate) fn first_tokens(&self, sentence: &Sentence) -> Result<Vec<Option<usize>>> {
        let (_, places) = self.tokens.placed(&sentence.text)?;
        Ok(first_tokens(&places, &sentence.words))
    }

    /// Runs the graph once.
    fn forward(&self, session: &mut Session, texts: &[&[u32]]) -> Result<Vec<Arc<[f32]>>> {
        let (rows, longest) = (texts.len(), texts.iter().map(|ids| ids.len()).max().unwrap_or(0));
        let mut ids = vec![0i64; rows * longest];
        let (mut mask, mut pool) = (vec![MASKED; rows * longest], vec![0f32; rows * longest]);
        for (row, text) in texts.iter().enumerate() {
            let place = row * longest..row * longest + text.len();
            ids[place.clone()].iter_mut().zip(*text).for_each(|(to, id)| *to = i64::from(*id));
            mask[place.clone()].fill(0.0);
            match self.facts.pooling {
                Pooling::Mean => pool[place].fill(1.0 / text.len() as f32),
                Pooling::Cls => pool[place.start] = 1.0,
            }
        }
        let positions: Vec<i64> = (0..longest).map(|place| (place + self.facts.first_position) as i64).collect();
        let shape = [rows, longest];
        let outputs = session.run(ort::inputs![
            "ids" => TensorRef::from_array_view((shape, ids.as_slice()))?,
            "positions" => TensorRef::from_array_view(([longest], positions.as_slice()))?,
            "mask" => TensorRef::from_array_view((shape, mask.as_slice()))?,
            "pool" => TensorRef::from_array_view((shape, pool.as_slice()))?,
        ])?;
        let (_, values) = outputs[0].try_extract_tensor::<f32>()?;
        if self.each {
            let width = self.facts.dimension;
            let rows = values.chunks_exact(longest * width).zip(texts);
            return Ok(rows.map(|(row, ids)| row[..ids.len() * width].into()).collect());
        }
        Ok(values
            .chunks_exact(self.facts.dimension)
            .map(|vector| if self.facts.normalize { unit(vector) } else { vector.into() })
            .collect())
    }

    /// Sees to it that memory is given back once nobody asks any more.
    fn watch(self: &Arc<Self>) -> Result<()> {
        *lock(&self.used) = Instant::now();
        if self.limits.idle == Duration::MAX || self.watched.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let engine = Arc::downgrade(self);
        let idle = self.limits.idle;
        let thread = std::thread::Builder::new().name("idle encoder".to_owned()).spawn(move || give_back(&engine, idle));
        thread.map(drop).map_err(|error| Error::Runtime { reason: format!("no thread for the encoder: {error}") })
    }
}

/// Waits until nobody has asked for as long as `idle`, and drops what is in memory.
fn give_back(engine: &Weak<Engine>, idle: Duration) {
    let mut rest = idle;
    loop {
        std::thread::sleep(rest);
        let Some(engine) = engine.upgrade() else { return };
        let since = lock(&engine.used).elapsed();
        if since >= idle {
            engine.watched.store(false, Ordering::Release);
            lock(&engine.sessions.idle).clear();
            lock(&engine.known).memory.clear();
            return;
        }
        rest = idle - since;
    }
}

/// Opens a session with so many threads.
pub(super) type Open = Box<dyn Fn(usize) -> Result<Session> + Send + Sync>;

/// Sessions that nobody uses at the moment.
struct Sessions {
    open: Open,
    threads: usize,
    idle: Mutex<Vec<Session>>,
    /// Where there is one session only: held by who uses it.
    turn: Option<Mutex<()>>,
}

impl Sessions {
    fn open(&self) -> Result<Session> {
        (self.open)(self.threads)
    }

    /// Calls `work` with a session that nobody else uses. A session whose call failed is not used again.
    fn with<R>(&self, work: impl FnOnce(&mut Session) -> Result<R>) -> Result<R> {
        let _turn = self.turn.as_ref().map(lock);
        let idle = lock(&self.idle).pop();
        let mut session = match idle {
            Some(session) => session,
            None => self.open()?,
        };
        let result = work(&mut session)?;
        lock(&self.idle).push(session);
        Ok(result)
    }
}

/// The texts by length, in groups that have at most so many tokens with their padding.
fn batches(cuts: &[Cut], most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..cuts.len()).collect();
    // The longest first, so that no core is left with one at the end.
    order.sort_by_key(|row| std::cmp::Reverse(cuts[*row].ids.len()));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for row in order {
        match batches.last_mut().filter(|batch| (batch.len() + 1) * longest <= most) {
            Some(batch) => batch.push(row),
            None => {
                longest = cuts[row].ids.len();
                batches.push(vec![row]);
            }
        }
    }
    batches
}

/// The vector divided by its length.
fn unit(vector: &[f32]) -> Arc<[f32]> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
    vector.iter().map(|value| value / length).collect()
}

/// A lock whose data is valid at every moment, so that a panic while it was held does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
