//! The data folder as a catalog: every Parquet file or folder of files is a table.
//!
//! Files in the folder are tables of the schema `public`, folders are schemas or tables, `key=value` folders are partition
//! columns; the rules are those of the module `layout`. Nothing is registered: each
//! look-up compares the folder with what was seen before, so a new, changed or removed file shows at the next statement. A file
//! that cannot be read breaks its own table and no other.
//!
//! The tables of the writable schema are read by the same code.

mod blame;
mod broken;
mod error;
pub(crate) mod file;
pub(crate) mod footer;
mod layout;
mod listing;
pub(crate) mod load;
mod merge;
mod partition;
mod reader;
mod statistics;
pub(crate) mod table;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::TableType;

pub use blame::name_damaged_file;
pub use broken::{BrokenTable, broken};
pub use error::Error;
pub use table::ParquetTable;

pub(crate) use error::{in_chain, reason as os_reason};

use footer::Footers;
use layout::{Layout, PUBLIC, Place};
use load::Loaded;

/// A table that could not be loaded, or a file or folder that was left out.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Schema of the table; empty for what was left out.
    pub schema: String,
    /// Name of the table; empty for what was left out.
    pub table: String,
    /// What is wrong.
    pub error: Error,
}

/// The catalog: the schemas of the data folder and the ones that were [mounted](Self::mount).
#[derive(Debug)]
pub struct DataCatalog {
    folder: Option<Arc<Folder>>,
    mounts: RwLock<BTreeMap<String, Arc<dyn SchemaProvider>>>,
}

impl DataCatalog {
    /// Opens the data folder.
    ///
    /// # Errors
    /// [`Error::Root`] when the folder does not exist or may not be listed.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let canonical =
            root.canonicalize().map_err(|error| Error::Root { path: root.display().to_string(), reason: error::reason(&error) })?;
        let layout = Layout::scan(&canonical)?;
        let folder = Folder { root: canonical, footers: Arc::default(), layout: Mutex::default(), tables: Mutex::default() };
        folder.adopt(Arc::new(layout));
        Ok(Self { folder: Some(Arc::new(folder)), mounts: RwLock::default() })
    }

    /// A catalog without a data folder: an empty `public` and what is mounted.
    #[must_use]
    pub fn empty() -> Self {
        Self { folder: None, mounts: RwLock::default() }
    }

    /// Adds a schema that is not a folder. It hides a folder of the same name.
    pub fn mount(&self, name: &str, schema: Arc<dyn SchemaProvider>) {
        self.mounts.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), schema);
    }

    /// Whether `name` was [mounted](Self::mount).
    #[must_use]
    pub fn is_mounted(&self, name: &str) -> bool {
        self.mounts.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Loads every table of the data folder and reports those that cannot be read, and what was left out and why.
    pub async fn problems(&self) -> Vec<Problem> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let layout = Arc::clone(folder).layout().await;
        let refused = layout.refused.iter().cloned();
        let mut problems: Vec<_> = refused.map(|error| Problem { schema: String::new(), table: String::new(), error }).collect();
        for (schema, tables) in &layout.schemas {
            for table in tables.keys() {
                let Some(provider) = folder.table(schema, table).await else { continue };
                if let Some(error) = broken(provider.as_ref()) {
                    problems.push(Problem { schema: schema.clone(), table: table.clone(), error: error.clone() });
                }
            }
        }
        problems
    }

    fn folder_schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let known = match &self.folder {
            Some(folder) => folder.layout_now().schemas.contains_key(name),
            None => name == PUBLIC,
        };
        known.then(|| Arc::new(FolderSchema { name: name.to_owned(), folder: self.folder.clone() }) as _)
    }
}

impl CatalogProvider for DataCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names = match &self.folder {
            Some(folder) => folder.layout_now().schemas.keys().cloned().collect(),
            None => vec![PUBLIC.to_owned()],
        };
        names.extend(self.mounts.read().unwrap_or_else(PoisonError::into_inner).keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let mounted = self.mounts.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        mounted.or_else(|| self.folder_schema(name))
    }

    /// Mounts a schema beside those of the folder.
    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> DataFusionResult<Option<Arc<dyn SchemaProvider>>> {
        Ok(self.mounts.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), schema))
    }
}

/// One schema of the data folder.
#[derive(Debug)]
struct FolderSchema {
    name: String,
    folder: Option<Arc<Folder>>,
}

