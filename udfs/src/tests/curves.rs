//! Curves, confusion matrices and reports through SQL: against scikit-learn, and what holds for any rows.

use serde_json::Value;

use super::*;

/// Made by `tests/fixtures/curves.py`.
const FIXTURE: &str = include_str!("../../tests/fixtures/curves.json");

const SCORED: &str = "query => $$SELECT click, price / 5.0 AS p, id % 4 AS weight, slot FROM impressions$$, label => 'click', score => 'p'";

fn fixture() -> Value {
    serde_json::from_str(FIXTURE).unwrap()
}

/// Numbers; scikit-learn's infinite threshold is null in the fixture.
fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap_or(f64::INFINITY)).collect()
}

fn same(ours: &str, theirs: f64) -> bool {
    let ours: f64 = match ours {
        "inf" => f64::INFINITY,
        number => number.parse().unwrap(),
    };
    ours == theirs || (ours - theirs).abs() <= 1e-9
}

#[tokio::test]
async fn curves_equal_scikit_learn() {
    let shop = Shop::open().await;
    let fixture = fixture();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 30);
    for case in cases {
        let columns: Vec<_> = case["columns"].as_array().unwrap().iter().map(numbers).collect();
        let rows: Vec<_> =
            (0..columns[0].len()).map(|row| format!("({}, {:e}, {:e})", columns[0][row], columns[1][row], columns[2][row])).collect();
        let query = format!("query => $$SELECT * FROM (VALUES {}) AS t (a, b, c)$$", rows.join(", "));
        let call = case["call"].as_str().unwrap().replace("QUERY, 'a', 'b'", &format!("{query}, label => 'a', score => 'b'"));
        let wanted = if call.contains("calibration") { "predicted, observed" } else { "*" };
        let ours = shop.rows(&format!("SELECT {wanted} FROM {call}")).await;
        let theirs: Vec<_> = case["expected"].as_array().unwrap().iter().map(numbers).collect();
        assert_eq!(ours.len(), theirs[0].len(), "{}", case["name"]);
        for (row, ours) in ours.iter().enumerate() {
            for (column, ours) in ours.iter().enumerate() {
                assert!(same(ours, theirs[column][row]), "{}, row {row}: {ours} {}", case["name"], theirs[column][row]);
            }
        }
    }
}

#[tokio::test]
async fn reports_equal_scikit_learn() {
    let shop = Shop::open().await;
    for report in fixture()["reports"].as_array().unwrap() {
        let class = |value: &Value| value.as_str().map_or_else(|| value.to_string(), |text| format!("'{text}'"));
        let classes = |name: &str| report[name].as_array().unwrap().iter().map(class).collect::<Vec<_>>();
        let rows: Vec<_> = classes("actual").iter().zip(classes("predicted")).map(|(a, p)| format!("({a}, {p})")).collect();
        let query = format!("query => $$SELECT * FROM (VALUES {}) AS t (a, p)$$, label => 'a', predicted => 'p'", rows.join(", "));
        let ours = shop.rows(&format!("SELECT * FROM ml.classification_report({query})")).await;
        let theirs = report["expected"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(ours[0], theirs[0].as_str().unwrap(), "{}", report["name"]);
            for (ours, theirs) in ours.iter().zip(theirs.as_array().unwrap()).skip(1) {
                assert!(theirs.as_f64().map_or(ours == "NULL", |theirs| same(ours, theirs)), "{}: {ours} {theirs}", report["name"]);
            }
        }
        let cells = shop.rows(&format!("SELECT actual, predicted, rows FROM ml.confusion_matrix({query})")).await;
        assert_eq!(cells.iter().map(|cell| cell[2].parse::<usize>().unwrap()).sum::<usize>(), rows.len());
        let support: usize = cells.iter().filter(|cell| cell[0] == ours[0][0]).map(|cell| cell[2].parse::<usize>().unwrap()).sum();
        assert_eq!(support.to_string(), ours[0][4]);
    }
}

