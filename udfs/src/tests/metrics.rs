//! The metric aggregates through SQL: against scikit-learn, SciPy and Open Bandit Pipeline, and what holds for any rows.

use std::io::Write as _;
use std::path::Path;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::*;

/// Made by `tests/fixtures/metrics.py`.
const FIXTURE: &str = include_str!("../../tests/fixtures/metrics.json");

/// Calls over the columns of [`rows`], one value each.
const CALLS: &[&str] = &[
    "auc(a, b)",
    "auc(a, b, c)",
    "(auc_ci(a, b)).low",
    "(auc_ci(a, b)).high",
    "(approx_auc(a, b)).value",
    "(approx_auc(a, b, 4)).low",
    "(approx_auc(a, b, 4)).high",
    "pr_auc(a, b)",
    "pr_auc(a, b, c)",
    "(pr_auc_ci(a, b)).low",
    "ks(a, b)",
    "ks(a, b, c)",
    "logloss(a, b)",
    "logloss(a, b, c)",
    "(logloss_ci(a, b)).low",
    "brier(a, b, c)",
    "(brier_ci(a, b)).high",
    "copc(a, b)",
    "ece(a, b)",
    "ece(a, b, 4, 'mass')",
    "mce(a, b)",
    "precision_at(a, b, 0.4, c)",
    "recall_at(a, b)",
    "f1_at(a, b)",
    "(precision_at_ci(a, b)).low",
    "(recall_at_ci(a, b)).high",
    "gauc(a, b, d)",
    "gauc(a, b, 'user ' || CAST(d AS text))",
    "(gauc_detail(a, b, d)).groups_left_out",
    "(gauc_ci(a, b, d, resamples => 20)).low",
    "(gauc_ci(a, b, d, resamples => 20, seed => 4)).high",
    "ndcg_at_k(d, c, b)",
    "ndcg_at_k(d, c, b, 3, 'exponential')",
    "map_at_k(d, a, b, 3)",
    "hit_at_k(d, a, b, 2)",
    "mrr(d, a, b)",
    "accuracy(a, b >= 0.5)",
    "(accuracy_ci(a, b >= 0.5)).low",
    "macro_f1(d % 4, c)",
    "macro_f1('class ' || CAST(d % 4 AS text), 'class ' || CAST(c AS text), b)",
    "micro_f1(d % 4, c)",
    "weighted_f1(d % 4, c, b)",
    "matthews(d % 4, c)",
    "cohen_kappa(d % 4, c)",
    "rmse(c, b)",
    "mae(c, b, c)",
    "wape(c, b)",
    "smape(c, b)",
    "rmsse(c, b, c + 1)",
    "ips(a, b, (c + 1) / 8)",
    "auc(DISTINCT a, b, c)",
    "logloss(DISTINCT a, b)",
    "gauc(DISTINCT a, b, d)",
    "accuracy(DISTINCT CAST(d % 4 AS text), CAST(c AS text))",
];

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
    format!("(VALUES {}) AS t ({})", rows.join(", "), ["a", "b", "c"][..columns.len()].join(", "))
}

/// The values of these calls over some rows; NaN for NULL.
async fn measured(shop: &Shop, calls: &[&str], from: &str) -> Vec<f64> {
    // A SELECT of fewer columns plans faster, and one call must not depend on those beside it.
    let mut found = Vec::new();
    for calls in calls.chunks(9) {
        let rows = shop.rows(&format!("SELECT {} FROM {from}", calls.join(", "))).await;
        assert_eq!(rows.len(), 1, "{from}");
        found.extend(rows[0].iter().map(|value| if value == "NULL" { f64::NAN } else { value.parse().unwrap() }));
    }
    found
}

/// Fails unless both are equal to the last digits.
fn equal(calls: &[&str], ours: &[f64], theirs: &[f64], of: &str) {
    for ((call, ours), theirs) in calls.iter().zip(ours).zip(theirs) {
        assert!(close(*ours, *theirs) || ours.is_nan() && theirs.is_nan(), "{call} of {of}: {ours} instead of {theirs}");
    }
}

