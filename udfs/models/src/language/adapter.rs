//! Low-rank changes of a model's weights: a matrix W becomes W + scale * B A (LoRA, Hu et al. 2021).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use half::{bf16, f16};
use ort::memory::Allocator;
use ort::value::{DynValue, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::Facts;
use crate::click::choices;
use crate::error::{Error, Result};

choices! {
    /// A matrix of a layer that an adapter may change.
    #[derive(PartialOrd, Ord, Hash)]
    Projection, "targets":
    /// `q_proj`.
    Query = "query",
    /// `k_proj`.
    Key = "key",
    /// `v_proj`.
    Value = "value",
    /// `o_proj`.
    Output = "output",
    /// `gate_proj`.
    Gate = "gate",
    /// `up_proj`.
    Up = "up",
    /// `down_proj`.
    Down = "down"
}

impl Projection {
    const ALL: [Self; 7] = [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// The name in checkpoints.
    fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The name in checkpoints, with that of the part of the layer.
    pub(super) fn path(self) -> String {
        let part = if matches!(self, Self::Gate | Self::Up | Self::Down) { "mlp" } else { "self_attn" };
        format!("{part}.{}", self.name())
    }

    pub(super) fn outputs(self, facts: &Facts) -> usize {
        match self {
            Self::Query => facts.heads * facts.head_dim,
            Self::Key | Self::Value => facts.kv_heads * facts.head_dim,
            Self::Output | Self::Down => facts.hidden,
            Self::Gate | Self::Up => facts.inner,
        }
    }

    pub(super) fn inputs(self, facts: &Facts) -> usize {
        match self {
            Self::Output => facts.heads * facts.head_dim,
            Self::Down => facts.inner,
            Self::Query | Self::Key | Self::Value | Self::Gate | Self::Up => facts.hidden,
        }
    }
}

/// The inputs of the graph for one layer, and the matrices that each of them joins.
const JOINED: [(&str, &[Projection]); 4] = [
    ("qkv", &[Projection::Query, Projection::Key, Projection::Value]),
    ("o", &[Projection::Output]),
    ("gate_up", &[Projection::Gate, Projection::Up]),
    ("down", &[Projection::Down]),
];

/// The change of one matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The layer, from 0.
    pub layer: usize,
    /// The matrix.
    pub projection: Projection,
    /// The rank.
    pub rank: usize,
    /// A, `[rank, inputs]` by rows.
    pub a: Vec<f32>,
    /// B, `[outputs, rank]` by rows.
    pub b: Vec<f32>,
    /// Factor of the product, `lora_alpha / r` in most checkpoints.
    pub scale: f32,
}

/// Changes of a model's weights, ready to be given to its graph.
#[derive(Debug)]
pub struct Adapter {
    id: u64,
    parts: Vec<Part>,
    inputs: OnceLock<Vec<(String, DynValue)>>,
}

/// One input of the graph.
#[derive(Debug)]
struct Part {
    name: String,
    shape: [usize; 2],
    values: Vec<f32>,
}

/// `adapter_config.json` as PEFT writes it.
#[derive(Debug, Deserialize)]
struct Config {
    r: usize,
    lora_alpha: f32,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    rank_pattern: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
}

/// The file with the rank and the factor.
pub(super) const CONFIG: &str = "adapter_config.json";
/// The file with the matrices.
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
/// The largest file that is read.
const LARGEST: u64 = 4 << 30;

impl Adapter {
    /// Reads a folder that PEFT wrote: `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// Errors: [`Error::Unsupported`] for what is more than low-rank changes of the seven projections, [`Error::Corrupt`] for sizes that do not fit the
    /// model.
    pub fn open(folder: &Path, facts: &Facts) -> Result<Self> {
        let file = |name: &str| {
            let path = folder.join(name);
            let size = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
            if size > LARGEST {
                return Err(Error::unsupported(path.display().to_string(), format!("it has {size} bytes")));
            }
            std::fs::read(&path).map_err(Error::io(&path))
        };
        let object = folder.display().to_string();
        Self::checked(&object, &changes(&object, &file(CONFIG)?, &file(WEIGHTS)?)?, facts)
    }

    /// An adapter from matrices in memory. Errors: [`Error::Corrupt`] for sizes that do not fit the model.
    pub fn new(changes: &[Change], facts: &Facts) -> Result<Self> {
        Self::checked("the adapter", changes, facts)
    }

    fn checked(object: &str, changes: &[Change], facts: &Facts) -> Result<Self> {
        for change in changes {
            let Change { layer, projection, rank, .. } = change;
            let sizes = (rank * projection.inputs(facts), projection.outputs(facts) * rank);
            if *layer >= facts.layers || (change.a.len(), change.b.len()) != sizes {
                let reason = format!("{} of layer {layer} has {} and {} values", projection.name(), change.a.len(), change.b.len());
                return Err(Error::corrupt(object, format!("{reason}; {} layers with {} and {} fit", facts.layers, sizes.0, sizes.1)));
            }
        }
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let parts = (0..facts.layers)
            .flat_map(|layer| JOINED.iter().flat_map(move |(name, projections)| join(layer, name, projections, changes, facts)))
            .collect();
        Ok(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), parts, inputs: OnceLock::new() })
    }

    /// Its number in this process.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Names and values of the graph's inputs.
    pub(super) fn inputs(&self) -> Result<&[(String, DynValue)]> {
        if let Some(inputs) = self.inputs.get() {
            return Ok(inputs);
        }
        let made: Result<Vec<_>> = self.parts.iter().map(|part| Ok((part.name.clone(), part.value()?))).collect();
        let made = made?;
        Ok(self.inputs.get_or_init(|| made))
    }
}

