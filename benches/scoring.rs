//! Rows scored per second, as one line of JSON: `scoring sql` through SQL over a socket, `scoring bare` by ONNX Runtime alone.
//!
//! The SQL side reads Parquet, hashes the features, looks up the embeddings, runs the model and adds up the result. The bare side runs the
//! same graphs (one per net of the ensemble) over tensors that are ready in memory, with as many threads: nothing that scores with these
//! graphs can be faster.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;
use stratagem::assets::Assets;
use stratagem::config::{Config, Flags, ServerFlags};
use stratagem::server::Server;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Copies of the 20 000 impressions of the sample that are scored.
const COPIES: usize = 20;
const ROWS: usize = COPIES * 20_000;
/// The first run warms up, the median of the others counts.
const RUNS: usize = 4;
/// The verb of the process that runs nothing but the bare loop.
const LOOP: &str = "loop";
/// Rows per call of the bare loop.
const CHUNK: usize = 1024;

const TRAIN: &str = "SELECT * FROM finetune(model => 'scoring', label => 'click', epochs => 1, seed => 7, query => $$
    SELECT item_id, position, user_feature_0, user_feature_1, user_feature_2, user_feature_3, click FROM open_bandit.impressions_random$$)";
const SCORE: &str = "SELECT sum(predict_ctr('scoring', r)) FROM open_bandit.repeated r";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [loop_alone, library, graphs @ ..] = arguments.as_slice()
        && loop_alone == LOOP
    {
        let times = bare(graphs, Path::new(library))?;
        return Ok(writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&times)?)?);
    }
    let side = arguments.into_iter().next().unwrap_or_default();
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let seconds = runtime.block_on(measure(&side, folder.path()))?;
    let line = serde_json::json!({ "side": side, "rows": ROWS, "rows_per_second": (ROWS as f64 / seconds).round() });
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

async fn measure(side: &str, folder: &Path) -> Result<f64> {
    let assets = Assets::locate()?;
    let schema = folder.join("open_bandit");
    std::fs::create_dir(&schema)?;
    let impressions = assets.data().join("open_bandit").join("impressions_random.parquet");
    std::fs::copy(&impressions, schema.join("impressions_random.parquet"))?;
    std::fs::create_dir(schema.join("repeated"))?;
    for copy in 0..COPIES {
        std::fs::copy(&impressions, schema.join("repeated").join(format!("{copy}.parquet")))?;
    }
    let flags = Flags { data: Some(folder.to_owned()), server: ServerFlags { host: None, port: Some(0) }, ..Flags::default() };
    let server = Server::start(&Config::load(None, &flags)?).await?;
    let address = server.address();
    let (client, connection) =
        tokio_postgres::connect(&format!("host={} port={} user=bench dbname=stratagem", address.ip(), address.port()), NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(TRAIN).await?;
    let mut times = Vec::with_capacity(RUNS);
    match side {
        "sql" => {
            for _ in 0..RUNS {
                times.push(through_sql(&client).await?);
            }
        }
        "bare" => {
            // A process of its own: a process can set up ONNX Runtime only once, and here the server has.
            let mut alone = Command::new(std::env::current_exe()?);
            alone.arg(LOOP).arg(assets.runtime_library()?).args(scoring_graphs(folder)?);
            times = serde_json::from_slice(&alone.stderr(Stdio::inherit()).output()?.stdout)?;
        }
        _ => return Err("say which side: sql or bare".into()),
    }
    drop(client);
    connection.await??;
    server.stop(std::future::pending()).await;
    times.remove(0);
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

async fn through_sql(client: &Client) -> Result<f64> {
    let start = Instant::now();
    let answer = client.simple_query(SCORE).await?;
    let seconds = start.elapsed().as_secs_f64();
    let sum: f64 = answer
        .iter()
        .find_map(|message| if let SimpleQueryMessage::Row(row) = message { row.get(0) } else { None })
        .ok_or("no row came back")?
        .parse()?;
    if sum > 0.0 && sum < ROWS as f64 { Ok(seconds) } else { Err(format!("the probabilities add up to {sum}").into()) }
}

/// The graphs that the training has saved.
fn scoring_graphs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![folder.join(".stratagem")];
    let mut graphs = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "onnx") {
                graphs.push(path);
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    if graphs.is_empty() { Err("the model was not saved".into()) } else { Ok(graphs) }
}

/// Seconds of each run: one session per graph with one thread for every core, each with its share of the chunks.
fn bare(graphs: &[String], library: &Path) -> Result<Vec<f64>> {
    let environment = ort::init_from(library)?.with_telemetry(false).build()?;
    let threads = std::thread::available_parallelism()?.get();
    let all = |_| graphs.iter().map(|graph| session(&environment, Path::new(graph))).collect::<ort::Result<Vec<Session>>>();
    let mut sessions: Vec<Vec<Session>> = (0..threads).map(all).collect::<ort::Result<_>>()?;
    let width =
        sessions[0][0].inputs()[0].dtype().tensor_shape().and_then(|shape| shape.last().copied()).ok_or("the graph has no width")?;
    let width = usize::try_from(width)?;
    let x: Vec<f32> = (0..CHUNK * width).map(|n| (n % 97) as f32 / 97.0 - 0.5).collect();
    let share = ROWS / CHUNK / threads;
    (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                let workers: Vec<_> = sessions.iter_mut().map(|own| scope.spawn(|| score(own, &x, width, share))).collect();
                workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a thread has panicked".into())))
            })?;
            let scored = share * threads * CHUNK;
            Ok(start.elapsed().as_secs_f64() * ROWS as f64 / scored as f64)
        })
        .collect()
}

fn session(environment: &Environment, graph: &Path) -> ort::Result<Session> {
    Session::builder(environment)?.with_intra_threads(1)?.with_intra_op_spinning(false)?.commit_from_file(graph)
}

fn score(sessions: &mut [Session], x: &[f32], width: usize, chunks: usize) -> Result<()> {
    let mut sum = 0.0;
    for _ in 0..chunks {
        for session in &mut *sessions {
            let x = TensorRef::from_array_view(([CHUNK, width], x))?;
            let outputs = session.run(ort::inputs![x])?;
            sum += outputs[0].try_extract_tensor::<f32>()?.1.iter().sum::<f32>();
        }
    }
    if sum.is_finite() { Ok(()) } else { Err("the probabilities are not finite".into()) }
}
