//! The vectors of texts that were asked for lately.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// What stands for a text: its hash.
pub(super) type Key = [u8; 32];

/// The key of a text.
pub(super) fn key(text: &str) -> Key {
    Sha256::digest(text.as_bytes()).into()
}

/// A vector, and whether the text goes on after what was read of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) vector: Arc<[f32]>,
    pub(super) truncated: bool,
}

/// Two generations of vectors: when the younger one is full it becomes the older one, whose vectors go unless they were asked for again.
#[derive(Debug)]
pub(super) struct Memory {
    young: HashMap<Key, Known>,
    old: HashMap<Key, Known>,
    /// The most vectors of a generation.
    most: usize,
}

impl Memory {
    /// Room for vectors of so many values in so many bytes.
    pub(super) fn new(bytes: usize, dimension: usize) -> Self {
        // What a map keeps of an entry besides the vector.
        const BESIDES: usize = 96;
        Self { young: HashMap::new(), old: HashMap::new(), most: bytes / (2 * (4 * dimension + BESIDES)) }
    }

    pub(super) fn get(&mut self, key: &Key) -> Option<Known> {
        if let Some(known) = self.young.get(key) {
            return Some(known.clone());
        }
        let known = self.old.remove(key)?;
        self.insert(*key, known.clone());
        Some(known)
    }

    pub(super) fn insert(&mut self, key: Key, known: Known) {
        if self.most == 0 {
            return;
        }
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, known);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(super) fn clear(&mut self) {
        (self.young, self.old) = (HashMap::new(), HashMap::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_bounded_and_what_is_asked_for_stays() {
        let mut memory = Memory::new(2 * 100 * 8, 1);
        let known = |value: f32| Known { vector: [value].into(), truncated: false };
        memory.insert(key("kept"), known(-1.0));
        for number in 0..100 {
            memory.insert(key(&number.to_string()), known(number as f32));
            assert_eq!(memory.get(&key("kept")), Some(known(-1.0)), "{number}");
            assert!(memory.len() <= 16, "{}", memory.len());
        }
        assert_eq!(memory.get(&key("99")), Some(known(99.0)));
        assert_eq!(memory.get(&key("5")), None);
        assert!(Memory::new(0, 1).get(&key("kept")).is_none());
    }
}
