//! The weights of a prepared model: what a training leaves as it is. Rounded ones stay rounded until a product needs them (Dettmers et al. 2023).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use half::f16;
use ort::session::SessionInputValue;
use ort::value::TensorRef;
use prost::Message as _;

use super::super::decoder::Decoder;
use super::super::graph::WEIGHTS;
use crate::error::{Error, Result};
use crate::net::Parameter;
use crate::onnx::{ModelProto, TensorProto, data_type};

/// The operator's zero point of 8 and of 4 bits.
const ZERO: [i16; 2] = [128, 8];

/// A weight.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Weight {
    Floats(Parameter),
    Rounded(Rounded),
}

/// A matrix of numbers of 8 bits, of which so many in a row share a factor; blocks fill a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rounded {
    name: String,
    shape: [usize; 2],
    block: usize,
    numbers: Vec<i8>,
    factors: Vec<f32>,
}

impl Weight {
    fn name(&self) -> &str {
        match self {
            Self::Floats(weight) => &weight.name,
            Self::Rounded(weight) => &weight.name,
        }
    }

    /// How many numbers of a row share a factor; none of floats.
    pub(super) fn block(&self) -> Option<usize> {
        match self {
            Self::Floats(_) => None,
            Self::Rounded(weight) => Some(weight.block),
        }
    }

    /// Adds the floats of a row.
    pub(super) fn row(&self, row: usize, floats: &mut Vec<f32>) {
        match self {
            Self::Floats(Parameter { shape, values, .. }) => {
                let width = shape.last().copied().unwrap_or(1);
                floats.extend_from_slice(&values[row * width..][..width]);
            }
            Self::Rounded(Rounded { shape: [_, width], block, numbers, factors, .. }) => {
                let factors = &factors[row * (width / block)..];
                for (numbers, factor) in numbers[row * width..][..*width].chunks(*block).zip(factors) {
                    floats.extend(numbers.iter().map(|number| factor * f32::from(*number)));
                }
            }
        }
    }

    /// As floats.
    pub(super) fn floats(&self) -> Parameter {
        match self {
            Self::Floats(weight) => weight.clone(),
            Self::Rounded(Rounded { name, shape, numbers, .. }) => {
                let mut values = Vec::with_capacity(numbers.len());
                (0..shape[0]).for_each(|row| self.row(row, &mut values));
                Parameter { name: name.clone(), shape: shape.to_vec(), values }
            }
        }
    }

    /// The inputs of a graph that has this weight under a name.
    pub(super) fn inputs<'i>(&'i self, name: &'i str) -> Result<Vec<(Cow<'i, str>, SessionInputValue<'i>)>> {
        Ok(match self {
            Self::Floats(Parameter { shape, values, .. }) => {
                vec![(name.into(), TensorRef::from_array_view((shape.clone(), values.as_slice()))?.into())]
            }
            Self::Rounded(Rounded { shape: [rows, columns], block, numbers, factors, .. }) => {
                let numbers = TensorRef::from_array_view(([*rows, *columns], numbers.as_slice()))?;
                let factors = TensorRef::from_array_view(([*rows, columns / block], factors.as_slice()))?;
                vec![(format!("{name}.q").into(), numbers.into()), (format!("{name}.s").into(), factors.into())]
            }
        })
    }
}

/// Everything a model calculates with, as it is served.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    /// Of the norms.
    pub(super) epsilon: f32,
    /// Cosine and sine, `[positions, head_dim / 2]`.
    pub(super) rotary: [Vec<f32>; 2],
    /// `[vocabulary, hidden]`.
    pub(super) embedding: Weight,
    /// The matrices `[outputs, inputs]`, biases and norms of the layers, the last norm, and the head if it is not the embedding.
    pub(super) weights: HashMap<String, Weight>,
}

