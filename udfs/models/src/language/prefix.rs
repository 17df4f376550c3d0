//! Prompt starts that many requests share: computed once, then copied into each row.

use std::sync::Arc;

/// Keys and values of a prompt's first tokens.
#[derive(Debug)]
pub(super) struct Prefix {
    tokens: Vec<u32>,
    /// An adapter changes keys and values, so each has its own.
    adapter: Option<u64>,
    saved: Vec<f32>,
}

impl Prefix {
    /// As [`super::slab::Slab::load`] takes them.
    pub(super) fn saved(&self) -> &[f32] {
        &self.saved
    }

    fn bytes(&self) -> usize {
        self.saved.len() * size_of::<f32>()
    }
}

/// The prefixes in memory; the one unused for longest goes first.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// Last used last.
    entries: Vec<Arc<Prefix>>,
    bytes: usize,
}

impl Prefixes {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn find(&mut self, tokens: &[u32], adapter: Option<u64>) -> Option<Arc<Prefix>> {
        let position = self.entries.iter().position(|entry| entry.adapter == adapter && entry.tokens == tokens)?;
        let entry = self.entries.remove(position);
        self.entries.push(Arc::clone(&entry));
        Some(entry)
    }

    /// Keeps a prefix if it fits into `limit` bytes, at the cost of others.
    pub(super) fn insert(&mut self, tokens: Vec<u32>, adapter: Option<u64>, saved: Vec<f32>, limit: usize) {
        let entry = Prefix { tokens, adapter, saved };
        if entry.bytes() > limit {
            return;
        }
        self.shrink(limit - entry.bytes());
        self.bytes += entry.bytes();
        self.entries.push(Arc::new(entry));
    }

    /// Forgets prefixes until the rest takes at most `limit` bytes.
    pub(super) fn shrink(&mut self, limit: usize) {
        while self.bytes > limit && !self.entries.is_empty() {
            self.bytes -= self.entries.remove(0).bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_unused_for_longest_goes_when_memory_is_short() {
        let mut prefixes = Prefixes::default();
        for token in [1, 2, 3] {
            prefixes.insert(vec![token, token], None, vec![token as f32; 25], 300);
        }
        assert_eq!(prefixes.bytes(), 300);
        assert!(prefixes.find(&[1, 1], None).is_some());
        prefixes.insert(vec![4], None, vec![4.0; 25], 300);
        assert!(prefixes.find(&[2, 2], None).is_none());
        let found = prefixes.find(&[1, 1], None).unwrap();
        assert_eq!((found.saved(), prefixes.bytes()), (&[1.0; 25][..], 300));
        prefixes.shrink(150);
        assert!(prefixes.find(&[4], None).is_none());
        assert!(prefixes.find(&[1, 1], None).is_some());
    }

    #[test]
    fn a_prefix_belongs_to_its_tokens_and_its_adapter() {
        let mut prefixes = Prefixes::default();
        prefixes.insert(vec![1, 2], Some(7), vec![0.0; 4], 1000);
        assert!(prefixes.find(&[1, 2], None).is_none());
        assert!(prefixes.find(&[1], Some(7)).is_none());
        assert!(prefixes.find(&[1, 2], Some(7)).is_some());
    }

    #[test]
    fn a_prefix_larger_than_the_limit_is_not_kept_and_pushes_nothing_out() {
        let mut prefixes = Prefixes::default();
        prefixes.insert(vec![1], None, vec![0.0; 10], 60);
        prefixes.insert(vec![2], None, vec![0.0; 100], 60);
        assert!(prefixes.find(&[1], None).is_some());
        assert_eq!(prefixes.bytes(), 40);
    }
}
