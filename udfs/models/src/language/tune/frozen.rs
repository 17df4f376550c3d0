//! The weights of a prepared model as floats: what a training leaves as it is.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use half::f16;
use prost::Message as _;

use super::super::decoder::Decoder;
use super::super::graph::WEIGHTS;
use crate::error::{Error, Result};
use crate::net::Parameter;
use crate::onnx::{ModelProto, TensorProto, data_type};

/// The operator's zero point of 8 and of 4 bits.
const ZERO: [f32; 2] = [128.0, 8.0];

/// Everything a model calculates with, as it is served: rounded weights are the floats that they stand for.
#[derive(Debug)]
pub(super) struct Frozen {
    /// Of the norms.
    pub(super) epsilon: f32,
    /// Cosine and sine, `[positions, head_dim / 2]`.
    pub(super) rotary: [Vec<f32>; 2],
    /// `[vocabulary, hidden]`.
    pub(super) embedding: Parameter,
    /// The matrices `[outputs, inputs]`, biases and norms of the layers, the last norm, and the head if it is not the embedding.
    pub(super) weights: HashMap<String, Parameter>,
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
        let mut keep = |parameter: Parameter| weights.insert(parameter.name.clone(), parameter);
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
                keep(reader.vector(&format!("{layer}.qkv.bias"), wide + 2 * narrow)?);
            }
            keep(reader.vector(&format!("{layer}.attention_norm"), hidden)?);
            keep(reader.vector(&format!("{layer}.inner_norm"), hidden)?);
        }
        keep(reader.vector("norm", hidden)?);
        let embedding = reader.matrix("embedding", [facts.vocab, hidden])?;
        if reader.constants.contains_key("head") || reader.head_of_its_own() {
            keep(reader.matrix("head", [facts.vocab, hidden])?);
        }
        let rotary = [reader.floats("cos")?, reader.floats("sin")?];
        Ok(Self { epsilon, rotary, embedding, weights })
    }

    /// The head, which may be the embedding.
    pub(super) fn head(&self) -> &Parameter {
        self.weights.get("head").unwrap_or(&self.embedding)
    }
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

    /// A matrix in whichever form it is kept.
    fn matrix(&self, name: &str, [outputs, inputs]: [usize; 2]) -> Result<Parameter> {
        if self.constants.contains_key(name) {
            return self.sized(name, &[outputs, inputs], self.floats(name)?);
        }
        let quants = self.constant(&format!("{name}.q"))?;
        let (bytes, scales) = (self.bytes(quants, 1)?, self.floats(&format!("{name}.s"))?);
        let blocks = scales.len() / outputs.max(1);
        let row = bytes.len() / outputs.max(1);
        if blocks == 0 || row == 0 || scales.len() != blocks * outputs || bytes.len() != row * outputs {
            return Err(Error::corrupt(&self.object, format!("{name} has {} bytes and {} scales", bytes.len(), scales.len())));
        }
        let offsets = format!("{name}.c");
        let offsets = self.constants.contains_key(&*offsets).then(|| self.floats(&offsets)).transpose()?;
        // Blocks may reach beyond the row; two values of 4 bits are in a byte.
        let four = row < inputs;
        let values_of_row = if four { 2 * row } else { row };
        let block = match quants.dims.as_slice() {
            [_, _, blob] => usize::try_from(*blob).unwrap_or(0) * if four { 2 } else { 1 },
            _ => inputs.div_ceil(blocks).next_power_of_two(),
        };
        if values_of_row < inputs || block * blocks < inputs {
            return Err(Error::corrupt(&self.object, format!("{name} has rows of {row} bytes")));
        }
        let mut values = Vec::with_capacity(outputs * inputs);
        for (output, row) in bytes.chunks_exact(row).enumerate() {
            for input in 0..inputs {
                let (place, zero) = (output * blocks + input / block, ZERO[usize::from(four)]);
                let quant = if four { row[input / 2] >> (4 * (input % 2)) & 15 } else { row[input] };
                let offset = offsets.as_ref().map_or(0.0, |offsets| offsets[place]);
                values.push(scales[place] * (f32::from(quant) - zero) + offset);
            }
        }
        self.sized(name, &[outputs, inputs], values)
    }
}
