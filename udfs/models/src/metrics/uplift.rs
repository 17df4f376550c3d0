//! How well a score orders the rows of an experiment by what a treatment adds: Qini, uplift curves, and what the best rows gain.
//!
//! Rows of equal scores are one step of a curve, so their order does not matter. With propensities (the probability with which a row was
//! treated) a row counts by the inverse of the probability of the arm it came to (Horvitz and Thompson 1952).

use std::cmp::Ordering;

use super::check;
use super::part::{Reader, Writer};
use super::statistic::{Column, Invalid};

mod ate;
mod score;

pub use ate::Ate;
pub use score::{Resampling, Score};

/// The rows of an experiment; columns `outcome`, `treated`, `uplift`, `propensity`.
#[derive(Debug, Clone, Default)]
pub struct Uplift {
    rows: Vec<Row>,
    sorted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    score: f64,
    outcome: f64,
    /// Negative for an untreated row.
    weight: f64,
}

impl Row {
    fn treated(self) -> bool {
        self.weight > 0.0
    }

    /// Best scores first, and any two rows that differ have an order.
    fn before(&self, other: &Self) -> Ordering {
        let score = other.score.total_cmp(&self.score);
        score.then(other.weight.total_cmp(&self.weight)).then(other.outcome.total_cmp(&self.outcome))
    }
}

/// Rows of one arm.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    weight: f64,
    outcome: f64,
}

impl Total {
    fn add(&mut self, weight: f64, outcome: f64) {
        self.weight += weight;
        self.outcome += weight * outcome;
    }

    /// The mean outcome; 0 without rows, as curves need it.
    fn mean(self) -> f64 {
        if self.weight > 0.0 { self.outcome / self.weight } else { 0.0 }
    }
}

/// The rows from the best score down to one.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    rows: f64,
    score: f64,
    treated: Total,
    control: Total,
}

impl Step {
    fn add(&mut self, row: Row, times: f64) {
        self.rows += times;
        self.score = row.score;
        let arm = if row.treated() { &mut self.treated } else { &mut self.control };
        arm.add(row.weight.abs() * times, row.outcome);
    }
}

/// A curve over the rows from the best score down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// Outcomes of the treated rows less those of the untreated rows scaled to the same number (Radcliffe 2007).
    Qini,
    /// The difference of the mean outcomes times the number of rows (Jaskowski and Jaroszewicz 2012; Devriendt et al. 2020).
    Uplift,
}

impl Curve {
    fn height(self, step: &Step) -> f64 {
        let Step { rows, treated, control, .. } = step;
        match self {
            Self::Qini => treated.outcome - control.mean() * treated.weight,
            Self::Uplift => (treated.mean() - control.mean()) * rows,
        }
    }
}

/// How an area under a curve becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definition {
    /// The area above the random line as a share of that of a perfect order; outcomes are 0 or 1 (scikit-uplift).
    Normalized,
    /// The area itself where the best row is at 0, the last at 1, and heights are per head.
    PerHead,
}

impl Definition {
    /// The names users give them.
    pub const NAMES: [(&'static str, Self); 2] = [("normalized", Self::Normalized), ("per_head", Self::PerHead)];
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Rows from the best score down.
    pub rows: f64,
    /// The score of the last of them; `None` before the first.
    pub score: Option<f64>,
    /// The height of the curve.
    pub height: f64,
    /// The height of the random line.
    pub random: f64,
}

/// What treatment adds in a slice of the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    /// The largest score.
    pub from: f64,
    /// The smallest score.
    pub to: f64,
    /// Treated rows.
    pub treated_rows: usize,
    /// Untreated rows.
    pub control_rows: usize,
    /// The mean outcome of the treated rows; `None` without them.
    pub treated_mean: Option<f64>,
    /// The mean outcome of the untreated rows; `None` without them.
    pub control_mean: Option<f64>,
}

impl Uplift {
    /// Adds the rows of a batch.
    ///
    /// # Errors
    /// The first value that is not accepted.
    pub fn add(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let outcome = check::finite("outcome", columns[0])?;
        let treated = check::binary("treated", columns[1])?;
        let score = check::ordered("uplift", columns[2])?;
        let chance = check::chance("propensity", columns[3])?;
        self.rows.extend((0..outcome.len()).map(|row| {
            let weight = inverse(chance, row, treated[row] == 1.0);
            Row { score: score[row], outcome: outcome[row], weight: if treated[row] == 1.0 { weight } else { -weight } }
        }));
        self.sorted = false;
        Ok(())
    }

    /// Writes the rows and leaves none.
    pub fn take(&mut self, part: &mut Writer) {
        let flat: Vec<f64> = std::mem::take(&mut self.rows).iter().flat_map(|row| [row.score, row.outcome, row.weight]).collect();
        part.numbers(&flat);
    }