#[tokio::test]
async fn metrics_equal_scikit_learn_scipy_and_open_bandit_pipeline() {
    let shop = Shop::open().await;
    let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
    let tables = fixture["tables"].as_array().unwrap();
    assert!(tables.len() >= 15);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    for table in tables {
        let name = table["name"].as_str().unwrap();
        let from = if let Some(columns) = table["columns"].as_array() {
            values(&columns.iter().map(numbers).collect::<Vec<_>>())
        } else {
            let file = data.join(table["file"].as_str().unwrap());
            if !file.is_file() {
                // Past the capture of test output, which hides what a passing test prints.
                writeln!(std::io::stderr().lock(), "SKIPPED metrics of {name}: there is no {}", file.display()).unwrap();
                continue;
            }
            let table_name = name.replace(' ', "_");
            shop.context.register_parquet(&table_name, file.to_str().unwrap(), Default::default()).await.unwrap();
            format!("({} FROM {table_name}) AS t", table["query"].as_str().unwrap())
        };
        let (calls, expected): (Vec<_>, Vec<_>) =
            table["expected"].as_object().unwrap().iter().map(|(call, expected)| (call.as_str(), expected.as_f64().unwrap())).unzip();
        equal(&calls, &measured(&shop, &calls, &from).await, &expected, name);
    }
}

/// Rows with ties, weights and groups: label `a`, score `b`, weight or grade `c`, group `d`.
fn rows(seed: u64, count: usize) -> RecordBatch {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut whole = |most: i64| (0..count).map(|_| rng.random_range(0..most)).collect::<Vec<_>>();
    let label = Arc::new(Int64Array::from(whole(2)));
    let score = Float64Array::from_iter_values(whole(20).into_iter().map(|value| (value as f64 + 0.5) / 20.0));
    let weight = Float64Array::from_iter_values(whole(4).into_iter().map(|value| value as f64));
    let group = Arc::new(Int64Array::from(whole(count as i64 / 6)));
    let columns: [(&str, ArrayRef); 4] = [("a", label), ("b", Arc::new(score)), ("c", Arc::new(weight)), ("d", group)];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Registers rows as a table of so many partitions.
fn register(shop: &Shop, name: &str, rows: &RecordBatch, partitions: usize) {
    let size = rows.num_rows().div_ceil(partitions);
    let piece = |n: usize| rows.slice((n * size).min(rows.num_rows()), size.min(rows.num_rows().saturating_sub(n * size)));
    let table = MemTable::try_new(rows.schema(), (0..partitions).map(|n| vec![piece(n)]).collect()).unwrap();
    shop.context.register_table(name, Arc::new(table)).unwrap();
}

#[tokio::test]
async fn the_order_and_the_partitions_of_rows_do_not_matter() {
    let rows = rows(11, 400);
    let mut order: Vec<u32> = (0..400).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(12));
    let shuffled = take_record_batch(&rows, &UInt32Array::from(order)).unwrap();
    let mut whole = Vec::new();
    for partitions in [1, 2, 7] {
        let shop = Shop::over(tempfile::tempdir().unwrap(), partitions).await;
        register(&shop, "t", &rows, partitions);
        register(&shop, "shuffled", &shuffled, partitions);
        let found = measured(&shop, CALLS, "t").await;
        if partitions == 1 {
            assert!(found.iter().all(|value| value.is_finite()));
            whole.clone_from(&found);
        }
        equal(CALLS, &found, &whole, &format!("{partitions} partitions"));
        equal(CALLS, &measured(&shop, CALLS, "shuffled").await, &whole, &format!("shuffled rows in {partitions} partitions"));
    }
}

#[tokio::test]
async fn a_group_is_measured_like_its_rows_alone() {
    let shop = Shop::open().await;
    register(&shop, "t", &rows(21, 600), 3);
    let calls: Vec<&str> = CALLS.iter().copied().filter(|call| !call.contains("resamples")).collect();
    // Grouped in two steps, and with rows passed on one by one where grouping them first does not make them fewer.
    for probe in [100_000, 1] {
        let session = &shop.context;
        session.sql(&format!("SET datafusion.execution.skip_partial_aggregation_probe_rows_threshold = {probe}")).await.unwrap();
        session.sql("SET datafusion.execution.skip_partial_aggregation_probe_ratio_threshold = 0.001").await.unwrap();
        for calls in calls.chunks(9) {
            let grouped = shop.rows(&format!("SELECT d % 3, {} FROM t GROUP BY d % 3 ORDER BY 1", calls.join(", "))).await;
            assert_eq!(grouped.len(), 3);
            for group in grouped {
                let alone = measured(&shop, calls, &format!("t WHERE d % 3 = {}", group[0])).await;
                let found: Vec<f64> = group[1..].iter().map(|value| value.parse().unwrap_or(f64::NAN)).collect();
                equal(calls, &found, &alone, &format!("group {}", group[0]));
            }
        }
    }
}

