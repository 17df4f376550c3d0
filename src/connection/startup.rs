//! The first messages of a connection: encryption offers, cancel requests, the start-up message and the greeting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Connection, Portals, Statements};
use crate::cancel::{Backends, Ends, Ticket};
use crate::protocol::{self, Outbound};
use crate::server::Engine;
use crate::session::Session;
use crate::settings::Settings;
use crate::sqlstate::{SqlError, SqlState};

/// A client has this long from connecting to its start-up message.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest start-up message, as in PostgreSQL.
const LONGEST: usize = 10_000;

const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// What a new connection turned out to want.
pub(crate) enum Start {
    /// A session, with the parameters of the start-up message.
    Session { socket: TcpStream, rest: BytesMut, parameters: HashMap<String, String>, minor: u16 },
    /// Nothing more: a cancel request, a port scan, a broken client.
    Over,
}

/// Reads up to the start-up message. Cancel requests are carried out here.
pub(crate) async fn greet(mut socket: TcpStream, backends: &Backends) -> Start {
    let _ = socket.set_nodelay(true);
    match tokio::time::timeout(PATIENCE, first_message(&mut socket, backends)).await {
        Ok(Ok(Some((rest, parameters, minor)))) => Start::Session { socket, rest, parameters, minor },
        Ok(Ok(None)) | Err(_) => Start::Over,
        Ok(Err(error)) => {
            refuse(socket, error).await;
            Start::Over
        }
    }
}

type First = Option<(BytesMut, HashMap<String, String>, u16)>;

async fn first_message(socket: &mut TcpStream, backends: &Backends) -> Result<First, SqlError> {
    let mut buffer = BytesMut::new();
    loop {
        let Some(mut packet) = packet(socket, &mut buffer).await? else { return Ok(None) };
        match packet.get_i32() {
            SSL_REQUEST | GSS_REQUEST => {
                // what lies behind an encryption request would be read in the clear by whoever injected it
                if !buffer.is_empty() {
                    return Err(SqlError::fatal(SqlState::ProtocolViolation, "received unencrypted data after an encryption request"));
                }
                if socket.write_all(b"N").await.is_err() {
                    return Ok(None);
                }
            }
            CANCEL_REQUEST => {
                if packet.len() == 8 {
                    backends.cancel(packet.get_i32(), packet.get_i32());
                }
                return Ok(None);
            }
            version => {
                let (major, minor) = ((version >> 16) as u16, version as u16);
                if major != 3 {
                    let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0");
                    return Err(SqlError::fatal(SqlState::FeatureNotSupported, message));
                }
                return Ok(Some((buffer, parameters(&packet)?, minor)));
            }
        }
    }
}

/// The body of the next packet without its length; none when the client leaves.
async fn packet(socket: &mut TcpStream, buffer: &mut BytesMut) -> Result<Option<BytesMut>, SqlError> {
    loop {
        if buffer.len() >= 4 {
            let length = i32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
            let Some(length) = usize::try_from(length).ok().filter(|l| (8..=LONGEST).contains(l)) else {
                return Err(SqlError::fatal(SqlState::ProtocolViolation, "invalid length of startup packet"));
            };
            if buffer.len() >= length {
                let mut packet = buffer.split_to(length);
                packet.advance(4);
                return Ok(Some(packet));
            }
        }
        if socket.read_buf(buffer).await.unwrap_or(0) == 0 {
            return Ok(None);
        }
    }
}

/// Pairs of NUL-ended names and values, with one more NUL at the end.
fn parameters(body: &[u8]) -> Result<HashMap<String, String>, SqlError> {
    let malformed = || SqlError::fatal(SqlState::ProtocolViolation, "invalid startup packet layout: expected terminator as last byte");
    let body = body.strip_suffix(&[0]).ok_or_else(malformed)?;
    let mut texts = body.split(|b| *b == 0).map(|t| String::from_utf8_lossy(t).into_owned());
    let mut parameters = HashMap::new();
    while let Some(name) = texts.next().filter(|n| !n.is_empty()) {
        parameters.insert(name, texts.next().ok_or_else(malformed)?);
    }
    Ok(parameters)
}

/// Says why there will be no session, and closes.
pub(crate) async fn refuse(socket: TcpStream, error: SqlError) {
    let (_read, write) = socket.into_split();
    let mut out = Outbound::new(write);
    // there is nothing to tell a client that no message fits
    let _ = out.put_report(&error, "");
    out.close().await;
}

