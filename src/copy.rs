//! The formats of COPY: rows as lines of text, as CSV and in binary, written and read as PostgreSQL does.

mod array;
mod binary;
mod column;
mod lines;
mod number;
mod read;
mod write;

pub(crate) use column::value;
pub(crate) use read::{Piece, Reader};
pub(crate) use write::Writer;

/// The first bytes of binary data, before its flags and the length of its extension.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// The protocol's binary values.
    Binary,
    /// One line for each row.
    Lines(Lines),
}

/// How lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) delimiter: u8,
    /// What stands for NULL.
    pub(crate) null: String,
    pub(crate) header: Header,
    /// Quotes instead of backslashes.
    pub(crate) csv: Option<Csv>,
}

/// What CSV has beyond text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Csv {
    pub(crate) quote: u8,
    pub(crate) escape: u8,
    /// Columns that are written in quotes whatever they hold.
    pub(crate) force_quote: Columns,
    /// Columns whose values are never read as NULL.
    pub(crate) force_not_null: Columns,
    /// Columns whose values are read as NULL also in quotes.
    pub(crate) force_null: Columns,
}

/// Whether the first line holds the names of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    No,
    Yes,
    /// It does, and they must be those of the table.
    Match,
}

/// Some of the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Columns {
    All,
    Named(Vec<String>),
}

impl Columns {
    fn contains(&self, name: &str) -> bool {
        match self {
            Columns::All => true,
            Columns::Named(names) => names.iter().any(|n| n == name),
        }
    }

    /// The first that is not among `names`.
    fn unknown<'a>(&'a self, mut names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
        match self {
            Columns::All => None,
            Columns::Named(own) => own.iter().map(String::as_str).find(|own| !names.any(|name| name == *own)),
        }
    }
}