#[tokio::test]
async fn ranks_depend_on_the_order_of_scores_only() {
    let shop = Shop::open().await;
    register(&shop, "t", &rows(5, 300), 2);
    let calls = ["auc(a, S, c)", "pr_auc(a, S)", "ks(a, S)", "(auc_ci(a, S)).low", "gauc(a, S, d)", "ndcg_at_k(d, c, S)", "mrr(d, a, S)"];
    let of = |score: &str| calls.iter().map(|call| call.replace('S', score)).collect::<Vec<_>>();
    let (plain, stretched) = (of("b"), of("exp(b) * 100 - 120"));
    let plain = measured(&shop, &plain.iter().map(String::as_str).collect::<Vec<_>>(), "t").await;
    let stretched = measured(&shop, &stretched.iter().map(String::as_str).collect::<Vec<_>>(), "t").await;
    equal(&calls, &stretched, &plain, "stretched scores");
    for turned in ["auc(a, -b, c)", "auc(1 - a, b, c)"] {
        assert!(close(1.0 - plain[0], shop.number(&format!("SELECT {turned} FROM t")).await));
    }
}

#[tokio::test]
async fn a_weight_counts_like_repeated_rows() {
    let shop = Shop::open().await;
    register(&shop, "t", &rows(6, 200), 2);
    let weighted = [
        "auc(a, b, c)",
        "pr_auc(a, b, c)",
        "ks(a, b, c)",
        "logloss(a, b, c)",
        "brier(a, b, c)",
        "copc(a, b, c)",
        "precision_at(a, b, weight => c)",
        "recall_at(a, b, weight => c)",
        "f1_at(a, b, weight => c)",
        "accuracy(a, b >= 0.5, c)",
        "macro_f1(a, b >= 0.5, c)",
        "micro_f1(a, b >= 0.5, c)",
        "weighted_f1(a, b >= 0.5, c)",
        "matthews(a, b >= 0.5, c)",
        "cohen_kappa(a, b >= 0.5, c)",
        "rmse(a, b, c)",
        "mae(a, b, c)",
        "wape(a, b, c)",
        "smape(a, b, c)",
        "rmsse(a, b, 1 + b, c)",
    ];
    let plain: Vec<String> = weighted.iter().map(|call| call.replace(", weight => c)", ")").replace(", c)", ")")).collect();
    let repeated = "(SELECT a, b FROM t JOIN generate_series(1, 3) AS s (n) ON s.n <= t.c) AS r";
    let plain = measured(&shop, &plain.iter().map(String::as_str).collect::<Vec<_>>(), repeated).await;
    equal(&weighted, &measured(&shop, &weighted, "t").await, &plain, "weights");
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
        "auc(click, price, NULL)",
    ] {
        assert_eq!(shop.value(&format!("SELECT {call} FROM impressions")).await, expected, "{call}");
    }
    let refusal = shop.refusal("SELECT auc(slot, price) FROM impressions").await;
    assert_eq!((refusal.message.as_str(), refusal.hint.as_str()), ("argument label of auc cannot be text", "it takes boolean or 0/1"));
    assert!(refusal.detail.contains("auc(label boolean or 0/1"));
}

#[tokio::test]
async fn classes_and_groups_are_equal_by_value() {
    let shop = Shop::open().await;
    for (label, predicted) in [
        ("click", "CAST(click AS int)"),
        ("CAST(click AS double precision)", "click"),
        ("item_id", "CAST(item_id AS double precision)"),
        ("CAST(item_id AS smallint)", "CAST(item_id AS numeric(9, 3))"),
        ("price", "CAST(price AS numeric(9, 3))"),
        ("slot", "slot"),
        ("ts", "ts"),
    ] {
        assert_eq!(shop.value(&format!("SELECT accuracy({label}, {predicted}) FROM impressions")).await, "1.0", "{label} {predicted}");
    }
    let expected = shop.value("SELECT gauc(click, price, user_id) FROM impressions").await;
    for group in [
        "CAST(user_id AS smallint)",
        "CAST(user_id AS double precision)",
        "CAST(user_id AS numeric(20, 2))",
        "CAST(user_id AS text)",
        "CAST(to_timestamp_seconds(user_id * 86400) AS date)",
        "to_timestamp_seconds(user_id)",
        "arrow_cast(CAST(user_id AS text), 'Dictionary(Int32, Utf8)')",
    ] {
        let found = shop.number(&format!("SELECT gauc(click, price, {group}) FROM impressions")).await;
        assert!(close(found, expected.parse().unwrap()), "{group}: {found}");
    }
}

