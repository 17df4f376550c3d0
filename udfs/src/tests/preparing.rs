//! The functions that prepare columns, through SQL: against scikit-learn, NumPy and xxHash, and what they refuse.

use serde_json::Value;

use super::*;

/// Made by `tests/fixtures/prepare.py`.
const FIXTURE: &str = include_str!("../../tests/fixtures/prepare.json");

/// A value as SQL.
fn literal(value: &Value, sql_type: &str) -> String {
    match value {
        Value::Null => format!("CAST(NULL AS {sql_type})"),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Array(items) => {
            format!("ARRAY[{}]", items.iter().map(|item| literal(item, "double precision")).collect::<Vec<_>>().join(", "))
        }
        number => format!("CAST({number} AS {sql_type})"),
    }
}

/// `(VALUES ...) AS t (n, a)`
fn values(case: &Value) -> String {
    let sql_type = case["type"].as_str().unwrap();
    let rows = case["values"].as_array().unwrap().iter().enumerate().map(|(n, value)| format!("({n}, {})", literal(value, sql_type)));
    format!("(VALUES {}) AS t (n, a)", rows.collect::<Vec<_>>().join(", "))
}

fn same(ours: &str, theirs: &Value) -> bool {
    fn close(ours: &Value, theirs: &Value) -> bool {
        match (ours, theirs) {
            (Value::Array(ours), Value::Array(theirs)) => ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| close(a, b)),
            _ => ours.as_f64().zip(theirs.as_f64()).is_some_and(|(ours, theirs)| (ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0)),
        }
    }
    match theirs {
        Value::Null => ours == "NULL",
        Value::String(text) => ours == text,
        Value::Bool(truth) => ours == truth.to_string(),
        _ => serde_json::from_str(ours).is_ok_and(|ours| close(&ours, theirs)),
    }
}

#[tokio::test]
async fn results_equal_those_of_other_libraries() {
    let shop = Shop::open().await;
    let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 25);
    for case in cases {
        let sql = format!("SELECT {} FROM {} ORDER BY n", case["call"].as_str().unwrap(), values(case));
        let ours = shop.rows(&sql).await;
        let theirs = case["expected"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len(), "{}", case["name"]);
        for (row, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            assert!(same(&ours[0], theirs), "{}, row {row}: {} {theirs}", case["name"], ours[0]);
        }
    }
}

#[tokio::test]
async fn a_window_learns_from_its_partition_whatever_its_order() {
    let shop = Shop::open().await;
    let rows = "(VALUES ('x', 1, 10.0), ('x', 2, 20.0), ('y', 3, 5.0), ('y', 4, NULL), ('z', 5, NULL)) AS t (g, n, a)";
    let one = |sql: &str| format!("SELECT {sql} FROM {rows} ORDER BY n");
    let all = |rows: Vec<Vec<String>>| rows.into_iter().map(|mut row| row.remove(0)).collect::<Vec<_>>();
    let scaled = all(shop.rows(&one("ml.standard_scaler(a) OVER (PARTITION BY g)")).await);
    assert_eq!(scaled, ["-1.0", "1.0", "0.0", "NULL", "NULL"]);
    assert_eq!(all(shop.rows(&one("ml.standard_scaler(a) OVER (PARTITION BY g ORDER BY n DESC)")).await), scaled);
    assert_eq!(
        all(shop.rows(&format!("SELECT ml.standard_scaler(a) OVER w FROM {rows} WINDOW w AS (PARTITION BY g) ORDER BY n")).await),
        scaled
    );
    let filled = all(shop.rows(&one("ML.Impute(strategy => 'median', x => a) OVER (PARTITION BY g)")).await);
    assert_eq!(filled, ["10.0", "20.0", "5.0", "5.0", "NULL"]);
    let texts = all(shop.rows(&one("ml.impute(CASE WHEN n > 1 THEN g END, 'most_frequent') OVER ()")).await);
    assert_eq!(texts, ["y", "x", "y", "y", "z"]);
    let buckets = all(shop.rows(&one("ml.quantile_bucketize(a, 2) OVER (PARTITION BY g)")).await);
    assert_eq!(buckets, ["0", "1", "0", "NULL", "NULL"]);
    let hot = all(shop.rows(&one("ml.one_hot(CASE WHEN n < 5 THEN g END, top_k => 1) OVER ()")).await);
    assert_eq!(hot, ["[1.0, 0.0]", "[1.0, 0.0]", "[0.0, 1.0]", "[0.0, 1.0]", "[0.0, 0.0]"]);
    let components = all(shop.rows(&one("ml.pca(ARRAY[a, n], 1) OVER (PARTITION BY g)")).await);
    assert_eq!(components[2..], ["[0.0]", "NULL", "NULL"]);
    assert!(shop.rows(&format!("SELECT ml.tf_idf(g) OVER () FROM {rows} WHERE false")).await.is_empty());
}

#[tokio::test]
async fn crosses_tell_all_combinations_apart() {
    let shop = Shop::open().await;
    let cross = |arguments: &str| format!("SELECT ml.feature_cross({arguments})");
    assert_eq!(shop.value(&cross("'a', 'bc'")).await, "a_bc");
    assert_eq!(shop.value(&cross("'ab', 'c'")).await, "ab_c");
    assert_eq!(shop.value(&cross("'a_b', 'c'")).await, r"a\_b_c");
    assert_eq!(shop.value(&cross("'a', 'b_c'")).await, r"a_b\_c");
    assert_eq!(shop.value(&cross(r"'a\', '_'")).await, r"a\\_\_");
    assert_eq!(shop.value(&cross("1, true, DATE '2024-02-29', 'x'")).await, "1_true_2024-02-29_x");
    assert_eq!(shop.value(&cross("'a', CAST(NULL AS text)")).await, "NULL");
    let crosses = shop.rows("SELECT DISTINCT ml.feature_cross(slot, item_id) FROM impressions").await;
    assert_eq!(crosses.len(), 39);
}

