//! Changes become visible: the manifests on disk first, then the names in memory, then the removal of what is no longer needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use datafusion::arrow::datatypes::SchemaRef;

use super::draft::{Change, Changes};
use super::journal::Journal;
use super::manifest::Manifest;
use super::relation::{Folder, Part, Table};
use super::space::Claim;
use super::writer::{Target, Written};
use super::{Error, Id, Relation, Relations, Result, SCHEMA, Store, compaction};

impl Store {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A folder name of its own for everything ever created, which resembles the name in SQL.
    pub(super) fn new_folder(&self, name: &str) -> PathBuf {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
        let slug: String = name.chars().map(safe).take(32).collect();
        self.tables.join(format!("{slug}-{}", self.number()))
    }

    pub(super) fn target(&self, folder: &Folder, schema: SchemaRef) -> Target {
        let claim = Claim::new(&self.space);
        Target { root: self.state.clone(), folder: folder.path.clone(), schema, numbers: Arc::clone(&self.numbers), claim }
    }

    /// The state directory, for labels.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// Makes all changes of a draft, or none. Blocks.
    pub(super) fn commit(&self, mut changes: Changes) -> Result<()> {
        let mut unfinished = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.relations();
        for (id, change) in &mut changes {
            change.follow(id, now.get(id))?;
        }
        self.apply(&mut unfinished, &now, &changes)
    }

    pub(super) fn commit_compaction(&self, planned: &Table, old: &[Part], written: &Written) -> Result<()> {
        let mut unfinished = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.relations();
        let Some(base @ Relation::Table(table)) = now.get(&planned.id) else { return Ok(()) };
        if !Arc::ptr_eq(&table.folder, &planned.folder) {
            return Ok(());
        }
        let Some(files) = compaction::replace(&table.files, old, written.parts()) else { return Ok(()) };
        let merged = Relation::Table(Arc::new(table.with_files(files)));
        let change = Change { base: Some(base.clone()), now: Some(merged), appends: false };
        self.apply(&mut unfinished, &now, &Changes::from([(planned.id.clone(), change)]))
    }

    /// Makes changes that start from what is committed. The caller holds the commit lock.
    fn apply(&self, unfinished: &mut Option<Journal>, now: &Arc<Relations>, changes: &Changes) -> Result<()> {
        if let Some(journal) = unfinished.take()
            && let Err(error) = journal.finish(&self.state, &self.tables)
        {
            *unfinished = Some(journal);
            return Err(error);
        }
        let mut relations = Relations::clone(now);
        for (id, change) in changes {
            match &change.now {
                Some(relation) => relations.insert(id.clone(), relation.clone()),
                None => relations.remove(id),
            };
        }
        if let Some((id, _)) = changes.iter().find(|(id, change)| change.now.is_some() && !has_schema(&relations, id)) {
            return Err(Error::NoSuchSchema { name: id.schema.clone() });
        }
        let journal = Journal::new(self.manifests(changes)?);
        if journal.len() < 2 {
            journal.apply(&self.state, &self.tables)?;
        } else {
            journal.write(&self.state)?;
            if let Err(error) = journal.finish(&self.state, &self.tables) {
                // committed all the same: the journal says what is left to do
                tracing::warn!(%error, "a change could not be written to all its manifests yet");
                *unfinished = Some(journal);
            }
        }
        *self.relations.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(relations);
        settle_files(changes);
        self.count();
        Ok(())
    }

    /// The manifests to write and to remove. A relation that was renamed keeps its folder.
    fn manifests(&self, changes: &Changes) -> Result<BTreeMap<String, Option<Manifest>>> {
        let name = |relation: &Relation| relation.folder().path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut manifests: BTreeMap<String, Option<Manifest>> =
            changes.values().filter_map(|change| change.base.as_ref()).map(|base| (name(base), None)).collect();
        for (id, change) in changes {
            let Some(relation) = &change.now else { continue };
            let manifest = relation.manifest(id, self.number()).transpose().map_err(|reason| Error::Internal { reason })?;
            match manifest {
                Some(manifest) => manifests.insert(name(relation), Some(manifest)),
                None => manifests.remove(&name(relation)),
            };
        }
        Ok(manifests)
    }

    pub(super) fn count(&self) {
        let relations = self.relations();
        let bytes = relations.values().map(|relation| match relation {
            Relation::Table(table) => table.bytes(),
            _ => 0,
        });
        self.space.set_stored(bytes.sum());
    }
}

/// The files of what is there now stay; those of what was there go when nobody reads them any more.
fn settle_files(changes: &Changes) {
    let files = |relation: Option<&Relation>| match relation {
        Some(Relation::Table(table)) => table.files.clone(),
        _ => Vec::new(),
    };
    changes.values().flat_map(|change| files(change.base.as_ref())).for_each(|part| part.file.doom());
    changes.values().flat_map(|change| files(change.now.as_ref())).for_each(|part| part.file.keep());
    for change in changes.values() {
        if let (Some(Relation::Broken { folder, .. }), None) = (&change.base, &change.now) {
            let _ = fs::remove_dir_all(&folder.path);
        }
    }
}

/// Whether the schema of a relation is there.
fn has_schema(relations: &Relations, id: &Id) -> bool {
    id.is_schema() || id.schema == SCHEMA || relations.contains_key(&Id::schema(&id.schema))
}
