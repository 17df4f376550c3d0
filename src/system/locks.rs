//! Advisory locks: numbers that sessions agree on. Who asks for a lock that another holds waits in line, and one who would wait for ever is
//! told so.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use tokio::sync::Notify;

use super::rows::Rows;
use crate::sqlstate::{SqlError, SqlState};

/// Most locks that are held or waited for.
const MOST: usize = 100_000;

/// What a lock is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Whole(i64),
    Pair(i32, i32),
}

/// Whether others may hold it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// How long a lock is held, where it is not given back before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    SessionEnds,
    TransactionEnds,
}

/// A lock that a session asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) pid: i32,
    pub(crate) key: Key,
    pub(crate) mode: Mode,
    pub(crate) until: Until,
}

impl Wish {
    /// Whether both can't be fulfilled at a time.
    fn conflicts(&self, other: &Self) -> bool {
        self.pid != other.pid && (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
    }
}

/// The advisory locks of a server.
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    places: HashMap<Key, Place>,
    /// The sessions that there are.
    present: HashSet<i32>,
    /// Locks asked for so far.
    asked: u64,
}

/// A lock that is held or waited for.
#[derive(Debug, Default)]
struct Place {
    held: Vec<Asked>,
    /// The next first.
    line: VecDeque<(Asked, Arc<Notify>)>,
}

/// A wish, and the how many-th it was.
#[derive(Debug, Clone, Copy)]
struct Asked {
    wish: Wish,
    number: u64,
}

impl Place {
    fn is_free(&self, wish: &Wish) -> bool {
        !self.held.iter().any(|held| held.wish.conflicts(wish))
    }

    /// Gives the lock to those in line whose turn it is.
    fn serve(&mut self) {
        while let Some((asked, _)) = self.line.front()
            && self.is_free(&asked.wish)
            && let Some((asked, wake)) = self.line.pop_front()
        {
            self.held.push(asked);
            wake.notify_one();
        }
    }
}

impl Table {
    /// Takes a lock that is free, and that nobody else waits for. False where it is not.
    fn take(&mut self, wish: Wish) -> Result<bool, SqlError> {
        if !self.present.contains(&wish.pid) {
            return Err(SqlError::fatal(SqlState::AdminShutdown, "the session has ended"));
        }
        if self.places.len() >= MOST || self.places.get(&wish.key).is_some_and(|place| place.held.len() + place.line.len() >= MOST) {
            return Err(SqlError::new(SqlState::OutOfMemory, "out of shared memory")
                .with_detail(format!("the server keeps {MOST} advisory locks"))
                .with_hint("give locks back that are no longer needed"));
        }
        let asked = Asked { wish, number: self.asked };
        let place = self.places.entry(wish.key).or_default();
        let again = place.held.iter().any(|held| held.wish.pid == wish.pid);
        let behind = !again && place.line.iter().any(|(other, _)| other.wish.conflicts(&wish));
        let free = place.is_free(&wish) && !behind;
        if free {
            self.asked += 1;
            place.held.push(asked);
        }
        Ok(free)
    }

    /// Whom the wish waits for.
    fn blockers(&self, wish: &Wish, number: u64) -> Vec<i32> {
        let Some(place) = self.places.get(&wish.key) else { return Vec::new() };
        let ahead = place.line.iter().map(|(asked, _)| asked).filter(|asked| asked.number < number);
        place.held.iter().chain(ahead).filter(|asked| asked.wish.conflicts(wish)).map(|asked| asked.wish.pid).collect()
    }

    /// Whether someone whom the wish waits for waits for the session that has it.
    fn is_deadlock(&self, wish: &Wish, number: u64) -> bool {
        let mut seen = HashSet::new();
        let mut next = self.blockers(wish, number);
        while let Some(pid) = next.pop() {
            if pid == wish.pid {
                return true;
            }
            if seen.insert(pid) {
                let waiting = self.places.values().flat_map(|place| &place.line).filter(|(asked, _)| asked.wish.pid == pid);
                next.extend(waiting.flat_map(|(asked, _)| self.blockers(&asked.wish, asked.number)));
            }
        }
        false
    }

    fn queue(&mut self, wish: Wish) -> Result<(u64, Arc<Notify>), SqlError> {
        let (number, wake) = (self.asked, Arc::new(Notify::new()));
        self.asked += 1;
        if self.is_deadlock(&wish, number) {
            let whom = self.blockers(&wish, number).first().copied().unwrap_or_default();
            return Err(SqlError::new(SqlState::DeadlockDetected, "deadlock detected")
                .with_detail(format!("process {} waits for an advisory lock; blocked by process {whom}", wish.pid)));
        }
        self.places.entry(wish.key).or_default().line.push_back((Asked { wish, number }, Arc::clone(&wake)));
        Ok((number, wake))
    }

