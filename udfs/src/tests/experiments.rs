//! Off-policy, uplift and experiment statistics through SQL: against the reference libraries, and what holds for any rows.

use std::io::Write;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::datasource::MemTable;
use datafusion::prelude::ParquetReadOptions;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::*;
use crate::notice::Severity;

/// Made by `tests/fixtures/experiments.py`.
const FIXTURE: &str = include_str!("../../tests/fixtures/experiments.json");

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= 1e-9 * theirs.abs() + 1e-12
}

/// Columns of numbers or texts, by name.
type Columns = Vec<(String, ArrayRef)>;

/// Registers a table whose rows lie in several partitions.
fn register(shop: &Shop, name: &str, columns: &Columns, partitions: usize) {
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, column)| (name, Arc::clone(column)))).unwrap();
    let size = batch.num_rows().div_ceil(partitions).max(1);
    let cut = |part: usize| {
        let start = (part * size).min(batch.num_rows());
        vec![batch.slice(start, size.min(batch.num_rows() - start))]
    };
    let table = MemTable::try_new(batch.schema(), (0..partitions).map(cut).collect()).unwrap();
    shop.context.deregister_table(name).unwrap();
    shop.context.register_table(name, Arc::new(table)).unwrap();
}

/// The only value of a query, by field where it is a row.
async fn answer(shop: &Shop, sql: &str) -> Vec<(String, ArrayRef)> {
    let batches = shop.run(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    let batch = batches.iter().find(|batch| batch.num_rows() == 1).unwrap_or_else(|| panic!("{sql}: no row"));
    match batch.column(0).as_struct_opt() {
        Some(fields) => fields.column_names().into_iter().map(str::to_owned).zip(fields.columns().iter().map(Arc::clone)).collect(),
        None => vec![(String::new(), Arc::clone(batch.column(0)))],
    }
}

/// A value as a number, or as a text.
fn value(array: &ArrayRef) -> Result<Option<f64>, String> {
    if let Some(texts) = array.as_string_opt::<i32>() {
        return Err(texts.value(0).to_owned());
    }
    let numbers = cast(array, &DataType::Float64).unwrap();
    Ok(numbers.is_valid(0).then(|| numbers.as_primitive::<Float64Type>().value(0)))
}

/// The same values, up to the last digits of numbers.
fn alike(call: &str, left: &[(String, ArrayRef)], right: &[(String, ArrayRef)]) {
    assert_eq!(left.len(), right.len(), "{call}");
    for ((field, left), (_, right)) in left.iter().zip(right) {
        match (value(left), value(right)) {
            (Ok(Some(left)), Ok(Some(right))) => assert!(close(left, right), "{call} {field}: {left} {right}"),
            (left, right) => assert_eq!(left, right, "{call} {field}"),
        }
    }
}

async fn check(shop: &Shop, name: &str, sql: &str, expected: &Value) {
    let fields = answer(shop, sql).await;
    let expected = match expected.as_object() {
        Some(object) => object.iter().map(|(field, value)| (field.as_str(), value)).collect(),
        None => vec![("", expected)],
    };
    assert_eq!(fields.len(), expected.len(), "{name}: {sql}");
    for (field, expected) in expected {
        let ours = &fields.iter().find(|(name, _)| name == field).unwrap_or_else(|| panic!("{name}: {sql} has no {field}")).1;
        match (value(ours), expected) {
            (Err(ours), expected) => assert_eq!(Some(ours.as_str()), expected.as_str(), "{name}: {sql}, {field}"),
            (Ok(ours), expected) => {
                let (ours, theirs) = (ours.unwrap_or(f64::NAN), expected.as_f64().unwrap());
                assert!(close(ours, theirs), "{name}: {sql}, {field} is {ours}, expected {theirs}");
            }
        }
    }
}

fn columns(table: &Value) -> Columns {
    let column = |values: &Value| -> ArrayRef {
        let values = values.as_array().unwrap();
        if values[0].is_string() {
            return Arc::new(values.iter().map(Value::as_str).collect::<StringArray>());
        }
        Arc::new(values.iter().map(Value::as_f64).collect::<Float64Array>())
    };
    table["columns"].as_object().unwrap().iter().map(|(name, values)| (name.clone(), column(values))).collect()
}

#[tokio::test]
async fn experiments_equal_the_reference_libraries() {
    let shop = Shop::open().await;
    // Other rows than those of the fixture, from the same script.
    let other = std::env::var_os("STRATAGEM_CASES").map(|path| std::fs::read_to_string(path).unwrap());
    let fixture: Value = serde_json::from_str(other.as_deref().unwrap_or(FIXTURE)).unwrap();
    let tables = fixture["tables"].as_array().unwrap();
    assert!(tables.len() >= 6);
    let mut checked = 0;
    for (number, table) in tables.iter().enumerate() {
        register(&shop, "t", &columns(table), [1, 2, 7][number % 3]);
        for case in table["cases"].as_array().unwrap() {
            let sql = format!("SELECT {} FROM t", case["call"].as_str().unwrap());
            check(&shop, table["name"].as_str().unwrap(), &sql, &case["expected"]).await;
            checked += 1;
        }
    }
    assert!(checked >= 60);
}

/// A folder of real tables that is not part of the code.
fn shared(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if folder.is_dir() {
        return Some(folder);
    }
    // Past the capture of test output, which hides what a passing test prints.
    writeln!(std::io::stderr().lock(), "SKIPPED {test}: there is no {}", folder.display()).unwrap();
    None
}

#[tokio::test]
async fn real_logs_and_experiments_equal_the_reference_libraries() {
    let Some(folder) = shared("real_logs_and_experiments_equal_the_reference_libraries") else { return };
    let shop = Shop::open().await;
    for table in
        ["bandit/impressions_random", "bandit/impressions_bts", "bandit/policy_bts", "experiment/email_experiment_train"].map(Path::new)
    {
        let (name, path) = (table.file_name().unwrap().to_str().unwrap(), folder.join(table).with_extension("parquet"));
        shop.context.register_parquet(name, path.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    }
    let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
    let logs = fixture["real"].as_array().unwrap();
    assert!(logs.len() >= 5);
    for log in logs {
        for case in log["cases"].as_array().unwrap() {
            let sql = log["query"].as_str().unwrap().replace("{call}", case["call"].as_str().unwrap());
            check(&shop, log["name"].as_str().unwrap(), &sql, &case["expected"]).await;
        }
    }
}

/// Random rows of a log, of an experiment, and of two samples, all in one table; scores have ties.
fn random_rows(random: &mut ChaCha8Rng, rows: usize) -> Columns {
    let mut column =
        |value: fn(&mut ChaCha8Rng) -> f64| -> ArrayRef { Arc::new((0..rows).map(|_| Some(value(random))).collect::<Float64Array>()) };
    let bit: fn(&mut ChaCha8Rng) -> f64 = |random| f64::from(random.random_range(0..2));
    let chance: fn(&mut ChaCha8Rng) -> f64 = |random| random.random_range(0.05..0.95);
    let numbers = [
        ("reward", column(bit)),
        ("target", column(chance)),
        ("logged", column(chance)),
        ("q_logged", column(chance)),
        ("q_new", column(chance)),
        ("treated", column(bit)),
        ("score", column(|random| f64::from(random.random_range(0..40)) / 40.0)),
        ("amount", column(|random| random.random_range(0.0..100.0))),
    ];
    let variant: StringArray = (0..rows).map(|row| Some(["a", "b"][row * 7 % 2])).collect();
    let numbers = numbers.map(|(name, column)| (name.to_owned(), column));
    numbers.into_iter().chain([("variant".to_owned(), Arc::new(variant) as ArrayRef)]).collect()
}

const CALLS: &[&str] = &[
    "ips(reward, target, logged)",
    "snips_ci(reward, target, logged)",
    "dm(q_new)",
    "dr_ci(reward, target, logged, q_logged, q_new)",
    "switch_dr(reward, target, logged, q_logged, q_new, threshold => 1.5)",
    "clipped_ips(reward, target, logged)",
    "ess(target, logged)",
    "max_weight(target, logged)",
    "qini(reward, treated, score)",
    "qini_ci(reward, treated, score, samples => 20)",
    "auuc(amount, treated, score, definition => 'per_head')",
    "uplift_at_k(reward, treated, score, k => 0.3)",
    "uplift_at_k(reward, treated, score, k => 0.3, strategy => 'by_group', propensity => target)",
    "ate_ci(amount, treated, propensity => target)",
    "ab_test(reward, variant)",
    "ab_test(amount, variant, control => 'b')",
    "ab_test_cuped(amount, variant, q_new)",
    "ab_test_sequential(reward, variant, effect => 0.05)",
    "srm_test(variant)",
    "psi(amount, treated)",
    "psi(variant, treated)",
    "js_divergence(amount, treated)",
    "ks_drift(amount, treated)",
    "ips(DISTINCT reward, target, logged)",
    "ab_test(DISTINCT amount, variant)",
];

#[tokio::test]
async fn order_and_partitions_of_experiments_do_not_matter() {
    let mut random = ChaCha8Rng::seed_from_u64(21);
    let rows = random_rows(&mut random, 700);
    let mut order: Vec<u32> = (0..700).collect();
    order.shuffle(&mut random);
    let order = datafusion::arrow::array::UInt32Array::from(order);
    let shuffled: Columns = rows.iter().map(|(name, column)| (name.clone(), take(column, &order, None).unwrap())).collect();
    let shop = Shop::over(tempfile::tempdir().unwrap(), 3).await;
    register(&shop, "t", &rows, 1);
    for call in CALLS {
        let whole = answer(&shop, &format!("SELECT {call} FROM t")).await;
        for partitions in [1, 2, 7] {
            register(&shop, "u", &shuffled, partitions);
            let merged = answer(&shop, &format!("SELECT {call} FROM u")).await;
            alike(call, &whole, &merged);
        }
    }
}

#[tokio::test]
async fn experiment_statistics_take_every_form_of_an_aggregate() {
    let shop = Shop::open().await;
    register(&shop, "t", &random_rows(&mut ChaCha8Rng::seed_from_u64(22), 300), 2);
    for call in CALLS.iter().filter(|call| !call.contains("DISTINCT")) {
        let expected = answer(&shop, &format!("SELECT {call} FROM t WHERE q_new > 0.5")).await;
        for form in [
            format!("SELECT {call} FILTER (WHERE q_new > 0.5) FROM t"),
            format!("SELECT x FROM (SELECT q_new > 0.5 AS g, {call} AS x FROM t GROUP BY q_new > 0.5) WHERE g"),
            format!("SELECT x FROM (SELECT q_new > 0.5 AS g, {call} OVER (PARTITION BY q_new > 0.5) AS x FROM t) WHERE g LIMIT 1"),
        ] {
            alike(&form, &expected, &answer(&shop, &form).await);
        }
    }
}

#[tokio::test]
async fn qini_depends_on_the_order_of_scores_only() {
    let shop = Shop::open().await;
    register(&shop, "t", &random_rows(&mut ChaCha8Rng::seed_from_u64(23), 400), 2);
    for call in ["qini(reward, treated, {})", "auuc(reward, treated, {})", "uplift_at_k(reward, treated, {}, k => 0.25)"] {
        let plain = shop.number(&format!("SELECT {} FROM t", call.replace("{}", "score"))).await;
        let turned = shop.number(&format!("SELECT {} FROM t", call.replace("{}", "exp(score) * 100 - 7"))).await;
        assert!(close(plain, turned), "{call}: {plain} {turned}");
    }
}

#[tokio::test]
async fn experiments_without_rows_or_with_one_arm_are_null() {
    let shop = Shop::open().await;
    let rows = "(VALUES (1, 0.5, 0.5, true, 0.3, 'a'), (0, 0.25, 0.5, true, 0.2, 'a')) AS t (y, p, e, treated, score, variant)";
    for call in ["ips(y, p, e)", "snips(y, p, e)", "dm(p)", "dr(y, p, e, p, p)", "ess(p, e)", "max_weight(p, e)", "psi(y, treated)"] {
        assert_eq!(shop.value(&format!("SELECT {call} FROM {rows} WHERE false")).await, "NULL", "{call}");
    }
    for call in
        ["qini(y, treated, score)", "auuc(y, treated, score)", "uplift_at_k(y, treated, score)", "ate(y, treated)", "psi(y, treated)"]
    {
        for condition in ["true", "false"] {
            assert_eq!(shop.value(&format!("SELECT {call} FROM {rows} WHERE {condition}")).await, "NULL", "{call}");
        }
    }
    for call in
        ["ab_test(y, variant)", "ab_test_cuped(y, variant, score)", "ks_drift(y, treated)", "ate_ci(y, treated)", "srm_test(variant)"]
    {
        for (_, field) in answer(&shop, &format!("SELECT {call} FROM {rows}")).await {
            assert!(field.is_null(0), "{call}");
        }
    }
    assert_eq!(shop.value("SELECT snips(1, 0, 0.5)").await, "NULL", "no action of the log would be shown");
    assert_eq!(shop.value("SELECT ess(0, 0.5)").await, "0.0");
    assert_eq!(shop.value(&format!("SELECT ips(y, p, NULLIF(e, 0.5)) FROM {rows}")).await, "NULL", "NULL rows are skipped");
}

#[tokio::test]
async fn values_that_experiments_cannot_have_are_named() {
    let shop = Shop::open().await;
    let rows = "(VALUES (1, 'a', 0.5), (0, 'b', 0.2), (2, 'c', 0.3)) AS t (y, variant, x)";
    let nan = "CAST('NaN' AS double precision)";
    for (call, message, hint) in [
        ("ips(1, 0.5, 0)".to_owned(), "argument logged_propensity of ips is 0, but must be above 0 and at most 1", ""),
        ("dr_ci(1, 0.5, 0, 0.1, 0.1)".to_owned(), "argument logged_propensity of dr_ci is 0, but must be above 0 and at most 1", ""),
        ("ess(1.5, 0.5)".to_owned(), "argument target_probability of ess is 1.5, but must be from 0 to 1", ""),
        (format!("snips({nan}, 0.5, 0.5)"), "argument reward of snips is NaN, but must be a finite number", ""),
        (format!("qini(1, true, {nan})"), "argument uplift of qini is NaN, but must be a number", ""),
        ("qini(y, true, x)".to_owned(), "argument outcome of qini is 2, but must be 0 or 1; amounts need definition => 'per_head'", ""),
        (
            "qini(1, true, x, definition => 'nomalized')".to_owned(),
            "argument definition of qini is 'nomalized'",
            "did you mean 'normalized'?",
        ),
        ("ate(y, true, propensity => 1)".to_owned(), "argument propensity of ate is 1, but must be above 0 and below 1", ""),
        ("uplift_at_k(y, true, x, k => -1)".to_owned(), "argument k of uplift_at_k is -1, but must be from 0", ""),
        ("ab_test(y, variant)".to_owned(), "argument variant of ab_test is c, but must be one of two variants", ""),
        ("ab_test(y, variant, level => 1)".to_owned(), "argument level of ab_test is 1, but must be from 0.5", ""),
        ("ab_test_sequential(y, variant)".to_owned(), "argument effect of ab_test_sequential is missing", "effect => 0.005"),
        ("srm_test(variant, expected => 'a: 1, b: 1')".to_owned(), "argument variant of srm_test is c, but must be one of those", ""),
        ("srm_test(variant, expected => 'a, b')".to_owned(), "argument expected of srm_test has no share in 'a'", "'a: 0.5, b: 0.5'"),
        ("psi(x, y)".to_owned(), "argument is_actual of psi is 2, but must be 0 or 1", ""),
        ("psi(x, true, bins => 1)".to_owned(), "argument bins of psi is 1, but must be from 2 to 10000", ""),
        ("sample_size(0.1, 0)".to_owned(), "argument mde of sample_size is 0", "baseline * 0.1"),
        ("sample_size(1.5, 0.1)".to_owned(), "argument baseline of sample_size is 1.5, but must be above 0 and below 1", ""),
    ] {
        let refusal = shop.refusal(&format!("SELECT {call} FROM {rows}")).await;
        assert!(refusal.message.starts_with(message) && refusal.hint.contains(hint), "{call}: {} {}", refusal.message, refusal.hint);
    }
}

#[tokio::test]
async fn two_of_three_variants_are_compared_by_name_and_fields_are_read() {
    let shop = Shop::open().await;
    let rows = "(VALUES (1, 'a'), (0, 'b'), (1, 'c'), (0, 'c'), (1, 'b')) AS t (y, variant)";
    let sql = format!("SELECT (ab_test(y, variant, control => 'c', treatment => 'b')).control_rows FROM {rows}");
    assert_eq!(shop.value(&sql).await, "2");
    let sizes =
        shop.rows("SELECT sample_size(rate, rate * 0.1), sample_size(0.1, mde => 0.02) FROM (VALUES (0.1), (NULL)) AS t (rate)").await;
    assert_eq!(sizes, [["14751", "3841"], ["NULL", "3841"]]);
}

/// A log of 400 rows, and one whose propensities hang it on few rows.
const LOG: &str = "(SELECT value % 3 = 0 AS click, 0.2 + value % 7 / 10.0 AS p_new, 0.3 + value % 5 / 10.0 AS p_logged,
    CASE WHEN value = 7 THEN 1e-6 ELSE 1 END AS rare, 0.1 + value % 2 / 10.0 AS q_logged, 0.2 AS q_new FROM generate_series(1, 400)) AS log";

#[tokio::test]
async fn a_policy_is_judged_by_all_estimators_at_once() {
    let mut shop = Shop::open().await;
    let call = |more: &str| {
        format!("ml.off_policy(query => $$SELECT * FROM {LOG}$$, reward => 'click', target => 'p_new', logged => 'p_logged'{more})")
    };
    let modelled = call(", q_logged => 'q_logged', q_new => 'q_new', threshold => 1.2, max_weight => 1.5, level => 0.9");
    let rows = shop.rows(&format!("SELECT * FROM {modelled}")).await;
    assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["ips", "snips", "clipped_ips", "dm", "dr", "switch_dr"]);
    let (three, five) = ("click, p_new, p_logged", "click, p_new, p_logged, q_logged, q_new");
    let calls = [
        format!("ips_ci({three}, level => 0.9)"),
        format!("snips_ci({three}, level => 0.9)"),
        format!("clipped_ips_ci({three}, max_weight => 1.5, level => 0.9)"),
        "dm_ci(q_new, level => 0.9)".to_owned(),
        format!("dr_ci({five}, level => 0.9)"),
        format!("switch_dr_ci({five}, threshold => 1.2, level => 0.9)"),
    ];
    for (row, call) in rows.iter().zip(calls) {
        let fields = answer(&shop, &format!("SELECT {call} FROM {LOG}")).await;
        for (text, (field, expected)) in row[1..5].iter().zip(&fields) {
            assert!(close(text.parse().unwrap(), value(expected).unwrap().unwrap()), "{call} {field}: {text}");
        }
        assert_eq!(row[5], "400");
        assert!(close(row[6].parse().unwrap(), shop.number(&format!("SELECT ess(p_new, p_logged) FROM {LOG}")).await));
    }
    assert_eq!(shop.rows(&format!("SELECT estimator FROM {}", call(""))).await, [["ips"], ["snips"], ["clipped_ips"]]);
    let some = call(", estimators => 'DR, ips', q_logged => 'q_logged', q_new => 'q_new'");
    assert_eq!(shop.rows(&format!("SELECT estimator FROM {some}")).await, [["dr"], ["ips"]]);
    assert!(shop.notices.try_recv().is_err(), "nothing is wrong with this log");
    let rare = call("").replace("logged => 'p_logged'", "logged => 'rare'");
    shop.rows(&format!("SELECT * FROM {rare}")).await;
    for part in ["the effective sample size of ml.off_policy is 1.0 of 400 rows", "one row has 100 % of all weight"] {
        let notice = shop.notices.try_recv().unwrap();
        assert!(notice.severity == Severity::Warning && notice.message.contains(part), "{}", notice.message);
        assert!(notice.message.contains("cut the weights"), "it says what to do");
    }
    let none = shop.rows(&format!("SELECT * FROM {}", call("").replace("400))", "0))"))).await;
    assert_eq!(none[0], ["ips", "NULL", "NULL", "NULL", "NULL", "0", "NULL", "NULL"]);
}

