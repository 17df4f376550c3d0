//! Rows as the inputs of a net: the places of their embeddings in the table, and their numbers.

use std::ops::Range;
use std::sync::Arc;

use rand::Rng;

use super::dictionary::Dictionary;
use super::{Batch, Bins, Feature, Kind, Number, Values, Vocabulary};
use crate::table::Use;

/// Standardised numbers are cut off here, so that one outlier cannot leave the range the net was trained on.
pub(crate) const LIMIT: f32 = 8.0;

/// The items of a history that are attended to: the last ones.
pub(crate) const HISTORY: usize = 50;

/// The place of a field that has no single embedding, but a sum of several.
const POOLED: u32 = u32::MAX;

/// Replays what was learned of the features on rows.
#[derive(Debug, Clone)]
pub(crate) struct Encoding {
    readers: Vec<Reader>,
    /// Embedded fields of a row.
    pub(crate) fields: usize,
    /// Numeric inputs of a row.
    pub(crate) dense: usize,
    /// Knots of the numbers with a piecewise linear encoding.
    pub(crate) knots: usize,
    /// The field that the history is attended with, if there is a history.
    pub(crate) history_target: Option<usize>,
    /// Raw id and number columns of a batch.
    ids: usize,
    numbers: usize,
}

/// One feature: the raw column it reads (by position among those of its kind) and where it goes.
#[derive(Debug, Clone)]
struct Reader {
    column: usize,
    field: usize,
    lookup: Lookup,
    sink: Sink,
}

#[derive(Debug, Clone)]
enum Sink {
    Category,
    /// One place for all rows.
    Fixed(u32),
    Bag,
    Vector {
        scale: f32,
    },
    History,
    /// `knot` is the first of its knots.
    Number {
        number: Box<Number>,
        dense: usize,
        knot: usize,
    },
}

/// From an id to a row of the table.
#[derive(Debug, Clone)]
struct Lookup {
    vocabulary: Vocabulary,
    dictionary: Option<Arc<Dictionary>>,
}

impl Lookup {
    #[inline]
    fn place(&self, id: u64) -> u32 {
        let Vocabulary { offset, size, .. } = self.vocabulary;
        if id == 0 {
            return offset;
        }
        match &self.dictionary {
            Some(dictionary) => offset + 1 + dictionary.position(id).map_or(0, |position| position + 1),
            // Scaled to the number of buckets without a division (Lemire 2019).
            None => offset + 1 + ((u128::from(id) * u128::from(size)) >> 64) as u32,
        }
    }
}

/// Where the embeddings of some rows are in the table; buffers that are kept between batches.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// rows x fields.
    single: Vec<u32>,
    pooled: Vec<Pooled>,
    /// Places among the knots.
    between: Vec<Pooled>,
    history: History,
}

/// What a field uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) field: usize,
    /// Rows of the table.
    pub(crate) rows: Range<usize>,
    /// Its knots.
    pub(crate) knots: Range<usize>,
}

/// One summand of a field.
#[derive(Debug, Clone, Copy)]
struct Pooled {
    row: u32,
    field: u32,
    place: u32,
    weight: f32,
}

impl Pooled {
    /// Where its field begins in rows of `width` numbers.
    #[inline]
    fn start(&self, stride: usize, width: usize) -> usize {
        self.row as usize * width + self.field as usize * stride
    }
}

/// The items of the rows' histories.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// rows x length; `POOLED` where a row has fewer.
    places: Vec<u32>,
    /// The longest history among the rows, at least 1.
    pub(crate) length: usize,
    /// rows x length: 1 for an item.
    pub(crate) mask: Vec<f32>,
}

