//! COPY with drivers and with psql: what goes out comes in again, and what stops a query stops a copy.

use std::process::Stdio;

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt, pin_mut};
use tokio_postgres::Client;

use crate::clients::{psql, text};
use crate::running::{Running, cancels_within_a_second, state};

/// Rows of every type that a table can have, with NULL and with what formats must quote.
const EVERYTHING: &str = "CREATE TABLE everything AS
    SELECT true AS boolean, 1::int2 AS small, (-2147483648)::int4 AS whole, 9223372036854775807::int8 AS large, 0.1::float4 AS single,
           1e300::float8 AS double, 12.50::numeric(10, 2) AS exact, E'a,b\\t\"c\"\\n\\\\d' AS text, 'x'::bytea AS bytes,
           '2024-02-29'::date AS day, '12:34:56.789'::time AS clock, '2024-02-29 12:34:56.789'::timestamp AS moment,
           '2024-02-29 12:34:56.789+02'::timestamptz AS instant, make_array(1, NULL, 3) AS numbers, make_array('a,b', '', NULL) AS texts
    UNION ALL SELECT false, -1::int2, 0::int4, -1::int8, 'NaN'::float4, '-Infinity'::float8, -0.05::numeric(10, 2), '', ''::bytea,
           '1969-12-31'::date, '00:00:00'::time, '1969-12-31 23:59:59.999999'::timestamp, '1969-12-31 23:59:59+00'::timestamptz,
           make_array(7), make_array('NULL')
    UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";

