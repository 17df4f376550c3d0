//! One client's connection: from the start-up message to the last byte.

mod extended;
mod simple;
mod startup;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use stratagem_udfs::notice::Notice;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cancel::{Ends, Guard, Ticket};
use crate::encode::Columns;
use crate::protocol::{Inbound, Outbound};
use crate::session::{Outcome, Prepared, Rows, Session, Transaction};
use crate::sqlstate::{Severity, SqlError, SqlState};

pub(crate) use startup::{Start, ending, greet, refuse, too_many};

/// Rows encoded at a time: the connection looks up from its work in between.
const ROWS_AT_ONCE: usize = 512;

/// Prepared statements and portals a client may keep.
const MOST_KEPT: usize = 10_000;

/// A logged-in client.
pub(crate) struct Connection {
    session: Session,
    inbox: mpsc::Receiver<Inbound>,
    out: Outbound,
    ticket: Ticket,
    ends: Ends,
    /// The server takes no new statements.
    drain: CancellationToken,
    notices: mpsc::UnboundedReceiver<Notice>,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    /// After an error in the extended protocol, until Sync.
    skipping: bool,
}

/// A bound statement, running or not.
struct Portal {
    statement: Arc<Prepared>,
    values: Option<datafusion::common::ParamValues>,
    format: pgwire::api::portal::Format,
    state: PortalState,
}

enum PortalState {
    Bound,
    Open(Box<Cursor>),
    Done,
}

/// Rows on their way to the client.
struct Cursor {
    rows: Rows,
    columns: Columns,
    tag: &'static str,
    counted: bool,
    /// The batch at hand and the first of its rows that is not sent.
    batch: Option<(RecordBatch, usize)>,
}

/// How many rows were sent and whether those were the last.
struct Sent {
    rows: u64,
    finished: bool,
}

