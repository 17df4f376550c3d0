//! Which files and folders below the data folder are which tables.
//!
//! - Files in the data folder itself are tables of the schema `public`.
//! - A folder in it is a table of `public` when its name ends in `.parquet`, when it holds `key=value` folders, or when all
//!   Parquet files directly in it are part files as Spark, DuckDB, pyarrow, Dask, Polars and Hugging Face write them.
//! - Any other folder is a schema: its files are tables, and each folder in it is one table.
//!
//! A table's name is the file's or folder's name without `.parquet`, letter for letter: a name with capitals or spaces is
//! quoted in SQL, as in PostgreSQL. Where two would have one name, neither is readable until one is renamed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{Error, reason};
use super::file::Stamp;
use super::listing::{Child, Entry, children, hidden, hidden_folder, label, look, stem};
use super::partition;

/// The schema of the tables directly in the data folder.
pub(crate) const PUBLIC: &str = "public";

/// Schemas that a folder can never be: they belong to PostgreSQL or to the server. All other `pg_` names are PostgreSQL's too.
const RESERVED: [&str; 4] = ["information_schema", "ml", "ai", crate::store::SCHEMA];

/// Where a table is, or why it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    At(PathBuf),
    Broken(Error),
}

/// The tables of a data folder.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Schema name to table name to place; `public` is always there.
    pub(crate) schemas: BTreeMap<String, BTreeMap<String, Place>>,
    /// What was found and left out, in the order of the paths.
    pub(crate) refused: Vec<Error>,
    /// Every folder that was looked into, with its state then.
    watched: Vec<(PathBuf, Stamp)>,
    settled: bool,
}

impl Layout {
    /// Reads the layout of the folder `root`, which is a canonical path. Blocks.
    pub(crate) fn scan(root: &Path) -> Result<Self, Error> {
        let mut layout = Self { settled: true, ..Self::default() };
        layout.schemas.insert(PUBLIC.to_owned(), BTreeMap::new());
        let unreadable = |error: &std::io::Error| Error::Root { path: root.display().to_string(), reason: reason(error) };
        let metadata = fs::metadata(root).map_err(|error| unreadable(&error))?;
        if !metadata.is_dir() {
            return Err(Error::Root { path: root.display().to_string(), reason: "it is not a folder".to_owned() });
        }
        layout.watch(root, Stamp::of(&metadata));
        let found = children(root, root).map_err(|error| match error {
            Error::Io { reason, .. } => Error::Root { path: root.display().to_string(), reason },
            other => other,
        })?;
        for (name, path) in found {
            layout.top(root, name, path);
        }
        Ok(layout)
    }

