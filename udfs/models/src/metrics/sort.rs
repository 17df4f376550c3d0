//! Sorting by whole numbers, digit by digit: for millions of rows faster than by comparison.

use std::ops::Range;

/// Below so many rows a sort by comparison is faster.
pub(super) const FEW: usize = 1 << 10;
/// Values of a digit.
const DIGIT: usize = 256;

/// Sorts numbers. Needs as much memory again while it works.
pub(super) fn numbers(keys: &mut [u64]) {
    if keys.len() < FEW {
        return keys.sort_unstable();
    }
    if !keys.is_sorted() {
        by_digits(keys, 0..8, |key| *key);
    }
}

/// Sorts rows by these bytes of their key, counted from the lowest; rows in which they are equal keep their order. Needs as much memory again
/// while it works.
pub(super) fn by_digits<T: Copy>(rows: &mut [T], digits: Range<usize>, key: impl Fn(&T) -> u64) {
    let Some(&first) = rows.first() else { return };
    let mut counts = [[0_usize; DIGIT]; 8];
    for row in rows.iter() {
        let bytes = key(row).to_le_bytes();
        for digit in digits.clone() {
            counts[digit][usize::from(bytes[digit])] += 1;
        }
    }
    let length = rows.len();
    let mut spare = vec![first; length];
    let (mut from, mut to) = (&mut *rows, spare.as_mut_slice());
    let mut swapped = false;
    for digit in digits {
        let next = &mut counts[digit];
        // All rows have the same digit.
        if next.contains(&length) {
            continue;
        }
        let mut start = 0;
        for count in next.iter_mut() {
            start += std::mem::replace(count, start);
        }
        for row in from.iter() {
            let place = &mut next[usize::from(key(row).to_le_bytes()[digit])];
            to[*place] = *row;
            *place += 1;
        }
        std::mem::swap(&mut from, &mut to);
        swapped = !swapped;
    }
    if swapped {
        to.copy_from_slice(from);
    }
}

/// Merges two sorted parts of a slice that meet at `middle`.
pub(super) fn merge(keys: &mut [u64], middle: usize) {
    let right = keys[middle..].to_vec();
    let (mut left, mut rest) = (middle, right.len());
    // From the end, so that nothing is overwritten that is still to be read; without branches, which random keys would mispredict.
    while left > 0 && rest > 0 {
        let (low, high) = (keys[left - 1], right[rest - 1]);
        let from_left = low > high;
        keys[left + rest - 1] = if from_left { low } else { high };
        left -= usize::from(from_left);
        rest -= usize::from(!from_left);
    }
    keys[..rest].copy_from_slice(&right[..rest]);
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn any_number_of_keys_is_sorted() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for length in [0, 1, 2, 700, FEW, 5000] {
            for mask in [u64::MAX, 0xff00, 0, 7] {
                let mut keys: Vec<u64> = (0..length).map(|_| rng.random::<u64>() & mask).collect();
                let mut expected = keys.clone();
                expected.sort_unstable();
                numbers(&mut keys);
                assert_eq!(keys, expected, "{length} {mask}");
            }
        }
    }

    #[test]
    fn some_digits_sort_and_others_keep_their_order() {
        let mut rows: Vec<(u64, usize)> = (0..3000).map(|row| (((((row * 7919) % 5) << 56) | (row % 3)) as u64, row)).collect();
        by_digits(&mut rows, 7..8, |row| row.0);
        assert!(rows.is_sorted_by_key(|row| (row.0 >> 56, row.1)));
    }

    #[test]
    fn sorted_parts_are_merged() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for (left, right) in [(0, 0), (0, 4), (4, 0), (1, 1), (100, 7), (7, 100)] {
            let mut keys: Vec<u64> = (0..left + right).map(|_| rng.random_range(0..50)).collect();
            let mut expected = keys.clone();
            keys[..left].sort_unstable();
            keys[left..].sort_unstable();
            merge(&mut keys, left);
            expected.sort_unstable();
            assert_eq!(keys, expected);
        }
    }
}
