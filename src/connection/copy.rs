//! COPY over the connection: rows out as the client takes them, data in as the server stores it.

use datafusion::arrow::datatypes::SchemaRef;
use pgwire::messages::copy::CopyInResponse;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::Connection;
use super::rows::{Cursor, To};
use crate::cancel::Guard;
use crate::copy::{Format, Piece, Writer};
use crate::session::{Intake, Rows};
use crate::sqlstate::{SqlError, SqlState};

impl Connection {
    /// COPY TO STDOUT: all rows, then the tag.
    pub(super) async fn copy_out(&mut self, guard: &Guard, schema: SchemaRef, rows: Rows, format: Format) -> Result<(), SqlError> {
        let mut writer = Writer::new(&schema, format, self.session.settings.time_zone())?;
        writer.begin(&mut self.out)?;
        let mut cursor = Cursor::new(schema, rows, None);
        let sent = self.send_rows(guard, &mut cursor, &mut To::Copy(&mut writer), None).await?;
        writer.end(&mut self.out)?;
        self.put_notices()?;
        self.complete(format!("COPY {}", sent.rows)).await
    }

    /// COPY FROM STDIN: what the client sends until it is done. What a failed COPY has not read yet is dropped as it comes.
    pub(super) async fn copy_in(&mut self, guard: &Guard, mut intake: Intake) -> Result<(), SqlError> {
        let code = i8::from(intake.binary);
        let columns = i16::try_from(intake.columns).map_err(|_| SqlError::new(SqlState::ProgramLimitExceeded, "too many columns"))?;
        let formats = vec![i16::from(code); intake.columns];
        self.out.put(&PgWireBackendMessage::CopyInResponse(CopyInResponse::new(code, columns, formats)))?;
        guard.run(self.out.flush()).await?;
        loop {
            let inbox = &mut self.inbox;
            let message = guard
                .run(async {
                    tokio::select! {
                        biased;
                        () = intake.closed() => Ok(None),
                        message = inbox.recv() => message.unwrap_or_else(|| Err(lost())).map(Some),
                    }
                })
                .await?;
            let piece = match message {
                // the work has ended by itself, which only an error does
                None => break,
                Some(PgWireFrontendMessage::CopyData(data)) => Piece::Data(data.data),
                Some(PgWireFrontendMessage::CopyDone(_)) => Piece::End,
                Some(PgWireFrontendMessage::CopyFail(fail)) => {
                    Piece::Failed(SqlError::new(SqlState::QueryCanceled, format!("COPY from stdin failed: {}", fail.message)))
                }
                // clients of the extended protocol may send them ahead
                Some(PgWireFrontendMessage::Flush(_) | PgWireFrontendMessage::Sync(_)) => continue,
                Some(PgWireFrontendMessage::Terminate(_)) => return Err(lost()),
                Some(_) => Piece::Failed(SqlError::new(SqlState::ProtocolViolation, "unexpected message during COPY from stdin")),
            };
            let last = !matches!(piece, Piece::Data(_));
            guard.run(intake.put(piece)).await?;
            if last {
                break;
            }
        }
        let rows = guard.run(intake.finish()).await?;
        self.complete(format!("COPY {rows}")).await
    }
}

fn lost() -> SqlError {
    SqlError::fatal(SqlState::ConnectionFailure, "connection to client lost")
}
