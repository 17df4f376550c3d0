//! The files of one table, listed from disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::file::Stamp;
use super::partition::{self, Pair};

/// Folders nested deeper than this below a table are not data.
const DEPTH: usize = 32;

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) path: PathBuf,
    pub(crate) label: String,
    pub(crate) stamp: Stamp,
    /// The `key=value` folders between the table's folder and the file, outermost first.
    pub(crate) pairs: Vec<Pair>,
}

/// What a directory entry is, links already followed or refused.
#[derive(Debug)]
pub(crate) enum Entry {
    File(Stamp),
    Folder(Stamp),
    /// Sockets, pipes and devices.
    Other,
}

/// The label of `path` in messages: its path below `root`.
pub(crate) fn label(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

/// Looks at one path. A link to a file inside `root` counts as that file; other links are errors.
pub(crate) fn look(root: &Path, path: &Path) -> Result<Entry, Error> {
    let io = |error: &std::io::Error| Error::io(&label(root, path), error);
    let metadata = fs::symlink_metadata(path).map_err(|error| io(&error))?;
    if !metadata.is_symlink() {
        let stamp = Stamp::of(&metadata);
        return Ok(match (metadata.is_file(), metadata.is_dir()) {
            (true, _) => Entry::File(stamp),
            (_, true) => Entry::Folder(stamp),
            _ => Entry::Other,
        });
    }
    let refuse = |reason| Error::Link { path: label(root, path), reason };
    let target = fs::canonicalize(path).map_err(|error| io(&error))?;
    if !target.starts_with(root) {
        return Err(refuse("it leads out of the data folder"));
    }
    let metadata = fs::metadata(&target).map_err(|error| io(&error))?;
    if !metadata.is_file() {
        return Err(refuse("it does not lead to a file"));
    }
    Ok(Entry::File(Stamp::of(&metadata)))
}

/// Files that start with a dot or an underscore are the writers' own (`_SUCCESS`, `.part-0.parquet.crc`, temporary files).
pub(crate) fn hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_')
}

/// A folder name like `_month=1` is a partition all the same.
pub(crate) fn hidden_folder(name: &str) -> bool {
    hidden(name) && (name.starts_with('.') || !name.contains('='))
}

/// The stem of a Parquet file's name, or `None` for other files.
pub(crate) fn stem(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    (extension.eq_ignore_ascii_case("parquet") && !stem.is_empty()).then_some(stem)
}

/// A name in a folder and its path; an error is a name that is not UTF-8, with its bytes replaced.
pub(crate) type Child = (Result<String, String>, PathBuf);

/// What is in `folder`, sorted by name.
pub(crate) fn children(root: &Path, folder: &Path) -> Result<Vec<Child>, Error> {
    let io = |error: &std::io::Error| Error::io(&label(root, folder), error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| io(&error))? {
        let entry = entry.map_err(|error| io(&error))?;
        let name = entry.file_name();
        let name = name.to_str().map(str::to_owned).ok_or_else(|| name.to_string_lossy().into_owned());
        found.push((name, entry.path()));
    }
    found.sort();
    Ok(found)
}

/// Lists the table at `path`, a file or a folder, sorted by path. Blocks.
pub(crate) fn list(root: &Path, path: &Path) -> Result<Vec<Listed>, Error> {
    let mut files = Vec::new();
    match look(root, path)? {
        Entry::File(stamp) => {
            files.push(Listed { path: path.to_owned(), label: label(root, path), stamp, pairs: Vec::new() });
        }
        Entry::Folder(_) => walk(root, path, &mut Vec::new(), 0, &mut files)?,
        Entry::Other => {}
    }
    if files.is_empty() {
        return Err(Error::Empty { path: label(root, path) });
    }
    Ok(files)
}

fn walk(root: &Path, folder: &Path, pairs: &mut Vec<Pair>, depth: usize, files: &mut Vec<Listed>) -> Result<(), Error> {
    for (name, path) in children(root, folder)? {
        let name = match name {
            Ok(name) => name,
            // Leaving a file out would be a wrong answer.
            Err(_) => return Err(Error::NotUnicode { path: label(root, &path) }),
        };
        if hidden(&name) && hidden_folder(&name) {
            continue;
        }
        let entry = match look(root, &path) {
            Ok(entry) => entry,
            Err(_) if stem(&name).is_none() && partition::parse(&name).is_none() => continue,
            Err(error) => return Err(error),
        };
        match entry {
            Entry::File(stamp) if stem(&name).is_some() && !hidden(&name) => {
                files.push(Listed { label: label(root, &path), path, stamp, pairs: pairs.clone() });
            }
            Entry::Folder(_) if depth < DEPTH => {
                let pair = partition::parse(&name);
                let partitioned = pair.is_some();
                pairs.extend(pair);
                walk(root, &path, pairs, depth + 1, files)?;
                if partitioned {
                    pairs.pop();
                }
            }
            _ => {}
        }
    }
    Ok(())
}
