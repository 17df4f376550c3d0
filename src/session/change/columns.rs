//! The columns of a table that ALTER TABLE changes.

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{ColumnDef, Ident, Statement};

use super::no_such_column;
use crate::names::quoted;
use crate::sqlstate::{SqlError, SqlState};
use crate::statement::{Alteration, parse_one};
use crate::store::{Comments, Id};

/// The columns of a table on their way to other ones.
pub(super) struct Columns<'a> {
    pub(super) id: &'a Id,
    /// Each with the expression that makes it from the old ones.
    pub(super) all: Vec<(Field, String)>,
    pub(super) comments: Comments,
    pub(super) changed: bool,
}

impl<'a> Columns<'a> {
    pub(super) fn of(id: &'a Id, schema: &SchemaRef, comments: Comments) -> Self {
        let all = schema.fields().iter().map(|field| (field.as_ref().clone(), quoted(field.name()))).collect();
        Self { id, all, comments, changed: false }
    }

    pub(super) fn fields(&self) -> Vec<Field> {
        self.all.iter().map(|(field, _)| field.clone()).collect()
    }

    pub(super) fn query(&self, id: &Id) -> Result<Statement, SqlError> {
        let list: Vec<String> = self.all.iter().map(|(field, value)| format!("{value} AS {}", quoted(field.name()))).collect();
        parse_one(&format!("SELECT {} FROM {}.{}", list.join(", "), quoted(&id.schema), quoted(&id.name)))
    }

    fn find(&self, column: &str) -> Option<usize> {
        self.all.iter().position(|(field, _)| field.name() == column)
    }

    fn taken(&self, column: &str) -> SqlError {
        SqlError::new(SqlState::DuplicateColumn, format!("column \"{column}\" of relation \"{}\" already exists", self.id.name))
    }

    /// Makes one change. Where it is already made and may be, that is said instead.
    pub(super) fn apply(
        &mut self,
        alteration: &Alteration,
        plan: impl Fn(ColumnDef) -> datafusion::common::Result<Schema>,
    ) -> Result<Option<String>, SqlError> {
        match alteration {
            Alteration::Add { column, if_not_exists } => {
                let schema = plan(column.as_ref().clone())?;
                let field = schema.field(0).clone().with_nullable(true);
                if self.find(field.name()).is_some() {
                    let error = self.taken(field.name());
                    return if *if_not_exists { Ok(Some(error.message)) } else { Err(error) };
                }
                self.all.push((field, "NULL".to_owned()));
            }
            Alteration::Drop { column, if_exists } => match self.find(column) {
                Some(at) => {
                    self.all.remove(at);
                    self.comments.columns.remove(column);
                }
                None if *if_exists => return Ok(Some(no_such_column(self.id, column).message)),
                None => return Err(no_such_column(self.id, column)),
            },
            Alteration::Rename { column, to } => {
                let at = self.find(column).ok_or_else(|| no_such_column(self.id, column))?;
                if self.find(to).is_some() {
                    return Err(self.taken(to));
                }
                self.all[at].0 = self.all[at].0.clone().with_name(to);
                if let Some(comment) = self.comments.columns.remove(column) {
                    self.comments.columns.insert(to.clone(), comment);
                }
            }
            Alteration::Retype { column, data_type, using } => {
                let at = self.find(column).ok_or_else(|| no_such_column(self.id, column))?;
                let definition =
                    ColumnDef { name: Ident::with_quote('"', column), data_type: data_type.as_ref().clone(), options: Vec::new() };
                let field = plan(definition)?.field(0).clone().with_nullable(true);
                let value = using.as_ref().map_or_else(|| self.all[at].1.clone(), |using| using.to_string());
                self.all[at] = (field, format!("CAST({value} AS {data_type})"));
            }
        }
        self.changed = true;
        Ok(None)
    }
}
