//! Portals: statements with their values, running or not. Cursors made with DECLARE are portals, too, under the same names.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::ParamValues;
use pgwire::api::portal::Format;

use super::rows::Cursor;
use crate::encode::Columns;
use crate::session::{Own, OwnCursor, Prepared};
use crate::sqlstate::{SqlError, SqlState};
use crate::statement::Declared;

pub(super) struct Portal {
    pub(super) statement: Arc<Prepared>,
    pub(super) values: Option<ParamValues>,
    pub(super) format: Format,
    pub(super) state: State,
    /// Of a cursor made with DECLARE.
    pub(super) declared: Option<Declared>,
    /// Whether the transaction it was made in is still open.
    fresh: bool,
}

pub(super) enum State {
    Bound,
    Open(Box<Open>),
    Done,
}

/// A portal whose rows are being sent.
pub(super) struct Open {
    pub(super) cursor: Cursor,
    pub(super) columns: Columns,
    tag: &'static str,
    counted: bool,
}

impl Open {
    pub(super) fn new(cursor: Cursor, columns: Columns, tag: &'static str, counted: bool) -> Self {
        Self { cursor, columns, tag, counted }
    }

    pub(super) fn tag(&self, rows: u64) -> String {
        if self.counted { format!("{} {rows}", self.tag) } else { self.tag.to_owned() }
    }
}

impl Portal {
    pub(super) fn bound(statement: Arc<Prepared>, values: Option<ParamValues>, format: Format) -> Self {
        Self { statement, values, format, state: State::Bound, declared: None, fresh: true }
    }

    pub(super) fn declared(statement: Prepared, declared: Declared, open: Open) -> Self {
        let format = if declared.binary { Format::UnifiedBinary } else { Format::UnifiedText };
        let (statement, state) = (Arc::new(statement), State::Open(Box::new(open)));
        Self { statement, values: None, format, state, declared: Some(declared), fresh: true }
    }

    fn holds(&self) -> bool {
        self.declared.as_ref().is_some_and(|declared| declared.hold)
    }
}

/// The portals of a connection by name. The named ones are listed in `pg_cursors`.
pub(super) struct Portals {
    portals: HashMap<String, Portal>,
    listed: Arc<Own>,
}

impl Portals {
    pub(super) fn new(listed: Arc<Own>) -> Self {
        Self { portals: HashMap::new(), listed }
    }

    pub(super) fn len(&self) -> usize {
        self.portals.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Portal> {
        self.portals.get(name)
    }

    /// Adds a portal whose name is not taken. The one without a name gives way.
    pub(super) fn insert(&mut self, name: String, portal: Portal) -> Result<(), SqlError> {
        if !name.is_empty() {
            if self.portals.contains_key(&name) {
                return Err(SqlError::new(SqlState::DuplicateCursor, format!("cursor \"{name}\" already exists")));
            }
            let declared = portal.declared.as_ref();
            self.listed.opened(OwnCursor {
                name: name.clone(),
                statement: portal.statement.text.clone(),
                hold: portal.holds(),
                binary: declared.is_some_and(|declared| declared.binary),
                scroll: declared.is_some_and(|declared| declared.scroll),
                made: chrono::Utc::now(),
            });
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    /// Takes a portal out to run it; it stays listed.
    pub(super) fn take(&mut self, name: &str) -> Option<Portal> {
        self.portals.remove(name)
    }

    /// Puts a portal that was taken out back.
    pub(super) fn put_back(&mut self, name: String, portal: Portal) {
        self.portals.insert(name, portal);
    }

    /// Ends a portal, also one that is taken out. False where there was none.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.listed.closed(|cursor| cursor.name == name);
        self.portals.remove(name).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.listed.closed(|_| true);
        self.portals.clear();
    }

    /// Ends the portals that do not outlive the transaction: all but those WITH HOLD, and those too if it made them and is rolled back.
    pub(super) fn end_transaction(&mut self, committed: bool) {
        if self.portals.is_empty() {
            return;
        }
        self.portals.retain(|_, portal| portal.holds() && (committed || !portal.fresh));
        self.portals.values_mut().for_each(|portal| portal.fresh = false);
        let portals = &self.portals;
        self.listed.closed(|cursor| !portals.contains_key(&cursor.name));
    }
}
