//! Logistic regression: a weight per category, which is its row of the table, and a weight per number.

use super::Net;
use super::builder::{Builder, Start};
use crate::error::Result;
use crate::graph::Tensor;

pub(super) fn logits(net: &Net, builder: &mut Builder<'_>, x: Tensor) -> Result<Tensor> {
    let (fields, dense) = cut(net, builder, x)?;
    first_order(builder, fields, dense)
}

/// The fields' rows of the table, and the numbers; none where the net has none.
pub(super) fn cut(net: &Net, builder: &mut Builder<'_>, x: Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    match (net.fields * net.stride(), net.dense) {
        (_, 0) => Ok((Some(x), None)),
        (0, _) => Ok((None, Some(x))),
        (fields, dense) => {
            let parts = builder.graph.split(x, 1, &[fields, dense])?;
            Ok((Some(parts[0]), Some(parts[1])))
        }
    }
}

/// Bias, the categories' weights `[n, fields]` and the weighted numbers, as `[n, 1]`.
pub(super) fn first_order(builder: &mut Builder<'_>, categories: Option<Tensor>, dense: Option<Tensor>) -> Result<Tensor> {
    let numbers = match dense {
        Some(dense) => builder.head("linear", dense, 0)?,
        None => builder.weight("linear.bias", &[1], Start::Base(0))?,
    };
    let Some(categories) = categories else { return Ok(numbers) };
    let sum = builder.graph.reduce_sum(categories, &[1], true)?;
    builder.graph.add(sum, numbers)
}