impl Frozen {
    /// Reads a model. Errors: [`Error::Corrupt`], [`Error::Io`].
    pub(super) fn read(decoder: &Decoder) -> Result<Self> {
        let path = decoder.graph();
        let object = path.display().to_string();
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let graph = ModelProto::decode(bytes.as_slice()).map_err(|error| Error::corrupt(&object, error))?.graph.unwrap_or_default();
        let norm = graph.node.iter().find(|node| node.op_type == "SimplifiedLayerNormalization");
        let epsilon = norm.and_then(|node| node.attribute.iter().find(|attribute| attribute.name == "epsilon"));
        let epsilon = epsilon.ok_or_else(|| Error::corrupt(&object, "it has no norm"))?.f;
        let path = decoder.folder().join(WEIGHTS);
        let file = File::open(&path).map_err(Error::io(&path))?;
        let reader =
            Reader { object, file, path, constants: graph.initializer.iter().map(|constant| (&*constant.name, constant)).collect() };

        let facts = decoder.facts();
        let (hidden, wide, narrow) = (facts.hidden, facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim);
        let mut weights = HashMap::new();
        let mut keep = |weight: Weight| weights.insert(weight.name().to_owned(), weight);
        for layer in 0..facts.layers {
            let matrices = [
                ("qkv", wide + 2 * narrow, hidden),
                ("o", hidden, wide),
                ("gate_up", 2 * facts.inner, hidden),
                ("down", hidden, facts.inner),
            ];
            for (name, outputs, inputs) in matrices {
                keep(reader.matrix(&format!("{layer}.{name}"), [outputs, inputs])?);
            }
            if reader.constants.contains_key(&*format!("{layer}.qkv.bias")) {
                keep(Weight::Floats(reader.vector(&format!("{layer}.qkv.bias"), wide + 2 * narrow)?));
            }
            keep(Weight::Floats(reader.vector(&format!("{layer}.attention_norm"), hidden)?));
            keep(Weight::Floats(reader.vector(&format!("{layer}.inner_norm"), hidden)?));
        }
        keep(Weight::Floats(reader.vector("norm", hidden)?));
        let embedding = reader.matrix("embedding", [facts.vocab, hidden])?;
        if reader.constants.contains_key("head") || reader.head_of_its_own() {
            keep(reader.matrix("head", [facts.vocab, hidden])?);
        }
        let rotary = [reader.floats("cos")?, reader.floats("sin")?];
        Ok(Self { epsilon, rotary, embedding, weights })
    }

    /// The weight of this name. The head may be the embedding.
    ///
    /// Errors: [`Error::Graph`] without one.
    pub(super) fn weight(&self, name: &str) -> Result<&Weight> {
        let own = self.weights.get(name).or_else(|| (name == "head").then_some(&self.embedding));
        own.ok_or_else(|| Error::graph(format!("the model has no {name}")))
    }

    /// The same with floats for what is rounded.
    pub(super) fn floats(&self) -> Self {
        let floats = |weight: &Weight| Weight::Floats(weight.floats());
        let weights = self.weights.iter().map(|(name, weight)| (name.clone(), floats(weight))).collect();
        Self { embedding: floats(&self.embedding), weights, rotary: self.rotary.clone(), ..*self }
    }
}

/// A matrix whose blocks may reach beyond the row, with blocks that do not: as floats, if they became as small as to take more memory.
fn even(matrix: Rounded) -> Weight {
    const SMALLEST: usize = 8;
    let Rounded { name, shape: [rows, columns], block, numbers, factors } = matrix;
    let own = (1..=block).rev().find(|own| block % own == 0 && columns % own == 0).unwrap_or(1);
    let blocks = columns.div_ceil(block);
    let factors = (0..rows).flat_map(|row| (0..columns / own).map(move |at| row * blocks + at * own / block)).map(|at| factors[at]);
    let even = Weight::Rounded(Rounded { name, shape: [rows, columns], block: own, numbers, factors: factors.collect() });
    if own < SMALLEST { Weight::Floats(even.floats()) } else { even }
}

struct Reader<'a> {
    object: String,
    path: std::path::PathBuf,
    file: File,
    constants: HashMap<&'a str, &'a TensorProto>,
}