impl Encoding {
    /// The encoding by features and, for each, its known values. `all` tells that batches hold the raw columns of unused features too.
    pub(crate) fn new(features: &[Feature], known: &[Vec<u64>], all: bool) -> Self {
        let mut encoding = Self { readers: vec![], fields: 0, dense: 0, knots: 0, history_target: None, ids: 0, numbers: 0 };
        let mut bags = 0;
        let mut field_of = vec![0; features.len()];
        let mut target = None;
        for (position, (feature, known)) in features.iter().zip(known).enumerate() {
            if !all && !feature.is_used() {
                continue;
            }
            let counter = match feature.values {
                Values::Id => &mut encoding.ids,
                Values::Number => &mut encoding.numbers,
                Values::Items | Values::Vector | Values::Tokens => &mut bags,
            };
            let column = *counter;
            *counter += 1;
            let sink = match &feature.kind {
                Kind::Unused(_) => continue,
                Kind::Category(_) => Sink::Category,
                Kind::Bag(_) => Sink::Bag,
                Kind::Vector { scale, .. } => Sink::Vector { scale: *scale },
                Kind::History { target: attended, .. } => {
                    target = Some(*attended);
                    Sink::History
                }
                Kind::Number(number) => {
                    let (dense, knot) = (encoding.dense, encoding.knots);
                    encoding.dense += 1 + usize::from(number.nullable);
                    encoding.knots += if matches!(number.bins, Bins::Piecewise(_)) { number.edges.len() } else { 0 };
                    Sink::Number { number: Box::new(number.clone()), dense, knot }
                }
            };
            let vocabulary = feature.vocabulary();
            field_of[position] = encoding.fields;
            encoding.readers.push(Reader {
                column,
                field: encoding.fields,
                lookup: Lookup {
                    vocabulary: vocabulary.unwrap_or(Vocabulary { offset: 0, size: 0, hashed: true }),
                    dictionary: vocabulary.is_some_and(|v| !v.hashed).then(|| Arc::new(Dictionary::new(known))),
                },
                sink,
            });
            encoding.fields += usize::from(vocabulary.is_some() && !matches!(feature.kind, Kind::History { .. }));
        }
        encoding.history_target = target.map(|target: usize| field_of[target]);
        encoding
    }

    /// The same encoding of rows whose last feature, a category, has this id whatever they hold; `absent` tells that they do not hold its column.
    pub(crate) fn with_last(&self, id: u64, absent: bool) -> Self {
        let mut fixed = self.clone();
        if let Some(last) = fixed.readers.last_mut() {
            last.sink = Sink::Fixed(last.lookup.place(id));
        }
        fixed.ids -= usize::from(absent);
        fixed
    }

    /// Finds the embeddings of these rows.
    pub(crate) fn places(&self, batch: &Batch, rows: &[u32], places: &mut Places) {
        places.single.clear();
        places.single.resize(rows.len() * self.fields, POOLED);
        places.pooled.clear();
        places.between.clear();
        for reader in &self.readers {
            let lookup = &reader.lookup;
            let start = reader.field.min(places.single.len());
            let fields = places.single[start..].iter_mut().step_by(self.fields.max(1));
            let summand = |row: usize, place: u32, weight: f32| Pooled { row: row as u32, field: reader.field as u32, place, weight };
            match &reader.sink {
                Sink::Category => {
                    for (place, row) in fields.zip(rows) {
                        *place = lookup.place(batch.ids[*row as usize * self.ids + reader.column]);
                    }
                }
                Sink::Fixed(place) => fields.zip(rows).for_each(|(own, _)| *own = *place),
                Sink::Number { number, knot, .. } if matches!(number.bins, Bins::Piecewise(_)) => {
                    for (position, row) in rows.iter().enumerate() {
                        let value = batch.numbers[*row as usize * self.numbers + reader.column];
                        if !value.is_nan() {
                            let (bin, share) = between(&number.edges, value);
                            let place = (knot + bin) as u32;
                            places.between.push(summand(position, place, 1.0 - share));
                            places.between.push(summand(position, place + 1, share));
                        }
                    }
                }
                Sink::Number { number, .. } if matches!(number.bins, Bins::Quantile(_)) => {
                    for (place, row) in fields.zip(rows) {
                        let value = batch.numbers[*row as usize * self.numbers + reader.column];
                        let offset = lookup.vocabulary.offset;
                        *place = if value.is_nan() { offset } else { offset + 1 + bin(&number.edges, value) as u32 };
                    }
                }
                Sink::Number { .. } => {}
                Sink::Bag => {
                    let bag = &batch.bags[reader.column];
                    for (position, row) in rows.iter().enumerate() {
                        let ids = &bag.ids[bag.row(*row as usize)];
                        let weight = 1.0 / (ids.len().max(1) as f32).sqrt();
                        let nothing = ids.is_empty().then_some(0);
                        let items = ids.iter().copied().chain(nothing);
                        places.pooled.extend(items.map(|id| summand(position, lookup.place(id), weight)));
                    }
                }
                Sink::Vector { scale } => {
                    let bag = &batch.bags[reader.column];
                    for (position, row) in rows.iter().enumerate() {
                        let range = bag.row(*row as usize);
                        if range.is_empty() {
                            places.pooled.push(summand(position, lookup.place(0), 1.0));
                        }
                        let values = bag.ids[range.clone()].iter().zip(&bag.weights[range]);
                        places.pooled.extend(values.filter(|(_, value)| **value != 0.0).map(|(id, value)| {
                            let weight = (value / scale).clamp(-LIMIT, LIMIT);
                            summand(position, lookup.place(*id), weight)
                        }));
                    }
                }
                Sink::History => places.history.read(&batch.bags[reader.column], rows, lookup),
            }
        }
    }

