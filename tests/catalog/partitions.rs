//! Hive partitions are columns, and filters on them keep files from being read.

use datafusion::physical_plan::displayable;

use crate::fixture::Shop;

async fn sales() -> Shop {
    let shop = Shop::new();
    for (country, day, amount) in [("de", "2024-01-01", 1), ("de", "2024-01-02", 2), ("fr", "2024-01-01", 3), ("fr", "2024-01-02", 4)] {
        shop.put(&format!("sales/country={country}/day={day}/part-0.parquet"), &format!("SELECT {amount} AS amount")).await;
    }
    shop
}

async fn files_read(shop: &Shop, query: &str) -> usize {
    let plan = shop.plan(query).await;
    displayable(plan.as_ref()).indent(false).to_string().matches(".parquet").count()
}

#[tokio::test]
async fn partition_folders_are_columns_after_the_files_own() {
    let shop = sales().await;
    assert_eq!(shop.rows("SELECT * FROM sales ORDER BY amount LIMIT 1").await, "1 de 2024-01-01");
    assert_eq!(
        shop.rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'sales' ORDER BY ordinal_position")
            .await,
        "amount Int64\ncountry Utf8View\nday Date32"
    );
    assert_eq!(shop.rows("SELECT country, sum(amount) FROM sales GROUP BY country ORDER BY country").await, "de 3\nfr 7");
    assert_eq!(shop.rows("SELECT min(country), max(day), count(DISTINCT day) FROM sales").await, "de 2024-01-02 2");
}

#[tokio::test]
async fn filter_on_partitions_reads_only_their_files() {
    let shop = sales().await;
    for (filter, files, sum) in [
        ("country = 'fr'", 2, "7"),
        ("day = DATE '2024-01-02'", 2, "6"),
        ("day > '2024-01-01' AND country <> 'fr'", 1, "2"),
        ("country IN ('de') OR day < DATE '2024-01-02'", 3, "6"),
        ("upper(country) = 'FR' AND amount > 3", 2, "4"),
        ("country LIKE 'f%' AND extract(day FROM day) = 1", 1, "3"),
    ] {
        let query = format!("SELECT amount FROM sales WHERE {filter}");
        assert_eq!(files_read(&shop, &query).await, files, "{filter}");
        assert_eq!(shop.rows(&format!("SELECT sum(amount) FROM sales WHERE {filter}")).await, sum, "{filter}");
    }
    assert_eq!(files_read(&shop, "SELECT amount FROM sales WHERE country = 'xx'").await, 0);
    assert_eq!(shop.rows("SELECT count(*) FROM sales WHERE country = 'xx'").await, "0");
}

#[tokio::test]
async fn null_partition_is_null() {
    let shop = Shop::new();
    shop.put("t/k=__HIVE_DEFAULT_PARTITION__/a.parquet", "SELECT 1 AS id").await;
    shop.put("t/k=7/a.parquet", "SELECT 2 AS id UNION ALL SELECT 3").await;
    assert_eq!(shop.rows("SELECT id FROM t WHERE k IS NULL").await, "1");
    assert_eq!(shop.rows("SELECT id FROM t WHERE k > 6 ORDER BY id").await, "2\n3");
    assert_eq!(shop.rows("SELECT count(k), count(*), sum(k), min(k), max(k) FROM t").await, "2 3 14 7 7");
    assert_eq!(shop.rows("SELECT count(*) FROM t WHERE k IS NOT NULL").await, "2");
}

#[tokio::test]
async fn partition_type_follows_the_values() {
    let shop = Shop::new();
    shop.put("t/k=1/a.parquet", "SELECT 1 AS id").await;
    assert_eq!(shop.rows("SELECT k + 1 FROM t").await, "2");
    shop.put("t/k=one/a.parquet", "SELECT 2 AS id").await;
    assert_eq!(shop.rows("SELECT k FROM t ORDER BY id").await, "1\none");
}

#[tokio::test]
async fn folder_name_wins_over_a_column_of_the_file() {
    let shop = Shop::new();
    shop.put("t/k=5/a.parquet", "SELECT 1 AS id, 99 AS k").await;
    assert_eq!(shop.rows("SELECT id, k FROM t").await, "1 5");
}

#[tokio::test]
async fn encoded_folder_names_are_decoded() {
    let shop = Shop::new();
    shop.put("t/city=S%C3%A3o Paulo%2FBR/a.parquet", "SELECT 1 AS id").await;
    assert_eq!(shop.rows("SELECT id FROM t WHERE city = 'São Paulo/BR'").await, "1");
}

#[tokio::test]
async fn files_under_other_keys_break_the_table_with_both_named() {
    let shop = Shop::new();
    shop.put("t/a=1/x.parquet", "SELECT 1 AS id").await;
    shop.put("t/b=1/y.parquet", "SELECT 1 AS id").await;
    let error = shop.error("SELECT * FROM t").await.to_string();
    assert!(error.contains("file t/a=1/x.parquet is partitioned by (a) and file t/b=1/y.parquet by (b)"), "{error}");
}
