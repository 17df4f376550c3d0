//! Who is connected and what runs: `pg_stat_activity`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use datafusion::catalog::TableProvider;
use datafusion::common::Result;

use super::rows::Rows;
use super::{OWNER, System};
use crate::planner::DATABASE;

/// Longest text of a statement that is shown, in bytes, as in PostgreSQL.
const TEXT: usize = 1024;

/// The sessions of a server by their process numbers.
#[derive(Debug, Default)]
pub(crate) struct Activity(Mutex<BTreeMap<i32, Seen>>);

#[derive(Debug, Clone)]
struct Seen {
    user: String,
    application: String,
    began: DateTime<Utc>,
    transaction: Option<DateTime<Utc>>,
    asked: Option<DateTime<Utc>>,
    changed: DateTime<Utc>,
    state: &'static str,
    statement: String,
}

/// A session among the others; it is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Presence {
    system: Arc<System>,
    pub(crate) pid: i32,
}

impl System {
    /// A session begins.
    pub(crate) fn enter(self: &Arc<Self>, pid: i32, user: &str) -> Presence {
        self.activity.enter(pid, user);
        self.locks.enter(pid);
        Presence { system: Arc::clone(self), pid }
    }
}

impl Activity {
    fn enter(&self, pid: i32, user: &str) {
        let now = Utc::now();
        let (user, application, statement) = (user.to_owned(), String::new(), String::new());
        let seen = Seen { user, application, began: now, transaction: None, asked: None, changed: now, state: "idle", statement };
        self.sessions().insert(pid, seen);
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<i32, Seen>> {
        // nothing panics while it is held
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions as a relation.
    pub(super) fn pg_stat_activity(&self) -> Result<Arc<dyn TableProvider>> {
        let sessions = self.sessions().clone();
        let all = || sessions.values();
        let none = || std::iter::repeat_n(None::<&str>, sessions.len());
        Rows::default()
            .oids("datid", all().map(|_| 1))
            .texts("datname", all().map(|_| Some(DATABASE)))
            .integers("pid", sessions.keys().copied())
            .texts("leader_pid", none())
            .oids("usesysid", all().map(|_| OWNER.cast_unsigned()))
            .texts("usename", all().map(|s| Some(&s.user)))
            .texts("application_name", all().map(|s| Some(&s.application)))
            .texts("client_addr", none())
            .texts("client_hostname", none())
            .texts("client_port", none())
            .times("backend_start", all().map(|s| Some(s.began)))
            .times("xact_start", all().map(|s| s.transaction))
            .times("query_start", all().map(|s| s.asked))
            .times("state_change", all().map(|s| Some(s.changed)))
            .texts("wait_event_type", none())
            .texts("wait_event", none())
            .texts("state", all().map(|s| Some(s.state)))
            .texts("backend_xid", none())
            .texts("backend_xmin", none())
            .texts("query_id", none())
            .texts("query", all().map(|s| Some(&s.statement)))
            .texts("backend_type", all().map(|_| Some("client backend")))
            .table()
    }
}

impl Presence {
    /// A statement begins.
    pub(crate) fn active(&self, statement: &str, application: &str, transaction: Option<DateTime<Utc>>) {
        let now = Utc::now();
        if let Some(seen) = self.system.activity.sessions().get_mut(&self.pid) {
            application.clone_into(&mut seen.application);
            statement[..statement.floor_char_boundary(TEXT)].clone_into(&mut seen.statement);
            (seen.state, seen.asked, seen.changed, seen.transaction) = ("active", Some(now), now, transaction.or(Some(now)));
        }
    }

    /// The session waits for its client.
    pub(crate) fn waits(&self, state: &'static str, transaction: Option<DateTime<Utc>>) {
        if let Some(seen) = self.system.activity.sessions().get_mut(&self.pid)
            && (seen.state, seen.transaction) != (state, transaction)
        {
            (seen.state, seen.changed, seen.transaction) = (state, Utc::now(), transaction);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.system.activity.sessions().remove(&self.pid);
        self.system.locks.leave(self.pid);
        self.system.channels.leave(self.pid);
    }
}
