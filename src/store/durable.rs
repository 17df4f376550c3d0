//! Changes to files that survive a crash at any moment.
//!
//! A file's bytes are durable after `fsync` of the file; its name is durable after `fsync` of its folder. Both are needed, in
//! this order: a name that outlives its bytes is a damaged file.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Ending of files that are being written; the sweep at the start removes them.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Makes `folder/name` hold `bytes`: after a crash it holds either the old content or the new.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}{TEMPORARY}"));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, folder.join(name))) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(folder)
}

/// Removes `folder/name` for good.
pub(crate) fn remove(folder: &Path, name: &str) -> io::Result<()> {
    fs::remove_file(folder.join(name))?;
    sync_folder(folder)
}

/// Creates a folder that only the server's user can read, and whose name survives a crash. It may exist.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Makes additions to and removals from a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
