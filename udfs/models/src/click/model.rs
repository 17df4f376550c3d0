//! A click model on disk and in memory.

use std::fmt;
use std::sync::Arc;

use ort::value::TensorRef;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{TrainOptions, Trained};
use crate::dcnv2::{Dcnv2, Parameter};
use crate::error::{Error, Result};
use crate::features::{Batch, Feature, Layout, table_row};
use crate::registry::{Manifest, ModelName, Registry, Source};
use crate::runtime::{Runtime, SessionPool};

const GRAPH: &str = "scoring.onnx";
const WEIGHTS: &str = "weights.safetensors";
const TABLE: &str = "table";
const FORMAT: u32 = 1;

/// Rows per call of the runtime: large enough to be fast, small enough that the activations stay in the cache.
const CHUNK: usize = 1024;

impl Trained {
    /// Saves the model as a new version of `name` and returns the version.
    ///
    /// Errors: [`Error::Busy`] when another writer holds the name for too long, [`Error::Io`].
    pub fn save(self, registry: &Registry, name: &ModelName, source: Source) -> Result<u32> {
        let graph = self.net.scoring_graph(&self.parameters)?.model();
        let weights = serialise(&self.parameters, &self.table, self.net.dim)?;
        let manifest = Manifest {
            format: FORMAT,
            name: name.clone(),
            version: 0,
            parent: None,
            created_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            source_sha256: source.sha256(),
            source,
            rows: self.rows,
            positives: self.positives,
            seed: self.options.seed,
            table_rows: self.table.len() / self.net.dim,
            features: self.features,
            options: self.options,
            epochs: self.epochs,
            best_epoch: self.best_epoch,
            runtime: self.runtime.version().to_owned(),
            files: Default::default(),
        };
        registry.publish(manifest, &[(GRAPH, graph), (WEIGHTS, weights)])
    }

    /// The model in memory, without saving it.
    pub fn model(&self) -> Result<ClickModel> {
        let graph = self.net.scoring_graph(&self.parameters)?.model();
        ClickModel::new(&self.runtime, self.features.clone(), &self.options, self.table.clone(), graph)
    }
}

/// A click model, ready to score. It may be used by many threads at a time.
pub struct ClickModel {
    features: Vec<Feature>,
    layout: Layout,
    dim: usize,
    table_rows: usize,
    /// table rows x dim. It stays outside the graph, so that the sessions share it.
    table: Vec<f32>,
    pool: SessionPool,
}

impl fmt::Debug for ClickModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickModel").field("features", &self.features).field("table_rows", &self.table_rows).finish_non_exhaustive()
    }
}

impl ClickModel {
    /// Reads a version from the registry and verifies its files.
    ///
    /// Errors: [`Error::NoSuchModel`], [`Error::NoSuchVersion`], [`Error::Corrupt`], [`Error::Runtime`].
    pub fn load(runtime: &Arc<Runtime>, registry: &Registry, name: &ModelName, version: u32) -> Result<Self> {
        let mut stored = registry.read(name, version)?;
        let object = format!("model \"{name}@{version}\"");
        let mut file = |file: &str| stored.files.remove(file).ok_or_else(|| Error::corrupt(&object, format!("{file} is missing")));
        let (graph, weights) = (file(GRAPH)?, file(WEIGHTS)?);
        let manifest = stored.manifest;
        if manifest.format != FORMAT {
            return Err(Error::corrupt(object, format!("its format {} is not known to this program", manifest.format)));
        }
        let table = deserialise_table(&weights).map_err(|e| Error::corrupt(&object, format!("{WEIGHTS}: {e}")))?;
        if table.len() != manifest.table_rows * manifest.options.embedding_dim {
            return Err(Error::corrupt(object, format!("{WEIGHTS} does not hold the table of the manifest")));
        }
        Self::new(runtime, manifest.features, &manifest.options, table, graph)
    }

    fn new(runtime: &Arc<Runtime>, features: Vec<Feature>, options: &TrainOptions, table: Vec<f32>, graph: Vec<u8>) -> Result<Self> {
        let dim = options.embedding_dim;
        let pool = SessionPool::new(Arc::clone(runtime), graph)?;
        Ok(Self { layout: Layout::new(&features), features, dim, table_rows: table.len() / dim, table, pool })
    }