#[tokio::test]
async fn a_confusion_matrix_counts_each_pair_of_classes_and_shows_nulls() {
    let shop = Shop::open().await;
    let rows = "SELECT * FROM (VALUES (true, 1), (true, 0), (false, 0), (false, 0), (NULL, 1)) AS t (a, p)";
    assert_eq!(
        shop.rows(&format!("SELECT * FROM ml.confusion_matrix($${rows}$$, 'a', 'p') ORDER BY actual, predicted")).await,
        [["0", "0", "2"], ["1", "0", "1"], ["1", "1", "1"], ["NULL", "1", "1"]]
    );
    let report = format!("SELECT class, support FROM ml.classification_report($${rows}$$, 'a', 'p')");
    assert_eq!(shop.rows(&report).await[..3], [["0", "2"], ["1", "2"], ["accuracy", "4"]]);
    let numbers = "SELECT value % 11 AS a, value % 11 AS p FROM generate_series(1, 50)";
    let many = format!("SELECT count(*), sum(rows), min(rows) FROM ml.confusion_matrix($${numbers}$$, 'a', 'p') WHERE actual = predicted");
    assert_eq!(shop.rows(&many).await, [["11", "50", "4"]]);
    let refusal = shop.refusal("SELECT * FROM ml.confusion_matrix($$SELECT ARRAY[1] AS a, 1 AS p$$, 'a', 'p')").await;
    assert_eq!(refusal.message, "the class that ml.confusion_matrix compares with bigint[] cannot be bigint");
}

#[tokio::test]
async fn curves_read_their_columns_only_and_the_area_under_them_is_auc() {
    let shop = Shop::open().await;
    let plan = &shop
        .rows("EXPLAIN SELECT * FROM ml.roc_curve(query => $$SELECT * FROM impressions$$, label => 'click', score => 'price')")
        .await[0][1];
    assert!(plan.contains("projection=[price, click]"), "{plan}");
    let area = format!(
        "SELECT sum((x - px) * (y + py) / 2) FROM (SELECT false_positive_rate AS x, true_positive_rate AS y, \
         lag(false_positive_rate) OVER (ORDER BY threshold DESC) AS px, lag(true_positive_rate) OVER (ORDER BY threshold DESC) AS py \
         FROM ml.roc_curve({SCORED})) AS c"
    );
    let auc = shop.number("SELECT auc(click, price) FROM impressions").await;
    assert!((shop.number(&area).await - auc).abs() < 1e-12);
    let few = shop.number(&format!("SELECT count(*) FROM ml.roc_curve({SCORED}, points => 10)")).await;
    assert!((5.0..=10.0).contains(&few), "{few}");
    assert_eq!(shop.value(&format!("SELECT count(*) FROM ml.lift_curve({SCORED}, points => 7)")).await, "7");
    assert_eq!(shop.value(&format!("SELECT sum(rows) FROM ml.calibration_curve({SCORED})")).await, "4000");
}

#[tokio::test]
async fn curves_skip_nulls_and_do_not_depend_on_partitions() {
    let mut curves = Vec::new();
    for partitions in [1, 3] {
        let shop = Shop::over(tempfile::tempdir().unwrap(), partitions).await;
        let with_nulls = "query => $$SELECT click, price AS p FROM impressions UNION ALL SELECT NULL, 1.0 UNION ALL SELECT true, NULL$$";
        curves.push(shop.rows(&format!("SELECT * FROM ml.pr_curve({with_nulls}, label => 'click', score => 'p')")).await);
    }
    assert!(curves[0].len() > 40);
    assert_eq!(curves[0], curves[1]);
    let shop = Shop::open().await;
    let none = "SELECT count(*) FROM ml.roc_curve(query => $$SELECT click, price FROM impressions WHERE false$$, label => 'click', score => 'price')";
    assert_eq!(shop.value(none).await, "0");
    let one = "SELECT DISTINCT true_positive_rate FROM ml.roc_curve(query => $$SELECT false AS a, price FROM impressions$$, label => 'a', score => 'price')";
    assert_eq!(shop.rows(one).await, [["NULL"]]);
}

