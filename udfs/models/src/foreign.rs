//! Graphs that were made elsewhere and score plain columns: gradient boosting, scikit-learn, any net that was exported to ONNX.

mod external;
mod outline;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, Tensor};

pub use self::outline::{Element, Input, Outline};
use crate::click::Scores;
use crate::error::{Error, Result};
use crate::runtime::{Runtime, SessionPool};

/// The graph among the files of a version.
pub(crate) const GRAPH: &str = "model.onnx";

/// Rows per call of the runtime.
const CHUNK: usize = 1024;

/// The values of a column.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "as the elements of the same names")]
pub enum Column {
    Float(Vec<f32>),
    Double(Vec<f64>),
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

/// Rows of plain columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plain {
    /// Number of rows.
    pub rows: usize,
    /// As [`Outline::columns`] lists them; each has a value for every row.
    pub columns: Vec<Column>,
}

/// A graph that was made elsewhere, ready to score. It may be used by many threads at a time.
pub struct Foreign {
    object: String,
    outline: Outline,
    pool: SessionPool,
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").field("outline", &self.outline).finish_non_exhaustive()
    }
}

impl Foreign {
    /// A graph that was tried before; `object` is named in errors.
    pub(crate) fn new(runtime: &Arc<Runtime>, object: &str, outline: Outline, graph: Vec<u8>) -> Result<Self> {
        external::refuse(object, &graph)?;
        Ok(Self { object: object.to_owned(), outline, pool: SessionPool::new(Arc::clone(runtime), graph)? })
    }

    /// Finds out what a graph takes and gives, and tries it with one row. `names` are the columns of inputs that take several of them.
    ///
    /// Errors: [`Error::Data`] when its inputs are not plain columns or no output is a probability, [`Error::Runtime`] when the runtime does
    /// not take it.
    pub(crate) fn examine(runtime: &Arc<Runtime>, object: &str, graph: &[u8], names: &[String]) -> Result<Outline> {
        external::refuse(object, graph)?;
        let mut session = runtime.session(graph, 1)?;
        let outlets = |outlets: &[ort::value::Outlet]| outlets.iter().map(|o| (o.name().to_owned(), o.dtype().clone())).collect::<Vec<_>>();
        let (inputs, outputs) = (outlets(session.inputs()), outlets(session.outputs()));
        let inputs = outline::inputs(object, &inputs, names)?;
        let outline = Outline { inputs, output: outline::output(object, &outputs)? };
        let probability = run(&mut session, object, &outline, &outline.sample(), 0..1)?[0];
        if !probability.is_nan() && !(0.0..=1.0).contains(&probability) {
            let reason =
                format!("the output \"{}\" of {object} is {probability} for a row of zeros, so it is no probability", outline.output);
            return Err(Error::data(reason, "export the classifier with its probabilities, not a regression or raw scores"));
        }
        Ok(outline)
    }

    /// What it takes and gives.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// The probability for each row; NaN where the graph gives no number, as some do for a NULL.
    ///
    /// Errors: [`Error::Data`] when the rows do not have its columns, [`Error::Runtime`].
    pub fn predict(&self, rows: &Plain) -> Result<Scores> {
        self.outline.check(rows)?;
        let mut values = Vec::with_capacity(rows.rows);
        for start in (0..rows.rows).step_by(CHUNK) {
            let part = start..rows.rows.min(start + CHUNK);
            let part = self.pool.with(|worker| run(&mut worker.session, &self.object, &self.outline, rows, part))?;
            // NaN stays.
            values.extend(part.into_iter().map(|p| p.clamp(0.0, 1.0)));
        }
        Ok(Scores::new(1, values))
    }
}

/// The probabilities of some rows, as the graph gives them.
fn run(session: &mut Session, object: &str, outline: &Outline, rows: &Plain, part: Range<usize>) -> Result<Vec<f32>> {
    let count = part.len();
    let mut columns = rows.columns.as_slice();
    let mut inputs = Vec::with_capacity(outline.inputs.len());
    for input in &outline.inputs {
        let (own, rest) = columns.split_at(input.columns.len());
        columns = rest;
        let shape = if input.matrix { vec![count, own.len()] } else { vec![count] };
        inputs.push((input.name.as_str(), tensor(input.element, shape, own, part.clone())?));
    }
    // Labels and the like are not computed.
    let options = RunOptions::new()?.with_outputs(OutputSelector::no_default().with(outline.output.as_str()));
    let answer = session.run_with_options(inputs, &options)?;
    let output = answer.get(&outline.output);
    probabilities(object, &outline.output, output.ok_or_else(|| Error::data(format!("{object} gave no output"), "export it again"))?, count)
}

/// Rows of columns of one element type as a tensor.
fn tensor(element: Element, shape: Vec<usize>, columns: &[Column], rows: Range<usize>) -> Result<SessionInputValue<'static>> {
    macro_rules! joined {
        ($kind:ident) => {
            join(columns.iter().filter_map(|c| if let Column::$kind(values) = c { Some(values.as_slice()) } else { None }).collect(), rows)
        };
    }
    Ok(match element {
        Element::Float => Tensor::from_array((shape, joined!(Float)))?.into(),
        Element::Double => Tensor::from_array((shape, joined!(Double)))?.into(),
        Element::Int64 => Tensor::from_array((shape, joined!(Int64)))?.into(),
        Element::Int32 => Tensor::from_array((shape, joined!(Int32)))?.into(),
        Element::Bool => Tensor::from_array((shape, joined!(Bool)))?.into(),
        Element::Text => Tensor::from_string_array((shape, joined!(Text).as_slice()))?.into(),
    })
}

/// Rows of columns, row by row.
fn join<T: Clone>(columns: Vec<&[T]>, rows: Range<usize>) -> Vec<T> {
    match columns.as_slice() {
        [one] => one[rows].to_vec(),
        columns => rows.flat_map(|row| columns.iter().map(move |values| values[row].clone())).collect(),
    }
}

/// The probabilities in an output: `[n]`, `[n, 1]`, or the second column of `[n, 2]`.
fn probabilities(object: &str, output: &str, value: &DynValue, rows: usize) -> Result<Vec<f32>> {
    let (shape, values) = match value.try_extract_tensor::<f32>() {
        Ok((shape, values)) => (shape, values.to_vec()),
        Err(_) => {
            let (shape, values) = value.try_extract_tensor::<f64>()?;
            (shape, values.iter().map(|value| *value as f32).collect())
        }
    };
    let n = rows as i64;
    match **shape {
        [count] | [count, 1] if count == n => Ok(values),
        [count, 2] if count == n => Ok(values.chunks_exact(2).map(|pair| pair[1]).collect()),
        _ => {
            let reason = format!("the output \"{output}\" of {object} has shape {:?} for {rows} rows", &**shape);
            Err(Error::data(reason, "it must be a probability for each row, or those of two classes: [n], [n, 1] or [n, 2]"))
        }
    }
}

#[cfg(test)]
mod tests;