    /// Lets go of the locks that this holds for, and of the wishes where `waiting`.
    fn release(&mut self, which: impl Fn(&Asked) -> bool, waiting: bool) {
        self.places.retain(|_, place| {
            place.held.retain(|held| !which(held));
            if waiting {
                place.line.retain(|(asked, _)| !which(asked));
            }
            place.serve();
            !place.held.is_empty() || !place.line.is_empty()
        });
    }
}

/// A wish in line. Dropped before it is fulfilled, it leaves the line.
struct InLine<'a> {
    locks: &'a Locks,
    number: u64,
    fulfilled: bool,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if !self.fulfilled {
            // it may have had its turn without having seen it
            self.locks.table().release(|asked| asked.number == self.number, true);
        }
    }
}

impl Locks {
    fn table(&self) -> MutexGuard<'_, Table> {
        // nothing panics while it is held
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins.
    pub(super) fn enter(&self, pid: i32) {
        self.table().present.insert(pid);
    }

    /// A session ends, and with it all it holds and waits for.
    pub(super) fn leave(&self, pid: i32) {
        let mut table = self.table();
        table.present.remove(&pid);
        table.release(|asked| asked.wish.pid == pid, true);
    }

    /// Takes a lock if it is free.
    pub(crate) fn try_take(&self, wish: Wish) -> Result<bool, SqlError> {
        self.table().take(wish)
    }

    /// Takes a lock as soon as it is free.
    pub(crate) async fn take(&self, wish: Wish) -> Result<(), SqlError> {
        let (number, wake) = {
            let mut table = self.table();
            if table.take(wish)? {
                return Ok(());
            }
            table.queue(wish)?
        };
        let mut place = InLine { locks: self, number, fulfilled: false };
        wake.notified().await;
        place.fulfilled = true;
        Ok(())
    }

    /// Gives a lock of a session back, once. False where the session does not hold it.
    pub(crate) fn give_back(&self, pid: i32, key: Key, mode: Mode) -> bool {
        let wish = Wish { pid, key, mode, until: Until::SessionEnds };
        let mut table = self.table();
        let Some(place) = table.places.get_mut(&key) else { return false };
        let Some(at) = place.held.iter().rposition(|held| held.wish == wish) else { return false };
        place.held.remove(at);
        place.serve();
        if place.held.is_empty() && place.line.is_empty() {
            table.places.remove(&key);
        }
        true
    }

    /// Gives back what a session holds until it ends.
    pub(crate) fn give_all_back(&self, pid: i32) {
        self.table().release(|asked| asked.wish.pid == pid && asked.wish.until == Until::SessionEnds, false);
    }

    /// How many locks were asked for so far.
    pub(crate) fn count(&self) -> u64 {
        self.table().asked
    }

    /// Gives back what a session holds until its transaction ends, of what it has asked for since there were so many.
    pub(crate) fn end_transaction(&self, pid: i32, since: u64) {
        let mut table = self.table();
        if table.places.is_empty() {
            return;
        }
        table.release(|asked| asked.wish.pid == pid && asked.wish.until == Until::TransactionEnds && asked.number >= since, false);
    }

    /// The locks as a relation.
    pub(super) fn pg_locks(&self) -> Result<Arc<dyn TableProvider>> {
        let mut all: Vec<(Wish, bool)> = Vec::new();
        for place in self.table().places.values() {
            let mut add = |wish: Wish, granted: bool| {
                if !all.iter().any(|(other, g)| *g == granted && (other.pid, other.key, other.mode) == (wish.pid, wish.key, wish.mode)) {
                    all.push((wish, granted));
                }
            };
            place.held.iter().for_each(|held| add(held.wish, true));
            place.line.iter().for_each(|(asked, _)| add(asked.wish, false));
        }
        let none = || all.iter().map(|_| None::<&str>);
        Rows::default()
            .texts("locktype", all.iter().map(|_| Some("advisory")))
            .oids("database", all.iter().map(|_| 1))
            .texts("relation", none())
            .texts("page", none())
            .texts("tuple", none())
            .texts("virtualxid", none())
            .texts("transactionid", none())
            .oids("classid", all.iter().map(|(wish, _)| parts(wish.key).0))
            .oids("objid", all.iter().map(|(wish, _)| parts(wish.key).1))
            .shorts("objsubid", all.iter().map(|(wish, _)| parts(wish.key).2))
            .texts("virtualtransaction", all.iter().map(|(wish, _)| Some(format!("{}/0", wish.pid))))
            .integers("pid", all.iter().map(|(wish, _)| wish.pid))
            .texts("mode", all.iter().map(|(wish, _)| Some(mode_name(wish.mode))))
            .switches("granted", all.iter().map(|(_, granted)| *granted))
            .switches("fastpath", all.iter().map(|_| false))
            .times("waitstart", all.iter().map(|_| None))
            .table()
    }
}