    /// The embedding at every knot: the sum of the rows of the bins below it. Knots x stride.
    pub(crate) fn knots(&self, table: &[f32], stride: usize, out: &mut Vec<f32>) {
        out.clear();
        for (vocabulary, _) in self.piecewise() {
            out.extend(std::iter::repeat_n(0.0, stride));
            let bins = &table[(vocabulary.offset as usize + 1) * stride..][..vocabulary.size as usize * stride];
            for value in bins {
                let below = out[out.len() - stride];
                out.push(below + value);
            }
        }
    }

    /// From the gradient of the knots to that of the rows of the bins: each row is in all knots above it. Gives the rows and where in
    /// `gradient` their part then begins.
    pub(crate) fn unfold(&self, gradient: &mut [f32], stride: usize) -> Vec<Use> {
        let mut uses = Vec::new();
        for (vocabulary, knot) in self.piecewise() {
            let size = vocabulary.size as usize;
            let own = &mut gradient[knot * stride..][..(size + 1) * stride];
            for at in (stride..size * stride).rev() {
                own[at] += own[at + stride];
            }
            let start = |bin: usize| ((knot + bin) * stride) as u32;
            uses.extend((1..=size).map(|bin| Use { row: vocabulary.offset + bin as u32, start: start(bin), weight: 1.0 }));
        }
        uses
    }

    /// The rows of the table that each field uses, and its knots: `None` when two fields use the same.
    pub(crate) fn ranges(&self) -> Option<Vec<Used>> {
        let mut ranges = Vec::new();
        for reader in self.readers.iter().filter(|reader| !matches!(reader.sink, Sink::History)) {
            let Vocabulary { offset, size, hashed } = reader.lookup.vocabulary;
            let rows = offset as usize..offset as usize + size as usize + 2 - usize::from(hashed);
            let (rows, knots) = match &reader.sink {
                Sink::Number { number, knot, .. } => match number.bins {
                    Bins::Piecewise(_) => (rows, *knot..*knot + number.edges.len()),
                    Bins::Quantile(_) => (rows, 0..0),
                    _ => continue,
                },
                _ => (rows, 0..0),
            };
            ranges.push(Used { field: reader.field, rows, knots });
        }
        let overlaps = |a: &Used, b: &Used| a.field != b.field && a.rows.start < b.rows.end && b.rows.start < a.rows.end;
        let shared = ranges.iter().any(|a| ranges.iter().any(|b| overlaps(a, b)));
        (!shared).then_some(ranges)
    }

