//! Changes become visible: the manifest on disk first, then the name in memory, then the removal of what is no longer needed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use datafusion::arrow::datatypes::SchemaRef;

use super::manifest::{self, Body, Manifest};
use super::relation::{Part, StoredView, Table};
use super::space::Claim;
use super::writer::{Target, Written};
use super::{Error, IfExists, NewFolder, Relation, Result, Store, compaction, durable};

impl Store {
    /// Whether to go on creating `name`: `false` when it is to be left as it is.
    pub(super) fn may_create(&self, name: &str, view: bool, if_exists: IfExists) -> Result<bool> {
        match (self.relation(name), if_exists) {
            (None, _) => Ok(true),
            (Some(_), IfExists::Keep) => Ok(false),
            (Some(_), IfExists::Fail) => Err(Error::Exists { name: name.to_owned() }),
            (Some(old), IfExists::Replace) if old.is_view() == view => Ok(true),
            (Some(_), IfExists::Replace) if view => Err(Error::NotAView { name: name.to_owned() }),
            (Some(_), IfExists::Replace) => Err(Error::NotATable { name: name.to_owned() }),
        }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A folder name of its own for every table and view ever created, which resembles the name in SQL.
    pub(super) fn new_folder(&self, name: &str) -> PathBuf {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
        let slug: String = name.chars().map(safe).take(32).collect();
        self.tables.join(format!("{slug}-{}", self.number()))
    }

    pub(super) fn target(&self, folder: PathBuf, schema: SchemaRef) -> Target {
        let claim = Claim::new(&self.space);
        Target { root: self.state.clone(), folder, schema, numbers: Arc::clone(&self.numbers), claim }
    }

    pub(super) fn commit_table(
        &self,
        name: &str,
        folder: PathBuf,
        schema: SchemaRef,
        written: Written,
        if_exists: IfExists,
    ) -> Result<Option<u64>> {
        let _one = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.may_create(name, false, if_exists)? {
            return Ok(None);
        }
        let rows = written.rows();
        let files = written.parts().collect();
        let table = Table { name: name.to_owned(), folder, schema, files, parquet: tokio::sync::OnceCell::new() };
        self.write_table(&table)?;
        written.keep();
        self.publish(name, Relation::Table(Arc::new(table)));
        Ok(Some(rows))
    }

    pub(super) fn commit_insert(&self, planned: &Table, written: Written) -> Result<u64> {
        let _one = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.table(&planned.name)?;
        if now.folder != planned.folder {
            return Err(Error::Replaced { name: planned.name.clone() });
        }
        if written.files.is_empty() {
            return Ok(0);
        }
        let files = now.files.iter().cloned().chain(written.parts()).collect();
        self.commit_files(&now, files, &written)?;
        Ok(written.rows())
    }

    pub(super) fn commit_compaction(&self, planned: &Table, old: &[Part], written: &Written) -> Result<()> {
        let _one = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.table(&planned.name)?;
        if now.folder != planned.folder {
            return Ok(());
        }
        let Some(files) = compaction::replace(&now.files, old, written.parts()) else { return Ok(()) };
        self.commit_files(&now, files, written)?;
        old.iter().for_each(|part| part.file.doom());
        Ok(())
    }

    /// Gives a table other files. The caller holds the commit lock.
    fn commit_files(&self, now: &Table, files: Vec<Part>, written: &Written) -> Result<()> {
        let (name, folder, schema) = (now.name.clone(), now.folder.clone(), Arc::clone(&now.schema));
        let table = Table { name, folder, schema, files, parquet: tokio::sync::OnceCell::new() };
        self.write_table(&table)?;
        written.keep();
        self.publish(&now.name, Relation::Table(Arc::new(table)));
        Ok(())
    }

    pub(super) fn commit_view(&self, name: &str, sql: String, schema: SchemaRef, if_exists: IfExists) -> Result<bool> {
        let _one = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.may_create(name, true, if_exists)? {
            return Ok(false);
        }
        let folder = self.new_folder(name);
        durable::create_folder(&folder).map_err(|error| Error::io(&self.state, &folder, &error))?;
        let _guard = NewFolder { path: folder.clone() };
        self.write_manifest(name, &folder, &schema, Body::View { sql: sql.clone() })?;
        self.publish(name, Relation::View(Arc::new(StoredView { name: name.to_owned(), sql, schema, folder })));
        Ok(true)
    }

    fn write_table(&self, table: &Table) -> Result<()> {
        let part = |part: &Part| manifest::Part {
            name: part.file.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            rows: part.rows,
            bytes: part.file.length(),
        };
        let files = table.files.iter().map(part).collect();
        self.write_manifest(&table.name, &table.folder, &table.schema, Body::Table { files })
    }

    fn write_manifest(&self, name: &str, folder: &Path, schema: &SchemaRef, body: Body) -> Result<()> {
        let bytes = Manifest::new(name, self.number(), schema, body).and_then(|manifest| manifest.bytes());
        let bytes = bytes.map_err(|reason| Error::Internal { reason })?;
        durable::replace(folder, manifest::FILE, &bytes).map_err(|error| Error::io(&self.state, folder, &error))
    }

    /// Makes `relation` visible; what it replaces is removed from disk. The caller holds the commit lock.
    fn publish(&self, name: &str, relation: Relation) {
        let folder = relation.folder().to_owned();
        let old = self.relations.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), relation);
        if let Some(old) = old.filter(|old| old.folder() != folder)
            && let Err(error) = self.remove(&old)
        {
            // The new one is in place already; the sweep at the next start removes the old one.
            tracing::warn!(relation = name, %error, "replaced relation could not be removed");
        }
        self.count();
    }

    pub(super) fn drop_relation(&self, name: &str) -> Result<()> {
        let _one = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(relation) = self.relation(name) else { return Err(Error::NoSuchTable { name: name.to_owned() }) };
        self.remove(&relation)?;
        self.relations.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.count();
        Ok(())
    }

    /// Removes the manifest for good; the data files follow when nobody reads them any more.
    fn remove(&self, relation: &Relation) -> Result<()> {
        let folder = relation.folder();
        match durable::remove(folder, manifest::FILE) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(&self.state, folder, &error)),
        }
        match relation {
            Relation::Table(table) => table.files.iter().for_each(|part| part.file.doom()),
            Relation::View(_) => {}
            Relation::Broken { .. } => {
                let _ = fs::remove_dir_all(folder);
            }
        }
        // Succeeds where there are no data files to wait for.
        let _ = fs::remove_dir(folder);
        Ok(())
    }

    pub(super) fn count(&self) {
        let relations = self.relations.read().unwrap_or_else(PoisonError::into_inner);
        let bytes = relations.values().map(|relation| match relation {
            Relation::Table(table) => table.bytes(),
            _ => 0,
        });
        self.space.set_stored(bytes.sum());
    }
}