    /// Whether nothing has been added, removed or renamed since the scan. Blocks for one `stat` per folder.
    pub(crate) fn current(&self) -> bool {
        self.settled && self.watched.iter().all(|(path, stamp)| fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata) == *stamp))
    }

    fn watch(&mut self, folder: &Path, stamp: Stamp) {
        self.settled &= stamp.settled(SystemTime::now());
        self.watched.push((folder.to_owned(), stamp));
    }

    fn top(&mut self, root: &Path, name: Result<String, String>, path: PathBuf) {
        let Some((name, entry)) = self.entry(root, PUBLIC, name, &path) else { return };
        let stamp = match entry {
            Entry::Folder(stamp) => stamp,
            Entry::File(_) => return self.file(root, PUBLIC, &name, path),
            Entry::Other => return,
        };
        if let Some(stem) = stem(&name) {
            return self.add(root, PUBLIC, stem, path);
        }
        self.watch(&path, stamp);
        let inside = match children(root, &path) {
            Ok(inside) => inside,
            Err(error) => return self.refuse(error),
        };
        if is_table(&inside) {
            return self.add(root, PUBLIC, &name, path);
        }
        if RESERVED.contains(&name.as_str()) || name.starts_with("pg_") {
            return self.refuse(Error::ReservedName { path: label(root, &path), name });
        }
        self.schemas.entry(name.clone()).or_default();
        for (child, path) in inside {
            self.child(root, &name, child, path);
        }
    }

    fn child(&mut self, root: &Path, schema: &str, name: Result<String, String>, path: PathBuf) {
        let Some((name, entry)) = self.entry(root, schema, name, &path) else { return };
        match entry {
            Entry::File(_) => self.file(root, schema, &name, path),
            Entry::Other => {}
            Entry::Folder(stamp) => {
                if self.holds_tables(root, &path, stamp) {
                    self.add(root, schema, stem(&name).unwrap_or(&name), path);
                }
            }
        }
    }

    /// Resolves one directory entry; hidden, unnameable and unfollowed ones are dealt with here.
    fn entry(&mut self, root: &Path, schema: &str, name: Result<String, String>, path: &Path) -> Option<(String, Entry)> {
        let name = match name {
            Ok(name) => name,
            Err(_) => {
                self.refuse(Error::NotUnicode { path: label(root, path) });
                return None;
            }
        };
        if hidden(&name) && hidden_folder(&name) {
            return None;
        }
        match look(root, path) {
            Ok(entry) => Some((name, entry)),
            Err(error) => {
                if let Some(stem) = stem(&name) {
                    self.place(root, schema, stem, path, Place::Broken(error));
                } else if matches!(error, Error::Link { .. }) {
                    self.refuse(error);
                }
                None
            }
        }
    }

    /// A folder of other people's files is no table; an empty one is a table that nobody has written yet.
    fn holds_tables(&mut self, root: &Path, folder: &Path, stamp: Stamp) -> bool {
        if folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| stem(name).is_some()) {
            return true;
        }
        let Ok(inside) = children(root, folder) else { return true };
        let visible =
            || inside.iter().filter_map(|(name, path)| Some((name.as_ref().ok()?, path))).filter(|(name, _)| !hidden_folder(name));
        if visible().next().is_none() || visible().any(|(name, path)| stem(name).is_some() || path.is_dir()) {
            return true;
        }
        self.watch(folder, stamp);
        false
    }

    fn file(&mut self, root: &Path, schema: &str, name: &str, path: PathBuf) {
        if let Some(stem) = stem(name).filter(|_| !hidden(name)) {
            self.add(root, schema, stem, path);
        }
    }

    fn add(&mut self, root: &Path, schema: &str, table: &str, path: PathBuf) {
        let place = Place::At(path.clone());
        self.place(root, schema, table, &path, place);
    }

    fn place(&mut self, root: &Path, schema: &str, table: &str, path: &Path, place: Place) {
        let tables = self.schemas.entry(schema.to_owned()).or_default();
        let place = match tables.get(table) {
            None => place,
            Some(Place::Broken(Error::Ambiguous { .. })) => return,
            Some(other) => Place::Broken(Error::Ambiguous {
                name: table.to_owned(),
                first: match other {
                    Place::At(first) => label(root, first),
                    Place::Broken(_) => table.to_owned(),
                },
                second: label(root, path),
            }),
        };
        tables.insert(table.to_owned(), place);
    }

    fn refuse(&mut self, error: Error) {
        self.refused.push(error);
    }
}

fn is_table(inside: &[Child]) -> bool {
    let names = || inside.iter().filter_map(|(name, path)| Some((name.as_ref().ok()?, path)));
    if names().any(|(name, path)| !name.starts_with('.') && partition::parse(name).is_some() && path.is_dir()) {
        return true;
    }
    let mut parts = names().filter(|(name, _)| !hidden(name)).filter_map(|(name, _)| stem(name)).peekable();
    parts.peek().is_some() && parts.all(is_part)
}