impl FolderSchema {
    fn names(&self) -> Vec<String> {
        let Some(folder) = &self.folder else { return Vec::new() };
        folder.layout_now().schemas.get(&self.name).map(|tables| tables.keys().cloned().collect()).unwrap_or_default()
    }
}

#[async_trait]
impl SchemaProvider for FolderSchema {
    fn table_names(&self) -> Vec<String> {
        self.names()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        match &self.folder {
            Some(folder) => Ok(folder.table(&self.name, name).await),
            None => Ok(None),
        }
    }

    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        // Does not read the table, unlike the default.
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn register_table(&self, name: String, _: Arc<dyn TableProvider>) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Err(self.read_only(&name))
    }

    fn deregister_table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Err(self.read_only(name))
    }

    fn table_exist(&self, name: &str) -> bool {
        let Some(folder) = &self.folder else { return false };
        folder.layout_now().schemas.get(&self.name).is_some_and(|tables| tables.contains_key(name))
    }
}

impl FolderSchema {
    fn read_only(&self, name: &str) -> DataFusionError {
        Error::ReadOnly { schema: self.name.clone(), table: name.to_owned() }.into()
    }
}

/// The data folder with what is known of it.
#[derive(Debug)]
struct Folder {
    root: PathBuf,
    footers: Arc<Footers>,
    layout: Mutex<Arc<Layout>>,
    tables: Mutex<HashMap<PathBuf, Arc<Slot>>>,
}

/// The last state of one table. The lock is held while it is being loaded, so that many statements load it once.
type Slot = tokio::sync::Mutex<Option<Arc<Loaded>>>;

impl Folder {
    /// The layout as it is now. Blocks for a few `stat` calls: [`CatalogProvider`] is not async.
    fn layout_now(&self) -> Arc<Layout> {
        let known = Arc::clone(&self.layout.lock().unwrap_or_else(PoisonError::into_inner));
        if known.current() {
            return known;
        }
        match Layout::scan(&self.root) {
            Ok(layout) => self.adopt(Arc::new(layout)),
            Err(error) => {
                tracing::warn!(path = %self.root.display(), %error, "data folder cannot be read, its last known tables are shown");
                known
            }
        }
    }

    async fn layout(self: Arc<Self>) -> Arc<Layout> {
        let folder = Arc::clone(&self);
        match tokio::task::spawn_blocking(move || folder.layout_now()).await {
            Ok(layout) => layout,
            Err(_) => Arc::clone(&self.layout.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn adopt(&self, layout: Arc<Layout>) -> Arc<Layout> {
        let mut known = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        for error in layout.refused.iter().filter(|error| !known.refused.contains(error)) {
            tracing::warn!(%error, "left out of the catalog");
        }
        let places: std::collections::HashSet<&Path> = layout
            .schemas
            .values()
            .flat_map(BTreeMap::values)
            .filter_map(|place| match place {
                Place::At(path) => Some(path.as_path()),
                Place::Broken(_) => None,
            })
            .collect();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|path, _| places.contains(path.as_path()));
        *known = Arc::clone(&layout);
        layout
    }

    async fn table(self: &Arc<Self>, schema: &str, name: &str) -> Option<Arc<dyn TableProvider>> {
        let layout = Arc::clone(self).layout().await;
        let path = match layout.schemas.get(schema)?.get(name)? {
            Place::At(path) => path.clone(),
            Place::Broken(error) => return Some(Arc::new(BrokenTable::new(error.clone()))),
        };
        let slot = Arc::clone(self.tables.lock().unwrap_or_else(PoisonError::into_inner).entry(path.clone()).or_default());
        let mut state = slot.lock().await;
        let (folder, before) = (Arc::clone(self), state.clone());
        let load = tokio::task::spawn_blocking(move || Loaded::refresh(&folder.root, &path, &folder.footers, before));
        match load.await {
            Ok(loaded) => {
                *state = Some(Arc::clone(&loaded));
                Some(Arc::clone(&loaded.table))
            }
            // The Parquet reader panicked on a malformed footer: that is a broken file, not a broken server.
            Err(_) => Some(Arc::new(BrokenTable::new(Error::Damaged {
                path: format!("{schema}.{name}"),
                reason: "its metadata cannot be decoded".to_owned(),
            }))),
        }
    }
}
