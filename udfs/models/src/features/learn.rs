//! What becomes of each raw column, decided by its values in the training rows.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{Batch, Bins, Column, Feature, Kind, Number, Part, Treatment, Values, Vocabulary};
use crate::error::{Error, Result};
use crate::metrics;

/// Values are counted one by one up to this many per column; beyond, they are hashed.
const COUNTED: usize = 1 << 21;

/// The most values with a row of their own; with more, they are hashed.
const KNOWN: usize = 1 << 20;

/// Rows for the values of a column with too many of them.
const MOST_BUCKETS: u32 = 1 << 22;

/// Least counts of values with a row of their own: the first that leaves few enough. Rarer values share one row with unseen ones.
const MIN_COUNTS: [u32; 5] = [5, 10, 20, 50, 100];

/// Rows that statistics other than counts are computed from: the first ones, which are a random sample, since rows are in random order.
const SAMPLE: usize = 1 << 17;

/// Bins of a number.
const BINS: usize = 48;

/// A column that orders the labels better than this tells them.
const LEAK: f64 = 0.9995;

/// What was learned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Learned {
    /// One per raw column.
    pub(crate) features: Vec<Feature>,
    /// The known values of each feature, in the order of their rows.
    pub(crate) known: Vec<Vec<u64>>,
    /// How often each row of the table would have been used by known values of categories; 0 for other rows.
    pub(crate) uses: Vec<u32>,
    /// Rows of the embedding table.
    pub(crate) table_rows: u32,
    /// Columns that tell the label.
    pub(crate) leaks: Vec<String>,
    /// Columns that tell who was treated.
    pub(crate) telling: Vec<String>,
}

/// The user's pairing of a list column with the column it is attended with: (list, target).
pub(crate) type HistoryPair = (String, String);

/// Reads training rows; then decides.
pub(crate) struct Learner<'a> {
    columns: &'a [Column],
    seen: Vec<Seen>,
    /// First labels of the sample.
    labels: Vec<f32>,
    /// Whether each row of the sample was treated; empty unless it matters.
    treated: Vec<f32>,
    rows: usize,
}

/// Counts by id. Ids are hashes already.
type Counts = HashMap<u64, u32, BuildHasherDefault<Identity>>;

/// The hash of a hash.
#[derive(Debug, Clone, Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// What was seen of a column.
#[derive(Default)]
struct Seen {
    missing: usize,
    counts: Counts,
    /// There were more values than are counted.
    overflow: bool,
    /// Of the sample: numbers, or ids for the search of leaks.
    numbers: Vec<f32>,
    ids: Vec<u64>,
    /// Of lists: the longest, the values in all and the sum of their squares.
    longest: usize,
    items: usize,
    squares: f64,
}

impl Seen {
    fn count(&mut self, id: u64) {
        if self.overflow && !self.counts.contains_key(&id) {
            return;
        }
        *self.counts.entry(id).or_default() += 1;
        self.overflow |= self.counts.len() >= COUNTED;
    }

    /// Values seen at least `least` times, sorted.
    fn known(&self, least: u32) -> Vec<u64> {
        let mut known: Vec<u64> = self.counts.iter().filter(|(_, count)| **count >= least).map(|(id, _)| *id).collect();
        known.sort_unstable();
        known
    }
}

impl<'a> Learner<'a> {
    pub(crate) fn new(columns: &'a [Column]) -> Self {
        Self { columns, seen: columns.iter().map(|_| Seen::default()).collect(), labels: Vec::new(), treated: Vec::new(), rows: 0 }
    }

    /// Whether the rows of the next [`Learner::add`] were treated, 0 or 1, so that columns that tell are found.
    pub(crate) fn treatments(&mut self, rows: &[u32], treated: impl Fn(u32) -> f32) {
        let sample = &rows[..rows.len().min(SAMPLE - self.treated.len().min(SAMPLE))];
        self.treated.extend(sample.iter().map(|row| treated(*row)));
    }

