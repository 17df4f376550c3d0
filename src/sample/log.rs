//! Plays all visits again in the order of time and writes what happened in them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use datafusion::arrow::array::RecordBatch;

use super::click::Probabilities;
use super::customer::Customer;
use super::review;
use super::rows::{self, Rating, Row};
use super::session::{self, Event, Impression, Review, Sink};
use super::spill::Spill;
use super::table::{Error, TableWriter, Written};
use super::world::World;

/// Rows of a batch handed to the Parquet writer.
const BATCH: usize = 32_768;

/// The tables of the log and the ratings that the products got in it.
pub(crate) struct Log {
    pub(crate) tables: Vec<Written>,
    pub(crate) ratings: Vec<Rating>,
}

/// Rows that share one vector, because impressions and truth are two tables of the same rows.
type Shared<T> = Arc<Vec<Row<T>>>;

/// Writes events, impressions, truth and reviews; `progress` hears how many events are written.
pub(crate) fn write(
    world: &World,
    probabilities: &Probabilities,
    spill: &mut Spill<'_>,
    folder: &Path,
    progress: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<Log, Error> {
    thread::scope(|scope| {
        let (events, event_rows) = sync_channel(1);
        let (impressions, impression_rows) = sync_channel(1);
        let (truths, truth_rows) = sync_channel(1);
        let table = |name, schema| TableWriter::new(folder, name, schema, Some(0));
        let (event_table, shown_table) = (table("events", rows::events_schema()), table("impressions", rows::impressions_schema()));
        let truth_table = table("truth", rows::truth_schema());
        let writers = [
            scope.spawn(move || write_rows(world, event_table, event_rows, rows::events)),
            scope.spawn(move || write_rows(world, shown_table, impression_rows, rows::impressions)),
            scope.spawn(move || write_rows(world, truth_table, truth_rows, rows::truth)),
        ];
        let senders = Senders { events, impressions, truths };
        let mut reviews = Reviews::new(world, folder);
        let played = play_all(world, probabilities, spill, senders, &mut reviews, progress);
        // a writer that failed has closed its channel, and its error says more than the closed channel
        let mut tables = writers.map(join).into_iter().collect::<Result<Vec<_>, _>>()?;
        played?;
        let (written, ratings) = reviews.finish()?;
        tables.push(written);
        Ok(Log { tables, ratings })
    })
}

fn join(writer: ScopedJoinHandle<'_, Result<Written, Error>>) -> Result<Written, Error> {
    writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

struct Senders {
    events: SyncSender<Shared<Event>>,
    impressions: SyncSender<Shared<Impression>>,
    truths: SyncSender<Shared<Impression>>,
}

impl Senders {
    /// False when a writer has failed and takes no more.
    fn send(&self, events: Vec<Row<Event>>, impressions: Vec<Row<Impression>>) -> bool {
        let impressions = Arc::new(impressions);
        self.events.send(Arc::new(events)).is_ok()
            && self.impressions.send(impressions.clone()).is_ok()
            && self.truths.send(impressions).is_ok()
    }
}

fn play_all(
    world: &World,
    probabilities: &Probabilities,
    spill: &mut Spill<'_>,
    senders: Senders,
    reviews: &mut Reviews<'_>,
    progress: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut played = Played::default();
    let mut written = 0;
    let mut upcoming = spill.take(0)?;
    for bucket in 1..=spill.buckets() {
        let visits = upcoming;
        upcoming = if bucket < spill.buckets() { spill.take(bucket)? } else { Vec::new() };
        for visit in visits {
            played.session += 1;
            played.customer = visit.customer;
            let customer = Customer::new(world, visit.customer);
            session::play(world, probabilities, &customer, visit, &mut played);
        }
        // what happens after the next visit has begun waits for that visit; after an empty bucket all waits for the one behind it
        let horizon = match upcoming.first() {
            Some(next) => next.start,
            None if bucket == spill.buckets() => i64::MAX,
            None => continue,
        };
        let (events, impressions) = played.take_before(horizon);
        reviews.add(played.reviews.drain(..));
        reviews.write_before(horizon)?;
        written += events.len() as u64;
        if !senders.send(events, impressions) {
            return Ok(());
        }
        progress(written)?;
    }
    Ok(())
}

/// What happened in the visits played so far and is not yet written.
#[derive(Default)]
struct Played {
    /// Id of the visit that is being played; ids follow the beginning of the visits.
    session: u64,
    customer: u64,
    events: Vec<Row<Event>>,
    impressions: Vec<Row<Impression>>,
    reviews: Vec<Review>,
}

impl Played {
    fn row<T>(&self, what: T) -> Row<T> {
        Row { customer: self.customer, session: self.session, what }
    }

    /// Takes out the rows before a moment, sorted by time; rows of one moment stay in the order in which they happened.
    fn take_before(&mut self, moment: i64) -> (Vec<Row<Event>>, Vec<Row<Impression>>) {
        self.events.sort_by_key(|row| row.what.ts);
        self.impressions.sort_by_key(|row| row.what.place.moment);
        let events = self.events.partition_point(|row| row.what.ts < moment);
        let impressions = self.impressions.partition_point(|row| row.what.place.moment < moment);
        (take_front(&mut self.events, events), take_front(&mut self.impressions, impressions))
    }
}

fn take_front<T>(rows: &mut Vec<T>, count: usize) -> Vec<T> {
    let rest = rows.split_off(count);
    std::mem::replace(rows, rest)
}

impl Sink for Played {
    fn event(&mut self, event: Event) {
        self.events.push(self.row(event));
    }

    fn impression(&mut self, impression: Impression) {
        self.impressions.push(self.row(impression));
    }

    fn review(&mut self, review: Review) {
        self.reviews.push(review);
    }
}

/// Writes what arrives until the sender is gone.
fn write_rows<T>(
    world: &World,
    mut table: TableWriter,
    arriving: Receiver<Shared<T>>,
    batch: fn(&World, i64, &[Row<T>]) -> RecordBatch,
) -> Result<Written, Error> {
    let mut first = 1;
    for rows in arriving {
        for rows in rows.chunks(BATCH) {
            table.write(&batch(world, first, rows))?;
            first += rows.len() as i64;
        }
    }
    table.finish()
}

/// Reviews wait here until their day has come.
struct Reviews<'a> {
    world: &'a World,
    waiting: BinaryHeap<Reverse<Review>>,
    table: TableWriter,
    first: i64,
    ratings: Vec<Rating>,
}

impl<'a> Reviews<'a> {
    fn new(world: &'a World, folder: &Path) -> Self {
        let table = TableWriter::new(folder, "reviews", rows::reviews_schema(), Some(0));
        Self { world, waiting: BinaryHeap::new(), table, first: 1, ratings: vec![Rating::default(); world.products.len()] }
    }

    fn add(&mut self, reviews: impl Iterator<Item = Review>) {
        self.waiting.extend(reviews.map(Reverse));
    }

    fn write_before(&mut self, moment: i64) -> Result<(), Error> {
        let mut due = Vec::new();
        while let Some(next) = self.waiting.peek_mut() {
            if next.0.ts >= moment {
                break;
            }
            let Reverse(review) = PeekMut::pop(next);
            let product = &self.world.products[review.product];
            let country = Customer::new(self.world, review.customer).country;
            let rating = &mut self.ratings[review.product];
            rating.stars += i64::from(review.stars);
            rating.reviews += 1;
            due.push((review, review::words(review.dice, country, product.category, review.stars)));
        }
        self.table.write(&rows::reviews(self.first, &due))?;
        self.first += due.len() as i64;
        Ok(())
    }

    fn finish(self) -> Result<(Written, Vec<Rating>), Error> {
        Ok((self.table.finish()?, self.ratings))
    }
}