#[tokio::test]
async fn metrics_take_every_form_of_an_aggregate() {
    let shop = Shop::open().await;
    let rows = "(VALUES ('x', 1, 0.9), ('x', 0, 0.2), ('y', 1, 0.1), ('y', 0, 0.3), ('y', 0, NULL), ('z', NULL, 0.5)) AS t (g, a, b)";
    let by_group = shop.rows(&format!("SELECT g, auc(a, b) FROM {rows} GROUP BY g ORDER BY g")).await;
    assert_eq!(by_group, [["x", "1.0"], ["y", "0.0"], ["z", "NULL"]]);
    assert_eq!(shop.value(&format!("SELECT auc(score => b, label => a) FILTER (WHERE g = 'x') FROM {rows}")).await, "1.0");
    let filtered = shop.rows(&format!("SELECT g, auc(a, b) FILTER (WHERE g <> 'x') FROM {rows} GROUP BY g ORDER BY g")).await;
    assert_eq!(filtered, [["x", "NULL"], ["y", "0.0"], ["z", "NULL"]]);
    let windows = shop.rows(&format!("SELECT g, auc(a, b) OVER (PARTITION BY g) FROM {rows} ORDER BY g")).await;
    assert_eq!(windows.iter().map(|row| row[1].as_str()).collect::<Vec<_>>(), ["1.0", "1.0", "0.0", "0.0", "0.0", "NULL"]);
    let growing = shop.rows(&format!("SELECT auc(a, b) OVER (ORDER BY g, b) FROM {rows} ORDER BY g, b")).await;
    assert_eq!(growing.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["NULL", "1.0", "0.5", "0.5", "0.5", "0.5"]);
    let twice = format!("(SELECT * FROM {rows} UNION ALL SELECT * FROM {rows} WHERE g = 'x' AND a = 1) AS u");
    let distinct = shop.number(&format!("SELECT logloss(DISTINCT a, b) FROM {twice}")).await;
    assert!(close(distinct, shop.number(&format!("SELECT logloss(a, b) FROM {rows}")).await));
    assert!(!close(distinct, shop.number(&format!("SELECT logloss(a, b) FROM {twice}")).await));
}

#[tokio::test]
async fn a_moving_frame_is_measured_like_its_rows_alone() {
    let shop = Shop::open().await;
    let calls = ["logloss(a, b)", "auc(a, b)", "(auc_ci(a, b)).low", "gauc(a, b, d % 2)", "macro_f1(d % 4, c)", "ece(a, b, 4, 'mass')"];
    let batch = rows(31, 40);
    register(&shop, "t", &batch, 1);
    shop.run("CREATE TABLE numbered AS SELECT row_number() OVER () AS n, * FROM t").await.unwrap();
    let frame = "OVER (ORDER BY n ROWS BETWEEN 9 PRECEDING AND 2 FOLLOWING)";
    for call in calls {
        let over = match call.strip_prefix('(').and_then(|call| call.split_once(").")) {
            Some((inner, field)) => format!("({inner} {frame}).{field}"),
            None => format!("{call} {frame}"),
        };
        let moving = shop.rows(&format!("SELECT {over} FROM numbered ORDER BY n")).await;
        for (row, found) in moving.iter().enumerate() {
            let n = row as i64 + 1;
            let alone = measured(&shop, &[call], &format!("numbered WHERE n BETWEEN {} AND {}", n - 9, n + 2)).await;
            equal(&[call], &[found[0].parse().unwrap_or(f64::NAN)], &alone, &format!("row {n}"));
        }
    }
}

