//! Data of COPY FROM on its way into a table: pieces of bytes in, batches of rows out.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use tokio::sync::mpsc;

use super::column::{Column, utf8};
use super::lines::{Fields, Found, Scanner};
use super::{Csv, Format, Header, Lines, binary};
use crate::sqlstate::{SqlError, SqlState, internal};

/// Rows and bytes of a batch.
const ROWS: usize = 8192;
const BYTES: usize = 8 << 20;

/// Most characters of a value or a line that an error shows.
const SHOWN: usize = 100;

/// What comes from the client, in order.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    /// All data has come.
    End,
    /// There will be no more, and nothing is to be kept.
    Failed(SqlError),
}

/// Makes rows of a table out of data.
#[derive(Debug)]
pub(crate) struct Reader {
    table: String,
    schema: SchemaRef,
    /// In the order of the data.
    columns: Vec<Column>,
    /// For each column of the table, which of the data's it is.
    places: Vec<Option<usize>>,
    form: Form,
    buffer: BytesMut,
    /// Bytes of the longest row.
    longest: usize,
    /// Rows that are not in a batch yet.
    rows: usize,
    /// What comes behind the end marker is left out.
    over: bool,
}

/// Where the reading of a format stands.
#[derive(Debug)]
enum Form {
    Lines { lines: Lines, scanner: Scanner, fields: Fields, header: Header },
    Binary { begun: bool, row: u64, fields: Vec<Option<Range<usize>>> },
}

impl Reader {
    /// A reader for the named columns of a table, or for all where none is named.
    pub(crate) fn new(
        table: String,
        schema: SchemaRef,
        named: &[String],
        format: &Format,
        zone: &str,
        longest: usize,
    ) -> Result<Self, SqlError> {
        let zone = Tz::from_str(zone).map_err(|e| internal(&e.to_string()))?;
        let all = || schema.fields().iter().map(|field| field.name().clone()).collect();
        let named: Vec<String> = if named.is_empty() { all() } else { named.to_vec() };
        let mut places = vec![None; schema.fields().len()];
        let mut columns = Vec::with_capacity(named.len());
        for (at, name) in named.iter().enumerate() {
            let Some((place, field)) = schema.column_with_name(name) else {
                let message = format!("column \"{name}\" of relation \"{table}\" does not exist");
                return Err(SqlError::new(SqlState::UndefinedColumn, message));
            };
            if places[place].replace(at).is_some() {
                return Err(SqlError::new(SqlState::DuplicateColumn, format!("column \"{name}\" specified more than once")));
            }
            columns.push(Column::new(field, zone)?);
        }
        let form = match format {
            Format::Binary => Form::Binary { begun: false, row: 0, fields: Vec::new() },
            Format::Lines(lines) => {
                if let Some(csv) = &lines.csv {
                    let names = named.iter().map(String::as_str);
                    let options = [("FORCE_NOT_NULL", &csv.force_not_null), ("FORCE_NULL", &csv.force_null)];
                    if let Some((option, name)) = options.iter().find_map(|(option, list)| Some((option, list.unknown(names.clone())?))) {
                        let message = format!("{option} column \"{name}\" not referenced by COPY");
                        return Err(SqlError::new(SqlState::InvalidColumnReference, message));
                    }
                }
                Form::Lines { lines: lines.clone(), scanner: Scanner::new(lines), fields: Fields::default(), header: lines.header }
            }
        };
        Ok(Self { table, schema, columns, places, form, buffer: BytesMut::new(), longest, rows: 0, over: false })
    }

