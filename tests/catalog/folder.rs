//! Files and folders are tables, and what is in them now is what a statement sees.

use std::fs;

use datafusion::parquet::file::properties::WriterProperties;
use datafusion::physical_plan::{collect, displayable};
use stratagem::catalog::Error;

use crate::fixture::{Shop, rows, session, write};

const TABLES: &str =
    "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1, 2";

#[tokio::test]
async fn every_file_and_folder_is_a_table_and_sub_folders_are_schemas() {
    let shop = Shop::new();
    shop.put("orders.parquet", "SELECT 1 AS id").await;
    shop.put("shop/customers.parquet", "SELECT 2 AS id").await;
    shop.put("shop/events/part-0.parquet", "SELECT 3 AS id").await;
    shop.put("shop/events/part-1.parquet", "SELECT 4 AS id").await;
    shop.put("clicks/data_0.parquet", "SELECT 5 AS id").await;
    fs::write(shop.path("notes.txt"), "no table").unwrap();

    assert_eq!(shop.rows(TABLES).await, "public clicks\npublic orders\nshop customers\nshop events");
    assert_eq!(shop.rows("SELECT id FROM orders").await, "1");
    assert_eq!(shop.rows("SELECT id FROM shop.customers").await, "2");
    assert_eq!(shop.rows("SELECT id FROM shop.events ORDER BY id").await, "3\n4");
    assert_eq!(shop.rows("SELECT id FROM clicks").await, "5");
}

#[tokio::test]
async fn new_files_and_tables_are_seen_by_the_next_statement() {
    let shop = Shop::new();
    assert_eq!(shop.rows(TABLES).await, "");
    shop.put("t/part-0.parquet", "SELECT 1 AS id").await;
    assert_eq!(shop.rows("SELECT count(*) FROM t").await, "1");
    shop.put("t/part-1.parquet", "SELECT 2 AS id").await;
    assert_eq!(shop.rows("SELECT count(*), max(id) FROM t").await, "2 2");
    shop.put("new_schema/u.parquet", "SELECT 3 AS id").await;
    assert_eq!(shop.rows("SELECT id FROM new_schema.u").await, "3");
    fs::remove_file(shop.path("t/part-0.parquet")).unwrap();
    assert_eq!(shop.rows("SELECT id FROM t").await, "2");
    fs::remove_dir_all(shop.path("new_schema")).unwrap();
    assert_eq!(shop.rows(TABLES).await, "public t");
}

#[tokio::test]
async fn overwritten_file_shows_its_new_rows_even_when_only_the_bytes_differ() {
    let shop = Shop::new();
    // The files have one size, and may be written within one tick of the file system's clock.
    for value in 100..140 {
        shop.put("t.parquet", &format!("SELECT CAST({value} AS BIGINT) AS id, 'x' AS note")).await;
        assert_eq!(shop.rows("SELECT id FROM t").await, value.to_string());
        assert_eq!(shop.rows("SELECT max(id), count(*) FROM t").await, format!("{value} 1"));
    }
}

#[tokio::test]
async fn another_schema_in_an_overwritten_file_is_the_tables_schema() {
    let shop = Shop::new();
    shop.put("t.parquet", "SELECT 1 AS id").await;
    assert_eq!(shop.rows("SELECT * FROM t").await, "1");
    shop.put("t.parquet", "SELECT 'a' AS name, 2.5 AS price").await;
    assert_eq!(shop.rows("SELECT name, price FROM t").await, "a 2.5");
}

#[tokio::test]
async fn statement_does_not_read_a_file_that_was_replaced_after_planning() {
    let shop = Shop::new();
    shop.put("t.parquet", "SELECT value AS id FROM generate_series(1, 10)").await;
    let plan = shop.plan("SELECT sum(id) FROM t").await;
    shop.put("t.parquet", "SELECT value AS id FROM generate_series(1, 20)").await;
    let error = collect(plan, shop.session.task_ctx()).await.unwrap_err();
    assert_eq!(Error::find(&error), Some(&Error::Changed { path: "t.parquet".into() }));
    assert_eq!(shop.rows("SELECT sum(id) FROM t").await, "210");
}

