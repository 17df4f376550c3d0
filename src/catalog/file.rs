//! One Parquet file on disk, as one statement or many see it.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::error::Error;

/// How long after its last change a file may still change without its time stamps showing it: kernels stamp with the
/// resolution of their timer tick, and two writes within one tick look like one.
const SETTLING: Duration = Duration::from_millis(100);

/// What tells one state of a file or folder from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether what was read at `now` is certain to show up as a different stamp once it changes again.
    pub(crate) fn settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = self.modified.max(self.changed);
        let newest = Duration::new(u64::try_from(newest.0).unwrap_or(0), u32::try_from(newest.1).unwrap_or(0));
        newest + SETTLING < now
    }

    /// Same content: renames and new hard links change only the time of the last status change.
    fn same_content(&self, other: &Self) -> bool {
        (self.device, self.inode, self.length, self.modified) == (other.device, other.inode, other.length, other.modified)
    }
}

/// A file of a table. Dropping the last reference deletes it from disk when it was [doomed](Self::doom).
#[derive(Debug)]
pub(crate) struct DataFile {
    id: u64,
    path: PathBuf,
    label: String,
    stamp: Stamp,
    settled: bool,
    doomed: AtomicBool,
}

impl DataFile {
    /// `label` is the name that errors show: the path below the data folder. `now` is a time before the file was first read.
    pub(crate) fn new(path: PathBuf, label: String, stamp: Stamp, now: SystemTime) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, path, label, stamp, settled: stamp.settled(now), doomed: AtomicBool::new(false) }
    }

    /// Whether the file had been left alone for long enough when it was read: its next change will show in its stamp.
    pub(crate) fn settled(&self) -> bool {
        self.settled
    }

    /// Differs between any two states of any file within this process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Bytes.
    pub(crate) fn length(&self) -> u64 {
        self.stamp.length
    }

    /// Deletes the file as soon as no statement reads it any more.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    /// Takes back [`Self::doom`].
    pub(crate) fn keep(&self) {
        self.doomed.store(false, Ordering::Release);
    }

    /// Opens the file and makes sure that it is still the one that was planned with. Blocks.
    pub(crate) fn open(&self) -> Result<OpenFile, Error> {
        let file = File::open(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Changed { path: self.label.clone() },
            _ => Error::io(&self.label, &error),
        })?;
        let metadata = file.metadata().map_err(|error| Error::io(&self.label, &error))?;
        if !self.stamp.same_content(&Stamp::of(&metadata)) {
            return Err(Error::Changed { path: self.label.clone() });
        }
        Ok(OpenFile { file, label: self.label.clone() })
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if !self.doomed.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            // Not fatal: the sweep at the next start removes what no manifest lists.
            tracing::warn!(file = %self.label, %error, "dropped data file could not be deleted");
        }
        if let Some(folder) = self.path.parent() {
            // Succeeds for the last file of a dropped table only, which is the intention.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// An open [`DataFile`]: later renames and deletions do not concern it.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: File,
    label: String,
}

impl OpenFile {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Reads `length` bytes from `start`. Blocks.
    pub(crate) fn read(&self, start: u64, length: usize) -> Result<Bytes, Error> {
        let mut buffer = vec![0; length];
        match self.file.read_exact_at(&mut buffer, start) {
            Ok(()) => Ok(buffer.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Error::Changed { path: self.label.clone() }),
            Err(error) => Err(Error::io(&self.label, &error)),
        }
    }
}
