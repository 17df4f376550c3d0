//! Lines of text and CSV: where each ends, and its fields.

use super::{Csv, Lines};
use crate::sqlstate::{SqlError, SqlState};

/// How lines end; all end alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Newline,
    Return,
    ReturnNewline,
}

/// What a scan came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A line up to `end`; the next begins at `next`.
    Line { end: usize, next: usize },
    /// The line goes on in data that is not there yet.
    More,
    /// The end marker `\.`, with what stands before it in its line.
    Marker { end: usize },
    /// There is nothing more.
    Nothing,
}

/// Looks for the ends of lines in data that comes in pieces.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Quote and escape of CSV.
    csv: Option<(u8, u8)>,
    ending: Option<Ending>,
    /// Up to where the line has been looked at.
    at: usize,
    quoted: bool,
    escaped: bool,
    fresh: bool,
    /// The number of the line at hand, from 1; of its last part where quotes span lines.
    pub(super) number: u64,
}

impl Scanner {
    pub(super) fn new(lines: &Lines) -> Self {
        let csv = lines.csv.as_ref().map(|csv| (csv.quote, csv.escape));
        Self { csv, ending: None, at: 0, quoted: false, escaped: false, fresh: true, number: 0 }
    }

    /// Scans `data`, which begins with a line; `last` where no more will come.
    pub(super) fn scan(&mut self, data: &[u8], last: bool) -> Result<Found, SqlError> {
        if data.is_empty() {
            return Ok(if last { Found::Nothing } else { Found::More });
        }
        if std::mem::take(&mut self.fresh) {
            self.number += 1;
        }
        while let Some(&c) = data.get(self.at) {
            let next = data.get(self.at + 1).copied();
            if !last && unclear(&data[self.at..]) {
                return Ok(Found::More);
            }
            self.quotes(c);
            match c {
                b'\r' if !self.quoted => {
                    let ending = if next == Some(b'\n') { Ending::ReturnNewline } else { Ending::Return };
                    return self.line(ending, "carriage return");
                }
                b'\n' if !self.quoted => return self.line(Ending::Newline, "newline"),
                b'\\' if next == Some(b'.') && (self.csv.is_none() || (self.at == 0 && !self.quoted)) => {
                    if let Some(found) = self.marker(data)? {
                        return Ok(found);
                    }
                    self.at += 1;
                }
                // whatever follows a backslash belongs to the line
                b'\\' if self.csv.is_none() => self.at += 2,
                _ => self.at += 1,
            }
        }
        if !last {
            return Ok(Found::More);
        }
        Ok(self.found(Found::Line { end: data.len(), next: data.len() }))
    }

    /// The number of the line that comes next or goes on.
    pub(super) fn awaited(&self) -> u64 {
        self.number + u64::from(self.fresh)
    }

    fn quotes(&mut self, c: u8) {
        let Some((quote, escape)) = self.csv else { return };
        if self.quoted && c == escape && escape != quote {
            self.escaped = !self.escaped;
        }
        if c == quote && !self.escaped {
            self.quoted = !self.quoted;
        }
        if c != escape {
            self.escaped = false;
        }
        let newline = if matches!(self.ending, Some(Ending::Return | Ending::ReturnNewline)) { b'\r' } else { b'\n' };
        if self.quoted && c == newline {
            self.number += 1;
        }
    }

    fn line(&mut self, ending: Ending, what: &str) -> Result<Found, SqlError> {
        if *self.ending.get_or_insert(ending) != ending {
            let (message, hint) = match self.csv {
                Some(_) => (format!("unquoted {what} found in data"), format!("use a quoted CSV field to represent a {what}")),
                None => {
                    let escape = if what == "newline" { "\\n" } else { "\\r" };
                    (format!("literal {what} found in data"), format!("use \"{escape}\" to represent a {what}"))
                }
            };
            return Err(SqlError::new(SqlState::BadCopyFileFormat, message).with_hint(hint));
        }
        let next = self.at + if ending == Ending::ReturnNewline { 2 } else { 1 };
        Ok(self.found(Found::Line { end: self.at, next }))
    }

    /// `\.` at hand is the end of the data if its line ends behind it.
    fn marker(&mut self, data: &[u8]) -> Result<Option<Found>, SqlError> {
        let ending = match (data.get(self.at + 2), data.get(self.at + 3)) {
            (None, _) => None,
            (Some(b'\n'), _) => Some(Ending::Newline),
            (Some(b'\r'), Some(b'\n')) => Some(Ending::ReturnNewline),
            (Some(b'\r'), _) => Some(Ending::Return),
            _ if self.csv.is_some() => return Ok(None),
            _ => return Err(SqlError::new(SqlState::BadCopyFileFormat, "end-of-copy marker corrupt")),
        };
        if let (Some(ending), Some(before)) = (ending, self.ending)
            && ending != before
        {
            return Err(SqlError::new(SqlState::BadCopyFileFormat, "end-of-copy marker does not match previous newline style"));
        }
        Ok(Some(self.found(Found::Marker { end: self.at })))
    }

