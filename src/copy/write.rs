//! Rows of COPY TO on their way to the client: batches in, one message for each row out.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use pgwire::api::portal::Format as Values;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse, MESSAGE_TYPE_BYTE_COPY_DATA};

use super::{Csv, Format, Header, Lines, SIGNATURE};
use crate::encode;
use crate::names;
use crate::protocol::Outbound;
use crate::sqlstate::{SqlError, SqlState};

/// Writes rows in a format.
#[derive(Debug)]
pub(crate) struct Writer {
    values: encode::Columns,
    format: Format,
    names: Vec<String>,
    /// Which columns are always in quotes.
    forced: Vec<bool>,
    /// What is written of the message at hand.
    message: BytesMut,
}

impl Writer {
    /// A writer of rows of `schema`, times with a zone shown in `zone`.
    pub(crate) fn new(schema: &Schema, format: Format, zone: &str) -> Result<Self, SqlError> {
        let binary = format == Format::Binary;
        let values = encode::Columns::new(schema, if binary { &Values::UnifiedBinary } else { &Values::UnifiedText }, zone)?;
        let names: Vec<String> = schema.fields().iter().map(|field| names::shown(field.name()).to_owned()).collect();
        let mut forced = vec![false; names.len()];
        if let Format::Lines(Lines { csv: Some(csv), .. }) = &format {
            if let Some(name) = csv.force_quote.unknown(names.iter().map(String::as_str)) {
                let message = format!("FORCE_QUOTE column \"{name}\" not referenced by COPY");
                return Err(SqlError::new(SqlState::InvalidColumnReference, message));
            }
            forced = names.iter().map(|name| csv.force_quote.contains(name)).collect();
        }
        Ok(Self { values, format, names, forced, message: BytesMut::new() })
    }

    /// Tells the client what comes, and begins it.
    pub(crate) fn begin(&mut self, out: &mut Outbound) -> Result<(), SqlError> {
        let code = i8::from(self.format == Format::Binary);
        let count = i16::try_from(self.names.len()).map_err(|_| SqlError::new(SqlState::ProgramLimitExceeded, "too many columns"))?;
        let formats = vec![i16::from(code); self.names.len()];
        out.put(&PgWireBackendMessage::CopyOutResponse(CopyOutResponse::new(code, count, formats)))?;
        match &self.format {
            // goes with the first row, or with the trailer
            Format::Binary => {
                self.message.put_slice(SIGNATURE);
                self.message.put_bytes(0, 8);
                Ok(())
            }
            Format::Lines(Lines { header: Header::No, .. }) => Ok(()),
            Format::Lines(lines) => {
                for (at, name) in self.names.iter().enumerate() {
                    if at > 0 {
                        self.message.put_u8(lines.delimiter);
                    }
                    field(&mut self.message, name.as_bytes(), lines, false, self.names.len() == 1);
                }
                self.message.put_u8(b'\n');
                put(&mut self.message, out)
            }
        }
    }

    /// Writes rows `[from, to)` of a batch.
    pub(crate) fn rows(&mut self, batch: &RecordBatch, from: usize, to: usize, out: &mut Outbound) -> Result<(), SqlError> {
        let Self { values, format, forced, message: first, .. } = self;
        let mut rows = values.rows(batch, from, to)?;
        let mut row = BytesMut::new();
        while rows.next() {
            out.message(MESSAGE_TYPE_BYTE_COPY_DATA, |message| match format {
                Format::Binary => {
                    if !first.is_empty() {
                        message.put_slice(&first.split());
                    }
                    message.put_i16(values.count());
                    rows.put(message)
                }
                Format::Lines(lines) => {
                    row.clear();
                    rows.put(&mut row)?;
                    line(message, &row, lines, forced);
                    Ok(())
                }
            })?;
        }
        Ok(())
    }

    /// Ends the data.
    pub(crate) fn end(mut self, out: &mut Outbound) -> Result<(), SqlError> {
        if self.format == Format::Binary {
            self.message.put_i16(-1);
            put(&mut self.message, out)?;
        }
        out.put(&PgWireBackendMessage::CopyDone(CopyDone::new()))
    }
}

fn put(message: &mut BytesMut, out: &mut Outbound) -> Result<(), SqlError> {
    out.put(&PgWireBackendMessage::CopyData(CopyData::new(message.split().freeze())))
}

