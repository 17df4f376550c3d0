//! A click model on disk and in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::calibration::Calibration;
use super::fold::Fold;
use super::piece::floats;
use super::{Member, TrainOptions, Trained};
use crate::error::{Error, Result};
use crate::features::encode::{Encoding, Places};
use crate::features::{Batch, Bins, Feature, Kind, Number};
use crate::net::{Net, Parameter, port};
use crate::registry::{self, Manifest, ModelName, Registry, Source};
use crate::runtime::{Runtime, SessionPool};

const WEIGHTS: &str = "weights.safetensors";
/// The texts of the known values, by feature; it is there when texts were kept.
const TEXTS: &str = "values.json";
/// Rows per call of the runtime: large enough to be fast, small enough that the activations stay in the cache.
const CHUNK: usize = 512;

/// Everything a model needs to score, as it is saved.
#[derive(Debug, Clone)]
pub(crate) struct Weights {
    /// The known values of each feature, in the order of their rows.
    pub(crate) known: Vec<Vec<u64>>,
    pub(crate) members: Vec<Member>,
}

impl Trained {
    /// Saves the model as a new version of `name` and returns the version. `transform` is how its columns were prepared.
    ///
    /// Errors: [`Error::Busy`] when another writer holds the name for too long, [`Error::Io`].
    pub fn save(self, registry: &Registry, name: &ModelName, source: Source, transform: Option<serde_json::Value>) -> Result<u32> {
        let weights = self.weights.serialise(self.net.stride())?;
        let mut files = vec![(WEIGHTS.to_owned(), weights)];
        for (index, member) in self.weights.members.iter().enumerate() {
            files.push((graph_file(index), self.net.scoring_graph(&member.parameters)?.model()));
        }
        if !self.texts.is_empty() {
            files.push((TEXTS.to_owned(), serde_json::to_vec(&self.texts).map_err(|e| Error::corrupt(TEXTS, e))?));
        }
        let manifest = Manifest {
            format: registry::FORMAT,
            name: name.clone(),
            version: 0,
            kind: self.kind,
            parent: self.parent,
            created_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            source_sha256: source.sha256(),
            source,
            rows: self.rows,
            positives: self.positives,
            seed: self.options.seed,
            features: self.features,
            transform,
            options: self.options,
            calibration: self.calibration,
            epochs: self.epochs,
            kept: self.kept,
            evaluation: self.evaluation,
            runtime: self.runtime.version().to_owned(),
            files: Default::default(),
        };
        registry.publish(manifest, &files)
    }

    /// The click model in memory, without saving it.
    pub fn model(&self) -> Result<ClickModel> {
        ClickModel::new(&self.runtime, self.features.clone(), &self.options, self.calibration.clone(), self.weights.clone(), self.graphs()?)
    }

    /// The graph of each net.
    pub(crate) fn graphs(&self) -> Result<Vec<Vec<u8>>> {
        self.weights.members.iter().map(|member| Ok(self.net.scoring_graph(&member.parameters)?.model())).collect()
    }
}

fn graph_file(member: usize) -> String {
    format!("scoring.{member}.onnx")
}

/// Probabilities of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    tasks: usize,
    /// rows x tasks.
    values: Vec<f32>,
}

impl Scores {
    /// The probabilities of rows x tasks.
    pub(crate) fn new(tasks: usize, values: Vec<f32>) -> Self {
        Self { tasks, values }
    }

    /// Probabilities per row: 1, or 2 for a model of clicks and of conversions after a click.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// The probabilities of a task, from 0, one per row; of the last one there is, for a higher number.
    pub fn task(&self, task: usize) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.values.chunks_exact(self.tasks).map(move |row| row[task.min(self.tasks - 1)])
    }
}

/// A click model, ready to score. It may be used by many threads at a time.
pub struct ClickModel {
    features: Vec<Feature>,
    encoding: Encoding,
    calibration: Vec<Calibration>,
    nets: Nets,
}

/// Nets of one architecture over the same features, ready to score.
pub(crate) struct Nets {
    net: Net,
    members: Vec<Scorer>,
}

/// A net with its table, which stays outside the graph, so that the sessions share it.
struct Scorer {
    table: Vec<f32>,
    knots: Vec<f32>,
    fold: Option<Fold>,
    pool: SessionPool,
}

impl fmt::Debug for ClickModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickModel").field("features", &self.features).field("net", &self.nets.net).finish_non_exhaustive()
    }
}

impl ClickModel {
    /// Reads a version from the registry and verifies its files.
    ///
    /// Errors: [`Error::NoSuchModel`], [`Error::NoSuchVersion`], [`Error::Corrupt`], [`Error::Runtime`].
    pub fn load(runtime: &Arc<Runtime>, registry: &Registry, name: &ModelName, version: u32) -> Result<Self> {
        Stored::read(registry, name, version)?.into_model(runtime)
    }