    fn found(&mut self, found: Found) -> Found {
        (self.at, self.quoted, self.escaped, self.fresh) = (0, false, false, true);
        found
    }
}

/// Whether what follows decides over the first byte and is not there yet.
fn unclear(data: &[u8]) -> bool {
    matches!(data, [b'\r' | b'\\'] | [b'\\', b'.'] | [b'\\', b'.', b'\r'])
}

/// The fields of a line, one after the other in one buffer.
#[derive(Debug, Default)]
pub(super) struct Fields {
    data: Vec<u8>,
    /// Where each ends, and whether it is what stands for NULL.
    ends: Vec<(usize, bool)>,
}

impl Fields {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text of a field, and whether it stands for NULL.
    pub(super) fn get(&self, field: usize) -> (&[u8], bool) {
        let from = field.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let (to, null) = self.ends[field];
        (&self.data[from..to], null)
    }

    /// Takes a line apart.
    pub(super) fn split(&mut self, line: &[u8], lines: &Lines) -> Result<(), SqlError> {
        self.data.clear();
        self.ends.clear();
        match &lines.csv {
            None => {
                self.text(line, lines);
                Ok(())
            }
            Some(csv) => self.csv(line, lines, csv),
        }
    }

    fn text(&mut self, line: &[u8], lines: &Lines) {
        let mut at = 0;
        loop {
            let start = at;
            let end = loop {
                match line.get(at) {
                    None => break at,
                    Some(c) if *c == lines.delimiter => break at,
                    Some(b'\\') if at + 1 < line.len() => at = self.escape(line, at + 1),
                    Some(c) => {
                        self.data.push(*c);
                        at += 1;
                    }
                }
            };
            self.ends.push((self.data.len(), &line[start..end] == lines.null.as_bytes()));
            if end == line.len() {
                return;
            }
            at = end + 1;
        }
    }

    /// Takes what stands behind a backslash and gives the place behind it.
    fn escape(&mut self, line: &[u8], at: usize) -> usize {
        let digits = |from: usize, most: usize, radix: u32| {
            let digits = line[from..].iter().take(most).map_while(|c| char::from(*c).to_digit(radix));
            digits.fold((0_u32, from), |(value, at), digit| (value * radix + digit, at + 1))
        };
        let (byte, next) = match line[at] {
            b'0'..=b'7' => {
                let (value, next) = digits(at, 3, 8);
                (value.to_le_bytes()[0], next)
            }
            b'x' => match digits(at + 1, 2, 16) {
                (_, next) if next == at + 1 => (b'x', next),
                (value, next) => (value.to_le_bytes()[0], next),
            },
            b'b' => (8, at + 1),
            b'f' => (12, at + 1),
            b'n' => (b'\n', at + 1),
            b'r' => (b'\r', at + 1),
            b't' => (b'\t', at + 1),
            b'v' => (11, at + 1),
            other => (other, at + 1),
        };
        self.data.push(byte);
        next
    }

    fn csv(&mut self, line: &[u8], lines: &Lines, csv: &Csv) -> Result<(), SqlError> {
        let mut at = 0;
        loop {
            let start = at;
            let mut in_quotes = false;
            let end = loop {
                match line.get(at).copied() {
                    None => break at,
                    Some(c) if c == lines.delimiter => break at,
                    Some(c) if c == csv.quote => {
                        in_quotes = true;
                        at = self.quoted(line, at + 1, csv)?;
                    }
                    Some(c) => {
                        self.data.push(c);
                        at += 1;
                    }
                }
            };
            self.ends.push((self.data.len(), !in_quotes && &line[start..end] == lines.null.as_bytes()));
            if end == line.len() {
                return Ok(());
            }
            at = end + 1;
        }
    }

