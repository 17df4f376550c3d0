//! The rows of a training: in an order of their own, in memory or, when they are many, on disk.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::features::{Bag, Batch, Column, Texts};

/// Rows that are in memory together, when rows are read from disk, and within which an epoch mixes its rows.
const WINDOW: usize = 1 << 18;

/// Files of rows before they are in order; one of them is in memory at a time.
const BUCKETS: usize = 64;

/// Rows with what is to be learned of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    /// The features.
    pub batch: Batch,
    /// `rows` x tasks, each 0 or 1.
    pub labels: Vec<f32>,
    /// What a split by time or by column goes by, one per row; empty for a random split.
    pub split: Vec<f64>,
}

impl Block {
    /// Appends the rows of another block.
    pub fn append(&mut self, other: &Self) {
        self.batch.append(&other.batch);
        self.labels.extend_from_slice(&other.labels);
        self.split.extend_from_slice(&other.split);
    }

    fn take(&self, rows: &[u32]) -> Self {
        let tasks = self.labels.len() / self.batch.rows.max(1);
        Self {
            batch: self.batch.take(rows),
            labels: rows.iter().flat_map(|row| &self.labels[*row as usize * tasks..][..tasks]).copied().collect(),
            split: if self.split.is_empty() { vec![] } else { rows.iter().map(|row| self.split[*row as usize]).collect() },
        }
    }

    fn bytes(&self) -> usize {
        self.batch.bytes() + self.labels.len() * 4 + self.split.len() * 8
    }

    /// A hash of each row's content and the seed. Equal rows have equal keys, so nothing but content and seed decides an order by it.
    fn keys(&self, seed: u64) -> Vec<u64> {
        let rows = self.batch.rows;
        let width = |values: usize| values / rows.max(1);
        let (ids, numbers, tasks) = (width(self.batch.ids.len()), width(self.batch.numbers.len()), width(self.labels.len()));
        let key = |row: usize| {
            let mut key = mix(seed, 1);
            key = self.labels[row * tasks..][..tasks].iter().fold(key, |key, label| mix(key, u64::from(label.to_bits())));
            key = self.batch.ids[row * ids..][..ids].iter().fold(key, |key, id| mix(key, *id));
            key = self.batch.numbers[row * numbers..][..numbers].iter().fold(key, |key, number| mix(key, u64::from(number.to_bits())));
            for bag in &self.batch.bags {
                key = mix(key, bag.row(row).len() as u64);
                key = bag.ids[bag.row(row)].iter().fold(key, |key, id| mix(key, *id));
                if !bag.weights.is_empty() {
                    key = bag.weights[bag.row(row)].iter().fold(key, |key, weight| mix(key, u64::from(weight.to_bits())));
                }
            }
            self.split.get(row).map_or(key, |split| mix(key, split.to_bits()))
        };
        (0..rows).map(key).collect()
    }

    /// The rows in the order of their keys.
    fn settled(&self, seed: u64) -> Self {
        let keys = self.keys(seed);
        let mut order: Vec<u32> = (0..self.batch.rows as u32).collect();
        order.sort_by_key(|row| keys[*row as usize]);
        self.take(&order)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let count = |out: &mut dyn Write, count: usize| out.write_all(&(count as u64).to_le_bytes());
        count(out, self.batch.rows)?;
        count(out, self.batch.bags.len())?;
        write_all(out, &self.batch.ids, u64::to_le_bytes)?;
        write_all(out, &self.batch.numbers, f32::to_le_bytes)?;
        for bag in &self.batch.bags {
            write_all(out, &bag.offsets, u32::to_le_bytes)?;
            write_all(out, &bag.ids, u64::to_le_bytes)?;
            write_all(out, &bag.weights, f32::to_le_bytes)?;
        }
        write_all(out, &self.labels, f32::to_le_bytes)?;
        write_all(out, &self.split, f64::to_le_bytes)
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let rows = read_count(from)?;
        let bags = read_count(from)?;
        let batch = Batch {
            rows,
            ids: read_all(from, u64::from_le_bytes)?,
            numbers: read_all(from, f32::from_le_bytes)?,
            bags: (0..bags)
                .map(|_| {
                    Ok(Bag {
                        offsets: read_all(from, u32::from_le_bytes)?,
                        ids: read_all(from, u64::from_le_bytes)?,
                        weights: read_all(from, f32::from_le_bytes)?,
                    })
                })
                .collect::<io::Result<_>>()?,
        };
        Ok(Self { batch, labels: read_all(from, f32::from_le_bytes)?, split: read_all(from, f64::from_le_bytes)? })
    }
}

fn write_all<T: Copy, const N: usize>(out: &mut impl Write, values: &[T], bytes: fn(T) -> [u8; N]) -> io::Result<()> {
    out.write_all(&(values.len() as u64).to_le_bytes())?;
    let flat: Vec<u8> = values.iter().flat_map(|value| bytes(*value)).collect();
    out.write_all(&flat)
}

