//! The weights of a checkpoint by what they are for, whichever kind of file they come from.

use std::path::Path;

use super::blocks::{Kind, dequantise};
use super::config::{self, Architecture, Config};
use super::folder::{self, Folder};
use super::gguf::{self, Gguf};
use crate::error::{Error, Result};

/// Bytes read at a time, about.
const CHUNK: usize = 4 << 20;

/// A weight matrix or vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    Head,
    LastNorm,
    Layer(usize, Part),
    /// The bias of a projection.
    Bias(usize, Part),
}

/// A weight of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    AttentionNorm,
    Query,
    Key,
    Value,
    Output,
    InnerNorm,
    Gate,
    Up,
    Down,
}

impl Part {
    fn in_gguf(self) -> &'static str {
        match self {
            Self::AttentionNorm => "attn_norm",
            Self::Query => "attn_q",
            Self::Key => "attn_k",
            Self::Value => "attn_v",
            Self::Output => "attn_output",
            Self::InnerNorm => "ffn_norm",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    fn in_folder(self) -> &'static str {
        match self {
            Self::AttentionNorm => "input_layernorm",
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::InnerNorm => "post_attention_layernorm",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
}

/// A checkpoint that is being read.
#[derive(Debug)]
pub(crate) enum Weights {
    Gguf(Gguf),
    Folder(Folder),
}

/// A matrix (or a vector, as one row) that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'w> {
    weights: &'w Weights,
    place: Place<'w>,
    pub(crate) kind: Kind,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The rows of a head lie interleaved: those for `2i` and `2i + 1` are `i` and `i + head_dim / 2` of the published model.
    interleaved: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Place<'w> {
    Gguf(&'w gguf::Place),
    Folder(&'w folder::Place),
}

impl Weights {
    pub(crate) fn open(source: &Path) -> Result<Self> {
        if source.is_dir() { Folder::open(source).map(Self::Folder) } else { Gguf::open(source).map(Self::Gguf) }
    }

    pub(crate) fn object(&self) -> String {
        match self {
            Self::Gguf(file) => file.path().display().to_string(),
            Self::Folder(folder) => folder.path().display().to_string(),
        }
    }

    pub(crate) fn config(&self) -> Result<Config> {
        match self {
            Self::Gguf(file) => config::from_gguf(file),
            Self::Folder(folder) => config::from_json(&folder.path().join("config.json").display().to_string(), folder.config()),
        }
    }

    /// The name the model gives itself, else that of its file or folder.
    pub(crate) fn title(&self) -> Result<String> {
        let (own, path) = match self {
            Self::Gguf(file) => (file.text("general.name")?, file.path()),
            Self::Folder(folder) => (folder.config().get("_name_or_path").and_then(|name| name.as_str()), folder.path()),
        };
        let own = own.map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('/'));
        let file = if path.is_dir() { path.file_name() } else { path.file_stem() };
        Ok(own.map_or_else(|| file.unwrap_or_default().to_string_lossy().into_owned(), str::to_owned))
    }

    /// The licence, if the model names one.
    pub(crate) fn licence(&self) -> Result<Option<String>> {
        match self {
            Self::Gguf(file) => Ok(file.text("general.license")?.map(str::to_owned)),
            Self::Folder(folder) => Ok(folder.config().get("license").and_then(|name| name.as_str()).map(str::to_owned)),
        }
    }

    /// How many weights the checkpoint holds.
    pub(crate) fn parameters(&self) -> u64 {
        match self {
            Self::Gguf(file) => file.tensors().map(|place| place.dims.iter().map(|dim| *dim as u64).product::<u64>()).sum(),
            Self::Folder(folder) => folder.tensors().map(|place| place.dims.iter().map(|dim| *dim as u64).product::<u64>()).sum(),
        }
    }

    fn name(&self, role: Role) -> String {
        match (self, role) {
            (Self::Gguf(_), Role::Embedding) => "token_embd.weight".to_owned(),
            (Self::Gguf(_), Role::Head) => "output.weight".to_owned(),
            (Self::Gguf(_), Role::LastNorm) => "output_norm.weight".to_owned(),
            (Self::Gguf(_), Role::Layer(layer, part)) => format!("blk.{layer}.{}.weight", part.in_gguf()),
            (Self::Gguf(_), Role::Bias(layer, part)) => format!("blk.{layer}.{}.bias", part.in_gguf()),
            (Self::Folder(_), Role::Embedding) => "model.embed_tokens.weight".to_owned(),
            (Self::Folder(_), Role::Head) => "lm_head.weight".to_owned(),
            (Self::Folder(_), Role::LastNorm) => "model.norm.weight".to_owned(),
            (Self::Folder(_), Role::Layer(layer, part)) => format!("model.layers.{layer}.{}.weight", part.in_folder()),
            (Self::Folder(_), Role::Bias(layer, part)) => format!("model.layers.{layer}.{}.bias", part.in_folder()),
        }
    }

    /// A weight that may be missing.
    pub(crate) fn find(&self, config: &Config, role: Role) -> Result<Option<Matrix<'_>>> {
        let name = self.name(role);
        let (place, kind, dims) = match self {
            Self::Gguf(file) => match file.tensor(&name) {
                None => return Ok(None),
                Some(place) => (Place::Gguf(place), place.kind, &place.dims),
            },
            Self::Folder(folder) => match folder.tensor(&name) {
                None => return Ok(None),
                Some(place) => (Place::Folder(place), place.kind, &place.dims),
            },
        };
        let (rows, columns) = match dims.as_slice() {
            [columns] => (1, *columns),
            [rows, columns] => (*rows, *columns),
            _ => return Err(Error::corrupt(self.object(), format!("tensor {name} has {} axes", dims.len()))),
        };
        let (wide, narrow) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let output = |part| match part {
            Part::Query => wide,
            Part::Key | Part::Value => narrow,
            Part::Output | Part::Down | Part::AttentionNorm | Part::InnerNorm => config.hidden,
            Part::Gate | Part::Up => config.inner,
        };
        let expected = match role {
            Role::Embedding | Role::Head => (rows, config.hidden),
            Role::LastNorm | Role::Layer(_, Part::AttentionNorm | Part::InnerNorm) => (1, config.hidden),
            Role::Bias(_, part) => (1, output(part)),
            Role::Layer(_, Part::Output) => (config.hidden, wide),
            Role::Layer(_, Part::Down) => (config.hidden, config.inner),
            Role::Layer(_, part) => (output(part), config.hidden),
        };
        if (rows, columns) != expected || rows == 0 {
            let reason = format!("tensor {name} is {rows} x {columns}, not {} x {}", expected.0, expected.1);
            return Err(Error::corrupt(self.object(), reason));
        }
        let turned = matches!(role, Role::Layer(_, Part::Query | Part::Key) | Role::Bias(_, Part::Query | Part::Key));
        let interleaved = turned && config.architecture == Architecture::Llama && matches!(self, Self::Gguf(_));
        let interleaved = interleaved.then_some(config.head_dim);
        Ok(Some(Matrix { weights: self, place, kind, rows, columns, interleaved }))
    }

    /// A weight that must be there.
    pub(crate) fn get(&self, config: &Config, role: Role) -> Result<Matrix<'_>> {
        let found = self.find(config, role)?;
        found.ok_or_else(|| Error::corrupt(self.object(), format!("it has no tensor {}", self.name(role))))
    }

