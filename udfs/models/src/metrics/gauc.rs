//! The area under the ROC curve within groups, averaged.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::grouped::Rows;
use super::interval::{self, Interval};
use super::part::{Reader, Writer};
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};
use super::sum::Sum;

/// More groups than these are resampled in bundles.
const BUNDLES: usize = 10_000;

/// What is asked of the groups.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// The areas of the groups, averaged with the weight of their rows (Zhu et al. 2017).
    Value,
    /// The same; groups that count, groups that are left out because they have one class only, rows that count, rows that are left out.
    Detail,
    /// The same with limits between percentiles of a bootstrap over groups (Efron 1979); values: value, low, high.
    Interval {
        /// The coverage.
        level: f64,
        /// How often groups are drawn anew.
        resamples: usize,
        /// Of the random numbers.
        seed: u64,
    },
}

/// Scores and labels by group; columns `label`, `score`, `group`.
#[derive(Debug, Clone)]
pub struct Gauc {
    rows: Rows<bool>,
    answer: Answer,
}

impl Gauc {
    /// Without rows.
    pub fn template(answer: Answer) -> Template {
        Template::new(Self { rows: Rows::default(), answer })
    }
}

/// Twice the pairs that the positive rows win, the positive rows and the negative ones.
fn wins(rows: &[(f64, bool)]) -> (u64, u64, u64) {
    let (mut twice, mut negatives, mut below, mut positives) = (0, 0, 0, 0);
    for tied in rows.chunk_by(|a, b| a.0 == b.0) {
        let hits = tied.iter().map(|row| u64::from(row.1)).sum::<u64>();
        negatives += tied.len() as u64 - hits;
        twice += hits * (below + negatives);
        (below, positives) = (negatives, positives + hits);
    }
    (twice, positives, negatives)
}

impl Statistic for Gauc {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let (labels, scores, groups) = (columns[0].numbers(), columns[1].numbers(), columns[2].keys());
        self.rows.reserve(groups.len());
        for ((&label, &score), &group) in labels.iter().zip(scores).zip(groups) {
            let positive = statistic::label("label", label)?;
            self.rows.push(group, statistic::score("score", score)?, positive);
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        self.rows.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.rows.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let (mut weighted, mut rows, mut groups) = (Sum::default(), 0_u64, 0_u64);
        let (mut groups_left_out, mut rows_left_out) = (0_u64, 0_u64);
        let mut areas = Vec::new();
        self.rows.groups(|group| {
            let count = group.len() as u64;
            let (twice, positives, negatives) = wins(group);
            if positives == 0 || negatives == 0 {
                groups_left_out += 1;
                rows_left_out += count;
                return;
            }
            let area = count as f64 * (twice as f64 / (2.0 * positives as f64 * negatives as f64));
            weighted.add(area);
            rows += count;
            groups += 1;
            if let Answer::Interval { .. } = self.answer {
                areas.push((area, count as f64));
            }
        });
        let value = (groups > 0).then(|| weighted.value() / rows as f64);
        match self.answer {
            Answer::Value => result.push(value.into()),
            Answer::Detail => result.extend([value.into(), groups.into(), groups_left_out.into(), rows.into(), rows_left_out.into()]),
            Answer::Interval { level, resamples, seed } => Interval::push(value, bootstrap(&areas, level, resamples, seed), result),
        }
        Ok(())
    }

    fn heap(&self) -> usize {
        self.rows.heap()
    }
}

/// The limits of the mean area when groups are drawn with replacement. Many groups are drawn in bundles: they come in a random order, and bundles are
/// as independent as groups are.
fn bootstrap(areas: &[(f64, f64)], level: f64, resamples: usize, seed: u64) -> Option<Interval> {
    if areas.len() < 2 {
        return None;
    }
    let add = |a: (f64, f64), b: &(f64, f64)| (a.0 + b.0, a.1 + b.1);
    let bundles: Vec<_> = areas.chunks(areas.len().div_ceil(BUNDLES)).map(|groups| groups.iter().fold((0.0, 0.0), add)).collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut resample = || {
        let drawn = (0..bundles.len()).map(|_| &bundles[random.random_range(0..bundles.len())]);
        let (area, rows) = drawn.fold((0.0, 0.0), add);
        area / rows
    };
    let mut estimates: Vec<f64> = (0..resamples).map(|_| resample()).collect();
    interval::percentiles(&mut estimates, level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answer: Answer, rows: &[(f64, f64, u128)]) -> Vec<Value> {
        let mut gauc = Gauc::template(answer).one();
        let labels: Vec<_> = rows.iter().map(|row| row.0).collect();
        let scores: Vec<_> = rows.iter().map(|row| row.1).collect();
        let groups: Vec<_> = rows.iter().map(|row| row.2).collect();
        gauc.update(&[Column::Numbers(&labels), Column::Numbers(&scores), Column::Keys(&groups)]).unwrap();
        let mut result = Vec::new();
        gauc.evaluate(&mut result).unwrap();
        result
    }

    #[test]
    fn groups_weigh_their_rows_and_those_of_one_class_are_left_out() {
        // Group 1: area 1 over two rows; group 2: area 0.25 over three; groups 3 and 4 have one class.
        let rows = [(1.0, 0.9, 1), (0.0, 0.1, 1), (1.0, 0.5, 2), (0.0, 0.5, 2), (0.0, 0.7, 2), (1.0, 0.3, 3), (0.0, 0.3, 4), (0.0, 0.8, 4)];
        let expected = (2.0 * 1.0 + 3.0 * 0.25) / 5.0;
        assert_eq!(of(Answer::Value, &rows), [Value::Number(expected)]);
        let counts = [2, 2, 5, 3].map(Value::Count);
        assert_eq!(of(Answer::Detail, &rows)[..], [&[Value::Number(expected)], counts.as_slice()].concat());
        assert_eq!(of(Answer::Value, &rows[5..]), [Value::Null]);
        assert_eq!(of(Answer::Value, &[]), [Value::Null]);
    }

    #[test]
    fn an_interval_is_drawn_from_its_seed() {
        let rows: Vec<_> = (0..4000_u32).map(|row| (f64::from(row * 7 % 3 % 2), f64::from(row * 37 % 101), u128::from(row / 8))).collect();
        let interval = |seed| of(Answer::Interval { level: 0.9, resamples: 200, seed }, &rows);
        let [Value::Number(value), Value::Number(low), Value::Number(high)] = interval(1)[..] else { panic!() };
        assert!(low < value && value < high && high - low < 0.2, "{low} {value} {high}");
        assert_eq!(interval(1), interval(1));
        assert_ne!(interval(1), interval(2));
        assert_eq!(of(Answer::Interval { level: 0.9, resamples: 200, seed: 1 }, &rows[..8])[1..], [Value::Null, Value::Null]);
    }
}
