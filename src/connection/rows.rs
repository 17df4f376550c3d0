//! Rows on their way to the client, forwards as they are made and backwards as far as they are kept.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::MemoryReservation;
use stratagem_udfs::notice::Notice;

use super::Connection;
use crate::cancel::Guard;
use crate::copy::Writer;
use crate::encode::Columns;
use crate::protocol::Outbound;
use crate::session::Rows;
use crate::sqlstate::SqlError;

/// Rows encoded at a time: the connection looks up from its work in between.
const ROWS_AT_ONCE: usize = 512;

/// Rows that are being made, and the place among them.
pub(super) struct Cursor {
    pub(super) schema: SchemaRef,
    rows: Rows,
    /// Whether the last row has been made.
    ended: bool,
    /// The batch at hand and the first of its rows that is not passed, where none is kept.
    batch: Option<(RecordBatch, usize)>,
    /// Where rows can be fetched again.
    kept: Option<Kept>,
    /// Rows passed: the number of the row at hand, and of the last one behind the end.
    position: u64,
    /// Whether the place is behind the last row.
    past: bool,
}

/// Every row so far.
struct Kept {
    batches: Vec<RecordBatch>,
    /// The number of rows before each batch.
    starts: Vec<u64>,
    rows: u64,
    memory: MemoryReservation,
}

impl Kept {
    /// The batch of a row, counted from 0, and the row's place in it.
    fn find(&self, row: u64) -> Option<(RecordBatch, usize)> {
        if row >= self.rows {
            return None;
        }
        let at = self.starts.partition_point(|start| *start <= row).checked_sub(1)?;
        Some((self.batches.get(at)?.clone(), usize::try_from(row - self.starts[at]).ok()?))
    }
}

impl Cursor {
    /// Before the first row. With `memory` rows can be fetched again.
    pub(super) fn new(schema: SchemaRef, rows: Rows, memory: Option<MemoryReservation>) -> Self {
        let kept = memory.map(|memory| Kept { batches: Vec::new(), starts: Vec::new(), rows: 0, memory });
        Self { schema, rows, ended: false, batch: None, kept, position: 0, past: false }
    }

