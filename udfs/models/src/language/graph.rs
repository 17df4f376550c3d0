//! Writes a decoder as an ONNX graph with its weights in a file beside it.
//!
//! Inputs, with `B` rows, `S` new tokens a row (padded on the right), `P` wanted positions and a cache of `C` positions:
//! - `ids` int64 `[B, S]`, `query_seqlens` int32 `[B]`: the new tokens and how many of them are no padding;
//! - `positions` int64 `[B, P, 1]`: indices into the new tokens whose logits are wanted;
//! - `seqlens_k` int32 `[B]`: the length with the new tokens, less one; `total` int32 scalar: the largest length;
//! - `past_key.{l}`, `past_value.{l}` `[B, kv_heads, C, head_dim]` for each layer;
//! - with adapters also `lora.{l}.{qkv,o,gate_up,down}.a` `[in, r]` and `.b` `[r, out]`.
//!
//! Outputs are `logits` float `[B, P, V]` and `present_key.{l}`, `present_value.{l}`, to be bound to the buffers of the past.
//! For every row, the past and the padded new tokens must fit into `C`: a rule of `GroupQueryAttention`.
//! Cache and adapters are float, with [`Precision::F16`] float16.

use std::path::{Path, PathBuf};

use half::f16;

use super::blocks::{self, GROUP, Kind};
use super::config::{Config, LARGEST_VOCABULARY};
use super::decoder::{Form, Precision};
use super::quantise;
use super::weights::{Matrix, Part, Role, Weights};
use crate::error::{Error, Result};
use crate::graph::lower::{IR_VERSION, MICROSOFT};
use crate::onnx::{
    AttributeProto, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};
use crate::prepared::Data;

/// The file with the weights.
pub(crate) const WEIGHTS: &str = "weights.bin";
const OPSET: i64 = 21;
/// 8-bit values, 32 a scale: as fine as `Q8_0`.
const FINE: usize = 32;

/// The graphs, and what was written beside them.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) plain: ModelProto,
    /// With adapters as inputs.
    pub(crate) lora: ModelProto,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Writes the weights to `folder` and gives the graphs that use them.
pub(crate) fn build(weights: &Weights, config: &Config, form: Form, folder: &Path) -> Result<Built> {
    let mut store = Store::new(weights, config, form, folder.join(WEIGHTS))?;
    let net = store.net()?;
    let graph = |lora| Writer { config, form, net: &net, lora, graph: GraphProto::default() }.finish(&store.tensors);
    let (plain, lora) = (graph(false), graph(true));
    let (bytes, sha256) = store.data.finish()?;
    Ok(Built { plain, lora, bytes, sha256 })
}

/// A matrix product with stored weights.
struct Linear {
    name: String,
    inputs: usize,
    outputs: usize,
    bias: bool,
    packing: Packing,
}

/// How a matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Dense,
    /// 8 bits, as many values a scale.
    Eight(usize),
    /// 4 bits, rounded, as many values a scale.
    Four(usize),
    /// 4 bits as in the file: 32 values a scale and an offset.
    Stored,
}

struct Layer {
    attention_norm: String,
    qkv: Linear,
    output: Linear,
    inner_norm: String,
    gate_up: Linear,
    down: Linear,
}

/// The names of all constants.
struct Net {
    layers: Vec<Layer>,
    /// The values and, in blocks, the scales.
    embedding: Packing,
    norm: String,
    head: Linear,
    vocab: usize,
}

/// Reads the checkpoint and writes the weights.
struct Store<'w> {
    weights: &'w Weights,
    config: &'w Config,
    form: Form,
    data: Data,
    tensors: Vec<TensorProto>,
}

impl<'w> Store<'w> {
    fn new(weights: &'w Weights, config: &'w Config, form: Form, path: PathBuf) -> Result<Self> {
        Ok(Self { weights, config, form, data: Data::create(path)?, tensors: Vec::new() })
    }

