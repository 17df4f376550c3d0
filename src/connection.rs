//! One client's connection: from the start-up message to the last byte.

mod copy;
mod cursor;
mod extended;
mod portal;
mod rows;
mod simple;
mod startup;
mod statements;

use std::collections::HashMap;
use std::time::Duration;

use pgwire::messages::response::{CommandComplete, NotificationResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use stratagem_udfs::notice::Notice;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cancel::{Ends, Guard, Ticket};
use crate::protocol::{Inbound, Outbound};
use crate::session::{Outcome, Prepared, Session, Transaction};
use crate::sqlstate::{Severity, SqlError, SqlState};
use crate::system::Message;

use portal::Portals;
pub(crate) use startup::{Start, ending, greet, refuse, too_many};
use statements::Statements;

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
    /// Messages of sessions, for the client.
    messages: mpsc::Receiver<Message>,
    statements: Statements,
    portals: Portals,
    /// The settings as the client was told of them.
    known: HashMap<&'static str, String>,
    /// Several statements came in one message and share a transaction.
    together: bool,
    /// The statement at hand is the last of a simple query, whose transaction ends with it.
    last: bool,
    /// After an error in the extended protocol, until Sync.
    skipping: bool,
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
        let between = matches!(self.session.transaction, Transaction::Idle);
        loop {
            let heard = tokio::select! {
                biased;
                () = self.ends.kill.cancelled() => return Err(shutting_down()),
                message = self.inbox.recv() => return message.transpose(),
                // a client between its statements is not waited for
                () = self.drain.cancelled(), if between => return Err(shutting_down()),
                Some(heard) = self.messages.recv(), if between => heard,
                () = sleep(idle) => {
                    let message = "terminating connection due to idle-in-transaction timeout";
                    return Err(SqlError::fatal(SqlState::ConnectionFailure, message));
                }
            };
            self.put_message(heard)?;
            self.put_messages()?;
            if self.out.flush().await.is_err() {
                return Ok(None);
            }
        }
    }

    fn guard(&self) -> Guard {
        Guard::start(&self.ticket, &self.ends, self.session.settings.statement_timeout())
    }

    fn ready(&mut self) -> Result<(), SqlError> {
        self.put_settings()?;
        let status = match self.session.transaction {
            Transaction::Idle => TransactionStatus::Idle,
            Transaction::Open(_) => TransactionStatus::Transaction,
            Transaction::Failed(_) => TransactionStatus::Error,
        };
        if let Transaction::Idle = self.session.transaction {
            self.put_messages()?;
        }
        self.session.waits();
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

    async fn complete(&mut self, tag: String) -> Result<(), SqlError> {
        if self.last {
            self.session.settle().await?;
        }
        self.session.choose()?;
        self.out.put(&PgWireBackendMessage::CommandComplete(CommandComplete::new(tag)))
    }

    /// Puts the settings whose values the client does not know yet.
    fn put_settings(&mut self) -> Result<(), SqlError> {
        for (name, value) in self.session.settings.reported() {
            if self.known.get(name).is_some_and(|known| known == value) {
                continue;
            }
            self.out.put(&PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name.to_owned(), value.to_owned())))?;
            self.known.insert(name, value.to_owned());
        }
        Ok(())
    }

    /// Puts the messages of sessions that there are so far.
    fn put_messages(&mut self) -> Result<(), SqlError> {
        while let Ok(message) = self.messages.try_recv() {
            self.put_message(message)?;
        }
        Ok(())
    }

    fn put_message(&mut self, Message { pid, channel, text }: Message) -> Result<(), SqlError> {
        self.out.put(&PgWireBackendMessage::NotificationResponse(NotificationResponse::new(pid, channel, text)))
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
        use crate::statement::{Command, Discarded};
        let Some(command) = &prepared.command else { return Ok(None) };
        self.warn_of_transaction(command)?;
        if let Command::Declare { cursor, .. } = command {
            self.session.admit(Some(command))?;
            self.admit_cursor(cursor)?;
        }
        let mut outcome = match command {
            // is not given up halfway
            Command::Commit => self.session.run(command, prepared, values).await?,
            _ => guard.run(self.session.run(command, prepared, values)).await?,
        };
        match command {
            Command::Declare { cursor, .. } => outcome = self.declare(cursor, prepared, outcome)?,
            Command::Close(name) => self.close_cursor(name.as_deref())?,
            Command::Discard(Discarded::All) => {
                self.statements.clear();
                self.portals.clear();
            }
            Command::Deallocate(None) => self.statements.clear(),
            Command::Deallocate(Some(name)) if !self.statements.remove(name) => return Err(no_such_statement(name)),
            // the end of a failed transaction is a rollback, whatever it is called
            Command::Commit | Command::Rollback => {
                self.portals.end_transaction(matches!(&outcome, Outcome::Done { tag } if tag == "COMMIT"));
            }
            _ => {}
        }
        Ok(Some(outcome))
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
