//! What another policy would have earned, estimated from the log of the one that chose; names and definitions as in Open Bandit Pipeline
//! (Saito et al. 2021).

use super::check;
use super::interval;
use super::moments::Moments;
use super::part::{Reader, Writer};
use super::statistic::{Column, Invalid, Statistic, Template, Value};

/// A way to estimate the mean reward of a policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Estimator {
    /// Inverse propensity score (Horvitz and Thompson 1952), over reward, target probability and logged propensity.
    Ips,
    /// The same with weights cut at a maximum (Ionides 2008).
    ClippedIps {
        /// The largest weight.
        max_weight: f64,
    },
    /// Self-normalized inverse propensity score (Swaminathan and Joachims 2015).
    Snips,
    /// Direct method: the model's expected reward under the policy, alone.
    Dm,
    /// Doubly robust (Dudík et al. 2014), over the columns of [`Estimator::Ips`], the model's expected reward of the shown action, and that
    /// under the policy.
    Dr,
    /// Doubly robust, but the model alone where the weight is above a threshold (Wang et al. 2017).
    SwitchDr {
        /// The largest weight that is used.
        threshold: f64,
    },
}

/// The estimate of a policy's mean reward per row.
#[derive(Debug, Clone)]
pub struct Policy {
    estimator: Estimator,
    /// Of the interval; `None` for the value alone.
    level: Option<f64>,
    /// What a row adds to the estimate, and its weight.
    terms: Moments<2>,
}

impl Policy {
    /// Without rows; of the value, or (with a level) of the fields value, std_error, low and high, where a normal distribution leaves
    /// `1 - level` outside of low and high.
    pub fn new(estimator: Estimator, level: Option<f64>) -> Self {
        Self { estimator, level, terms: Moments::default() }
    }

    /// The same, to make copies of.
    pub fn template(estimator: Estimator, level: Option<f64>) -> Template {
        Template::new(Self::new(estimator, level))
    }

    /// The estimate; `None` without rows, or (self-normalized) without weight.
    pub fn estimate(&self, level: f64) -> Option<Estimate> {
        let found = if self.estimator == Estimator::Snips { self.terms.ratio() } else { self.terms.first().mean_and_error() };
        found.map(|(value, std_error)| Estimate::new(value, std_error, level))
    }

    /// Adds the rows of another of the same estimator.
    pub fn append(&mut self, other: &Self) {
        self.terms.append(&other.terms);
    }
}

/// An estimate with an interval by the normal distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its standard error, from two rows on.
    pub std_error: Option<f64>,
    /// What a normal distribution of this mean and deviation leaves `1 - level` outside of.
    pub interval: Option<[f64; 2]>,
}

impl Estimate {
    pub(super) fn new(value: f64, std_error: Option<f64>, level: f64) -> Self {
        let reach = std_error.map(|error| interval::reach(level) * error);
        Self { value, std_error, interval: reach.map(|reach| [value - reach, value + reach]) }
    }

    /// The fields value, std_error, low and high.
    pub(super) fn fields(found: Option<Self>) -> [Value; 4] {
        let bound = |side: usize| found.and_then(|found| found.interval).map(|interval| interval[side]);
        [found.map(|found| found.value), found.and_then(|found| found.std_error), bound(0), bound(1)].map(Value::from)
    }
}

impl Statistic for Policy {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        if self.estimator == Estimator::Dm {
            let q_new = check::finite("q_new", columns[0])?;
            self.terms.extend(q_new.iter().map(|q_new| [*q_new, 1.0]));
            return Ok(());
        }
        let reward = check::finite("reward", columns[0])?;
        let (target, logged) = policies(columns[1], columns[2])?;
        let weight = |row: usize| target[row] / logged[row];
        let rows = 0..reward.len();
        match self.estimator {
            Estimator::Dm => {}
            Estimator::Ips | Estimator::Snips => self.terms.extend(rows.map(|row| [reward[row] * weight(row), weight(row)])),
            Estimator::ClippedIps { max_weight } => {
                self.terms.extend(rows.map(|row| [reward[row] * weight(row).min(max_weight), weight(row)]));
            }
            Estimator::Dr | Estimator::SwitchDr { .. } => {
                let threshold = if let Estimator::SwitchDr { threshold } = self.estimator { threshold } else { f64::INFINITY };
                let (q_logged, q_new) = (check::finite("q_logged", columns[3])?, check::finite("q_new", columns[4])?);
                self.terms.extend(rows.map(|row| {
                    let used = if weight(row) <= threshold { weight(row) } else { 0.0 };
                    [q_new[row] + used * (reward[row] - q_logged[row]), weight(row)]
                }));
            }
        }
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        self.terms.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.terms.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let fields = Estimate::fields(self.estimate(self.level.unwrap_or(0.5)));
        let wanted = if self.level.is_some() { fields.len() } else { 1 };
        result.extend(fields.into_iter().take(wanted));
        Ok(())
    }

    fn heap(&self) -> usize {
        0
    }
}

