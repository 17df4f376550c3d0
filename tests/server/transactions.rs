//! Two sessions, one set of tables.

use crate::running::{Running, state, write_items};

async fn ids(client: &tokio_postgres::Client) -> Vec<i64> {
    let rows = client.query("SELECT id FROM t ORDER BY id", &[]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_what_is_not_committed() {
    let server = Running::start();
    let (one, other) = (server.connect().await, server.connect().await);
    one.batch_execute("CREATE TABLE t AS SELECT id FROM items WHERE id < 3").await.expect("made");
    one.batch_execute("BEGIN; DELETE FROM t; INSERT INTO t VALUES (7)").await.expect("changed");
    assert_eq!((ids(&one).await, ids(&other).await), (vec![7], vec![1, 2]));
    one.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(ids(&other).await, [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_transactions_that_change_one_table_the_second_fails_with_40001() {
    let server = Running::start();
    let (one, other) = (server.connect().await, server.connect().await);
    one.batch_execute("CREATE TABLE t AS SELECT id FROM items WHERE id < 3").await.expect("made");
    for client in [&one, &other] {
        client.batch_execute("BEGIN; UPDATE t SET id = id + 10").await.expect("changed");
    }
    one.batch_execute("COMMIT").await.expect("the first one is committed");
    let error = other.batch_execute("COMMIT").await.expect_err("the second one is not");
    assert_eq!(state(&error), "40001");
    assert_eq!(ids(&other).await, [11, 12]);
    other.batch_execute("UPDATE t SET id = id + 10").await.expect("the session goes on, and a second try succeeds");
    assert_eq!(ids(&one).await, [21, 22]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_many_add_at_once_are_all_there() {
    let server = Running::start();
    let one = server.connect().await;
    one.batch_execute("CREATE TABLE t (id bigint)").await.expect("made");
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..6 {
        let client = (server.connect().await, client);
        clients.spawn(async move {
            for n in 0..40 {
                let text = format!("BEGIN; INSERT INTO t VALUES ({}); COMMIT", client.1 * 1000 + n);
                client.0.batch_execute(&text).await.expect("added");
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("no panic");
    }
    assert_eq!(ids(&one).await.len(), 240);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeatable_read_sees_one_state() {
    let server = Running::start();
    let (one, other) = (server.connect().await, server.connect().await);
    one.batch_execute("CREATE TABLE t AS SELECT id FROM items WHERE id < 3").await.expect("made");
    one.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("begun");
    assert_eq!(ids(&one).await, [1, 2]);
    other.batch_execute("INSERT INTO t VALUES (3)").await.expect("added");
    assert_eq!(ids(&one).await, [1, 2]);
    one.batch_execute("COMMIT; BEGIN").await.expect("another");
    assert_eq!(ids(&one).await, [1, 2, 3]);
    other.batch_execute("INSERT INTO t VALUES (4)").await.expect("added");
    assert_eq!(ids(&one).await, [1, 2, 3, 4], "by default each statement sees what is committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_had_not_committed_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    write_items(&folder.path().join("items.parquet"), 5);
    {
        let server = Running::over(folder.path(), &[]);
        let client = server.connect().await;
        client.batch_execute("CREATE TABLE t AS SELECT id FROM items WHERE id < 3").await.expect("made");
        client.batch_execute("BEGIN; UPDATE t SET id = 9; CREATE TABLE u AS SELECT 1 AS a").await.expect("changed");
        // dropping the server kills it
    }
    let server = Running::over(folder.path(), &[]);
    let client = server.connect().await;
    assert_eq!(ids(&client).await, [1, 2]);
    assert_eq!(state(&client.query("SELECT * FROM u", &[]).await.expect_err("it is not there")), "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_an_update_have_the_types_of_its_columns() {
    let server = Running::start();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t AS SELECT id, name, price FROM items").await.expect("made");
    let changed = client.execute("UPDATE t SET name = $1, price = $2 WHERE id = $3", &[&"new", &0.5_f64, &2_i64]).await.expect("updated");
    assert_eq!(changed, 1);
    assert_eq!(client.execute("DELETE FROM t WHERE id > $1", &[&3_i64]).await.expect("deleted"), 2);
    let row = client.query_one("SELECT name, price FROM t WHERE id = 2", &[]).await.expect("the row");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, f64>(1)), ("new", 0.5));
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_tables_are_a_sessions_own() {
    let server = Running::start();
    let (one, other) = (server.connect().await, server.connect().await);
    one.batch_execute("CREATE TEMP TABLE t AS SELECT id FROM items").await.expect("made");
    assert_eq!(ids(&one).await, [1, 2, 3, 4, 5]);
    assert_eq!(state(&other.query("SELECT id FROM t", &[]).await.expect_err("not there")), "42P01");
    one.batch_execute("DISCARD ALL").await.expect("discarded");
    assert_eq!(state(&one.query("SELECT id FROM t", &[]).await.expect_err("not there")), "42P01");
}
