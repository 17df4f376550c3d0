//! A server of a test's own: own folder, own port, gone with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::parquet::arrow::ArrowWriter;
use futures::{Stream, StreamExt};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A test waits this long for what should come at once; it is no measure of speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
    /// The data folder; the state folder is `.stratagem` in it.
    pub(crate) data: PathBuf,
    folder: Option<TempDir>,
}

impl Running {
    /// A server over a folder with one small table, `items`.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with configuration by the environment, such as `("STRATAGEM_LIMITS__CONNECTIONS", "3")`.
    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_items(&folder.path().join("items.parquet"), 5);
        let mut running = Self::over(folder.path(), environment);
        running.folder = Some(folder);
        running
    }

    /// A server over a folder that the test has made.
    pub(crate) fn over(data: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratagem"));
        command.args(["serve", "--port", "0", "--data"]).arg(data);
        command.env("STRATAGEM_LOG__LEVEL", "warn").envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let port = line.trim().rsplit(' ').next().and_then(|p| p.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("no port in {line:?}")), data: data.to_owned(), folder: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connected client.
    pub(crate) async fn connect(&self) -> Client {
        let (client, connection) = self.try_connect().await.expect("a connection");
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn try_connect(
        &self,
    ) -> Result<(Client, tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>), tokio_postgres::Error> {
        tokio_postgres::connect(&format!("host=127.0.0.1 port={} user=test dbname=stratagem", self.port), NoTls).await
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for the end of the process and gives its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not end");
    }

    /// CPU time the server has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the process is there");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
        Duration::from_millis(ticks * 10)
    }

    /// Waits until the server computes nothing: less than a tenth of one core over a fifth of a second.
    pub(crate) async fn wait_until_idle(&self) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let before = self.cpu();
            tokio::time::sleep(Duration::from_millis(200)).await;
            if self.cpu() - before <= Duration::from_millis(20) {
                return;
            }
        }
        panic!("the server still computes");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the table `items(id, name, price)`.
pub(crate) fn write_items(path: &Path, rows: i64) {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(1..=rows))),
        ("name", Arc::new(StringArray::from_iter_values((1..=rows).map(|n| format!("item {n}"))))),
        ("price", Arc::new(Float64Array::from_iter_values((1..=rows).map(|n| n as f64 * 1.5)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let file = std::fs::File::create(path).expect("the file can be made");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("rows are written");
    writer.close().expect("the file is closed");
}

/// The SQLSTATE of a failed statement.
pub(crate) fn state(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("none", |code| code.code())
}

/// The number of a client's session.
pub(crate) async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a row").get(0)
}

/// The one value of a query.
pub(crate) async fn truth(client: &Client, sql: &str) -> bool {
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

/// Waits until a query answers true.
pub(crate) async fn until(client: &Client, sql: &str) {
    let wait = async {
        while !truth(client, sql).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect(sql);
}

/// Cancels a statement after a hundred of its rows: within a second there are no more, and the error says why.
pub(crate) async fn cancels_within_a_second<T>(client: &Client, mut rows: Pin<&mut impl Stream<Item = Result<T, tokio_postgres::Error>>>) {
    for _ in 0..100 {
        rows.next().await.expect("a row").expect("no error yet");
    }
    client.cancel_token().cancel_query(NoTls).await.expect("the request is sent");
    let asked = Instant::now();
    let error = loop {
        match rows.next().await {
            Some(Ok(_)) => assert!(asked.elapsed() < Duration::from_secs(1), "rows go on"),
            Some(Err(error)) => break error,
            None => panic!("the statement ended by itself"),
        }
    };
    assert_eq!(state(&error), "57014");
}