    fn net(&mut self) -> Result<Net> {
        let config = self.config;
        self.rotary()?;
        let (embedding, vocab, head) = self.ends()?;
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let mut linear = |name: &str, parts: &[Part]| self.linear(format!("{layer}.{name}"), layer, parts);
            let qkv = linear("qkv", &[Part::Query, Part::Key, Part::Value])?;
            let output = linear("o", &[Part::Output])?;
            let gate_up = linear("gate_up", &[Part::Gate, Part::Up])?;
            let down = linear("down", &[Part::Down])?;
            let attention_norm = self.norm(format!("{layer}.attention_norm"), Role::Layer(layer, Part::AttentionNorm))?;
            let inner_norm = self.norm(format!("{layer}.inner_norm"), Role::Layer(layer, Part::InnerNorm))?;
            layers.push(Layer { attention_norm, qkv, output, inner_norm, gate_up, down });
        }
        let norm = self.norm("norm".to_owned(), Role::LastNorm)?;
        Ok(Net { layers, embedding, norm, head, vocab })
    }

    /// Embedding and head, which share their bytes when the model ties them.
    fn ends(&mut self) -> Result<(Packing, usize, Linear)> {
        let (weights, config) = (self.weights, self.config);
        let embedding = weights.get(config, Role::Embedding)?;
        let vocab = embedding.rows;
        if vocab as u64 > LARGEST_VOCABULARY {
            return Err(Error::corrupt(weights.object(), format!("its vocabulary has {vocab} tokens")));
        }
        let own = match config.tied {
            Some(true) => None,
            Some(false) => Some(weights.get(config, Role::Head)?),
            None => weights.find(config, Role::Head)?,
        };
        if own.as_ref().is_some_and(|head| head.rows != vocab) {
            return Err(Error::corrupt(weights.object(), "its head and its embedding have different vocabularies"));
        }
        let hidden = config.hidden;
        if self.form.precision.is_float() {
            self.dense("embedding", &[embedding])?;
            let name = if let Some(head) = own {
                self.dense("head", &[head])?;
                "head"
            } else {
                "embedding"
            };
            let head = Linear { name: name.to_owned(), inputs: hidden, outputs: vocab, bias: false, packing: Packing::Dense };
            return Ok((Packing::Dense, vocab, head));
        }
        let block = self.embedding_block(embedding.kind);
        let offset = self.table(embedding, block)?;
        let shared = own.is_none() && hidden.is_multiple_of(block);
        let head = if shared {
            let blocks = hidden / block;
            let bytes = (vocab * hidden) as u64;
            self.tensors.push(TensorProto::external("head.q", &[vocab, blocks, block], data_type::UINT8, WEIGHTS, offset, bytes));
            let scales = self.tensors.iter().find(|tensor| tensor.name == "embedding.s").cloned();
            self.tensors.extend(scales.map(|scales| TensorProto {
                name: "head.s".to_owned(),
                dims: vec![(vocab * blocks) as i64],
                ..scales
            }));
            Linear { name: "head".to_owned(), inputs: hidden, outputs: vocab, bias: false, packing: Packing::Eight(block) }
        } else {
            let matrix = own.unwrap_or(embedding);
            let packing = if matrix.kind == Kind::Q8_0 { Packing::Eight(FINE) } else { Packing::Eight(self.form.block) };
            self.store("head", packing, &[matrix])?;
            Linear { name: "head".to_owned(), inputs: hidden, outputs: vocab, bias: false, packing }
        };
        Ok((Packing::Eight(block), vocab, head))
    }

    /// The block of the embedding: a stored one exactly, else the largest one that fills rows evenly, so that the head can use the same bytes.
    fn embedding_block(&self, kind: Kind) -> usize {
        if kind == Kind::Q8_0 {
            return FINE;
        }
        [self.form.block, 64, FINE].into_iter().find(|block| self.config.hidden.is_multiple_of(*block)).unwrap_or(FINE)
    }

    /// The embedding for `GatherBlockQuantized`: as the blocks of a matrix, but without padding. Gives where its values start.
    fn table(&mut self, matrix: Matrix<'_>, block: usize) -> Result<u64> {
        let (rows, columns) = (matrix.rows, matrix.columns);
        let offset = self.data.align()?;
        let mut scales = Vec::new();
        self.eight_bits(matrix, block, columns, &mut scales)?;
        self.tensors.push(TensorProto::external(
            "embedding.q",
            &[rows, columns],
            data_type::UINT8,
            WEIGHTS,
            offset,
            (rows * columns) as u64,
        ));
        self.floats("embedding.s", &[rows, columns.div_ceil(block)], &scales)?;
        Ok(offset)
    }

    /// Cosine and sine of every position.
    fn rotary(&mut self) -> Result<()> {
        let frequencies = self.config.frequencies();
        let dims = [self.config.max_positions, frequencies.len()];
        for (name, function) in [("cos", f64::cos as fn(f64) -> f64), ("sin", f64::sin)] {
            let angles = (0..dims[0]).flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
            let values: Vec<f32> = angles.map(|angle| function(angle) as f32).collect();
            self.activations(name, &dims, &values)?;
        }
        Ok(())
    }

    fn norm(&mut self, name: String, role: Role) -> Result<String> {
        let matrix = self.weights.get(self.config, role)?;
        let values = self.weights.vector(&matrix)?;
        self.small(&name, &values);
        Ok(name)
    }

    /// A short vector, within the graph itself.
    fn small(&mut self, name: &str, values: &[f32]) {
        let tensor = if self.form.precision == Precision::F16 {
            TensorProto::raw(name, &[values.len()], data_type::FLOAT16, halves(values))
        } else {
            TensorProto::floats(name, &[values.len()], values)
        };
        self.tensors.push(tensor);
    }

    /// Several projections of one input, as one matrix product.
    fn linear(&mut self, name: String, layer: usize, parts: &[Part]) -> Result<Linear> {
        let (weights, config) = (self.weights, self.config);
        let matrices = parts.iter().map(|part| weights.get(config, Role::Layer(layer, *part))).collect::<Result<Vec<_>>>()?;
        let inputs = matrices[0].columns;
        let outputs = matrices.iter().map(|matrix| matrix.rows).sum();
        let packing = packing(self.form, &matrices, parts.contains(&Part::Query));
        self.store(&name, packing, &matrices)?;
        let mut biases = Vec::new();
        let mut bias = false;
        for (part, matrix) in parts.iter().zip(&matrices) {
            match weights.find(config, Role::Bias(layer, *part))? {
                None => biases.resize(biases.len() + matrix.rows, 0.0),
                Some(found) => {
                    bias = true;
                    biases.extend(weights.vector(&found)?);
                }
            }
        }
        if bias {
            self.small(&format!("{name}.bias"), &biases);
        }
        Ok(Linear { name, inputs, outputs, bias, packing })
    }

    fn store(&mut self, name: &str, packing: Packing, matrices: &[Matrix<'_>]) -> Result<()> {
        let (inputs, outputs) = (matrices[0].columns, matrices.iter().map(|matrix| matrix.rows).sum::<usize>());
        let mut scales = Vec::new();
        let (bits, block) = match packing {
            Packing::Dense => return self.dense(name, matrices),
            Packing::Eight(block) => (8, block),
            Packing::Four(block) => (4, block),
            Packing::Stored => (4, GROUP),
        };
        let offset = self.data.align()?;
        let blocks = inputs.div_ceil(block);
        let mut offsets = Vec::new();
        for matrix in matrices {
            match packing {
                Packing::Stored => self.stored(*matrix, &mut scales, &mut offsets)?,
                Packing::Four(_) => self.four_bits(*matrix, block, &mut scales)?,
                _ => self.eight_bits(*matrix, block, blocks * block, &mut scales)?,
            }
        }
        let blob = block * bits / 8;
        let dims = [outputs, blocks, blob];
        let length = dims.iter().product::<usize>() as u64;
        self.tensors.push(TensorProto::external(&format!("{name}.q"), &dims, data_type::UINT8, WEIGHTS, offset, length));
        self.floats(&format!("{name}.s"), &[outputs * blocks], &scales)?;
        if offsets.iter().any(|offset| *offset != 0.0) {
            self.floats(&format!("{name}.c"), &[outputs, blocks], &offsets)?;
        }
        Ok(())
    }

    /// Rows rounded to 8 bits, each padded to `width`; values that are stored so already stay as they are.
    fn eight_bits(&mut self, matrix: Matrix<'_>, block: usize, width: usize, scales: &mut Vec<f32>) -> Result<()> {
        let blocks = matrix.columns.div_ceil(block);
        let mut quants = vec![0; width];
        let mut row_scales = vec![0.0; blocks];
        let mut row = vec![0.0; matrix.columns];
        let (weights, data) = (self.weights, &mut self.data);
        matrix.rows(|bytes| {
            if matrix.kind == Kind::Q8_0 && block == GROUP {
                for (index, stored) in bytes.chunks_exact(Kind::Q8_0.bytes()).enumerate() {
                    row_scales[index] = f16::from_le_bytes([stored[0], stored[1]]).to_f32();
                    let out = &mut quants[index * GROUP..][..GROUP];
                    out.iter_mut().zip(&stored[2..]).for_each(|(out, q)| *out = q.wrapping_add(128));
                }
                weights.finite(&row_scales)?;
            } else {
                blocks::dequantise(matrix.kind, bytes, &mut row);
                weights.finite(&row)?;
                quantise::eight_bits(&row, block, &mut quants, &mut row_scales);
            }
            scales.extend_from_slice(&row_scales);
            data.put(&quants)
        })
    }

    fn four_bits(&mut self, matrix: Matrix<'_>, block: usize, scales: &mut Vec<f32>) -> Result<()> {
        let blocks = matrix.columns.div_ceil(block);
        let mut packed = vec![0; blocks * block / 2];
        let mut row_scales = vec![0.0; blocks];
        let mut row = vec![0.0; matrix.columns];
        let (weights, data) = (self.weights, &mut self.data);
        matrix.rows(|bytes| {
            blocks::dequantise(matrix.kind, bytes, &mut row);
            weights.finite(&row)?;
            quantise::four_bits(&row, block, &mut packed, &mut row_scales);
            scales.extend_from_slice(&row_scales);
            data.put(&packed)
        })
    }

    /// 4-bit values as they are in the file. `offsets` is what the operator's own zero point of 8 leaves out.
    fn stored(&mut self, matrix: Matrix<'_>, scales: &mut Vec<f32>, offsets: &mut Vec<f32>) -> Result<()> {
        let groups = matrix.columns / GROUP;
        let mut quants = vec![0; matrix.columns];
        let (mut row_scales, mut least) = (vec![0.0; groups], vec![0.0; groups]);
        let (weights, data) = (self.weights, &mut self.data);
        matrix.rows(|bytes| {
            blocks::four_bits(matrix.kind, bytes, &mut quants, &mut row_scales, &mut least);
            weights.finite(&row_scales)?;
            weights.finite(&least)?;
            scales.extend_from_slice(&row_scales);
            offsets.extend(row_scales.iter().zip(&least).map(|(scale, least)| least + 8.0 * scale));
            let packed: Vec<u8> = quants.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4).collect();
            data.put(&packed)
        })
    }

    /// Floats, row by row.
    fn dense(&mut self, name: &str, matrices: &[Matrix<'_>]) -> Result<()> {
        let (inputs, outputs) = (matrices[0].columns, matrices.iter().map(|matrix| matrix.rows).sum::<usize>());
        let offset = self.data.align()?;
        let mut row = vec![0.0; inputs];
        let half = self.form.precision == Precision::F16;
        let (weights, data) = (self.weights, &mut self.data);
        for matrix in matrices {
            matrix.rows(|bytes| {
                blocks::dequantise(matrix.kind, bytes, &mut row);
                weights.finite(&row)?;
                if half { data.put(&halves(&row)) } else { data.put(&floats(&row)) }
            })?;
        }
        let (element, width) = if half { (data_type::FLOAT16, 2) } else { (data_type::FLOAT, 4) };
        let length = (inputs * outputs * width) as u64;
        self.tensors.push(TensorProto::external(name, &[outputs, inputs], element, WEIGHTS, offset, length));
        Ok(())
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Result<()> {
        let offset = self.data.align()?;
        self.data.put(&floats(values))?;
        self.tensors.push(TensorProto::external(name, dims, data_type::FLOAT, WEIGHTS, offset, 4 * values.len() as u64));
        Ok(())
    }

    /// A table of the type of the activations.
    fn activations(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Result<()> {
        if self.form.precision != Precision::F16 {
            return self.floats(name, dims, values);
        }
        let offset = self.data.align()?;
        self.data.put(&halves(values))?;
        self.tensors.push(TensorProto::external(name, dims, data_type::FLOAT16, WEIGHTS, offset, 2 * values.len() as u64));
        Ok(())
    }
}

/// Files with several formats keep what is finer than 4 bits; plain floats are rounded.
///
/// The operator also rounds its input, with a scale for each block, and where queries and keys come from that is most of what 8 bits lose:
/// they get small blocks always (SmolLM2 with blocks of 128: perplexity 35.7 without, 35.3 with, 35.0 in float; no slower).
fn packing(form: Form, matrices: &[Matrix<'_>], attends: bool) -> Packing {
    let four = |matrix: &Matrix<'_>| matches!(matrix.kind, Kind::Q4_0 | Kind::Q4_1 | Kind::Q4K);
    let fine = |matrix: &Matrix<'_>| matches!(matrix.kind, Kind::F32 | Kind::F16 | Kind::Bf16 | Kind::Q8_0);
    match form.precision {
        Precision::F32 | Precision::F16 => Packing::Dense,
        Precision::Int8 if attends => Packing::Eight(FINE),
        Precision::Int8 => Packing::Eight(form.block),
        Precision::Int4 if matrices.iter().all(four) => Packing::Stored,
        Precision::Int4 if matrices.iter().all(fine) => Packing::Four(form.block),
        Precision::Int4 => Packing::Eight(FINE),
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
}

/// Writes the nodes.
struct Writer<'n> {
    config: &'n Config,
    form: Form,
    net: &'n Net,
    lora: bool,
    graph: GraphProto,
}

impl Writer<'_> {
    fn finish(mut self, tensors: &[TensorProto]) -> ModelProto {
        self.graph.name = "decoder".to_owned();
        self.graph.initializer = tensors.to_vec();
        self.nodes(tensors);
        let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: "stratagem".to_owned(),
            graph: Some(self.graph),
            opset_import: vec![opset("", OPSET), opset(MICROSOFT, 1)],
        }
    }

    /// The element type of activations, caches and adapters.
    fn element(&self) -> i32 {
        if self.form.precision == Precision::F16 { data_type::FLOAT16 } else { data_type::FLOAT }
    }

    fn nodes(&mut self, tensors: &[TensorProto]) {
        let (rows, new, wanted, capacity) = (name("B"), name("S"), name("P"), name("C"));
        self.input("ids", data_type::INT64, [rows.clone(), new]);
        self.input("positions", data_type::INT64, [rows.clone(), wanted.clone(), Dimension::Size(1)]);
        self.input("seqlens_k", data_type::INT32, [rows.clone()]);
        self.input("total", data_type::INT32, []);
        self.input("query_seqlens", data_type::INT32, [rows.clone()]);
        let logits = value_info("logits", data_type::FLOAT, [rows.clone(), wanted, size(self.net.vocab)]);
        self.graph.output.push(logits);
        let cache = [rows, size(self.config.kv_heads), capacity, size(self.config.head_dim)];
        for layer in 0..self.config.layers {
            for part in ["key", "value"] {
                self.input(&format!("past_{part}.{layer}"), self.element(), cache.clone());
                let present = value_info(&format!("present_{part}.{layer}"), self.element(), cache.clone());
                self.graph.output.push(present);
            }
        }
        let mut sum = self.embedding();
        let mut skip = None;
        for (index, layer) in self.net.layers.iter().enumerate() {
            let x = self.norm(&mut sum, skip.take(), &layer.attention_norm);
            let qkv = self.linear(&x, &layer.qkv, Some("qkv"), tensors);
            let attended = self.attention(index, &qkv);
            let output = self.linear(&attended, &layer.output, Some("o"), tensors);
            let x = self.norm(&mut sum, Some(output), &layer.inner_norm);
            let gate_up = self.linear(&x, &layer.gate_up, Some("gate_up"), tensors);
            let inner = self.gated(index, &gate_up);
            skip = Some(self.linear(&inner, &layer.down, Some("down"), tensors));
        }
        let last = self.norm(&mut sum, skip, &self.net.norm);
        let wanted = self.op("", "GatherND", &[&last, "positions"], "wanted", vec![AttributeProto::int("batch_dims", 1)]);
        let half = self.form.precision == Precision::F16;
        let logits = self.linear(&wanted, &self.net.head, None, tensors);
        let cast = AttributeProto::int("to", i64::from(data_type::FLOAT));
        let (op, attributes) = if half { ("Cast", vec![cast]) } else { ("Identity", Vec::new()) };
        self.op("", op, &[&logits], "logits", attributes);
    }

    fn input(&mut self, name: &str, element: i32, dims: impl IntoIterator<Item = Dimension>) {
        self.graph.input.push(value_info(name, element, dims));
    }

    fn op(&mut self, domain: &str, op_type: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> String {
        self.node(domain, op_type, inputs, &[output], attribute);
        output.to_owned()
    }

    fn node(&mut self, domain: &str, op_type: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let name = outputs.first().copied().unwrap_or_default().to_owned();
        let (op_type, domain) = (op_type.to_owned(), domain.to_owned());
        self.graph.node.push(NodeProto { input: own(inputs), output: own(outputs), name, op_type, attribute, domain });
    }

    fn constant(&mut self, tensor: TensorProto) {
        if self.graph.initializer.iter().all(|known| known.name != tensor.name) {
            self.graph.initializer.push(tensor);
        }
    }

    fn embedding(&mut self) -> String {
        let Packing::Eight(block) = self.net.embedding else {
            return self.op("", "Gather", &["embedding", "ids"], "embedded", Vec::new());
        };
        let attributes = vec![
            AttributeProto::int("bits", 8),
            AttributeProto::int("block_size", block as i64),
            AttributeProto::int("gather_axis", 0),
            AttributeProto::int("quantize_axis", 1),
        ];
        self.op(MICROSOFT, "GatherBlockQuantized", &["embedding.q", "ids", "embedding.s"], "embedded", attributes)
    }

    /// The norm of `sum + skip`, which becomes the new sum.
    fn norm(&mut self, sum: &mut String, skip: Option<String>, weight: &str) -> String {
        let output = format!("{weight}.y");
        let epsilon = AttributeProto::float("epsilon", self.config.epsilon);
        match skip {
            None => {
                let attributes = vec![epsilon, AttributeProto::int("axis", -1), AttributeProto::int("stash_type", 1)];
                self.op("", "SimplifiedLayerNormalization", &[sum, weight], &output, attributes)
            }
            Some(skip) => {
                let total = format!("{weight}.sum");
                self.node(MICROSOFT, "SkipSimplifiedLayerNormalization", &[sum, &skip, weight], &[&output, "", "", &total], vec![epsilon]);
                *sum = total;
                output
            }
        }
    }

    fn attention(&mut self, layer: usize, qkv: &str) -> String {
        let past = ["key", "value"].map(|part| format!("past_{part}.{layer}"));
        let present = ["key", "value"].map(|part| format!("present_{part}.{layer}"));
        let output = format!("{layer}.attended");
        let mut inputs = vec![qkv, "", "", &past[0], &past[1], "seqlens_k", "total", "cos", "sin"];
        inputs.resize(16, "");
        inputs.push("query_seqlens");
        let attributes = vec![
            AttributeProto::int("num_heads", self.config.heads as i64),
            AttributeProto::int("kv_num_heads", self.config.kv_heads as i64),
            AttributeProto::int("do_rotary", 1),
            AttributeProto::int("rotary_interleaved", 0),
        ];
        self.node(MICROSOFT, "GroupQueryAttention", &inputs, &[&output, &present[0], &present[1]], attributes);
        output
    }

    /// `silu(gate) * up`.
    fn gated(&mut self, layer: usize, gate_up: &str) -> String {
        let [gate, up, active] = ["gate", "up", "active"].map(|part| format!("{layer}.{part}"));
        let attributes = vec![AttributeProto::int("axis", -1), AttributeProto::int("num_outputs", 2)];
        self.node("", "Split", &[gate_up], &[&gate, &up], attributes);
        self.op(MICROSOFT, "QuickGelu", &[&gate], &active, vec![AttributeProto::float("alpha", 1.0)]);
        self.op("", "Mul", &[&active, &up], &format!("{layer}.inner"), Vec::new())
    }

    /// `x W'`, with the offsets of stored 4-bit values, the bias and the adapter's part.
    fn linear(&mut self, x: &str, linear: &Linear, adapter: Option<&str>, tensors: &[TensorProto]) -> String {
        let key = if linear.name == "embedding" { "head" } else { &linear.name };
        let quants = format!("{}.q", linear.name);
        let scales = format!("{}.s", linear.name);
        let transposed = || vec![AttributeProto::int("transB", 1)];
        let blocks = |bits: i64, block: usize| {
            vec![
                AttributeProto::int("K", linear.inputs as i64),
                AttributeProto::int("N", linear.outputs as i64),
                AttributeProto::int("bits", bits),
                AttributeProto::int("block_size", block as i64),
                AttributeProto::int("accuracy_level", 4),
            ]
        };
        let product = format!("{key}.y");
        let mut y = match linear.packing {
            Packing::Dense => self.op(MICROSOFT, "FusedMatMul", &[x, &linear.name], &product, transposed()),
            Packing::Eight(block) => self.op(MICROSOFT, "MatMulNBits", &[x, &quants, &scales], &product, blocks(8, block)),
            Packing::Four(block) => self.op(MICROSOFT, "MatMulNBits", &[x, &quants, &scales], &product, blocks(4, block)),
            Packing::Stored => self.op(MICROSOFT, "MatMulNBits", &[x, &quants, &scales], &product, blocks(4, GROUP)),
        };
        let offsets = format!("{}.c", linear.name);
        if linear.packing == Packing::Stored && tensors.iter().any(|tensor| tensor.name == offsets) {
            let groups = (linear.inputs / GROUP) as i64;
            let shape = format!("groups.{groups}");
            self.constant(TensorProto::ints(&shape, &[4], &[0, 0, groups, GROUP as i64]));
            self.constant(TensorProto::ints("last", &[1], &[3]));
            let grouped = self.op("", "Reshape", &[x, &shape], &format!("{key}.groups"), Vec::new());
            let sums = vec![AttributeProto::int("keepdims", 0)];
            let sums = self.op("", "ReduceSum", &[&grouped, "last"], &format!("{key}.sums"), sums);
            let offset = self.op(MICROSOFT, "FusedMatMul", &[&sums, &offsets], &format!("{key}.offset"), transposed());
            y = self.op("", "Add", &[&y, &offset], &format!("{key}.exact"), Vec::new());
        }
        if linear.bias {
            y = self.op("", "Add", &[&y, &format!("{}.bias", linear.name)], &format!("{key}.biased"), Vec::new());
        }
        match adapter.filter(|_| self.lora) {
            None => y,
            Some(_) => self.adapted(x, y, linear),
        }
    }

    fn adapted(&mut self, x: &str, y: String, linear: &Linear) -> String {
        let key = &linear.name;
        let [a, b] = ["a", "b"].map(|part| format!("lora.{key}.{part}"));
        let rank = name(&format!("r.{key}"));
        self.input(&a, self.element(), [size(linear.inputs), rank.clone()]);
        self.input(&b, self.element(), [rank, size(linear.outputs)]);
        let narrow = self.op("", "MatMul", &[x, &a], &format!("{key}.xa"), Vec::new());
        let wide = self.op("", "MatMul", &[&narrow, &b], &format!("{key}.xab"), Vec::new());
        self.op("", "Add", &[&y, &wide], &format!("{key}.adapted"), Vec::new())
    }
}

fn name(name: &str) -> Dimension {
    Dimension::Name(name.to_owned())
}

fn size(size: usize) -> Dimension {
    Dimension::Size(size as i64)
}

fn value_info(name: &str, elem_type: i32, dims: impl IntoIterator<Item = Dimension>) -> ValueInfoProto {
    let dim = dims.into_iter().map(|dim| DimensionProto { value: Some(dim) }).collect();
    let tensor = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
