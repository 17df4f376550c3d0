//! Tests of experiments with two variants: fixed samples, adjusted for a covariate, always valid; sample ratio and sample size.

use std::collections::{BTreeMap, BTreeSet};

use super::distributions::t_tails;
use super::moments::Moments;
use super::part::{Reader, Writer};
use super::statistic::{Invalid, Value};

mod ab_test;
mod cuped;
mod sample_size;
mod srm;

pub use ab_test::{AbTest, Design};
pub use cuped::Cuped;
pub use sample_size::sample_size;
pub use srm::{Expected, SrmTest};

/// Which variants are compared.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// The variant that is compared with; left out, the one whose name is smaller.
    pub control: Option<String>,
    /// The variant that is judged; left out, the other one. With both given, rows of further variants do not count.
    pub treatment: Option<String>,
}

/// The rows of two variants, of `N` numbers each.
#[derive(Debug, Clone, Default)]
struct Arms<const N: usize> {
    names: Names,
    arms: BTreeMap<String, Arm<N>>,
}

#[derive(Debug, Clone)]
struct Arm<const N: usize> {
    rows: Moments<N>,
    /// Whether the first number is 0 or 1 in all rows.
    binary: bool,
}

impl<const N: usize> Default for Arm<N> {
    fn default() -> Self {
        Self { rows: Moments::default(), binary: true }
    }
}

impl<const N: usize> Arms<N> {
    fn new(names: Names) -> Self {
        Self { names, arms: BTreeMap::new() }
    }

    /// Adds rows, each to its variant.
    fn extend(&mut self, variants: &[&str], row: impl Fn(usize) -> [f64; N]) -> Result<(), Invalid> {
        let wanted: BTreeSet<&str> = variants.iter().copied().filter(|name| self.wanted(name)).collect();
        for name in wanted {
            if !self.arms.contains_key(name) {
                self.arms.insert(name.to_owned(), Arm::default());
                self.check()?;
            }
            let Some(arm) = self.arms.get_mut(name) else { continue };
            let rows = (0..variants.len()).filter(|place| variants[*place] == name).map(&row);
            arm.rows.extend(rows.inspect(|row| arm.binary &= row[0] == 0.0 || row[0] == 1.0));
        }
        Ok(())
    }

    fn wanted(&self, name: &str) -> bool {
        match (&self.names.control, &self.names.treatment) {
            (Some(control), Some(treatment)) => name == control || name == treatment,
            _ => true,
        }
    }

    /// Refuses a third variant.
    fn check(&self) -> Result<BTreeSet<&str>, Invalid> {
        const ALLOWED: &str = "one of two variants; name both with control => and treatment => to leave the others out";
        let given = [&self.names.control, &self.names.treatment].into_iter().flatten();
        let mut names: BTreeSet<&str> = given.map(String::as_str).collect();
        for name in self.arms.keys() {
            names.insert(name);
            if names.len() > 2 {
                return Err(Invalid::new("variant", name, ALLOWED));
            }
        }
        Ok(names)
    }

    /// Control and treatment, with rows in both.
    fn pair(&self) -> Result<Option<[(&str, &Arm<N>); 2]>, Invalid> {
        let names = self.check()?;
        let (Some(&first), Some(&second)) = (names.first(), names.last()) else { return Ok(None) };
        let turned = self.names.control.as_deref().is_some_and(|control| control == second)
            || self.names.treatment.as_deref().is_some_and(|treatment| treatment == first);
        let (control, treatment) = if turned { (second, first) } else { (first, second) };
        let both = self.arms.get_key_value(control).zip(self.arms.get_key_value(treatment));
        let both = both.filter(|_| control != treatment);
        Ok(both.map(|((control, before), (treatment, after))| [(control.as_str(), before), (treatment.as_str(), after)]))
    }

    fn take(&mut self, part: &mut Writer) {
        part.whole(self.arms.len() as u64);
        for (name, mut arm) in std::mem::take(&mut self.arms) {
            part.text(&name).whole(u64::from(arm.binary));
            arm.rows.take(part);
        }
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        for _ in 0..part.whole() {
            let arm = self.arms.entry(part.text().to_owned()).or_default();
            arm.binary &= part.whole() == 1;
            arm.rows.merge(part);
        }
    }

    fn heap(&self) -> usize {
        self.arms.len() * (size_of::<(String, Arm<N>)>() + 2 * size_of::<usize>()) + self.arms.keys().map(String::capacity).sum::<usize>()
    }
}

/// Two means and how far they are apart.
struct Difference {
    means: [f64; 2],
    /// The variances of the means.
    variances: [f64; 2],
    rows: [f64; 2],
}

impl Difference {
    fn value(&self) -> f64 {
        self.means[1] - self.means[0]
    }

    fn error(&self) -> f64 {
        self.variances.iter().sum::<f64>().sqrt()
    }

    /// The difference relative to the control.
    fn lift(&self) -> Option<f64> {
        (self.means[0] != 0.0).then(|| self.value() / self.means[0])
    }

    /// Degrees of freedom (Welch 1947).
    fn freedom(&self) -> f64 {
        let parts = self.variances.iter().zip(self.rows).map(|(variance, rows)| variance * variance / (rows - 1.0));
        self.variances.iter().sum::<f64>().powi(2) / parts.sum::<f64>()
    }

    /// The probability of a difference as large or larger when there is none, by Welch's t-test.
    fn welch(&self) -> Option<f64> {
        number(t_tails(self.value() / self.error(), self.freedom()))
    }

    /// The names, rows and means of the variants, difference and lift: the first fields of a result.
    fn fields(&self, names: [&str; 2]) -> Vec<Value> {
        let text = |name: &str| Value::Text(name.to_owned());
        let [control, treatment] = names.map(text);
        let [control_rows, treatment_rows] = self.rows.map(|rows| Value::from(rows as u64));
        let [control_mean, treatment_mean] = self.means.map(Value::from);
        let (difference, lift) = (self.value().into(), self.lift().into());
        vec![control, treatment, control_rows, treatment_rows, control_mean, treatment_mean, difference, lift]
    }

    /// The difference with as much on either side.
    fn within(&self, reach: Option<f64>) -> [Value; 2] {
        [-1.0, 1.0].map(|side| reach.map(|reach| self.value() + side * reach).into())
    }
}

/// A number that is one.
fn number(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests;
