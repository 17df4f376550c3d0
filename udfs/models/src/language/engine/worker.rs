//! The thread that owns the device.
//!
//! Rows `0..active` generate, one token a step; the rows after them read: their prompt, or tokens that a constraint forced. A row keeps its number in
//! the slab, so calls take ranges of rows; when one ends, the last row of its kind moves into its place.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::forward::{Feed, Forward, Kind, Scores};
use super::super::prefix::Prefixes;
use super::super::queue::Waited;
use super::super::sampling::Scratch;
use super::super::slab::{Cell, Slab};
use super::plan::{self, BETWEEN_STEPS, Group, Size, Waiting};
use super::row::{Row, Start};
use super::{Finish, Limits, Shared};
use crate::error::{Error, Result};

pub(super) struct Worker {
    shared: Arc<Shared>,
    forward: Forward,
    cell: Cell,
    limits: Limits,
    eos: Vec<u32>,
    prefixes: Prefixes,
    rows: Vec<Row>,
    active: usize,
    admitted: u64,
    scratch: Scratch,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, forward: Forward, cell: Cell, limits: Limits, eos: Vec<u32>) -> Self {
        let (prefixes, rows, scratch) = (Prefixes::default(), Vec::new(), Scratch::default());
        Self { shared, forward, cell, limits, eos, prefixes, rows, active: 0, admitted: 0, scratch }
    }

    /// Computes until the queue is closed.
    pub(super) fn run(mut self) {
        loop {
            if self.rows.is_empty() && !self.wait() || self.shared.queue.closed() {
                return;
            }
            self.drop_cancelled();
            self.admit();
            let mut budget = BETWEEN_STEPS;
            while self.rows.len() > self.active && budget > 0 {
                budget = budget.saturating_sub(self.fill());
            }
            self.step();
            self.report();
        }
    }

    /// Waits for a job; gives the memory back meanwhile, when none comes for long. False when the queue was closed.
    fn wait(&mut self) -> bool {
        let mut waited = self.shared.queue.wait(self.limits.idle);
        if waited == Waited::Idle {
            self.rest();
            while waited == Waited::Idle {
                waited = self.shared.queue.wait(Duration::MAX);
            }
        }
        waited == Waited::Job
    }

    fn rest(&mut self) {
        if let Err(error) = self.forward.unload() {
            tracing::warn!(%error, "an idle language model keeps its memory");
            return;
        }
        self.prefixes = Prefixes::default();
        self.scratch = Scratch::default();
        *self.shared.vocabulary() = None;
        self.report();
        tracing::info!(idle_seconds = self.limits.idle.as_secs(), "an idle language model gave its memory back");
    }

    fn report(&self) {
        let mut usage = self.shared.usage();
        usage.active = self.rows.len();
        usage.loaded = self.forward.loaded();
        usage.loads = self.forward.loads();
        usage.cache_bytes = self.forward.slab.bytes() + self.prefixes.bytes();
    }

    /// Takes jobs from the queue while there is a place and memory for them.
    fn admit(&mut self) {
        loop {
            let multiple = self.forward.multiple();
            let Some(tokens) = self.shared.queue.peek(|job| plan::tokens_of(&job.request, multiple)) else { return };
            if self.rows.is_empty() {
                let most = self.shared.queue.largest(self.limits.slots, |job| plan::tokens_of(&job.request, multiple));
                if let Err(error) = self.fit(most.max(tokens)) {
                    self.refuse(error);
                    continue;
                }
            } else if tokens > self.forward.slab.capacity() {
                let size = plan::size(tokens, &self.limits, self.cell, multiple);
                // Otherwise the job waits until rows have ended.
                if size.rows <= self.rows.len() || self.resize(size).is_err() {
                    return;
                }
            }
            if self.rows.len() >= self.limits.slots.min(self.forward.slab.rows()) {
                return;
            }
            let Some(job) = self.shared.queue.pop() else { return };
            self.admitted += 1;
            self.rows.push(Row::new(job, self.admitted));
            self.report();
        }
    }

    /// Answers the first job of the queue with an error.
    fn refuse(&mut self, error: Error) {
        if let Some(job) = self.shared.queue.pop() {
            self.shared.usage().failed += 1;
            job.answer.give(Err(error));
        }
    }

    /// Gives an empty slab the size for the jobs at hand, if another size holds them better.
    fn fit(&mut self, tokens: usize) -> Result<()> {
        let size = plan::size(tokens, &self.limits, self.cell, self.forward.multiple());
        let (rows, capacity) = (self.forward.slab.rows(), self.forward.slab.capacity());
        if capacity < tokens || rows < size.rows { self.resize(size) } else { Ok(()) }
    }

    /// Makes another slab with the same rows. When that fails they are lost and answered.
    fn resize(&mut self, size: Size) -> Result<()> {
        let limit = self.limits.cache_bytes;
        self.prefixes.shrink(limit.saturating_sub(size.rows * size.capacity * self.cell.bytes()));
        let saved: Vec<Vec<f32>> = self.rows.iter().enumerate().map(|(number, row)| self.forward.slab.save(number, row.past)).collect();
        // The old memory goes before the new is asked for.
        let made = Slab::new(self.cell, 0, 0).and_then(|empty| {
            self.forward.slab = empty;
            Slab::new(self.cell, size.rows, size.capacity)
        });
        match made {
            Ok(slab) => self.forward.slab = slab,
            Err(error) => {
                for row in self.rows.drain(..) {
                    self.shared.usage().failed += 1;
                    row.answer.give(Err(copy(&error)));
                }
                self.active = 0;
                return Err(error);
            }
        }
        for (number, (row, saved)) in self.rows.iter().zip(&saved).enumerate() {
            self.forward.slab.load(number, saved, row.past);
        }
        Ok(())
    }

    fn drop_cancelled(&mut self) {
        for number in (0..self.rows.len()).rev() {
            if self.rows[number].answer.cancelled() {
                drop(self.remove(number));
                self.shared.usage().cancelled += 1;
            }
        }
    }

    /// One call for rows that read. Gives the number of tokens it computed.
    fn fill(&mut self) -> usize {
        self.drop_cancelled();
        self.find_prefixes();
        let Some(group) = self.next_group() else { return BETWEEN_STEPS };
        // The rows of the group come first among those that read. They are in rising order, so none is moved twice.
        let first = self.active;
        for (place, number) in (first..).zip(&group.rows) {
            self.exchange(place, *number);
        }
        let range = first..first + group.rows.len();
        for number in range.clone() {
            let row = &mut self.rows[number];
            if let Start::Known(prefix, tokens) = &row.start {
                let tokens = *tokens;
                self.forward.slab.load(number, prefix.saved(), tokens);
                row.skip(tokens);
                let mut usage = self.shared.usage();
                usage.prefix_hits += 1;
                usage.shared_tokens += tokens as u64;
            }
        }
        let counts: Vec<usize> = self.rows[range.clone()].iter().map(|row| row.pending.len().min(group.width)).collect();
        let Some(scores) = self.call(Kind::Fill, first, &counts) else { return group.width };
        self.shared.usage().prompt_tokens += counts.iter().sum::<usize>() as u64;
        for (number, count) in range.clone().zip(&counts) {
            self.rows[number].read(*count);
        }
        if group.rows.len() == 1 {
            self.keep_prefix(first);
            if !self.rows[first].pending.is_empty() {
                return group.width;
            }
        }
        self.active = range.end;
        for number in range.rev() {
            self.choose(number, scores.row(number - first));
        }
        group.rows.len() * group.width
    }

    /// Rows whose prefix has been computed meanwhile need not compute it.
    fn find_prefixes(&mut self) {
        for row in &mut self.rows[self.active..] {
            if let Start::Wanted(tokens) = &row.start
                && row.past == 0
                && let Some(prefix) = self.prefixes.find(tokens, row.adapter_id())
            {
                row.start = Start::Known(prefix, tokens.len());
            }
        }
    }

    /// A prefix that many may wait for goes first, alone.
    fn next_group(&self) -> Option<Group> {
        let reading = || self.rows.iter().enumerate().skip(self.active);
        let wanted = reading().filter(|(_, row)| matches!(row.start, Start::Wanted(_))).min_by_key(|(_, row)| row.age);
        if let Some((number, row)) = wanted
            && let Start::Wanted(tokens) = &row.start
        {
            return Some(Group { rows: vec![number], width: plan::piece(tokens.len() - row.past) });
        }
        let oldest = reading().min_by_key(|(_, row)| row.age)?.1;
        let waiting = reading().filter(|(_, row)| row.adapter_id() == oldest.adapter_id()).map(|(number, row)| {
            let past = if let Start::Known(_, tokens) = row.start { tokens } else { row.past };
            Waiting { row: number, left: row.left(), past, age: row.age }
        });
        plan::group(waiting.collect(), self.forward.slab.capacity(), self.forward.multiple())
    }

    /// Keeps the prefix that this row has just finished, for others.
    fn keep_prefix(&mut self, number: usize) {
        let row = &mut self.rows[number];
        match &row.start {
            Start::Wanted(tokens) if row.past == tokens.len() => {}
            _ => return,
        }
        let Start::Wanted(tokens) = std::mem::replace(&mut row.start, Start::Done) else { return };
        let saved = self.forward.slab.save(number, tokens.len());
        let limit = self.limits.cache_bytes.saturating_sub(self.forward.slab.bytes()).min(self.limits.cache_bytes / 4);
        self.prefixes.insert(tokens, row.adapter_id(), saved, limit);
    }

    /// One token more for every row that generates.
    fn step(&mut self) {
        if self.active == 0 {
            return;
        }
        self.drop_cancelled();
        // From the last range to the first: a row that goes is replaced by one that has had its step.
        for range in self.by_adapter().into_iter().rev() {
            let first = range.start;
            let Some(scores) = self.call(Kind::Step, first, &vec![1; range.len()]) else { continue };
            for number in range.rev() {
                self.rows[number].read(1);
                self.choose(number, scores.row(number - first));
            }
        }
    }

    /// Puts rows with the same adapter beside each other; gives their ranges.
    fn by_adapter(&mut self) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut first = 0;
        while first < self.active {
            let id = self.rows[first].adapter_id();
            let mut end = first + 1;
            for number in first + 1..self.active {
                if self.rows[number].adapter_id() == id {
                    self.exchange(end, number);
                    end += 1;
                }
            }
            ranges.push(first..end);
            first = end;
        }
        ranges
    }

    /// Runs rows from `first` on, each with its next `counts` tokens. On an error these rows are answered with it.
    fn call(&mut self, kind: Kind, first: usize, counts: &[usize]) -> Option<Scores> {
        let rows = &self.rows[first..first + counts.len()];
        let feeds: Vec<Feed> = rows
            .iter()
            .zip(counts)
            .map(|(row, count)| Feed { tokens: row.pending[..*count].iter().map(|id| i64::from(*id)).collect(), past: row.past })
            .collect();
        let after: Vec<usize> = self.rows[first + counts.len()..].iter().map(|row| row.past).collect();
        let adapter = rows.first().and_then(|row| row.adapter.clone());
        let begin = Instant::now();
        let result = self.forward.run(kind, first, &feeds, &after, adapter.as_deref());
        let elapsed = begin.elapsed();
        self.shared.usage().device += elapsed;
        let all: usize = counts.iter().sum();
        for (row, count) in self.rows[first..].iter_mut().zip(counts) {
            row.device += elapsed.mul_f64(*count as f64 / all.max(1) as f64);
        }
        match result {
            Ok(scores) => Some(scores),
            Err(error) => {
                tracing::warn!(%error, rows = counts.len(), "a call of the language model failed");
                self.fail(first, counts.len(), &error);
                None
            }
        }
    }

    /// Chooses the next token of an active row; answers it when its text ends.
    fn choose(&mut self, number: usize, scores: &[f32]) {
        let row = &mut self.rows[number];
        match row.advance(scores, &self.shared.tokens, &self.eos, &mut self.scratch) {
            Ok(None) if row.pending.len() > 1 => self.read_again(number),
            Ok(None) => {}
            Ok(Some(finish)) => self.answer(number, finish),
            Err(error) => self.fail(number, 1, &error),
        }
    }

    fn answer(&mut self, number: usize, finish: Finish) {
        let (answer, completion) = self.remove(number).finish(finish);
        {
            let mut usage = self.shared.usage();
            usage.completed += 1;
            usage.generated_tokens += completion.ids.len() as u64;
            usage.active = self.rows.len();
        }
        answer.give(Ok(completion));
    }

    /// Answers `count` rows with an error.
    fn fail(&mut self, first: usize, count: usize, error: &Error) {
        for number in (first..first + count).rev() {
            let row = self.remove(number);
            self.shared.usage().failed += 1;
            row.answer.give(Err(copy(error)));
        }
    }

    /// An active row that has several tokens to read goes to the others that read.
    fn read_again(&mut self, number: usize) {
        self.active -= 1;
        self.exchange(number, self.active);
    }

    /// Two rows change places.
    fn exchange(&mut self, a: usize, b: usize) {
        if a != b {
            let tokens = self.rows[a].past.max(self.rows[b].past);
            self.forward.slab.swap(a, b, tokens);
            self.rows.swap(a, b);
        }
    }

    /// Takes a row out; the last of its kind, and then the last of all, fills the place.
    fn remove(&mut self, number: usize) -> Row {
        let mut hole = number;
        if number < self.active {
            self.active -= 1;
            self.forward.slab.copy(self.active, number, self.rows[self.active].past);
            self.rows.swap(self.active, number);
            hole = self.active;
        }
        let last = self.rows.len() - 1;
        self.forward.slab.copy(last, hole, self.rows[last].past);
        self.rows.swap_remove(hole)
    }
}

/// The same error for another receiver.
fn copy(error: &Error) -> Error {
    match error {
        Error::Graph { reason } => Error::Graph { reason: reason.clone() },
        Error::CacheMemory { needed, limit } => Error::CacheMemory { needed: *needed, limit: *limit },
        Error::Constraint { constraint, reason } => Error::Constraint { constraint: constraint.clone(), reason: reason.clone() },
        Error::Runtime { reason } => Error::Runtime { reason: reason.clone() },
        other => Error::Runtime { reason: other.to_string() },
    }
}
