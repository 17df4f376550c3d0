//! Cursors: DECLARE, FETCH, MOVE and CLOSE.

use pgwire::api::portal::Format;

use super::Connection;
use super::portal::{Open, Portal, State};
use super::rows::{Cursor, To};
use crate::cancel::Guard;
use crate::encode::Columns;
use crate::session::{Outcome, Prepared, Transaction};
use crate::sqlstate::{SqlError, SqlState, internal};
use crate::statement::{Command, Declared, Fetch, Way};

impl Connection {
    /// Refuses a cursor that would end with its own statement, or whose name is taken.
    pub(super) fn admit_cursor(&self, cursor: &Declared) -> Result<(), SqlError> {
        let alone = matches!(self.session.transaction, Transaction::Idle) && !self.together;
        if alone && !cursor.hold {
            return Err(SqlError::new(SqlState::NoActiveTransaction, "DECLARE CURSOR can only be used in transaction blocks")
                .with_hint("BEGIN first, or declare the cursor WITH HOLD"));
        }
        if self.portals.get(&cursor.name).is_some() {
            return Err(SqlError::new(SqlState::DuplicateCursor, format!("cursor \"{}\" already exists", cursor.name)));
        }
        self.room(self.portals.len(), "portals")
    }

    /// Keeps the rows that a query has begun to make.
    pub(super) fn declare(&mut self, cursor: &Declared, prepared: &Prepared, outcome: Outcome) -> Result<Outcome, SqlError> {
        let Outcome::Rows { schema, rows, tag, counted } = outcome else { return Err(internal("a cursor's query made no rows")) };
        let format = if cursor.binary { Format::UnifiedBinary } else { Format::UnifiedText };
        let columns = Columns::new(&schema, &format, self.session.settings.time_zone())?;
        let memory = cursor.scroll.then(|| self.session.reserve(format!("cursor {}", cursor.name)));
        let open = Open::new(Cursor::new(schema.clone(), rows, memory), columns, tag, counted);
        let statement = Prepared { text: prepared.text.clone(), columns: Some(schema), ..Prepared::default() };
        self.portals.insert(cursor.name.clone(), Portal::declared(statement, cursor.clone(), open))?;
        Ok(Outcome::Done { tag: "DECLARE CURSOR".to_owned() })
    }

    /// Closes a cursor, or all of them.
    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<(), SqlError> {
        match name {
            None => self.portals.clear(),
            Some(name) if !self.portals.remove(name) => return Err(no_such_cursor(name)),
            Some(_) => {}
        }
        Ok(())
    }

    /// Answers FETCH or MOVE, in the wanted format or in that of a binary cursor; with the columns first where `described`.
    ///
    /// FETCH says itself how many rows it wants, so that a limit of the protocol's Execute does not count.
    pub(super) async fn fetch(&mut self, guard: &Guard, fetch: &Fetch, format: &Format, described: bool) -> Result<(), SqlError> {
        let mut portal = self.portals.take(&fetch.name).ok_or_else(|| no_such_cursor(&fetch.name))?;
        let result = self.fetch_from(guard, &mut portal, fetch, format, described).await;
        match result {
            Ok(()) => self.portals.put_back(fetch.name.clone(), portal),
            // its rows can't go on behind an error
            Err(_) => drop(self.portals.remove(&fetch.name)),
        }
        result
    }

