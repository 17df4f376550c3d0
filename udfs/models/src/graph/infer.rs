//! The shape of every operation's results, and the errors when operands do not fit.

use super::{Dim, Element, Op, Shape, Value};
use crate::error::{Error, Result};

type Results = Vec<(Element, Shape)>;

pub(super) fn infer(op: &Op, inputs: &[&Value]) -> Result<Results> {
    let fail = |reason: String| {
        let shapes = inputs.iter().map(|v| v.shape.to_string()).collect::<Vec<_>>().join(" and ");
        Error::graph(format!("{op:?} of {shapes}: {reason}"))
    };
    for (position, input) in inputs.iter().enumerate() {
        let wanted = match (op, position) {
            (Op::Gather | Op::ScatterRows, 1) => Element::I64,
            (Op::Dequantize { .. }, 0) => Element::I8,
            _ => Element::F32,
        };
        if input.element != wanted {
            return Err(fail(format!("operand {position} is {:?} instead of {wanted:?}", input.element)));
        }
    }
    let shapes: Vec<&[Dim]> = inputs.iter().map(|v| v.shape.dims()).collect();
    let result = match (op, shapes.as_slice()) {
        (Op::Gemm { transpose_a, transpose_b }, [a, b, rest @ ..]) if rest.len() <= 1 => {
            gemm(a, b, rest.first().copied(), *transpose_a, *transpose_b)
        }
        (Op::MatMul { transpose_a, transpose_b }, [a, b]) => matmul(a, b, *transpose_a, *transpose_b),
        (Op::Add | Op::Sub | Op::Mul | Op::Div, [a, b]) => broadcast(a, b),
        (Op::Relu | Op::Sigmoid | Op::Tanh | Op::Gelu | Op::Erf | Op::Exp | Op::Log | Op::Softplus | Op::Sign | Op::ZerosLike, [x]) => {
            Ok(x.to_vec())
        }
        (Op::Softmax, [x]) if !x.is_empty() => Ok(x.to_vec()),
        (Op::LogSumExp, [x]) if !x.is_empty() => reduce(x, &[x.len() - 1], true),
        (Op::RmsNorm { .. }, [x, scale]) => return rms_norm(x, scale).map_err(fail),
        (Op::LayerNorm { .. }, [x, scale, bias]) => return layer_norm(x, scale, bias).map_err(fail),
        (Op::Dequantize { block }, [numbers, factors]) => dequantize(numbers, factors, *block),
        (Op::Gather, [table, indices]) if !table.is_empty() => Ok([*indices, &table[1..]].concat()),
        (Op::ScatterRows, [like, indices, rows]) if !like.is_empty() => scatter(like, indices, rows),
        (Op::Concat { axis }, parts) => concat(parts, *axis),
        (Op::Split { axis, sizes }, [x]) => return split(x, *axis, sizes).map_err(fail),
        (Op::Slice { axis, start, end }, [x]) => slice(x, *axis, *start, *end),
        (Op::Pad { axis, before, after }, [x]) => resize(x, *axis, |size| Some(size + before + after)),
        (Op::Reshape(shape), [x]) => reshape(x, shape),
        (Op::Transpose(order), [x]) => transpose(x, order),
        (Op::Unsqueeze(axes), [x]) => unsqueeze(x, axes),
        (Op::Squeeze(axes), [x]) => squeeze(x, axes),
        (Op::ReduceSum { axes, keep } | Op::ReduceMean { axes, keep }, [x]) => reduce(x, axes, *keep),
        (Op::ExpandLike, [x, like]) => expand(x, like),
        (Op::Count(axes), [x]) => reduce(x, axes, false).map(|_| Vec::new()),
        _ => Err("wrong number of operands or axes".to_owned()),
    };
    Ok(vec![(Element::F32, Shape::new(result.map_err(fail)?))])
}