impl Connection {
    /// Opens the session and greets the client.
    pub(crate) fn open(engine: &Arc<Engine>, ticket: Ticket, start: Start, drain: CancellationToken) -> Option<Self> {
        let Start::Session { socket, rest, parameters, minor } = start else { return None };
        let user = parameters.get("user").cloned().unwrap_or_default();
        let (read, write) = socket.into_split();
        let mut out = Outbound::new(write);
        let settings = match check(&parameters, engine.settings.clone()) {
            Ok(settings) => settings,
            Err(error) => {
                let _ = out.put_report(&error, "");
                tokio::spawn(out.close());
                return None;
            }
        };
        let ends = Ends { gone: CancellationToken::new(), kill: ticket.end.clone() };
        let inbox = protocol::listen(read, rest, engine.message_size, ends.gone.clone());
        let (session, notices, messages) = Session::new(Arc::clone(engine), ticket.pid, &user, settings);
        let (statements, portals) = (Statements::new(Arc::clone(&session.own)), Portals::new(Arc::clone(&session.own)));
        let mut connection = Self {
            session,
            inbox,
            out,
            ticket,
            ends,
            drain,
            notices,
            messages,
            statements,
            portals,
            known: HashMap::new(),
            together: false,
            last: false,
            skipping: false,
        };
        let unknown: Vec<String> = parameters.keys().filter(|k| k.starts_with("_pq_.")).cloned().collect();
        match connection.welcome(minor, unknown, &user) {
            Ok(()) => Some(connection),
            Err(error) => {
                tracing::error!(%error, "the greeting could not be made");
                None
            }
        }
    }

    fn welcome(&mut self, minor: u16, unknown: Vec<String>, user: &str) -> Result<(), SqlError> {
        use PgWireBackendMessage as M;
        if minor > 0 || !unknown.is_empty() {
            self.out.put(&M::NegotiateProtocolVersion(NegotiateProtocolVersion::new(0, unknown)))?;
        }
        self.out.put(&M::Authentication(Authentication::Ok))?;
        self.put_settings()?;
        self.out.put(&M::ParameterStatus(ParameterStatus::new("session_authorization".to_owned(), user.to_owned())))?;
        self.out.put(&M::BackendKeyData(BackendKeyData::new(self.ticket.pid, SecretKey::I32(self.ticket.secret))))?;
        self.ready()
    }
}

/// The session's settings from the start-up parameters, or why there is no session.
fn check(parameters: &HashMap<String, String>, mut settings: Settings) -> Result<Settings, SqlError> {
    let fatal = |error: SqlError| SqlError { severity: crate::sqlstate::Severity::Fatal, ..error };
    if parameters.get("user").is_none_or(String::is_empty) {
        return Err(SqlError::fatal(SqlState::InvalidAuthorization, "no PostgreSQL user name specified in startup packet"));
    }
    if parameters.get("replication").is_some_and(|r| !matches!(r.as_str(), "false" | "off" | "no" | "0")) {
        return Err(SqlError::fatal(SqlState::FeatureNotSupported, "replication connections are not supported"));
    }
    for (name, value) in parameters {
        match name.as_str() {
            // any database name is the one database there is
            "user" | "database" | "replication" => {}
            "options" => {
                for (name, value) in options(value) {
                    settings.set_default(&name, &value).map_err(fatal)?;
                }
            }
            name if name.starts_with("_pq_.") => {}
            name => settings.set_default(name, value).map_err(fatal)?,
        }
    }
    Ok(settings)
}

/// `-c name=value --name=value`, with backslashes before blanks inside a value.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            ('\\', Some(word)) => word.extend(characters.next()),
            (c, _) if c.is_whitespace() => words.push(String::new()),
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    let words = words.iter().map(|w| w.strip_prefix("-c").or_else(|| w.strip_prefix("--")).unwrap_or(w));
    words.filter_map(|w| w.split_once('=')).map(|(name, value)| (name.replace('-', "_"), value.to_owned())).collect()
}

/// The error for a client beyond the limit of connections.
pub(crate) fn too_many(limit: usize) -> SqlError {
    SqlError::fatal(SqlState::TooManyConnections, "sorry, too many clients already")
        .with_detail(format!("the server takes {limit} connections (limits.connections)"))
}

/// The error for a client that comes while the server ends.
pub(crate) fn ending() -> SqlError {
    SqlError::fatal(SqlState::AdminShutdown, "the database system is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_up_options_are_settings() {
        assert_eq!(
            options("-c statement_timeout=5s --search-path=a\\ b"),
            [("statement_timeout".to_owned(), "5s".to_owned()), ("search_path".to_owned(), "a b".to_owned())]
        );
    }

    #[test]
    fn a_start_up_message_without_its_end_is_refused() {
        assert!(parameters(b"user\0x").is_err());
        assert_eq!(parameters(b"user\0x\0\0").expect("whole").get("user").map(String::as_str), Some("x"));
    }
}
