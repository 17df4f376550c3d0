//! How well the rows of a group are ranked by their score, averaged over groups.
//!
//! Rows of equal score have no order of their own, so every metric is its expectation over all orders of them (McSherry and Najork 2008): it does
//! not depend on the order in which rows are read.

use super::grouped::Rows;
use super::part::{Reader, Writer};
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};
use super::sum::Sum;

/// The metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Discounted cumulative gain per that of the best order (Järvelin and Kekäläinen 2002); the gain is the relevance, or `2^relevance - 1`.
    Ndcg {
        /// Whether the gain is exponential.
        exponential: bool,
    },
    /// Average precision: the precision at each relevant row, per relevant row that could be among the first.
    AveragePrecision,
    /// Whether a relevant row is among the first.
    Hit,
    /// One by the rank of the first relevant row.
    ReciprocalRank,
}

/// Scores and relevances by group; columns `group`, `relevance`, `score`.
#[derive(Debug, Clone)]
pub struct Ranking {
    rows: Rows<f64>,
    measure: Measure,
    first: usize,
}

impl Ranking {
    /// Without rows. Only the `first` ranks count.
    pub fn template(measure: Measure, first: usize) -> Template {
        Template::new(Self { rows: Rows::default(), measure, first })
    }
}

impl Statistic for Ranking {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let (groups, relevances, scores) = (columns[0].keys(), columns[1].numbers(), columns[2].numbers());
        self.rows.reserve(groups.len());
        for ((&group, &relevance), &score) in groups.iter().zip(relevances).zip(scores) {
            if !(relevance >= 0.0 && relevance.is_finite()) {
                return Err(Invalid::new("relevance", relevance, "a number from 0"));
            }
            self.rows.push(group, statistic::score("score", score)?, relevance);
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
        let (mut sum, mut groups) = (Sum::default(), 0.0);
        let (mut discounts, mut best) = (Vec::new(), Vec::new());
        let first = self.first;
        self.rows.groups(|rows| {
            let ranked = Ranked { rows, first };
            sum.add(match self.measure {
                Measure::Ndcg { exponential } => {
                    let gain = |relevance: f64| if exponential { relevance.exp2() - 1.0 } else { relevance };
                    (discounts.len()..rows.len().min(first)).for_each(|rank| discounts.push(1.0 / (rank as f64 + 2.0).log2()));
                    best.clear();
                    best.extend(rows.iter().map(|row| gain(row.1)));
                    ranked.ndcg(gain, &discounts, &mut best)
                }
                Measure::AveragePrecision => ranked.average_precision(),
                Measure::Hit => ranked.hit(),
                Measure::ReciprocalRank => ranked.reciprocal_rank(),
            });
            groups += 1.0;
        });
        result.push((groups > 0.0).then(|| sum.value() / groups).into());
        Ok(())
    }

    fn heap(&self) -> usize {
        self.rows.heap()
    }
}

/// The rows of a group, the highest score at the end; only the first ranks count.
struct Ranked<'a> {
    rows: &'a [(f64, f64)],
    first: usize,
}

/// Rows of equal score.
struct Tie<'a> {
    rows: &'a [(f64, f64)],
    /// How many rows rank above.
    before: usize,
}

impl Tie<'_> {
    fn relevant(&self) -> usize {
        self.rows.iter().filter(|row| row.1 > 0.0).count()
    }

    /// How many of the ranks count.
    fn within(&self, first: usize) -> usize {
        self.rows.len().min(first - self.before)
    }
}

