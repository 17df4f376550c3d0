//! Whether the variants have as many rows as they should.

use std::collections::BTreeMap;

use crate::metrics::distributions::chi_square_tail;
use crate::metrics::part::{Reader, Writer};
use crate::metrics::statistic::{Column, Invalid, Statistic, Template, Value};

/// The shares of rows that the variants should have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expected(BTreeMap<String, f64>);

impl Expected {
    /// Reads `a: 0.5, b: 0.5`; only the ratios count. No text means equal shares of the variants that are there.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut shares = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, share) = pair.rsplit_once(':').ok_or_else(|| format!("has no share in '{pair}'"))?;
            let (name, share) = (name.trim().to_owned(), share.trim());
            let share = share.parse::<f64>().ok().filter(|share| share.is_finite() && *share > 0.0);
            let share = share.ok_or_else(|| format!("has a share in '{pair}' that is not a number above 0"))?;
            if shares.contains_key(&name) {
                return Err(format!("names {name} twice"));
            }
            shares.insert(name, share);
        }
        if shares.len() == 1 { Err("names one variant only".to_owned()) } else { Ok(Self(shares)) }
    }
}

/// Pearson's chi-square test of the numbers of rows (sample ratio mismatch, Fabijan et al. 2019); column `variant`. The fields of the
/// result: p_value, chi_square, degrees_of_freedom, rows, observed.
#[derive(Debug, Clone)]
pub struct SrmTest {
    expected: Expected,
    rows: BTreeMap<String, u64>,
    heap: usize,
}

impl SrmTest {
    /// Without rows.
    pub fn template(expected: Expected) -> Template {
        let mut empty = Self { expected, rows: BTreeMap::new(), heap: 0 };
        empty.begin();
        Template::new(empty)
    }

    /// A variant that is expected counts even if it has no row.
    fn begin(&mut self) {
        self.rows = self.expected.0.keys().map(|name| (name.clone(), 0)).collect();
        self.heap = self.rows.keys().map(|name| cost(name)).sum();
    }

    fn add(&mut self, name: &str, rows: u64) {
        match self.rows.get_mut(name) {
            Some(count) => *count += rows,
            None => {
                self.heap += cost(name);
                self.rows.insert(name.to_owned(), rows);
            }
        }
    }
}

fn cost(name: &str) -> usize {
    name.len() + size_of::<(String, u64)>() + 2 * size_of::<usize>()
}

impl Statistic for SrmTest {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let shares = &self.expected.0;
        if !shares.is_empty()
            && let Some(other) = columns[0].texts().iter().find(|name| !shares.contains_key(**name))
        {
            return Err(Invalid::new("variant", other, "one of those that argument expected names"));
        }
        columns[0].texts().iter().for_each(|name| self.add(name, 1));
        Ok(())
    }

    fn take(&mut self, part: &mut Writer) {
        part.whole(self.rows.len() as u64);
        for (name, rows) in std::mem::take(&mut self.rows) {
            part.text(&name).whole(rows);
        }
        self.begin();
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        for _ in 0..part.whole() {
            self.add(part.text(), part.whole());
        }
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let total: u64 = self.rows.values().sum();
        if total == 0 || self.rows.len() < 2 {
            result.extend(vec![Value::Null; 5]);
            return Ok(());
        }
        let share = |name: &str| self.expected.0.get(name).copied().unwrap_or(1.0);
        let shares: f64 = self.rows.keys().map(|name| share(name)).sum();
        let distance = |(name, rows): (&String, &u64)| {
            let expected = total as f64 * share(name) / shares;
            (*rows as f64 - expected).powi(2) / expected
        };
        let chi_square: f64 = self.rows.iter().map(distance).sum();
        let freedom = self.rows.len() - 1;
        let observed: Vec<String> = self.rows.iter().map(|(name, rows)| format!("{name}: {rows}")).collect();
        result.extend([
            chi_square_tail(chi_square, freedom as f64).into(),
            chi_square.into(),
            (freedom as u64).into(),
            total.into(),
            Value::Text(observed.join(", ")),
        ]);
        Ok(())
    }

    fn heap(&self) -> usize {
        self.heap
    }
}