#[tokio::test]
async fn a_split_keeps_keys_together_and_its_parts_grow() {
    let shop = Shop::open().await;
    assert_eq!(
        shop.value("SELECT count(*) FROM (SELECT user_id FROM impressions GROUP BY 1 HAVING count(DISTINCT ml.split(user_id)) > 1) AS s")
            .await,
        "0"
    );
    let share = shop.number("SELECT avg(CASE WHEN ml.split(id, fraction => 0.3) THEN 1.0 ELSE 0.0 END) FROM impressions").await;
    assert!((share - 0.3).abs() < 0.03, "{share}");
    assert_eq!(shop.value("SELECT count(*) FROM impressions WHERE ml.split(id, 0.3) AND NOT ml.split(id, 0.4)").await, "0");
    assert_ne!(shop.value("SELECT count(*) FROM impressions WHERE ml.split(id) <> ml.split(id, seed => 1)").await, "0");
    assert_eq!(shop.value("SELECT count(*) FROM impressions WHERE ml.split(id, 0)").await, "0");
    assert_eq!(shop.value("SELECT count(*) FROM impressions WHERE ml.split(id, 1)").await, "4000");
    assert_eq!(shop.value("SELECT ml.split(CAST(NULL AS text))").await, "NULL");
}

#[tokio::test]
async fn calls_that_do_not_fit_are_explained() {
    let shop = Shop::open().await;
    for (call, message, hint) in [
        (
            "ml.standard_scaler(price)",
            "ml.standard_scaler learns from many rows and needs OVER",
            "write ml.standard_scaler(...) OVER () to learn from all rows, or use it in the TRANSFORM of a model",
        ),
        (
            "ml.impute(price) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
            "ml.impute learns from whole partitions and takes no frame",
            "leave ROWS, RANGE or GROUPS out",
        ),
        (
            "ml.impute(price) FILTER (WHERE id > 3) OVER ()",
            "ml.impute takes no DISTINCT, FILTER or NULLS clause",
            "filter the rows in a subquery",
        ),
        ("ml.impute(slot) OVER ()", "argument strategy of ml.impute is 'mean', but text has no mean", "write strategy => 'most_frequent'"),
        ("ml.impute(price, 'mode') OVER ()", "argument strategy of ml.impute cannot be 'mode'", "strategies: mean, median, most_frequent"),
        ("ml.standard_scaler(slot) OVER ()", "argument x of ml.standard_scaler cannot be text", "it takes number"),
        ("ml.quantile_bucketize(price, 1) OVER ()", "argument buckets of ml.quantile_bucketize is 1, but must be from 2 to 65536", ""),
        ("ml.quantile_bucketize(price, id) OVER ()", "argument buckets of ml.quantile_bucketize must be a constant", ""),
        ("ml.quantile_bucketize(price, 'x') OVER ()", "argument buckets of ml.quantile_bucketize cannot be x", ""),
        (
            "ml.quantile_bucketize(price, 2.5) OVER ()",
            "argument buckets of ml.quantile_bucketize cannot be double precision",
            "it takes integer",
        ),
        (
            "ml.quantile_bucketize(price, bucket => 3) OVER ()",
            "ml.quantile_bucketize has no argument \"bucket\"",
            "did you mean \"buckets\"?",
        ),
        ("ml.pca(ARRAY[price, id], 3) OVER ()", "argument num_components of ml.pca is 3, but the lists have 2 numbers", ""),
        (
            "ml.pca(CASE WHEN id > 1 THEN ARRAY[1.0] ELSE ARRAY[1.0, 2.0] END, 1) OVER (ORDER BY id)",
            "argument vector of ml.pca has 2 numbers in one row and 1 in another",
            "",
        ),
        (
            "ml.pca(array_resize(ARRAY[price], 1025, 0.0), 1) OVER ()",
            "argument vector of ml.pca has 1025 numbers, but 1024 are the most",
            "",
        ),
        ("ml.pca(price, 1) OVER ()", "argument vector of ml.pca cannot be double precision", "it takes double precision[]"),
        ("ml.hash_bucketize(id, 0)", "argument buckets of ml.hash_bucketize is 0, but must be from 1 to 9223372036854775807", ""),
        ("ml.hash_bucketize(id, id)", "argument buckets of ml.hash_bucketize must be a constant", ""),
        ("ml.hash_bucketize(id, NULL)", "argument buckets of ml.hash_bucketize is NULL", ""),
        ("ml.hash_bucketize(ARRAY[id], 5)", "argument value of ml.hash_bucketize cannot be bigint[]", "it takes any"),
        ("ml.split(id, 1.5)", "argument fraction of ml.split is 1.5, but must be from 0 to 1", ""),
        ("ml.bucketize(price, ARRAY[2, 1])", "argument boundaries of ml.bucketize must be different numbers in ascending order", ""),
        ("ml.bucketize(price, ARRAY[1, NULL])", "argument boundaries of ml.bucketize has a NULL in it", ""),
        ("ml.bucketize(slot, ARRAY[1])", "argument x of ml.bucketize cannot be text", "it takes number"),
    ] {
        let refusal = shop.refusal(&format!("SELECT {call} FROM impressions")).await;
        assert_eq!((refusal.message.as_str(), refusal.hint.as_str()), (message, hint), "{call}");
    }
    let refusal = shop.refusal("SELECT * FROM ml.impute(3)").await;
    assert_eq!(refusal.message, "ml.impute returns a value and cannot stand in FROM");
}