#[tokio::test]
async fn names_are_kept_letter_for_letter() {
    let shop = Shop::new();
    for (at, name) in
        ["Upper", "two words", "größe", "商品", "a.b", "100%", "a%20b", "q\"uote", "#1", "semi;colon", "emoji 🛒"].iter().enumerate()
    {
        shop.put(&format!("{name}.parquet"), &format!("SELECT {at} AS id")).await;
        let quoted = name.replace('"', "\"\"");
        assert_eq!(shop.rows(&format!("SELECT id FROM \"{quoted}\"")).await, at.to_string(), "{name}");
    }
    shop.put("My Schema/T.parquet", "SELECT 7 AS \"Id\"").await;
    assert_eq!(shop.rows("SELECT \"Id\" FROM \"My Schema\".\"T\"").await, "7");
    assert_eq!(shop.rows("SELECT count(*) FROM information_schema.columns WHERE table_schema IN ('public', 'My Schema')").await, "12");
}

#[tokio::test]
async fn nested_and_odd_types_are_read() {
    let shop = Shop::new();
    let query = "SELECT [1, 2, NULL] AS list, named_struct('a', 1, 'b', [named_struct('c', 'x')]) AS deep, map {'k': 1} AS m, \
                 arrow_cast('d', 'Dictionary(Int32, Utf8)') AS dict, arrow_cast('l', 'LargeUtf8') AS large, \
                 arrow_cast('b', 'Binary') AS bytes, arrow_cast(1, 'UInt64') AS u, CAST('1.50' AS DECIMAL(38, 2)) AS price, \
                 TIMESTAMP '2024-02-29 12:00:00' AS at, TIME '10:00:00' AS time, DATE '2024-02-29' AS day, NULL AS nothing";
    shop.put("t.parquet", query).await;
    assert_eq!(
        shop.rows("SELECT list, deep['b'][1]['c'], m['k'], dict, large, CAST(bytes AS VARCHAR), u, price, at, time, day, nothing FROM t")
            .await,
        "[1, 2, NULL] x 1 d l b 1 1.50 2024-02-29T12:00:00 10:00:00 2024-02-29 NULL"
    );
    assert_eq!(shop.rows("SELECT count(DISTINCT dict || large) FROM t WHERE dict = 'd' AND nothing IS NULL").await, "1");
}

#[tokio::test]
async fn empty_tables_have_their_columns() {
    let shop = Shop::new();
    shop.put("none.parquet", "SELECT 1 AS id, 'x' AS name WHERE false").await;
    assert_eq!(shop.rows("SELECT count(*), count(id), max(name) FROM none").await, "0 0 NULL");
    assert_eq!(shop.rows("SELECT * FROM none").await, "");
    assert_eq!(shop.rows("SELECT column_name FROM information_schema.columns WHERE table_name = 'none' ORDER BY 1").await, "id\nname");
}

#[tokio::test]
async fn columns_that_a_file_lacks_are_null() {
    let shop = Shop::new();
    shop.put("t/part-0.parquet", "SELECT 1 AS id").await;
    shop.put("t/part-1.parquet", "SELECT 'b' AS name, 2 AS id").await;
    assert_eq!(shop.rows("SELECT id, name FROM t ORDER BY id").await, "1 NULL\n2 b");
    assert_eq!(shop.rows("SELECT id FROM t WHERE name IS NULL").await, "1");
    assert_eq!(shop.rows("SELECT min(name), max(name), count(name), count(*) FROM t").await, "b b 1 2");
}

