//! Engines in memory, shared by all sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::models::{Result, lock};

/// The engines of one kind by what they were started for. There are only so many; the one that was used longest ago gives way, and ends when its
/// statements have ended.
pub(crate) struct Resident<E> {
    most: usize,
    state: Mutex<State<E>>,
}

struct State<E> {
    clock: u64,
    slots: HashMap<String, Slot<E>>,
}

struct Slot<E> {
    used: u64,
    /// Held while the engine is started, so that two statements do not start it twice.
    engine: Arc<Mutex<Option<Arc<E>>>>,
}

impl<E> Resident<E> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, state: Mutex::new(State { clock: 0, slots: HashMap::new() }) }
    }

    /// The engine of a key, started now if it was not before.
    pub(crate) fn get(&self, key: String, start: impl FnOnce() -> Result<Arc<E>>) -> Result<Arc<E>> {
        let slot = self.slot(key);
        let mut engine = lock(&slot);
        if let Some(engine) = &*engine {
            return Ok(Arc::clone(engine));
        }
        Ok(Arc::clone(engine.insert(start()?)))
    }

    /// The engines that are there, with what they were started for.
    pub(crate) fn list(&self) -> Vec<(String, Arc<E>)> {
        let state = lock(&self.state);
        // Who holds the lock of a slot is starting its engine.
        let engines = state.slots.iter().filter_map(|(key, slot)| Some((key.clone(), slot.engine.try_lock().ok()?.clone()?)));
        engines.collect()
    }

    fn slot(&self, key: String) -> Arc<Mutex<Option<Arc<E>>>> {
        let state = &mut *lock(&self.state);
        state.clock += 1;
        if !state.slots.contains_key(&key)
            && state.slots.len() >= self.most
            && let Some(oldest) = state.slots.iter().min_by_key(|(_, slot)| slot.used).map(|(oldest, _)| oldest.clone())
        {
            state.slots.remove(&oldest);
        }
        let slot = state.slots.entry(key).or_insert_with(|| Slot { used: 0, engine: Arc::default() });
        slot.used = state.clock;
        Arc::clone(&slot.engine)
    }
}