    /// Reads these rows of a batch; `label` gives the first label of a row.
    pub(crate) fn add(&mut self, batch: &Batch, rows: &[u32], label: impl Fn(u32) -> f32) {
        let sample = &rows[..rows.len().min(SAMPLE - self.labels.len().min(SAMPLE))];
        self.labels.extend(sample.iter().map(|row| label(*row)));
        let width = |kind: Values| self.columns.iter().filter(|c| c.values == kind).count();
        let (ids, numbers) = (width(Values::Id), width(Values::Number));
        let (mut id, mut number, mut bag) = (0, 0, 0);
        for (column, seen) in self.columns.iter().zip(&mut self.seen) {
            match column.values {
                Values::Id => {
                    let value = |row: &u32| batch.ids[*row as usize * ids + id];
                    seen.ids.extend(sample.iter().map(value));
                    for value in rows.iter().map(value) {
                        if value == 0 { seen.missing += 1 } else { seen.count(value) }
                    }
                    id += 1;
                }
                Values::Number => {
                    let value = |row: &u32| batch.numbers[*row as usize * numbers + number];
                    seen.numbers.extend(sample.iter().map(value));
                    seen.missing += rows.iter().filter(|row| value(row).is_nan()).count();
                    number += 1;
                }
                Values::Items | Values::Vector | Values::Tokens => {
                    let values = &batch.bags[bag];
                    for row in rows {
                        let range = values.row(*row as usize);
                        seen.missing += usize::from(range.is_empty());
                        seen.longest = seen.longest.max(range.len());
                        seen.items += range.len();
                        if column.values == Values::Vector {
                            let present = values.weights[range].iter().filter(|w| **w != 0.0);
                            seen.squares += present.map(|w| f64::from(*w).powi(2)).sum::<f64>();
                            continue;
                        }
                        values.ids[range].iter().for_each(|id| seen.count(*id));
                    }
                    bag += 1;
                }
            }
        }
        self.rows += rows.len();
    }

    /// Decides. `history` pairs a list with its target for a net that attends to one; `Some(None)` finds the pair.
    pub(crate) fn finish(mut self, history: Option<Option<HistoryPair>>) -> Result<Learned> {
        let pair = history.map(|wanted| self.pair(wanted)).transpose()?;
        if let Some((list, target)) = pair {
            let items = std::mem::take(&mut self.seen[list].counts);
            let target = &mut self.seen[target];
            items.into_iter().for_each(|(id, count)| *target.counts.entry(id).or_default() += count);
        }
        let mut learned = Learned { features: vec![], known: vec![], uses: vec![], table_rows: 0, leaks: vec![], telling: vec![] };
        for position in 0..self.columns.len() {
            let (column, seen) = (&self.columns[position], &self.seen[position]);
            let (kind, known) = match pair {
                Some((list, _)) if list == position => (Kind::Unused("attended".to_owned()), Vec::new()),
                _ => self.decide(position, &mut learned.table_rows),
            };
            for (labels, telling) in [(&self.labels, &mut learned.leaks), (&self.treated, &mut learned.telling)] {
                if !labels.is_empty() && self.tells(position, labels) && !telling.contains(&column.column) {
                    telling.push(column.column.clone());
                }
            }
            learned.uses.resize(learned.table_rows as usize, 0);
            if let Kind::Category(vocabulary) = kind {
                let uses = &mut learned.uses[vocabulary.offset as usize..];
                // After NULL's row and that of unseen values.
                uses.iter_mut().skip(2).zip(&known).for_each(|(uses, id)| *uses = seen.counts.get(id).copied().unwrap_or_default());
            }
            learned.features.push(Feature {
                column: column.column.clone(),
                part: column.part,
                sql_type: column.sql_type.clone(),
                values: column.values,
                kind,
                missing: seen.missing as f64 / self.rows.max(1) as f64,
                distinct: self.distinct(position) as u64,
            });
            learned.known.push(known);
        }
        if let Some((list, target)) = pair {
            let Kind::Category(vocabulary) = learned.features[target].kind else {
                let reason = format!("column \"{}\" has too few values to be attended with", learned.features[target].column);
                return Err(Error::data(reason, "name the list and its target: history => 'seen_items:item_id'"));
            };
            learned.features[list].kind = Kind::History { vocabulary, target };
            learned.known[list] = learned.known[target].clone();
        }
        if !learned.features.iter().any(Feature::is_used) {
            let mut reasons: Vec<String> = learned.features.iter().map(|f| format!("{} {}", f.name(), reason(&f.kind))).collect();
            // An integer is two features that are left out for one reason.
            reasons.dedup();
            let reason = format!("no column of the training query can tell the rows apart: {}", reasons.join(", "));
            return Err(Error::data(reason, "select columns with different values"));
        }
        Ok(learned)
    }

    fn distinct(&self, position: usize) -> usize {
        let seen = &self.seen[position];
        match self.columns[position].values {
            Values::Number => {
                let mut values: Vec<u32> = seen.numbers.iter().filter(|n| !n.is_nan()).map(|n| n.to_bits()).collect();
                values.sort_unstable();
                values.dedup();
                values.len()
            }
            Values::Vector => seen.longest,
            Values::Id | Values::Items | Values::Tokens => seen.counts.len(),
        }
    }