    async fn fetch_from(
        &mut self,
        guard: &Guard,
        portal: &mut Portal,
        fetch: &Fetch,
        format: &Format,
        described: bool,
    ) -> Result<(), SqlError> {
        let unfit = || SqlError::new(SqlState::NotInPrerequisiteState, format!("portal \"{}\" cannot be run", fetch.name));
        if let State::Bound = portal.state {
            let statement = std::sync::Arc::clone(&portal.statement);
            if !matches!(statement.command, Some(Command::Query(_))) {
                return Err(unfit());
            }
            let Some(Outcome::Rows { schema, rows, tag, counted }) = self.run(guard, &statement, portal.values.take()).await? else {
                return Err(unfit());
            };
            let columns = Columns::new(&schema, &portal.format, self.session.settings.time_zone())?;
            portal.state = State::Open(Box::new(Open::new(Cursor::new(schema, rows, None), columns, tag, counted)));
        }
        let State::Open(open) = &mut portal.state else { return Err(unfit()) };
        if leads_back(fetch, &open.cursor) && !open.cursor.scrolls() {
            return Err(SqlError::new(SqlState::NotInPrerequisiteState, "cursor can only scan forward")
                .with_hint("declare it with SCROLL option to enable backward scan"));
        }
        let tag = if fetch.moves { "MOVE" } else { "FETCH" };
        let rows = if fetch.moves {
            self.follow(guard, &mut open.cursor, fetch.way, &mut To::Nobody).await?
        } else {
            // a client of the extended protocol says the format itself
            let binary = described && portal.declared.as_ref().is_some_and(|declared| declared.binary);
            let format = if binary { &Format::UnifiedBinary } else { format };
            let columns = Columns::new(&open.cursor.schema, format, self.session.settings.time_zone())?;
            if described {
                self.out.put(&columns.description())?;
            }
            self.follow(guard, &mut open.cursor, fetch.way, &mut To::Client(&columns)).await?
        };
        self.put_notices()?;
        self.complete(format!("{tag} {rows}")).await
    }

    /// Sends the rows that a way leads over, and gives their number. The cursor must be fit for the way.
    async fn follow(&mut self, guard: &Guard, cursor: &mut Cursor, way: Way, to: &mut To<'_>) -> Result<u64, SqlError> {
        match way {
            Way::Forward(Some(0)) | Way::Relative(0) => {
                if cursor.on_row() {
                    self.send_again(cursor, to)?;
                }
                Ok(u64::from(cursor.on_row()))
            }
            Way::Forward(most) => Ok(self.send_rows(guard, cursor, to, most).await?.rows),
            Way::Backward(most) => self.send_rows_back(guard, cursor, to, most).await,
            Way::Absolute(0) => {
                cursor.rewind();
                Ok(0)
            }
            Way::Absolute(row) if row > 0 => {
                if cursor.scrolls() {
                    cursor.rewind();
                }
                let between = (row.unsigned_abs() - 1).saturating_sub(cursor.position());
                self.send_rows(guard, cursor, &mut To::Nobody, Some(between)).await?;
                Ok(self.send_rows(guard, cursor, to, Some(1)).await?.rows)
            }
            Way::Relative(rows) if rows > 0 => {
                self.send_rows(guard, cursor, &mut To::Nobody, Some(rows.unsigned_abs() - 1)).await?;
                Ok(self.send_rows(guard, cursor, to, Some(1)).await?.rows)
            }
            Way::Absolute(rows) | Way::Relative(rows) => {
                if matches!(way, Way::Absolute(_)) {
                    self.send_rows(guard, cursor, &mut To::Nobody, None).await?;
                }
                let between = rows.unsigned_abs() - 1;
                if between > 0 {
                    self.send_rows_back(guard, cursor, &mut To::Nobody, Some(between)).await?;
                }
                self.send_rows_back(guard, cursor, to, Some(1)).await
            }
        }
    }
}

/// Whether a row is wanted that has been passed.
fn leads_back(fetch: &Fetch, cursor: &Cursor) -> bool {
    match fetch.way {
        Way::Forward(Some(0)) | Way::Relative(0) => cursor.on_row() && !fetch.moves,
        Way::Forward(_) => false,
        Way::Backward(_) => true,
        Way::Absolute(0) => !cursor.at_start(),
        Way::Absolute(row) if row > 0 => cursor.past() || row.unsigned_abs() <= cursor.position(),
        Way::Absolute(_) => true,
        Way::Relative(rows) => rows < 0,
    }
}

fn no_such_cursor(name: &str) -> SqlError {
    SqlError::new(SqlState::InvalidCursorName, format!("cursor \"{name}\" does not exist"))
}
