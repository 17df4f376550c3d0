//! Changes that only their session sees until they are committed, and its temporary tables, which nobody else ever sees.

mod work;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::execution::SendableRecordBatchStream;

use super::manifest::Comments;
use super::relation::{Folder, StoredView, Table};
use super::schema::WritableSchema;
use super::{Error, Id, IfExists, Relation, Result, SCHEMA, Store, TEMPORARY, check_name, durable, internal, types, writer};
use work::Work;
pub(super) use work::{Change, Changes};

/// What a name is expected to stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A table.
    Table,
    /// A view.
    View,
    /// A table or a view.
    Any,
}

/// The writable schemas as one session sees them: what is committed, its own changes, and its temporary tables.
#[derive(Debug)]
pub struct Draft {
    store: Arc<Store>,
    work: Mutex<Work>,
}

/// A state that a draft can go back to.
#[derive(Debug, Clone)]
pub struct Saved(Changes);

impl Draft {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, work: Mutex::default() }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        // nothing panics while it is held
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.seen = None;
        work
    }

    /// The same, to change something of what is committed now.
    fn change(&self) -> MutexGuard<'_, Work> {
        let mut work = self.work();
        work.seen = Some(self.store.relations());
        work
    }

    fn relation(&self, id: &Id) -> Option<Relation> {
        self.work().relation(&self.store, id)
    }

    /// Reads from here on what is committed now, until the transaction ends.
    pub fn pin(&self) {
        let committed = self.store.relations();
        self.work().snapshot.get_or_insert(committed);
    }

    /// The names of the writable schemas, that of temporary tables where there are any.
    #[must_use]
    pub fn schemas(&self) -> Vec<String> {
        let all = self.work().all(&self.store);
        let mut names: Vec<String> = all.keys().filter(|id| id.is_schema() || id.is_temporary()).map(|id| id.schema.clone()).collect();
        names.push(SCHEMA.to_owned());
        names.sort();
        names.dedup();
        names
    }

    /// A writable schema for the catalog; none where there is none of that name.
    #[must_use]
    pub fn schema(self: &Arc<Self>, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let there = name == SCHEMA || name == TEMPORARY || self.contains(&Id::schema(name));
        there.then(|| Arc::new(WritableSchema { name: name.to_owned(), draft: Arc::clone(self) }) as _)
    }

    /// The names of the relations of a schema.
    #[must_use]
    pub fn names(&self, schema: &str) -> Vec<String> {
        let all = self.work().all(&self.store);
        all.into_keys().filter(|id| id.schema == schema && !id.is_schema()).map(|id| id.name).collect()
    }

    /// Whether a table or view is there.
    #[must_use]
    pub fn contains(&self, id: &Id) -> bool {
        self.relation(id).is_some()
    }

    /// Whether a relation is a view; none where there is none.
    #[must_use]
    pub fn is_view(&self, id: &Id) -> Option<bool> {
        self.relation(id).map(|relation| relation.is_view())
    }

    /// Places and texts of all views.
    #[must_use]
    pub fn views(&self) -> Vec<(Id, String)> {
        let view = |(id, relation): (Id, Relation)| match relation {
            Relation::View(view) => Some((id, view.sql.clone())),
            _ => None,
        };
        let all = self.work().all(&self.store);
        all.into_iter().filter_map(view).collect()
    }

    /// The name of a column, by its place from 0.
    #[must_use]
    pub fn column(&self, id: &Id, at: usize) -> Option<String> {
        let schema = match self.relation(id)? {
            Relation::Table(table) => Arc::clone(&table.schema),
            Relation::View(view) => Arc::clone(&view.schema),
            Relation::Schema(_) | Relation::Broken { .. } => return None,
        };
        schema.fields().get(at).map(|field| field.name().clone())
    }

    /// What users said a relation is for.
    #[must_use]
    pub fn comments(&self, id: &Id) -> Comments {
        match self.relation(id) {
            Some(Relation::Table(table)) => table.comments.clone(),
            Some(Relation::View(view)) => view.comments.clone(),
            _ => Comments::default(),
        }
    }

    pub(super) async fn provider(&self, id: &Id) -> Option<Arc<dyn TableProvider>> {
        let relation = self.relation(id)?;
        self.store.provider(relation).await
    }

    fn table(&self, id: &Id) -> Result<Arc<Table>> {
        table_of(self.relation(id), id)
    }

    /// The columns of a table.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`], [`Error::NotATable`] for a view, and what is wrong with a broken table.
    pub fn columns(&self, id: &Id) -> Result<SchemaRef> {
        self.table(id).map(|table| Arc::clone(&table.schema))
    }

    /// Whether to go on creating a relation: `false` when it is to be left as it is.
    fn may_create(found: Option<&Relation>, id: &Id, view: bool, if_exists: IfExists) -> Result<bool> {
        let name = || id.name.clone();
        match (found, if_exists) {
            (None, _) => Ok(true),
            (Some(_), IfExists::Keep) => Ok(false),
            (Some(_), IfExists::Fail) => Err(Error::Exists { name: name() }),
            (Some(old), IfExists::Replace) if old.is_view() == view => Ok(true),
            (Some(_), IfExists::Replace) if view => Err(Error::NotAView { name: name() }),
            (Some(_), IfExists::Replace) => Err(Error::NotATable { name: name() }),
        }
    }

    /// Creates a table from the rows of a query and returns their number; `None` when the name was taken and
    /// [`IfExists::Keep`] was asked for.
    ///
    /// The table appears at once and complete. Text of any Arrow layout is stored as text, a column without a type
    /// (`SELECT NULL`) as text too. When the call fails or its future is dropped, nothing remains.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotATable`] (replacing a view), errors about names, columns and space, and
    /// [`Error::Query`] when the rows themselves fail.
    pub async fn create_table(
        &self,
        id: &Id,
        schema: &SchemaRef,
        rows: SendableRecordBatchStream,
        if_exists: IfExists,
    ) -> Result<Option<u64>> {
        check_name(&id.name)?;
        let schema = types::storable(&id.name, schema)?;
        let transaction = self.work().transaction;
        // Before the query runs; decided again when it has.
        if !Self::may_create(self.relation(id).as_ref(), id, false, if_exists)? {
            return Ok(None);
        }
        let path = self.store.new_folder(&id.name);
        let (made, store) = (path.clone(), Arc::clone(&self.store));
        let make = move || durable::create_folder(&made).map_err(|error| Error::io(store.state(), &made, &error));
        tokio::task::spawn_blocking(make).await.map_err(|error| internal(&error))??;
        let folder = Arc::new(Folder { path });
        let written = writer::write(self.store.target(&folder, Arc::clone(&schema)), rows).await?;
        let (rows, files) = (written.rows(), written.parts().collect());
        let (comments, parquet) = (Comments::default(), tokio::sync::OnceCell::new());
        let table = Table { id: id.clone(), schema, comments, files, parquet, folder };
        let mut work = self.change();
        work.of(transaction, id)?;
        if !Self::may_create(work.relation(&self.store, id).as_ref(), id, false, if_exists)? {
            return Ok(None);
        }
        work.put(&self.store, id, Some(Relation::Table(Arc::new(table))), false);
        work.claims.push(written.claim);
        Ok(Some(rows))
    }

    /// Appends the rows of a query to a table and returns their number. Columns go by position and are cast to the table's.
    ///
    /// The rows appear at once and complete. When the call fails or its future is dropped, none do.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`], [`Error::NotATable`], [`Error::ColumnCount`], [`Error::BadValue`], errors about space, and
    /// [`Error::Query`] when the rows themselves fail.
    pub async fn insert(&self, id: &Id, rows: SendableRecordBatchStream) -> Result<u64> {
        let transaction = self.work().transaction;
        let table = self.table(id)?;
        let (expected, found) = (table.schema.fields().len(), rows.schema().fields().len());
        if expected != found {
            return Err(Error::ColumnCount { name: id.name.clone(), expected, found });
        }
        let written = writer::write(self.store.target(&table.folder, Arc::clone(&table.schema)), rows).await?;
        let rows = written.rows();
        if written.files.is_empty() {
            return Ok(rows);
        }
        let mut work = self.change();
        work.of(transaction, id)?;
        let now = table_of(work.relation(&self.store, id), id)?;
        if !Arc::ptr_eq(&now.folder, &table.folder) {
            return Err(Error::Replaced { name: id.name.clone() });
        }
        let table = now.with_files(now.files.iter().cloned().chain(written.parts()).collect());
        work.put(&self.store, id, Some(Relation::Table(Arc::new(table))), true);
        work.claims.push(written.claim);
        Ok(rows)
    }

    /// The rows of a table that is about to be rewritten. From here on the draft sees it as it is now.
    ///
    /// # Errors
    /// As [`columns`](Self::columns).
    pub fn hold(&self, id: &Id) -> Result<u64> {
        let mut work = self.change();
        let table = table_of(work.relation(&self.store, id), id)?;
        let rows = table.rows();
        work.put(&self.store, id, Some(Relation::Table(table)), true);
        Ok(rows)
    }

    /// Puts rows with these columns in the place of all that a table has, and returns their number. Its comments stay.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), and errors about columns.
    pub async fn rewrite(&self, id: &Id, schema: &SchemaRef, rows: SendableRecordBatchStream) -> Result<u64> {
        let transaction = self.work().transaction;
        let table = self.table(id)?;
        let schema = types::storable(&id.name, schema)?;
        let written = writer::write(self.store.target(&table.folder, Arc::clone(&schema)), rows).await?;
        let rows = written.rows();
        let table = Table { schema, ..table.with_files(written.parts().collect()) };
        let mut work = self.change();
        work.of(transaction, id)?;
        work.put(&self.store, id, Some(Relation::Table(Arc::new(table))), false);
        work.claims.push(written.claim);
        Ok(rows)
    }

    /// Removes all rows of a table.
    ///
    /// # Errors
    /// As [`columns`](Self::columns).
    pub fn truncate(&self, id: &Id) -> Result<()> {
        let mut work = self.change();
        let table = table_of(work.relation(&self.store, id), id)?;
        work.put(&self.store, id, Some(Relation::Table(Arc::new(table.with_files(Vec::new())))), false);
        Ok(())
    }

    /// Creates a view: its text, and the columns that the text has now. Returns `false` when the name was taken and
    /// [`IfExists::Keep`] was asked for.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotAView`] (replacing a table), errors about names and columns.
    pub fn create_view(&self, id: &Id, sql: &str, schema: &SchemaRef, if_exists: IfExists) -> Result<bool> {
        check_name(&id.name)?;
        let schema = types::displayable(schema)?;
        let mut work = self.change();
        let old = work.relation(&self.store, id);
        if !Self::may_create(old.as_ref(), id, true, if_exists)? {
            return Ok(false);
        }
        // a view that is replaced keeps its folder and what was said of it
        let (folder, comments) = match old {
            Some(Relation::View(old)) => (Arc::clone(&old.folder), old.comments.clone()),
            _ => (Arc::new(Folder { path: self.store.new_folder(&id.name) }), Comments::default()),
        };
        let view = StoredView { id: id.clone(), sql: sql.to_owned(), schema, comments, folder };
        work.put(&self.store, id, Some(Relation::View(Arc::new(view))), false);
        Ok(true)
    }

    /// Removes a table or view. Statements that read it finish undisturbed.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`], [`Error::NoSuchView`], and [`Error::NotATable`] or [`Error::NotAView`] for the other.
    pub fn drop_relation(&self, kind: Kind, id: &Id) -> Result<()> {
        let mut work = self.change();
        expect(kind, work.relation(&self.store, id), id)?;
        work.put(&self.store, id, None, false);
        Ok(())
    }

    /// Gives a table or view another name in its schema.
    ///
    /// # Errors
    /// As [`drop_relation`](Self::drop_relation), [`Error::Exists`], and errors about names.
    pub fn rename(&self, kind: Kind, id: &Id, name: &str) -> Result<()> {
        check_name(name)?;
        let to = Id::new(id.schema.as_str(), name);
        let mut work = self.change();
        let relation = match expect(kind, work.relation(&self.store, id), id)? {
            Relation::Table(table) => Relation::Table(Arc::new(Table { id: to.clone(), ..Table::clone(&table) })),
            Relation::View(view) => Relation::View(Arc::new(StoredView { id: to.clone(), ..StoredView::clone(&view) })),
            Relation::Schema(_) => return Err(Error::NoSuchTable { name: id.name.clone() }),
            Relation::Broken { error, .. } => return Err(error.into()),
        };
        if work.relation(&self.store, &to).is_some() {
            return Err(Error::Exists { name: to.name });
        }
        work.put(&self.store, id, None, false);
        work.put(&self.store, &to, Some(relation), false);
        Ok(())
    }

    /// Says what a relation and its columns are for.
    ///
    /// # Errors
    /// As [`drop_relation`](Self::drop_relation).
    pub fn comment(&self, kind: Kind, id: &Id, comments: Comments) -> Result<()> {
        let mut work = self.change();
        let relation = match expect(kind, work.relation(&self.store, id), id)? {
            Relation::Table(table) => Relation::Table(Arc::new(Table { comments, ..Table::clone(&table) })),
            Relation::View(view) => Relation::View(Arc::new(StoredView { comments, ..StoredView::clone(&view) })),
            other => other,
        };
        work.put(&self.store, id, Some(relation), false);
        Ok(())
    }

    /// Creates a schema.
    ///
    /// # Errors
    /// [`Error::SchemaExists`], and errors about names.
    pub fn create_schema(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let id = Id::schema(name);
        let mut work = self.change();
        if name == SCHEMA || work.relation(&self.store, &id).is_some() {
            return Err(Error::SchemaExists { name: name.to_owned() });
        }
        let folder = Arc::new(Folder { path: self.store.new_folder(name) });
        work.put(&self.store, &id, Some(Relation::Schema(folder)), false);
        Ok(())
    }

    /// Removes a schema, with `cascade` also what is in it.
    ///
    /// # Errors
    /// [`Error::NoSuchSchema`], [`Error::SchemaInUse`].
    pub fn drop_schema(&self, name: &str, cascade: bool) -> Result<()> {
        let id = Id::schema(name);
        let mut work = self.change();
        if work.relation(&self.store, &id).is_none() {
            return Err(Error::NoSuchSchema { name: name.to_owned() });
        }
        let inside: Vec<Id> = work.all(&self.store).into_keys().filter(|id| id.schema == name && !id.is_schema()).collect();
        if !cascade && !inside.is_empty() {
            return Err(Error::SchemaInUse { name: name.to_owned() });
        }
        inside.iter().chain([&id]).for_each(|id| work.put(&self.store, id, None, false));
        Ok(())
    }

    /// The state to which [`restore`](Self::restore) goes back.
    #[must_use]
    pub fn save(&self) -> Saved {
        Saved(self.work().changes.clone())
    }

    /// Goes back to a state of this transaction.
    pub fn restore(&self, saved: &Saved) {
        let old = std::mem::replace(&mut self.work().changes, saved.0.clone());
        // deletes files, which need not hold up anyone
        drop(old);
    }

    /// Forgets all changes since the last commit.
    pub fn rollback(&self) {
        let mut work = self.work();
        let old = (std::mem::take(&mut work.changes), std::mem::take(&mut work.claims));
        work.snapshot = None;
        work.transaction += 1;
        drop(work);
        drop(old);
    }

    /// Makes the changes visible to everyone and durable, all of them or, when it fails, none.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::Replaced`] or [`Error::Exists`] when others have changed the same meanwhile, [`Error::Io`].
    pub async fn commit(&self) -> Result<()> {
        let (changes, claims) = {
            let mut work = self.work();
            work.snapshot = None;
            work.transaction += 1;
            let changes = std::mem::take(&mut work.changes);
            (changes, std::mem::take(&mut work.claims))
        };
        let changes = changes.into_iter().filter(|(_, change)| !change.is_none());
        let (temporary, changes): (Changes, Changes) = changes.partition(|(id, _)| id.is_temporary());
        let added: Vec<Id> = changes.iter().filter(|(_, change)| change.appends).map(|(id, _)| id.clone()).collect();
        if !changes.is_empty() {
            let store = Arc::clone(&self.store);
            let commit = move || store.commit(changes);
            tokio::task::spawn_blocking(commit).await.map_err(|error| internal(&error))??;
        }
        for (id, change) in temporary {
            let mut work = self.work();
            match change.now {
                Some(relation) => work.temporary.insert(id, relation),
                None => work.temporary.remove(&id),
            };
        }
        drop(claims);
        for id in added {
            if let Err(error) = self.store.compact(&id).await {
                // The rows are in; the table is only in more pieces than it should be.
                tracing::warn!(table = id.name, %error, "small files could not be merged");
            }
        }
        Ok(())
    }

    /// Forgets the temporary tables.
    pub fn discard_temporary(&self) {
        let mut work = self.work();
        let old = std::mem::take(&mut work.temporary);
        work.changes.retain(|id, _| !id.is_temporary());
        drop(work);
        drop(old);
    }
}

fn table_of(relation: Option<Relation>, id: &Id) -> Result<Arc<Table>> {
    match expect(Kind::Table, relation, id)? {
        Relation::Table(table) => Ok(table),
        Relation::Broken { error, .. } => Err(error.into()),
        Relation::View(_) | Relation::Schema(_) => Err(Error::NotATable { name: id.name.clone() }),
    }
}

/// The relation, if it is what it should be. What is broken may be either.
fn expect(kind: Kind, relation: Option<Relation>, id: &Id) -> Result<Relation> {
    let name = || id.name.clone();
    match (kind, relation) {
        (Kind::View, None) => Err(Error::NoSuchView { name: name() }),
        (_, None) => Err(Error::NoSuchTable { name: name() }),
        (Kind::Table, Some(Relation::View(_))) => Err(Error::NotATable { name: name() }),
        (Kind::View, Some(Relation::Table(_) | Relation::Broken { .. })) => Err(Error::NotAView { name: name() }),
        (_, Some(relation)) => Ok(relation),
    }
}