#[tokio::test]
async fn a_policy_that_cannot_be_judged_is_refused_when_planned() {
    let shop = Shop::open().await;
    for (arguments, message, hint) in [
        ("reward => 'click', target => 'p_nw', logged => 'p_logged'", "needs column \"p_nw\"", "did you mean target => 'p_new'?"),
        (
            "reward => 'click', target => 'p_new', logged => 'p_logged', q_new => 'q_new'",
            "argument q_logged of ml.off_policy is missing",
            "",
        ),
        ("reward => 'click', target => 'p_new', logged => 'p_logged', estimators => 'dr'", "which needs a model", "q_logged => ..."),
        ("reward => 'click', target => 'p_new', logged => 'p_logged', estimators => 'ips, snps'", "has 'snps'", "did you mean 'snips'?"),
        ("reward => 'click', target => 'p_new', logged => 'p_logged', max_weight => -1", "argument max_weight of ml.off_policy is -1", ""),
    ] {
        let sql = format!("EXPLAIN SELECT * FROM ml.off_policy(query => $$SELECT * FROM {LOG}$$, {arguments})");
        let refusal = shop.refusal(&sql).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{} {}", refusal.message, refusal.hint);
    }
    let sql = format!(
        "SELECT * FROM ml.off_policy(query => $$SELECT click, p_new, 0 AS e FROM {LOG}$$, reward => 'click', target => 'p_new', logged => 'e')"
    );
    let refusal = shop.refusal(&sql).await;
    assert_eq!(refusal.message, "column \"e\", the logged of ml.off_policy, is 0, but must be above 0 and at most 1");
}