/// The changes that PEFT's two files hold; `object` is named in errors, which are those of [`Adapter::open`].
pub(super) fn changes(object: &str, config: &[u8], weights: &[u8]) -> Result<Vec<Change>> {
    let config: Config = serde_json::from_slice(config).map_err(|error| Error::corrupt(object, format!("{CONFIG}: {error}")))?;
    let extra = config.use_dora || !config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty();
    if extra || config.modules_to_save.is_some_and(|modules| !modules.is_empty()) {
        return Err(Error::unsupported(object, "it has DoRA, ranks by pattern or whole modules"));
    }
    let tensors = SafeTensors::deserialize(weights).map_err(|error| Error::corrupt(object, format!("{WEIGHTS}: {error}")))?;
    let mut changes: BTreeMap<(usize, Projection), Change> = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let (layer, projection, is_a) = parse(&name).ok_or_else(|| Error::unsupported(object, format!("it has a tensor \"{name}\"")))?;
        let values = floats(view.dtype(), view.data()).ok_or_else(|| Error::unsupported(object, format!("\"{name}\" is no float")))?;
        let [rows, columns] = view.shape() else { return Err(Error::corrupt(object, format!("\"{name}\" is no matrix"))) };
        let rank = if is_a { *rows } else { *columns };
        if rank != config.r {
            return Err(Error::corrupt(object, format!("\"{name}\" has rank {rank}, not {}", config.r)));
        }
        let root = if config.use_rslora { (rank as f32).sqrt() } else { rank as f32 };
        let scale = config.lora_alpha / root;
        let empty = || Change { layer, projection, rank, a: Vec::new(), b: Vec::new(), scale };
        let change = changes.entry((layer, projection)).or_insert_with(empty);
        *(if is_a { &mut change.a } else { &mut change.b }) = values;
    }
    Ok(changes.into_values().collect())
}

impl Part {
    fn value(&self) -> Result<DynValue> {
        if self.values.is_empty() {
            // A tensor without values cannot be made from an array.
            return Ok(Tensor::<f32>::new(&Allocator::default(), self.shape)?.into_dyn());
        }
        Ok(Tensor::from_array((self.shape, self.values.clone()))?.into_dyn())
    }
}

/// The two inputs of joined matrices: the A's side by side, the scaled B's as blocks, each over its own outputs.
fn join(layer: usize, name: &str, projections: &[Projection], changes: &[Change], facts: &Facts) -> [Part; 2] {
    let find = |projection: Projection| changes.iter().find(|change| change.layer == layer && change.projection == projection);
    let present: Vec<&Change> = projections.iter().filter_map(|projection| find(*projection)).collect();
    let rank: usize = present.iter().map(|change| change.rank).sum();
    let inputs = projections.first().map_or(0, |projection| projection.inputs(facts));
    let outputs: usize = projections.iter().map(|projection| projection.outputs(facts)).sum();
    let (mut a, mut b) = (vec![0.0; inputs * rank], vec![0.0; rank * outputs]);
    let (mut first_rank, mut first_output) = (0, 0);
    for projection in projections {
        let own = projection.outputs(facts);
        if let Some(change) = find(*projection) {
            for component in 0..change.rank {
                for input in 0..inputs {
                    a[input * rank + first_rank + component] = change.a[component * inputs + input];
                }
                for output in 0..own {
                    b[(first_rank + component) * outputs + first_output + output] =
                        change.scale * change.b[output * change.rank + component];
                }
            }
            first_rank += change.rank;
        }
        first_output += own;
    }
    let part = |kind: &str, shape, values| Part { name: format!("lora.{layer}.{name}.{kind}"), shape, values };
    [part("a", [inputs, rank], a), part("b", [rank, outputs], b)]
}

/// Layer, matrix and whether it is A, of a name such as `base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight`.
fn parse(name: &str) -> Option<(usize, Projection, bool)> {
    let (layer, rest) = name.split_once("layers.")?.1.split_once('.')?;
    let mut words = rest.split('.').skip(1);
    let (projection, kind) = (words.next()?, words.next()?);
    let projection = Projection::ALL.into_iter().find(|known| known.name() == projection)?;
    let is_a = match kind {
        "lora_A" => true,
        "lora_B" => false,
        _ => return None,
    };
    Some((layer.parse().ok()?, projection, is_a))
}

fn floats(dtype: Dtype, data: &[u8]) -> Option<Vec<f32>> {
    match dtype {
        Dtype::F32 => Some(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Dtype::F16 => Some(data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()),
        Dtype::BF16 => Some(data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
