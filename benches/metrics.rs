//! Seconds of a metric over ten million rows in memory, through SQL, as one line of JSON: `metrics auc` on one core, `metrics gauc` on all cores with
//! a million groups.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stratagem_models::runtime::Device;
use stratagem_udfs::language::Limits;
use stratagem_udfs::models::{Models, Sources};
use tokio::runtime::Builder;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ROWS: usize = 10_000_000;
const GROUPS: i64 = 1_000_000;
/// Rows of a batch, as the engine reads them.
const BATCH: usize = 8192;
/// The first run warms up, the median of the others counts.
const RUNS: usize = 4;

fn main() -> Result<()> {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let cores = std::thread::available_parallelism()?.get();
    let batches = rows()?;
    let line = match verb.as_str() {
        "auc" => {
            let seconds = measured("SELECT auc(label, score) FROM rows", batches.clone(), 1)?;
            let bounded = measured("SELECT approx_auc(label, score, 4096) FROM rows", batches.clone(), 1)?;
            let logloss = measured("SELECT logloss(label, score) FROM rows", batches.clone(), 1)?;
            let parallel = measured("SELECT auc(label, score) FROM rows", batches.clone(), cores)?;
            let sort = sorted(&batches)?;
            serde_json::json!({
                "rows_per_second": ROWS as f64 / seconds, "seconds": seconds, "sort_seconds": sort, "per_sort": seconds / sort,
                "all_cores_seconds": parallel, "approx_auc_seconds": bounded, "logloss_seconds": logloss,
            })
        }
        "gauc" => {
            let seconds = measured("SELECT gauc(label, score, user_id) FROM rows", batches.clone(), cores)?;
            let one_core = measured("SELECT gauc(label, score, user_id) FROM rows", batches.clone(), 1)?;
            let by_user = measured("SELECT count(p) FROM (SELECT logloss(label, score) AS p FROM rows GROUP BY user_id)", batches, cores)?;
            serde_json::json!({
                "rows_per_second": ROWS as f64 / seconds, "seconds": seconds, "one_core_seconds": one_core, "logloss_by_user_seconds": by_user,
            })
        }
        _ => return Err("say which metric: auc or gauc".into()),
    };
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// Rows whose score is the probability of their label.
fn rows() -> Result<Vec<RecordBatch>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    (0..ROWS)
        .step_by(BATCH)
        .map(|start| {
            let count = BATCH.min(ROWS - start);
            let scores: Vec<f64> = (0..count).map(|_| random.random()).collect();
            let labels: Vec<i64> = scores.iter().map(|score| i64::from(random.random::<f64>() < *score)).collect();
            let users: Vec<i64> = (0..count).map(|_| random.random_range(0..GROUPS)).collect();
            let (labels, users): (ArrayRef, ArrayRef) = (Arc::new(Int64Array::from(labels)), Arc::new(Int64Array::from(users)));
            let scores: ArrayRef = Arc::new(Float64Array::from(scores));
            Ok(RecordBatch::try_from_iter([("label", labels), ("score", scores), ("user_id", users)])?)
        })
        .collect()
}

/// The median seconds of a query over the rows, with so many partitions and threads.
fn measured(query: &str, batches: Vec<RecordBatch>, partitions: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let absent = "the benchmark runs no model";
    let sources =
        Sources { library: Box::new(|| Err(absent.to_owned())), language: Box::new(|| Err(absent.to_owned())), encoders: Vec::new() };
    let models = Arc::new(Models::open(folder.path(), Device::Cpu, sources, Limits::default())?);
    let config = SessionConfig::new().with_target_partitions(partitions);
    let builder = SessionStateBuilder::new().with_default_features().with_config(config);
    let session = SessionContext::new_with_state(stratagem_udfs::register_all(builder, models).build());
    let size = batches.len().div_ceil(partitions);
    let parts: Vec<Vec<RecordBatch>> = batches.chunks(size).map(<[RecordBatch]>::to_vec).collect();
    session.register_table("rows", Arc::new(MemTable::try_new(batches[0].schema(), parts)?))?;
    let runtime = Builder::new_multi_thread().worker_threads(partitions).enable_all().build()?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let started = Instant::now();
        let session = session.clone();
        let query = query.to_owned();
        let answer = runtime.block_on(async { runtime.spawn(async move { session.sql(&query).await?.collect().await }).await })??;
        times.push(started.elapsed().as_secs_f64());
        if answer.iter().map(RecordBatch::num_rows).sum::<usize>() != 1 {
            return Err(format!("{} came back", answer.len()).into());
        }
    }
    Ok(median(times))
}

/// The median seconds of sorting the scores by comparison, as the standard library does it.
fn sorted(batches: &[RecordBatch]) -> Result<f64> {
    let mut scores = Vec::with_capacity(ROWS);
    for batch in batches {
        let column = batch.column(1).as_any().downcast_ref::<Float64Array>().ok_or("scores are numbers")?;
        scores.extend_from_slice(column.values());
    }
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let mut scores = scores.clone();
        let started = Instant::now();
        scores.sort_unstable_by(f64::total_cmp);
        times.push(started.elapsed().as_secs_f64());
        if scores[0] > scores[ROWS - 1] {
            return Err("not sorted".into());
        }
    }
    Ok(median(times))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.remove(0);
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