#[tokio::test]
async fn curves_have_the_areas_that_the_aggregates_say() {
    let shop = Shop::open().await;
    register(&shop, "t", &random_rows(&mut ChaCha8Rng::seed_from_u64(24), 500), 3);
    let columns = "query => $$SELECT * FROM t$$, outcome => 'reward', treated => 'treated', uplift => 'score'";
    for (curve, aggregate, height) in [
        ("qini_curve", "qini(reward, treated, score, definition => 'per_head')", "(gain - random) / (SELECT sum(treated) FROM t)"),
        ("uplift_curve", "auuc(reward, treated, score, definition => 'per_head')", "gain / 500"),
    ] {
        let area = format!(
            "SELECT sum((share - before) * (height + lower) / 2) FROM (SELECT share, height, lag(share) OVER (ORDER BY rows) AS before,
                lag(height) OVER (ORDER BY rows) AS lower FROM (SELECT rows, share, {height} AS height FROM ml.{curve}({columns})) AS c) AS d"
        );
        let (area, expected) = (shop.number(&area).await, shop.number(&format!("SELECT {aggregate} FROM t")).await);
        assert!(close(area, expected), "{curve}: {area} {expected}");
        let few = shop.rows(&format!("SELECT rows, uplift FROM ml.{curve}({columns}, points => 5)")).await;
        assert!(few.len() == 5 && few[0] == ["0", "NULL"] && few[4][0] == "500", "{few:?}");
    }
    let refusal = shop
        .refusal("SELECT * FROM ml.qini_curve(query => $$SELECT * FROM t$$, outcome => 'reward', treated => 'treated', uplift => 'scores')")
        .await;
    assert_eq!((refusal.hint.as_str(), refusal.message.contains("\"scores\"")), ("did you mean uplift => 'score'?", true));
    let refusal = shop.refusal(&format!("SELECT * FROM ml.uplift_by_decile({columns}, bins => 0)")).await;
    assert_eq!(refusal.message, "argument bins of ml.uplift_by_decile is 0, but must be from 1 to 10000");
}

#[tokio::test]
async fn deciles_are_those_of_the_engine_where_no_scores_are_equal() {
    let shop = Shop::open().await;
    register(&shop, "t", &random_rows(&mut ChaCha8Rng::seed_from_u64(25), 333), 3);
    let deciles = "SELECT decile, treated_rows, control_rows, treated_mean - control_mean - effect < 1e-12, lowest_uplift
        FROM ml.uplift_by_decile(query => $$SELECT * FROM t$$, outcome => 'amount', treated => 'treated', uplift => 'q_new')";
    let engine = "SELECT decile, CAST(sum(treated) AS bigint), CAST(sum(1 - treated) AS bigint), true, min(q_new)
        FROM (SELECT *, ntile(10) OVER (ORDER BY q_new DESC) AS decile FROM t) AS n GROUP BY decile ORDER BY decile";
    assert_eq!(shop.rows(deciles).await, shop.rows(engine).await);
}
