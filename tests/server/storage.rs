//! Files that are tables, tables that become files, and what survives.

use std::process::Command;

use crate::running::{Running, state, write_items};

async fn count(client: &tokio_postgres::Client, table: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap_or_else(|e| panic!("{table}: {e:?}")).get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_folders_and_partitions_are_tables_and_new_ones_appear() {
    let folder = tempfile::tempdir().expect("a folder");
    write_items(&folder.path().join("items.parquet"), 5);
    let server = Running::over(folder.path(), &[]);
    let client = server.connect().await;
    assert_eq!(count(&client, "items").await, 5);

    write_items(&folder.path().join("later.parquet"), 3);
    assert_eq!(count(&client, "later").await, 3);

    for (path, rows) in [
        ("shop/orders.parquet", 2),
        ("shop/events/part-0.parquet", 4),
        ("shop/events/part-1.parquet", 6),
        ("log/day=2024-01-01/a.parquet", 1),
        ("log/day=2024-01-02/a.parquet", 2),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        write_items(&path, rows);
    }
    assert_eq!(count(&client, "shop.orders").await, 2);
    assert_eq!(count(&client, "shop.events").await, 10);
    assert_eq!(count(&client, "log").await, 3);
    assert_eq!(count(&client, "log WHERE day = '2024-01-02'").await, 2);

    write_items(&folder.path().join("shop/events/part-2.parquet"), 1);
    assert_eq!(count(&client, "shop.events").await, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_breaks_only_its_own_table() {
    let folder = tempfile::tempdir().expect("a folder");
    write_items(&folder.path().join("items.parquet"), 5);
    let whole = std::fs::read(folder.path().join("items.parquet")).expect("readable");
    std::fs::write(folder.path().join("cut.parquet"), &whole[..whole.len() / 2]).expect("written");
    std::fs::write(folder.path().join("text.parquet"), "not a Parquet file").expect("written");
    std::fs::write(folder.path().join("empty.parquet"), "").expect("written");
    let server = Running::over(folder.path(), &[]);
    let client = server.connect().await;
    assert_eq!(count(&client, "items").await, 5);
    for table in ["cut", "text", "empty"] {
        let error = client.query(&format!("SELECT anything FROM {table}"), &[]).await.expect_err("broken");
        let shown = error.as_db_error().map(|e| e.message().to_owned()).unwrap_or_default();
        assert!(matches!(state(&error), "58030" | "22000" | "XX001"), "{table}: {error:?}");
        assert!(shown.contains(&format!("{table}.parquet")), "{shown}");
    }
    let listed =
        client.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'", &[]).await.expect("the list works");
    assert!(listed.len() >= 4, "{listed:?}");
    assert_eq!(count(&client, "items").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_views_made_with_sql_survive_a_kill_and_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    write_items(&folder.path().join("items.parquet"), 5);
    {
        let server = Running::over(folder.path(), &[]);
        let client = server.connect().await;
        client.batch_execute("CREATE TABLE kept AS SELECT * FROM items; INSERT INTO kept SELECT * FROM items; CREATE VIEW dear AS SELECT * FROM kept WHERE price > 3").await.expect("made");
        client.batch_execute("CREATE TABLE gone AS SELECT 1 AS a; DROP TABLE gone").await.expect("made and dropped");
        // dropping the server kills it
    }
    let server = Running::over(folder.path(), &[]);
    let client = server.connect().await;
    assert_eq!(count(&client, "kept").await, 10);
    assert_eq!(count(&client, "dear").await, 6);
    assert_eq!(state(&client.query("SELECT * FROM gone", &[]).await.expect_err("dropped")), "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_create_table_leaves_nothing() {
    let server = Running::start();
    let client = server.connect().await;
    client.simple_query("SET statement_timeout = '300ms'").await.expect("set");
    let error =
        client.simple_query("CREATE TABLE big AS SELECT x FROM generate_series(1, 1000000000000) AS a (x)").await.expect_err("timed out");
    assert_eq!(state(&error), "57014");
    client.simple_query("RESET statement_timeout").await.expect("reset");
    assert_eq!(state(&client.query("SELECT * FROM big", &[]).await.expect_err("not there")), "42P01");
    client.simple_query("CREATE TABLE big AS SELECT 1 AS a").await.expect("the name is free");
}

#[test]
fn two_servers_do_not_share_a_state_folder() {
    let server = Running::start();
    let second =
        Command::new(env!("CARGO_BIN_EXE_stratagem")).args(["serve", "--port", "0", "--data"]).arg(&server.data).output().expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains(".stratagem"), "{said}");
}

#[test]
fn an_unusable_start_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("a name");
    for (arguments, expected) in [
        (vec!["--data", data, "--host", "0.0.0.0"], "no authentication"),
        (vec!["--data", "/nonexistent"], "/nonexistent"),
        (vec!["--data", data, "--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (vec!["--data", data, "--device", "abacus"], "abacus"),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_stratagem")).arg("serve").args(&arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(1), "{arguments:?}");
        assert!(said.contains(expected) && said.trim().lines().count() == 1, "{arguments:?}: {said}");
    }
}