    /// Adds what [`Uplift::take`] wrote elsewhere.
    pub fn merge(&mut self, part: &mut Reader<'_>) {
        let mut numbers = part.numbers();
        self.rows.reserve(numbers.len() / 3);
        while let (Some(score), Some(outcome), Some(weight)) = (numbers.next(), numbers.next(), numbers.next()) {
            self.rows.push(Row { score, outcome, weight });
        }
        self.sorted = false;
    }

    /// Adds the rows of another.
    pub fn append(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
        self.sorted = false;
    }

    /// Bytes on the heap.
    pub fn heap(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn sort(&mut self) {
        if !self.sorted {
            self.rows.sort_unstable_by(Row::before);
            self.sorted = true;
        }
    }

    /// The area between a curve and the random line (of [`Curve::Uplift`] per head: and the axis). `None` without rows in both arms, and
    /// where a perfect order gains nothing.
    pub fn area(&mut self, curve: Curve, definition: Definition) -> Option<f64> {
        self.sort();
        self.area_of(curve, definition, |_| 1.0)
    }

    /// The same, where a sorted row is there a number of times.
    pub(super) fn area_of(&self, curve: Curve, definition: Definition, times: impl Fn(usize) -> f64) -> Option<f64> {
        let mut line = Line::new(curve);
        let mut step = Step::default();
        let mut cells = Cells::default();
        for (index, row) in self.rows.iter().enumerate() {
            let times = times(index);
            if times == 0.0 {
                continue;
            }
            if row.score != step.score && step.rows > 0.0 {
                line.to(&step);
            }
            step.add(*row, times);
            cells.add(*row, times);
        }
        line.to(&step);
        if step.treated.weight == 0.0 || step.control.weight == 0.0 {
            return None;
        }
        let random = step.rows * line.height / 2.0;
        match definition {
            Definition::Normalized => {
                let perfect = cells.perfect(curve) - random;
                (perfect != 0.0).then(|| (line.area - random) / perfect)
            }
            Definition::PerHead => Some(match curve {
                Curve::Qini => (line.area - random) / (step.rows * step.treated.weight),
                Curve::Uplift => line.area / (step.rows * step.rows),
            }),
        }
    }

    /// The points of a curve from its beginning at 0, at most `most` of them: then those nearest to equal distances. None without rows in
    /// both arms.
    pub fn points(&mut self, curve: Curve, most: usize) -> Vec<Point> {
        self.sort();
        let mut steps = vec![Step::default()];
        let mut step = Step::default();
        for same in self.rows.chunk_by(|a, b| a.score == b.score) {
            same.iter().for_each(|row| step.add(*row, 1.0));
            steps.push(step);
        }
        if step.treated.weight == 0.0 || step.control.weight == 0.0 {
            return vec![];
        }
        if steps.len() > most {
            steps = thinned(&steps, most.max(2), step.rows);
        }
        let end = curve.height(&step);
        let point = |at: Step| Point {
            rows: at.rows,
            score: (at.rows > 0.0).then_some(at.score),
            height: curve.height(&at),
            random: end * at.rows / step.rows,
        };
        steps.into_iter().map(point).collect()
    }

    /// The sorted rows in slices of equal size, the larger ones first where they cannot be equal. Rows of equal scores stay together, in
    /// the
    /// slice of the middle one; so slices may be left out.
    pub fn slices(&mut self, count: usize) -> Vec<(usize, Slice)> {
        self.sort();
        let mut slices: Vec<(usize, Step, Slice)> = Vec::new();
        let mut first = 0;
        for same in self.rows.chunk_by(|a, b| a.score == b.score) {
            let number = slice_of(first + (same.len() - 1) / 2, self.rows.len(), count);
            if slices.last().is_none_or(|last| last.0 != number) {
                let score = same[0].score;
                let empty = Slice { from: score, to: score, treated_rows: 0, control_rows: 0, treated_mean: None, control_mean: None };
                slices.push((number, Step::default(), empty));
            }
            if let Some((_, step, slice)) = slices.last_mut() {
                for row in same {
                    step.add(*row, 1.0);
                    *(if row.treated() { &mut slice.treated_rows } else { &mut slice.control_rows }) += 1;
                }
                slice.to = step.score;
            }
            first += same.len();
        }
        let mean = |rows: usize, arm: Total| (rows > 0).then(|| arm.mean());
        let finished = slices.into_iter().map(|(number, step, slice)| {
            let (treated_mean, control_mean) = (mean(slice.treated_rows, step.treated), mean(slice.control_rows, step.control));
            (number, Slice { treated_mean, control_mean, ..slice })
        });
        finished.collect()
    }

    /// The difference of the mean outcomes of the best `share` of the rows (above 1: of that number of rows), taken from all rows or from
    /// each arm. Of rows of equal scores on the border a part counts, all alike. `None` where an arm is not there.
    pub fn at(&mut self, share: f64, by_arm: bool) -> Option<f64> {
        self.sort();
        let mut arms = [Total::default(); 2];
        let groups: &[&[bool]] = if by_arm { &[&[true], &[false]] } else { &[&[true, false]] };
        for group in groups {
            let inside = |row: &&Row| group.contains(&row.treated());
            let size = self.rows.iter().filter(inside).count() as f64;
            let mut left = if share > 1.0 { share.floor() } else { (size * share).floor() };
            for same in self.rows.chunk_by(|a, b| a.score == b.score) {
                let tied = same.iter().filter(inside).count() as f64;
                let counted = (left / tied.max(1.0)).min(1.0);
                if counted <= 0.0 {
                    break;
                }
                same.iter().filter(inside).for_each(|row| arms[usize::from(row.treated())].add(row.weight.abs() * counted, row.outcome));
                left -= tied;
            }
        }
        let [control, treated] = arms;
        (control.weight > 0.0 && treated.weight > 0.0).then(|| treated.mean() - control.mean())
    }
}

/// How much a row counts, by the probability of the arm it came to; 1 without propensities.
fn inverse(chance: &[f64], row: usize, treated: bool) -> f64 {
    chance.get(row).map_or(1.0, |chance| 1.0 / if treated { *chance } else { 1.0 - chance })
}

/// The slice (from 0) of the row at a position when `rows` are cut into `count` slices, the first ones larger by one where they have to.
fn slice_of(position: usize, rows: usize, count: usize) -> usize {
    let (size, larger) = (rows / count, rows % count);
    let in_larger = larger * (size + 1);
    if position < in_larger { position / (size + 1) } else { larger + (position - in_larger) / size }
}

/// The first, the last, and the steps nearest to equal distances between them.
fn thinned(steps: &[Step], most: usize, rows: f64) -> Vec<Step> {
    let nearest = |part: usize| {
        let wanted = rows * part as f64 / (most - 1) as f64;
        let after = steps.partition_point(|step| step.rows < wanted).min(steps.len() - 1);
        let before = after.saturating_sub(1);
        if wanted - steps[before].rows < steps[after].rows - wanted { before } else { after }
    };
    let mut kept: Vec<usize> = (0..most).map(nearest).collect();
    kept.dedup();
    kept.into_iter().map(|index| steps[index]).collect()
}

/// The area under a curve as its points come, from (0, 0).
struct Line {
    curve: Curve,
    rows: f64,
    height: f64,
    area: f64,
}

impl Line {
    fn new(curve: Curve) -> Self {
        Self { curve, rows: 0.0, height: 0.0, area: 0.0 }
    }