impl Reader<'_> {
    /// Whether the rounded head has bytes of its own.
    fn head_of_its_own(&self) -> bool {
        let place = |name: &str| self.constants.get(name).and_then(|constant| constant.place());
        place("head.q").is_some_and(|own| place("embedding.q") != Some(own))
    }

    fn constant(&self, name: &str) -> Result<&TensorProto> {
        self.constants.get(name).copied().ok_or_else(|| Error::corrupt(&self.object, format!("it has no {name}")))
    }

    fn bytes(&self, constant: &TensorProto, width: usize) -> Result<Vec<u8>> {
        let Some(place) = constant.place() else { return Ok(constant.raw_data.clone()) };
        let count = constant.dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).product::<usize>();
        let mut bytes = vec![0; count * width];
        self.file.read_exact_at(&mut bytes, place).map_err(Error::io(&self.path))?;
        Ok(bytes)
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let constant = self.constant(name)?;
        if constant.data_type == data_type::FLOAT16 {
            let bytes = self.bytes(constant, 2)?;
            return Ok(bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect());
        }
        Ok(self.bytes(constant, 4)?.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn sized(&self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<Parameter> {
        if values.len() != shape.iter().product::<usize>() {
            return Err(Error::corrupt(&self.object, format!("{name} has {} values", values.len())));
        }
        Ok(Parameter { name: name.to_owned(), shape: shape.to_vec(), values })
    }

    fn vector(&self, name: &str, length: usize) -> Result<Parameter> {
        self.sized(name, &[length], self.floats(name)?)
    }

    /// A matrix in whichever form it is kept. Of 4 bits it takes 8 here; with offsets it is floats.
    fn matrix(&self, name: &str, [outputs, inputs]: [usize; 2]) -> Result<Weight> {
        if self.constants.contains_key(name) {
            return Ok(Weight::Floats(self.sized(name, &[outputs, inputs], self.floats(name)?)?));
        }
        let quants = self.constant(&format!("{name}.q"))?;
        let (bytes, factors) = (self.bytes(quants, 1)?, self.floats(&format!("{name}.s"))?);
        let blocks = factors.len() / outputs.max(1);
        let row = bytes.len() / outputs.max(1);
        if blocks == 0 || row == 0 || factors.len() != blocks * outputs || bytes.len() != row * outputs {
            return Err(Error::corrupt(&self.object, format!("{name} has {} bytes and {} scales", bytes.len(), factors.len())));
        }
        // Blocks may reach beyond the row; two values of 4 bits are in a byte.
        let four = row < inputs;
        let values_of_row = if four { 2 * row } else { row };
        let block = match quants.dims.as_slice() {
            [_, _, blob] => usize::try_from(*blob).unwrap_or(0) * if four { 2 } else { 1 },
            _ => inputs.div_ceil(blocks).next_power_of_two(),
        };
        if values_of_row < inputs || block == 0 || blocks != inputs.div_ceil(block) {
            return Err(Error::corrupt(&self.object, format!("{name} has rows of {row} bytes in {blocks} blocks")));
        }
        let zero = ZERO[usize::from(four)];
        let mut numbers = Vec::with_capacity(outputs * inputs);
        for row in bytes.chunks_exact(row) {
            let number = |input: usize| if four { row[input / 2] >> (4 * (input % 2)) & 15 } else { row[input] };
            numbers.extend((0..inputs).map(|input| (i16::from(number(input)) - zero) as i8));
        }
        let rounded = even(Rounded { name: name.to_owned(), shape: [outputs, inputs], block, numbers, factors });
        let offsets = format!("{name}.c");
        if !self.constants.contains_key(&*offsets) {
            return Ok(rounded);
        }
        let offsets = self.sized(&offsets, &[outputs, blocks], self.floats(&offsets)?)?.values;
        let mut floats = rounded.floats();
        for (row, offsets) in floats.values.chunks_exact_mut(inputs).zip(offsets.chunks_exact(blocks)) {
            for (values, offset) in row.chunks_mut(block).zip(offsets) {
                values.iter_mut().for_each(|value| *value += offset);
            }
        }
        Ok(Weight::Floats(floats))
    }
}
