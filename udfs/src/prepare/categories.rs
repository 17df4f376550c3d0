//! How often texts occur, exactly, up to a limit.

use std::collections::HashMap;

use crate::declaration::Function;
use crate::error::Error;

/// The most bytes that different texts may take.
const LIMIT: usize = 128 << 20;

/// What an entry takes besides its text.
const ENTRY: usize = 64;

/// A count for each text.
#[derive(Debug)]
pub(super) struct Categories<C> {
    function: &'static Function,
    counts: HashMap<String, C>,
    bytes: usize,
}

impl<C: Default + Copy + Ord> Categories<C> {
    pub(super) fn new(function: &'static Function) -> Self {
        Self { function, counts: HashMap::new(), bytes: 0 }
    }

    /// Changes the count of a text.
    pub(super) fn count(&mut self, text: &str, change: impl FnOnce(&mut C)) -> Result<(), Error> {
        if let Some(count) = self.counts.get_mut(text) {
            change(count);
            return Ok(());
        }
        self.bytes += text.len() + ENTRY;
        if self.bytes > LIMIT {
            return Err(Error::InvalidValue {
                object: format!("the argument of {}", self.function.name),
                reason: format!("has too many different values: more than {}", self.counts.len()),
                hint: Some("learn from fewer rows, or make categories of the values first with ml.hash_bucketize".to_owned()),
            });
        }
        change(self.counts.entry(text.to_owned()).or_default());
        Ok(())
    }

    /// Takes over the counts of other rows.
    pub(super) fn merge(&mut self, other: Self, add: impl Fn(&mut C, C)) -> Result<(), Error> {
        other.counts.into_iter().try_for_each(|(text, more)| self.count(&text, |count| add(count, more)))
    }

    /// The texts with the highest counts, of equal counts the first in the order of text; sorted by text.
    pub(super) fn top(self, most: usize) -> Vec<(String, C)> {
        let mut top: Vec<(String, C)> = self.counts.into_iter().collect();
        top.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        top.truncate(most);
        top.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        top
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_different_values_are_refused() {
        let mut categories = Categories::<u64>::new(&super::super::one_hot::DECLARATION);
        let long = "x".repeat(1 << 20);
        let error = (0..).find_map(|n| categories.count(&format!("{long}{n}"), |count| *count += 1).err()).unwrap();
        assert_eq!(error.to_string(), "the argument of ml.one_hot has too many different values: more than 127");
        assert!(error.hint().unwrap().contains("ml.hash_bucketize"));
    }
}