/// A line of the values of a row: each with its length before it, which is negative for NULL.
fn line(message: &mut BytesMut, mut values: &[u8], lines: &Lines, forced: &[bool]) {
    let alone = forced.len() == 1;
    for (at, forced) in forced.iter().enumerate() {
        if at > 0 {
            message.put_u8(lines.delimiter);
        }
        let Some((length, rest)) = values.split_first_chunk() else { break };
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, rest) = rest.split_at(length.min(rest.len()));
                field(message, value, lines, *forced, alone);
                values = rest;
            }
            Err(_) => {
                message.put_slice(lines.null.as_bytes());
                values = rest;
            }
        }
    }
    message.put_u8(b'\n');
}

/// A value, in quotes or with backslashes where it could be read as something else; `alone` where its line holds no other.
fn field(message: &mut BytesMut, value: &[u8], lines: &Lines, forced: bool, alone: bool) {
    match &lines.csv {
        Some(csv) => quoted(message, value, lines, csv, forced, alone),
        None => escaped(message, value, lines.delimiter),
    }
}

fn escaped(message: &mut BytesMut, value: &[u8], delimiter: u8) {
    for byte in value {
        let escape = match *byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            byte if byte == b'\\' || byte == delimiter => byte,
            byte => {
                message.put_u8(byte);
                continue;
            }
        };
        message.put_slice(&[b'\\', escape]);
    }
}

fn quoted(message: &mut BytesMut, value: &[u8], lines: &Lines, csv: &Csv, forced: bool, alone: bool) {
    let special = |byte: &u8| *byte == lines.delimiter || *byte == csv.quote || matches!(byte, b'\n' | b'\r');
    // unquoted, the first would be read as NULL and the second as the end of the data
    let misread = value == lines.null.as_bytes() || (alone && value == b"\\.");
    if !forced && !misread && !value.iter().any(special) {
        return message.put_slice(value);
    }
    message.put_u8(csv.quote);
    for byte in value {
        if *byte == csv.quote || *byte == csv.escape {
            message.put_u8(csv.escape);
        }
        message.put_u8(*byte);
    }
    message.put_u8(csv.quote);
}

#[cfg(test)]
mod tests {
    use super::super::Columns;
    use super::*;

    fn written(values: &[Option<&str>], lines: &Lines, forced: &[bool]) -> String {
        let mut data = BytesMut::new();
        for value in values {
            data.put_i32(value.map_or(-1, |value| value.len() as i32));
            data.put_slice(value.unwrap_or_default().as_bytes());
        }
        let mut message = BytesMut::new();
        line(&mut message, &data, lines, forced);
        String::from_utf8_lossy(&message).into_owned()
    }

    #[test]
    fn text_is_escaped_as_postgresql_escapes_it() {
        let lines = Lines { delimiter: b'\t', null: "\\N".to_owned(), header: Header::No, csv: None };
        let values = [Some("a\tb\nc\\d"), None, Some(""), Some("\u{8}\u{b}\u{1}")];
        assert_eq!(written(&values, &lines, &[false; 4]), "a\\tb\\nc\\\\d\t\\N\t\t\\b\\v\u{1}\n");
        let lines = Lines { delimiter: b'|', null: "none".to_owned(), ..lines };
        assert_eq!(written(&[Some("a|b\tc"), None], &lines, &[false; 2]), "a\\|b\\tc|none\n");
    }

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let none = || Columns::Named(Vec::new());
        let csv = Csv { quote: b'"', escape: b'"', force_quote: none(), force_not_null: none(), force_null: none() };
        let lines = Lines { delimiter: b',', null: String::new(), header: Header::No, csv: Some(csv.clone()) };
        let values = [Some("a,b"), None, Some(""), Some("say \"hi\""), Some("x\ny"), Some("plain"), Some("\\.")];
        assert_eq!(written(&values, &lines, &[false; 7]), "\"a,b\",,\"\",\"say \"\"hi\"\"\",\"x\ny\",plain,\\.\n");
        assert_eq!(written(&[Some("\\.")], &lines, &[false]), "\"\\.\"\n");
        assert_eq!(written(&[Some("a"), None], &lines, &[true, true]), "\"a\",\n");
        let lines = Lines { csv: Some(Csv { quote: b'\'', escape: b'\\', ..csv }), ..lines };
        assert_eq!(written(&[Some("it's a \\"), Some("a \\ b")], &lines, &[false; 2]), "'it\\'s a \\\\',a \\ b\n");
    }
}
