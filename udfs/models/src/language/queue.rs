//! Requests on their way to the engine, and how they are answered.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::engine::{Completion, Request};
use crate::error::{Error, Result};

/// A request that was taken. Dropping it cancels the request: it is not computed any further, and its `done` is not called.
#[derive(Debug)]
#[must_use = "dropping the ticket cancels the request"]
pub struct Ticket {
    cancelled: Arc<AtomicBool>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

/// The way back to the asker. It is answered exactly once, also when the thread that holds it dies, unless the ticket was dropped.
pub(super) struct Answer {
    done: Option<Box<dyn FnOnce(Result<Completion>) + Send>>,
    cancelled: Arc<AtomicBool>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("cancelled", &self.cancelled()).finish_non_exhaustive()
    }
}

impl Answer {
    pub(super) fn new(done: impl FnOnce(Result<Completion>) + Send + 'static) -> (Self, Ticket) {
        let cancelled = Arc::new(AtomicBool::new(false));
        (Self { done: Some(Box::new(done)), cancelled: Arc::clone(&cancelled) }, Ticket { cancelled })
    }

    pub(super) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(super) fn give(mut self, result: Result<Completion>) {
        self.call(result);
    }

    fn call(&mut self, result: Result<Completion>) {
        let Some(done) = self.done.take().filter(|_| !self.cancelled()) else { return };
        // The asker's code must not end the engine.
        if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
            tracing::error!("the receiver of a generated text panicked");
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.call(Err(Error::Stopped));
    }
}

/// A request and what belongs to it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) answer: Answer,
    pub(super) submitted: Instant,
}

/// The bounded queue in front of the engine.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
}

/// What waiting led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Job,
    Idle,
    Closed,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), limit }
    }

    /// Errors: [`Error::QueueFull`], and [`Error::Stopped`] after [`Queue::close`]. A refused job is not answered.
    pub(super) fn push(&self, mut job: Job) -> Result<()> {
        let mut state = self.state();
        let refused = if state.closed {
            Some(Error::Stopped)
        } else {
            if state.jobs.len() >= self.limit {
                state.jobs.retain(|job| !job.answer.cancelled());
            }
            (state.jobs.len() >= self.limit).then_some(Error::QueueFull { waiting: state.jobs.len() })
        };
        if let Some(error) = refused {
            job.answer.done = None;
            return Err(error);
        }
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits until there is something to do, at most for `patience`.
    pub(super) fn wait(&self, patience: Duration) -> Waited {
        let nothing = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let waited = self.changed.wait_timeout_while(self.state(), patience, nothing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (state.closed, state.jobs.is_empty()) {
            (true, _) => Waited::Closed,
            (false, true) => Waited::Idle,
            (false, false) => Waited::Job,
        }
    }

    pub(super) fn closed(&self) -> bool {
        self.state().closed
    }

    pub(super) fn len(&self) -> usize {
        self.state().jobs.len()
    }

    /// Looks at the first job that is not cancelled.
    pub(super) fn peek<R>(&self, look: impl FnOnce(&Job) -> R) -> Option<R> {
        let mut state = self.state();
        while state.jobs.front().is_some_and(|job| job.answer.cancelled()) {
            state.jobs.pop_front();
        }
        state.jobs.front().map(look)
    }

    pub(super) fn pop(&self) -> Option<Job> {
        self.state().jobs.pop_front()
    }

    /// The largest of what `measure` says of the first `count` jobs.
    pub(super) fn largest(&self, count: usize, measure: impl Fn(&Job) -> usize) -> usize {
        self.state().jobs.iter().take(count).map(measure).max().unwrap_or(0)
    }

    /// Refuses jobs from now on and answers those that wait with [`Error::Stopped`].
    pub(super) fn close(&self) {
        let jobs = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        self.changed.notify_all();
        drop(jobs);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every state of the queue is whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