    /// The input columns, in the order of the training query. [`Batch`] holds the categories and the numbers among them in this order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The probability of a click for each row, within 0 to 1 and never NaN. Any number of rows may be given.
    ///
    /// Errors: [`Error::Data`] when the batch does not hold the features of the model, [`Error::Runtime`].
    pub fn predict(&self, batch: &Batch) -> Result<Vec<f32>> {
        self.layout.check(batch)?;
        let width = self.layout.hashed * self.dim + self.layout.dense;
        let mut probabilities = Vec::with_capacity(batch.rows);
        if batch.rows == 0 {
            return Ok(probabilities);
        }
        let mut places = Vec::new();
        self.pool.with(|worker| {
            for start in (0..batch.rows).step_by(CHUNK) {
                let rows = CHUNK.min(batch.rows - start);
                worker.buffer.resize(rows * width, 0.0);
                self.encode(batch, start, &mut places, &mut worker.buffer);
                let x = TensorRef::from_array_view(([rows, width], worker.buffer.as_slice()))?;
                let outputs = worker.session.run(ort::inputs![x])?;
                probabilities.extend_from_slice(outputs[0].try_extract_tensor::<f32>()?.1);
            }
            Ok(())
        })?;
        Ok(probabilities)
    }

    /// Writes embeddings and numbers of the rows from `start` on, as many as `x` has room for.
    fn encode(&self, batch: &Batch, start: usize, places: &mut Vec<u32>, x: &mut [f32]) {
        let (hashed, numeric) = (self.layout.hashed, self.layout.numeric());
        let embedded = hashed * self.dim;
        let width = embedded + self.layout.dense;
        let rows = x.len() / width;
        if hashed > 0 {
            // All hashes first: the copies below are then nothing but independent reads of the table, which the processor overlaps.
            places.clear();
            let ids = batch.ids[start * hashed..][..rows * hashed].chunks_exact(hashed);
            places.extend(ids.flat_map(|row| row.iter().enumerate().map(|(f, id)| table_row(f, *id, self.table_rows))));
            for (x, places) in x.chunks_exact_mut(width).zip(places.chunks_exact(hashed)) {
                match self.dim {
                    8 => gather_fixed::<8>(&self.table, places, &mut x[..embedded]),
                    16 => gather_fixed::<16>(&self.table, places, &mut x[..embedded]),
                    dim => gather(&self.table, dim, places, &mut x[..embedded]),
                }
            }
        }
        if numeric > 0 {
            let numbers = batch.numbers[start * numeric..].chunks_exact(numeric);
            for (x, raw) in x.chunks_exact_mut(width).zip(numbers) {
                self.layout.standardise(raw, &mut x[embedded..]);
            }
        }
    }
}

/// Copies rows of a table of `dim` numbers per row.
fn gather(table: &[f32], dim: usize, places: &[u32], out: &mut [f32]) {
    for (place, out) in places.iter().zip(out.chunks_exact_mut(dim)) {
        out.copy_from_slice(&table[*place as usize * dim..][..dim]);
    }
}

/// [`gather`] for a usual size: the copy is a few vector moves instead of a call.
fn gather_fixed<const DIM: usize>(table: &[f32], places: &[u32], out: &mut [f32]) {
    let (table, _) = table.as_chunks::<DIM>();
    let (out, _) = out.as_chunks_mut::<DIM>();
    for (place, out) in places.iter().zip(out) {
        *out = table[*place as usize];
    }
}

/// All weights in safetensors: the table and the dense part, which a later training can start from.
fn serialise(parameters: &[Parameter], table: &[f32], dim: usize) -> Result<Vec<u8>> {
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors = vec![(TABLE, vec![table.len() / dim, dim], bytes(table))];
    tensors.extend(parameters.iter().map(|p| (p.name.as_str(), p.shape.clone(), bytes(&p.values))));
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    views.and_then(|views| safetensors::serialize(views, None)).map_err(|e| Error::Runtime { reason: format!("safetensors: {e}") })
}

fn deserialise_table(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let table = tensors.tensor(TABLE).map_err(|e| e.to_string())?;
    if table.dtype() != Dtype::F32 {
        return Err("the table is not of 32-bit floats".to_owned());
    }
    Ok(table.data().as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
}

/// The net of a training.
pub(super) fn net(layout: &Layout, options: &TrainOptions) -> Dcnv2 {
    Dcnv2 {
        hashed: layout.hashed,
        dim: options.embedding_dim,
        dense: layout.dense,
        cross_layers: options.cross_layers,
        hidden: options.hidden.clone(),
    }
}
