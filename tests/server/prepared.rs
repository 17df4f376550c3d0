//! Prepared statements: what changes between two executions shows in the second.

use chrono::{DateTime, Utc};
use tokio_postgres::Client;

use crate::running::{Running, state};

async fn train(client: &Client, create: &str, label: &str, columns: &str) {
    let rows = format!("SELECT value % 2 AS item_id, value % 3 AS {columns}, {label} AS click FROM generate_series(1, 2000)");
    let create = format!("{create} OPTIONS (label = 'click', epochs = 2, ensembles = 1) AS {rows}");
    client.batch_execute(&create).await.expect("trained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_score_follows_its_model() {
    let server = Running::start();
    let client = server.connect().await;
    train(&client, "CREATE MODEL ctr", "value % 2 = 0", "other").await;
    let score = client.prepare("SELECT predict_ctr('ctr', item_id => $1::int8, other => $2::int8)").await.expect("planned");
    let ask = async |item: i64| client.query_one(&score, &[&item, &0_i64]).await.map(|row| row.get::<_, f64>(0));
    assert!(ask(0).await.expect("scored") > 0.5 && ask(1).await.expect("scored") < 0.5);

    train(&client, "CREATE OR REPLACE MODEL ctr", "value % 2 = 1", "other").await;
    assert!(ask(0).await.expect("scored") < 0.5 && ask(1).await.expect("scored") > 0.5);

    client.batch_execute("ALTER MODEL ctr SET ALIAS default = 1").await.expect("promoted");
    assert!(ask(0).await.expect("scored") > 0.5);

    client.batch_execute("ALTER MODEL ctr SET ALIAS default = 2").await.expect("promoted");
    train(&client, "CREATE OR REPLACE MODEL ctr", "value % 2 = 1", "new").await;
    assert!(ask(0).await.expect("scored by the promoted version") < 0.5);
    client.batch_execute("ALTER MODEL ctr SET ALIAS default = 3").await.expect("promoted");
    let error = ask(0).await.expect_err("a feature is missing");
    assert_eq!(state(&error), "42703");
    assert!(error.as_db_error().is_some_and(|error| error.message().contains("\"new\"")), "{error:?}");

    client.batch_execute("DROP MODEL ctr").await.expect("dropped");
    let error = ask(0).await.expect_err("there is no model");
    assert_eq!(state(&error), "42704");
    assert_eq!(error.as_db_error().map(|error| error.message()), Some("model \"ctr\" does not exist"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_query_follows_its_tables_and_views() {
    let server = Running::start();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t AS SELECT 1 AS a; CREATE VIEW v AS SELECT a + 10 AS a FROM t").await.expect("made");
    let [table, view] = ["SELECT a + $1::int8 FROM t", "SELECT a + $1::int8 FROM v"];
    let [table, view] = [client.prepare(table).await.expect("planned"), client.prepare(view).await.expect("planned")];
    let ask = async |query| client.query_one(query, &[&100_i64]).await.map(|row| row.get::<_, i64>(0));
    assert_eq!((ask(&table).await.expect("a row"), ask(&view).await.expect("a row")), (101, 111));

    client.batch_execute("DROP TABLE t; CREATE TABLE t AS SELECT 2 AS a").await.expect("replaced");
    assert_eq!((ask(&table).await.expect("a row"), ask(&view).await.expect("a row")), (102, 112));
    client.batch_execute("CREATE OR REPLACE VIEW v AS SELECT a + 20 AS a FROM t").await.expect("replaced");
    assert_eq!(ask(&view).await.expect("a row"), 122);
    client.batch_execute("DROP VIEW v; DROP TABLE t").await.expect("dropped");
    for query in [&table, &view] {
        assert_eq!(state(&ask(query).await.expect_err("nothing is left")), "42P01");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_query_follows_settings_and_the_clock() {
    let server = Running::start();
    let client = server.connect().await;
    let query = "SELECT $1::timestamptz::text, current_setting('TimeZone'), '2026-07-01 12:00:00'::timestamptz = '2026-07-01 12:00:00+00'::timestamptz";
    let query = client.prepare(query).await.expect("planned");
    let noon: DateTime<Utc> = "2026-07-01T12:00:00Z".parse().expect("a time");
    let ask = async || {
        let row = client.query_one(&query, &[&noon]).await.expect("a row");
        (row.get::<_, String>(0)[11..13].to_owned(), row.get::<_, String>(1), row.get::<_, bool>(2))
    };
    let utc = ("12".to_owned(), "UTC".to_owned(), true);
    let tokyo = ("21".to_owned(), "Asia/Tokyo".to_owned(), false);
    client.batch_execute("SET TimeZone = 'UTC'").await.expect("set");
    assert_eq!(ask().await, utc);
    client.batch_execute("SET TimeZone = 'Asia/Tokyo'").await.expect("set");
    assert_eq!(ask().await, tokyo);
    client.batch_execute("BEGIN; SET LOCAL TimeZone = 'UTC'").await.expect("set");
    assert_eq!(ask().await, utc);
    client.batch_execute("COMMIT").await.expect("ended");
    assert_eq!(ask().await, tokyo);

    let now = client.prepare("SELECT now()").await.expect("planned");
    let now = async || client.query_one(&now, &[]).await.expect("a row").get::<_, DateTime<Utc>>(0);
    assert_ne!(now().await, now().await);
    client.batch_execute("BEGIN").await.expect("begun");
    assert_eq!(now().await, now().await);
}
