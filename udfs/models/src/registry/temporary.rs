//! Folders on their way into the registry or out of it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{ModelName, PATIENCE, Registry, entries};
use crate::durable::{Lock, Sharing};
use crate::error::{Error, Result};

const PREFIX: &str = ".new-";

/// A folder that is removed when the writer is done with it. After it got its final name it no longer exists.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    /// Keeps another process's sweep away from the folder.
    _writing: Lock,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.path.exists()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary folder stays until the next start");
        }
    }
}

impl Registry {
    /// A name for a folder that is on its way in or out.
    pub(super) fn temporary(&self, name: &ModelName) -> Result<Temporary> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let writing = Lock::take(self.root.join(".writers"), Sharing::Shared, PATIENCE)?;
        let writing = writing.ok_or_else(|| Error::Busy { name: name.to_string() })?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("{PREFIX}{}-{number}", std::process::id()));
        Ok(Temporary { path, _writing: writing })
    }

    /// Removes the temporary folders of writers that died. Skipped while any writer is at work.
    pub(super) fn sweep(&self) -> Result<()> {
        let Some(_lock) = Lock::take(self.root.join(".writers"), Sharing::Exclusive, Duration::ZERO)? else { return Ok(()) };
        for entry in entries(&self.root)?.iter().filter(|e| e.starts_with(PREFIX)) {
            let path = self.root.join(entry);
            tracing::warn!(path = %path.display(), "removing what an interrupted writer left behind");
            fs::remove_dir_all(&path).map_err(Error::io(path))?;
        }
        Ok(())
    }
}
