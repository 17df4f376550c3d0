//! Transactions: what BEGIN opens, and what becomes of a session's settings and changes at its end.
//!
//! Outside a block the changes of a session are committed at the end of a simple query, or at Sync, as in PostgreSQL.

use chrono::{DateTime, Utc};

use super::{Outcome, Session, done};
use crate::settings::Settings;
use crate::sqlstate::{SqlError, SqlState};
use crate::store::Saved;

/// Where the session stands between BEGIN and COMMIT.
#[derive(Debug)]
pub(crate) enum Transaction {
    /// No block: each statement stands alone.
    Idle,
    /// In a block.
    Open(Block),
    /// A statement of the block failed; only its end is accepted, or going back to a savepoint.
    Failed(Block),
}

impl Transaction {
    /// When the block was begun.
    pub(super) fn started(&self) -> Option<DateTime<Utc>> {
        match self {
            Transaction::Idle => None,
            Transaction::Open(block) | Transaction::Failed(block) => Some(block.started),
        }
    }
}

/// What a transaction block keeps.
#[derive(Debug)]
pub(crate) struct Block {
    /// The settings that ROLLBACK restores.
    before: Settings,
    /// The settings that COMMIT keeps: without what SET LOCAL changed.
    pub(super) keep: Settings,
    pub(super) started: DateTime<Utc>,
    /// The latest last. A name may stand for several: the latest hides the others.
    savepoints: Vec<Savepoint>,
}

/// What ROLLBACK TO goes back to.
#[derive(Debug)]
struct Savepoint {
    name: String,
    settings: Settings,
    keep: Settings,
    changes: Saved,
    /// How many posts there were.
    posts: usize,
    /// How many locks had been asked for.
    locks: u64,
}

impl Session {
    pub(super) fn begin(&mut self, words: &'static str, read_only: Option<bool>, isolation: Option<&str>) -> Result<Outcome, SqlError> {
        if let Transaction::Idle = self.transaction {
            let (before, keep) = (self.settings.clone(), self.settings.clone());
            let read_only = read_only.unwrap_or(self.settings.read_only(false));
            self.settings.set("transaction_read_only", if read_only { "on" } else { "off" })?;
            let (_, default) = self.settings.show("default_transaction_isolation")?;
            self.settings.set("transaction_isolation", isolation.unwrap_or(&default))?;
            self.own.follow(&self.settings);
            self.transaction = Transaction::Open(Block { before, keep, started: Utc::now(), savepoints: Vec::new() });
        }
        Ok(done(words))
    }

    /// A transaction that reads one state reads that of its first statement.
    pub(super) fn pin(&self) {
        let one_state = || self.settings.show("transaction_isolation").is_ok_and(|(_, level)| level != "read committed");
        if matches!(self.transaction, Transaction::Open(_)) && one_state() {
            self.draft.pin();
        }
    }

    /// The block has failed if there is one.
    pub(crate) fn fail(&mut self) {
        self.own.follow(&self.settings);
        self.transaction = match std::mem::replace(&mut self.transaction, Transaction::Idle) {
            Transaction::Open(block) => {
                // what was locked since the savepoint that may be gone back to
                self.unlock(block.savepoints.last().map_or(0, |savepoint| savepoint.locks));
                Transaction::Failed(block)
            }
            Transaction::Idle => {
                self.forget_posts();
                self.draft.rollback();
                Transaction::Idle
            }
            failed => failed,
        };
    }

