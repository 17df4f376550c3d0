//! The texts behind ids, kept for values that are known to a model, so that it can be used where texts cannot be hashed.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use super::learn::Identity;

/// Texts of a column that are kept; of a column with more, none are.
const MOST: usize = 1 << 17;

/// Longer texts are not kept.
const LONGEST: usize = 256;

type Known = HashMap<u64, Box<str>, BuildHasherDefault<Identity>>;

/// Texts by raw column and id.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    /// None for a column with too many.
    columns: BTreeMap<usize, Option<Known>>,
}

impl Texts {
    /// Notes the text behind an id of a raw column.
    pub fn see(&mut self, column: usize, id: u64, text: &str) {
        let Some(known) = self.columns.entry(column).or_insert_with(|| Some(Known::default())) else { return };
        if known.contains_key(&id) || text.len() > LONGEST {
            return;
        }
        known.insert(id, text.into());
        if known.len() > MOST {
            self.columns.insert(column, None);
        }
    }

    /// Takes over the texts of other rows.
    pub(crate) fn merge(&mut self, other: Self) {
        for (column, texts) in other.columns {
            match texts {
                Some(texts) => texts.into_iter().for_each(|(id, text)| self.see(column, id, &text)),
                None => drop(self.columns.insert(column, None)),
            }
        }
    }

    /// The texts of these ids, if all are there; those of a list may be among those of its target.
    pub(crate) fn all(&self, ids: &[u64]) -> Option<Vec<String>> {
        let columns: Vec<_> = self.columns.values().flatten().collect();
        let text = |id: &u64| columns.iter().find_map(|known| known.get(id)).map(ToString::to_string);
        if ids.is_empty() { None } else { ids.iter().map(text).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_in_any_column_and_only_all_together() {
        let (mut one, mut other) = (Texts::default(), Texts::default());
        one.see(0, 7, "red");
        other.see(3, 8, "blue");
        one.merge(other);
        assert_eq!(one.all(&[8, 7]), Some(vec!["blue".to_owned(), "red".to_owned()]));
        assert_eq!((one.all(&[7, 9]), one.all(&[])), (None, None));
    }

    #[test]
    fn a_column_of_too_many_or_too_long_texts_keeps_none() {
        let mut texts = Texts::default();
        (1..=MOST as u64 + 1).for_each(|id| texts.see(0, id, "x"));
        texts.see(1, 5, &"x".repeat(LONGEST + 1));
        let mut whole = Texts::default();
        whole.see(0, 1, "x");
        whole.merge(texts);
        assert_eq!((whole.all(&[1]), whole.all(&[5])), (None, None));
    }
}