fn read_count(from: &mut impl Read) -> io::Result<usize> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    usize::try_from(u64::from_le_bytes(bytes)).map_err(io::Error::other)
}

fn read_all<T, const N: usize>(from: &mut impl Read, value: fn([u8; N]) -> T) -> io::Result<Vec<T>> {
    let count = read_count(from)?;
    let mut bytes = vec![0; count * N];
    from.read_exact(&mut bytes)?;
    Ok(bytes.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)).collect())
}

/// One step of a hash (the finaliser of SplitMix64, Steele et al. 2014).
fn mix(key: u64, value: u64) -> u64 {
    let mut mixed = (key ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Makes a file for rows that do not fit into memory; it is gone when it is dropped.
pub trait Scratch: Send + Sync {
    /// An empty file, open for reading and writing.
    fn file(&self) -> io::Result<File>;
}

/// Gathers rows as they arrive, in any order.
#[derive(Default)]
pub struct Collector {
    seed: u64,
    memory: Block,
    buckets: Vec<File>,
    /// The texts behind the ids of the rows.
    pub texts: Texts,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("rows", &self.memory.batch.rows)
            .field("spilled", &!self.buckets.is_empty())
            .finish_non_exhaustive()
    }
}

impl Collector {
    /// A collector; the seed decides the order of the rows.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Adds rows.
    pub fn push(&mut self, block: &Block) {
        self.memory.append(block);
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Moves the rows in memory to disk.
    pub fn spill(&mut self, scratch: &dyn Scratch) -> io::Result<()> {
        while self.buckets.len() < BUCKETS {
            self.buckets.push(scratch.file()?);
        }
        let block = std::mem::take(&mut self.memory);
        let mut rows = vec![Vec::new(); BUCKETS];
        for (row, key) in block.keys(self.seed).into_iter().enumerate() {
            rows[(key >> (u64::BITS - BUCKETS.ilog2())) as usize].push(row as u32);
        }
        for (file, rows) in self.buckets.iter_mut().zip(rows) {
            if !rows.is_empty() {
                block.take(&rows).write(file)?;
            }
        }
        Ok(())
    }
}

/// The rows of a training with their columns.
#[derive(Debug)]
pub struct Examples {
    /// The raw columns.
    pub columns: Vec<Column>,
    /// The texts behind the ids, as far as they were kept.
    pub(crate) texts: Texts,
    store: Store,
    rows: usize,
    tasks: usize,
}

enum Store {
    Memory(Block),
    Disk(Mutex<File>, Vec<Place>),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory(_) => "Memory",
            Self::Disk(..) => "Disk",
        })
    }
}

/// A window on disk.
#[derive(Debug, Clone, Copy)]
struct Place {
    position: u64,
    rows: usize,
}

/// Some consecutive rows: those of `block` from `first` on.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    pub(crate) block: Cow<'a, Block>,
    pub(crate) first: usize,
    pub(crate) rows: usize,
    /// The number of the first row among all rows.
    pub(crate) start: usize,
}

impl Examples {
    /// Rows that are all here, in the order of their content.
    pub fn new(columns: Vec<Column>, block: &Block, seed: u64) -> Self {
        let (rows, tasks) = (block.batch.rows, block.labels.len() / block.batch.rows.max(1));
        Self { columns, texts: Texts::default(), store: Store::Memory(block.settled(seed)), rows, tasks }
    }

    /// The rows of collectors of one seed, in an order that depends on the rows and the seed alone.
    ///
    /// Errors: [`Error::Io`] when the disk fails or is full.
    pub fn collect(columns: Vec<Column>, mut collectors: Vec<Collector>, scratch: &dyn Scratch) -> Result<Self> {
        let seed = collectors.first().map_or(0, |collector| collector.seed);
        let mut texts = Texts::default();
        collectors.iter_mut().for_each(|collector| texts.merge(std::mem::take(&mut collector.texts)));
        if collectors.iter().all(|collector| collector.buckets.is_empty()) {
            let mut all = Block::default();
            collectors.iter().for_each(|collector| all.append(&collector.memory));
            drop(collectors);
            return Ok(Self { texts, ..Self::new(columns, &all, seed) });
        }
        let merged = Self::merge(columns, collectors, seed, scratch).map_err(Error::io("the temporary files of a training"))?;
        Ok(Self { texts, ..merged })
    }

