//! The metric aggregates through SQL: against scikit-learn and Open Bandit Pipeline, and what holds for any rows.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::*;

/// Made by `tests/fixtures/metrics.py`.
const FIXTURE: &str = include_str!("../../tests/fixtures/metrics.json");

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= 1e-12 * theirs.abs().max(1.0)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The columns as `(VALUES ...) AS t (a, b, c)`.
fn values(columns: &[Vec<f64>]) -> String {
    let row =
        |row: usize| columns.iter().map(|column| format!("CAST({:e} AS double precision)", column[row])).collect::<Vec<_>>().join(", ");
    let rows: Vec<_> = (0..columns[0].len()).map(|n| format!("({})", row(n))).collect();
    format!("(VALUES {}) AS t (a, b, c)", rows.join(", "))
}

#[tokio::test]
async fn metrics_equal_scikit_learn_and_open_bandit_pipeline() {
    let shop = Shop::open().await;
    let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 8);
    for case in cases {
        let columns: Vec<_> = case["columns"].as_array().unwrap().iter().map(numbers).collect();
        let call = case["call"].as_str().unwrap();
        let ours = shop.number(&format!("SELECT {call} FROM {}", values(&columns))).await;
        assert!(close(ours, case["expected"].as_f64().unwrap()), "{}: {ours}", case["name"]);
    }
}

/// Random labels, scores with many ties, and propensities.
fn random_rows(rng: &mut ChaCha8Rng, rows: usize) -> Vec<Vec<f64>> {
    let label = (0..rows).map(|row| if row < 2 { row as f64 } else { f64::from(rng.random_range(0..2)) }).collect();
    let score = (0..rows).map(|_| f64::from(rng.random_range(1..20)) / 20.0).collect();
    let third = (0..rows).map(|_| f64::from(rng.random_range(1..5)) / 4.0).collect();
    vec![label, score, third]
}

#[tokio::test]
async fn the_order_and_the_partitions_of_rows_do_not_matter() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for partitions in [1, 3] {
        let shop = Shop::over(tempfile::tempdir().unwrap(), partitions).await;
        let columns = random_rows(&mut rng, 200);
        let mut order: Vec<usize> = (0..200).collect();
        order.shuffle(&mut rng);
        let shuffled: Vec<Vec<f64>> = columns.iter().map(|column| order.iter().map(|row| column[*row]).collect()).collect();
        // A union of filters is read in several partitions and merged.
        let split = |columns: &[Vec<f64>]| {
            let rows = values(columns);
            format!("(SELECT * FROM {rows} WHERE c < 0.5 UNION ALL SELECT * FROM {rows} WHERE c >= 0.5) AS u")
        };
        for call in [
            "auc(a, b)",
            "auc(a, b, c)",
            "logloss(a, b)",
            "logloss(a, b, c)",
            "ips(a, b, c)",
            "auc(DISTINCT a, b, c)",
            "ips(DISTINCT a, b, c)",
        ] {
            let whole = shop.number(&format!("SELECT {call} FROM {}", values(&columns))).await;
            let turned = shop.number(&format!("SELECT {call} FROM {}", values(&shuffled))).await;
            let merged = shop.number(&format!("SELECT {call} FROM {}", split(&columns))).await;
            assert!(close(whole, turned) && close(whole, merged), "{call}: {whole} {turned} {merged}");
        }
    }
}

#[tokio::test]
async fn auc_depends_on_the_order_of_scores_only() {
    let shop = Shop::open().await;
    let rows = values(&random_rows(&mut ChaCha8Rng::seed_from_u64(5), 300));
    let plain = shop.number(&format!("SELECT auc(a, b) FROM {rows}")).await;
    assert_eq!(plain, shop.number(&format!("SELECT auc(a, exp(b) * 100 - 7) FROM {rows}")).await);
    assert!(close(1.0 - plain, shop.number(&format!("SELECT auc(a, -b) FROM {rows}")).await));
    assert!(close(1.0 - plain, shop.number(&format!("SELECT auc(1 - a, b) FROM {rows}")).await));
}

