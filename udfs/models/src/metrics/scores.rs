//! Scores of rows with a label, in order: what the areas and curves of a ranking are computed from.
//!
//! A row is one word of 64 bits: 63 bits of its score, in an order that whole numbers have too, and the label. Rows of negative scores lie in a deck
//! of their own, so that no bit of the score is lost. Equal rows are counted instead of kept as soon as that saves memory: what is kept grows with the
//! number of distinct scores, not of rows.

use super::part::{Reader, Writer};
use super::sort;
use super::statistic::{self, Column, Invalid};

/// New rows are sorted, and equal ones counted, when there are as many as old ones, and at least so many.
const NEW: usize = 1 << 12;

/// Scores and labels of rows, with weights.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    below_zero: Deck,
    from_zero: Deck,
}

/// The rows of one score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The score.
    pub score: f64,
    /// The weight of its positive rows.
    pub positives: f64,
    /// The weight of its negative rows.
    pub negatives: f64,
}

impl Scores {
    /// Adds the rows of a batch: labels, scores and weights; without weights every row counts once.
    ///
    /// # Errors
    /// A label that is not 0 or 1, a score that is NaN, a weight that is negative or not finite.
    pub fn update(&mut self, labels: Column<'_>, scores: Column<'_>, weights: Column<'_>) -> Result<(), Invalid> {
        let (labels, scores, weights) = (labels.numbers(), scores.numbers(), weights.numbers());
        for (row, (&label, &score)) in labels.iter().zip(scores).enumerate() {
            let positive = statistic::label("label", label)?;
            let score = statistic::score("score", score)?;
            let weight = match weights.get(row) {
                Some(&weight) => statistic::weight("weight", weight)?,
                None => 1.0,
            };
            let bits = score.to_bits();
            let (deck, bits) = if score < 0.0 { (&mut self.below_zero, !bits) } else { (&mut self.from_zero, bits) };
            let key = (bits << 1) | u64::from(positive);
            if weight == 1.0 {
                deck.rows.push(key);
            } else if weight > 0.0 {
                deck.heavy.push((key, weight));
            }
        }
        self.below_zero.tidy();
        self.from_zero.tidy();
        Ok(())
    }

    /// Writes all rows; none is left.
    pub fn take(&mut self, part: &mut Writer) {
        self.below_zero.take(part);
        self.from_zero.take(part);
    }

    /// Adds rows that were written.
    pub fn merge(&mut self, part: &mut Reader<'_>) {
        self.below_zero.merge(part);
        self.from_zero.merge(part);
    }

    /// Whether there is no row that weighs anything.
    pub fn is_empty(&self) -> bool {
        self.decks().iter().all(|deck| deck.rows.is_empty() && deck.heavy.is_empty())
    }

    /// The weight of the positive and of the negative rows.
    pub fn totals(&self) -> (f64, f64) {
        let (mut positives, mut negatives) = (0.0, 0.0);
        for deck in self.decks() {
            let hits: u64 = deck.rows.iter().map(|key| key & 1).sum();
            positives += hits as f64;
            negatives += (deck.rows.len() as u64 - hits) as f64;
            for &(key, weight) in &deck.heavy {
                *(if key & 1 == 1 { &mut positives } else { &mut negatives }) += weight;
            }
        }
        (positives, negatives)
    }

    /// Calls `act` for every distinct score, from the lowest to the highest.
    pub fn steps(&mut self, mut act: impl FnMut(Step)) {
        self.sort();
        self.below_zero.steps(|bits| f64::from_bits(!bits), &mut act);
        self.from_zero.steps(f64::from_bits, &mut act);
    }

    /// Twice the number of pairs in which the positive row has the higher score, equal scores counted half: exact, in whole numbers. `None` when rows
    /// have weights or are counted.
    pub(super) fn wins(&mut self) -> Option<u128> {
        self.sort();
        if self.decks().iter().any(|deck| !deck.heavy.is_empty()) {
            return None;
        }
        let mut negatives = 0;
        Some(self.decks().iter().map(|deck| wins(&deck.rows, &mut negatives)).sum())
    }

    /// Bytes on the heap.
    pub fn heap(&self) -> usize {
        self.below_zero.heap() + self.from_zero.heap()
    }

    fn decks(&self) -> [&Deck; 2] {
        [&self.below_zero, &self.from_zero]
    }

    fn sort(&mut self) {
        self.below_zero.sort();
        self.from_zero.sort();
    }
}