    /// Commits what was changed outside a block.
    pub(crate) async fn settle(&mut self) -> Result<(), SqlError> {
        match self.transaction {
            Transaction::Idle => {
                self.draft.commit().await?;
                self.carry_out_posts();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn commit(&mut self) -> Result<Outcome, SqlError> {
        match std::mem::replace(&mut self.transaction, Transaction::Idle) {
            Transaction::Open(block) => match self.draft.commit().await {
                Ok(()) => {
                    self.carry_out_posts();
                    Ok(self.end("COMMIT", block.keep))
                }
                Err(error) => {
                    self.forget_posts();
                    self.end("ROLLBACK", block.before);
                    Err(error.into())
                }
            },
            Transaction::Failed(block) => {
                self.forget_posts();
                self.draft.rollback();
                Ok(self.end("ROLLBACK", block.before))
            }
            Transaction::Idle => {
                self.draft.commit().await?;
                self.carry_out_posts();
                Ok(done("COMMIT"))
            }
        }
    }

    /// The transaction is committed: what it has posted is done, and its locks are given back.
    fn carry_out_posts(&self) {
        let posts = std::mem::take(&mut *self.own.posts());
        if !posts.is_empty() {
            self.engine.system.channels.carry_out(self.presence.pid, &self.ear, &posts);
        }
        self.unlock(0);
    }

    /// The transaction is rolled back, with what it has posted and its locks.
    fn forget_posts(&self) {
        self.own.posts().clear();
        self.unlock(0);
    }

    fn unlock(&self, since: u64) {
        self.engine.system.locks.end_transaction(self.presence.pid, since);
    }

    pub(super) fn rollback(&mut self) -> Outcome {
        self.forget_posts();
        self.draft.rollback();
        match std::mem::replace(&mut self.transaction, Transaction::Idle) {
            Transaction::Open(block) | Transaction::Failed(block) => self.end("ROLLBACK", block.before),
            Transaction::Idle => done("ROLLBACK"),
        }
    }

    fn end(&mut self, tag: &str, settings: Settings) -> Outcome {
        if settings != self.settings {
            self.settings = settings;
            self.apply_settings();
        }
        done(tag)
    }

    pub(super) fn savepoint(&mut self, name: &str) -> Result<Outcome, SqlError> {
        let (settings, changes, posts) = (self.settings.clone(), self.draft.save(), self.own.posts().len());
        let locks = self.engine.system.locks.count();
        let Transaction::Open(block) = &mut self.transaction else { return Err(no_block("SAVEPOINT")) };
        block.savepoints.push(Savepoint { name: name.to_owned(), settings, keep: block.keep.clone(), changes, posts, locks });
        Ok(done("SAVEPOINT"))
    }

    pub(super) fn release(&mut self, name: &str) -> Result<Outcome, SqlError> {
        let Transaction::Open(block) = &mut self.transaction else { return Err(no_block("RELEASE SAVEPOINT")) };
        let at = block.find(name)?;
        block.savepoints.truncate(at);
        Ok(done("RELEASE"))
    }

    pub(super) fn rollback_to(&mut self, name: &str) -> Result<Outcome, SqlError> {
        let (Transaction::Open(block) | Transaction::Failed(block)) = &mut self.transaction else {
            return Err(no_block("ROLLBACK TO SAVEPOINT"));
        };
        let at = block.find(name)?;
        block.savepoints.truncate(at + 1);
        let settings = block.savepoints[at].settings.clone();
        block.keep = block.savepoints[at].keep.clone();
        self.draft.restore(&block.savepoints[at].changes);
        self.own.posts().truncate(block.savepoints[at].posts);
        self.engine.system.locks.end_transaction(self.presence.pid, block.savepoints[at].locks);
        self.transaction = match std::mem::replace(&mut self.transaction, Transaction::Idle) {
            Transaction::Failed(block) => Transaction::Open(block),
            other => other,
        };
        Ok(self.end("ROLLBACK", settings))
    }
}

impl Block {
    fn find(&self, name: &str) -> Result<usize, SqlError> {
        let found = self.savepoints.iter().rposition(|savepoint| savepoint.name == name);
        found.ok_or_else(|| SqlError::new(SqlState::InvalidSavepoint, format!("savepoint \"{name}\" does not exist")))
    }
}

fn no_block(words: &str) -> SqlError {
    SqlError::new(SqlState::NoActiveTransaction, format!("{words} can only be used in transaction blocks"))
}
