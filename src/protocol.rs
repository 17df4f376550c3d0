//! Messages of the PostgreSQL frontend/backend protocol, version 3.0, on a socket: frames in, frames out.

use std::panic::AssertUnwindSafe;

use bytes::{Buf, BufMut, BytesMut};
use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::sqlstate::{Severity, SqlError, SqlState, internal};

/// A message of a logged-in client, or why there will be none any more.
pub(crate) type Inbound = Result<PgWireFrontendMessage, SqlError>;

/// Messages read ahead while a statement runs; a client that pipelines more waits.
const READ_AHEAD: usize = 64;

/// Bytes gathered before they are written without being asked to.
const WRITE_AT: usize = 64 * 1024;

/// Reads the client's messages in a task of its own, so that a client that goes away is noticed while a statement runs.
///
/// `start` is what was read behind the start-up message. `gone` fires when the client closes its side.
pub(crate) fn listen(read: OwnedReadHalf, start: BytesMut, largest: usize, gone: CancellationToken) -> mpsc::Receiver<Inbound> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::spawn(async move {
        let mut frames = Frames { read, buffer: start, largest };
        loop {
            match frames.next().await {
                Ok(Some(message)) => {
                    if sender.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    // the connection says why before it closes; only then does the client count as gone
                    sender.closed().await;
                    break;
                }
            }
        }
        gone.cancel();
    });
    receiver
}

struct Frames {
    read: OwnedReadHalf,
    buffer: BytesMut,
    largest: usize,
}

impl Frames {
    /// The next message; none when the client has closed its side.
    async fn next(&mut self) -> Result<Option<PgWireFrontendMessage>, SqlError> {
        loop {
            if let Some(length) = self.frame()? {
                return self.decode(length).map(Some);
            }
            // a reset is an end like any other
            if self.read.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return Ok(None);
            }
        }
    }

    /// The length of the first frame, once it is there in full.
    fn frame(&mut self) -> Result<Option<usize>, SqlError> {
        if self.buffer.len() < 5 {
            return Ok(None);
        }
        let length = i32::from_be_bytes([self.buffer[1], self.buffer[2], self.buffer[3], self.buffer[4]]);
        let Some(length) = usize::try_from(length).ok().filter(|l| *l >= 4) else {
            return Err(SqlError::fatal(SqlState::ProtocolViolation, "invalid message length"));
        };
        if length > self.largest {
            return Err(SqlError::fatal(
                SqlState::ProgramLimitExceeded,
                format!("a message of {length} bytes is larger than the server allows"),
            )
            .with_hint(format!("limits.message_size is {} bytes", self.largest)));
        }
        if self.buffer.len() < length + 1 {
            self.buffer.reserve(length + 1 - self.buffer.len());
            return Ok(None);
        }
        Ok(Some(length + 1))
    }

    fn decode(&mut self, length: usize) -> Result<PgWireFrontendMessage, SqlError> {
        let mut frame = self.buffer.split_to(length);
        let kind = frame[0] as char;
        let mut context = DecodeContext::default();
        context.protocol_version = pgwire::messages::ProtocolVersion::PROTOCOL3_0;
        context.awaiting_frontend_ssl = false;
        context.awaiting_frontend_startup = false;
        // the decoder reads as the lengths inside the frame tell it and may run past the frame's end
        let message = std::panic::catch_unwind(AssertUnwindSafe(|| PgWireFrontendMessage::decode(&mut frame, &context)));
        match message {
            Ok(Ok(Some(message))) if !frame.has_remaining() => Ok(message),
            Ok(Err(pgwire::error::PgWireError::InvalidMessageType(_))) => {
                Err(SqlError::fatal(SqlState::ProtocolViolation, format!("invalid frontend message type {}", kind as u32)))
            }
            _ => {
                Err(SqlError::fatal(SqlState::ProtocolViolation, format!("invalid message format in message '{}'", kind.escape_default())))
            }
        }
    }
}

/// The way to the client: gathers messages and writes them when there are enough or when asked.
#[derive(Debug)]
pub(crate) struct Outbound {
    write: OwnedWriteHalf,
    buffer: BytesMut,
}

impl Outbound {
    pub(crate) fn new(write: OwnedWriteHalf) -> Self {
        Self { write, buffer: BytesMut::with_capacity(WRITE_AT) }
    }

    /// Gathers a message.
    pub(crate) fn put(&mut self, message: &PgWireBackendMessage) -> Result<(), SqlError> {
        let before = self.buffer.len();
        message.encode(&mut self.buffer).map_err(|error| {
            self.buffer.truncate(before);
            match error {
                pgwire::error::PgWireError::MessageTooLarge(limit, size) => SqlError::new(
                    SqlState::ProgramLimitExceeded,
                    format!("an answer of {size} bytes is larger than the protocol's {limit}"),
                ),
                other => internal(&other.to_string()),
            }
        })
    }

    /// Gathers a message whose body is written by `write`.
    pub(crate) fn message(&mut self, kind: u8, write: impl FnOnce(&mut BytesMut) -> Result<(), SqlError>) -> Result<(), SqlError> {
        let start = self.buffer.len();
        self.buffer.put_slice(&[kind, 0, 0, 0, 0]);
        let written = write(&mut self.buffer);
        let size = self.buffer.len() - start - 1;
        let length = i32::try_from(size).map_err(|_| {
            let message = format!("an answer of {size} bytes is larger than the protocol's {}", i32::MAX);
            SqlError::new(SqlState::ProgramLimitExceeded, message)
        });
        match written.and(length) {
            Ok(length) => {
                self.buffer[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
                Ok(())
            }
            Err(error) => {
                self.buffer.truncate(start);
                Err(error)
            }
        }
    }

    /// Gathers an error or a notice about `text`.
    pub(crate) fn put_report(&mut self, report: &SqlError, text: &str) -> Result<(), SqlError> {
        let fields = report.fields(text);
        self.put(&match report.severity {
            Severity::Notice | Severity::Warning => PgWireBackendMessage::NoticeResponse(NoticeResponse::new(fields)),
            Severity::Error | Severity::Fatal => PgWireBackendMessage::ErrorResponse(ErrorResponse::new(fields)),
        })
    }

    /// Whether so much is gathered that it should be written before more is made.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= WRITE_AT
    }

    /// Writes all that is gathered. Dropping the future leaves the rest for the next call: the client never sees half a message.
    pub(crate) async fn flush(&mut self) -> Result<(), SqlError> {
        while self.buffer.has_remaining() {
            let written = self.write.write_buf(&mut self.buffer).await;
            if written.is_ok_and(|n| n > 0) {
                continue;
            }
            return Err(SqlError::fatal(SqlState::ConnectionFailure, "connection to client lost"));
        }
        Ok(())
    }

    /// Writes what is left and closes this side.
    pub(crate) async fn close(mut self) {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), async {
            let _ = self.flush().await;
            let _ = self.write.shutdown().await;
        })
        .await;
    }
}
