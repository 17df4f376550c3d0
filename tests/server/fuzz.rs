//! SQLsmith: random queries over all that the catalog lists.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::running::Running;

/// Queries of one run; with SQLSMITH_QUERIES in the environment so many, with SQLSMITH_SECONDS as many as fit in so long, with
/// SQLSMITH_SEED other ones.
const QUERIES: &str = "300";

#[tokio::test]
async fn random_queries_end_in_rows_or_in_errors_that_say_what_is_wrong() {
    let server = Running::start();
    let seconds: Option<u64> = std::env::var("SQLSMITH_SECONDS").ok().map(|seconds| seconds.parse().expect("SQLSMITH_SECONDS is a number"));
    let queries = match seconds {
        Some(_) => i32::MAX.to_string(),
        None => std::env::var("SQLSMITH_QUERIES").unwrap_or_else(|_| QUERIES.to_owned()),
    };
    let target = format!("--target=host=127.0.0.1 port={} user=test dbname=stratagem options='-c statement_timeout=1s'", server.port);
    let seed = std::env::var("SQLSMITH_SEED").unwrap_or_else(|_| "7".to_owned());
    let mut command = Command::new("sqlsmith");
    command.args([&target, &format!("--seed={seed}"), "--verbose", &format!("--max-queries={queries}")]);
    let Ok(mut smith) = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() else {
        // past the capture of test output, which hides what a passing test prints
        let mut terminal = std::io::stderr().lock();
        writeln!(terminal, "SKIPPED: sqlsmith is not installed (Debian: apt-get install sqlsmith)").expect("the error stream is open");
        return;
    };
    let mut complaints = smith.stderr.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        complaints.read_to_end(&mut said).map(|_| said)
    });
    let begun = Instant::now();
    let ended = loop {
        match smith.try_wait().expect("the child can be asked") {
            Some(status) => break Some(status),
            None if seconds.is_some_and(|seconds| begun.elapsed() > Duration::from_secs(seconds)) => break None,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    if ended.is_none() {
        smith.kill().expect("it can be ended");
        smith.wait().expect("it ends");
    }
    let said = reader.join().expect("the reader ends").expect("what it says can be read");
    let said = String::from_utf8_lossy(&said).to_lowercase();
    // it ends by itself before its time only where the connection is lost
    assert!(ended.is_none_or(|status| status.success() && seconds.is_none()), "{said}");
    for sign in ["internal error", "panicked", "server closed the connection", "no connection to the server"] {
        assert!(!said.contains(sign), "{sign}: {said}");
    }
    // the server is as it was
    server.connect().await.batch_execute("SELECT count(*) FROM items").await.expect("rows");
}
