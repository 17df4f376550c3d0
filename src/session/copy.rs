//! COPY as the session does it: the rows of a query, or data on its way into a table.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::Statement;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Kept, Outcome, Session};
use crate::copy::{Format, Piece, Reader};
use crate::sqlstate::{SqlError, SqlState, internal};
use crate::statement::Name;
use crate::store;

/// Messages of the client between the socket and the reading.
const PIECES_AHEAD: usize = 4;

/// Takes data for a table. Dropping it before [`Intake::finish`] leaves the table as it was.
pub(crate) struct Intake {
    pub(crate) columns: usize,
    pub(crate) binary: bool,
    pieces: mpsc::Sender<Piece>,
    task: AbortOnDropHandle<Result<u64, store::Error>>,
}

impl Intake {
    /// Hands a piece on, once there is room. What comes after an error is dropped.
    pub(crate) async fn put(&self, piece: Piece) -> Result<(), SqlError> {
        let _ = self.pieces.send(piece).await;
        Ok(())
    }

    /// Waits until no more is taken.
    pub(crate) async fn closed(&self) {
        self.pieces.closed().await;
    }

    /// Waits until all rows are stored, and gives their number.
    pub(crate) async fn finish(&mut self) -> Result<u64, SqlError> {
        match (&mut self.task).await {
            Ok(result) => result.map_err(SqlError::from),
            Err(error) if error.is_panic() => Err(internal(&crate::cancel::panic_text(error.into_panic().as_ref()))),
            Err(error) => Err(internal(&error.to_string())),
        }
    }
}

impl Session {
    pub(super) async fn copy_to(&mut self, query: &Statement, format: &Format) -> Result<Outcome, SqlError> {
        match self.query(query, &Kept::default(), None, "COPY", true).await? {
            Outcome::Rows { schema, rows, .. } => Ok(Outcome::CopyOut { schema, rows, format: format.clone() }),
            other => Ok(other),
        }
    }

    pub(super) async fn copy_from(&mut self, target: &Name, columns: &[String], format: &Format) -> Result<Outcome, SqlError> {
        let id = self.writable_existing(target).await?;
        let schema = self.draft.columns(&id).map_err(|error| match error {
            store::Error::NotATable { name } => SqlError::new(SqlState::WrongObjectType, format!("cannot copy to view \"{name}\"")),
            other => other.into(),
        })?;
        let reader = Reader::new(id.name.clone(), schema, columns, format, self.settings.time_zone(), self.engine.message_size)?;
        let (columns, binary) = (reader.width(), *format == Format::Binary);
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
        let draft = Arc::clone(&self.draft);
        let task = self.engine.compute.spawn(async move { draft.insert(&id, reader.rows(receiver)).await });
        Ok(Outcome::CopyIn(Intake { columns, binary, pieces, task: AbortOnDropHandle::new(task) }))
    }
}
