//! The layers that read the embeddings, worked out before the first row: a linear layer of a row is the sum of what it makes of each embedding,
//! so each place of a small table keeps that instead, and scoring adds where it would multiply. The result is the same up to rounding.

use crate::features::encode::{Encoding, Places};
use crate::net::{Net, Parameter};

/// The most numbers that are kept for a net: more would not stay in the cache, and multiplying is faster then.
const MOST: usize = 1 << 20;

/// What the first linear layers make of each place.
#[derive(Debug)]
pub(super) struct Fold {
    /// Numbers that the layers give for a row.
    pub(super) width: usize,
    /// Places of the table x width.
    table: Vec<f32>,
    /// Knots x width.
    knots: Vec<f32>,
    /// Numeric inputs x width.
    dense: Vec<f32>,
    bias: Vec<f32>,
}

impl Fold {
    /// `None` where it does not pay, or cannot be: no such layer, a large table, a table that two fields share, a history.
    pub(super) fn new(net: &Net, encoding: &Encoding, table: &[f32], knots: &[f32], parameters: &[Parameter]) -> Option<Self> {
        let layers = net.first_layers();
        let width: usize = layers.iter().map(|layer| parameters[*layer].shape[1]).sum();
        let stride = net.stride();
        let (places, knot_count) = (table.len() / stride, knots.len() / stride);
        if width == 0 || net.fields == 0 || net.history_target.is_some() || (places + knot_count) * width > MOST {
            return None;
        }
        let ranges = encoding.ranges()?;
        let mut fold = Self {
            width,
            table: vec![0.0; places * width],
            knots: vec![0.0; knot_count * width],
            dense: vec![0.0; net.dense * width],
            bias: Vec::with_capacity(width),
        };
        let mut start = 0;
        for layer in layers {
            let (weight, to) = (&parameters[layer].values, parameters[layer].shape[1]);
            for used in &ranges {
                let own = &weight[used.field * stride * to..][..stride * to];
                for place in used.rows.clone() {
                    multiply(&table[place * stride..][..stride], own, &mut fold.table[place * width + start..][..to]);
                }
                for knot in used.knots.clone() {
                    multiply(&knots[knot * stride..][..stride], own, &mut fold.knots[knot * width + start..][..to]);
                }
            }
            for (number, own) in weight[net.fields * stride * to..].chunks_exact(to).enumerate() {
                fold.dense[number * width + start..][..to].copy_from_slice(own);
            }
            fold.bias.extend_from_slice(&parameters[layer + 1].values);
            start += to;
        }
        Some(fold)
    }

    /// What the layers give for rows whose inputs are in `x`, rows x `x_width`, with the numbers last.
    pub(super) fn sums(&self, places: &Places, fields: usize, x: &[f32], x_width: usize, out: &mut Vec<f32>) {
        out.clear();
        let numbers = self.dense.len() / self.width;
        for x in x.chunks_exact(x_width) {
            let start = out.len();
            out.extend_from_slice(&self.bias);
            for (number, weights) in x[x_width - numbers..].iter().zip(self.dense.chunks_exact(self.width)) {
                out[start..].iter_mut().zip(weights).for_each(|(out, weight)| *out += number * weight);
            }
        }
        places.add_up(&self.table, &self.knots, fields, out, self.width);
    }
}

/// `x W`, added to `out`.
fn multiply(x: &[f32], weight: &[f32], out: &mut [f32]) {
    for (x, weights) in x.iter().zip(weight.chunks_exact(out.len())) {
        out.iter_mut().zip(weights).for_each(|(out, weight)| *out += x * weight);
    }
}
