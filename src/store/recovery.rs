//! What happens before a store is opened: the lock, the sweep, the reading of the manifests.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use super::manifest::{self, Body, Manifest};
use super::relation::{Folder, Part, StoredView, Table};
use super::writer::data_file;
use super::{Id, Relation, Relations, Result, SCHEMA};
use crate::catalog;

/// Takes the lock of the state directory; it is given back when the file is closed, also by a crash.
pub(super) fn lock(state: &Path) -> Result<File> {
    let path = state.join("lock");
    let io = |error: &std::io::Error| Error::io(state, &path, error);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(|error| io(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(Error::Locked { path: state.display().to_string(), process });
        }
        Err(TryLockError::Error(error)) => return Err(io(&error)),
    }
    // Only for the message above.
    let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    named.map_err(|error| io(&error))?;
    Ok(file)
}

/// What the manifests say.
pub(super) struct Found {
    pub(super) relations: Relations,
    /// First number that nothing has.
    pub(super) next: u64,
}

/// Reads all manifests and removes everything that none of them lists.
pub(super) fn recover(state: &Path, tables: &Path) -> Result<Found> {
    let io = |error: &std::io::Error| Error::io(state, tables, error);
    let mut found = Found { relations: BTreeMap::new(), next: 1 };
    let mut sequences: BTreeMap<Id, (u64, PathBuf)> = BTreeMap::new();
    for entry in fs::read_dir(tables).map_err(|error| io(&error))? {
        let folder = entry.map_err(|error| io(&error))?.path();
        // Folders of the store end in their number; what does not is not the store's, and is left alone.
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(number) = name.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok()) else { continue };
        found.next = found.next.max(number + 1);
        let manifest = match Manifest::read(&folder) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                sweep(&folder);
                continue;
            }
            Err(reason) => {
                let path = folder.join(manifest::FILE).strip_prefix(state).unwrap_or(&folder).display().to_string();
                let error = catalog::Error::Damaged { path, reason };
                tracing::warn!(%error, "stored relation cannot be read");
                let id = Id::new(SCHEMA, name);
                found.relations.insert(id, Relation::Broken { folder: Arc::new(Folder { path: folder }), error });
                continue;
            }
        };
        found.next = found.next.max(manifest.sequence + 1);
        // A crash between writing the manifest of a replacement and removing the old one leaves both.
        match sequences.get(&manifest.id()) {
            Some((sequence, _)) if *sequence > manifest.sequence => {
                sweep(&folder);
                continue;
            }
            Some((_, older)) => sweep(older),
            None => {}
        }
        sequences.insert(manifest.id(), (manifest.sequence, folder.clone()));
        let relation = relation(state, folder, &manifest, &mut found.next);
        found.relations.insert(manifest.id(), relation);
    }
    Ok(found)
}

fn sweep(folder: &Path) {
    tracing::info!(folder = %folder.display(), "unfinished or replaced relation removed");
    // The manifest first: without it the rest is swept again if this is interrupted.
    let _ = fs::remove_file(folder.join(manifest::FILE));
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "folder could not be removed");
    }
}

fn relation(state: &Path, path: PathBuf, manifest: &Manifest, next: &mut u64) -> Relation {
    let folder = Arc::new(Folder { path });
    let damaged = |path: &Path, reason: String| catalog::Error::Damaged {
        path: path.strip_prefix(state).unwrap_or(path).display().to_string(),
        reason,
    };
    let schema = match manifest.columns() {
        Ok(schema) => schema,
        Err(reason) => {
            let error = damaged(&folder.path.join(manifest::FILE), reason);
            return Relation::Broken { folder, error };
        }
    };
    let parts = match &manifest.body {
        Body::View { sql } => {
            let (sql, comments) = (sql.clone(), manifest.comments.clone());
            return Relation::View(Arc::new(StoredView { id: manifest.id(), sql, schema, comments, folder }));
        }
        Body::Schema => return Relation::Schema(folder),
        Body::Table { files } => files,
    };
    sweep_files(&folder.path, parts);
    let mut files = Vec::with_capacity(parts.len());
    for part in parts {
        let path = folder.path.join(&part.name);
        let number = Path::new(&part.name).file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        *next = (*next).max(number.unwrap_or(0) + 1);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == part.bytes => {
                files.push(Part { file: Arc::new(data_file(state, &path, &metadata)), rows: part.rows });
            }
            Ok(metadata) => {
                let reason = format!("it has {} bytes, {} were written", metadata.len(), part.bytes);
                let error = damaged(&path, reason);
                tracing::warn!(%error, "stored table cannot be read");
                return Relation::Broken { folder, error };
            }
            Err(error) => {
                let error = damaged(&path, catalog::os_reason(&error));
                tracing::warn!(%error, "stored table cannot be read");
                return Relation::Broken { folder, error };
            }
        }
    }
    let parquet = tokio::sync::OnceCell::new();
    let comments = manifest.comments.clone();
    Relation::Table(Arc::new(Table { id: manifest.id(), folder, schema, comments, files, parquet }))
}

/// Removes the files of statements that did not finish.
fn sweep_files(folder: &Path, parts: &[manifest::Part]) {
    let listed: HashSet<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == manifest::FILE || listed.contains(name) {
            continue;
        }
        tracing::info!(file = %path.display(), "unfinished file removed");
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(file = %path.display(), %error, "unfinished file could not be removed");
        }
    }
}
