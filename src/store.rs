//! The writable schema: tables and views that users create, kept under the server's state directory.
//!
//! ```text
//! STATE/lock                                    held by the one server that uses the directory
//! STATE/tables/daily_scores-17/manifest.json    name, columns, list of data files
//! STATE/tables/daily_scores-17/18.parquet       rows, never changed once written
//! ```
//!
//! A manifest is replaced as a whole, and it alone says which files belong to a table: a change is there when its manifest is,
//! and before that it is nothing but files that no manifest lists, which the statement removes when it fails and the sweep at
//! the next start when the server died. Readers never wait: each statement reads the files of the manifest it was planned with,
//! and a file that no manifest lists any more is deleted when the last such statement ends.

mod commit;
mod compaction;
pub(crate) mod durable;
mod error;
mod manifest;
mod recovery;
mod relation;
mod space;
mod types;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::TableType;

pub use error::Error;
pub use relation::{StoredTable, StoredView};

use crate::catalog::footer::Footers;
use crate::catalog::load::{read_footers, table_file};
use crate::catalog::{self, BrokenTable, ParquetTable};
use relation::Table;
use space::Space;

/// Name of the writable schema.
pub const SCHEMA: &str = "work";

/// Longest name in bytes, as in PostgreSQL.
pub const NAME_BYTES: usize = 63;

/// A result of the store.
pub type Result<T> = std::result::Result<T, Error>;

/// What to do when the name of a new table or view is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Fail with [`Error::Exists`].
    Fail,
    /// `IF NOT EXISTS`: leave everything as it is.
    Keep,
    /// `OR REPLACE`: put the new one in the old one's place. The two must be of one kind.
    Replace,
}

/// Limits of a store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Bytes that all tables together may take on disk; `None` for what the device holds.
    pub max_bytes: Option<u64>,
}

/// The tables and views of the writable schema.
#[derive(Debug)]
pub struct Store {
    state: PathBuf,
    tables: PathBuf,
    relations: RwLock<BTreeMap<String, Relation>>,
    /// Held while a manifest is written, so that changes have one order on disk and in memory.
    commit: Mutex<()>,
    compacting: tokio::sync::Mutex<()>,
    /// Numbers of folders, files and changes: no two of them share one.
    numbers: Arc<AtomicU64>,
    space: Arc<Space>,
    footers: Arc<Footers>,
    _lock: File,
}

/// What a name stands for.
#[derive(Debug, Clone)]
enum Relation {
    Table(Arc<Table>),
    View(Arc<StoredView>),
    /// Something is there, but its manifest or a data file is not as it was written.
    Broken {
        folder: PathBuf,
        error: catalog::Error,
    },
}

impl Relation {
    fn folder(&self) -> &Path {
        match self {
            Self::Table(table) => &table.folder,
            Self::View(view) => &view.folder,
            Self::Broken { folder, .. } => folder,
        }
    }

    fn is_view(&self) -> bool {
        matches!(self, Self::View(_))
    }
}

impl Store {
    /// Opens the store in the directory `state`, which is created if it is not there, and removes what an earlier server left
    /// unfinished. Blocks.
    ///
    /// # Errors
    /// [`Error::Locked`] when another server has it open, [`Error::Io`] when the directory cannot be used. A damaged table does
    /// not keep the store from opening; its use tells what is wrong.
    pub fn open(state: &Path, limits: Limits) -> Result<Arc<Self>> {
        let io = |error: &std::io::Error| Error::io(Path::new(""), state, error);
        durable::create_folder(state).map_err(|error| io(&error))?;
        let state = state.canonicalize().map_err(|error| io(&error))?;
        let lock = recovery::lock(&state)?;
        let tables = state.join("tables");
        durable::create_folder(&tables).map_err(|error| io(&error))?;
        let found = recovery::recover(&state, &tables)?;
        let store = Self {
            state,
            tables,
            relations: RwLock::new(found.relations),
            commit: Mutex::default(),
            compacting: tokio::sync::Mutex::default(),
            numbers: Arc::new(AtomicU64::new(found.next)),
            space: Space::new(limits.max_bytes),
            footers: Arc::default(),
            _lock: lock,
        };
        store.count();
        Ok(Arc::new(store))
    }

    /// The writable schema for the catalog.
    #[must_use]
    pub fn schema(self: &Arc<Self>) -> Arc<dyn SchemaProvider> {
        Arc::new(WorkSchema { store: Arc::clone(self) })
    }

