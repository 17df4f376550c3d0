//! Scored rows by group, for metrics that rank within groups, such as the impressions of a user.
//!
//! Rows are kept as they come and sorted by group when it is asked for: with millions of groups that is faster than a table of groups. A partial
//! result is a stretch of bytes that is sorted by group, and stretches are read side by side.

use std::fmt::Debug;

use super::part::{Reader, Writer};
use super::sort;

/// Stretches of fewer bytes become rows again.
const SHORT: usize = 1 << 16;

/// What a row has beside its group and its score.
pub(super) trait Payload: Copy + Debug + PartialOrd + Send + Sync + 'static {
    /// How many bytes it takes.
    const BYTES: usize;
    /// Appends its bytes.
    fn write(self, part: &mut Writer);
    /// Reads its bytes.
    fn read(part: &mut Reader<'_>) -> Self;
}

impl Payload for bool {
    const BYTES: usize = 1;

    fn write(self, part: &mut Writer) {
        part.byte(u8::from(self));
    }

    fn read(part: &mut Reader<'_>) -> Self {
        part.byte() != 0
    }
}

impl Payload for f64 {
    const BYTES: usize = 8;

    fn write(self, part: &mut Writer) {
        part.number(self);
    }

    fn read(part: &mut Reader<'_>) -> Self {
        part.number()
    }
}

/// A group: a key of at most 64 bits exactly, a longer one (which is a hash) by 96 of its bits. Bits are mixed, so that the highest differ between
/// groups and groups come in a random order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group(u64, u32);

impl Group {
    fn new(key: u128) -> Self {
        Self(mixed(key as u64), (mixed((key >> 64) as u64) >> 32) as u32)
    }
}

/// One number for each other, without visible order (the finish of SplitMix64; Steele, Lea and Flood 2014).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A row. The group stands in two places, so that a small payload takes no space of its own.
#[derive(Debug, Clone, Copy)]
struct Row<T> {
    key: u64,
    score: f64,
    more: u32,
    payload: T,
}

impl<T> Row<T> {
    fn new(group: Group, score: f64, payload: T) -> Self {
        Self { key: group.0, score, more: group.1, payload }
    }

    fn group(&self) -> Group {
        Group(self.key, self.more)
    }
}

/// The rows of all groups.
#[derive(Debug, Clone)]
pub(super) struct Rows<T> {
    rows: Vec<Row<T>>,
    stretches: Vec<Vec<u8>>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), stretches: Vec::new() }
    }
}