    /// A short vector.
    pub(crate) fn vector(&self, matrix: &Matrix<'_>) -> Result<Vec<f32>> {
        let mut bytes = vec![0; matrix.kind.row(matrix.columns)];
        matrix.read(0, &mut bytes)?;
        let mut values = vec![0.0; matrix.columns];
        dequantise(matrix.kind, &bytes, &mut values);
        self.finite(&values)?;
        if let Some(head_dim) = matrix.interleaved {
            values = (0..values.len()).map(|to| values[source_row(to, head_dim)]).collect();
        }
        Ok(values)
    }

    /// An error if a value is no finite number.
    pub(crate) fn finite(&self, values: &[f32]) -> Result<()> {
        if values.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        Err(Error::corrupt(self.object(), "a weight is not a finite number"))
    }
}

impl Matrix<'_> {
    fn read(&self, from: u64, out: &mut [u8]) -> Result<()> {
        match (self.weights, self.place) {
            (Weights::Gguf(file), Place::Gguf(place)) => file.read(place, from, out),
            (Weights::Folder(folder), Place::Folder(place)) => folder.read(place, from, out),
            _ => Err(Error::graph("a tensor of another checkpoint")),
        }
    }

    /// Calls `each` with the stored bytes of every row, in the order of the published model, a few rows at a time in memory.
    pub(crate) fn rows(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let width = self.kind.row(self.columns);
        // Whole heads, so that rows are only exchanged within what is in memory.
        let unit = self.interleaved.unwrap_or(1);
        let step = (CHUNK / width / unit).max(1) * unit;
        let mut bytes = Vec::new();
        for from in (0..self.rows).step_by(step) {
            let count = step.min(self.rows - from);
            bytes.resize(count * width, 0);
            self.read((from * width) as u64, &mut bytes)?;
            for to in 0..count {
                let row = self.interleaved.map_or(to, |head_dim| source_row(to, head_dim));
                each(&bytes[row * width..][..width])?;
            }
        }
        Ok(())
    }
}

/// Which stored row is row `to` of the published model, when heads are interleaved.
fn source_row(to: usize, head_dim: usize) -> usize {
    let (head, place) = (to / head_dim, to % head_dim);
    let (part, pair) = (place / (head_dim / 2), place % (head_dim / 2));
    head * head_dim + 2 * pair + part
}