/// Whether a file is named as one of many: `part-00000-<uuid>.c000`, `part.0`, `data_0`, `0001`, `train-00000-of-00004`.
fn is_part(stem: &str) -> bool {
    let digit = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    for prefix in ["part-r-", "part-m-", "part-", "part.", "part_", "data_"] {
        if let Some(rest) = stem.strip_prefix(prefix) {
            return digit(rest);
        }
    }
    if all_digits(stem) {
        return true;
    }
    // pyarrow before 6: 32 hexadecimal digits, a dash, a number. Hugging Face: name-00000-of-00004.
    let Some((rest, last)) = stem.rsplit_once('-') else { return false };
    if !all_digits(last) {
        return false;
    }
    let is_guid = rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_guid || rest.strip_suffix("-of").and_then(|rest| rest.rsplit_once('-')).is_some_and(|(_, number)| all_digits(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_files_of_known_writers_are_recognised() {
        for stem in [
            "part-00000-3f2a.c000.snappy",
            "part-0",
            "part.12",
            "part_3",
            "part-r-00001-abc.gz",
            "data_0",
            "00000001",
            "8d3a5e0c6c2f4a0e9b1d2c3b4a5f6e7d-0",
            "train-00000-of-00004",
        ] {
            assert!(is_part(stem), "{stem}");
        }
        for stem in ["customers", "part-numbers", "data_customers", "sales-2024", "parties", "2024-01", "a-of-4"] {
            assert!(!is_part(stem), "{stem}");
        }
    }

    fn touch(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }

    fn tables(layout: &Layout) -> Vec<String> {
        layout.schemas.iter().flat_map(|(schema, tables)| tables.keys().map(move |table| format!("{schema}.{table}"))).collect()
    }

    fn scan(paths: &[&str]) -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        for path in paths {
            touch(folder.path(), path);
        }
        let layout = Layout::scan(&folder.path().canonicalize().unwrap()).unwrap();
        (folder, layout)
    }

    #[test]
    fn files_and_table_folders_are_public_and_other_folders_are_schemas() {
        let (_folder, layout) = scan(&[
            "orders.parquet",
            "Odd Name.PARQUET",
            "notes.txt",
            "_hidden.parquet",
            ".also.parquet",
            "log.parquet/a.parquet",
            "spark/part-00000-x.snappy.parquet",
            "spark/_SUCCESS",
            "hive/day=2024-01-01/a.parquet",
            "shop/customers.parquet",
            "shop/events/part-0.parquet",
            "shop/any/thing.parquet",
            "shop/docs/readme.md",
            "public/extra.parquet",
            "_tmp/x.parquet",
        ]);
        assert_eq!(
            tables(&layout),
            [
                "public.Odd Name",
                "public.extra",
                "public.hive",
                "public.log",
                "public.orders",
                "public.spark",
                "shop.any",
                "shop.customers",
                "shop.events"
            ]
        );
        assert!(layout.refused.is_empty(), "{:?}", layout.refused);
    }

    #[test]
    fn reserved_schema_names_are_refused_with_their_reason() {
        let (_folder, layout) = scan(&["ml/a.parquet", "pg_catalog/a.parquet", "pg_temp_1/a.parquet", "work/a.parquet", "x/a.parquet"]);
        assert_eq!(tables(&layout), ["x.a"]);
        let names: Vec<_> = layout.refused.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 4);
        assert_eq!(names[0], "folder ml is ignored: the schema name ml is reserved");
    }

    #[test]
    fn two_files_of_one_name_break_that_table_only() {
        let (_folder, layout) = scan(&["a.parquet", "a.PARQUET", "b.parquet"]);
        let public = &layout.schemas[PUBLIC];
        let Place::Broken(error) = &public["a"] else { panic!("a is readable") };
        assert_eq!(error.to_string(), "table a is ambiguous: both a.PARQUET and a.parquet have that name");
        assert!(matches!(public["b"], Place::At(_)));
    }

    #[test]
    fn links_out_of_the_data_folder_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        touch(outside.path(), "secret.parquet");
        let folder = tempfile::tempdir().unwrap();
        touch(folder.path(), "real.parquet");
        let link = |from: &Path, to: &str| std::os::unix::fs::symlink(from, folder.path().join(to)).unwrap();
        link(&outside.path().join("secret.parquet"), "leak.parquet");
        link(outside.path(), "leak");
        link(&folder.path().join("real.parquet"), "alias.parquet");
        link(&folder.path().join("nowhere"), "dangling.parquet");
        let layout = Layout::scan(&folder.path().canonicalize().unwrap()).unwrap();
        let public = &layout.schemas[PUBLIC];
        assert!(matches!(public["alias"], Place::At(_)));
        assert!(matches!(public["dangling"], Place::Broken(Error::Io { .. })));
        assert!(matches!(public["leak"], Place::Broken(Error::Link { .. })));
        assert_eq!(layout.refused, [Error::Link { path: "leak".into(), reason: "it leads out of the data folder" }]);
    }
}
