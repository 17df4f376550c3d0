//! Models out of the registry and into it.
//!
//! ```text
//! <folder>/model.onnx       the whole model as one graph of plain columns, for any ONNX runtime
//! <folder>/signature.json   what the graph takes and gives
//! <folder>/version/...      the files of the version as the registry has them, to import it again without loss
//! ```

mod folder;
mod graph;
mod inputs;
mod places;
mod signature;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use serde_json::json;

use self::signature::{Input, Output, Provenance, Signature};
use crate::click::{self, Progress, TrainOptions};
use crate::error::{Error, Result};
use crate::foreign::{Element, Foreign, GRAPH, Outline};
use crate::model::{Model, no_bases};
use crate::registry::{self, Kind, Manifest, ModelName, Registry, Source, Stored};
use crate::runtime::Runtime;

const SIGNATURE: &str = "signature.json";
const VERSION: &str = "version";

/// The largest file that is imported; also the most that a graph can have.
const MOST_BYTES: u64 = 2 << 30;

/// What the user says of an import.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The name to save it under.
    pub name: String,
    /// What the probability is of, shown in lists.
    pub label: Option<String>,
    /// The columns of inputs that take several, in order.
    pub columns: Vec<String>,
}

/// Writes a version to a folder. `transform` is the select list of its TRANSFORM, if it has one; `replace` allows an earlier export to be
/// replaced.
///
/// Errors: [`Error::NoSuchModel`], [`Error::NoSuchVersion`], [`Error::Corrupt`], [`Error::Data`] when the folder is taken or the graph would be
/// too large, [`Error::Io`].
pub fn export(registry: &Registry, name: &ModelName, version: u32, transform: Option<&str>, to: &Path, replace: bool) -> Result<()> {
    let place = folder::Place::find(to, replace)?;
    let object = format!("model \"{name}@{version}\"");
    let Stored { manifest, files } = registry.read(name, version)?;
    let own = registry.manifest_files(name, version)?.into_iter().chain(files.clone());
    let mut all: Vec<(String, Vec<u8>)> = own.map(|(file, bytes)| (format!("{VERSION}/{file}"), bytes)).collect();
    let (graph, signature) = match &manifest.kind {
        Kind::Text(_) => {
            return Err(Error::data(format!("{object} is a text model, which has no columns"), "export a click or uplift model"));
        }
        Kind::Language(_) => {
            let reason = format!("{object} is changes of a language model, which have no columns");
            return Err(Error::data(reason, "its folder among the models has the files of PEFT"));
        }
        Kind::Click | Kind::Uplift(_) => of_trained(&object, manifest, files, transform)?,
        Kind::Onnx(outline) => {
            let graph = files.get(GRAPH).cloned().ok_or_else(|| Error::corrupt(&object, format!("{GRAPH} is missing")))?;
            (graph, of_graph(&manifest, outline))
        }
    };
    let signature = serde_json::to_vec_pretty(&signature).map_err(|e| Error::corrupt(SIGNATURE, e))?;
    all.extend([(GRAPH.to_owned(), graph), (SIGNATURE.to_owned(), signature)]);
    place.write(&all)
}

/// The graph of a model that was trained here, and its signature.
fn of_trained(object: &str, manifest: Manifest, files: BTreeMap<String, Vec<u8>>, transform: Option<&str>) -> Result<(Vec<u8>, Signature)> {
    let stored = click::Stored::new(object, manifest, files)?;
    let graph::Exported { model, inputs, output } = graph::exported(&stored)?;
    let bytes = model.encoded_len() as u64;
    if bytes >= MOST_BYTES {
        let reason = format!("the graph of {object} would have {bytes} bytes, and ONNX allows less than {MOST_BYTES} in a file");
        return Err(Error::data(reason, "train it with fewer ensembles, a smaller embedding_dim or hash(n) for its largest columns"));
    }
    let manifest = &stored.manifest;
    let tasks = match manifest.kind {
        Kind::Uplift(_) => vec!["uplift"],
        Kind::Click | Kind::Text(_) | Kind::Language(_) | Kind::Onnx(_) => {
            ["click", "conversion"][..manifest.calibration.len().min(2)].to_vec()
        }
    };
    let outputs = vec![Output { name: output, dtype: "float32", shape: vec!["n".to_owned(), tasks.len().to_string()] }];
    let signature = Signature {
        format: 1,
        name: manifest.name.to_string(),
        version: manifest.version,
        model_type: manifest.model_type(),
        tasks,
        inputs,
        outputs,
        transform: transform.map(str::to_owned),
        calibration: manifest.calibration.clone(),
        provenance: provenance(manifest),
    };
    Ok((model.encode_to_vec(), signature))
}