    /// What becomes of a column, and its known values; takes rows of the table.
    fn decide(&self, position: usize, table_rows: &mut u32) -> (Kind, Vec<u64>) {
        let (column, seen) = (&self.columns[position], &self.seen[position]);
        let unused = |reason: &str| (Kind::Unused(reason.to_owned()), Vec::new());
        let distinct = self.distinct(position);
        match distinct {
            0 if column.values.is_bag() => return unused("is always NULL, empty or short"),
            0 => return unused("is always NULL"),
            1 if seen.missing == 0 && !column.values.is_bag() => return unused("has one value only"),
            _ => {}
        }
        let mut allot = |size: usize, hashed: bool| {
            let vocabulary = Vocabulary { offset: *table_rows, size: size as u32, hashed };
            *table_rows += vocabulary.rows();
            vocabulary
        };
        let mut counted = |least: u32, most: usize| {
            if let Some(Treatment::Hash(buckets)) = column.treatment {
                return (allot(buckets as usize, true), Vec::new());
            }
            let few = |least: &u32| seen.counts.values().filter(|count| **count >= *least).count() <= most;
            match [least].iter().chain(&MIN_COUNTS).find(|least| few(least)).copied() {
                Some(least) if !seen.overflow => {
                    let known = seen.known(least);
                    (allot(known.len(), false), known)
                }
                _ => {
                    let buckets = (seen.counts.len() as u32).saturating_mul(2).next_power_of_two().min(MOST_BUCKETS);
                    (allot(buckets as usize, true), Vec::new())
                }
            }
        };
        match column.values {
            Values::Id => {
                let least = if column.treatment == Some(Treatment::Category) { 1 } else { MIN_COUNTS[0] };
                if column.treatment.is_none() && !seen.overflow && seen.counts.values().all(|count| *count < least) {
                    return unused("nearly every value is different");
                }
                let (vocabulary, known) = counted(least, KNOWN);
                (Kind::Category(vocabulary), known)
            }
            Values::Items => {
                let (vocabulary, known) = counted(MIN_COUNTS[0], KNOWN);
                (Kind::Bag(vocabulary), known)
            }
            Values::Tokens => {
                let rare = seen.items < self.rows / 10 && column.treatment.is_none();
                if rare || seen.counts.values().all(|count| *count < MIN_COUNTS[0]) {
                    return unused("its texts are short or have no words in common");
                }
                let least = if column.treatment == Some(Treatment::Ngrams) { 2 } else { MIN_COUNTS[0] };
                let (vocabulary, known) = counted(least, KNOWN / 8);
                (Kind::Bag(vocabulary), known)
            }
            Values::Vector => {
                let known: Vec<u64> = (1..=seen.longest as u64).collect();
                let scale = (seen.squares / seen.items.max(1) as f64).sqrt() as f32;
                let scale = if scale.is_normal() { scale } else { 1.0 };
                (Kind::Vector { vocabulary: allot(known.len(), false), scale }, known)
            }
            Values::Number => {
                let mut number = number(&seen.numbers, seen.missing > 0, column.treatment);
                match &mut number.bins {
                    Bins::None => {}
                    Bins::Piecewise(vocabulary) => *vocabulary = allot(number.edges.len() - 1, true),
                    Bins::Quantile(vocabulary) => *vocabulary = allot(number.edges.len() + 1, true),
                }
                (Kind::Number(number), Vec::new())
            }
        }
    }

    /// The positions of the list and of its target.
    fn pair(&self, wanted: Option<HistoryPair>) -> Result<(usize, usize)> {
        let found = |name: &str, fits: fn(&Column) -> bool| self.columns.iter().position(|c| c.column == name && fits(c));
        let is_list = |c: &Column| c.values == Values::Items;
        let is_target = |c: &Column| c.values == Values::Id && c.part == Part::Whole;
        if let Some((list, target)) = wanted {
            let list = found(&list, is_list).ok_or_else(|| Error::option("history", format!("\"{list}\" is not a list of ids")))?;
            let target = found(&target, is_target).ok_or_else(|| Error::option("history", format!("\"{target}\" is not an id")))?;
            return Ok((list, target));
        }
        let mut best = None;
        for (list, _) in self.columns.iter().enumerate().filter(|(_, c)| is_list(c)) {
            for (target, _) in self.columns.iter().enumerate().filter(|(_, c)| is_target(c)) {
                let items = &self.seen[list].counts;
                let shared = items.keys().filter(|id| self.seen[target].counts.contains_key(id)).count();
                let share = shared as f64 / items.len().max(1) as f64;
                if share > 0.1 && best.is_none_or(|(highest, _, _)| share > highest) {
                    best = Some((share, list, target));
                }
            }
        }
        best.map(|(_, list, target)| (list, target)).ok_or_else(|| {
            let reason = "din needs a list of ids (such as the items seen before) and a column with one of them (the item shown)";
            Error::data(reason, "name them: history => 'seen_items:item_id'")
        })
    }

