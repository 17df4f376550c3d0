//! What a graph from elsewhere takes and gives.

use ort::value::{TensorElementType, ValueType};
use serde::{Deserialize, Serialize};

use super::{Column, Plain};
use crate::error::{Error, Result};

/// The inputs of a graph by columns, and the output that is the probability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// The inputs.
    pub inputs: Vec<Input>,
    /// The name of the output.
    pub output: String,
}

/// An input of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its name in the graph.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// Whether it has the shape `[n, columns]` instead of `[n]`.
    pub matrix: bool,
    /// The columns it takes.
    pub columns: Vec<String>,
}

/// The type of an input's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// 32-bit floats; NaN is NULL.
    Float,
    /// 64-bit floats; NaN is NULL.
    Double,
    /// 64-bit integers.
    Int64,
    /// 32-bit integers.
    Int32,
    /// Booleans.
    Bool,
    /// Texts.
    Text,
}

impl Element {
    /// The SQL type of its columns.
    pub fn sql_type(self) -> &'static str {
        match self {
            Self::Float => "real",
            Self::Double => "double precision",
            Self::Int64 => "bigint",
            Self::Int32 => "integer",
            Self::Bool => "boolean",
            Self::Text => "text",
        }
    }
}

impl Outline {
    /// All columns with the types of their elements, in the order of the inputs.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Element)> {
        self.inputs.iter().flat_map(|input| input.columns.iter().map(|column| (column.as_str(), input.element)))
    }

    /// A row of zeros and empty texts.
    pub(super) fn sample(&self) -> Plain {
        let zero = |element| match element {
            Element::Float => Column::Float(vec![0.0]),
            Element::Double => Column::Double(vec![0.0]),
            Element::Int64 => Column::Int64(vec![0]),
            Element::Int32 => Column::Int32(vec![0]),
            Element::Bool => Column::Bool(vec![false]),
            Element::Text => Column::Text(vec![String::new()]),
        };
        Plain { rows: 1, columns: self.columns().map(|(_, element)| zero(element)).collect() }
    }

    /// Checks that rows have the columns.
    pub(super) fn check(&self, rows: &Plain) -> Result<()> {
        let fits = |(column, element): (&Column, Element)| match (column, element) {
            (Column::Float(values), Element::Float) => values.len() == rows.rows,
            (Column::Double(values), Element::Double) => values.len() == rows.rows,
            (Column::Int64(values), Element::Int64) => values.len() == rows.rows,
            (Column::Int32(values), Element::Int32) => values.len() == rows.rows,
            (Column::Bool(values), Element::Bool) => values.len() == rows.rows,
            (Column::Text(values), Element::Text) => values.len() == rows.rows,
            _ => false,
        };
        let elements: Vec<Element> = self.columns().map(|(_, element)| element).collect();
        if rows.columns.len() == elements.len() && rows.columns.iter().zip(elements).all(fits) {
            return Ok(());
        }
        let columns: Vec<String> = self.columns().map(|(name, element)| format!("{name} {}", element.sql_type())).collect();
        Err(Error::data(format!("the rows do not have the columns {}", columns.join(", ")), "pass every column of the model, in its order"))
    }
}

/// The inputs of a graph as columns; `names` are those of the inputs that take several.
pub(super) fn inputs(object: &str, inputs: &[(String, ValueType)], names: &[String]) -> Result<Vec<Input>> {
    let mut given = names.iter().cloned();
    let mut found: Vec<Input> = Vec::new();
    let wide = |dims: &[i64]| matches!(dims, [_, width] if *width != 1);
    let unnamed: usize = inputs.iter().filter(|(_, kind)| kind.tensor_shape().is_some_and(|shape| wide(shape))).count();
    for (name, kind) in inputs {
        let refused = |reason: String| Error::data(format!("the input \"{name}\" of {object} {reason}"), HINT);
        let ValueType::Tensor { ty, shape, .. } = kind else { return Err(refused("is no tensor".to_owned())) };
        let element = match ty {
            TensorElementType::Float32 => Element::Float,
            TensorElementType::Float64 => Element::Double,
            TensorElementType::Int64 => Element::Int64,
            TensorElementType::Int32 => Element::Int32,
            TensorElementType::Bool => Element::Bool,
            TensorElementType::String => Element::Text,
            other => return Err(refused(format!("has elements of type {other}"))),
        };
        let columns = match **shape {
            [rows, ..] if rows >= 0 => return Err(refused(format!("takes exactly {rows} rows at a time"))),
            [_] | [_, 1] => vec![name.clone()],
            // The width is not said, so it is that of the names.
            [_, width] if width < 0 && unnamed == 1 && !names.is_empty() => given.by_ref().collect(),
            [_, width] if width < 0 => return Err(refused("does not say how many columns it takes; name them with --columns".to_owned())),
            [_, width] if names.is_empty() => (0..width).map(|column| format!("f{column}")).collect(),
            [_, width] => given.by_ref().take(width as usize).collect(),
            _ => return Err(refused(format!("has shape {:?}", &**shape))),
        };
        if let [_, width] = **shape
            && width > 0
            && columns.len() as i64 != width
        {
            return Err(refused(format!("takes {width} columns, but {} are named for it", columns.len())));
        }
        found.push(Input { name: name.clone(), element, matrix: shape.len() == 2, columns });
    }
    let (mut all, left): (Vec<&String>, Vec<String>) = (found.iter().flat_map(|input| &input.columns).collect(), given.collect());
    if !left.is_empty() {
        return Err(Error::data(format!("{object} has no input for the columns {}", left.join(", ")), HINT));
    }
    all.sort();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(Error::data(format!("{object} takes two columns called \"{}\"", pair[0]), "give them different names with --columns"))
        }
        None if all.is_empty() => Err(Error::data(format!("{object} has no inputs"), HINT)),
        None => Ok(found),
    }
}

const HINT: &str = "inputs are columns: tensors of floats, integers, booleans or strings with a dynamic number of rows, \
                    [n] or [n, 1] for a column of that name, [n, k] for k columns";

/// The output that is the probability: the one that is called so, else the only one of floats.
pub(super) fn output(object: &str, outputs: &[(String, ValueType)]) -> Result<String> {
    let floats = |kind: &ValueType| match kind {
        ValueType::Tensor { ty: TensorElementType::Float32 | TensorElementType::Float64, shape, .. } => (1..=2).contains(&shape.len()),
        _ => false,
    };
    let candidates: Vec<&String> = outputs.iter().filter(|(_, kind)| floats(kind)).map(|(name, _)| name).collect();
    let called: Vec<&&String> = candidates.iter().filter(|name| name.to_lowercase().contains("prob")).collect();
    match (candidates.as_slice(), called.as_slice()) {
        (_, [one]) => Ok((**one).clone()),
        ([one], _) => Ok((*one).clone()),
        ([], _) if outputs.iter().any(|(_, kind)| matches!(kind, ValueType::Sequence(_) | ValueType::Map { .. })) => {
            let reason = format!("{object} gives its probabilities as a list of maps (ZipMap)");
            Err(Error::data(reason, "export it without that: zipmap=False, in skl2onnx options={id(model): {'zipmap': False}}"))
        }
        ([], _) => Err(Error::data(format!("{object} has no output of floats"), "export the classifier with its probabilities")),
        _ => {
            let names = candidates.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            Err(Error::data(format!("{object} has several outputs that could be the probability: {names}"), "export it with one of them"))
        }
    }
}