    fn new(
        runtime: &Arc<Runtime>,
        features: Vec<Feature>,
        options: &TrainOptions,
        calibration: Vec<Calibration>,
        weights: Weights,
        graphs: Vec<Vec<u8>>,
    ) -> Result<Self> {
        let encoding = Encoding::new(&features, &weights.known, false);
        let nets = Nets::new(runtime, &encoding, options, weights.members, graphs)?;
        let features = features.into_iter().filter(Feature::is_used).collect();
        Ok(Self { features, encoding, calibration, nets })
    }

    /// The raw columns it reads. [`Batch`] holds them by kind, each kind in this order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The probabilities for each row, within 0 to 1 and never NaN. Any number of rows may be given.
    ///
    /// Errors: [`Error::Data`] when the batch does not hold the features of the model, [`Error::Runtime`].
    pub fn predict(&self, batch: &Batch) -> Result<Scores> {
        batch.check(self.features.iter().map(|feature| feature.values))?;
        let tasks = self.calibration.len();
        let mut values = self.nets.logits(&self.encoding, batch, 1)?;
        for logits in values.chunks_exact_mut(tasks) {
            logits.iter_mut().zip(&self.calibration).for_each(|(logit, calibration)| *logit = calibration.probability(*logit));
        }
        Ok(Scores::new(tasks, values))
    }
}

impl Nets {
    pub(crate) fn new(
        runtime: &Arc<Runtime>,
        encoding: &Encoding,
        options: &TrainOptions,
        members: Vec<Member>,
        graphs: Vec<Vec<u8>>,
    ) -> Result<Self> {
        let net = net(encoding, options);
        let members = members.into_iter().zip(graphs).map(|(Member { table, parameters }, graph)| {
            let mut knots = Vec::new();
            encoding.knots(&table, net.stride(), &mut knots);
            let fold = if runtime.is_cpu() { Fold::new(&net, encoding, &table, &knots, &parameters) } else { None };
            let graph = match &fold {
                Some(fold) => net.folded_graph(&parameters, fold.width)?.model(),
                None => graph,
            };
            Ok(Scorer { table, knots, fold, pool: SessionPool::new(Arc::clone(runtime), graph)? })
        });
        Ok(Self { members: members.collect::<Result<_>>()?, net })
    }

    /// Logits of a row.
    pub(crate) fn outputs(&self) -> usize {
        self.net.outputs()
    }

    /// Logits of the rows of a batch that fits `encoding`, rows x parts x tasks: the nets are in `parts` groups of equal size, one after the
    /// other, and the logits of a group are averaged.
    pub(crate) fn logits(&self, encoding: &Encoding, batch: &Batch, parts: usize) -> Result<Vec<f32>> {
        let tasks = self.net.outputs();
        let each = self.members.len() / parts.max(1);
        let mut logits = vec![0.0; batch.rows * parts * tasks];
        let rows: Vec<u32> = (0..batch.rows as u32).collect();
        let mut places = Places::default();
        let (width, stride) = (self.net.width(), self.net.stride());
        let share = 1.0 / each as f32;
        for (rows, logits) in rows.chunks(CHUNK).zip(logits.chunks_mut(CHUNK * parts * tasks)) {
            encoding.places(batch, rows, &mut places);
            for (index, member) in self.members.iter().enumerate() {
                let part = index / each;
                member.pool.with(|worker| {
                    let x = &mut worker.buffer;
                    x.resize(rows.len() * width, 0.0);
                    places.gather(&member.table, &member.knots, stride, self.net.fields, x, width);
                    encoding.numbers(batch, rows, x, width);
                    let mut inputs = vec![floats(port::X, &[rows.len(), width], x)?];
                    if let Some(fold) = &member.fold {
                        fold.sums(&places, self.net.fields, x, width, &mut worker.sums);
                        inputs.push(floats(port::SUMS, &[rows.len(), fold.width], &worker.sums)?);
                    }
                    if self.net.history_target.is_some() {
                        let history = places.gather_history(&member.table, stride, &mut worker.history);
                        inputs.push(floats(port::HISTORY, &[rows.len(), history.length, stride], &worker.history)?);
                        inputs.push(floats(port::HISTORY_MASK, &[rows.len(), history.length], &history.mask)?);
                    }
                    let outputs = worker.session.run(inputs)?;
                    let own = outputs[0].try_extract_tensor::<f32>()?.1;
                    let sums = logits.chunks_exact_mut(parts * tasks).flat_map(|row| &mut row[part * tasks..][..tasks]);
                    sums.zip(own).for_each(|(sum, logit)| *sum += logit * share);
                    Ok(())
                })?;
            }
        }
        Ok(logits)
    }
}

