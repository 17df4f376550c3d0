//! The folder of an export.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{SIGNATURE, VERSION};
use crate::durable;
use crate::error::{Error, Result};
use crate::foreign::GRAPH;

/// A folder that an export may be written to.
pub(super) struct Place {
    folder: PathBuf,
    temporary: PathBuf,
}

impl Place {
    /// Checks that the folder is free, or holds nothing but an earlier export that may be replaced.
    pub(super) fn find(folder: &Path, replace: bool) -> Result<Self> {
        let taken = |reason: &str, hint: &str| Error::data(format!("{} {reason}", folder.display()), hint);
        let name = folder.file_name().ok_or_else(|| taken("is no name of a folder", "name a new folder"))?;
        if folder.exists() {
            let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
            let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<std::io::Result<Vec<_>>>();
            let names = names.map_err(Error::io(folder))?;
            if names.iter().any(|name| ![GRAPH, SIGNATURE, VERSION].iter().any(|own| name == *own)) {
                return Err(taken("holds other files than those of an export", "name a new folder"));
            }
            if !names.is_empty() && !replace {
                return Err(taken("holds an export already", "name a new folder, or replace it with --force"));
            }
        }
        let temporary = format!(".{}.new-{}", name.to_string_lossy(), std::process::id());
        Ok(Self { temporary: folder.with_file_name(temporary), folder: folder.to_owned() })
    }

    /// Writes all files: the folder appears with all of them or not at all.
    pub(super) fn write(self, files: &[(String, Vec<u8>)]) -> Result<()> {
        durable::create_directory(&self.temporary.join(VERSION))?;
        for (file, bytes) in files {
            durable::write(&self.temporary.join(file), bytes)?;
        }
        durable::sync_directory(&self.temporary.join(VERSION))?;
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        }
        durable::publish(&self.temporary, &self.folder)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary.exists()
            && let Err(error) = fs::remove_dir_all(&self.temporary)
        {
            tracing::warn!(path = %self.temporary.display(), %error, "a temporary folder stays");
        }
    }
}

/// `signature.json` beside a graph may name the columns of its inputs.
#[derive(Deserialize)]
struct Sidecar {
    #[serde(default)]
    columns: Vec<String>,
}

/// The columns that a `signature.json` beside a graph names; none without one.
pub(super) fn named_columns(graph: &Path) -> Result<Vec<String>> {
    let path = graph.with_file_name(SIGNATURE);
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let bytes = fs::read(&path).map_err(Error::io(&path))?;
    let sidecar: Sidecar = serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(path.display().to_string(), e))?;
    Ok(sidecar.columns)
}
