//! What stops a statement, and what it leaves behind: cancel, timeouts, clients that vanish, limits.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use futures::{StreamExt, pin_mut};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::running::{Running, cancels_within_a_second, state};

/// Computes until it is stopped, without a row before its end.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) AS a (x) WHERE x % 7 = 3";

/// Sends rows until it is stopped.
const STREAMING: &str = "SELECT x FROM generate_series(1, 1000000000000) AS a (x)";

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_a_statement_within_a_second_and_leaves_the_connection_usable() {
    let server = Running::start();
    let client = server.connect().await;
    let token = client.cancel_token();
    let (result, asked) = tokio::join!(client.simple_query(ENDLESS), async {
        // the statement is running once the server has used some time for it
        let before = server.cpu();
        while server.cpu() - before < Duration::from_millis(100) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        token.cancel_query(NoTls).await.expect("the request is sent");
        Instant::now()
    });
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let error = result.expect_err("canceled");
    assert_eq!((state(&error), error.as_db_error().map(|e| e.message())), ("57014", Some("canceling statement due to user request")));
    server.wait_until_idle().await;
    assert_eq!(client.query_one("SELECT 1::int8", &[]).await.expect("usable").get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_a_statement_in_the_middle_of_its_rows() {
    let server = Running::start();
    let client = server.connect().await;
    {
        let rows = client.simple_query_raw(STREAMING).await.expect("started");
        pin_mut!(rows);
        cancels_within_a_second(&client, rows).await;
    }
    server.wait_until_idle().await;
    assert_eq!(client.query_one("SELECT 2::int8", &[]).await.expect("usable").get::<_, i64>(0), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_with_the_wrong_secret_does_nothing() {
    let server = Running::start();
    let client = server.connect().await;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
    let sleep = async { client.simple_query("SELECT pg_sleep(0.5)").await };
    let forge = async {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
        let request: Vec<u8> = [16i32, 80_877_102, pid, 12345].iter().flat_map(|n| n.to_be_bytes()).collect();
        socket.write_all(&request).expect("sent");
        // closed by the server, which has handled it then
        assert_eq!(socket.read(&mut [0]).expect("closed"), 0);
    };
    let (slept, ()) = tokio::join!(sleep, forge);
    slept.expect("not canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_timeout_holds_in_both_protocols_and_after_the_first_rows() {
    let server = Running::start();
    let client = server.connect().await;
    client.simple_query("SET statement_timeout = '500ms'").await.expect("set");
    for sql in [ENDLESS, STREAMING] {
        let start = Instant::now();
        let error = client.simple_query(sql).await.expect_err("timed out");
        assert_eq!(
            (state(&error), error.as_db_error().map(|e| e.message())),
            ("57014", Some("canceling statement due to statement timeout"))
        );
        assert!((Duration::from_millis(500)..Duration::from_millis(1500)).contains(&start.elapsed()), "{:?}", start.elapsed());
        let error = client.query(sql, &[]).await.expect_err("timed out");
        assert_eq!(state(&error), "57014");
    }
    server.wait_until_idle().await;
    client.simple_query("SELECT 1").await.expect("usable");
}

/// A client without a driver that has sent a query and reads nothing.
fn ask(server: &Running, sql: &str) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
    let body = b"\0\x03\0\0user\0test\0\0";
    socket.write_all(&[&(body.len() as u32 + 4).to_be_bytes(), body.as_slice()].concat()).expect("start-up is sent");
    let query = [sql.as_bytes(), &[0]].concat();
    socket.write_all(&[b"Q".as_slice(), &(query.len() as u32 + 4).to_be_bytes(), &query].concat()).expect("the query is sent");
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_client_stops_its_statement() {
    let server = Running::start();
    let before = server.cpu();
    let socket = ask(&server, ENDLESS);
    while server.cpu() - before < Duration::from_millis(100) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // what it was sent is not read: closing resets the connection
    drop(socket);
    server.wait_until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_between_rows_gives_its_place_back() {
    let server = Running::start_with(&[("STRATAGEM_LIMITS__CONNECTIONS", "1")]);
    let mut socket = ask(&server, STREAMING);
    socket.read_exact(&mut [0; 10_000]).expect("rows come");
    assert_eq!(state(&server.try_connect().await.err().expect("the one place is taken")), "53300");
    drop(socket);
    let start = Instant::now();
    while server.try_connect().await.is_err() {
        assert!(start.elapsed() < crate::running::PATIENCE, "the place is not given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.wait_until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_slow_statement_come_as_they_are_made() {
    let server = Running::start();
    let client = server.connect().await;
    client.simple_query("SET datafusion.execution.batch_size = 1").await.expect("set");
    // all rows together would take more than the test's patience
    let rows = client.simple_query_raw("SELECT x, pg_sleep(0.2) FROM generate_series(1, 100000) AS a (x)").await.expect("started");
    pin_mut!(rows);
    let mut seen = 0;
    while seen < 2 {
        if let SimpleQueryMessage::Row(_) = rows.next().await.expect("a row").expect("no error") {
            seen += 1;
        }
    }
    client.cancel_token().cancel_query(NoTls).await.expect("the request is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_are_served_and_the_next_is_told_why_not() {
    let server = Running::start();
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(server.connect().await);
    }
    let answers = futures::future::join_all(clients.iter().map(|c| c.query_one("SELECT count(*) FROM items", &[]))).await;
    assert!(answers.iter().all(|a| a.as_ref().is_ok_and(|row| row.get::<_, i64>(0) == 5)));
    let error = server.try_connect().await.err().expect("one too many");
    assert_eq!(state(&error), "53300");
    drop(clients.pop());
    let start = Instant::now();
    while server.try_connect().await.is_err() {
        assert!(start.elapsed() < crate::running::PATIENCE, "the place is not given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_beyond_the_memory_limit_fails_alone() {
    let server = Running::start_with(&[("STRATAGEM_LIMITS__MEMORY", "30 MB")]);
    let client = server.connect().await;
    let join = "SELECT count(*) FROM generate_series(1, 5000000) AS a (x) JOIN generate_series(1, 5000000) AS b (y) ON a.x = b.y";
    let error = client.simple_query(join).await.expect_err("too large");
    assert_eq!(state(&error), "53200", "{error:?}");
    assert!(error.as_db_error().and_then(|e| e.hint()).is_some_and(|h| h.contains("limits.memory")));
    // what can spill does
    let sorted =
        client.query_one("SELECT sum(x) FROM (SELECT x FROM generate_series(1, 3000000) AS a (x) ORDER BY x % 1000, x) s", &[]).await;
    assert_eq!(sorted.expect("spilled").get::<_, i64>(0), 4_500_001_500_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sessions_settings_are_never_anothers() {
    let server = Running::start();
    let (one, other) = (server.connect().await, server.connect().await);
    one.batch_execute("SET TimeZone = 'Asia/Tokyo'; SET datafusion.execution.batch_size = 1234; SET search_path = nowhere")
        .await
        .expect("set");
    for (name, value) in [("TimeZone", "UTC"), ("datafusion.execution.batch_size", "8192"), ("search_path", "work, public")] {
        let shown: String = other.query_one(&format!("SHOW {name}"), &[]).await.expect("known").get(0);
        assert_eq!(shown, value);
    }
    other.query_one("SELECT count(*) FROM items", &[]).await.expect("found by the other's path");
    assert_eq!(state(&one.query_one("SELECT count(*) FROM items", &[]).await.expect_err("not found")), "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_shown_in_the_sessions_zone() {
    let server = Running::start();
    let client = server.connect().await;
    client.simple_query("SET TIME ZONE 'Asia/Tokyo'").await.expect("set");
    let rows =
        client.simple_query("SELECT '2020-02-01 00:00:00+00'::timestamptz, '2020-02-01 12:30:00.25'::timestamp").await.expect("rows");
    let row = rows.iter().find_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(row) } else { None }).expect("a row");
    assert_eq!((row.get(0), row.get(1)), (Some("2020-02-01 09:00:00+09"), Some("2020-02-01 12:30:00.25")));
}