/// A version as it is on disk.
pub(crate) struct Stored {
    pub(crate) manifest: Manifest,
    pub(crate) weights: Weights,
    /// The texts of the known values, by feature.
    pub(crate) texts: BTreeMap<usize, Vec<String>>,
    pub(crate) graphs: Vec<Vec<u8>>,
}

impl Stored {
    /// Reads and verifies a version.
    pub(crate) fn read(registry: &Registry, name: &ModelName, version: u32) -> Result<Self> {
        let registry::Stored { manifest, files } = registry.read(name, version)?;
        Self::new(&format!("model \"{name}@{version}\""), manifest, files)
    }

    /// A version by its files; `object` is named in errors.
    pub(crate) fn new(object: &str, manifest: Manifest, mut files: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        if manifest.format != registry::FORMAT {
            return Err(Error::corrupt(object, format!("its format {} is not known to this program", manifest.format)));
        }
        if let registry::Kind::Onnx(_) = manifest.kind {
            return Err(Error::data(format!("{object} was not trained here"), "name a model that finetune has made"));
        }
        let texts = files.remove(TEXTS).map(|bytes| serde_json::from_slice(&bytes)).transpose();
        let texts = texts.map_err(|e| Error::corrupt(object, format!("{TEXTS}: {e}")))?.unwrap_or_default();
        let mut file = |file: &str| files.remove(file).ok_or_else(|| Error::corrupt(object, format!("{file} is missing")));
        let weights = Weights::deserialise(&file(WEIGHTS)?, &manifest).map_err(|e| Error::corrupt(object, format!("{WEIGHTS}: {e}")))?;
        let graphs = (0..weights.members.len()).map(|member| file(&graph_file(member))).collect::<Result<_>>()?;
        Ok(Self { manifest, weights, texts, graphs })
    }

    /// The click model in memory.
    pub(crate) fn into_model(self, runtime: &Arc<Runtime>) -> Result<ClickModel> {
        let Self { manifest, weights, graphs, .. } = self;
        if let registry::Kind::Uplift(_) | registry::Kind::Text(_) | registry::Kind::Language(_) = manifest.kind {
            let reason = format!("model \"{}@{}\" is no click model", manifest.name, manifest.version);
            return Err(Error::data(reason, "name a click model"));
        }
        ClickModel::new(runtime, manifest.features, &manifest.options, manifest.calibration, weights, graphs)
    }
}

impl Weights {
    /// All weights in safetensors: known values, tables and dense parts, which a later training can start from.
    fn serialise(&self, stride: usize) -> Result<Vec<u8>> {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let mut tensors = Vec::new();
        for (feature, known) in self.known.iter().enumerate().filter(|(_, known)| !known.is_empty()) {
            tensors.push((
                format!("known.{feature}"),
                Dtype::U64,
                vec![known.len()],
                known.iter().flat_map(|id| id.to_le_bytes()).collect(),
            ));
        }
        for (index, member) in self.members.iter().enumerate() {
            tensors.push((format!("{index}.table"), Dtype::F32, vec![member.table.len() / stride, stride], bytes(&member.table)));
            tensors
                .extend(member.parameters.iter().map(|p| (format!("{index}.{}", p.name), Dtype::F32, p.shape.clone(), bytes(&p.values))));
        }
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        views.and_then(|views| safetensors::serialize(views, None)).map_err(|e| Error::Runtime { reason: format!("safetensors: {e}") })
    }

    fn deserialise(bytes: &[u8], manifest: &Manifest) -> Result<Self, String> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let known = |feature: usize| match tensors.tensor(&format!("known.{feature}")) {
            Ok(known) => known.data().as_chunks::<8>().0.iter().map(|id| u64::from_le_bytes(*id)).collect(),
            Err(_) => Vec::new(),
        };
        let known: Vec<Vec<u64>> = (0..manifest.features.len()).map(known).collect();
        for (feature, known) in manifest.features.iter().zip(&known) {
            if feature.vocabulary().is_some_and(|vocabulary| !vocabulary.hashed && vocabulary.size as usize != known.len()) {
                return Err(format!("the values of \"{}\" are not those of the manifest", feature.name()));
            }
        }
        let end = rows(&manifest.features).ok_or("the features do not fit together")?;
        let net = net(&Encoding::new(&manifest.features, &known, false), &manifest.options);
        let read = |name: String, shape: &[usize]| {
            let tensor = tensors.tensor(&name).map_err(|e| e.to_string())?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                return Err(format!("{name} has shape {:?} instead of {shape:?}", tensor.shape()));
            }
            Ok(tensor.data().as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect::<Vec<f32>>())
        };
        let member = |index: u32| {
            let table = read(format!("{index}.table"), &[end as usize, net.stride()])?;
            let parameter = |(name, shape): (String, Vec<usize>)| {
                let values = read(format!("{index}.{name}"), &shape)?;
                Ok(Parameter { name, shape, values })
            };
            let parameters = net.shapes().into_iter().map(parameter).collect::<Result<_, String>>()?;
            Ok(Member { parameters, table })
        };
        let members = (0..manifest.options.ensembles * manifest.kind.parts()).map(member).collect::<Result<_, String>>()?;
        Ok(Self { known, members })
    }
}