/// What the target and the logging policy would do, checked.
fn policies<'a>(target: Column<'a>, logged: Column<'a>) -> Result<(&'a [f64], &'a [f64]), Invalid> {
    Ok((check::probability("target_probability", target)?, check::propensity("logged_propensity", logged)?))
}

/// What is told of the weights of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The effective sample size (Kish 1965): the rows of a log of the target policy that would tell as much.
    EffectiveRows,
    /// The largest weight.
    Largest,
}

/// How a log fits a policy, over target probability and logged propensity.
#[derive(Debug, Clone)]
pub struct Weights {
    share: Share,
    weights: Moments<1>,
    largest: f64,
}

impl Weights {
    /// Without rows.
    pub fn new(share: Share) -> Self {
        Self { share, weights: Moments::default(), largest: 0.0 }
    }

    /// The same, to make copies of.
    pub fn template(share: Share) -> Template {
        Template::new(Self::new(share))
    }

    /// Adds the rows of another.
    pub fn append(&mut self, other: &Self) {
        self.weights.append(&other.weights);
        self.largest = self.largest.max(other.largest);
    }

    /// The number of rows.
    pub fn rows(&self) -> f64 {
        self.weights.rows()
    }

    /// The sum of the weights.
    pub fn total(&self) -> f64 {
        self.weights.sum(0)
    }

    /// The largest weight; 0 without rows.
    pub fn largest(&self) -> f64 {
        self.largest
    }

    /// The square of the sum over the sum of squares; 0 where no row weighs anything.
    pub fn effective_rows(&self) -> f64 {
        let total = self.total();
        let squares = self.weights.product(0, 0) + self.weights.mean(0) * total;
        if squares > 0.0 { total * total / squares } else { 0.0 }
    }
}

