//! Files that are either whole on disk or absent, also after a power cut. Nothing else in this crate writes model files.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Writes a new file and waits until its bytes are on disk. The name is durable only after [`sync_directory`].
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create_new(path).map_err(Error::io(path))?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))
}

/// Replaces a file: a reader sees the old bytes or the new ones, never a mixture.
///
/// The caller holds a lock that keeps other writers of the same name away.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let temporary = directory.join(format!(".{name}.new"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(temporary)(error)),
        _ => {}
    }
    write(&temporary, bytes)?;
    let target = directory.join(name);
    fs::rename(&temporary, &target).map_err(Error::io(target))?;
    sync_directory(directory)
}

/// Gives a finished folder its final name. Its files must have been written by [`write`].
///
/// The folder itself is synced first (its entries), then the parents whose entries change: without the last step the
/// rename may be lost although the call returned.
pub(crate) fn publish(temporary: &Path, target: &Path) -> Result<()> {
    sync_directory(temporary)?;
    rename_directory(temporary, target)
}

/// Gives a folder another name, durably.
pub(crate) fn rename_directory(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(to))?;
    for parent in [to.parent(), from.parent()].into_iter().flatten() {
        sync_directory(parent)?;
    }
    Ok(())
}

/// Creates a folder and its parents, and makes their names durable.
pub(crate) fn create_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_directory(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(Error::io(path)(error)),
    }
    path.parent().map_or(Ok(()), sync_directory)
}

/// Waits until the entries of a folder are on disk; the empty path is the current folder.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io(path))
}

/// A lock between processes, held until it is dropped. The operating system frees it when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Who else may hold the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    Exclusive,
}

impl Lock {
    /// Takes the lock if it is free within `patience`; `None` when it is not.
    pub(crate) fn take(path: PathBuf, sharing: Sharing, patience: Duration) -> Result<Option<Self>> {
        const PAUSE: Duration = Duration::from_millis(10);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io(&path))?;
        let deadline = Instant::now() + patience;
        loop {
            let answer = match sharing {
                Sharing::Shared => file.try_lock_shared(),
                Sharing::Exclusive => file.try_lock(),
            };
            match answer {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(source)) => return Err(Error::io(path)(source)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_bytes_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".a.json.new"), "left by a crash").unwrap();
        replace(directory.path(), "a.json", b"one").unwrap();
        replace(directory.path(), "a.json", b"two").unwrap();
        assert_eq!(fs::read(directory.path().join("a.json")).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_exclusive_lock_keeps_the_second_taker_out_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".lock");
        let held = Lock::take(path.clone(), Sharing::Exclusive, Duration::ZERO).unwrap();
        assert!(held.is_some());
        assert!(Lock::take(path.clone(), Sharing::Shared, Duration::ZERO).unwrap().is_none());
        drop(held);
        assert!(Lock::take(path, Sharing::Shared, Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn a_published_folder_never_replaces_another() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("1"), directory.path().join("new"));
        for folder in [&old, &new] {
            create_directory(folder).unwrap();
            write(&folder.join("x"), folder.to_string_lossy().as_bytes()).unwrap();
        }
        assert!(publish(&new, &old).is_err());
        assert_eq!(fs::read(old.join("x")).unwrap(), old.to_string_lossy().as_bytes());
    }
}