    /// Takes what stands in quotes and gives the place behind them.
    fn quoted(&mut self, line: &[u8], mut at: usize, csv: &Csv) -> Result<usize, SqlError> {
        loop {
            match (line.get(at).copied(), line.get(at + 1).copied()) {
                (None, _) => return Err(SqlError::new(SqlState::BadCopyFileFormat, "unterminated CSV quoted field")),
                (Some(c), Some(next)) if c == csv.escape && (next == csv.escape || next == csv.quote) => {
                    self.data.push(next);
                    at += 2;
                }
                (Some(c), _) if c == csv.quote => return Ok(at + 1),
                (Some(c), _) => {
                    self.data.push(c);
                    at += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Columns, Header};
    use super::*;

    fn text() -> Lines {
        Lines { delimiter: b'\t', null: "\\N".to_owned(), header: Header::No, csv: None }
    }

    fn csv(quote: u8, escape: u8) -> Lines {
        let none = || Columns::Named(Vec::new());
        let csv = Csv { quote, escape, force_quote: none(), force_not_null: none(), force_null: none() };
        Lines { delimiter: b',', null: String::new(), header: Header::No, csv: Some(csv) }
    }

    /// The lines of data that comes byte by byte, and whether a marker ended it.
    fn scanned(data: &[u8], lines: &Lines) -> Result<(Vec<String>, bool), String> {
        let mut scanner = Scanner::new(lines);
        let (mut start, mut there, mut found) = (0, 0, Vec::new());
        let word = |from: usize, to: usize| String::from_utf8_lossy(&data[from..to]).into_owned();
        loop {
            let last = there == data.len();
            match scanner.scan(&data[start..there], last).map_err(|error| error.message)? {
                Found::More => there += 1,
                Found::Nothing => return Ok((found, false)),
                Found::Line { end, next } => {
                    found.push(word(start, start + end));
                    start += next;
                }
                Found::Marker { end } => {
                    if end > 0 {
                        found.push(word(start, start + end));
                    }
                    return Ok((found, true));
                }
            }
        }
    }

    fn fields(line: &str, lines: &Lines) -> Vec<String> {
        let mut fields = Fields::default();
        fields.split(line.as_bytes(), lines).expect(line);
        (0..fields.len())
            .map(|i| match fields.get(i) {
                (_, true) => "NULL".to_owned(),
                (text, false) => format!("'{}'", String::from_utf8_lossy(text)),
            })
            .collect()
    }

    #[test]
    fn lines_end_where_postgresql_ends_them() {
        let some = |lines: &[&str], marker| Ok((lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>(), marker));
        assert_eq!(scanned(b"a\nb\n", &text()), some(&["a", "b"], false));
        assert_eq!(scanned(b"a\r\nb", &text()), some(&["a", "b"], false));
        assert_eq!(scanned(b"a\rb\r", &text()), some(&["a", "b"], false));
        assert_eq!(scanned(b"a\\\nb\n\n", &text()), some(&["a\\\nb", ""], false));
        assert_eq!(scanned(b"a\n\\.\nrest", &text()), some(&["a"], true));
        assert_eq!(scanned(b"a\r\n\\.\r\n", &text()), some(&["a"], true));
        assert_eq!(scanned(b"a\\.\n", &text()), some(&["a"], true));
        assert_eq!(scanned(b"\\.", &text()), some(&[], true));
        assert_eq!(scanned(b"\"a\nb\",\"c\"\"\nd\"\ne\n", &csv(b'"', b'"')), some(&["\"a\nb\",\"c\"\"\nd\"", "e"], false));
        assert_eq!(scanned(b"'a\\'\nb'\nc\\.\n\\.\n", &csv(b'\'', b'\\')), some(&["'a\\'\nb'", "c\\."], true));
        assert_eq!(scanned(b"\\.x\n\"\n\\.\n\"\n", &csv(b'"', b'"')), some(&["\\.x", "\"\n\\.\n\""], false));
        assert_eq!(scanned(b"a\nb\r\n", &text()), Err("literal carriage return found in data".to_owned()));
        assert_eq!(scanned(b"a\r\nb\n", &csv(b'"', b'"')), Err("unquoted newline found in data".to_owned()));
        assert_eq!(scanned(b"a\n\\.x\n", &text()), Err("end-of-copy marker corrupt".to_owned()));
        assert_eq!(scanned(b"a\n\\.\r\n", &text()), Err("end-of-copy marker does not match previous newline style".to_owned()));
    }

    #[test]
    fn text_is_unescaped_and_its_null_is_found_before() {
        assert_eq!(fields("a\tb", &text()), ["'a'", "'b'"]);
        assert_eq!(fields("\\N\t\\\\N\t\t\\t\\n\\101\\x42\\q\\x", &text()), ["NULL", "'\\N'", "''", "'\t\nABqx'"]);
        assert_eq!(fields("", &text()), ["''"]);
        assert_eq!(fields("a\\\tb", &text()), ["'a\tb'"]);
        let other = Lines { delimiter: b'|', null: "none".to_owned(), ..text() };
        assert_eq!(fields("none|\\none|", &other), ["NULL", "'\none'", "''"]);
    }

    #[test]
    fn csv_tells_an_empty_text_from_null() {
        let csv = csv(b'"', b'"');
        assert_eq!(fields("a,,\"\",\"b\"\"c\",d\"e,f\"g", &csv), ["'a'", "NULL", "''", "'b\"c'", "'de,fg'"]);
        assert_eq!(fields("", &csv), ["NULL"]);
        assert_eq!(fields("a,", &csv), ["'a'", "NULL"]);
        let escaped = super::tests::csv(b'\'', b'\\');
        assert_eq!(fields("'it\\'s','a\\b','\\\\'", &escaped), ["'it's'", "'a\\b'", "'\\'"]);
        assert!(Fields::default().split(b"\"open", &csv).is_err());
    }
}