impl<T: Payload> Rows<T> {
    /// Makes room for more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows);
    }

    /// Adds a row; the score is not NaN.
    pub(super) fn push(&mut self, key: u128, score: f64, payload: T) {
        self.rows.push(Row::new(Group::new(key), score, payload));
    }

    /// Calls `act` with the rows of each group, scores and payloads, from the lowest score to the highest.
    pub(super) fn groups(&mut self, mut act: impl FnMut(&[(f64, T)])) {
        self.sort();
        let mut sources = vec![Source::Rows(&self.rows)];
        sources.extend(self.stretches.iter().map(|stretch| Source::Stretch(Reader::new(stretch), None)));
        let mut group = Vec::new();
        loop {
            let Some(next) = sources.iter_mut().filter_map(Source::next).min() else { return };
            group.clear();
            let mut pieces = 0;
            for source in &mut sources {
                if source.next() == Some(next) {
                    source.read(next, &mut group);
                    pieces += 1;
                }
            }
            if pieces > 1 {
                group.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            }
            act(&group);
        }
    }

    /// Writes all rows; none is left.
    pub(super) fn take(&mut self, part: &mut Writer) {
        self.sort();
        let Self { rows, stretches } = std::mem::take(self);
        write(&rows, part);
        stretches.iter().for_each(|stretch| {
            part.bytes(stretch);
        });
    }

    /// Adds rows that were written.
    pub(super) fn merge(&mut self, part: &mut Reader<'_>) {
        while !part.is_empty() {
            let stretch = part.bytes();
            if stretch.len() >= SHORT {
                self.stretches.push(stretch.to_vec());
                continue;
            }
            let mut source = Source::Stretch(Reader::new(stretch), None);
            let mut group = Vec::new();
            while let Some(next) = source.next() {
                source.read(next, &mut group);
                self.rows.extend(group.drain(..).map(|(score, payload)| Row::new(next, score, payload)));
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.rows.capacity() * size_of::<Row<T>>()
            + self.stretches.iter().map(|stretch| stretch.capacity() + size_of::<Vec<u8>>()).sum::<usize>()
    }

    fn sort(&mut self) {
        let by_group_and_score = |a: &Row<T>, b: &Row<T>| a.group().cmp(&b.group()).then(a.score.total_cmp(&b.score));
        if self.rows.len() < sort::FEW {
            return self.rows.sort_unstable_by(by_group_and_score);
        }
        // The highest bits nearly tell the groups apart: three digits for up to sixteen million groups, then a comparison of few rows.
        sort::by_digits(&mut self.rows, 5..8, |row| row.key);
        for rows in self.rows.chunk_by_mut(|a, b| a.key >> 40 == b.key >> 40) {
            rows.sort_unstable_by(by_group_and_score);
        }
    }
}

/// Writes sorted rows as one stretch with its length: a head of each group, its scores, its payloads.
fn write<T: Payload>(rows: &[Row<T>], part: &mut Writer) {
    let groups = || rows.chunk_by(|a, b| a.group() == b.group());
    part.whole((groups().count() * 20 + rows.len() * (8 + T::BYTES)) as u64);
    for rows in groups() {
        part.whole(rows[0].key).short(rows[0].more).whole(rows.len() as u64);
        rows.iter().for_each(|row| {
            part.number(row.score);
        });
        rows.iter().for_each(|row| row.payload.write(part));
    }
}

/// Rows that are sorted by group.
enum Source<'a, T> {
    Rows(&'a [Row<T>]),
    /// What follows, and the head of the group that was read ahead with its rows.
    Stretch(Reader<'a>, Option<(Group, usize)>),
}

impl<T: Payload> Source<'_, T> {
    /// The next group.
    fn next(&mut self) -> Option<Group> {
        match self {
            Self::Rows(rows) => rows.first().map(Row::group),
            Self::Stretch(_, Some((group, _))) => Some(*group),
            Self::Stretch(stretch, head) => {
                if stretch.is_empty() {
                    return None;
                }
                let group = Group(stretch.whole(), stretch.short());
                *head = Some((group, stretch.whole() as usize));
                Some(group)
            }
        }
    }

    /// Appends the rows of the next group.
    fn read(&mut self, next: Group, group: &mut Vec<(f64, T)>) {
        match self {
            Self::Rows(rows) => {
                while let [row, rest @ ..] = rows
                    && row.group() == next
                {
                    group.push((row.score, row.payload));
                    *rows = rest;
                }
            }
            Self::Stretch(stretch, head) => {
                let Some((_, rows)) = head.take() else { return };
                let mut scores = stretch.part(rows * 8);
                let mut payloads = stretch.part(rows * T::BYTES);
                while !scores.is_empty() {
                    group.push((scores.number(), T::read(&mut payloads)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn groups(rows: &mut Rows<f64>) -> Vec<Vec<(f64, f64)>> {
        let mut groups = Vec::new();
        rows.groups(|group| groups.push(group.to_vec()));
        groups
    }

    #[test]
    fn rows_of_a_group_meet_wherever_they_come_from() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let keys = [0, 1, u128::from(u64::MAX), 1 << 64, 3 << 64, u128::MAX - 1];
        let rows: Vec<(u128, f64)> =
            (0..30_000).map(|_| (keys[rng.random_range(0..keys.len())] + rng.random_range(0..3) % 2, rng.random())).collect();
        let mut whole = Rows::default();
        rows.iter().for_each(|&(key, score)| whole.push(key, score, score * 2.0));
        let expected = groups(&mut whole);
        assert_eq!(expected.iter().map(Vec::len).sum::<usize>(), rows.len());
        assert!(expected.iter().flatten().all(|(score, payload)| *payload == score * 2.0));
        for size in [17, 4000, 11_000] {
            let mut merged = Rows::default();
            for piece in rows.chunks(size) {
                let (mut one, mut part) = (Rows::default(), Writer::default());
                piece.iter().for_each(|&(key, score)| one.push(key, score, score * 2.0));
                one.take(&mut part);
                merged.merge(&mut Reader::new(&part.finish()));
            }
            assert_eq!(groups(&mut merged), expected, "{size}");
            // Stretches survive being passed on.
            let (mut again, mut part) = (Rows::default(), Writer::default());
            merged.take(&mut part);
            again.merge(&mut Reader::new(&part.finish()));
            assert_eq!(groups(&mut again), expected, "{size}");
        }
    }
}