    /// Whether a column alone orders labels of the sample as if it were the label.
    fn tells(&self, position: usize, labels: &[f32]) -> bool {
        let seen = &self.seen[position];
        let scores: Vec<f32> = match self.columns[position].values {
            Values::Number => seen.numbers.iter().map(|n| if n.is_nan() { f32::MIN } else { *n }).collect(),
            // Few values only: with many, each tells the label of its one row.
            Values::Id if self.distinct(position) * 10 < labels.len() || self.distinct(position) <= 2 => {
                let mut rates: HashMap<u64, (f32, f32)> = HashMap::new();
                for (id, label) in seen.ids.iter().zip(labels) {
                    let (sum, count) = rates.entry(*id).or_default();
                    *sum += label;
                    *count += 1.0;
                }
                seen.ids.iter().map(|id| rates.get(id).map_or(0.0, |(sum, count)| sum / count)).collect()
            }
            _ => return false,
        };
        metrics::auc(&scores, labels).is_some_and(|auc| !(1.0 - LEAK..=LEAK).contains(&auc))
    }
}

fn reason(kind: &Kind) -> &str {
    if let Kind::Unused(reason) = kind { reason } else { "" }
}

/// Statistics and bins of a number from a sample of its values.
fn number(values: &[f32], nullable: bool, treatment: Option<Treatment>) -> Number {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let log = treatment == Some(Treatment::Log);
    let scaled = |value: f32| f64::from(if log { value.signum() * value.abs().ln_1p() } else { value });
    let count = sorted.len().max(1) as f64;
    let mean = sorted.iter().map(|v| scaled(*v)).sum::<f64>() / count;
    let std = (sorted.iter().map(|v| (scaled(*v) - mean).powi(2)).sum::<f64>() / count).sqrt() as f32;
    let unallotted = Vocabulary { offset: 0, size: 0, hashed: true };
    let (bins, count) = match treatment {
        Some(Treatment::Standard | Treatment::Log) => (Bins::None, 0),
        Some(Treatment::Quantile(buckets)) => (Bins::Quantile(unallotted), buckets as usize),
        _ => (Bins::Piecewise(unallotted), BINS),
    };
    let edges = edges(&sorted, count, matches!(bins, Bins::Piecewise(_)));
    let bins = if edges.is_empty() { Bins::None } else { bins };
    Number { log, mean: mean as f32, std: if std.is_normal() { std } else { 1.0 }, nullable, edges, bins }
}