fn dequantize(numbers: &[Dim], factors: &[Dim], block: usize) -> Result<Vec<Dim>, String> {
    let ([rows, columns], [own_rows, blocks]) = (numbers, factors) else { return Err("both operands must be matrices".to_owned()) };
    let fits = columns.size().is_some_and(|columns| blocks.size().is_some_and(|blocks| blocks * block == columns));
    if rows == own_rows && fits { Ok(numbers.to_vec()) } else { Err("the factors do not fit the numbers".to_owned()) }
}

fn swap(dims: &[Dim], transpose: bool) -> [&Dim; 2] {
    let [.., a, b] = dims else { unreachable!("the caller checks the rank") };
    if transpose { [b, a] } else { [a, b] }
}

fn gemm(a: &[Dim], b: &[Dim], bias: Option<&[Dim]>, transpose_a: bool, transpose_b: bool) -> Result<Vec<Dim>, String> {
    if a.len() != 2 || b.len() != 2 {
        return Err("both operands must be matrices".to_owned());
    }
    let product = matmul(a, b, transpose_a, transpose_b)?;
    match bias {
        Some(bias) if expand(bias, &product).is_err() => Err(format!("the sum cannot be repeated to {}", Shape::new(product))),
        _ => Ok(product),
    }
}

fn matmul(a: &[Dim], b: &[Dim], transpose_a: bool, transpose_b: bool) -> Result<Vec<Dim>, String> {
    if a.len() < 2 || b.len() < 2 {
        return Err("both operands need two axes".to_owned());
    }
    let lead = &a[..a.len() - 2];
    let one_matrix = b.len() == 2 && (lead.is_empty() || !transpose_a);
    if !one_matrix && *lead != b[..b.len() - 2] {
        return Err("the leading axes differ".to_owned());
    }
    let ([m, inner_a], [inner_b, n]) = (swap(a, transpose_a), swap(b, transpose_b));
    if inner_a != inner_b {
        return Err(format!("the inner dimensions {inner_a} and {inner_b} differ"));
    }
    Ok([lead, &[m.clone(), n.clone()]].concat())
}

fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, String> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1);
    let at = |dims: &[Dim], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(one.clone(), |i| dims[i].clone());
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (a, b) if a == b || b.is_one() => Ok(a),
            (a, b) if a.is_one() => Ok(b),
            (a, b) => Err(format!("{a} and {b} cannot be broadcast")),
        })
        .collect()
}

fn expand(x: &[Dim], like: &[Dim]) -> Result<Vec<Dim>, String> {
    match broadcast(x, like)? {
        shape if shape == like => Ok(shape),
        shape => Err(format!("the result would be {}", Shape::new(shape))),
    }
}

fn layer_norm(x: &[Dim], scale: &[Dim], bias: &[Dim]) -> Result<Results, String> {
    let Some(last) = x.last() else { return Err("a scalar has no axis".to_owned()) };
    if [scale, bias].iter().any(|w| **w != [last.clone()]) {
        return Err(format!("scale and bias must have the shape [{last}]"));
    }
    let mut statistics = x.to_vec();
    statistics[x.len() - 1] = Dim::from(1);
    Ok([x, &statistics, &statistics].map(|dims| (Element::F32, Shape::new(dims.to_vec()))).to_vec())
}

fn rms_norm(x: &[Dim], scale: &[Dim]) -> Result<Results, String> {
    let Some(last) = x.last() else { return Err("a scalar has no axis".to_owned()) };
    if *scale != [last.clone()] {
        return Err(format!("the scale must have the shape [{last}]"));
    }
    let roots = reduce(x, &[x.len() - 1], true)?;
    Ok([x.to_vec(), roots].map(|dims| (Element::F32, Shape::new(dims))).to_vec())
}

fn scatter(like: &[Dim], indices: &[Dim], rows: &[Dim]) -> Result<Vec<Dim>, String> {
    if rows != [indices, &like[1..]].concat() {
        return Err("the rows do not have the shape of the indices and a row".to_owned());
    }
    Ok(like.to_vec())
}

fn fixed(x: &[Dim], axis: usize) -> Result<usize, String> {
    x.get(axis).and_then(Dim::size).ok_or_else(|| format!("axis {axis} is missing or symbolic"))
}