    /// Whether a table or view of that name exists.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.relation(name).is_some()
    }

    /// The columns of a table.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`], [`Error::NotATable`] for a view, and what is wrong with a broken table.
    pub fn columns(&self, name: &str) -> Result<SchemaRef> {
        self.table(name).map(|table| Arc::clone(&table.schema))
    }

    /// Bytes of all stored tables.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.space.stored()
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
        self: &Arc<Self>,
        name: &str,
        schema: &SchemaRef,
        rows: SendableRecordBatchStream,
        if_exists: IfExists,
    ) -> Result<Option<u64>> {
        check_name(name)?;
        let schema = types::storable(name, schema)?;
        // Before the query runs; decided again when it has.
        if !self.may_create(name, false, if_exists)? {
            return Ok(None);
        }
        let folder = self.new_folder(name);
        let made = folder.clone();
        let (state, written) = (self.state.clone(), tokio::task::spawn_blocking(move || durable::create_folder(&made)));
        written.await.map_err(|error| internal(&error))?.map_err(|error| Error::io(&state, &folder, &error))?;
        let guard = NewFolder { path: folder.clone() };
        let target = self.target(folder.clone(), Arc::clone(&schema));
        let written = writer::write(target, rows).await?;
        let (store, name) = (Arc::clone(self), name.to_owned());
        let commit = move || {
            let _guard = guard;
            store.commit_table(&name, folder, schema, written, if_exists)
        };
        tokio::task::spawn_blocking(commit).await.map_err(|error| internal(&error))?
    }

    /// Appends the rows of a query to a table and returns their number. Columns go by position and are cast to the table's.
    ///
    /// The rows appear at once and complete. When the call fails or its future is dropped, none do.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`], [`Error::NotATable`], [`Error::ColumnCount`], [`Error::BadValue`], errors about space, and
    /// [`Error::Query`] when the rows themselves fail.
    pub async fn insert(self: &Arc<Self>, name: &str, rows: SendableRecordBatchStream) -> Result<u64> {
        let table = self.table(name)?;
        let (expected, found) = (table.schema.fields().len(), rows.schema().fields().len());
        if expected != found {
            return Err(Error::ColumnCount { name: name.to_owned(), expected, found });
        }
        let target = self.target(table.folder.clone(), Arc::clone(&table.schema));
        let written = writer::write(target, rows).await?;
        let (store, planned) = (Arc::clone(self), Arc::clone(&table));
        let commit = move || store.commit_insert(&planned, written);
        let count = tokio::task::spawn_blocking(commit).await.map_err(|error| internal(&error))??;
        if let Err(error) = self.compact(name).await {
            // The rows are in; the table is only in more pieces than it should be.
            tracing::warn!(table = name, %error, "small files could not be merged");
        }
        Ok(count)
    }

    /// Merges the small files of a table when there are many. Readers and writers do not notice.
    async fn compact(self: &Arc<Self>, name: &str) -> Result<()> {
        let Ok(_one) = self.compacting.try_lock() else { return Ok(()) };
        let table = self.table(name)?;
        let old = compaction::candidates(&table);
        if old.is_empty() {
            return Ok(());
        }
        let target = self.target(table.folder.clone(), Arc::clone(&table.schema));
        let written = writer::write(target, compaction::rows(&table.schema, &old)).await?;
        let store = Arc::clone(self);
        let commit = move || store.commit_compaction(&table, &old, &written);
        tokio::task::spawn_blocking(commit).await.map_err(|error| internal(&error))?
    }

    /// Removes a table. Statements that read it finish undisturbed.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`], [`Error::NotATable`] for a view, [`Error::Io`].
    pub async fn drop_table(self: &Arc<Self>, name: &str) -> Result<()> {
        let (store, name) = (Arc::clone(self), name.to_owned());
        let work = move || match store.relation(&name) {
            None => Err(Error::NoSuchTable { name }),
            Some(Relation::View(_)) => Err(Error::NotATable { name }),
            Some(_) => store.drop_relation(&name),
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))?
    }

    /// Creates a view: its text, and the columns that the text has now. Returns `false` when the name was taken and
    /// [`IfExists::Keep`] was asked for.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotAView`] (replacing a table), errors about names and columns, [`Error::Io`].
    pub async fn create_view(self: &Arc<Self>, name: &str, sql: &str, schema: &SchemaRef, if_exists: IfExists) -> Result<bool> {
        check_name(name)?;
        let schema = types::displayable(schema)?;
        let (store, name, sql) = (Arc::clone(self), name.to_owned(), sql.to_owned());
        let work = move || store.commit_view(&name, sql, schema, if_exists);
        tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))?
    }

    /// Removes a view.
    ///
    /// # Errors
    /// [`Error::NoSuchView`], [`Error::NotAView`] for a table, [`Error::Io`].
    pub async fn drop_view(self: &Arc<Self>, name: &str) -> Result<()> {
        let (store, name) = (Arc::clone(self), name.to_owned());
        let work = move || match store.relation(&name) {
            None => Err(Error::NoSuchView { name }),
            Some(relation) if !relation.is_view() => Err(Error::NotAView { name }),
            Some(_) => store.drop_relation(&name),
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))?
    }

    /// Names and texts of all views, by name.
    #[must_use]
    pub fn views(&self) -> Vec<(String, String)> {
        let view = |(name, relation): (&String, &Relation)| match relation {
            Relation::View(view) => Some((name.clone(), view.sql.clone())),
            _ => None,
        };
        self.relations.read().unwrap_or_else(PoisonError::into_inner).iter().filter_map(view).collect()
    }

    fn relation(&self, name: &str) -> Option<Relation> {
        self.relations.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn table(&self, name: &str) -> Result<Arc<Table>> {
        match self.relation(name) {
            None => Err(Error::NoSuchTable { name: name.to_owned() }),
            Some(Relation::View(_)) => Err(Error::NotATable { name: name.to_owned() }),
            Some(Relation::Broken { error, .. }) => Err(error.into()),
            Some(Relation::Table(table)) => Ok(table),
        }
    }

    async fn provider(self: &Arc<Self>, name: &str) -> Option<Arc<dyn TableProvider>> {
        let table = match self.relation(name)? {
            Relation::View(view) => return Some(view),
            Relation::Broken { error, .. } => return Some(Arc::new(BrokenTable::new(error))),
            Relation::Table(table) => table,
        };
        let (state, footers) = (Arc::clone(&table), Arc::clone(&self.footers));
        let load = || async {
            let load = tokio::task::spawn_blocking(move || load(&state, &footers));
            let panicked = |_| Err(catalog::Error::Damaged { path: name.to_owned(), reason: "its metadata cannot be decoded".to_owned() });
            load.await.unwrap_or_else(panicked)
        };
        match table.parquet.get_or_try_init(load).await {
            Ok(parquet) => {
                let (parquet, store) = (Arc::clone(parquet), Arc::downgrade(self));
                Some(Arc::new(StoredTable { name: name.to_owned(), parquet, _state: table, store }))
            }
            Err(error) => {
                tracing::warn!(table = name, %error, "stored table cannot be read");
                Some(Arc::new(BrokenTable::new(error)))
            }
        }
    }
}