impl Connection {
    /// Serves the client until it leaves, breaks the protocol or the server ends.
    pub(crate) async fn serve(mut self) {
        loop {
            if self.out.flush().await.is_err() {
                break;
            }
            let message = match self.receive().await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(fatal) => {
                    // the client may be gone; it is told if it is not
                    let _ = self.out.put_report(&fatal, "");
                    break;
                }
            };
            let result = match message {
                PgWireFrontendMessage::Terminate(_) => break,
                PgWireFrontendMessage::Query(query) if !self.skipping => self.simple(&query.query).await,
                message => self.extended(message).await,
            };
            if let Err(fatal) = result {
                let _ = self.out.put_report(&fatal, "");
                break;
            }
        }
        self.out.close().await;
    }

    /// The next message, or none when the client has left.
    async fn receive(&mut self) -> Result<Option<PgWireFrontendMessage>, SqlError> {
        let idle = match self.session.transaction {
            Transaction::Idle => None,
            Transaction::Open(_) | Transaction::Failed(_) => self.session.settings.idle_in_transaction_timeout(),
        };
        tokio::select! {
            biased;
            () = self.ends.kill.cancelled() => Err(shutting_down()),
            message = self.inbox.recv() => message.transpose(),
            // a client between its statements is not waited for
            () = self.drain.cancelled(), if matches!(self.session.transaction, Transaction::Idle) => Err(shutting_down()),
            () = sleep(idle) => {
                Err(SqlError::fatal(SqlState::ConnectionFailure, "terminating connection due to idle-in-transaction timeout"))
            }
        }
    }

    fn guard(&self) -> Guard {
        Guard::start(&self.ticket, &self.ends, self.session.settings.statement_timeout())
    }

    fn ready(&mut self) -> Result<(), SqlError> {
        let status = match self.session.transaction {
            Transaction::Idle => TransactionStatus::Idle,
            Transaction::Open(_) => TransactionStatus::Transaction,
            Transaction::Failed(_) => TransactionStatus::Error,
        };
        self.out.put(&PgWireBackendMessage::ReadyForQuery(ReadyForQuery::new(status)))
    }

    /// Tells the client of an error; a fatal one ends the connection.
    fn report(&mut self, error: SqlError, text: &str) -> Result<(), SqlError> {
        if error.severity == Severity::Fatal {
            return Err(error);
        }
        tracing::debug!(pid = self.ticket.pid, %error, "statement failed");
        self.session.fail();
        self.out.put_report(&error, text)
    }

    fn complete(&mut self, tag: String, reports: Vec<(&'static str, String)>) -> Result<(), SqlError> {
        for (name, value) in reports {
            self.out.put(&PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name.to_owned(), value)))?;
        }
        self.out.put(&PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)))
    }

    /// Puts the notices that there are so far.
    fn put_notices(&mut self) -> Result<(), SqlError> {
        for notice in std::mem::take(&mut self.session.told) {
            self.out.put_report(&notice, "")?;
        }
        while let Ok(notice) = self.notices.try_recv() {
            if let Some(report) = self.session.heard(notice) {
                self.out.put_report(&report, "")?;
            }
        }
        Ok(())
    }

    /// What PostgreSQL warns of when a transaction command meets no or another transaction.
    fn warn_of_transaction(&mut self, command: &crate::statement::Command) -> Result<(), SqlError> {
        use crate::statement::Command;
        let warning = match (command, &self.session.transaction) {
            (Command::Begin { .. }, Transaction::Open(_)) => {
                SqlError::notice(Severity::Warning, SqlState::ActiveTransaction, "there is already a transaction in progress")
            }
            (Command::Commit | Command::Rollback, Transaction::Idle) => {
                SqlError::notice(Severity::Warning, SqlState::NoActiveTransaction, "there is no transaction in progress")
            }
            _ => return Ok(()),
        };
        if self.session.settings.wants(warning.severity) { self.out.put_report(&warning, "") } else { Ok(()) }
    }

    /// Runs a command under a guard and forgets what DISCARD and DEALLOCATE forget.
    async fn run(
        &mut self,
        guard: &Guard,
        prepared: &Prepared,
        values: Option<datafusion::common::ParamValues>,
    ) -> Result<Option<Outcome>, SqlError> {
        use crate::statement::Command;
        let Some(command) = &prepared.command else { return Ok(None) };
        self.warn_of_transaction(command)?;
        let outcome = guard.run(self.session.run(command, prepared, values)).await?;
        match command {
            Command::Discard { all: true } => {
                self.statements.clear();
                self.portals.clear();
            }
            Command::Deallocate(None) => self.statements.clear(),
            Command::Deallocate(Some(name)) if self.statements.remove(name).is_none() => return Err(no_such_statement(name)),
            Command::Commit | Command::Rollback => self.portals.clear(),
            _ => {}
        }
        Ok(Some(outcome))
    }

    /// Sends rows until there are no more or `most` are sent (0 is no limit). What is there is sent before waiting for more.
    async fn send_rows(&mut self, guard: &Guard, cursor: &mut Cursor, most: u64) -> Result<Sent, SqlError> {
        let mut sent = Sent { rows: 0, finished: false };
        loop {
            let Some((batch, from)) = cursor.batch.take() else {
                match self.next_batch(guard, &mut cursor.rows).await? {
                    Some(batch) => cursor.batch = Some((batch, 0)),
                    None => {
                        sent.finished = true;
                        return Ok(sent);
                    }
                }
                continue;
            };
            let room = if most == 0 { ROWS_AT_ONCE } else { usize::try_from(most - sent.rows).unwrap_or(ROWS_AT_ONCE).min(ROWS_AT_ONCE) };
            let to = batch.num_rows().min(from + room);
            cursor.columns.encode(&batch, from, to, &mut self.out)?;
            sent.rows += (to - from) as u64;
            if to < batch.num_rows() {
                cursor.batch = Some((batch, to));
            }
            if self.out.is_full() {
                guard.run(self.out.flush()).await?;
            } else {
                // so that a cancel is seen between rows that never fill a buffer
                guard.run(std::future::ready(Ok(()))).await?;
            }
            if most != 0 && sent.rows >= most {
                return Ok(sent);
            }
        }
    }

    /// Waits for the end of work whose rows nobody sees.
    async fn finish(&mut self, guard: &Guard, mut rows: Rows) -> Result<(), SqlError> {
        while self.next_batch(guard, &mut rows).await?.is_some() {}
        self.put_notices()
    }

    /// The next batch. While it is not there, what is gathered and what functions notice goes to the client.
    async fn next_batch(&mut self, guard: &Guard, rows: &mut Rows) -> Result<Option<RecordBatch>, SqlError> {
        self.put_notices()?;
        if let Some(batch) = rows.ready() {
            return batch.map(Some);
        }
        loop {
            guard.run(self.out.flush()).await?;
            let notices = &mut self.notices;
            let event = guard
                .run(async {
                    tokio::select! {
                        biased;
                        Some(notice) = notices.recv() => Ok(Event::Noticed(notice)),
                        batch = rows.next() => batch.map(Event::Came),
                    }
                })
                .await?;
            match event {
                Event::Came(batch) => return Ok(batch),
                Event::Noticed(notice) => {
                    if let Some(report) = self.session.heard(notice) {
                        self.out.put_report(&report, "")?;
                    }
                }
            }
        }
    }
}

enum Event {
    Noticed(Notice),
    Came(Option<RecordBatch>),
}

impl Cursor {
    fn tag(&self, rows: u64) -> String {
        if self.counted { format!("{} {rows}", self.tag) } else { self.tag.to_owned() }
    }
}

fn shutting_down() -> SqlError {
    SqlError::fatal(SqlState::AdminShutdown, "terminating connection due to administrator command")
}

fn no_such_statement(name: &str) -> SqlError {
    SqlError::new(SqlState::InvalidStatementName, format!("prepared statement \"{name}\" does not exist"))
}

/// Sleeps, or forever where there is no time.
async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