    /// One bucket after the other is put in order, and windows of equal size are written one after the other.
    fn merge(columns: Vec<Column>, mut collectors: Vec<Collector>, seed: u64, scratch: &dyn Scratch) -> io::Result<Self> {
        collectors.iter_mut().try_for_each(|collector| collector.spill(scratch))?;
        let mut file = io::BufWriter::new(scratch.file()?);
        let (mut windows, mut pending) = (Vec::new(), Block::default());
        let (mut rows, mut tasks) = (0, 1);
        for bucket in 0..BUCKETS {
            let mut all = Block::default();
            for collector in &mut collectors {
                let part = &mut collector.buckets[bucket];
                let end = part.seek(SeekFrom::End(0))?;
                part.seek(SeekFrom::Start(0))?;
                let mut reader = io::BufReader::new(&*part);
                while reader.stream_position()? < end {
                    all.append(&Block::read(&mut reader)?);
                }
                part.set_len(0)?;
            }
            rows += all.batch.rows;
            tasks = tasks.max(all.labels.len() / all.batch.rows.max(1));
            pending.append(&all.settled(seed));
            while pending.batch.rows >= WINDOW || (bucket + 1 == BUCKETS && pending.batch.rows > 0) {
                let cut = pending.batch.rows.min(WINDOW) as u32;
                let (window, rest): (Vec<u32>, Vec<u32>) = (0..pending.batch.rows as u32).partition(|row| *row < cut);
                windows.push(Place { position: file.stream_position()?, rows: window.len() });
                pending.take(&window).write(&mut file)?;
                pending = pending.take(&rest);
            }
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self { columns, texts: Texts::default(), store: Store::Disk(Mutex::new(file), windows), rows, tasks })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Labels per row.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// Whether the rows are on disk.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.store, Store::Disk(..))
    }

    pub(crate) fn windows(&self) -> usize {
        self.rows.div_ceil(WINDOW)
    }

    pub(crate) fn window(&self, index: usize) -> Result<Window<'_>> {
        let start = index * WINDOW;
        match &self.store {
            Store::Memory(block) => Ok(Window { block: Cow::Borrowed(block), first: start, rows: WINDOW.min(self.rows - start), start }),
            Store::Disk(file, windows) => {
                let Place { position, rows } = windows[index];
                // The position is set anew for every read, so a panic elsewhere does not spoil it.
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let block = file.seek(SeekFrom::Start(position)).and_then(|_| Block::read(&mut io::BufReader::new(&*file)));
                let block = block.map_err(Error::io("the temporary files of a training"))?;
                Ok(Window { block: Cow::Owned(block), first: 0, rows, start })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Values;

    struct Folder(tempfile::TempDir);

    impl Scratch for Folder {
        fn file(&self) -> io::Result<File> {
            tempfile::tempfile_in(self.0.path())
        }
    }

    fn columns() -> Vec<Column> {
        vec![Column::new("item", "bigint", Values::Id), Column::new("seen", "real[]", Values::Vector)]
    }

    fn block(range: std::ops::Range<u64>) -> Block {
        let mut bag = Bag::default();
        for row in range.clone() {
            bag.ids.extend(1..=row % 3);
            bag.weights.extend((1..=row % 3).map(|n| n as f32 / 2.0));
            bag.end_row();
        }
        let rows = (range.end - range.start) as usize;
        let batch = Batch { rows, ids: range.clone().map(|id| id + 1).collect(), numbers: vec![], bags: vec![bag] };
        Block { batch, labels: range.clone().map(|row| (row % 2) as f32).collect(), split: range.map(|row| row as f64).collect() }
    }

    fn all(examples: &Examples) -> Block {
        let mut all = Block::default();
        for index in 0..examples.windows() {
            let window = examples.window(index).unwrap();
            assert_eq!(window.start, all.batch.rows);
            let rows: Vec<u32> = (window.first as u32..(window.first + window.rows) as u32).collect();
            all.append(&window.block.take(&rows));
        }
        all
    }

    #[test]
    fn rows_come_in_the_same_order_from_memory_and_from_disk_however_they_arrived() {
        let folder = Folder(tempfile::tempdir().unwrap());
        const ROWS: u64 = 300_000;
        let mut whole = Collector::new(7);
        whole.push(&block(0..ROWS));
        let in_memory = Examples::collect(columns(), vec![whole], &folder).unwrap();
        assert!(!in_memory.is_on_disk());
        let (mut one, mut other) = (Collector::new(7), Collector::new(7));
        one.push(&block(100_000..ROWS));
        one.spill(&folder).unwrap();
        one.push(&block(0..50_000));
        other.push(&block(50_000..100_000));
        let on_disk = Examples::collect(columns(), vec![other, one], &folder).unwrap();
        assert!(on_disk.is_on_disk());
        assert_eq!((on_disk.rows(), on_disk.windows()), (ROWS as usize, 2));
        let (memory, disk) = (all(&in_memory), all(&on_disk));
        assert!(memory == disk, "the orders differ");
        assert!(memory.batch.ids != block(0..ROWS).batch.ids, "the order is that of the query");
        let mut ids = memory.batch.ids;
        ids.sort_unstable();
        assert!(ids.into_iter().eq(1..=ROWS));
    }

    #[test]
    fn another_seed_is_another_order() {
        let order = |seed| all(&Examples::new(columns(), &block(0..100), seed)).batch.ids;
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