fn load(table: &Table, footers: &Arc<Footers>) -> std::result::Result<Arc<ParquetTable>, catalog::Error> {
    let files: Vec<_> = table.files.iter().map(|part| Arc::clone(&part.file)).collect();
    let read = read_footers(&files, footers)?;
    let parts = files.iter().zip(&read).map(|(file, footer)| table_file(file, footer, &table.schema, Vec::new())).collect();
    Ok(Arc::new(ParquetTable::new(parts, Arc::clone(&table.schema), Vec::new(), Arc::clone(footers))))
}

fn check_name(name: &str) -> Result<()> {
    match name.len() {
        0 => Err(Error::NameEmpty),
        length if length > NAME_BYTES => Err(Error::NameTooLong { name: name.to_owned(), length }),
        _ => Ok(()),
    }
}

fn internal(error: &tokio::task::JoinError) -> Error {
    Error::Internal { reason: error.to_string() }
}

/// Removes the folder of a table that did not come to be. Does nothing to a folder that holds a manifest.
#[derive(Debug)]
struct NewFolder {
    path: PathBuf,
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// The writable schema as DataFusion sees it.
#[derive(Debug)]
struct WorkSchema {
    store: Arc<Store>,
}

#[async_trait]
impl SchemaProvider for WorkSchema {
    fn table_names(&self) -> Vec<String> {
        self.store.relations.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.store.provider(name).await)
    }

    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        let kind = |relation: Relation| if relation.is_view() { TableType::View } else { TableType::Base };
        Ok(self.store.relation(name).map(kind))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.store.contains(name)
    }
}