    /// Columns of the data.
    pub(crate) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The rows of the data that comes in pieces. An error in it ends them.
    pub(crate) fn rows(self, pieces: mpsc::Receiver<Piece>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let rows = futures::stream::try_unfold((self, pieces, false), |(mut reader, mut pieces, mut ended)| async move {
            loop {
                if let Some(batch) = reader.read(ended).map_err(DataFusionError::from)? {
                    return Ok(Some((batch, (reader, pieces, ended))));
                }
                if ended {
                    return Ok(None);
                }
                match pieces.recv().await {
                    Some(Piece::Data(data)) => reader.more(&data).map_err(DataFusionError::from)?,
                    Some(Piece::End) => ended = true,
                    Some(Piece::Failed(error)) => return Err(reader.at_next(error).into()),
                    // nobody waits for the outcome
                    None => return Err(SqlError::new(SqlState::QueryCanceled, "COPY was abandoned").into()),
                }
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    /// Takes a piece of data. Lines behind the end marker are left out, as PostgreSQL does.
    fn more(&mut self, data: &[u8]) -> Result<(), SqlError> {
        match &self.form {
            _ if !self.over => self.buffer.extend_from_slice(data),
            Form::Binary { .. } if !data.is_empty() => return Err(self.at_line(behind_trailer(), None)),
            _ => {}
        }
        Ok(())
    }

    /// The next batch, once it is full or all data is there.
    fn read(&mut self, last: bool) -> Result<Option<RecordBatch>, SqlError> {
        while self.rows < ROWS && self.columns.iter().map(Column::bytes).sum::<usize>() < BYTES {
            if !self.row(last)? {
                if self.buffer.len() > self.longest {
                    let message = format!("a row of COPY data is longer than the server's {} bytes", self.longest);
                    let error = SqlError::new(SqlState::ProgramLimitExceeded, message).with_hint("limits.message_size is the limit");
                    return Err(self.at_line(error, None));
                }
                return if last && self.rows > 0 { self.batch().map(Some) } else { Ok(None) };
            }
        }
        self.batch().map(Some)
    }

    fn batch(&mut self) -> Result<RecordBatch, SqlError> {
        let read = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<ArrayRef>, _>>();
        let read = read.map_err(|error| self.at_line(error, None))?;
        let rows = std::mem::take(&mut self.rows);
        let columns = self.places.iter().zip(self.schema.fields()).map(|(place, field)| match place {
            Some(at) => Arc::clone(&read[*at]),
            None => new_null_array(field.data_type(), rows),
        });
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect()).map_err(|e| internal(&e.to_string()))
    }

    /// Reads a row or the header. False where none is there.
    fn row(&mut self, last: bool) -> Result<bool, SqlError> {
        match &self.form {
            _ if self.over => Ok(false),
            Form::Lines { .. } => self.line(last),
            Form::Binary { .. } => self.fields(last),
        }
    }

    fn line(&mut self, last: bool) -> Result<bool, SqlError> {
        let Form::Lines { lines, scanner, fields, header } = &mut self.form else { return Ok(false) };
        let (end, next) = match scanner.scan(&self.buffer, last) {
            Ok(Found::Line { end, next }) => (end, next),
            Ok(Found::More | Found::Nothing) => return Ok(false),
            Ok(Found::Marker { end }) => {
                self.over = true;
                if end == 0 {
                    self.buffer.clear();
                    return Ok(false);
                }
                (end, self.buffer.len())
            }
            Err(error) => return Err(self.at_line(error, None)),
        };
        let line = self.buffer.split_to(end).freeze();
        self.buffer.advance(next - end);
        if self.over {
            self.buffer.clear();
        }
        if let Err(error) = fields.split(&line, lines) {
            return Err(self.at_line(error, Some(&line)));
        }
        match std::mem::replace(header, Header::No) {
            Header::No => {}
            Header::Yes => return Ok(true),
            Header::Match => {
                let matched = match_header(fields, &self.columns, lines);
                return matched.map(|()| true).map_err(|error| self.at_line(error, Some(&line)));
            }
        }
        if fields.len() > self.columns.len() {
            let error = SqlError::new(SqlState::BadCopyFileFormat, "extra data after last expected column");
            return Err(self.at_line(error, Some(&line)));
        }
        for at in 0..self.columns.len() {
            if at >= fields.len() {
                let message = format!("missing data for column \"{}\"", self.columns[at].name);
                return Err(self.at_line(SqlError::new(SqlState::BadCopyFileFormat, message), Some(&line)));
            }
            let column = &mut self.columns[at];
            let (text, null) = value(fields.get(at), &column.name, lines);
            let filled = if null {
                column.null();
                Ok(())
            } else {
                utf8(text).and_then(|text| column.text(text))
            };
            if let Err(error) = filled {
                let value = if null { "null input".to_owned() } else { format!("\"{}\"", shown(text)) };
                let context = format!("COPY {}, line {}, column {}: {value}", self.table, scanner.number, column.name);
                return Err(error.with_context(context));
            }
        }
        self.rows += 1;
        Ok(true)
    }

    fn fields(&mut self, last: bool) -> Result<bool, SqlError> {
        let Form::Binary { begun, row, fields } = &mut self.form else { return Ok(false) };
        if !*begun {
            match binary::header(&self.buffer, last) {
                Ok(Some(length)) => self.buffer.advance(length),
                Ok(None) => return Ok(false),
                Err(error) => return Err(self.at_line(error, None)),
            }
            *begun = true;
        }
        let length = match binary::row(&self.buffer, last, self.columns.len(), fields) {
            Ok(binary::Found::Row(length)) => length,
            Ok(binary::Found::More | binary::Found::Nothing) => return Ok(false),
            Ok(binary::Found::Trailer) => {
                self.over = true;
                let more = self.buffer.len() > 2;
                self.buffer.clear();
                return if more { Err(self.at_line(behind_trailer(), None)) } else { Ok(false) };
            }
            Err(error) => {
                *row += 1;
                return Err(self.at_line(error, None));
            }
        };
        *row += 1;
        for (column, field) in self.columns.iter_mut().zip(fields.iter()) {
            let filled = match field {
                Some(place) => column.binary(&self.buffer[place.clone()]),
                None => {
                    column.null();
                    Ok(())
                }
            };
            if let Err(error) = filled {
                let context = format!("COPY {}, line {row}, column {}", self.table, column.name);
                return Err(error.with_context(context));
            }
        }
        self.buffer.advance(length);
        self.rows += 1;
        Ok(true)
    }

    /// The error with the place it belongs to: the table, the line at hand, and what the line says.
    fn at_line(&self, error: SqlError, line: Option<&[u8]>) -> SqlError {
        let number = match &self.form {
            Form::Lines { scanner, .. } => scanner.number,
            Form::Binary { row, .. } => *row,
        };
        let inside = error.context.as_ref().map(|inside| format!(", {inside}")).unwrap_or_default();
        let line = line.map(|line| format!(": \"{}\"", shown(line))).unwrap_or_default();
        let context = format!("COPY {}, line {number}{inside}{line}", self.table);
        error.with_context(context)
    }

    /// The error at the line that has not come.
    fn at_next(&self, error: SqlError) -> SqlError {
        let number = match &self.form {
            Form::Lines { scanner, .. } => scanner.awaited(),
            Form::Binary { row, .. } => row + 1,
        };
        error.with_context(format!("COPY {}, line {number}", self.table))
    }
}

fn behind_trailer() -> SqlError {
    SqlError::new(SqlState::BadCopyFileFormat, "received copy data after EOF marker")
}

/// The text of a field and whether it is NULL, as FORCE_NULL and FORCE_NOT_NULL want it.
fn value<'a>((text, null): (&'a [u8], bool), column: &str, lines: &'a Lines) -> (&'a [u8], bool) {
    let Some(Csv { force_not_null, force_null, .. }) = &lines.csv else { return (text, null) };
    if null {
        return (text, !force_not_null.contains(column));
    }
    (text, text == lines.null.as_bytes() && force_null.contains(column))
}

/// Refuses a header that does not name the columns in their order.
fn match_header(fields: &Fields, columns: &[Column], lines: &Lines) -> Result<(), SqlError> {
    let wrong = |message: String| Err(SqlError::new(SqlState::BadCopyFileFormat, message));
    if fields.len() != columns.len() {
        return wrong(format!("wrong number of fields in header line: got {}, expected {}", fields.len(), columns.len()));
    }
    for (at, column) in columns.iter().enumerate() {
        let (name, null) = fields.get(at);
        let got = if null { format!("null value (\"{}\")", lines.null) } else { format!("\"{}\"", shown(name)) };
        if null || name != column.name.as_bytes() {
            return wrong(format!("column name mismatch in header line field {}: got {got}, expected \"{}\"", at + 1, column.name));
        }
    }
    Ok(())
}

/// The beginning of a value or a line.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::cast::AsArray;
    use datafusion::arrow::array::types::Int64Type;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use futures::TryStreamExt;