/// Edges of `count` bins of about equal counts; with the outer ones if `outer`. Equal quantiles give fewer bins.
fn edges(sorted: &[f32], count: usize, outer: bool) -> Vec<f32> {
    if sorted.is_empty() || count == 0 {
        return Vec::new();
    }
    let last = sorted.len() - 1;
    let range = if outer { 0..=count } else { 1..=count - 1 };
    let mut edges: Vec<f32> = range.map(|bin| sorted[(bin as f64 / count as f64 * last as f64).round() as usize]).collect();
    edges.dedup();
    if outer && edges.len() < 2 {
        edges.clear();
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Bag;

    fn learn(columns: &[Column], batch: &Batch, labels: &[f32]) -> Learned {
        let mut learner = Learner::new(columns);
        let rows: Vec<u32> = (0..batch.rows as u32).collect();
        learner.add(batch, &rows, |row| labels[row as usize]);
        learner.finish(None).unwrap()
    }

    fn ids(values: &[u64]) -> Batch {
        Batch { rows: values.len(), ids: values.to_vec(), ..Batch::default() }
    }

    fn numbers(values: &[f32]) -> Batch {
        Batch { rows: values.len(), numbers: values.to_vec(), ..Batch::default() }
    }

    const HALF: [f32; 8] = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0];

    #[test]
    fn rare_values_share_a_row_and_a_constant_is_left_out() {
        let columns = [Column::new("item", "bigint", Values::Id), Column::new("shop", "text", Values::Id)];
        let values = [5, 5, 5, 5, 5, 5, 7, 7, 7, 7, 7, 9, 9, 9, 9, 0];
        let batch = Batch { rows: 16, ids: values.iter().flat_map(|id| [*id, 3]).collect(), ..Batch::default() };
        let learned = learn(&columns, &batch, &[HALF, HALF].concat());
        assert_eq!(learned.features[0].kind, Kind::Category(Vocabulary { offset: 0, size: 2, hashed: false }));
        assert_eq!((learned.known[0].as_slice(), learned.table_rows), ([5, 7].as_slice(), 4));
        assert_eq!(learned.uses, [0, 0, 6, 5]);
        assert_eq!((learned.features[0].missing, learned.features[0].distinct), (0.0625, 3));
        assert_eq!(learned.features[1].kind, Kind::Unused("has one value only".to_owned()));
    }

    #[test]
    fn a_wish_is_followed() {
        let column = |treatment| Column { treatment: Some(treatment), ..Column::new("x", "bigint", Values::Id) };
        let learned = learn(&[column(Treatment::Hash(1000))], &ids(&[1, 2, 3, 4, 5, 6, 7, 8]), &HALF);
        assert_eq!(learned.features[0].kind, Kind::Category(Vocabulary { offset: 0, size: 1000, hashed: true }));
        let learned = learn(&[column(Treatment::Category)], &ids(&[1, 2, 3, 4, 5, 6, 7, 8]), &HALF);
        assert_eq!(learned.known[0].len(), 8);
        let column = Column { treatment: Some(Treatment::Quantile(4)), ..Column::new("x", "real", Values::Number) };
        let learned = learn(&[column], &numbers(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]), &HALF);
        let Kind::Number(number) = &learned.features[0].kind else { panic!("{:?}", learned.features) };
        assert_eq!((number.edges.len(), number.mean, learned.table_rows), (3, 4.5, 5));
    }

    #[test]
    fn missing_and_huge_numbers_give_finite_statistics() {
        let batch = numbers(&[f32::MAX, f32::MIN, f32::NAN, 0.0, 1.0, 2.0, 3.0, 4.0]);
        let learned = learn(&[Column::new("x", "real", Values::Number)], &batch, &HALF);
        let Kind::Number(number) = &learned.features[0].kind else { panic!("{:?}", learned.features) };
        assert!(number.mean.is_finite() && number.std.is_finite() && number.nullable, "{number:?}");
        assert!(number.edges.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn nothing_to_learn_from_is_refused_with_the_reasons() {
        let columns = [Column::new("a", "bigint", Values::Id), Column::new("b", "real", Values::Number)];
        let batch = Batch { rows: 2, ids: vec![1, 1], numbers: vec![f32::NAN; 2], bags: vec![] };
        let mut learner = Learner::new(&columns);
        learner.add(&batch, &[0, 1], |row| row as f32);
        let error = learner.finish(None).unwrap_err();
        assert!(error.to_string().ends_with("tell the rows apart: a has one value only, b is always NULL"), "{error}");
    }

    #[test]
    fn a_column_that_is_the_label_is_found() {
        let labels: Vec<f32> = (0..200).map(|row| f32::from(u8::from(row % 7 == 0))).collect();
        let columns = [
            Column::new("copy", "bigint", Values::Id),
            Column::new("score", "real", Values::Number),
            Column::new("noise", "real", Values::Number),
        ];
        let batch = Batch {
            rows: 200,
            ids: labels.iter().map(|label| if *label > 0.5 { 11 } else { 12 }).collect(),
            numbers: labels.iter().enumerate().flat_map(|(row, label)| [-label, (row * 37 % 101) as f32]).collect(),
            bags: vec![],
        };
        assert_eq!(learn(&columns, &batch, &labels).leaks, ["copy", "score"]);
    }

    #[test]
    fn a_history_shares_the_rows_of_its_target() {
        let columns = [Column::new("seen", "bigint[]", Values::Items), Column::new("item", "bigint", Values::Id)];
        let bag = Bag { offsets: vec![0, 2, 4, 4, 5], ids: vec![5, 6, 5, 7, 6], weights: vec![] };
        let batch = Batch { rows: 4, ids: vec![5, 6, 5, 6], numbers: vec![], bags: vec![bag] };
        let mut learner = Learner::new(&columns);
        // Together the column and the list hold 5 and 6 often enough, 7 not.
        learner.add(&batch, &[0, 1, 2, 3, 0, 1, 2, 3], |row| row as f32 % 2.0);
        let learned = learner.finish(Some(None)).unwrap();
        let vocabulary = Vocabulary { offset: 0, size: 2, hashed: false };
        assert_eq!(learned.features[0].kind, Kind::History { vocabulary, target: 1 });
        assert_eq!(learned.features[1].kind, Kind::Category(vocabulary));
    }
}
