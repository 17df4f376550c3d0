//! Folders that are made of a checkpoint once and found again by its hash: what is written there, and whether it is still what was written.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::durable::{self, Lock, Sharing};
use crate::error::{Error, Result};

/// How long another process may take to prepare the same checkpoint.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Tensors start at whole pages, so that the runtime can map them.
const PAGE: u64 = 4096;

/// A file of a prepared folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Entry {
    /// Writes a file and waits until it is on disk.
    pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<Self> {
        durable::write(&folder.join(name), bytes)?;
        Ok(Self { name: name.to_owned(), bytes: bytes.len() as u64, sha256: hash(bytes) })
    }

    /// An error if the file is not there as it was written. Only if `read`, its bytes are looked at.
    pub(crate) fn check(&self, folder: &Path, read: bool) -> Result<()> {
        let path = folder.join(&self.name);
        let corrupt = |reason: &str| Err(Error::corrupt(path.display().to_string(), reason));
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return corrupt("it is missing"),
            Err(error) => return Err(Error::io(&path)(error)),
            Ok(found) if found.len() != self.bytes => return corrupt("its length is not what was written"),
            Ok(_) => {}
        }
        if read && hash_file(&path)? != self.sha256 {
            return corrupt("its bytes are not what was written");
        }
        Ok(())
    }
}

/// A place in a cache.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    pub(crate) cache: &'a Path,
    /// The checkpoint and the form it is prepared in.
    pub(crate) stem: &'a str,
    /// The number of the format, which counts up with every change of what is written.
    pub(crate) format: u32,
    /// What is prepared, as errors name it.
    pub(crate) source: &'a Path,
}

impl Key<'_> {
    /// What is there, or what `write` puts there. A reader sees a whole folder or none, also after a power cut.
    pub(crate) fn find<M>(&self, open: impl Fn(&Path) -> Result<M>, write: impl FnOnce(&Path) -> Result<()>) -> Result<M> {
        let Self { cache, stem, format, source } = self;
        let key = format!("{stem}{format}");
        durable::create_directory(cache)?;
        let target = cache.join(&key);
        if let Ok(found) = open(&target) {
            return Ok(found);
        }
        let lock = Lock::take(cache.join(format!(".{key}.lock")), Sharing::Exclusive, PATIENCE)?;
        let _lock = lock.ok_or_else(|| Error::Busy { name: source.display().to_string() })?;
        match open(&target) {
            Ok(found) => return Ok(found),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error @ (Error::Corrupt { .. } | Error::Unsupported { .. })) => {
                tracing::warn!(path = %target.display(), %error, "a prepared model is damaged and is prepared again");
            }
            Err(error) => return Err(error),
        }
        let temporary = cache.join(format!(".{key}.new"));
        for left in [&temporary, &target] {
            if left.exists() {
                fs::remove_dir_all(left).map_err(Error::io(left))?;
            }
        }
        durable::create_directory(&temporary)?;
        let written = write(&temporary).and_then(|()| durable::publish(&temporary, &target));
        if written.is_err()
            && let Err(error) = fs::remove_dir_all(&temporary)
        {
            tracing::warn!(path = %temporary.display(), %error, "an unfinished model stays until it is prepared again");
        }
        written?;
        self.forget_older();
        open(&target)
    }

    /// Deletes what earlier formats made of the same model in the same form. What another process is preparing or what cannot be deleted stays.
    fn forget_older(&self) {
        let Self { cache, stem, format, .. } = self;
        let entries = fs::read_dir(cache).into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            // A folder, or what a crash left of one.
            let key = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".new")).unwrap_or(&name);
            let older = key.strip_prefix(stem).and_then(|older| older.parse::<u32>().ok());
            if older.is_none_or(|older| older >= *format) {
                continue;
            }
            let path = cache.join(&name);
            let deleted = match Lock::take(cache.join(format!(".{key}.lock")), Sharing::Exclusive, Duration::ZERO) {
                Ok(Some(_lock)) => fs::remove_dir_all(&path).map_err(Error::io(&path)),
                Ok(None) => Err(Error::Busy { name: path.display().to_string() }),
                Err(error) => Err(error),
            };
            if let Err(error) = deleted {
                tracing::warn!(path = %path.display(), %error, "a model in an old format stays in the cache");
            }
        }
    }
}

/// The file of weights that is being written.
#[derive(Debug)]
pub(crate) struct Data {
    path: PathBuf,
    out: BufWriter<File>,
    hash: Sha256,
    at: u64,
}

impl Data {
    /// A new file.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let file = File::create_new(&path).map_err(Error::io(&path))?;
        Ok(Self { path, out: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), at: 0 })
    }

    /// Starts a tensor.
    pub(crate) fn align(&mut self) -> Result<u64> {
        let gap = self.at.next_multiple_of(PAGE) - self.at;
        self.put(&[0; PAGE as usize][..gap as usize])?;
        Ok(self.at)
    }

    /// Adds bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(Error::io(&self.path))
    }

    /// Waits until the bytes are on disk; gives their number and their SHA-256.
    pub(crate) fn finish(self) -> Result<(u64, String)> {
        let Self { path, out, hash, at } = self;
        let file = out.into_inner().map_err(|error| Error::io(&path)(error.into_error()))?;
        file.sync_all().map_err(Error::io(&path))?;
        Ok((at, hex(&hash.finalize())))
    }
}

/// The hash of those files of a folder that are there, with their names.
pub(crate) fn hash_files<'a>(folder: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let mut all = Sha256::new();
    for name in names {
        let path = folder.join(name);
        if path.exists() {
            all.update(format!("{name} {}\n", hash_file(&path)?));
        }
    }
    Ok(hex(&all.finalize()))
}

/// The hash of a file.
pub(crate) fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path)(error)),
        }
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of bytes.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