/// The rows of the table for features, if these are ones that a training can have made: a manifest may come from elsewhere.
fn rows(features: &[Feature]) -> Option<u32> {
    let mut end = 0;
    for feature in features {
        let fits = match &feature.kind {
            Kind::Number(Number { bins: Bins::Piecewise(bins), edges, .. }) => edges.len() >= 2 && edges.len() == bins.size as usize + 1,
            Kind::Number(Number { bins: Bins::Quantile(bins), edges, .. }) => edges.len() + 1 == bins.size as usize,
            Kind::History { target, .. } => features.get(*target).is_some_and(|target| matches!(target.kind, Kind::Category(_))),
            _ => true,
        };
        if let Some(vocabulary) = feature.vocabulary() {
            end = end.max(vocabulary.offset.checked_add(vocabulary.size)?.checked_add(2)? - u32::from(vocabulary.hashed));
        }
        fits.then_some(())?;
    }
    Some(end)
}

/// The net for what the encoding gives.
pub(crate) fn net(encoding: &Encoding, options: &TrainOptions) -> Net {
    Net {
        model_type: options.model_type,
        fields: encoding.fields,
        dim: options.embedding_dim,
        dense: encoding.dense,
        history_target: encoding.history_target,
        cross_layers: options.cross_layers,
        hidden: options.hidden.clone(),
        experts: options.experts,
        classes: options.classes,
        several: options.several,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::atomic::AtomicBool;

    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::examples::{Block, Examples};
    use crate::features::{Bag, Column, Values};
    use crate::net::ModelType;

    /// Rows of a category, a number, a list of items and a list of numbers.
    fn block(rows: usize) -> Block {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let (mut items, mut vector) = (Bag::default(), Bag::default());
        for _ in 0..rows {
            items.ids.extend((0..rng.random_range(0..4)).map(|_| rng.random_range(1..9u64) << 56));
            items.end_row();
            vector.ids.extend(1..=3u64);
            vector.weights.extend((0..3).map(|_| rng.random::<f32>() - 0.5));
            vector.end_row();
        }
        let ids: Vec<u64> = (0..rows).map(|_| rng.random_range(0..20u64)).collect();
        let mut number = || if rng.random::<f32>() < 0.1 { f32::NAN } else { rng.random::<f32>() * 10.0 };
        let numbers: Vec<f32> = (0..rows).map(|_| number()).collect();
        let labels = ids.iter().zip(&numbers).map(|(id, number)| f32::from(u8::from(id % 3 == 0 || *number > 8.0))).collect();
        Block { batch: Batch { rows, ids, numbers, bags: vec![items, vector] }, labels, split: vec![] }
    }

    #[test]
    fn layers_worked_out_before_give_the_same_scores() {
        let columns =
            [("c", "bigint", Values::Id), ("n", "real", Values::Number), ("i", "bigint[]", Values::Items), ("v", "real[]", Values::Vector)];
        let columns = columns.map(|(name, sql_type, values)| Column::new(name, sql_type, values)).to_vec();
        let block = block(800);
        let examples = Examples::new(columns, &block, 0);
        let runtime = crate::testing::runtime();
        for model_type in [ModelType::Dcnv2, ModelType::Deepfm, ModelType::Finalmlp, ModelType::Logistic] {
            let options = TrainOptions { model_type, epochs: 2, ensembles: 2, hidden: vec![16, 8], ..TrainOptions::default() };
            let trained =
                crate::click::train(&runtime, &examples, &options, None, &mut |_| ControlFlow::Continue(()), &AtomicBool::new(false));
            let trained = trained.unwrap();
            let folded = trained.model().unwrap();
            assert_eq!(folded.nets.members.iter().any(|member| member.fold.is_some()), model_type == ModelType::Dcnv2, "{model_type}");
            let mut plain = trained.model().unwrap();
            for (scorer, member) in plain.nets.members.iter_mut().zip(&trained.weights.members) {
                scorer.fold = None;
                let graph = plain.nets.net.scoring_graph(&member.parameters).unwrap().model();
                scorer.pool = SessionPool::new(Arc::clone(&runtime), graph).unwrap();
            }
            let (ours, theirs) = (folded.predict(&block.batch).unwrap(), plain.predict(&block.batch).unwrap());
            let worst = ours.task(0).zip(theirs.task(0)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-6, "{model_type}: {worst}");
        }
    }
}