impl Ranked<'_> {
    /// Ties from the top, as far as a rank of theirs counts.
    fn ties(&self) -> impl Iterator<Item = Tie<'_>> {
        let mut before = 0;
        let ties = self.rows.chunk_by(|a, b| a.0 == b.0).rev().map(move |rows| {
            let tie = Tie { rows, before };
            before += rows.len();
            tie
        });
        ties.take_while(|tie| tie.before < self.first)
    }

    fn relevant(&self) -> usize {
        self.rows.iter().filter(|row| row.1 > 0.0).count()
    }

    fn ndcg(&self, gain: impl Fn(f64) -> f64, discounts: &[f64], best: &mut [f64]) -> f64 {
        best.sort_unstable_by(|a, b| b.total_cmp(a));
        let ideal: f64 = best.iter().zip(discounts).take(self.first).map(|(gain, discount)| gain * discount).sum();
        if ideal <= 0.0 {
            return 0.0;
        }
        let of_tie = |tie: Tie<'_>| {
            let mean = tie.rows.iter().map(|row| gain(row.1)).sum::<f64>() / tie.rows.len() as f64;
            mean * discounts[tie.before..tie.before + tie.within(self.first)].iter().sum::<f64>()
        };
        self.ties().map(of_tie).sum::<f64>() / ideal
    }

    fn average_precision(&self) -> f64 {
        let all = self.relevant().min(self.first);
        let (mut sum, mut above) = (0.0, 0.0);
        for tie in self.ties() {
            let (rows, relevant) = (tie.rows.len() as f64, tie.relevant() as f64);
            // How many of the other relevant rows stand above a relevant one, per rank of the tie above it.
            let density = if rows > 1.0 { (relevant - 1.0) / (rows - 1.0) } else { 0.0 };
            for rank in 0..tie.within(self.first) {
                sum += relevant / rows * (above + 1.0 + rank as f64 * density) / (tie.before + rank + 1) as f64;
            }
            above += relevant;
        }
        if all == 0 { 0.0 } else { sum / all as f64 }
    }

    fn hit(&self) -> f64 {
        let Some(tie) = self.ties().find(|tie| tie.relevant() > 0) else { return 0.0 };
        let (rows, others) = (tie.rows.len(), tie.rows.len() - tie.relevant());
        // All ranks of the tie that count go to rows that are not relevant.
        let missed: f64 = (0..tie.within(self.first)).map(|rank| others.saturating_sub(rank) as f64 / (rows - rank) as f64).product();
        1.0 - missed
    }

    fn reciprocal_rank(&self) -> f64 {
        let Some(tie) = self.ties().find(|tie| tie.relevant() > 0) else { return 0.0 };
        let (rows, relevant) = (tie.rows.len() as f64, tie.relevant() as f64);
        // The probability that no rank of the tie above this one has a relevant row.
        let (mut none, mut sum) = (1.0, 0.0);
        for rank in 0..tie.within(self.first) {
            let here = (relevant / (rows - rank as f64)).min(1.0);
            sum += none * here / (tie.before + rank + 1) as f64;
            none *= 1.0 - here;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(measure: Measure, first: usize, rows: &[(u128, f64, f64)]) -> f64 {
        let mut ranking = Ranking::template(measure, first).one();
        let groups: Vec<_> = rows.iter().map(|row| row.0).collect();
        let relevances: Vec<_> = rows.iter().map(|row| row.1).collect();
        let scores: Vec<_> = rows.iter().map(|row| row.2).collect();
        ranking.update(&[Column::Keys(&groups), Column::Numbers(&relevances), Column::Numbers(&scores)]).unwrap();
        let mut result = Vec::new();
        ranking.evaluate(&mut result).unwrap();
        if let [Value::Number(number)] = result[..] { number } else { f64::NAN }
    }

    const NDCG: Measure = Measure::Ndcg { exponential: false };

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-15, "{found} instead of {expected}");
    }

    #[test]
    fn metrics_of_two_groups_by_hand() {
        // Group 1 from the top: 0, 2, 1, 0; group 2: 0, 0.
        let rows = [(1, 0.0, 0.9), (1, 2.0, 0.8), (1, 1.0, 0.7), (1, 0.0, 0.1), (2, 0.0, 0.5), (2, 0.0, 0.4)];
        let (second, third) = (1.0 / 3f64.log2(), 0.5);
        near(of(NDCG, 10, &rows), (2.0 * second + third) / (2.0 + second) / 2.0);
        near(of(NDCG, 2, &rows), 2.0 * second / (2.0 + second) / 2.0);
        near(of(Measure::Ndcg { exponential: true }, 10, &rows), (3.0 * second + third) / (3.0 + second) / 2.0);
        near(of(Measure::AveragePrecision, 10, &rows), (1.0 / 2.0 + 2.0 / 3.0) / 2.0 / 2.0);
        near(of(Measure::AveragePrecision, 2, &rows), 1.0 / 2.0 / 2.0 / 2.0);
        near(of(Measure::Hit, 1, &rows), 0.0);
        near(of(Measure::Hit, 2, &rows), 0.5);
        near(of(Measure::ReciprocalRank, 10, &rows), 0.25);
        assert!(of(NDCG, 10, &[]).is_nan());
    }

    /// All orders of the rows of one group that their scores allow.
    fn orders(rows: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
        let mut orders = vec![vec![]];
        for _ in rows {
            let mut longer = Vec::new();
            for order in orders {
                for (place, row) in rows.iter().enumerate() {
                    let used: Vec<usize> = order.iter().map(|(place, _): &(usize, (f64, f64))| *place).collect();
                    let higher_left = rows.iter().enumerate().any(|(other, next)| next.1 > row.1 && !used.contains(&other));
                    if !used.contains(&place) && !higher_left {
                        let mut order = order.clone();
                        order.push((place, *row));
                        longer.push(order);
                    }
                }
            }
            orders = longer;
        }
        orders.into_iter().map(|order| order.into_iter().map(|(_, row)| row).collect()).collect()
    }

    #[test]
    fn ties_count_as_the_mean_over_their_orders() {
        // Relevance and score.
        let rows = [(1.0, 0.7), (0.0, 0.5), (0.0, 0.5), (2.0, 0.5), (1.0, 0.5), (0.0, 0.2), (1.0, 0.2)];
        for skip in [0, 1] {
            let rows = &rows[skip..];
            let all = orders(rows);
            for measure in [NDCG, Measure::AveragePrecision, Measure::Hit, Measure::ReciprocalRank] {
                for first in 1..8 {
                    let strict = |order: &Vec<(f64, f64)>| {
                        let rows: Vec<_> = order.iter().enumerate().map(|(rank, row)| (1, row.0, -(rank as f64))).collect();
                        of(measure, first, &rows)
                    };
                    let mean = all.iter().map(strict).sum::<f64>() / all.len() as f64;
                    let tied: Vec<_> = rows.iter().map(|row| (1, row.0, row.1)).collect();
                    assert!((of(measure, first, &tied) - mean).abs() < 1e-14, "{measure:?} {first}");
                }
            }
        }
    }
}
