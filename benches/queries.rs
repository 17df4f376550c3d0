//! What the server adds to DataFusion: a dozen queries of the kind that ClickBench asks over ten million rows, through SQL over a socket and
//! in this process by DataFusion alone, as one line of JSON. Both read the same Parquet files with as many threads.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use stratagem::config::{Config, Flags, ServerFlags};
use stratagem::server::Server;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ROWS: u32 = 10_000_000;

/// The first run warms up, the median of the others counts.
const RUNS: usize = 4;

const TABLE: &str = "SELECT value AS id,
    CAST(value * 7919 % 50000 AS INT) AS user_id,
    CAST(value * 104729 % 300 AS SMALLINT) AS region,
    CAST(value % 1000 AS INT) AS counter,
    'https://shop.example/' || CAST(value * 31 % 20000 AS VARCHAR) AS url,
    CASE WHEN value % 10 = 0 THEN 'phrase ' || CAST(value * 17 % 5000 AS VARCHAR) ELSE '' END AS phrase,
    CAST(value * 13 % 1920 AS SMALLINT) AS width,
    arrow_cast(1700000000 + value / 10, 'Timestamp(Second, None)') AS at,
    CAST(value % 97 AS DOUBLE) / 7 AS spent,
    value % 23 = 0 AS refreshed
  FROM generate_series(1, {rows})";

const QUERIES: [&str; 12] = [
    "SELECT count(*) FROM hits",
    "SELECT count(*) FROM hits WHERE width <> 0",
    "SELECT sum(width), count(*), avg(spent) FROM hits",
    "SELECT count(DISTINCT user_id) FROM hits",
    "SELECT min(at), max(at) FROM hits",
    "SELECT region, count(*) AS n FROM hits WHERE refreshed GROUP BY region ORDER BY n DESC, region LIMIT 10",
    "SELECT region, sum(width), count(*) AS n, avg(spent), count(DISTINCT user_id) FROM hits GROUP BY region ORDER BY n DESC, region LIMIT 10",
    "SELECT phrase, count(*) AS n FROM hits WHERE phrase <> '' GROUP BY phrase ORDER BY n DESC, phrase LIMIT 10",
    "SELECT user_id, phrase, count(*) AS n FROM hits GROUP BY user_id, phrase ORDER BY n DESC, user_id, phrase LIMIT 10",
    "SELECT count(*) FROM hits WHERE url LIKE '%/777%'",
    "SELECT user_id, at FROM hits WHERE counter = 7 ORDER BY at DESC, user_id LIMIT 1000",
    "SELECT date_trunc('hour', at) AS hour, count(*) AS n FROM hits GROUP BY 1 ORDER BY 1 LIMIT 100",
];

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let line = runtime.block_on(measure(folder.path()))?;
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

async fn measure(folder: &Path) -> Result<serde_json::Value> {
    let hits = folder.join("hits");
    let partitions = std::thread::available_parallelism().map_or(1, usize::from);
    let alone = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    let table = alone.sql(&TABLE.replace("{rows}", &ROWS.to_string())).await?;
    table.write_parquet(&hits.to_string_lossy(), DataFrameWriteOptions::new(), None).await?;
    alone.register_parquet("hits", hits.to_string_lossy(), ParquetReadOptions::default()).await?;

    let flags = Flags { data: Some(folder.to_owned()), server: ServerFlags { host: None, port: Some(0) }, ..Flags::default() };
    let server = Server::start(&Config::load(None, &flags)?).await?;
    let address = server.address();
    let (client, connection) =
        tokio_postgres::connect(&format!("host={} port={} user=bench dbname=stratagem", address.ip(), address.port()), NoTls).await?;
    let connection = tokio::spawn(connection);
    let (mut ours, mut peers, mut worst) = (0.0, 0.0, f64::INFINITY);
    for query in QUERIES {
        let (mut through_sql, mut in_process) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let (seconds, rows) = asked(&client, query).await?;
            through_sql.push(seconds);
            let begun = Instant::now();
            let found: usize = alone.sql(query).await?.collect().await?.iter().map(|batch| batch.num_rows()).sum();
            in_process.push(begun.elapsed().as_secs_f64());
            if rows != found {
                return Err(format!("{rows} rows through SQL, {found} in the process: {query}").into());
            }
        }
        let (through_sql, in_process) = (median(through_sql), median(in_process));
        writeln!(std::io::stderr().lock(), "queries: {:.2} of {in_process:.3} s: {query}", in_process / through_sql)?;
        (ours, peers, worst) = (ours + through_sql, peers + in_process, worst.min(in_process / through_sql));
    }
    drop(client);
    connection.await??;
    server.stop(std::future::pending()).await;
    Ok(serde_json::json!({ "stratagem": ours, "peer": peers, "worst_ratio": worst }))
}

/// The seconds that an answer takes, and its rows.
async fn asked(client: &Client, query: &str) -> Result<(f64, usize)> {
    let begun = Instant::now();
    let answer = client.simple_query(query).await?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok((seconds, answer.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count()))
}

/// The median of all but the first.
fn median(mut times: Vec<f64>) -> f64 {
    times.remove(0);
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