/// What PostgreSQL calls a mode.
pub(crate) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "ShareLock",
        Mode::Exclusive => "ExclusiveLock",
    }
}

/// The three numbers by which `pg_locks` shows a key.
fn parts(key: Key) -> (u32, u32, i16) {
    match key {
        Key::Whole(key) => ((key >> 32) as u32, key as u32, 1),
        Key::Pair(class, object) => (class.cast_unsigned(), object.cast_unsigned(), 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(pid: i32, key: i64, mode: Mode) -> Wish {
        Wish { pid, key: Key::Whole(key), mode, until: Until::SessionEnds }
    }

    fn locks(sessions: i32) -> Arc<Locks> {
        let locks = Arc::<Locks>::default();
        (1..=sessions).for_each(|pid| locks.enter(pid));
        locks
    }

    #[tokio::test]
    async fn a_lock_goes_to_the_next_in_line_and_shared_ones_go_together() {
        let locks = locks(4);
        locks.take(wish(1, 7, Mode::Exclusive)).await.expect("free");
        assert!(!locks.try_take(wish(2, 7, Mode::Shared)).expect("held"));
        let mut waiting = tokio::task::JoinSet::new();
        for pid in [2, 3] {
            let locks = Arc::clone(&locks);
            waiting.spawn(async move { locks.take(wish(pid, 7, Mode::Shared)).await });
        }
        while locks.table().places[&Key::Whole(7)].line.len() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(locks.give_back(1, Key::Whole(7), Mode::Exclusive));
        while let Some(done) = waiting.join_next().await {
            done.expect("no panic").expect("the lock");
        }
        assert!(!locks.try_take(wish(4, 7, Mode::Exclusive)).expect("held"));
        assert!(!locks.give_back(1, Key::Whole(7), Mode::Exclusive), "given back already");
        locks.leave(2);
        locks.leave(3);
        assert!(locks.try_take(wish(4, 7, Mode::Exclusive)).expect("free"));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_line() {
        let locks = locks(3);
        locks.take(wish(1, 7, Mode::Shared)).await.expect("free");
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), locks.take(wish(2, 7, Mode::Exclusive)));
        waiting.await.expect_err("nobody gives it back");
        assert!(locks.try_take(wish(3, 7, Mode::Shared)).expect("no one is in line"));
    }

    #[tokio::test]
    async fn who_would_wait_for_ever_is_told_so() {
        let locks = locks(2);
        locks.take(wish(1, 1, Mode::Exclusive)).await.expect("free");
        locks.take(wish(2, 2, Mode::Exclusive)).await.expect("free");
        let other = Arc::clone(&locks);
        let waiting = tokio::spawn(async move { other.take(wish(1, 2, Mode::Exclusive)).await });
        while locks.table().places[&Key::Whole(2)].line.is_empty() {
            tokio::task::yield_now().await;
        }
        let error = locks.take(wish(2, 1, Mode::Exclusive)).await.expect_err("a deadlock");
        assert_eq!(error.state, SqlState::DeadlockDetected);
        locks.leave(2);
        waiting.await.expect("no panic").expect("the lock");
    }

    #[tokio::test]
    async fn what_is_held_until_the_transaction_ends_ends_with_it() {
        let locks = locks(2);
        let until_its_end = |pid| Wish { until: Until::TransactionEnds, ..wish(pid, 7, Mode::Exclusive) };
        locks.take(until_its_end(1)).await.expect("free");
        assert!(!locks.give_back(1, Key::Whole(7), Mode::Exclusive), "it can't be given back before");
        let savepoint = locks.count();
        locks.end_transaction(1, savepoint);
        assert!(!locks.try_take(until_its_end(2)).expect("held since before the savepoint"));
        locks.end_transaction(1, 0);
        assert!(locks.try_take(until_its_end(2)).expect("free"));
    }
}
