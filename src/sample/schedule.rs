//! Who visits when: draws customers and their visits until exactly as many events are made as were asked for.

use std::path::Path;

use super::calendar::{DAY, END, HOUR, SECOND};
use super::click::Probabilities;
use super::customer::{Customer, Profile};
use super::random::{Cumulative, Random, Topic};
use super::rows::{self, CustomerRow};
use super::session::{self, Event, Impression, Kind, LONGEST, Review, Sink, Visit};
use super::spill::Spill;
use super::table::{Error, TableWriter, Written};
use super::world::World;

/// Customers that are drawn together and share out a fixed number of events; memory holds one block.
const BLOCK: u64 = 4_096;

/// Writes the table of customers and fills `spill` with their visits.
pub(crate) fn write(world: &World, probabilities: &Probabilities, spill: &mut Spill<'_>, folder: &Path) -> Result<Written, Error> {
    let quotas = quotas(world);
    let mut table = TableWriter::new(folder, "customers", rows::customers_schema(), Some(0));
    for (block, quota) in quotas.into_iter().enumerate() {
        let mut block = Block::new(world, probabilities, block as u64);
        block.draw_visits(quota, spill)?;
        table.write(&rows::customers(&block.finish()))?;
    }
    table.finish()
}

/// Events of each block, in proportion to the weight of its customers; they sum up to the events of the world.
fn quotas(world: &World) -> Vec<u64> {
    let blocks = world.customers.div_ceil(BLOCK);
    let weights = (0..blocks).map(|block| customers(world, block).map(|customer| customer.weight(world)).sum());
    let cumulative = Cumulative::new(weights);
    let until = |block: usize| {
        if block == blocks as usize {
            return world.events;
        }
        (world.events as f64 * (cumulative.sum(block) / cumulative.sum(blocks as usize))) as u64
    };
    (0..blocks as usize).map(|block| until(block + 1) - until(block)).collect()
}

fn customers(world: &World, block: u64) -> impl Iterator<Item = Customer> {
    let last = ((block + 1) * BLOCK).min(world.customers);
    (block * BLOCK + 1..=last).map(|id| Customer::new(world, id))
}

/// What the visits of one customer add up to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct History {
    pub(crate) visits: u32,
    pub(crate) orders: i32,
    /// In cents.
    pub(crate) spend: i64,
    pub(crate) first_order: Option<i64>,
    pub(crate) last_order: Option<i64>,
    pub(crate) last_seen: Option<i64>,
}

impl History {
    fn add(&mut self, tally: &Tally) {
        self.visits += 1;
        self.spend += tally.spend;
        self.last_seen = self.last_seen.max(Some(tally.last));
        if let Some(order) = tally.order {
            self.orders += 1;
            self.first_order = Some(self.first_order.map_or(order, |first| first.min(order)));
            self.last_order = self.last_order.max(Some(order));
        }
    }
}

/// Counts a visit without keeping it.
#[derive(Debug, Default)]
struct Tally {
    events: u64,
    spend: i64,
    order: Option<i64>,
    last: i64,
}

impl Sink for Tally {
    fn event(&mut self, event: Event) {
        self.events += 1;
        self.last = event.ts;
        if event.kind == Kind::Purchase {
            self.spend += event.price * i64::from(event.quantity.unwrap_or(0));
            self.order = Some(event.ts);
        }
    }

    fn impression(&mut self, _: Impression) {}

    fn review(&mut self, _: Review) {}
}

/// Customers of one block while their visits are drawn.
struct Block<'a> {
    world: &'a World,
    probabilities: &'a Probabilities,
    random: Random,
    customers: Vec<Customer>,
    histories: Vec<History>,
    /// Visits drawn so far, the rejected ones too: each has its own number.
    serials: Vec<u32>,
    latest: Vec<Option<i64>>,
}

impl<'a> Block<'a> {
    fn new(world: &'a World, probabilities: &'a Probabilities, number: u64) -> Self {
        let customers: Vec<Customer> = customers(world, number).collect();
        let count = customers.len();
        Self {
            world,
            probabilities,
            random: Random::new(world.seed, Topic::Block, number),
            customers,
            histories: vec![History::default(); count],
            serials: vec![0; count],
            latest: vec![None; count],
        }
    }

    fn draw_visits(&mut self, quota: u64, spill: &mut Spill<'_>) -> Result<(), Error> {
        let weights = Cumulative::new(self.customers.iter().map(|customer| customer.weight(self.world)));
        let mut left = quota;
        while left > 0 {
            let index = weights.draw(&mut self.random, weights.len());
            let start = self.start(index);
            let customer = &self.customers[index];
            let visit = Visit { start, customer: customer.id, serial: self.serials[index] };
            self.serials[index] += 1;
            let mut tally = Tally::default();
            session::play(self.world, self.probabilities, customer, visit, &mut tally);
            // the last visits of a block are chosen so that it ends on its quota: cutting one short would leave clicks without views
            if tally.events > left {
                continue;
            }
            left -= tally.events;
            self.latest[index] = Some(start);
            self.histories[index].add(&tally);
            spill.push(visit)?;
        }
        Ok(())
    }

    /// When the next visit of a customer begins; the visits of a customer are not drawn in the order of time.
    fn start(&mut self, index: usize) -> i64 {
        let customer = &self.customers[index];
        let random = &mut self.random;
        let (from, last) = (customer.from(), customer.last());
        let Some(latest) = self.latest[index] else {
            // those who sign up within the log do so because they want something now
            return if customer.signup == from {
                (from + ((30.0 + 300.0 * random.unit()) * SECOND as f64) as i64).min(END - LONGEST)
            } else {
                self.any_time(index)
            };
        };
        if random.chance(0.35) {
            // comes back soon
            let pause = (random.lognormal(1.3, 0.9) * DAY as f64) as i64 + HOUR;
            if latest + pause <= last {
                return latest + pause;
            }
        }
        self.any_time(index)
    }

    /// Any time between signing up and losing interest, by the calendar.
    fn any_time(&mut self, index: usize) -> i64 {
        let customer = &self.customers[index];
        let (from, last) = (customer.from(), customer.last());
        let calendar = &self.world.calendar;
        let busyness = calendar.busyness_until(from)..calendar.busyness_until(last);
        let moment = calendar.moment(&mut self.random, busyness, customer.offset());
        let earliest = from + 30 * SECOND;
        if moment < earliest {
            // the hour fell before the signing up on its day
            return (earliest + (self.random.unit() * HOUR as f64) as i64).min(END - LONGEST);
        }
        moment.min(END - LONGEST - (self.random.unit() * HOUR as f64) as i64)
    }

    fn finish(self) -> Vec<CustomerRow> {
        let rows = self.customers.into_iter().zip(self.histories);
        rows.map(|(customer, history)| CustomerRow { profile: Profile::new(self.world, &customer), customer, history }).collect()
    }
}