#[tokio::test]
async fn timestamps_of_several_precisions_are_one_column() {
    let shop = Shop::new();
    for (at, unit) in ["s", "ms", "us", "ns"].iter().enumerate() {
        let query = format!("SELECT arrow_cast('2024-01-0{} 00:00:00', 'Timestamp({unit})') AS at", at + 1);
        shop.put(&format!("t/part-{at}.parquet"), &query).await;
    }
    assert_eq!(shop.rows("SELECT min(at), max(at), count(*) FROM t").await, "2024-01-01T00:00:00 2024-01-04T00:00:00 4");
    assert_eq!(shop.rows("SELECT at FROM t WHERE at > TIMESTAMP '2024-01-03 00:00:00'").await, "2024-01-04T00:00:00");
}

#[tokio::test]
async fn count_is_answered_from_the_footers() {
    let shop = Shop::new();
    for file in 0..3 {
        shop.put(&format!("t/part-{file}.parquet"), "SELECT value AS id FROM generate_series(1, 1000)").await;
    }
    let plan = shop.plan("SELECT count(*) FROM t").await;
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(!text.contains("DataSourceExec"), "{text}");
    assert_eq!(shop.rows("SELECT count(*) FROM t").await, "3000");
}

#[tokio::test]
async fn limit_reads_no_more_files_than_it_needs() {
    let shop = Shop::new();
    for file in 0..50 {
        shop.put(&format!("t/part-{file:02}.parquet"), &format!("SELECT value + {file} AS id FROM generate_series(1, 100)")).await;
    }
    let plan = shop.plan("SELECT id FROM t LIMIT 150").await;
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert_eq!(text.matches("part-").count(), 2, "{text}");
    assert_eq!(collect(plan, shop.session.task_ctx()).await.unwrap().iter().map(|batch| batch.num_rows()).sum::<usize>(), 150);
    // A filter may need them all.
    assert_eq!(shop.rows("SELECT count(*) FROM (SELECT id FROM t WHERE id > 146 LIMIT 150)").await, "6");
}

#[tokio::test]
async fn limit_and_filter_read_few_row_groups_of_a_large_file() {
    let shop = Shop::new();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10_000)).build();
    write(&shop.path("t.parquet"), "SELECT value AS id, md5(CAST(value AS VARCHAR)) AS noise FROM generate_series(1, 200000)", properties)
        .await;
    let size = fs::metadata(shop.path("t.parquet")).unwrap().len();
    for query in ["SELECT noise FROM t LIMIT 5", "SELECT noise FROM t WHERE id BETWEEN 100001 AND 100005"] {
        let plan = shop.plan(query).await;
        let batches = collect(std::sync::Arc::clone(&plan), shop.session.task_ctx()).await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 5);
        let scanned = bytes_scanned(plan.as_ref());
        assert!(scanned > 0 && scanned * 4 < size as usize, "{query} read {scanned} of {size} bytes");
    }
}

fn bytes_scanned(plan: &dyn datafusion::physical_plan::ExecutionPlan) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.sum_by_name("bytes_scanned")).map_or(0, |value| value.as_usize());
    own + plan.children().iter().map(|child| bytes_scanned(child.as_ref())).sum::<usize>()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_load_many_files_at_once() {
    let shop = Shop::new();
    for file in 0..200 {
        shop.put(&format!("t/part-{file}.parquet"), &format!("SELECT {file} AS id")).await;
    }
    let catalog = std::sync::Arc::clone(&shop.catalog);
    let mut queries = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let session = session(&catalog);
        queries.spawn(async move { rows(&session, "SELECT count(*), sum(id) FROM t WHERE id >= 0").await });
    }
    while let Some(answer) = queries.join_next().await {
        assert_eq!(answer.unwrap(), "200 19900");
    }
}

#[tokio::test]
async fn data_folder_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let error = stratagem::catalog::DataCatalog::open(&folder.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, Error::Root { .. }), "{error}");
    fs::write(folder.path().join("file"), "").unwrap();
    let error = stratagem::catalog::DataCatalog::open(&folder.path().join("file")).unwrap_err();
    assert!(error.to_string().ends_with("cannot be read: it is not a folder"), "{error}");
}
