//! The writable schemas: tables and views that users create, kept under the server's state directory.
//!
//! ```text
//! STATE/lock                                    held by the one server that uses the directory
//! STATE/journal.json                            manifests that change together, while they do
//! STATE/tables/daily_scores-17/manifest.json    name, columns, comments, list of data files
//! STATE/tables/daily_scores-17/18.parquet       rows, never changed once written
//! ```
//!
//! A manifest is replaced as a whole, and it alone says which files belong to a table: a change is there when its manifest is,
//! and before that it is nothing but files that no manifest lists. Those are deleted when the statement fails or its transaction
//! is rolled back, and by the sweep at the next start when the server died. Every change is made in a [`Draft`], which only its
//! session sees until it is committed. Readers never wait: each statement reads the files of the manifest it was planned with,
//! and a file that no manifest lists any more is deleted when the last such statement ends.

mod commit;
mod compaction;
mod draft;
pub(crate) mod durable;
mod error;
mod journal;
mod manifest;
mod recovery;
mod relation;
mod schema;
mod space;
mod types;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use datafusion::catalog::TableProvider;

pub use draft::{Draft, Kind, Saved};
pub use error::Error;
pub use manifest::Comments;
pub use relation::{StoredTable, StoredView};

use crate::catalog::footer::Footers;
use crate::catalog::load::{read_footers, table_file};
use crate::catalog::{self, BrokenTable, ParquetTable};
use journal::Journal;
use relation::{Folder, Table};
use space::Space;

/// Name of the writable schema that is always there.
pub const SCHEMA: &str = "work";

/// Name of the schema of a session's temporary tables.
pub const TEMPORARY: &str = "pg_temp";

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

/// A relation's place: its schema and its name. A schema itself has the empty name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The schema.
    pub schema: String,
    /// The name in it.
    pub name: String,
}

impl Id {
    /// The relation of this name in a schema.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    fn schema(name: &str) -> Self {
        Self::new(name, "")
    }

    fn is_schema(&self) -> bool {
        self.name.is_empty()
    }

    fn is_temporary(&self) -> bool {
        self.schema == TEMPORARY
    }
}

/// The relations of one moment.
type Relations = BTreeMap<Id, Relation>;

/// The tables and views of the writable schemas.
#[derive(Debug)]
pub struct Store {
    state: PathBuf,
    tables: PathBuf,
    /// What is committed. Replaced as a whole, so that who holds it has a snapshot.
    relations: RwLock<Arc<Relations>>,
    /// Held while manifests are written, so that changes have one order on disk and in memory. What could not be written yet
    /// though it is committed is in it.
    commit: Mutex<Option<Journal>>,
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
    /// A schema that was created; it keeps the folder of its manifest.
    Schema(Arc<Folder>),
    /// Something is there, but its manifest or a data file is not as it was written.
    Broken {
        folder: Arc<Folder>,
        error: catalog::Error,
    },
}

impl Relation {
    fn folder(&self) -> &Arc<Folder> {
        match self {
            Self::Table(table) => &table.folder,
            Self::View(view) => &view.folder,
            Self::Schema(folder) | Self::Broken { folder, .. } => folder,
        }
    }

    fn is_view(&self) -> bool {
        matches!(self, Self::View(_))
    }

    /// Whether this is the same state of the same relation.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Table(one), Self::Table(other)) => Arc::ptr_eq(one, other),
            (Self::View(one), Self::View(other)) => Arc::ptr_eq(one, other),
            (Self::Schema(one), Self::Schema(other)) => Arc::ptr_eq(one, other),
            (Self::Broken { folder: one, .. }, Self::Broken { folder: other, .. }) => Arc::ptr_eq(one, other),
            _ => false,
        }
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
        if let Some(journal) = Journal::read(&state)? {
            journal.finish(&state, &tables)?;
        }
        let found = recovery::recover(&state, &tables)?;
        let store = Self {
            state,
            tables,
            relations: RwLock::new(Arc::new(found.relations)),
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

    /// A draft without changes: it shows what is committed.
    #[must_use]
    pub fn draft(self: &Arc<Self>) -> Arc<Draft> {
        Arc::new(Draft::new(Arc::clone(self)))
    }

    /// Bytes of all stored tables.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.space.stored()
    }

    /// What is committed now.
    fn relations(&self) -> Arc<Relations> {
        Arc::clone(&self.relations.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Merges the small files of a table when there are many. Readers and writers do not notice.
    async fn compact(self: &Arc<Self>, id: &Id) -> Result<()> {
        let Ok(_one) = self.compacting.try_lock() else { return Ok(()) };
        let Some(Relation::Table(table)) = self.relations().get(id).cloned() else { return Ok(()) };
        let old = compaction::candidates(&table);
        if old.is_empty() {
            return Ok(());
        }
        let target = self.target(&table.folder, Arc::clone(&table.schema));
        let written = writer::write(target, compaction::rows(&table.schema, &old)).await?;
        let store = Arc::clone(self);
        let commit = move || store.commit_compaction(&table, &old, &written);
        tokio::task::spawn_blocking(commit).await.map_err(|error| internal(&error))?
    }

    /// The relation as the planner takes it; none for a schema.
    async fn provider(&self, relation: Relation) -> Option<Arc<dyn TableProvider>> {
        let table = match relation {
            Relation::View(view) => return Some(view),
            Relation::Broken { error, .. } => return Some(Arc::new(BrokenTable::new(error))),
            Relation::Schema(_) => return None,
            Relation::Table(table) => table,
        };
        let (state, footers) = (Arc::clone(&table), Arc::clone(&self.footers));
        let load = || async {
            let load = tokio::task::spawn_blocking(move || load(&state, &footers));
            let panicked =
                |_| Err(catalog::Error::Damaged { path: table.id.name.clone(), reason: "its metadata cannot be decoded".to_owned() });
            load.await.unwrap_or_else(panicked)
        };
        match table.parquet.get_or_try_init(load).await {
            Ok(parquet) => {
                let parquet = Arc::clone(parquet);
                Some(Arc::new(StoredTable { parquet, _state: table }))
            }
            Err(error) => {
                tracing::warn!(table = table.id.name, %error, "stored table cannot be read");
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
