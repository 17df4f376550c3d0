//! Changes of a language model on disk: the two files of PEFT, so that other programs read them too.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::super::adapter::{self, Adapter, Change};
use super::super::{Decoder, Facts};
use super::{Adapted, Trained, Tune};
use crate::error::{Error, Result};
use crate::net::Parameter;
use crate::registry::{self, Kind, Manifest, ModelName, Registry, Source};

/// A version of changes that was read.
#[derive(Debug)]
pub struct Version {
    /// What it is.
    pub adapted: Adapted,
    pub(super) changes: Vec<Change>,
}

impl Version {
    /// Reads a version.
    ///
    /// Errors: [`Error::NoSuchModel`], [`Error::NoSuchVersion`], [`Error::Corrupt`], [`Error::Data`] when it is another kind of model.
    pub fn read(registry: &Registry, name: &ModelName, version: u32) -> Result<Self> {
        let object = format!("model \"{name}@{version}\"");
        let registry::Stored { manifest, mut files } = registry.read(name, version)?;
        let Kind::Language(adapted) = manifest.kind else {
            return Err(Error::data(format!("{object} is no language model"), "train one with task => 'generation'"));
        };
        let mut file = |file: &str| files.remove(file).ok_or_else(|| Error::corrupt(&object, format!("{file} is missing")));
        let changes = adapter::changes(&object, &file(adapter::CONFIG)?, &file(adapter::WEIGHTS)?)?;
        Ok(Self { adapted: *adapted, changes })
    }

    /// The changes, ready to be given to the language model.
    ///
    /// Errors: [`Error::Data`] when it is not the one that they were trained on, [`Error::Corrupt`].
    pub fn adapter(&self, decoder: &Decoder) -> Result<Adapter> {
        if decoder.source_sha256() != self.adapted.base_sha256 {
            let reason = format!("it changes another language model \"{}\" than there is now", self.adapted.base);
            return Err(Error::data(reason, "import the language model that it was trained from again, or train it anew"));
        }
        Adapter::new(&self.changes, decoder.facts())
    }
}

impl Trained {
    /// Saves the changes as a new version of `name` and returns the version.
    ///
    /// Errors: [`Error::Busy`] when another writer holds the name for too long, [`Error::Io`].
    pub fn save(self, registry: &Registry, name: &ModelName, source: Source) -> Result<u32> {
        let files = [(adapter::CONFIG.to_owned(), config(&self.adapted)?), (adapter::WEIGHTS.to_owned(), serialise(&self.weights)?)];
        let manifest = Manifest {
            format: registry::FORMAT,
            name: name.clone(),
            version: 0,
            kind: Kind::Language(Box::new(self.adapted)),
            parent: None,
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
            runtime: self.runtime,
            files: BTreeMap::new(),
        };
        registry.publish(manifest, &files)
    }
}

/// `adapter_config.json`.
fn config(Adapted { base, tune: Tune { rank, alpha, targets, .. }, .. }: &Adapted) -> Result<Vec<u8>> {
    let modules: Vec<String> = targets.iter().map(|target| target.path().rsplit('.').next().unwrap_or_default().to_owned()).collect();
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": modules,
    });
    serde_json::to_vec_pretty(&config).map_err(|error| Error::corrupt(adapter::CONFIG, error))
}

/// `adapter_model.safetensors`.
fn serialise(weights: &[Parameter]) -> Result<Vec<u8>> {
    let failed = |error: safetensors::SafeTensorError| Error::Runtime { reason: format!("safetensors: {error}") };
    let bytes: Vec<Vec<u8>> = weights.iter().map(|weight| weight.values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = weights
        .iter()
        .zip(&bytes)
        .map(|(weight, bytes)| Ok((published(&weight.name)?, TensorView::new(Dtype::F32, weight.shape.clone(), bytes).map_err(failed)?)));
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None).map_err(failed)
}

/// The name in PEFT's file of `3.query.lora_A`.
fn published(name: &str) -> Result<String> {
    let odd = || Error::graph(format!("{name} is no change"));
    let (layer, rest) = name.split_once('.').ok_or_else(odd)?;
    let (projection, kind) = rest.split_once('.').ok_or_else(odd)?;
    let projection: adapter::Projection = projection.parse()?;
    Ok(format!("base_model.model.model.layers.{layer}.{}.{kind}.weight", projection.path()))
}

/// The matrices of a change under their names in the graph.
pub(super) fn parameters(change: Change, facts: &Facts) -> [Parameter; 2] {
    let Change { layer, projection, rank, a, b, .. } = change;
    let (inputs, outputs) = (projection.inputs(facts), projection.outputs(facts));
    let parameter = |kind: &str, shape, values| Parameter { name: format!("{layer}.{projection}.{kind}"), shape, values };
    [parameter("lora_A", vec![rank, inputs], a), parameter("lora_B", vec![outputs, rank], b)]
}
