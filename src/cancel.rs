//! What can stop a running statement: a cancel request, its deadline, a client that has gone, the server's end.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sqlstate::{SqlError, SqlState, internal};

/// Every connection by the number its client knows it by, with the secret that lets the client cancel its statement.
#[derive(Debug, Default)]
pub(crate) struct Backends(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last: i32,
    entries: HashMap<i32, Entry>,
}

#[derive(Debug)]
struct Entry {
    secret: i32,
    running: Running,
    end: CancellationToken,
}

/// The statement a connection runs at the moment, if it does.
type Running = Arc<Mutex<Option<CancellationToken>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // nothing panics while a lock of this module is held, and what it guards is valid at every step
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backends {
    /// Registers a connection, which ends with `kill` at the latest; it is forgotten when the ticket is dropped.
    pub(crate) fn register(self: &Arc<Self>, kill: &CancellationToken) -> Ticket {
        let mut table = lock(&self.0);
        let pid = loop {
            table.last = table.last.wrapping_add(1).max(1);
            if !table.entries.contains_key(&table.last) {
                break table.last;
            }
        };
        let secret = rand::random();
        let (running, end) = (Running::default(), kill.child_token());
        table.entries.insert(pid, Entry { secret, running: Arc::clone(&running), end: end.clone() });
        Ticket { backends: Arc::clone(self), pid, secret, end, running }
    }

    /// Cancels what the connection runs, if the secret is right.
    pub(crate) fn cancel(&self, pid: i32, secret: i32) {
        if lock(&self.0).entries.get(&pid).is_some_and(|entry| entry.secret == secret) {
            self.interrupt(pid);
        }
    }

    /// Cancels what the connection runs. False where there is no such connection.
    pub(crate) fn interrupt(&self, pid: i32) -> bool {
        let Some(running) = lock(&self.0).entries.get(&pid).map(|entry| Arc::clone(&entry.running)) else { return false };
        if let Some(token) = lock(&running).as_ref() {
            token.cancel();
        }
        true
    }

    /// Ends a connection. False where there is no such one.
    pub(crate) fn terminate(&self, pid: i32) -> bool {
        let end = lock(&self.0).entries.get(&pid).map(|entry| entry.end.clone());
        end.inspect(CancellationToken::cancel).is_some()
    }
}

/// A connection's entry among the [`Backends`].
#[derive(Debug)]
pub(crate) struct Ticket {
    backends: Arc<Backends>,
    pub(crate) pid: i32,
    pub(crate) secret: i32,
    /// Ends the connection.
    pub(crate) end: CancellationToken,
    running: Running,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.backends.0).entries.remove(&self.pid);
    }
}

/// When the connection or the server ends.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// The client has closed its side or is lost.
    pub(crate) gone: CancellationToken,
    /// The connection is ended, or the server, without waiting for statements.
    pub(crate) kill: CancellationToken,
}

/// Watches over one statement from its start to its end.
#[derive(Debug)]
pub(crate) struct Guard {
    cancel: CancellationToken,
    deadline: Option<Instant>,
    ends: Ends,
    running: Running,
}

impl Guard {
    pub(crate) fn start(ticket: &Ticket, ends: &Ends, timeout: Option<Duration>) -> Self {
        let cancel = CancellationToken::new();
        *lock(&ticket.running) = Some(cancel.clone());
        Self { cancel, deadline: timeout.map(|t| Instant::now() + t), ends: ends.clone(), running: Arc::clone(&ticket.running) }
    }

    /// Runs a step of the statement. It is dropped at its next await when something stops the statement, and a panic in it is an error.
    pub(crate) async fn run<T>(&self, step: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
        let late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(SqlError::new(SqlState::QueryCanceled, "canceling statement due to user request")),
            () = self.ends.gone.cancelled() => Err(SqlError::fatal(SqlState::ConnectionFailure, "connection to client lost")),
            () = self.ends.kill.cancelled() => Err(SqlError::fatal(SqlState::AdminShutdown, "terminating connection due to administrator command")),
            () = late => Err(SqlError::new(SqlState::QueryCanceled, "canceling statement due to statement timeout")),
            result = AssertUnwindSafe(step).catch_unwind() => result.unwrap_or_else(|panic| Err(internal(&panic_text(panic.as_ref())))),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        *lock(&self.running) = None;
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a function panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(timeout: Option<Duration>) -> Guard {
        let ends = Ends { gone: CancellationToken::new(), kill: CancellationToken::new() };
        Guard::start(&Arc::<Backends>::default().register(&ends.kill), &ends, timeout)
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_statement_with_an_identifier() {
        let error = guard(None).run::<()>(async { panic!("seventeen") }).await.expect_err("it panicked");
        assert_eq!(error.state, SqlState::InternalError);
        assert!(error.message.starts_with("internal error ") && error.message.contains("seventeen"), "{}", error.message);
    }

    #[tokio::test]
    async fn a_statement_ends_at_its_deadline_and_when_its_client_is_gone() {
        let error = guard(Some(Duration::from_millis(1))).run::<()>(std::future::pending()).await.expect_err("too late");
        assert_eq!(error.state, SqlState::QueryCanceled);
        let ends = Ends { gone: CancellationToken::new(), kill: CancellationToken::new() };
        let guard = Guard::start(&Arc::<Backends>::default().register(&ends.kill), &ends, None);
        ends.gone.cancel();
        let error = guard.run::<()>(std::future::pending()).await.expect_err("nobody waits");
        assert_eq!(error.state, SqlState::ConnectionFailure);
    }

    #[tokio::test]
    async fn only_the_right_secret_cancels() {
        let backends = Arc::<Backends>::default();
        let ends = Ends { gone: CancellationToken::new(), kill: CancellationToken::new() };
        let ticket = backends.register(&ends.kill);
        let guard = Guard::start(&ticket, &ends, None);
        backends.cancel(ticket.pid, ticket.secret.wrapping_add(1));
        assert_eq!(guard.run(async { Ok(1) }).await.expect("still running"), 1);
        backends.cancel(ticket.pid, ticket.secret);
        assert_eq!(guard.run(async { Ok(1) }).await.expect_err("canceled").state, SqlState::QueryCanceled);
    }
}