    pub(super) fn scrolls(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether nothing has been fetched, or all of it again.
    pub(super) fn at_start(&self) -> bool {
        self.position == 0 && !self.past
    }

    pub(super) fn on_row(&self) -> bool {
        self.position > 0 && !self.past
    }

    pub(super) fn past(&self) -> bool {
        self.past
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Back to before the first row, where rows are kept.
    pub(super) fn rewind(&mut self) {
        (self.position, self.past) = (0, false);
    }

    /// The batch with the next row, if it is there, and the row's place in it.
    fn at_hand(&mut self) -> Option<(RecordBatch, usize)> {
        match &self.kept {
            Some(kept) => kept.find(self.position),
            None => self.batch.take(),
        }
    }

    fn came(&mut self, batch: RecordBatch) -> Result<(), SqlError> {
        match &mut self.kept {
            Some(kept) if batch.num_rows() > 0 => {
                kept.memory.try_grow(batch.get_array_memory_size())?;
                kept.starts.push(kept.rows);
                kept.rows += batch.num_rows() as u64;
                kept.batches.push(batch);
            }
            Some(_) => {}
            None => self.batch = Some((batch, 0)),
        }
        Ok(())
    }

    /// Rows `[from, to)` of the batch at hand are passed.
    fn pass(&mut self, batch: RecordBatch, from: usize, to: usize) {
        self.position += (to - from) as u64;
        if self.kept.is_none() && to < batch.num_rows() {
            self.batch = Some((batch, to));
        }
    }
}

/// Where rows go.
pub(super) enum To<'a> {
    Nobody,
    Client(&'a Columns),
    Copy(&'a mut Writer),
}

impl To<'_> {
    fn put(&mut self, batch: &RecordBatch, from: usize, to: usize, out: &mut Outbound) -> Result<(), SqlError> {
        match self {
            To::Nobody => Ok(()),
            To::Client(columns) => columns.encode(batch, from, to, out),
            To::Copy(writer) => writer.rows(batch, from, to, out),
        }
    }
}

/// How many rows were sent and whether those were the last.
pub(super) struct Sent {
    pub(super) rows: u64,
    pub(super) finished: bool,
}

enum Event {
    Noticed(Notice),
    Came(Option<RecordBatch>),
}

impl Connection {
    /// Sends rows until there are no more or `most` are sent. What is there is sent before waiting for more.
    pub(super) async fn send_rows(
        &mut self,
        guard: &Guard,
        cursor: &mut Cursor,
        to: &mut To<'_>,
        most: Option<u64>,
    ) -> Result<Sent, SqlError> {
        let mut sent = Sent { rows: 0, finished: false };
        loop {
            let left = most.map(|most| most - sent.rows);
            if left == Some(0) {
                return Ok(sent);
            }
            let Some((batch, from)) = cursor.at_hand() else {
                let next = if cursor.ended { None } else { self.next_batch(guard, &mut cursor.rows).await? };
                match next {
                    Some(batch) => cursor.came(batch)?,
                    None => {
                        (cursor.ended, cursor.past, sent.finished) = (true, true, true);
                        return Ok(sent);
                    }
                }
                continue;
            };
            let room = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(ROWS_AT_ONCE).min(ROWS_AT_ONCE);
            let until = batch.num_rows().min(from + room);
            to.put(&batch, from, until, &mut self.out)?;
            sent.rows += (until - from) as u64;
            cursor.pass(batch, from, until);
            self.breathe(guard).await?;
        }
    }

    /// Sends rows that were passed, the nearest first, until there are no more or `most` are sent, and gives their number.
    pub(super) async fn send_rows_back(
        &mut self,
        guard: &Guard,
        cursor: &mut Cursor,
        to: &mut To<'_>,
        most: Option<u64>,
    ) -> Result<u64, SqlError> {
        let before = if cursor.past { cursor.position } else { cursor.position.saturating_sub(1) };
        let count = most.map_or(before, |most| most.min(before));
        for row in (before - count..before).rev() {
            self.send_kept(cursor, to, row)?;
            if row % ROWS_AT_ONCE as u64 == 0 {
                self.breathe(guard).await?;
            }
        }
        let enough = most == Some(count);
        cursor.position = if enough { before - count + 1 } else { 0 };
        cursor.past = false;
        Ok(count)
    }

    /// Sends the row at hand once more, where rows are kept.
    pub(super) fn send_again(&mut self, cursor: &Cursor, to: &mut To<'_>) -> Result<(), SqlError> {
        self.send_kept(cursor, to, cursor.position.saturating_sub(1))
    }

    fn send_kept(&mut self, cursor: &Cursor, to: &mut To<'_>, row: u64) -> Result<(), SqlError> {
        match cursor.kept.as_ref().and_then(|kept| kept.find(row)) {
            Some((batch, at)) => to.put(&batch, at, at + 1, &mut self.out),
            None => Ok(()),
        }
    }

    /// Writes what has been gathered, if it is much; a cancel is seen also where it is little.
    async fn breathe(&mut self, guard: &Guard) -> Result<(), SqlError> {
        if self.out.is_full() { guard.run(self.out.flush()).await } else { guard.run(std::future::ready(Ok(()))).await }
    }

    /// Waits for the end of work whose rows nobody sees.
    pub(super) async fn finish(&mut self, guard: &Guard, mut rows: Rows) -> Result<(), SqlError> {
        while self.next_batch(guard, &mut rows).await?.is_some() {}
        self.put_notices()
    }

    /// The next batch. While it is not there, what is gathered and what functions notice goes to the client.
    async fn next_batch(&mut self, guard: &Guard, rows: &mut Rows) -> Result<Option<RecordBatch>, SqlError> {
        self.put_notices()?;
        if let Some(batch) = rows.ready() {
            return batch.map(Some);
        }
        loop {
            guard.run(self.out.flush()).await?;
            let notices = &mut self.notices;
            let event = guard
                .run(async {
                    tokio::select! {
                        biased;
                        Some(notice) = notices.recv() => Ok(Event::Noticed(notice)),
                        batch = rows.next() => batch.map(Event::Came),
                    }
                })
                .await?;
            match event {
                Event::Came(batch) => return Ok(batch),
                Event::Noticed(notice) => {
                    if let Some(report) = self.session.heard(notice) {
                        self.out.put_report(&report, "")?;
                    }
                }
            }
        }
    }
}