#[tokio::test]
async fn what_a_curve_cannot_read_is_named_when_it_is_planned() {
    let shop = Shop::open().await;
    let query = "query => $$SELECT click, price, slot, id FROM impressions$$";
    for (call, message, hint) in [
        (
            "ml.roc_curve(QUERY, label => 'clik', score => 'price')",
            "ml.roc_curve needs column \"clik\", which is not there",
            "did you mean label => 'click'?",
        ),
        (
            "ml.pr_curve(QUERY, label => 'click', score => 'prise')",
            "ml.pr_curve needs column \"prise\", which is not there",
            "did you mean score => 'price'?",
        ),
        (
            "ml.lift_curve(QUERY, label => 'slot', score => 'price')",
            "column \"slot\", the label of ml.lift_curve, cannot be text",
            "write a condition in the query, such as slot = 'yes' AS slot",
        ),
        (
            "ml.roc_curve(QUERY, label => 'click', score => 'price', points => 1)",
            "argument points of ml.roc_curve is 1, but must be from 2 to 1000000",
            "",
        ),
        (
            "ml.calibration_curve(QUERY, label => 'click', score => 'price', strategy => 'even')",
            "argument strategy of ml.calibration_curve is 'even', but must be 'uniform' or 'quantile'",
            "",
        ),
        (
            "ml.calibration_curve(QUERY, label => 'click', score => 'price', bins => 0)",
            "argument bins of ml.calibration_curve is 0, but must be from 1 to 10000",
            "",
        ),
        (
            "ml.roc_curve(QUERY, label => $1, score => 'price')",
            "ml.roc_curve takes no parameters such as $1, because what it reads depends on its arguments",
            "write the value into the statement",
        ),
        (
            "ml.confusion_matrix(QUERY, label => 'slott', predicted => 'slot')",
            "ml.confusion_matrix needs column \"slott\", which is not there",
            "did you mean label => 'slot'?",
        ),
    ] {
        let Err(error) = shop.plan(&format!("SELECT * FROM {}", call.replace("QUERY", query))).await else { panic!("{call}: planned") };
        let found = find(&error).unwrap_or_else(|| panic!("{error}"));
        assert_eq!((found.to_string().as_str(), found.hint().unwrap_or_default().as_str()), (message, hint));
    }
    for (call, message) in [
        ("ml.roc_curve(QUERY, label => 'id', score => 'price')", "column \"id\", the label of ml.roc_curve, is "),
        ("ml.roc_curve(QUERY, label => 'click', score => 'price', weight => 'nothing')", "ml.roc_curve needs column \"nothing\""),
        ("ml.calibration_curve(QUERY, label => 'click', score => 'id')", "column \"id\", the score of ml.calibration_curve, is "),
    ] {
        let refusal = shop.refusal(&format!("SELECT * FROM {}", call.replace("QUERY", query))).await;
        assert!(refusal.message.starts_with(message), "{}", refusal.message);
    }
}

#[tokio::test]
async fn a_curve_that_does_not_fit_into_the_memory_is_refused() {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    let shop = Shop::open().await;
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(100_000))).build_arc().unwrap();
    let state = SessionStateBuilder::new_from_existing(shop.context.state()).with_runtime_env(runtime).build();
    let small = SessionContext::new_with_state(state);
    let sql = "SELECT * FROM ml.roc_curve(query => $$SELECT value % 2 AS a, value AS b FROM generate_series(1, 100000)$$, label => 'a', score => 'b')";
    let plan = shop.plan(sql).await.unwrap();
    let error = small.execute_logical_plan(plan).await.unwrap().collect().await.unwrap_err();
    assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
    assert!(error.to_string().contains("ml.roc_curve["), "{error}");
}

#[tokio::test]
async fn bars_and_sparklines_take_columns_and_constants() {
    let shop = Shop::open().await;
    assert_eq!(
        shop.rows("SELECT bar(x, 0, 2, 4), bar(x, lo => 2, hi => 0, width => 4), sparkline(ARRAY[0, x, 2]) FROM (VALUES (0.0), (1.0), (NULL)) AS t (x) ORDER BY x")
            .await,
        [["", "████", "▁▁█"], ["██", "██", "▁▅█"], ["NULL", "NULL", "▁ █"]]
    );
    assert_eq!(shop.value("SELECT bar(3, 0, 4)").await, "███████████████");
    assert_eq!(shop.value("SELECT sparkline(array_agg(value ORDER BY value)) FROM generate_series(1, 8)").await, "▁▂▃▄▅▆▇█");
    assert_eq!(shop.value("SELECT sparkline(NULL) IS NULL AND bar(NULL, 0, 1) IS NULL").await, "true");
    assert_eq!(shop.refusal("SELECT bar(1, 0, 1, 0)").await.message, "argument width of bar is 0, but must be from 1 to 1000");
    assert_eq!(shop.refusal("SELECT bar('wide', 0, 1)").await.message, "argument x of bar cannot be text");
    assert_eq!(
        shop.refusal("SELECT sparkline(price) FROM impressions").await.message,
        "argument values of sparkline cannot be double precision"
    );
}