/// The signature of a graph that was made elsewhere.
fn of_graph(manifest: &Manifest, outline: &Outline) -> Signature {
    let input = |input: &crate::foreign::Input| {
        let (dtype, null) = match input.element {
            Element::Float => ("float32", Some(json!("NaN"))),
            Element::Double => ("float64", Some(json!("NaN"))),
            Element::Int64 => ("int64", None),
            Element::Int32 => ("int32", None),
            Element::Bool => ("bool", None),
            Element::Text => ("str", None),
        };
        let shape = std::iter::once("n".to_owned()).chain(input.matrix.then(|| input.columns.len().to_string())).collect();
        let (column, sql_type) = (input.columns.join(", "), input.element.sql_type().to_owned());
        let (name, element) = (input.name.clone(), "the value".to_owned());
        Input { name, dtype, shape, column, sql_type, encoding: "value", element, null, most: None }
    };
    Signature {
        format: 1,
        name: manifest.name.to_string(),
        version: manifest.version,
        model_type: manifest.model_type(),
        tasks: vec!["click"],
        inputs: outline.inputs.iter().map(input).collect(),
        outputs: vec![Output { name: outline.output.clone(), dtype: "float32", shape: vec!["n".to_owned()] }],
        transform: None,
        calibration: Vec::new(),
        provenance: provenance(manifest),
    }
}

fn provenance(manifest: &Manifest) -> Provenance {
    Provenance {
        producer: format!("stratagem {}", env!("CARGO_PKG_VERSION")),
        created_at: manifest.created_at.clone(),
        label: manifest.source.label.clone(),
        source_sha256: manifest.source_sha256.clone(),
        rows: manifest.rows,
        positives: manifest.positives,
        seed: manifest.seed,
    }
}

/// Saves what is in a folder that [`export`] wrote, or an ONNX file from elsewhere, as the next version of a name, and returns the version. The
/// model is loaded first, so that what is saved can score.
///
/// Errors: [`Error::InvalidName`], [`Error::Io`], [`Error::Corrupt`] when the folder is not as it was written, [`Error::Data`] when the graph
/// does not score plain columns, [`Error::Runtime`] when the runtime does not take it, [`Error::Busy`].
pub fn import(runtime: &Arc<Runtime>, registry: &Registry, from: &Path, import: &Import) -> Result<u32> {
    let name = ModelName::parse(&import.name)?;
    let object = from.display().to_string();
    let (mut manifest, files) = if from.is_dir() {
        if !import.columns.is_empty() {
            return Err(Error::data(format!("{object} is an export, whose columns have names"), "leave out --columns"));
        }
        let Stored { manifest, files } = registry::read_folder(&from.join(VERSION), &object, MOST_BYTES)?;
        Model::new(runtime, &object, Stored { manifest: manifest.clone(), files: files.clone() }, &no_bases)?;
        (manifest, files)
    } else {
        let graph = registry::read_file(from, MOST_BYTES)?;
        let names = match import.columns.as_slice() {
            [] => folder::named_columns(from)?,
            names => names.to_vec(),
        };
        let outline = Foreign::examine(runtime, &object, &graph, &names)?;
        (of_outline(runtime, &name, outline), [(GRAPH.to_owned(), graph)].into())
    };
    manifest.name = name;
    // Versions count anew here.
    manifest.parent = None;
    if let Some(label) = &import.label {
        manifest.source.label.clone_from(label);
    }
    registry.publish(manifest, &files.into_iter().collect::<Vec<_>>())
}

/// What is known of a graph that was made elsewhere.
fn of_outline(runtime: &Runtime, name: &ModelName, outline: Outline) -> Manifest {
    let source = Source { label: String::new(), query: String::new(), rows: 0 };
    Manifest {
        format: registry::FORMAT,
        name: name.clone(),
        version: 0,
        kind: Kind::Onnx(outline),
        parent: None,
        created_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        source_sha256: source.sha256(),
        source,
        rows: 0,
        positives: 0,
        seed: 0,
        features: Vec::new(),
        transform: None,
        options: TrainOptions::default(),
        calibration: Vec::new(),
        epochs: Vec::new(),
        kept: Progress::default(),
        evaluation: None,
        runtime: runtime.version().to_owned(),
        files: Default::default(),
    }
}

#[cfg(test)]
mod tests;
