//! How the server ends: in peace, at once, and not at all.

use std::time::Instant;

use crate::running::{PATIENCE, Running, pid, state, until};

/// Waits until the server takes no new clients, and gives what it says to one.
async fn refused(server: &Running) -> tokio_postgres::Error {
    let start = Instant::now();
    loop {
        match server.try_connect().await {
            Err(error) => return error,
            Ok(_) => assert!(start.elapsed() < PATIENCE, "clients still get in"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_running_statements_end_and_sends_idle_clients_away() {
    let mut server = Running::start();
    let (busy, idle) = (server.connect().await, server.connect().await);
    let number = pid(&busy).await;
    let statement = tokio::spawn(async move { busy.simple_query("SELECT pg_sleep(1.5)").await.map(|_| ()) });
    until(&idle, &format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = {number} AND state = 'active'")).await;
    server.signal("TERM");
    let refused = refused(&server).await;
    assert!(refused.code().is_none_or(|c| c.code() == "57P01"), "{refused}");
    statement.await.expect("the task ends").expect("the statement was allowed to end");
    let error = idle.simple_query("SELECT 1").await.expect_err("sent away");
    assert!(error.is_closed() || state(&error) == "57P01", "{error}");
    assert_eq!(server.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_running_statements() {
    let mut server = Running::start();
    let (busy, other) = (server.connect().await, server.connect().await);
    let number = pid(&busy).await;
    let statement = tokio::spawn(async move { busy.simple_query("SELECT pg_sleep(1000)").await.map(|_| ()) });
    until(&other, &format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = {number} AND state = 'active'")).await;
    server.signal("TERM");
    // the first is known where no one gets in any more: the second is another
    refused(&server).await;
    server.signal("TERM");
    let error = statement.await.expect("the task ends").expect_err("ended");
    assert!(error.is_closed() || state(&error) == "57P01", "{error}");
    assert_eq!(server.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_address_is_said_in_one_line() {
    let server = Running::start();
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_stratagem"));
    second.args(["serve", "--port", &server.port.to_string(), "--data"]).arg(&server.data).arg("--state").arg(server.data.join("other"));
    let ended = second.env("STRATAGEM_LOG__LEVEL", "warn").output().expect("the binary starts");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains(&format!("can't listen on 127.0.0.1:{}", server.port)), "{told}");
}