#[tokio::test]
async fn nothing_to_judge_is_null_and_bad_values_are_errors() {
    let shop = Shop::open().await;
    register(&shop, "t", &rows(41, 30), 2);
    let found = measured(&shop, CALLS, "t WHERE a = 7").await;
    for (call, value) in CALLS.iter().zip(found) {
        let expected = if call.contains("groups_left_out") { value == 0.0 } else { value.is_nan() };
        assert!(expected, "{call}: {value}");
    }
    for call in
        ["auc(click, price)", "gauc(click, price, user_id)", "ks(click, price)", "(auc_ci(click, price)).value", "matthews(click, true)"]
    {
        assert_eq!(shop.value(&format!("SELECT {call} FROM impressions WHERE click")).await, "NULL", "{call}");
    }
    for (call, message) in [
        ("auc(id, price)", "argument label of auc is "),
        ("auc(click, CAST('NaN' AS double precision))", "argument score of auc is NaN, but must be a number"),
        ("auc(click, price, -1)", "argument weight of auc is -1, but must be a number from 0"),
        ("gauc(click, CAST('NaN' AS double precision), id)", "argument score of gauc is NaN, but must be a number"),
        ("logloss(click, price)", "argument probability of logloss is "),
        ("ece(click, -0.5)", "argument probability of ece is -0.5, but must be from 0 to 1"),
        ("ndcg_at_k(user_id, -1, price)", "argument relevance of ndcg_at_k is -1, but must be a number from 0"),
        ("rmse(price, CAST('Infinity' AS double precision))", "argument predicted of rmse is inf, but must be a finite number"),
        ("rmsse(price, price, 0)", "argument scale of rmsse is 0, but must be a number above 0"),
        ("ips(click, 0.5, 0)", "argument logged_propensity of ips is 0, but must be above 0 and at most 1"),
        ("ndcg_at_k(user_id, click, price, k => id)", "argument k of ndcg_at_k must be a constant"),
        ("ndcg_at_k(user_id, click, price, 0)", "argument k of ndcg_at_k is 0, but must be from 1 to 1000000"),
        ("ece(click, 0.5, binning => 'mas')", "argument binning of ece is 'mas', but must be one of width, mass"),
        ("auc_ci(click, price, level => 95)", "argument level of auc_ci is 95, but must be from 0.5 to 0.9999"),
        ("approx_auc(click, price, 1)", "argument bins of approx_auc is 1, but must be from 2 to 1048576"),
    ] {
        let refusal = shop.refusal(&format!("SELECT {call} FROM impressions")).await;
        assert!(refusal.message.starts_with(message), "{call}: {}", refusal.message);
    }
}

#[tokio::test]
async fn an_option_that_is_null_has_its_default() {
    let shop = Shop::open().await;
    register(&shop, "t", &rows(51, 100), 2);
    for (given, left_out) in [
        ("ece(a, b, NULL, NULL)", "ece(a, b)"),
        ("ndcg_at_k(d, c, b, NULL)", "ndcg_at_k(d, c, b)"),
        ("(auc_ci(a, b, level => NULL)).low", "(auc_ci(a, b)).low"),
        ("mrr(d, a, b, NULL)", "mrr(d, a, b, 1000)"),
        ("mrr(d, a, b, k => 1 + 1)", "mrr(d, a, b, 2)"),
    ] {
        let found = measured(&shop, &[given, left_out], "t").await;
        assert_eq!(found[0], found[1], "{given}");
    }
}

#[tokio::test]
async fn a_metric_stops_at_the_memory_limit() {
    let shop = Shop::open().await;
    let pieces: Vec<_> = (0..40).map(|seed| rows(seed, 5000)).collect();
    let batch = concat_batches(&pieces[0].schema(), &pieces).unwrap();
    register(&shop, "t", &batch, 2);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(1 << 20))).build_arc().unwrap();
    let state = SessionStateBuilder::new_from_existing(shop.context.state()).with_runtime_env(runtime).build();
    let limited = SessionContext::new_with_state(state);
    for call in ["gauc(a, b, d)", "auc(DISTINCT a, b, d)", "auc(a, b + random())"] {
        let Err(error) = limited.sql(&format!("SELECT {call} FROM t")).await.unwrap().collect().await else {
            panic!("{call}: not refused")
        };
        assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{call}: {error}");
    }
    // Few scores take little memory, and a histogram always does.
    for call in ["auc(a, b)", "approx_auc(a, b + random(), 512)", "logloss(a, b)"] {
        limited.sql(&format!("SELECT {call} FROM t")).await.unwrap().collect().await.unwrap();
    }
}
