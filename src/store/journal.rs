//! Several manifests that change together.
//!
//! The journal is written before the first of them and removed after the last. Once it is on disk the change is committed: what of
//! it is missing is done at the next start, or before the next change.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::manifest::{self, Manifest};
use super::{Error, Result, durable};

/// The journal's name in the state directory.
const FILE: &str = "journal.json";

const FORMAT: u32 = 1;

/// The manifests by the names of their folders; none for a folder that shall have none.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    format: u32,
    manifests: BTreeMap<String, Option<Manifest>>,
}

impl Journal {
    pub(super) fn new(manifests: BTreeMap<String, Option<Manifest>>) -> Self {
        Self { format: FORMAT, manifests }
    }

    /// The journal that a server left behind.
    pub(super) fn read(state: &Path) -> Result<Option<Self>> {
        let path = state.join(FILE);
        let damaged = |reason: String| Error::Io { path: FILE.to_owned(), reason };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(state, &path, &error)),
        };
        let journal: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if journal.format != FORMAT {
            return Err(damaged(format!("format {} is not known to this version", journal.format)));
        }
        Ok(Some(journal))
    }

    pub(super) fn len(&self) -> usize {
        self.manifests.len()
    }

    /// Writes the journal: from here on the change is committed.
    pub(super) fn write(&self, state: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::Internal { reason: error.to_string() })?;
        durable::replace(state, FILE, &bytes).map_err(|error| Error::io(state, &state.join(FILE), &error))
    }

    /// Writes and removes the manifests. Doing it twice does no harm.
    pub(super) fn apply(&self, state: &Path, tables: &Path) -> Result<()> {
        for (name, manifest) in &self.manifests {
            let folder = tables.join(name);
            let io = |error: io::Error| Error::io(state, &folder, &error);
            match manifest {
                Some(manifest) => {
                    let bytes = manifest.bytes().map_err(|reason| Error::Internal { reason })?;
                    durable::create_folder(&folder).map_err(io)?;
                    durable::replace(&folder, manifest::FILE, &bytes).map_err(io)?;
                }
                None => {
                    match durable::remove(&folder, manifest::FILE) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                        _ => {}
                    }
                    // Succeeds where there are no data files to wait for.
                    let _ = fs::remove_dir(&folder);
                }
            }
        }
        Ok(())
    }

    /// Applies the journal that was written, and removes it.
    pub(super) fn finish(&self, state: &Path, tables: &Path) -> Result<()> {
        self.apply(state, tables)?;
        durable::remove(state, FILE).map_err(|error| Error::io(state, &state.join(FILE), &error))
    }
}