    fn piecewise(&self) -> impl Iterator<Item = (Vocabulary, usize)> + '_ {
        self.readers.iter().filter_map(|reader| match &reader.sink {
            Sink::Number { number, knot, .. } if matches!(number.bins, Bins::Piecewise(_)) => Some((reader.lookup.vocabulary, *knot)),
            _ => None,
        })
    }

    /// Turns places of known values into those of unseen ones with the chance of their row of the table.
    pub(crate) fn hide(&self, places: &mut Places, chances: &[f32], rng: &mut impl Rng) {
        for reader in self.readers.iter().filter(|reader| matches!(reader.sink, Sink::Category) && reader.lookup.dictionary.is_some()) {
            let unseen = reader.lookup.vocabulary.offset + 1;
            for place in places.single[reader.field..].iter_mut().step_by(self.fields) {
                if *place > unseen && rng.random::<f32>() < chances[*place as usize] {
                    *place = unseen;
                }
            }
        }
    }

    /// Leaves out a share of the items of every list; the others count for them. A list keeps what tells that it is empty.
    pub(crate) fn thin(&self, places: &mut Places, share: f32, rng: &mut impl Rng) {
        let bags = self.readers.iter().filter(|reader| matches!(reader.sink, Sink::Bag));
        let bags: Vec<(u32, u32)> = bags.map(|reader| (reader.field as u32, reader.lookup.vocabulary.offset)).collect();
        places.pooled.retain_mut(|summand| {
            let item = bags.iter().any(|(field, nothing)| summand.field == *field && summand.place != *nothing);
            summand.weight /= if item { 1.0 - share } else { 1.0 };
            !item || rng.random::<f32>() >= share
        });
    }

    /// Writes the numeric inputs of these rows into the last columns of `x`, which has `width` columns.
    pub(crate) fn numbers(&self, batch: &Batch, rows: &[u32], x: &mut [f32], width: usize) {
        for reader in &self.readers {
            let Sink::Number { number, dense, .. } = &reader.sink else { continue };
            let start = width - self.dense + dense;
            for (row, out) in rows.iter().zip(x.chunks_exact_mut(width)) {
                let value = batch.numbers[*row as usize * self.numbers + reader.column];
                encode(number, value, &mut out[start..]);
            }
        }
    }
}

/// The bin of a number: edge `i` is the first of bin `i + 1`.
fn bin(edges: &[f32], value: f32) -> usize {
    edges.partition_point(|edge| *edge <= value)
}

/// The bin between two edges in which a number lies, and the share of it that is below; a number outside lies at the end.
fn between(edges: &[f32], value: f32) -> (usize, f32) {
    let bin = bin(edges, value).clamp(1, edges.len() - 1) - 1;
    (bin, ((value - edges[bin]) / (edges[bin + 1] - edges[bin])).clamp(0.0, 1.0))
}

/// [standardised | missing]. A number outside the training rows counts as their last one, where that is known.
fn encode(number: &Number, value: f32, out: &mut [f32]) {
    let missing = value.is_nan();
    let value = match (number.bins, number.edges.as_slice()) {
        (Bins::Piecewise(_), [first, .., last]) => value.clamp(*first, *last),
        _ => value,
    };
    let scaled = if number.log { value.signum() * value.abs().ln_1p() } else { value };
    out[0] = if missing { 0.0 } else { ((scaled - number.mean) / number.std).clamp(-LIMIT, LIMIT) };
    if number.nullable {
        out[1] = f32::from(u8::from(missing));
    }
}

impl History {
    fn read(&mut self, bag: &super::Bag, rows: &[u32], lookup: &Lookup) {
        let items = |row: &u32| {
            let range = bag.row(*row as usize);
            &bag.ids[range.end - range.len().min(HISTORY)..range.end]
        };
        self.length = rows.iter().map(|row| items(row).len()).max().unwrap_or(0).max(1);
        self.places.clear();
        self.mask.clear();
        for row in rows {
            let items = items(row);
            let padding = self.length - items.len();
            self.places.extend(items.iter().map(|id| lookup.place(*id)));
            self.places.extend(std::iter::repeat_n(POOLED, padding));
            self.mask.extend(std::iter::repeat_n(1.0, items.len()));
            self.mask.extend(std::iter::repeat_n(0.0, padding));
        }
    }
}

impl Places {
    /// Writes the embeddings of the rows into the first columns of `x`, which has `width` columns; a row of the table has `stride` numbers.
    pub(crate) fn gather(&self, table: &[f32], knots: &[f32], stride: usize, fields: usize, x: &mut [f32], width: usize) {
        if fields == 0 {
            return;
        }
        match stride {
            8 => self.gather_fixed::<8>(table, knots, fields, x, width),
            16 => self.gather_fixed::<16>(table, knots, fields, x, width),
            17 => self.gather_fixed::<17>(table, knots, fields, x, width),
            stride => {
                for (places, x) in self.single.chunks_exact(fields).zip(x.chunks_exact_mut(width)) {
                    gather(table, stride, places, x);
                }
                for (source, summands) in [(table, &self.pooled), (knots, &self.between)] {
                    for summand in summands {
                        let out = &mut x[summand.start(stride, width)..][..stride];
                        for (out, value) in out.iter_mut().zip(&source[summand.place as usize * stride..]) {
                            *out += summand.weight * value;
                        }
                    }
                }
            }
        }
    }

