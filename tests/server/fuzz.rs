//! SQLsmith: random queries over all that the catalog lists.

use std::io::Write;
use std::process::Command;

use crate::running::Running;

/// Queries of one run; with SQLSMITH_QUERIES in the environment so many.
const QUERIES: &str = "300";

#[tokio::test]
async fn random_queries_end_in_rows_or_in_errors_that_say_what_is_wrong() {
    let server = Running::start();
    let queries = std::env::var("SQLSMITH_QUERIES").unwrap_or_else(|_| QUERIES.to_owned());
    let target = format!("--target=host=127.0.0.1 port={} user=test dbname=stratagem options='-c statement_timeout=1s'", server.port);
    let run = Command::new("sqlsmith").args([&target, "--seed=7", "--verbose", &format!("--max-queries={queries}")]).output();
    let Ok(run) = run else {
        // past the capture of test output, which hides what a passing test prints
        let mut terminal = std::io::stderr().lock();
        writeln!(terminal, "SKIPPED: sqlsmith is not installed (Debian: apt-get install sqlsmith)").expect("the error stream is open");
        return;
    };
    let said = String::from_utf8_lossy(&run.stderr).to_lowercase();
    assert!(run.status.success(), "{said}");
    for sign in ["internal error", "panicked", "server closed the connection", "no connection to the server"] {
        assert!(!said.contains(sign), "{sign}: {said}");
    }
    // the server is as it was
    server.connect().await.batch_execute("SELECT count(*) FROM items").await.expect("rows");
}