async fn out(client: &Client, sql: &str) -> Vec<u8> {
    let rows = client.copy_out(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.map_ok(|row| row.to_vec()).try_concat().await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

async fn into(client: &Client, sql: &str, data: Vec<u8>) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(sql).await?;
    pin_mut!(sink);
    for piece in data.chunks(7) {
        // the outcome is told at the end, also where it is known before
        if sink.send(Bytes::copy_from_slice(piece)).await.is_err() {
            break;
        }
    }
    sink.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_out_comes_in_again_in_every_format() {
    let server = Running::start();
    let client = server.connect().await;
    client.batch_execute(EVERYTHING).await.expect("a table");
    let written = out(&client, "COPY everything TO STDOUT").await;
    assert_eq!(written.iter().filter(|b| **b == b'\n').count(), 3, "{}", String::from_utf8_lossy(&written));
    for options in [
        "",
        "(FORMAT csv, HEADER)",
        "(FORMAT csv, FORCE_QUOTE *, NULL 'none', DELIMITER ';', QUOTE '''', ESCAPE E'\\\\')",
        "(DELIMITER '|', NULL 'none', HEADER)",
        "(FORMAT binary)",
    ] {
        client.batch_execute("CREATE TABLE again AS SELECT * FROM everything WHERE false").await.expect("a table");
        let data = out(&client, &format!("COPY everything TO STDOUT {options}")).await;
        let options = options.replace("FORCE_QUOTE *, ", "");
        let rows = into(&client, &format!("COPY again FROM STDIN {options}"), data).await;
        assert_eq!(rows.unwrap_or_else(|error| panic!("{options}: {error:?}")), 3);
        assert_eq!(out(&client, "COPY again TO STDOUT").await, written, "{options}");
        client.batch_execute("DROP TABLE again").await.expect("dropped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_given_up_leaves_nothing() {
    let server = Running::start();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a BIGINT)").await.expect("a table");
    {
        let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN").await.expect("started");
        pin_mut!(sink);
        sink.send(Bytes::from_static(b"1\n2\n")).await.expect("sent");
        // dropping it sends CopyFail
    }
    let error = into(&client, "COPY t FROM STDIN", b"3\nx\n".to_vec()).await.expect_err("x is no number");
    assert_eq!((state(&error), error.as_db_error().and_then(|e| e.where_())), ("22P02", Some("COPY t, line 2, column a: \"x\"")));
    let leaver = server.connect().await;
    let sink = leaver.copy_in::<_, Bytes>("COPY t FROM STDIN").await.expect("started");
    pin_mut!(sink);
    sink.send(Bytes::from(vec![b'1'; 5000])).await.expect("sent");
    drop(leaver);
    let count = client.query_one("SELECT count(*) FROM t", &[]).await.expect("a count");
    assert_eq!(count.get::<_, i64>(0), 0);
    assert_eq!(into(&client, "COPY t FROM STDIN", b"1\n2\n".to_vec()).await.expect("stored"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_a_copy_in_the_middle_of_its_rows() {
    let server = Running::start();
    let client = server.connect().await;
    {
        let rows = client.copy_out("COPY (SELECT x FROM generate_series(1, 1000000000000) AS a (x)) TO STDOUT").await.expect("started");
        pin_mut!(rows);
        cancels_within_a_second(&client, rows).await;
    }
    server.wait_until_idle().await;
    client.simple_query("SELECT 1").await.expect("usable");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_timeout_ends_a_copy_whose_client_is_silent() {
    let server = Running::start();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a BIGINT); SET statement_timeout = '300ms'").await.expect("a table");
    let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN").await.expect("started");
    pin_mut!(sink);
    sink.send(Bytes::from_static(b"1\n")).await.expect("sent");
    sink.flush().await.expect("flushed");
    let other = server.connect().await;
    other.simple_query("SELECT pg_sleep(0.5)").await.expect("slept");
    assert_eq!(state(&sink.finish().await.expect_err("timed out")), "57014");
    assert_eq!(client.query_one("SELECT count(*) FROM t", &[]).await.expect("usable").get::<_, i64>(0), 0);
}

#[test]
fn psql_copies_files_of_the_client_both_ways() {
    let server = Running::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("items.csv");
    let file = file.to_str().expect("UTF-8");
    let run = |command: &str| {
        let run = psql(&server, &["-At", "-c", command]);
        assert!(run.status.success(), "{command}: {}", text(&run.stderr));
        text(&run.stdout)
    };
    assert_eq!(run(&format!("\\copy (SELECT * FROM items ORDER BY id) TO '{file}' WITH (FORMAT csv, HEADER)")), "COPY 5\n");
    let written = std::fs::read_to_string(file).expect("a file");
    assert!(written.starts_with("id,name,price\n1,item 1,1.5\n2,item 2,3\n"), "{written}");
    run("CREATE TABLE back AS SELECT * FROM items WHERE false");
    assert_eq!(run(&format!("\\copy back FROM '{file}' CSV HEADER")), "COPY 5\n");
    assert_eq!(run("SELECT count(*), sum(price) FROM back"), "5|22.5\n");
    assert_eq!(run("\\copy (SELECT id, name FROM back WHERE id = 5) TO STDOUT"), "5\titem 5\n");

    // data in the script itself, up to its end marker
    let mut script = std::process::Command::new("psql");
    script.args(["-X", "-q", "-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", "test", "-d", "stratagem"]);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("psql starts");
    let input = b"\\set ON_ERROR_STOP 1\nCOPY back (name, id) FROM stdin;\nsix\t6\n\\N\t7\n\\.\nSELECT id, name FROM back WHERE id > 5 ORDER BY id;\n";
    std::io::Write::write_all(&mut script.stdin.take().expect("a pipe"), input).expect("psql reads");
    let done = script.wait_with_output().expect("psql ends");
    assert_eq!(text(&done.stdout), " id | name \n----+------\n  6 | six\n  7 | \n(2 rows)\n\n", "{}", text(&done.stderr));

    let refused = psql(&server, &["-c", &format!("COPY items TO '{file}'")]);
    assert!(text(&refused.stderr).contains("\\copy"), "{}", text(&refused.stderr));
}

#[test]
fn psql_fetches_a_large_result_in_parts() {
    let server = Running::start();
    let query = "SELECT x FROM generate_series(1, 10) AS a (x)";
    let fetched = psql(&server, &["-At", "-v", "FETCH_COUNT=3", "-c", query]);
    assert_eq!(text(&fetched.stdout), "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", "{}", text(&fetched.stderr));
    // the first rows are there although the last ones never are
    let endless = "SELECT x FROM generate_series(1, 1000000000000) AS a (x)";
    let mut script = std::process::Command::new("psql");
    script.args(["-X", "-At", "-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", "test", "-d", "stratagem"]);
    script.args(["-v", "FETCH_COUNT=2", "-c", endless]).stdout(Stdio::piped());
    let mut script = script.spawn().expect("psql starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(script.stdout.take().expect("a pipe")));
    for expected in 1..=6 {
        assert_eq!(lines.next().expect("a row").expect("a line"), expected.to_string());
    }
    script.kill().expect("ended");
    script.wait().expect("gone");
}