    use super::super::Columns;
    use super::*;

    fn csv() -> Csv {
        let none = || Columns::Named(Vec::new());
        Csv { quote: b'"', escape: b'"', force_quote: none(), force_not_null: none(), force_null: none() }
    }

    fn reader(named: &[&str], format: &Format) -> Reader {
        let fields = vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8View, true)];
        let named: Vec<String> = named.iter().map(|n| (*n).to_owned()).collect();
        Reader::new("t".to_owned(), Arc::new(Schema::new(fields)), &named, format, "UTC", 1000).expect("a reader")
    }

    fn lines(csv: Option<Csv>, header: Header) -> Format {
        let (delimiter, null) = if csv.is_some() { (b',', "") } else { (b'\t', "\\N") };
        Format::Lines(Lines { delimiter, null: null.to_owned(), header, csv })
    }

    async fn read(reader: Reader, pieces: &[&[u8]]) -> Result<Vec<(Option<i64>, Option<String>)>, SqlError> {
        let (sender, receiver) = mpsc::channel(pieces.len() + 1);
        for piece in pieces {
            sender.send(Piece::Data(Bytes::copy_from_slice(piece))).await.expect("room");
        }
        sender.send(Piece::End).await.expect("room");
        let batches: Vec<RecordBatch> = reader.rows(receiver).try_collect().await.map_err(SqlError::from)?;
        let rows = batches.iter().flat_map(|batch| {
            let (a, b) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string_view());
            a.iter().zip(b.iter()).map(|(a, b)| (a, b.map(str::to_owned))).collect::<Vec<_>>()
        });
        Ok(rows.collect())
    }

    fn row(a: i64, b: &str) -> (Option<i64>, Option<String>) {
        (Some(a), Some(b.to_owned()))
    }

    #[tokio::test]
    async fn rows_come_out_of_pieces_cut_anywhere() {
        let data = b"1\tone\n2\tcaf\xc3\xa9\n\\N\t\\N\n";
        let expected = [row(1, "one"), row(2, "café"), (None, None)];
        for cut in 0..data.len() {
            let pieces = [&data[..cut], &data[cut..]];
            assert_eq!(read(reader(&[], &lines(None, Header::No)), &pieces).await.expect("rows"), expected, "{cut}");
        }
        let many: Vec<u8> = (0..20_000).flat_map(|n| format!("{n}\tx\n").into_bytes()).collect();
        assert_eq!(read(reader(&[], &lines(None, Header::No)), &[&many]).await.expect("rows").len(), 20_000);
    }

    #[tokio::test]
    async fn columns_may_be_named_and_headers_checked() {
        let format = lines(Some(csv()), Header::Match);
        assert_eq!(read(reader(&["b"], &format), &[b"b\n\"x,y\"\n"]).await.expect("rows"), [(None, Some("x,y".to_owned()))]);
        assert_eq!(read(reader(&["b", "a"], &format), &[b"b,a\nx,1"]).await.expect("rows"), [row(1, "x")]);
        let error = read(reader(&[], &format), &[b"b,a\nx,1"]).await.expect_err("another order");
        assert_eq!(error.message, "column name mismatch in header line field 1: got \"b\", expected \"a\"");
        let forced = Csv { force_null: Columns::All, ..csv() };
        assert_eq!(read(reader(&[], &lines(Some(forced), Header::Yes)), &[b"h\n\"\",\"\"\n"]).await.expect("rows"), [(None, None)]);
        let kept = Csv { force_not_null: Columns::Named(vec!["b".to_owned()]), ..csv() };
        assert_eq!(read(reader(&[], &lines(Some(kept), Header::No)), &[b"1,\n"]).await.expect("rows"), [row(1, "")]);
    }

    #[tokio::test]
    async fn an_error_names_table_line_and_column() {
        let cases: [(&[u8], &str, &str, &str); 7] = [
            (b"1\ta\nx\tb\n", "22P02", "invalid input syntax for type bigint: \"x\"", "COPY t, line 2, column a: \"x\""),
            (b"1\n", "22P04", "missing data for column \"b\"", "COPY t, line 1: \"1\""),
            (b"1\ta\n\n", "22P02", "invalid input syntax for type bigint: \"\"", "COPY t, line 2, column a: \"\""),
            (b"1\ta\tb\n", "22P04", "extra data after last expected column", "COPY t, line 1: \"1\ta\tb\""),
            (b"1\t\xff\n", "22021", "invalid byte sequence for encoding \"UTF8\": 0xff", "COPY t, line 1, column b: \"\u{fffd}\""),
            (b"1\ta\nb\r\n", "22P04", "literal carriage return found in data", "COPY t, line 2"),
            (&[b'x'; 2000], "54000", "a row of COPY data is longer than the server's 1000 bytes", "COPY t, line 1"),
        ];
        for (data, state, message, context) in cases {
            let pieces = [data, b"".as_slice()];
            let error = read(reader(&[], &lines(None, Header::No)), &pieces).await.expect_err(message);
            assert_eq!((error.state.code(), error.message.as_str()), (state, message));
            assert_eq!(error.context.as_deref(), Some(context));
        }
        let error = read(reader(&[], &lines(Some(csv()), Header::No)), &[b"1,\"a\nb\"\n2,\"c"]).await.expect_err("open");
        assert_eq!(
            (error.message.as_str(), error.context.as_deref()),
            ("unterminated CSV quoted field", Some("COPY t, line 3: \"2,\"c\""))
        );
    }

    #[tokio::test]
    async fn binary_rows_are_read_up_to_their_trailer() {
        let header = [&super::super::SIGNATURE[..], &[0; 8]].concat();
        let row_of = |a: i64, b: &[u8]| [&[0, 2, 0, 0, 0, 8][..], &a.to_be_bytes(), &(b.len() as u32).to_be_bytes(), b].concat();
        let data = [&header[..], &row_of(1, b"one"), &row_of(2, b"two"), &[0xff, 0xff]].concat();
        for cut in 0..data.len() {
            let rows = read(reader(&[], &Format::Binary), &[&data[..cut], &data[cut..]]).await.expect("rows");
            assert_eq!(rows, [row(1, "one"), row(2, "two")], "{cut}");
        }
        let error = read(reader(&[], &Format::Binary), &[&data[..data.len() - 4]]).await.expect_err("cut");
        assert_eq!((error.state.code(), error.context.as_deref()), ("22P04", Some("COPY t, line 2")));
        let error = read(reader(&[], &Format::Binary), &[&header, &[0, 2, 0, 0, 0, 1, 7]]).await.expect_err("cut");
        assert_eq!(error.state.code(), "22P04");
        let error =
            read(reader(&[], &Format::Binary), &[&header, &[0, 2, 0, 0, 0, 1, 7, 0xff, 0xff, 0xff, 0xff]]).await.expect_err("short");
        assert_eq!((error.state.code(), error.context.as_deref()), ("22P03", Some("COPY t, line 1, column a")));
    }
}
