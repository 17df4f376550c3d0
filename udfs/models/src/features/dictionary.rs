//! The known values of a category.

/// Positions of known ids: an open-addressed table (the ids are hashes, so their low bits serve as the place).
#[derive(Debug, Clone)]
pub(crate) struct Dictionary {
    mask: usize,
    /// 0 is an empty place: no known id is 0.
    ids: Vec<u64>,
    positions: Vec<u32>,
}

impl Dictionary {
    /// A dictionary in which each id is found at its position in `values`.
    pub(crate) fn new(values: &[u64]) -> Self {
        let places = (values.len() * 2).next_power_of_two().max(2);
        let mut dictionary = Self { mask: places - 1, ids: vec![0; places], positions: vec![0; places] };
        for (position, id) in values.iter().enumerate() {
            let place = dictionary.place(*id);
            dictionary.ids[place] = *id;
            dictionary.positions[place] = position as u32;
        }
        dictionary
    }

    /// Where an id is, or the empty place where it would be.
    fn place(&self, id: u64) -> usize {
        let mut place = id as usize & self.mask;
        while self.ids[place] != id && self.ids[place] != 0 {
            place = (place + 1) & self.mask;
        }
        place
    }

    /// The position of an id, if it is known.
    #[inline]
    pub(crate) fn position(&self, id: u64) -> Option<u32> {
        let place = self.place(id);
        (self.ids[place] == id && id != 0).then(|| self.positions[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_at_its_position_and_no_other() {
        // Equal low bits, so that the places collide.
        let values: Vec<u64> = (1..200).map(|n| n << 32 | 5).collect();
        let dictionary = Dictionary::new(&values);
        for (position, id) in values.iter().enumerate() {
            assert_eq!(dictionary.position(*id), Some(position as u32));
        }
        assert_eq!((dictionary.position(5), dictionary.position(0)), (None, None));
        assert_eq!(Dictionary::new(&[]).position(9), None);
    }
}
