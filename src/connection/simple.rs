//! The simple query protocol: a string of statements in, their answers out.

use pgwire::api::portal::Format;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::EmptyQueryResponse;

use super::Connection;
use super::portal::Open;
use super::rows::{Cursor, To};
use crate::cancel::Guard;
use crate::encode::Columns;
use crate::session::{Outcome, Prepared, Transaction};
use crate::sqlstate::SqlError;
use crate::statement::{self, Command};

impl Connection {
    /// Runs the statements of one Query message, one after the other, up to the first that fails.
    pub(super) async fn simple(&mut self, text: &str) -> Result<(), SqlError> {
        // the unnamed statement and portal do not outlive a simple query
        self.statements.remove("");
        self.portals.remove("");
        let guard = self.guard();
        let result = self.statements_of(&guard, text).await;
        (self.together, self.last) = (false, false);
        if let Transaction::Idle = self.session.transaction {
            self.portals.end_transaction(result.is_ok());
        }
        if let Err(error) = result {
            self.report(error, text)?;
        }
        drop(guard);
        self.put_notices()?;
        self.ready()
    }

    async fn statements_of(&mut self, guard: &Guard, text: &str) -> Result<(), SqlError> {
        let commands = statement::parse(text)?;
        if commands.is_empty() {
            return self.out.put(&PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        self.together = commands.len() > 1;
        let count = commands.len();
        for (at, command) in commands.into_iter().enumerate() {
            self.last = at + 1 == count;
            self.one(guard, command, text).await?;
        }
        Ok(())
    }

    /// Runs one of the commands of a text.
    async fn one(&mut self, guard: &Guard, command: Command, text: &str) -> Result<(), SqlError> {
        let prepared = Prepared { command: Some(command), text: text.to_owned(), ..Prepared::default() };
        match self.run(guard, &prepared, None).await? {
            None => Ok(()),
            Some(Outcome::Done { tag }) => {
                self.put_notices()?;
                self.complete(tag).await
            }
            Some(Outcome::Work { rows, tag }) => {
                self.finish(guard, rows).await?;
                self.complete(tag.to_owned()).await
            }
            Some(Outcome::Rows { schema, rows, tag, counted }) => {
                let columns = Columns::new(&schema, &Format::UnifiedText, self.session.settings.time_zone())?;
                self.out.put(&columns.description())?;
                let mut open = Open::new(Cursor::new(schema, rows, None), columns, tag, counted);
                let sent = self.send_rows(guard, &mut open.cursor, &mut To::Client(&open.columns), None).await?;
                self.complete(open.tag(sent.rows)).await
            }
            Some(Outcome::CopyOut { schema, rows, format }) => self.copy_out(guard, schema, rows, format).await,
            Some(Outcome::CopyIn(intake)) => self.copy_in(guard, intake).await,
            Some(Outcome::Fetch(fetch)) => self.fetch(guard, &fetch, &Format::UnifiedText, true).await,
        }
    }
}
