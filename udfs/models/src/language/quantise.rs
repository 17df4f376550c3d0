//! Blocks of `MatMulNBits` (ONNX Runtime's contrib operator): symmetric, a scale for each block of a row, rows padded with zeros.

/// Rounds a row to 8 bits: `value = scale * (q - 128)`. `quants` holds whole blocks; what `row` does not fill is padding.
pub(crate) fn eight_bits(row: &[f32], block: usize, quants: &mut [u8], scales: &mut [f32]) {
    quants.fill(128);
    for ((values, quants), scale) in row.chunks(block).zip(quants.chunks_mut(block)).zip(scales) {
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 || !largest.is_finite() {
            *scale = 0.0;
            continue;
        }
        let inverse = 127.0 / largest;
        let (mut product, mut square) = (0f32, 0f32);
        for (value, quant) in values.iter().zip(quants) {
            let q = (value * inverse).round();
            product += q * value;
            square += q * q;
            *quant = (q as i32 + 128) as u8;
        }
        // The scale that fits these integers best.
        *scale = product / square;
    }
}

/// Rounds a row to 4 bits: `value = scale * (q - 8)`, two values a byte, the first in the low half.
///
/// A few scales around the one that reaches the largest value are tried, of either sign since -8 is there and 8 is not; the one with the
/// least squared error stays.
pub(crate) fn four_bits(row: &[f32], block: usize, packed: &mut [u8], scales: &mut [f32]) {
    packed.fill(0x88);
    for ((values, packed), scale) in row.chunks(block).zip(packed.chunks_mut(block / 2)).zip(scales) {
        *scale = best(values);
        if *scale == 0.0 {
            continue;
        }
        for (index, value) in values.iter().enumerate() {
            let q = (nearest(value / *scale) + 8.0) as u8;
            let byte = &mut packed[index / 2];
            *byte = if index % 2 == 0 { *byte & 0xf0 | q } else { *byte & 0x0f | q << 4 };
        }
    }
}

fn nearest(quotient: f32) -> f32 {
    quotient.round().clamp(-8.0, 7.0)
}

fn best(values: &[f32]) -> f32 {
    let extreme = values.iter().fold(0f32, |extreme, value| if value.abs() > extreme.abs() { *value } else { extreme });
    if extreme == 0.0 || !extreme.is_finite() {
        return 0.0;
    }
    let mut found = (f32::INFINITY, 0.0);
    for step in 0..10 {
        for sign in [-1.0, 1.0] {
            let first = sign * extreme / 8.0 * (0.75 + 0.035 * step as f32);
            let (product, square) = values.iter().fold((0f32, 0f32), |(product, square), value| {
                let q = nearest(value / first);
                (product + q * value, square + q * q)
            });
            if square == 0.0 {
                continue;
            }
            let scale = product / square;
            let error = values.iter().map(|value| (nearest(value / scale) * scale - value).powi(2)).sum::<f32>();
            if error < found.0 {
                found = (error, scale);
            }
        }
    }
    found.1
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    fn row(length: usize) -> Vec<f32> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        (0..length).map(|_| random.random_range(-1f32..1.0)).collect()
    }

    #[test]
    fn eight_bits_are_within_half_a_step_and_padding_is_zero() {
        let row = row(200);
        let (mut quants, mut scales) = (vec![0; 256], vec![0.0; 2]);
        eight_bits(&row, 128, &mut quants, &mut scales);
        for (index, value) in row.iter().enumerate() {
            let scale = scales[index / 128];
            assert!((scale * (f32::from(quants[index]) - 128.0) - value).abs() <= 0.6 * scale, "{index}");
        }
        assert!(quants[200..].iter().all(|q| *q == 128));
    }

    #[test]
    fn four_bits_are_close_and_packed_low_half_first() {
        let row = row(72);
        let (mut packed, mut scales) = (vec![0; 48], vec![0.0; 3]);
        four_bits(&row, 32, &mut packed, &mut scales);
        let value = |index: usize| scales[index / 32] * (f32::from(packed[index / 2] >> (4 * (index % 2)) & 15) - 8.0);
        let error: f32 = row.iter().enumerate().map(|(index, v)| (value(index) - v).powi(2)).sum();
        let total: f32 = row.iter().map(|v| v * v).sum();
        assert!(error < 0.01 * total, "{error} of {total}");
        assert!(packed[36..].iter().all(|byte| *byte == 0x88));
    }

    #[test]
    fn zeros_and_values_that_are_no_numbers_give_zeros() {
        for values in [[0f32; 32], [f32::INFINITY; 32]] {
            let (mut quants, mut packed, mut scales) = (vec![0; 32], vec![0; 16], vec![1.0]);
            eight_bits(&values, 32, &mut quants, &mut scales);
            assert_eq!(scales, [0.0]);
            four_bits(&values, 32, &mut packed, &mut scales);
            assert_eq!(scales, [0.0]);
        }
    }
}
