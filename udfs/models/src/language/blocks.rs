//! The number formats of checkpoints: plain floats, and GGUF's blocks of quantised values (their layouts are those of `ggml-common.h`).

use half::{bf16, f16};

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Values that share a scale of a 4-bit block.
pub(crate) const GROUP: usize = 32;

impl Kind {
    pub(crate) fn from_gguf(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// What ggml calls a type, also one that cannot be read here.
    pub(crate) fn name_in_gguf(number: u32) -> String {
        let name = match number {
            9 => "Q8_1",
            10 => "Q2_K",
            11 => "Q3_K",
            15 => "Q8_K",
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            20 => "IQ4_NL",
            21 => "IQ3_S",
            22 => "IQ2_S",
            23 => "IQ4_XS",
            29 => "IQ1_M",
            34 => "TQ1_0",
            35 => "TQ2_0",
            39 => "MXFP4",
            _ => return Self::from_gguf(number).map_or_else(|| format!("number {number}"), |kind| kind.name().to_owned()),
        };
        name.to_owned()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Values of a block.
    pub(crate) fn values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `columns` values, which are whole blocks.
    pub(crate) fn row(self, columns: usize) -> usize {
        columns / self.values() * self.bytes()
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// The values of whole blocks, exactly: `bytes` holds as many blocks as `out` has room for.
pub(crate) fn dequantise(kind: Kind, bytes: &[u8], out: &mut [f32]) {
    let blocks = bytes.chunks_exact(kind.bytes()).zip(out.chunks_exact_mut(kind.values()));
    match kind {
        Kind::F32 => blocks.for_each(|(b, out)| out[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Kind::F16 => blocks.for_each(|(b, out)| out[0] = half(b)),
        Kind::Bf16 => blocks.for_each(|(b, out)| out[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        Kind::Q4_0 => blocks.for_each(|(b, out)| {
            let scale = half(b);
            nibbles(&b[2..18], out, |q| scale * (f32::from(q) - 8.0));
        }),
        Kind::Q4_1 => blocks.for_each(|(b, out)| {
            let (scale, least) = (half(b), half(&b[2..]));
            nibbles(&b[4..20], out, |q| scale * f32::from(q) + least);
        }),
        Kind::Q5_0 => blocks.for_each(|(b, out)| {
            let scale = half(b);
            fifth(&b[6..22], &b[2..6], out, |q| scale * (f32::from(q) - 16.0));
        }),
        Kind::Q5_1 => blocks.for_each(|(b, out)| {
            let (scale, least) = (half(b), half(&b[2..]));
            fifth(&b[8..24], &b[4..8], out, |q| scale * f32::from(q) + least);
        }),
        Kind::Q8_0 => blocks.for_each(|(b, out)| {
            let scale = half(b);
            out.iter_mut().zip(&b[2..34]).for_each(|(out, q)| *out = scale * f32::from(*q as i8));
        }),
        Kind::Q4K => blocks.for_each(|(b, out)| {
            let (scales, quants) = (&b[4..16], &b[16..144]);
            for (group, out) in out.chunks_exact_mut(GROUP).enumerate() {
                let (scale, least) = k_scale(half(b), half(&b[2..]), scales, group);
                let shift = 4 * (group % 2);
                let quants = &quants[group / 2 * 32..];
                out.iter_mut().zip(quants).for_each(|(out, q)| *out = scale * f32::from(q >> shift & 15) - least);
            }
        }),
        Kind::Q5K => blocks.for_each(|(b, out)| {
            let (scales, high, quants) = (&b[4..16], &b[16..48], &b[48..176]);
            for (group, out) in out.chunks_exact_mut(GROUP).enumerate() {
                let (scale, least) = k_scale(half(b), half(&b[2..]), scales, group);
                let shift = 4 * (group % 2);
                let quants = quants[group / 2 * 32..].iter().zip(high);
                out.iter_mut().zip(quants).for_each(|(out, (q, h))| {
                    let q = q >> shift & 15 | (h >> group & 1) << 4;
                    *out = scale * f32::from(q) - least;
                });
            }
        }),
        Kind::Q6K => blocks.for_each(|(b, out)| six(b, out)),
    }
}

/// 32 values: the low halves of 16 bytes, then the high halves.
fn nibbles(quants: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for ((q, low), high) in quants.iter().zip(low).zip(high) {
        *low = value(q & 15);
        *high = value(q >> 4);
    }
}

/// As [`nibbles`], with a fifth bit for each value in a 32-bit integer.
fn fifth(quants: &[u8], bits: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    for (index, q) in quants.iter().enumerate() {
        out[index] = value(q & 15 | ((bits >> index & 1) as u8) << 4);
        out[index + 16] = value(q >> 4 | ((bits >> (index + 16) & 1) as u8) << 4);
    }
}

/// The scale and the offset of a group: 6 bits each, eight pairs in 12 bytes.
fn k_scale(scale: f32, least: f32, packed: &[u8], group: usize) -> (f32, f32) {
    let (s, m) = match group {
        0..4 => (packed[group] & 63, packed[group + 4] & 63),
        _ => (packed[group + 4] & 15 | packed[group - 4] >> 6 << 4, packed[group + 4] >> 4 | packed[group] >> 6 << 4),
    };
    (scale * f32::from(s), least * f32::from(m))
}

fn six(block: &[u8], out: &mut [f32]) {
    let (low, high, scales, scale) = (&block[..128], &block[128..192], &block[192..208], half(&block[208..]));
    for (part, out) in out.chunks_exact_mut(128).enumerate() {
        let (low, high, scales) = (&low[part * 64..], &high[part * 32..], &scales[part * 8..]);
        for (index, out) in out.iter_mut().enumerate() {
            let (quarter, lane) = (index / 32, index % 32);
            let four = low[lane + 32 * (quarter % 2)] >> (4 * (quarter / 2)) & 15;
            let q = four | (high[lane] >> (2 * quarter) & 3) << 4;
            *out = scale * f32::from(scales[index / 16] as i8) * f32::from(q as i8 - 32);
        }
    }
}

/// 4-bit values with a scale and an offset for each [`GROUP`], exactly as stored: `value = scale * q + least`.
///
/// False when the format is another one; then nothing is written.
pub(crate) fn four_bits(kind: Kind, bytes: &[u8], quants: &mut [u8], scales: &mut [f32], least: &mut [f32]) -> bool {
    let groups = quants.chunks_exact_mut(GROUP).zip(scales.iter_mut().zip(least.iter_mut()));
    match kind {
        Kind::Q4_0 | Kind::Q4_1 => {
            for (block, (quants, (scale, least))) in bytes.chunks_exact(kind.bytes()).zip(groups) {
                *scale = half(block);
                *least = if kind == Kind::Q4_0 { -8.0 * *scale } else { half(&block[2..]) };
                let packed = &block[kind.bytes() - 16..];
                for (index, q) in packed.iter().enumerate() {
                    quants[index] = q & 15;
                    quants[index + 16] = q >> 4;
                }
            }
        }
        Kind::Q4K => {
            for (index, (quants, (scale, least))) in groups.enumerate() {
                let (block, group) = (&bytes[index / 8 * 144..][..144], index % 8);
                let (s, m) = k_scale(half(block), half(&block[2..]), &block[4..16], group);
                (*scale, *least) = (s, -m);
                let packed = &block[16 + group / 2 * 32..];
                quants.iter_mut().zip(packed).for_each(|(out, q)| *out = q >> (4 * (group % 2)) & 15);
            }
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests;