/// Twice the pairs that the positive rows of a sorted deck win, with `negatives` below it; adds its own.
fn wins(rows: &[u64], negatives: &mut u64) -> u128 {
    let mut total = 0;
    let (mut below, mut previous) = (*negatives, u64::MAX);
    // Few enough rows at a time for a sum of 64 bits.
    for rows in rows.chunks(1 << 16) {
        let mut twice = 0;
        for key in rows {
            let (score, positive) = (key >> 1, key & 1);
            below = if score == previous { below } else { *negatives };
            previous = score;
            twice += positive * (below + *negatives);
            *negatives += 1 - positive;
        }
        total += u128::from(twice);
    }
    total
}

/// Rows whose scores have one sign.
#[derive(Debug, Clone, Default)]
struct Deck {
    /// Rows of weight 1.
    rows: Vec<u64>,
    /// Where the sorted stretches of `rows` end; what follows the last is new.
    ends: Vec<usize>,
    /// Rows with a weight, or equal rows with their number.
    heavy: Vec<(u64, f64)>,
    /// How many of `heavy` are sorted and distinct; what follows is new.
    distinct: usize,
}

impl Deck {
    fn settled(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Bounds the memory: called after every batch.
    fn tidy(&mut self) {
        if self.rows.len() - self.settled() >= NEW.max(self.settled()) {
            self.settle();
        }
        if self.heavy.len() - self.distinct >= NEW.max(self.distinct) {
            self.fold();
        }
    }

    /// Sorts the new rows; when at most half of them are distinct they are counted.
    fn settle(&mut self) {
        let start = self.settled();
        let new = &mut self.rows[start..];
        sort::numbers(new);
        let distinct = new.windows(2).filter(|pair| pair[0] != pair[1]).count() + 1;
        if 2 * distinct <= new.len() {
            self.heavy.extend(new.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as f64)));
            self.rows.truncate(start);
        } else if !new.is_empty() {
            self.close();
        }
    }

    /// Ends a sorted stretch. Stretches that are not longer than the next are merged with it, so that a row takes part in few merges.
    fn close(&mut self) {
        self.ends.push(self.rows.len());
        while let [.., before, last] = self.ends[..] {
            let start = self.ends.len().checked_sub(3).map_or(0, |third| self.ends[third]);
            if last - before < before - start {
                break;
            }
            self.join();
        }
    }

    /// Merges the last two stretches.
    fn join(&mut self) {
        let Some(last) = self.ends.pop() else { return };
        let Some(middle) = self.ends.pop() else { return self.ends.push(last) };
        let start = self.settled();
        sort::merge(&mut self.rows[start..last], middle - start);
        self.ends.push(last);
    }

    /// Sorts the rows with a weight and adds up those of equal score and label.
    fn fold(&mut self) {
        if self.distinct < self.heavy.len() {
            self.heavy.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            self.heavy.dedup_by(|next, first| {
                let equal = next.0 == first.0;
                first.1 += if equal { next.1 } else { 0.0 };
                equal
            });
            self.distinct = self.heavy.len();
        }
    }

    /// Sorts everything.
    fn sort(&mut self) {
        self.settle();
        while self.ends.len() > 1 {
            self.join();
        }
        self.fold();
    }

    /// Calls `act` for every distinct score of a sorted deck, upwards; `score` undoes the order of the bits.
    fn steps(&self, score: impl Fn(u64) -> f64, act: &mut impl FnMut(Step)) {
        let (mut rows, mut heavy) = (self.rows.as_slice(), self.heavy.as_slice());
        loop {
            let next = match (rows.first(), heavy.first()) {
                (Some(&row), Some(&(counted, _))) => row.min(counted) >> 1,
                (Some(&row), None) => row >> 1,
                (None, Some(&(counted, _))) => counted >> 1,
                (None, None) => return,
            };
            let mut weights = [0.0; 2];
            while let [row, rest @ ..] = rows
                && row >> 1 == next
            {
                weights[(row & 1) as usize] += 1.0;
                rows = rest;
            }
            while let [(counted, weight), rest @ ..] = heavy
                && counted >> 1 == next
            {
                weights[(counted & 1) as usize] += weight;
                heavy = rest;
            }
            act(Step { score: score(next), positives: weights[1], negatives: weights[0] });
        }
    }

    fn take(&mut self, part: &mut Writer) {
        self.sort();
        let Self { rows, heavy, .. } = std::mem::take(self);
        part.wholes(&rows);
        part.whole(heavy.len() as u64);
        heavy.iter().for_each(|(key, weight)| {
            part.whole(*key).number(*weight);
        });
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        let rows = part.wholes();
        // A long part is a sorted stretch; short ones are sorted together later.
        let long = rows.len() >= NEW;
        if long {
            self.settle();
        }
        self.rows.extend(rows);
        if long {
            self.close();
        }
        for _ in 0..part.whole() {
            if part.is_empty() {
                break;
            }
            self.heavy.push((part.whole(), part.number()));
        }
        self.tidy();
    }

    fn heap(&self) -> usize {
        self.rows.capacity() * size_of::<u64>()
            + self.ends.capacity() * size_of::<usize>()
            + self.heavy.capacity() * size_of::<(u64, f64)>()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn add(scores: &mut Scores, rows: &[(f64, f64)]) {
        let (labels, values): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
        scores.update(Column::Numbers(&labels), Column::Numbers(&values), Column::Absent).unwrap();
    }

    fn steps(scores: &mut Scores) -> Vec<Step> {
        let mut steps = Vec::new();
        scores.steps(|step| steps.push(step));
        steps
    }

    #[test]
    fn steps_go_up_through_every_sign() {
        let mut scores = Scores::default();
        add(
            &mut scores,
            &[(1.0, 0.5), (0.0, -3.0), (0.0, 0.5), (1.0, f64::INFINITY), (1.0, -1e-300), (0.0, 0.0), (0.0, f64::NEG_INFINITY)],
        );
        let found: Vec<_> = steps(&mut scores).iter().map(|step| (step.score, step.positives, step.negatives)).collect();
        assert_eq!(
            found,
            [
                (f64::NEG_INFINITY, 0.0, 1.0),
                (-3.0, 0.0, 1.0),
                (-1e-300, 1.0, 0.0),
                (0.0, 0.0, 1.0),
                (0.5, 1.0, 1.0),
                (f64::INFINITY, 1.0, 0.0)
            ]
        );
        assert_eq!(scores.totals(), (3.0, 4.0));
    }

    #[test]
    fn memory_grows_with_distinct_scores_only() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut scores = Scores::default();
        for _ in 0..100 {
            let rows: Vec<_> =
                (0..8192).map(|_| (f64::from(rng.random_range(0..2)), f64::from(rng.random_range(-500..500)) / 500.0)).collect();
            add(&mut scores, &rows);
        }
        assert!(scores.heap() < 1_000_000, "{}", scores.heap());
        let steps = steps(&mut scores);
        assert_eq!(steps.len(), 1000);
        assert_eq!(steps.iter().map(|step| step.positives + step.negatives).sum::<f64>(), 100.0 * 8192.0);
    }

    #[test]
    fn parts_merge_to_the_same_steps_however_rows_are_cut() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for distinct in [50, 1_000_000] {
            let rows: Vec<_> =
                (0..60_000).map(|_| (f64::from(rng.random_range(0..2)), f64::from(rng.random_range(-distinct..distinct)) / 64.0)).collect();
            let mut whole = Scores::default();
            add(&mut whole, &rows);
            for size in [1, 77, 5000, 25_000] {
                let mut merged = Scores::default();
                for piece in rows.chunks(size).take(20_000) {
                    let (mut one, mut part) = (Scores::default(), Writer::default());
                    add(&mut one, piece);
                    one.take(&mut part);
                    assert!(one.is_empty());
                    merged.merge(&mut Reader::new(&part.finish()));
                }
                let mut expected = Scores::default();
                add(&mut expected, &rows[..rows.len().min(20_000 * size)]);
                assert_eq!(steps(&mut merged), steps(&mut expected), "{distinct} {size}");
            }
        }
    }

    #[test]
    fn bad_values_are_named() {
        let refused = |label, score, weight| {
            let columns = [[label], [score], [weight]];
            let [labels, scores, weights] = columns.each_ref().map(|column| Column::Numbers(column));
            Scores::default().update(labels, scores, weights).unwrap_err()
        };
        assert_eq!(refused(2.0, 0.5, 1.0), Invalid::new("label", 2, "0 or 1"));
        assert_eq!(refused(1.0, f64::NAN, 1.0), Invalid::new("score", "NaN", "a number"));
        assert_eq!(refused(1.0, 0.5, -1.0), Invalid::new("weight", -1, "a number from 0"));
    }
}
