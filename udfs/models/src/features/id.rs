//! The id of a whole number: a hash that can be undone.

/// The id of a whole number (the finaliser of SplitMix64, Steele et al. 2014). Never 0, which is NULL's: one number in 2^64 shares the id of
/// another.
#[inline]
pub fn id_of(value: i64) -> u64 {
    let mut hash = value.cast_unsigned().wrapping_add(INCREMENT);
    hash = (hash ^ (hash >> 30)).wrapping_mul(FIRST);
    hash = (hash ^ (hash >> 27)).wrapping_mul(SECOND);
    (hash ^ (hash >> 31)).max(1)
}

pub(crate) const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;
pub(crate) const FIRST: u64 = 0xbf58_476d_1ce4_e5b9;
pub(crate) const SECOND: u64 = 0x94d0_49bb_1331_11eb;

/// The whole number of an id.
pub(crate) fn of_id(id: u64) -> i64 {
    // The inverses of the two factors modulo 2^64.
    let mut hash = (id ^ (id >> 31) ^ (id >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    hash = (hash ^ (hash >> 27) ^ (hash >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    (hash ^ (hash >> 30) ^ (hash >> 60)).wrapping_sub(INCREMENT).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_comes_back_from_its_id() {
        for value in [0, 1, -1, 7, 1 << 40, i64::MAX, i64::MIN, -123_456_789] {
            assert_eq!(of_id(id_of(value)), value);
        }
    }
}