    /// [`Places::gather`] for a usual size: a copy or a sum is a few vector operations instead of a loop.
    fn gather_fixed<const STRIDE: usize>(&self, table: &[f32], knots: &[f32], fields: usize, x: &mut [f32], width: usize) {
        let ((table, _), (knots, _)) = (table.as_chunks::<STRIDE>(), knots.as_chunks::<STRIDE>());
        for (places, x) in self.single.chunks_exact(fields).zip(x.chunks_exact_mut(width)) {
            for (place, out) in places.iter().zip(x.as_chunks_mut::<STRIDE>().0) {
                *out = if *place == POOLED { [0.0; STRIDE] } else { table[*place as usize] };
            }
        }
        for (source, summands) in [(table, &self.pooled), (knots, &self.between)] {
            for summand in summands {
                if let Some((out, _)) = x[summand.start(STRIDE, width)..].split_first_chunk_mut::<STRIDE>() {
                    let value = &source[summand.place as usize];
                    out.iter_mut().zip(value).for_each(|(out, value)| *out += summand.weight * value);
                }
            }
        }
    }

    /// For each row, the sum of what its places stand for in tables of `width` numbers per place, added to what `out` holds.
    pub(crate) fn add_up(&self, table: &[f32], knots: &[f32], fields: usize, out: &mut [f32], width: usize) {
        for (places, out) in self.single.chunks_exact(fields.max(1)).zip(out.chunks_exact_mut(width)) {
            for place in places.iter().filter(|place| **place != POOLED) {
                out.iter_mut().zip(&table[*place as usize * width..][..width]).for_each(|(out, value)| *out += value);
            }
        }
        for (source, summands) in [(table, &self.pooled), (knots, &self.between)] {
            for Pooled { row, place, weight, .. } in summands {
                let out = &mut out[*row as usize * width..][..width];
                out.iter_mut().zip(&source[*place as usize * width..][..width]).for_each(|(out, value)| *out += weight * value);
            }
        }
    }

    /// The gradient of the knots, knots x stride, from that of x.
    pub(crate) fn fold(&self, gradient: &[f32], knots: &mut [f32], stride: usize, width: usize) {
        knots.fill(0.0);
        for summand in &self.between {
            let from = &gradient[summand.start(stride, width)..][..stride];
            let sums = &mut knots[summand.place as usize * stride..];
            sums.iter_mut().zip(from).for_each(|(sum, g)| *sum += summand.weight * g);
        }
    }

    /// The embeddings of the histories, rows x length x stride, and their mask.
    pub(crate) fn gather_history(&self, table: &[f32], stride: usize, out: &mut Vec<f32>) -> &History {
        out.clear();
        for place in &self.history.places {
            match *place {
                POOLED => out.extend(std::iter::repeat_n(0.0, stride)),
                place => out.extend_from_slice(&table[place as usize * stride..][..stride]),
            }
        }
        &self.history
    }

    /// The items of the histories.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Every use of a row of the table, where its share of the gradient of x begins, with its weight times `scale`.
    pub(crate) fn uses(&self, fields: usize, stride: usize, width: usize, scale: f32, out: &mut Vec<Use>) {
        out.clear();
        for (row, places) in self.single.chunks_exact(fields.max(1)).enumerate() {
            let used = places.iter().enumerate().filter(|(_, place)| **place != POOLED);
            out.extend(used.map(|(field, place)| Use { row: *place, start: (row * width + field * stride) as u32, weight: scale }));
        }
        let summands = self.pooled.iter();
        out.extend(summands.map(|s| Use { row: s.place, start: s.start(stride, width) as u32, weight: s.weight * scale }));
    }