    fn to(&mut self, step: &Step) {
        let height = self.curve.height(step);
        self.area += (step.rows - self.rows) * (height + self.height) / 2.0;
        (self.rows, self.height) = (step.rows, height);
    }
}

/// Rows by arm and outcome 0 or 1.
#[derive(Default)]
struct Cells {
    rows: [[f64; 2]; 2],
    weights: [[f64; 2]; 2],
}

impl Cells {
    fn add(&mut self, row: Row, times: f64) {
        let (arm, outcome) = (usize::from(row.treated()), usize::from(row.outcome > 0.5));
        self.rows[arm][outcome] += times;
        self.weights[arm][outcome] += times * row.weight.abs();
    }

    /// The area under the curve of the best order there can be, from (0, 0) to the axis.
    fn perfect(&self, curve: Curve) -> f64 {
        const TREATED: usize = 1;
        const CONTROL: usize = 0;
        let order: &[&[(usize, usize)]] = match curve {
            Curve::Qini => &[&[(TREATED, 1)], &[(TREATED, 0), (CONTROL, 0)], &[(CONTROL, 1)]],
            Curve::Uplift if self.rows[CONTROL][1] > self.rows[TREATED][0] => {
                &[&[(TREATED, 1)], &[(CONTROL, 0)], &[(CONTROL, 1)], &[(TREATED, 0)]]
            }
            Curve::Uplift => &[&[(TREATED, 1)], &[(CONTROL, 0)], &[(TREATED, 0)], &[(CONTROL, 1)]],
        };
        let mut line = Line::new(curve);
        let mut step = Step::default();
        for level in order {
            for &(arm, outcome) in *level {
                step.rows += self.rows[arm][outcome];
                let total = if arm == TREATED { &mut step.treated } else { &mut step.control };
                total.add(self.weights[arm][outcome], outcome as f64);
            }
            line.to(&step);
        }
        line.area
    }
}

#[cfg(test)]
mod tests;
