//! The numbers that judge a score of uplift, with an interval by the bootstrap.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Curve, Definition, Uplift};
use crate::metrics::check;
use crate::metrics::interval;
use crate::metrics::part::{Reader, Writer};
use crate::metrics::statistic::{Column, Invalid, Statistic, Template, Value};

/// How an interval is found: the statistic of samples of the rows, drawn with replacement (Efron 1979).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resampling {
    /// The share of the samples inside the interval.
    pub level: f64,
    /// The number of samples.
    pub samples: usize,
    /// Equal seeds draw equal samples.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Output {
    Area(Curve, Definition, Option<Resampling>),
    At { share: f64, by_arm: bool },
}

/// A statistic of the rows; columns `outcome`, `treated`, `uplift`, `propensity`.
#[derive(Debug, Clone)]
pub struct Score {
    rows: Uplift,
    output: Output,
}

impl Score {
    /// The area of a curve: one number, or (with resampling) the fields value, std_error, low and high.
    pub fn area(curve: Curve, definition: Definition, resampling: Option<Resampling>) -> Self {
        Self { rows: Uplift::default(), output: Output::Area(curve, definition, resampling) }
    }

    /// What treatment adds among the best rows, see [`Uplift::at`]: one number.
    pub fn at(share: f64, by_arm: bool) -> Self {
        Self { rows: Uplift::default(), output: Output::At { share, by_arm } }
    }

    /// The same, to make copies of.
    pub fn template(self) -> Template {
        Template::new(self)
    }
}

impl Statistic for Score {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        if let Output::Area(_, Definition::Normalized, _) = self.output {
            let explained = |invalid| Invalid { allowed: "0 or 1; amounts need definition => 'per_head'", ..invalid };
            check::binary("outcome", columns[0]).map_err(explained)?;
        }
        self.rows.add(columns)
    }

    fn take(&mut self, part: &mut Writer) {
        self.rows.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.rows.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        match self.output {
            Output::At { share, by_arm } => result.push(self.rows.at(share, by_arm).into()),
            Output::Area(curve, definition, resampling) => {
                let value = self.rows.area(curve, definition);
                result.push(value.into());
                if let Some(resampling) = resampling {
                    let spread = value.and_then(|_| resampled(&self.rows, curve, definition, resampling));
                    result.extend(spread.map_or([None; 3], |spread| spread.map(Some)).map(Value::from));
                }
            }
        }
        Ok(())
    }

    fn heap(&self) -> usize {
        self.rows.heap()
    }
}

/// Standard deviation, and the quantiles that leave `1 - level` outside, of the areas of samples. The rows are sorted, so their order in
/// the
/// table does not matter. Samples without an area (of one arm) are left out; `None` when fewer than two are left.
fn resampled(rows: &Uplift, curve: Curve, definition: Definition, resampling: Resampling) -> Option<[f64; 3]> {
    let mut random = ChaCha8Rng::seed_from_u64(resampling.seed);
    let count = rows.rows();
    let mut times = vec![0_u32; count];
    let mut areas: Vec<f64> = (0..resampling.samples)
        .filter_map(|_| {
            times.fill(0);
            (0..count).for_each(|_| times[random.random_range(0..count)] += 1);
            rows.area_of(curve, definition, |row| f64::from(times[row]))
        })
        .collect();
    if areas.len() < 2 {
        return None;
    }
    let number = areas.len() as f64;
    let mean = areas.iter().sum::<f64>() / number;
    let variance = areas.iter().map(|area| (area - mean).powi(2)).sum::<f64>() / (number - 1.0);
    interval::percentiles(&mut areas, resampling.level).map(|found| [variance.sqrt(), found.low, found.high])
}
