//! A model with an encoder of its own on disk and in memory.
//!
//! What was trained is in `weights.safetensors`, under the names of BERT: all weights and the head, or low-rank changes and the head. A model with all
//! weights has the tokenizer too; one with changes is put together with the encoder that it was trained from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::Message as _;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::super::engine::{Engine, Limits};
use super::super::prepare::{Encoder, Facts};
use super::super::tokens::{FILE as TOKENIZER, Tokens};
use super::{Method, Trained, Tuned, net};
use crate::error::{Error, Result};
use crate::net::Parameter;
use crate::onnx::{TensorProto, data_type};
use crate::registry::{self, Kind, Manifest, ModelName, Registry, Source};
use crate::runtime::Runtime;
use crate::text::{Task, Text, TextModel};

const WEIGHTS: &str = "weights.safetensors";

/// Finds an encoder by its name.
pub type Bases<'a> = &'a dyn Fn(&str) -> Result<Encoder>;

impl Trained {
    /// Saves the model as a new version of `name` and returns the version.
    ///
    /// Errors: [`Error::Busy`] when another writer holds the name for too long, [`Error::Io`].
    pub fn save(self, registry: &Registry, name: &ModelName, source: Source) -> Result<u32> {
        let files = self.files()?;
        let manifest = Manifest {
            format: registry::FORMAT,
            name: name.clone(),
            version: 0,
            kind: Kind::Text(self.text),
            parent: self.parent,
            created_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            source_sha256: source.sha256(),
            source,
            rows: self.rows,
            positives: 0,
            seed: self.options.seed,
            features: self.features,
            transform: None,
            options: self.options,
            calibration: Vec::new(),
            epochs: self.epochs,
            kept: self.kept,
            evaluation: None,
            runtime: self.runtime.version().to_owned(),
            files: BTreeMap::new(),
        };
        registry.publish(manifest, &files)
    }

    fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = vec![(WEIGHTS.to_owned(), serialise(&self.weights)?)];
        if self.text.tuned.as_ref().is_some_and(|tuned| tuned.tune.method == Method::Full) {
            files.push((TOKENIZER.to_owned(), self.tokenizer.clone()));
        }
        Ok(files)
    }
}

/// The model of a version; `object` is named in errors. `bases` finds the encoder that changes belong to.
pub(crate) fn load(
    runtime: &Arc<Runtime>,
    object: &str,
    text: &Text,
    tuned: &Tuned,
    files: BTreeMap<String, Vec<u8>>,
    bases: Bases<'_>,
) -> Result<TextModel> {
    let (weights, tokenizer) = weights(object, text, tuned, files, bases)?;
    let engine = engine(runtime, tuned, text, weights, &tokenizer).map_err(|error| match error {
        Error::Graph { reason } => Error::corrupt(object, format!("{WEIGHTS}: {reason}")),
        other => other,
    })?;
    Ok(TextModel::tuned(text.clone(), engine))
}

/// The weights of the encoder and the head, and the tokenizer.
pub(super) fn weights(
    object: &str,
    text: &Text,
    tuned: &Tuned,
    mut files: BTreeMap<String, Vec<u8>>,
    bases: Bases<'_>,
) -> Result<(HashMap<String, Parameter>, Vec<u8>)> {
    let own = own(object, &mut files)?;
    if tuned.tune.method == Method::Full {
        let tokenizer = files.remove(TOKENIZER).ok_or_else(|| Error::corrupt(object, format!("{TOKENIZER} is missing")))?;
        return Ok((own, tokenizer));
    }
    let base = base(object, text, tuned, bases)?;
    let tokenizer = base.tokenizer()?;
    let changed = changed(base.weights()?, own, tuned).map_err(|reason| Error::corrupt(object, format!("{WEIGHTS}: {reason}")))?;
    Ok((changed, tokenizer))
}