impl Statistic for Weights {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let (target, logged) = policies(columns[0], columns[1])?;
        let weights = target.iter().zip(logged).map(|(target, logged)| target / logged);
        self.largest = weights.clone().fold(self.largest, f64::max);
        self.weights.extend(weights.map(|weight| [weight]));
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        part.number(std::mem::take(&mut self.largest));
        self.weights.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.largest = self.largest.max(part.number());
        self.weights.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let value = match self.share {
            Share::EffectiveRows => self.effective_rows(),
            Share::Largest => self.largest,
        };
        result.push((self.rows() > 0.0).then_some(value).into());
        Ok(())
    }

    fn heap(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWARD: [f64; 4] = [1.0, 1.0, 0.0, 2.0];
    const TARGET: [f64; 4] = [1.0, 0.0, 1.0, 0.5];
    const LOGGED: [f64; 4] = [0.25, 0.5, 0.25, 1.0];
    const Q_LOGGED: [f64; 4] = [0.5, 0.25, 0.5, 1.0];
    const Q_NEW: [f64; 4] = [0.25, 0.75, 0.5, 1.0];

    fn columns(estimator: Estimator) -> Vec<Column<'static>> {
        let numbers: &[&'static [f64]] = match estimator {
            Estimator::Dm => &[&Q_NEW],
            Estimator::Dr | Estimator::SwitchDr { .. } => &[&REWARD, &TARGET, &LOGGED, &Q_LOGGED, &Q_NEW],
            _ => &[&REWARD, &TARGET, &LOGGED],
        };
        numbers.iter().map(|column| Column::Numbers(column)).collect()
    }

    fn results(statistic: &mut dyn Statistic) -> Vec<Value> {
        let mut results = Vec::new();
        statistic.evaluate(&mut results).unwrap();
        results
    }

    fn number(value: &Value) -> f64 {
        if let Value::Number(number) = value { *number } else { panic!("{value:?}") }
    }

    #[test]
    fn estimators_are_what_a_pencil_says() {
        // Weights are 4, 0, 4, 0.5; the corrections of the model 4 * 0.5, 0, 4 * -0.5, 0.5 * 1.
        let expected = [
            (Estimator::Ips, 5.0 / 4.0),
            (Estimator::ClippedIps { max_weight: 2.0 }, 3.0 / 4.0),
            (Estimator::Snips, 5.0 / 8.5),
            (Estimator::Dm, 2.5 / 4.0),
            (Estimator::Dr, 3.0 / 4.0),
            (Estimator::SwitchDr { threshold: 1.0 }, 3.0 / 4.0),
            (Estimator::SwitchDr { threshold: 0.25 }, 2.5 / 4.0),
        ];
        for (estimator, value) in expected {
            let mut policy = Policy::new(estimator, None);
            policy.update(&columns(estimator)).unwrap();
            assert!((number(&results(&mut policy)[0]) - value).abs() < 1e-15, "{estimator:?}");
        }
    }

    #[test]
    fn an_interval_needs_two_rows_and_widens_with_the_level() {
        let mut policy = Policy::new(Estimator::Ips, Some(0.95));
        assert_eq!(results(&mut policy), vec![Value::Null; 4]);
        let one: Vec<Column<'_>> = [&REWARD, &TARGET, &LOGGED].map(|column| Column::Numbers(&column[..1])).to_vec();
        policy.update(&one).unwrap();
        assert_eq!(results(&mut policy), [Value::Number(4.0), Value::Null, Value::Null, Value::Null]);
        let widths = [0.5, 0.95, 0.999].map(|level| {
            let mut policy = Policy::new(Estimator::Snips, Some(level));
            policy.update(&columns(Estimator::Snips)).unwrap();
            let fields = results(&mut policy);
            number(&fields[3]) - number(&fields[2])
        });
        assert!(widths.is_sorted() && widths[0] > 0.0, "{widths:?}");
    }

    #[test]
    fn an_impossible_propensity_is_named() {
        for (propensity, text) in [(0.0, "0"), (-0.5, "-0.5"), (1.5, "1.5"), (f64::NAN, "NaN")] {
            let rows = [[1.0], [1.0], [propensity]];
            let columns = rows.each_ref().map(|column| Column::Numbers(column));
            let refused = Policy::new(Estimator::Snips, None).update(&columns).unwrap_err();
            assert_eq!(refused, Invalid { argument: "logged_propensity", value: text.into(), allowed: "above 0 and at most 1" });
        }
        let nan = [Column::Numbers(&[f64::NAN])];
        assert_eq!(Policy::new(Estimator::Dm, None).update(&nan).unwrap_err().argument, "q_new");
    }

    #[test]
    fn equal_weights_count_every_row_and_no_weight_none() {
        let mut weights = Weights::new(Share::EffectiveRows);
        assert_eq!(results(&mut weights), [Value::Null]);
        weights.update(&[Column::Numbers(&[0.25; 3]), Column::Numbers(&[0.5; 3])]).unwrap();
        assert_eq!(results(&mut weights), [Value::Number(3.0)]);
        // A row that the policy would not show adds nothing; one of weight 2 beside three of 0.5 leaves (3.5)^2 / 4.75.
        weights.update(&[Column::Numbers(&[0.0, 1.0]), Column::Numbers(&[0.5, 0.5])]).unwrap();
        assert!((number(&results(&mut weights)[0]) - 3.5 * 3.5 / 4.75).abs() < 1e-14);
        assert_eq!((weights.largest(), weights.rows()), (2.0, 5.0));
        let mut nothing = Weights::new(Share::EffectiveRows);
        nothing.update(&[Column::Numbers(&[0.0]), Column::Numbers(&[0.5])]).unwrap();
        assert_eq!(results(&mut nothing), [Value::Number(0.0)]);
    }

    #[test]
    fn parts_make_the_whole() {
        let estimators = [Estimator::Snips, Estimator::Dr, Estimator::Dm];
        for estimator in estimators {
            let mut whole = Policy::new(estimator, Some(0.9));
            whole.update(&columns(estimator)).unwrap();
            let mut merged = Policy::new(estimator, Some(0.9));
            for rows in [2..4, 0..2] {
                let mut part = Policy::new(estimator, Some(0.9));
                let cut: Vec<_> = columns(estimator).into_iter().map(|column| column.slice(rows.clone())).collect();
                part.update(&cut).unwrap();
                let mut written = Writer::default();
                part.take(&mut written);
                merged.merge(&mut Reader::new(&written.finish()));
                assert_eq!(results(&mut part), vec![Value::Null; 4]);
            }
            for (left, right) in results(&mut whole).iter().zip(results(&mut merged)) {
                assert!((number(left) - number(&right)).abs() < 1e-14, "{estimator:?}");
            }
        }
    }
}