    /// Every summand of the pooled fields, row after row: the row, its place in the table and the weight.
    pub(crate) fn summands(&self) -> impl Iterator<Item = (usize, usize, f32)> + '_ {
        self.pooled.iter().map(|summand| (summand.row as usize, summand.place as usize, summand.weight))
    }

    /// Every use of a row of the table by a history, where its share of the gradient begins.
    pub(crate) fn history_uses(&self, stride: usize, scale: f32, out: &mut Vec<Use>) {
        out.clear();
        let items = self.history.places.iter().enumerate().filter(|(_, place)| **place != POOLED);
        out.extend(items.map(|(at, place)| Use { row: *place, start: (at * stride) as u32, weight: scale }));
    }
}

/// Copies rows of a table of `stride` numbers per row; a field without a single place becomes zeros.
fn gather(table: &[f32], stride: usize, places: &[u32], out: &mut [f32]) {
    for (place, out) in places.iter().zip(out.chunks_exact_mut(stride)) {
        match *place {
            POOLED => out.fill(0.0),
            place => out.copy_from_slice(&table[place as usize * stride..][..stride]),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::features::{Bag, Part};

    fn feature(values: Values, kind: Kind) -> Feature {
        Feature { column: "c".to_owned(), part: Part::Whole, sql_type: "x".to_owned(), values, kind, missing: 0.0, distinct: 0 }
    }

    fn number(bins: Bins, edges: Vec<f32>) -> Number {
        Number { log: false, mean: 4.0, std: 2.0, nullable: true, edges, bins }
    }

    #[test]
    fn every_kind_of_feature_reaches_its_place() {
        let known = |offset, size| Vocabulary { offset, size, hashed: false };
        let bins = Vocabulary { offset: 17, size: 2, hashed: true };
        let features = [
            feature(Values::Id, Kind::Category(known(0, 2))),
            feature(Values::Number, Kind::Unused("constant".to_owned())),
            feature(Values::Number, Kind::Number(number(Bins::Piecewise(bins), vec![0.0, 10.0, 20.0]))),
            feature(Values::Items, Kind::Bag(Vocabulary { offset: 4, size: 8, hashed: true })),
            feature(Values::Vector, Kind::Vector { vocabulary: known(13, 2), scale: 2.0 }),
        ];
        let values = [vec![70, 50], vec![], vec![], vec![], vec![1, 2]];
        let encoding = Encoding::new(&features, &values, true);
        assert_eq!((encoding.fields, encoding.dense, encoding.knots), (4, 2, 3));
        let batch = Batch {
            rows: 2,
            ids: vec![50, 9],
            numbers: vec![7.0, 15.0, 7.0, f32::NAN],
            bags: vec![
                Bag { offsets: vec![0, 4, 4], ids: vec![1 << 63; 4], weights: vec![] },
                Bag { offsets: vec![0, 2, 2], ids: vec![1, 2], weights: vec![0.0, 6.0] },
            ],
        };
        let mut places = Places::default();
        encoding.places(&batch, &[0, 1], &mut places);
        let stride = 2;
        let width = 4 * stride + 2;
        let table: Vec<f32> = (0..40).map(|n| (n / 2) as f32).collect();
        let mut x = vec![-1.0; 2 * width];
        let mut knots = Vec::new();
        encoding.knots(&table, stride, &mut knots);
        assert_eq!(knots, [0.0, 0.0, 18.0, 18.0, 37.0, 37.0]);
        places.gather(&table, &knots, stride, 4, &mut x, width);
        encoding.numbers(&batch, &[0, 1], &mut x, width);
        // Row 0: the second known value; all of the first bin and half of the second; four equal items of the middle bucket (4 / sqrt 4);
        // the second position three times.
        assert_eq!(x[..width], [3.0, 3.0, 27.5, 27.5, 18.0, 18.0, 48.0, 48.0, 5.5, 0.0]);
        // Row 1: an unseen value, a missing number, empty lists.
        assert_eq!(x[width..], [1.0, 1.0, 0.0, 0.0, 4.0, 4.0, 13.0, 13.0, 0.0, 1.0]);
        let mut uses = Vec::new();
        places.uses(4, stride, width, 10.0, &mut uses);
        assert_eq!(uses.len(), 2 + 4 + 1 + 2);
        let used = |row, start, weight| Use { row, start, weight };
        assert!(uses.contains(&used(16, 6, 30.0)) && uses.contains(&used(1, width as u32, 10.0)), "{uses:?}");
        // The number's field has the gradient 1 in row 0: the first bin's row is in it once, the second half.
        let mut gradient = vec![0.0; 2 * width];
        gradient[2..4].fill(1.0);
        gradient[width + 2..width + 4].fill(100.0);
        let mut folded = vec![9.0; 3 * stride];
        places.fold(&gradient, &mut folded, stride, width);
        let uses = encoding.unfold(&mut folded, stride);
        assert_eq!(uses, [used(18, stride as u32, 1.0), used(19, 2 * stride as u32, 1.0)]);
        assert_eq!(folded[stride..], [1.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn numbers_fall_into_their_buckets() {
        let bins = Bins::Quantile(Vocabulary { offset: 5, size: 3, hashed: true });
        let features = [feature(Values::Number, Kind::Number(number(bins, vec![1.0, 2.0])))];
        let encoding = Encoding::new(&features, &[vec![]], false);
        let batch = Batch { rows: 4, ids: vec![], numbers: vec![0.0, 1.0, 5.0, f32::NAN], bags: vec![] };
        let mut places = Places::default();
        encoding.places(&batch, &[0, 1, 2, 3], &mut places);
        assert_eq!(places.single, [6, 7, 8, 5]);
    }

    #[test]
    fn a_number_outside_the_training_rows_counts_as_their_last() {
        assert_eq!(between(&[0.0, 1.0, 3.0], -5.0), (0, 0.0));
        assert_eq!(between(&[0.0, 1.0, 3.0], 3.0), (1, 1.0));
        assert_eq!(between(&[0.0, 1.0, 3.0], 99.0), (1, 1.0));
        assert_eq!(between(&[0.0, 1.0, 3.0], 2.0), (1, 0.5));
        let mut out = [0.0; 2];
        encode(&number(Bins::Piecewise(Vocabulary { offset: 0, size: 2, hashed: true }), vec![0.0, 1.0, 3.0]), 99.0, &mut out);
        assert_eq!(out, [-0.5, 0.0]);
    }

    #[test]
    fn a_value_that_is_hidden_counts_as_unseen() {
        let features = [feature(Values::Id, Kind::Category(Vocabulary { offset: 3, size: 2, hashed: false }))];
        let encoding = Encoding::new(&features, &[vec![50, 70]], false);
        let batch = Batch { rows: 4, ids: vec![50, 70, 0, 9], numbers: vec![], bags: vec![] };
        let mut places = Places::default();
        encoding.places(&batch, &[0, 1, 2, 3], &mut places);
        assert_eq!(places.single, [5, 6, 3, 4]);
        encoding.hide(&mut places, &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0], &mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
        assert_eq!(places.single, [4, 6, 3, 4]);
    }

    #[test]
    fn a_history_keeps_its_last_items_and_is_padded() {
        let shared = Vocabulary { offset: 0, size: 3, hashed: false };
        let features =
            [feature(Values::Id, Kind::Category(shared)), feature(Values::Items, Kind::History { vocabulary: shared, target: 0 })];
        let encoding = Encoding::new(&features, &[vec![11, 22, 33], vec![11, 22, 33]], false);
        assert_eq!((encoding.fields, encoding.history_target), (1, Some(0)));
        let mut bag = Bag::default();
        bag.ids.extend([22, 33]);
        bag.end_row();
        bag.ids.extend(std::iter::repeat_n(11, HISTORY + 5));
        bag.end_row();
        let batch = Batch { rows: 2, ids: vec![11, 99], numbers: vec![], bags: vec![bag] };
        let mut places = Places::default();
        encoding.places(&batch, &[0, 1], &mut places);
        let table: Vec<f32> = (0..5).map(|n| n as f32).collect();
        let mut out = Vec::new();
        let history = places.gather_history(&table, 1, &mut out);
        assert_eq!((history.length, &out[..3], out[HISTORY]), (HISTORY, [3.0, 4.0, 0.0].as_slice(), 2.0));
        assert_eq!(history.mask[..3], [1.0, 1.0, 0.0]);
        let mut uses = Vec::new();
        places.history_uses(1, 2.0, &mut uses);
        assert_eq!((uses.len(), uses[0]), (2 + HISTORY, Use { row: 3, start: 0, weight: 2.0 }));
    }
}
