//! The extended query protocol: parse, bind, describe, execute, each with its own message.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use pgwire::api::portal::Format;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended, TARGET_TYPE_BYTE_PORTAL,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::EmptyQueryResponse;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::portal::{Open, Portal, State};
use super::rows::{Cursor, To};
use super::{Connection, MOST_KEPT, no_such_statement};
use crate::cancel::Guard;
use crate::encode::Columns;
use crate::session::{Outcome, Prepared, Transaction, wire_type};
use crate::sqlstate::{SqlError, SqlState};
use crate::statement;

impl Connection {
    /// Handles one message. After an error all are skipped until Sync, as the protocol wants it.
    pub(super) async fn extended(&mut self, message: PgWireFrontendMessage) -> Result<(), SqlError> {
        use PgWireFrontendMessage as M;
        if let M::Sync(_) = message {
            return self.sync().await;
        }
        if self.skipping {
            return Ok(());
        }
        let guard = self.guard();
        let mut text = String::new();
        let result = match message {
            M::Parse(parse) => {
                text.clone_from(&parse.query);
                self.parse(&guard, parse).await
            }
            M::Bind(bind) => self.bind(&bind),
            M::Describe(describe) => self.describe(&describe),
            M::Execute(execute) => {
                text = self.portals.get(name(&execute.name)).map(|p| p.statement.text.clone()).unwrap_or_default();
                self.execute(&guard, execute).await
            }
            M::Close(close) => self.close_one(&close),
            M::Flush(_) => guard.run(self.out.flush()).await,
            // left over from a COPY that failed
            M::CopyData(_) | M::CopyDone(_) | M::CopyFail(_) => Ok(()),
            other => Err(SqlError::fatal(SqlState::ProtocolViolation, format!("unexpected message {}", kind(&other)))),
        };
        if let Err(error) = result {
            self.skipping = true;
            self.report(error, &text)?;
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), SqlError> {
        let mut committed = !std::mem::take(&mut self.skipping);
        if committed && let Err(error) = self.session.settle().await {
            committed = false;
            self.report(error, "")?;
        }
        if let Transaction::Idle = self.session.transaction {
            // outside a block, Sync ends the transaction and with it the portals
            self.portals.end_transaction(committed);
        }
        self.put_notices()?;
        self.ready()
    }

    async fn parse(&mut self, guard: &Guard, parse: Parse) -> Result<(), SqlError> {
        let name = parse.name.unwrap_or_default();
        if !name.is_empty() && self.statements.get(&name).is_some() {
            return Err(SqlError::new(SqlState::DuplicateStatement, format!("prepared statement \"{name}\" already exists")));
        }
        self.room(self.statements.len(), "prepared statements")?;
        let mut commands = statement::parse(&parse.query)?;
        if commands.len() > 1 {
            return Err(SqlError::new(SqlState::SyntaxError, "cannot insert multiple commands into a prepared statement"));
        }
        let command = commands.pop();
        self.session.admit(command.as_ref())?;
        let told: Vec<_> = parse.type_oids.iter().map(|oid| wire_type(*oid)).collect();
        let mut prepared = guard.run(self.session.prepare(command, parse.query, &told)).await?;
        prepared.parameters.tell(&parse.type_oids);
        self.statements.insert(name, Arc::new(prepared));
        self.out.put(&PgWireBackendMessage::ParseComplete(ParseComplete::new()))
    }

    fn bind(&mut self, bind: &Bind) -> Result<(), SqlError> {
        let statement = self.statement(name(&bind.statement_name))?;
        let portal = name(&bind.portal_name).to_owned();
        self.room(self.portals.len(), "portals")?;
        let values = statement.parameters.values(bind)?;
        let format = match bind.result_column_format_codes.as_slice() {
            [] => Format::UnifiedText,
            [code] => {
                if *code == 0 {
                    Format::UnifiedText
                } else {
                    Format::UnifiedBinary
                }
            }
            codes => {
                let columns = self.columns(&statement).map_or(0, |c| c.fields().len());
                if codes.len() != columns {
                    let message = format!("bind message has {} result formats but query has {columns} columns", codes.len());
                    return Err(SqlError::new(SqlState::ProtocolViolation, message));
                }
                Format::Individual(codes.to_vec())
            }
        };
        self.portals.insert(portal, Portal::bound(statement, values, format))?;
        self.out.put(&PgWireBackendMessage::BindComplete(BindComplete::new()))
    }

    fn describe(&mut self, describe: &Describe) -> Result<(), SqlError> {
        let target = name(&describe.name);
        let (columns, format) = match describe.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                let statement = self.statement(target)?;
                let oids = statement.parameters.oids();
                self.out.put(&PgWireBackendMessage::ParameterDescription(ParameterDescription::new(oids)))?;
                (self.columns(&statement), Format::UnifiedText)
            }
            TARGET_TYPE_BYTE_PORTAL => {
                let portal = self.portals.get(target).ok_or_else(|| no_such_portal(target))?;
                (self.columns(&portal.statement), portal.format.clone())
            }
            other => return Err(SqlError::new(SqlState::ProtocolViolation, format!("invalid DESCRIBE message subtype {other}"))),
        };
        match columns {
            Some(schema) => {
                let columns = Columns::new(&schema, &format, self.session.settings.time_zone())?;
                self.out.put(&columns.description())
            }
            None => self.out.put(&PgWireBackendMessage::NoData(NoData::new())),
        }
    }

    async fn execute(&mut self, guard: &Guard, execute: Execute) -> Result<(), SqlError> {
        let target = name(&execute.name).to_owned();
        let mut portal = self.portals.take(&target).ok_or_else(|| no_such_portal(&target))?;
        let most = u64::try_from(execute.max_rows).ok().filter(|most| *most > 0);
        let result = self.advance(guard, &mut portal, most).await;
        let ended = portal.statement.command.as_ref().is_some_and(statement::Command::ends_transaction);
        if result.is_ok() && !ended {
            self.portals.put_back(target, portal);
        } else {
            self.portals.remove(&target);
        }
        result
    }

    /// Starts the portal or goes on with it.
    async fn advance(&mut self, guard: &Guard, portal: &mut Portal, most: Option<u64>) -> Result<(), SqlError> {
        let mut open = match std::mem::replace(&mut portal.state, State::Done) {
            State::Open(open) => open,
            State::Bound => match self.run(guard, &portal.statement, portal.values.take()).await? {
                None => return self.out.put(&PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())),
                Some(Outcome::Done { tag }) => {
                    self.put_notices()?;
                    return self.complete(tag).await;
                }
                Some(Outcome::Work { rows, tag }) => {
                    self.finish(guard, rows).await?;
                    return self.complete(tag.to_owned()).await;
                }
                Some(Outcome::CopyOut { schema, rows, format }) => return self.copy_out(guard, schema, rows, format).await,
                Some(Outcome::CopyIn(intake)) => return self.copy_in(guard, intake).await,
                Some(Outcome::Fetch(fetch)) => return self.fetch(guard, &fetch, &portal.format, false).await,
                Some(Outcome::Rows { schema, rows, tag, counted }) => {
                    if let Some(told) = &portal.statement.columns
                        && !same_columns(told, &schema)
                    {
                        return Err(SqlError::new(SqlState::FeatureNotSupported, "cached plan must not change result type")
                            .with_hint("a table or model has changed since the statement was prepared; prepare it again"));
                    }
                    let columns = Columns::new(&schema, &portal.format, self.session.settings.time_zone())?;
                    Box::new(Open::new(Cursor::new(schema, rows, None), columns, tag, counted))
                }
            },
            State::Done => return self.complete("SELECT 0".to_owned()).await,
        };
        let Open { cursor, columns, .. } = open.as_mut();
        let sent = self.send_rows(guard, cursor, &mut To::Client(columns), most).await?;
        if sent.finished {
            let tag = open.tag(sent.rows);
            if portal.declared.is_some() {
                portal.state = State::Open(open);
            }
            return self.complete(tag).await;
        }
        portal.state = State::Open(open);
        self.out.put(&PgWireBackendMessage::PortalSuspended(PortalSuspended::new()))
    }

    /// The columns of a statement's rows: those of its cursor, of FETCH.
    fn columns(&self, statement: &Prepared) -> Option<SchemaRef> {
        match &statement.command {
            Some(statement::Command::Fetch(fetch)) if !fetch.moves => {
                self.portals.get(&fetch.name).and_then(|cursor| cursor.statement.columns.clone())
            }
            _ => statement.columns.clone(),
        }
    }

    fn close_one(&mut self, close: &Close) -> Result<(), SqlError> {
        let target = name(&close.name);
        match close.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                self.statements.remove(target);
            }
            TARGET_TYPE_BYTE_PORTAL => {
                self.portals.remove(target);
            }
            other => return Err(SqlError::new(SqlState::ProtocolViolation, format!("invalid CLOSE message subtype {other}"))),
        }
        self.out.put(&PgWireBackendMessage::CloseComplete(CloseComplete::new()))
    }

    fn statement(&self, name: &str) -> Result<Arc<crate::session::Prepared>, SqlError> {
        self.statements.get(name).ok_or_else(|| no_such_statement(name))
    }

    pub(super) fn room(&self, kept: usize, what: &str) -> Result<(), SqlError> {
        if kept < MOST_KEPT {
            return Ok(());
        }
        Err(SqlError::new(SqlState::LimitExceeded, format!("a connection may keep at most {MOST_KEPT} {what}"))
            .with_hint("close those that are no longer used"))
    }
}

fn name(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or_default()
}

fn no_such_portal(name: &str) -> SqlError {
    SqlError::new(SqlState::InvalidCursorName, format!("portal \"{name}\" does not exist"))
}

/// Whether rows of one schema may be sent to a client that was told the other.
fn same_columns(told: &datafusion::arrow::datatypes::Schema, now: &datafusion::arrow::datatypes::Schema) -> bool {
    let wire = |s: &datafusion::arrow::datatypes::Schema| -> Vec<_> {
        s.fields().iter().map(|f| arrow_pg::datatypes::into_pg_type(f.data_type()).map(|t| t.oid()).unwrap_or_default()).collect()
    };
    wire(told) == wire(now)
}

fn kind(message: &PgWireFrontendMessage) -> &'static str {
    match message {
        PgWireFrontendMessage::PasswordMessageFamily(_) => "Password",
        PgWireFrontendMessage::Startup(_) | PgWireFrontendMessage::CancelRequest(_) | PgWireFrontendMessage::SslNegotiation(_) => "Startup",
        _ => "in the extended protocol",
    }
}