#[tokio::test]
async fn labels_and_scores_of_any_numeric_type_are_accepted() {
    let shop = Shop::open().await;
    let expected = shop.value("SELECT auc(click, price) FROM impressions").await;
    for call in [
        "auc(CAST(click AS int), price)",
        "auc(CAST(click AS double precision), CAST(price AS real))",
        "auc(label => click, score => CAST(price AS numeric(10, 4)))",
        "auc(CAST(click AS smallint), CAST(price * 10 AS bigint))",
        "auc(click, price, 1)",
    ] {
        assert_eq!(shop.value(&format!("SELECT {call} FROM impressions")).await, expected, "{call}");
    }
    let refusal = shop.refusal("SELECT auc(slot, price) FROM impressions").await;
    assert_eq!((refusal.message.as_str(), refusal.hint.as_str()), ("argument label of auc cannot be text", "it takes boolean or 0/1"));
    assert!(refusal.detail.contains("auc(label boolean or 0/1"));
}

#[tokio::test]
async fn metrics_take_every_form_of_an_aggregate() {
    let shop = Shop::open().await;
    let rows = "(VALUES ('x', 1, 0.9), ('x', 0, 0.2), ('y', 1, 0.1), ('y', 0, 0.3), ('y', 0, NULL), ('z', NULL, 0.5)) AS t (g, a, b)";
    let by_group = shop.rows(&format!("SELECT g, auc(a, b) FROM {rows} GROUP BY g ORDER BY g")).await;
    assert_eq!(by_group, [["x", "1.0"], ["y", "0.0"], ["z", "NULL"]]);
    assert_eq!(shop.value(&format!("SELECT auc(score => b, label => a) FILTER (WHERE g = 'x') FROM {rows}")).await, "1.0");
    let windows = shop.rows(&format!("SELECT g, auc(a, b) OVER (PARTITION BY g) FROM {rows} ORDER BY g")).await;
    assert_eq!(windows.iter().map(|row| row[1].as_str()).collect::<Vec<_>>(), ["1.0", "1.0", "0.0", "0.0", "0.0", "NULL"]);
    let growing = shop.rows(&format!("SELECT auc(a, b) OVER (ORDER BY g, b) FROM {rows} ORDER BY g, b")).await;
    assert_eq!(growing.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["NULL", "1.0", "0.5", "0.5", "0.5", "0.5"]);
    let twice = format!("(SELECT * FROM {rows} UNION ALL SELECT * FROM {rows} WHERE g = 'x' AND a = 1) AS u")
        .replace("AS t (g, a, b) UNION", "AS t (g, a, b) UNION");
    let distinct = shop.number(&format!("SELECT logloss(DISTINCT a, b) FROM {twice}")).await;
    assert!(close(distinct, shop.number(&format!("SELECT logloss(a, b) FROM {rows}")).await));
    assert!(!close(distinct, shop.number(&format!("SELECT logloss(a, b) FROM {twice}")).await));
}

#[tokio::test]
async fn nothing_to_judge_is_null_and_bad_values_are_errors() {
    let shop = Shop::open().await;
    for call in ["auc(click, price)", "logloss(click, 0.5)", "ips(click, 0.5, 0.5)", "auc(DISTINCT click, price)"] {
        assert_eq!(shop.value(&format!("SELECT {call} FROM impressions WHERE false")).await, "NULL", "{call}");
    }
    assert_eq!(shop.value("SELECT auc(click, price) FROM impressions WHERE click").await, "NULL");
    for (call, message) in [
        ("auc(id, price)", "argument label of auc is "),
        ("auc(click, CAST('NaN' AS double precision))", "argument score of auc is NaN"),
        ("logloss(click, price)", "argument probability of logloss is "),
        ("ips(click, 0.5, 0)", "argument logged_propensity of ips is 0, but must be above 0 and at most 1"),
    ] {
        let refusal = shop.refusal(&format!("SELECT {call} FROM impressions")).await;
        assert!(refusal.message.starts_with(message), "{call}: {}", refusal.message);
    }
}