/// The weights that a version holds itself.
pub(super) fn own(object: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<HashMap<String, Parameter>> {
    let file = files.remove(WEIGHTS).ok_or_else(|| Error::corrupt(object, format!("{WEIGHTS} is missing")))?;
    deserialise(&file).map_err(|reason| Error::corrupt(object, format!("{WEIGHTS}: {reason}")))
}

/// The very encoder that a version belongs to.
pub(super) fn base(object: &str, text: &Text, tuned: &Tuned, bases: Bases<'_>) -> Result<Encoder> {
    let name = text.encoder.as_deref().unwrap_or_default();
    let base = bases(name)?;
    if base.source_sha256() != tuned.base_sha256 {
        let reason = format!("{object} has changes of another encoder \"{name}\" than there is now");
        return Err(Error::data(reason, "import the encoder that it was trained from again, or train the model anew"));
    }
    Ok(base)
}

/// The weights of an encoder with low-rank changes, W + scale B A, and what else was trained.
fn changed(base: Vec<Parameter>, mut own: HashMap<String, Parameter>, tuned: &Tuned) -> Result<HashMap<String, Parameter>, String> {
    let scale = tuned.tune.alpha / tuned.tune.rank as f32;
    let mut all = HashMap::new();
    for mut weight in base {
        let stem = weight.name.strip_suffix(".weight").unwrap_or(&weight.name);
        if let (Some(a), Some(mut b)) = (own.remove(&format!("{stem}.lora_A")), own.remove(&format!("{stem}.lora_B"))) {
            let (&[rank, inputs], &[outputs, inner]) = (a.shape.as_slice(), b.shape.as_slice()) else {
                return Err(format!("{stem} has no matrices"));
            };
            if rank != inner || weight.shape != [outputs, inputs] {
                return Err(format!("the change of {} is {outputs} x {inner} by {rank} x {inputs}", weight.name));
            }
            if let Some(factors) = own.remove(&format!("{stem}.lora_E")) {
                if factors.values.len() != rank {
                    return Err(format!("{stem} has {} factors for {rank} ranks", factors.values.len()));
                }
                b.values.chunks_exact_mut(rank).for_each(|row| row.iter_mut().zip(&factors.values).for_each(|(b, factor)| *b *= factor));
            }
            for (row, b) in weight.values.chunks_exact_mut(inputs).zip(b.values.chunks_exact(rank)) {
                for (b, a) in b.iter().zip(a.values.chunks_exact(inputs)) {
                    row.iter_mut().zip(a).for_each(|(value, a)| *value += scale * b * a);
                }
            }
        }
        all.insert(weight.name.clone(), weight);
    }
    if let Some(left) = own.keys().find(|name| name.contains(".lora_")) {
        return Err(format!("{left} changes nothing"));
    }
    all.extend(own);
    Ok(all)
}

/// An engine that gives the logits of texts or of their tokens, or vectors.
fn engine(
    runtime: &Arc<Runtime>,
    tuned: &Tuned,
    text: &Text,
    mut weights: HashMap<String, Parameter>,
    tokenizer: &[u8],
) -> Result<Arc<Engine>> {
    let outputs = text.task.outputs(text.classes.len());
    let (graph, slots) = net::Plan { config: &tuned.config, tune: &tuned.tune, task: text.task, outputs }.serving()?;
    let mut model = graph.proto();
    let proto = model.graph.as_mut().ok_or_else(|| Error::graph("a model without a graph"))?;
    proto.input.retain(|input| slots.iter().all(|slot| slot.name != input.name));
    let mut bytes = Vec::with_capacity(slots.iter().map(|slot| 4 * slot.shape.iter().product::<usize>() + ALIGNED).sum());
    for slot in &slots {
        let weight = weights.remove(&slot.name).filter(|weight| weight.shape == slot.shape);
        let weight = weight.ok_or_else(|| Error::graph(format!("{} is missing or has another shape", slot.name)))?;
        if !weight.values.iter().all(|value| value.is_finite()) {
            return Err(Error::graph(format!("a value of {} is no finite number", slot.name)));
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNED), 0);
        let (offset, length) = (bytes.len() as u64, 4 * weight.values.len() as u64);
        bytes.extend(weight.values.iter().flat_map(|value| value.to_le_bytes()));
        proto.initializer.push(TensorProto::external(&slot.name, &slot.shape, data_type::FLOAT, WEIGHTS, offset, length));
    }
    let facts = match text.task.gives_vectors() {
        true => tuned.facts.clone(),
        false => Facts { dimension: outputs, normalize: false, ..tuned.facts.clone() },
    };
    let tokens = Tokens::new("the tokenizer of a text model", tokenizer, &facts)?;
    let (runtime, model, bytes) = (Arc::clone(runtime), model.encode_to_vec(), Arc::<[u8]>::from(bytes));
    let open = move |threads| runtime.session_of_weights(&model, WEIGHTS, Arc::clone(&bytes), threads);
    Engine::over(facts, tokens, Box::new(open), Limits::default(), text.task == Task::Tags)
}

/// Bytes to which weights are aligned in memory.
const ALIGNED: usize = 64;

fn serialise(weights: &[Parameter]) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = weights.iter().map(|weight| weight.values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views =
        weights.iter().zip(&bytes).map(|(weight, bytes)| Ok((&weight.name, TensorView::new(Dtype::F32, weight.shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    views.and_then(|views| safetensors::serialize(views, None)).map_err(|e| Error::Runtime { reason: format!("safetensors: {e}") })
}

fn deserialise(bytes: &[u8]) -> Result<HashMap<String, Parameter>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let weight = |(name, view): (String, TensorView<'_>)| {
        if view.dtype() != Dtype::F32 {
            return Err(format!("{name} is {:?}", view.dtype()));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok((name.clone(), Parameter { name, shape: view.shape().to_vec(), values }))
    };
    tensors.tensors().into_iter().map(weight).collect()
}
