//! The relations of `pg_catalog` that show a session to itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::Result;

use crate::settings::Settings;
use crate::sqlstate::SqlError;
use crate::system::{self, Post};

/// What a session has, as its catalog shows it.
#[derive(Debug)]
pub(crate) struct Own {
    user: String,
    settings: Mutex<Chosen>,
    cursors: Mutex<Vec<OwnCursor>>,
    statements: Mutex<Vec<OwnStatement>>,
    /// What the transaction does once it is committed.
    posts: Mutex<Vec<Post>>,
}

/// The settings as a statement sees them, and those it has asked to be set.
#[derive(Debug)]
struct Chosen {
    settings: Settings,
    asked: Vec<Choice>,
}

/// A call of `set_config`.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) local: bool,
}

/// A named portal.
#[derive(Debug)]
pub(crate) struct OwnCursor {
    pub(crate) name: String,
    pub(crate) statement: String,
    pub(crate) hold: bool,
    pub(crate) binary: bool,
    pub(crate) scroll: bool,
    pub(crate) made: DateTime<Utc>,
}

/// A named prepared statement.
#[derive(Debug)]
pub(crate) struct OwnStatement {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) made: DateTime<Utc>,
    /// The types of its parameters.
    pub(crate) parameters: String,
}

// there is one of each session
impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
impl Eq for Own {}
impl std::hash::Hash for Own {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::hash(self, state);
    }
}

impl Own {
    pub(crate) fn new(user: &str, settings: &Settings) -> Self {
        let settings = Mutex::new(Chosen { settings: settings.clone(), asked: Vec::new() });
        Self { user: user.to_owned(), settings, cursors: Mutex::default(), statements: Mutex::default(), posts: Mutex::default() }
    }

    /// Who asks.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    fn chosen(&self) -> MutexGuard<'_, Chosen> {
        // nothing panics while it is held
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings are these now, whatever a statement has asked for.
    pub(crate) fn follow(&self, settings: &Settings) {
        *self.chosen() = Chosen { settings: settings.clone(), asked: Vec::new() };
    }

    /// The value of a setting as SHOW prints it.
    pub(crate) fn show(&self, name: &str) -> Result<String, SqlError> {
        self.chosen().settings.show(name).map(|(_, value)| value)
    }

    /// Asks for a setting to be set when the statement has ended, and gives the value that it will have.
    pub(crate) fn ask(&self, choice: Choice) -> Result<String, SqlError> {
        let mut chosen = self.chosen();
        match &choice.value {
            Some(value) => chosen.settings.set(&choice.name, value)?,
            None => chosen.settings.reset(&choice.name)?,
        };
        let (_, value) = chosen.settings.show(&choice.name)?;
        chosen.asked.push(choice);
        Ok(value)
    }

    /// What the statement has asked to be set.
    pub(crate) fn asked(&self) -> Vec<Choice> {
        std::mem::take(&mut self.chosen().asked)
    }

    /// How long a lock may be waited for.
    pub(crate) fn lock_timeout(&self) -> Option<Duration> {
        self.chosen().settings.lock_timeout()
    }

    /// Does something once the transaction is committed.
    pub(crate) fn post(&self, post: Post) {
        self.posts().push(post);
    }

    pub(crate) fn posts(&self) -> MutexGuard<'_, Vec<Post>> {
        // nothing panics while it is held
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a cursor.
    pub(crate) fn opened(&self, cursor: OwnCursor) {
        self.cursors().push(cursor);
    }

    /// Lists the cursors no more of which this holds.
    pub(crate) fn closed(&self, which: impl Fn(&OwnCursor) -> bool) {
        self.cursors().retain(|cursor| !which(cursor));
    }

    /// Lists a prepared statement.
    pub(crate) fn prepared(&self, statement: OwnStatement) {
        self.statements().push(statement);
    }

    /// Lists the prepared statements no more of which this holds.
    pub(crate) fn forgotten(&self, which: impl Fn(&OwnStatement) -> bool) {
        self.statements().retain(|statement| !which(statement));
    }

    fn statements(&self) -> MutexGuard<'_, Vec<OwnStatement>> {
        // nothing panics while it is held
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relation of that name in `pg_catalog`, as it is now; none where the session has none.
    pub(crate) fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let (schema, columns) = match name {
            "pg_cursors" => self.pg_cursors(),
            "pg_prepared_statements" => self.pg_prepared_statements(),
            "pg_settings" => return self.pg_settings().map(Some),
            "pg_roles" => return system::pg_roles(&self.user).map(Some),
            _ => return Ok(None),
        };
        let schema = Arc::new(schema);
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        Ok(Some(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?)))
    }

    fn pg_settings(&self) -> Result<Arc<dyn TableProvider>> {
        let chosen = self.chosen();
        let settings = chosen.settings.all().into_iter().map(|(name, _, about)| {
            let (built_in, default, data_type, free) = chosen.settings.facts(name)?;
            let value = chosen.settings.raw(name).to_owned();
            let source = if value != default {
                "session"
            } else if default != built_in {
                "client"
            } else {
                "default"
            };
            let context = if free { "user" } else { "internal" };
            Ok(system::Setting { name, value, about, context, data_type, source, built_in, default })
        });
        system::pg_settings(&settings.collect::<std::result::Result<Vec<_>, SqlError>>()?)
    }

    fn pg_cursors(&self) -> (Schema, Vec<ArrayRef>) {
        let cursors = self.cursors();
        let texts = |text: fn(&OwnCursor) -> &str| Arc::new(StringArray::from_iter_values(cursors.iter().map(text))) as ArrayRef;
        let switches =
            |switch: fn(&OwnCursor) -> bool| Arc::new(BooleanArray::from_iter(cursors.iter().map(|c| Some(switch(c))))) as ArrayRef;
        let made = TimestampMicrosecondArray::from_iter_values(cursors.iter().map(|c| c.made.timestamp_micros())).with_timezone("+00:00");
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let schema = Schema::new(vec![
            field("name", DataType::Utf8),
            field("statement", DataType::Utf8),
            field("is_holdable", DataType::Boolean),
            field("is_binary", DataType::Boolean),
            field("is_scrollable", DataType::Boolean),
            field("creation_time", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
        ]);
        let columns = vec![
            texts(|c| &c.name),
            texts(|c| &c.statement),
            switches(|c| c.hold),
            switches(|c| c.binary),
            switches(|c| c.scroll),
            Arc::new(made),
        ];
        (schema, columns)
    }

    fn pg_prepared_statements(&self) -> (Schema, Vec<ArrayRef>) {
        let statements = self.statements();
        let texts = |text: fn(&OwnStatement) -> &str| Arc::new(StringArray::from_iter_values(statements.iter().map(text))) as ArrayRef;
        let made = statements.iter().map(|statement| statement.made.timestamp_micros());
        let made = TimestampMicrosecondArray::from_iter_values(made).with_timezone("+00:00");
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let schema = Schema::new(vec![
            field("name", DataType::Utf8),
            field("statement", DataType::Utf8),
            field("prepare_time", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
            field("parameter_types", DataType::Utf8),
            field("from_sql", DataType::Boolean),
        ]);
        let from_sql = BooleanArray::from(vec![false; statements.len()]);
        (schema, vec![texts(|s| &s.name), texts(|s| &s.text), Arc::new(made), texts(|s| &s.parameters), Arc::new(from_sql)])
    }

    fn cursors(&self) -> MutexGuard<'_, Vec<OwnCursor>> {
        // nothing panics while it is held
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
