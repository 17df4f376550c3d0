//! Milliseconds of the queries of benches/queries.sql in DataFusion alone, as a JSON object on the last line: `queries DIR`, where each folder in
//! DIR is a table.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use tokio::runtime::Builder;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The first run warms up, the median of the others counts.
const RUNS: usize = 4;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("say which folder has the tables")?);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/queries.sql"))?;
    let cores = std::thread::available_parallelism()?.get();
    let config = SessionConfig::new().with_target_partitions(cores).set_str("datafusion.sql_parser.dialect", "PostgreSQL");
    let session = SessionContext::new_with_config(config);
    let runtime = Builder::new_multi_thread().worker_threads(cores).enable_all().build()?;
    for table in ["orders", "clickstream"] {
        let path = folder.join(table).display().to_string();
        runtime.block_on(session.register_parquet(table, path, ParquetReadOptions::default()))?;
    }
    let (mut times, mut rows) = (Vec::new(), Vec::new());
    for query in text.lines().filter(|line| !line.starts_with("--")) {
        let mut runs = Vec::with_capacity(RUNS);
        let mut count = 0;
        for _ in 0..RUNS {
            let (session, query) = (session.clone(), query.to_owned());
            let started = Instant::now();
            let answer = runtime.block_on(async { runtime.spawn(async move { session.sql(&query).await?.collect().await }).await })??;
            runs.push(started.elapsed().as_secs_f64() * 1e3);
            count = answer.iter().map(RecordBatch::num_rows).sum();
        }
        let measured = &mut runs[1..];
        measured.sort_by(f64::total_cmp);
        times.push(measured[measured.len() / 2]);
        rows.push(count);
    }
    Ok(writeln!(std::io::stdout().lock(), "{}", serde_json::json!({ "milliseconds": times, "rows": rows }))?)
}