fn resize(x: &[Dim], axis: usize, to: impl FnOnce(usize) -> Option<usize>) -> Result<Vec<Dim>, String> {
    let size = fixed(x, axis)?;
    let mut dims = x.to_vec();
    dims[axis] = to(size).ok_or_else(|| format!("axis {axis} has only {size} elements"))?.into();
    Ok(dims)
}

fn slice(x: &[Dim], axis: usize, start: usize, end: usize) -> Result<Vec<Dim>, String> {
    resize(x, axis, |size| (start < end && end <= size).then(|| end - start))
}

fn concat(parts: &[&[Dim]], axis: usize) -> Result<Vec<Dim>, String> {
    let Some((first, rest)) = parts.split_first() else { return Err("nothing to join".to_owned()) };
    let mut total = fixed(first, axis)?;
    for part in rest {
        total += fixed(part, axis)?;
        let alike = part.len() == first.len() && (0..first.len()).all(|i| i == axis || part[i] == first[i]);
        if !alike {
            return Err(format!("the parts differ outside axis {axis}"));
        }
    }
    resize(first, axis, |_| Some(total))
}

fn split(x: &[Dim], axis: usize, sizes: &[usize]) -> Result<Results, String> {
    let size = fixed(x, axis)?;
    if sizes.iter().sum::<usize>() != size || sizes.contains(&0) {
        return Err(format!("the parts do not add up to {size}"));
    }
    sizes.iter().map(|part| Ok((Element::F32, Shape::new(resize(x, axis, |_| Some(*part))?)))).collect()
}

fn reshape(x: &[Dim], shape: &Shape) -> Result<Vec<Dim>, String> {
    let (have, want) = (Shape::new(x.to_vec()).count(), shape.count());
    if have != want {
        return Err(format!("{have} elements do not fit into {shape}"));
    }
    if unplaced(x, shape).count() > 1 || have.size() == Some(0) {
        return Err(format!("{shape} has two symbolic axes that moved, or no elements"));
    }
    Ok(shape.dims().to_vec())
}

/// The symbolic axes of the new shape that are not at the same place in the old one. ONNX can compute one of them.
pub(super) fn unplaced<'a>(x: &'a [Dim], shape: &'a Shape) -> impl Iterator<Item = usize> + 'a {
    shape.dims().iter().enumerate().filter(|(axis, dim)| dim.size().is_none() && x.get(*axis) != Some(dim)).map(|(axis, _)| axis)
}

fn transpose(x: &[Dim], order: &[usize]) -> Result<Vec<Dim>, String> {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..x.len()) {
        return Err("not an order of the axes".to_owned());
    }
    Ok(order.iter().map(|axis| x[*axis].clone()).collect())
}

fn ascending(axes: &[usize]) -> bool {
    axes.windows(2).all(|pair| pair[0] < pair[1])
}

fn unsqueeze(x: &[Dim], axes: &[usize]) -> Result<Vec<Dim>, String> {
    let mut dims = x.to_vec();
    for axis in axes {
        if *axis > dims.len() || !ascending(axes) {
            return Err("axes out of range or order".to_owned());
        }
        dims.insert(*axis, Dim::from(1));
    }
    Ok(dims)
}

fn squeeze(x: &[Dim], axes: &[usize]) -> Result<Vec<Dim>, String> {
    if !ascending(axes) || axes.iter().any(|axis| x.get(*axis).is_none_or(|dim| !dim.is_one())) {
        return Err("an axis to remove is missing, not of size 1 or out of order".to_owned());
    }
    Ok((0..x.len()).filter(|axis| !axes.contains(axis)).map(|axis| x[axis].clone()).collect())
}

fn reduce(x: &[Dim], axes: &[usize], keep: bool) -> Result<Vec<Dim>, String> {
    if !ascending(axes) || axes.last().is_some_and(|axis| *axis >= x.len()) {
        return Err("axes out of range or order".to_owned());
    }
    Ok((0..x.len())
        .filter(|axis| keep || !axes.contains(axis))
        .map(|axis| if axes.contains(&axis) { Dim::from(1) } else { x[axis].clone() })
        .collect())
}
