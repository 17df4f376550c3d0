//! Uplift models: `finetune` with task 'uplift', and `predict_uplift`.

use super::*;

/// Visits that the treatment makes more likely for the first items, and for no others.
const EXPERIMENT: &str = "CREATE TABLE experiment AS
    SELECT id, item_id, price, treated, (id * 7919) % 1000 < 100 + CASE WHEN treated AND item_id < 6 THEN 400 ELSE 0 END AS visit,
        CASE WHEN treated THEN 'mail' ELSE 'none' END AS arm, 0.5 AS p
    FROM (SELECT value AS id, value % 13 AS item_id, (value % 50) / 10.0 AS price, (value * 104729) % 1009 < 504 AS treated
          FROM generate_series(1, 6000)) AS rows";

async fn shop() -> Shop {
    let shop = Shop::open().await;
    shop.run(EXPERIMENT).await.unwrap();
    shop
}

fn call(more: &str) -> String {
    format!(
        "SELECT * FROM finetune('who', $$SELECT item_id, price, treated, visit FROM experiment$$, outcome => 'visit', task => 'uplift', \
         treatment => 'treated', epochs => 6, ensembles => 1{more})"
    )
}

fn column(row: &[String], name: &str) -> String {
    row[crate::finetune::DECLARATION.columns().iter().position(|column| column.name == name).unwrap()].clone()
}

#[tokio::test]
async fn every_learner_finds_who_is_moved() {
    let shop = shop().await;
    for learner in ["s", "t", "x", "r"] {
        let rows = shop.rows(&call(&format!(", learner => '{learner}'"))).await;
        let (last, epochs) = rows.split_last().unwrap();
        assert!(epochs.iter().all(|row| column(row, "stage") != "NULL" && column(row, "validation_qini") == "NULL"), "{epochs:?}");
        assert_eq!((column(last, "stage"), column(last, "validation_loss")), ("NULL".to_owned(), "NULL".to_owned()));
        assert!(column(last, "validation_qini").parse::<f64>().unwrap() > 0.1, "{learner}: {last:?}");
        assert!(column(last, "validation_auuc").parse::<f64>().unwrap() > 0.1, "{learner}: {last:?}");
        let mean = async |items: &str| shop.number(&format!("SELECT avg(predict_uplift('who', e)) FROM experiment e WHERE {items}")).await;
        let (moved, others) = (mean("item_id < 6").await, mean("item_id >= 6").await);
        assert!(moved > 0.25 && others.abs() < 0.1, "{learner}: {moved} and {others}");
    }
    let figures = "SELECT DISTINCT metric FROM ml.evaluations WHERE model = 'who' AND version = 4 ORDER BY metric";
    assert_eq!(shop.rows(figures).await.concat(), ["ate", "auuc", "predicted_uplift", "qini"]);
}

#[tokio::test]
async fn stages_and_epochs_come_as_they_happen_with_the_nets_of_each() {
    let shop = shop().await;
    let rows = shop.rows(&call(", learner => 'x', epochs => 1").replace("epochs => 6, ", "")).await;
    let stages: Vec<String> = rows.iter().map(|row| column(row, "stage")).collect();
    assert_eq!(stages, ["treated", "control", "effect_treated", "effect_control", "NULL"]);
    let etas: Vec<f64> = rows.iter().map(|row| column(row, "eta_seconds").parse().unwrap()).collect();
    assert!(etas[0] > 0.0 && etas[3] == 0.0 && etas[4] == 0.0, "{etas:?}");
    let metrics = "SELECT DISTINCT metric FROM ml.training_metrics WHERE metric LIKE '%loss' ORDER BY metric";
    let names = shop.rows(metrics).await.concat();
    assert!(names.contains(&"effect_treated.loss".to_owned()) && names.contains(&"treated.logloss".to_owned()), "{names:?}");
}

#[tokio::test]
async fn evaluate_measures_an_uplift_model_as_the_aggregates_do_and_records_it() {
    let shop = shop().await;
    shop.rows(&call(", learner => 't'")).await;
    let rows = shop.rows("SELECT * FROM ml.evaluate('who', $$SELECT * FROM experiment WHERE id > 3000$$)").await;
    let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["rows", "treated", "qini", "auuc", "ate", "uplift_at_k", "predicted_uplift"]);
    let scored = "FROM (SELECT *, predict_uplift('who', e) AS uplift FROM experiment e WHERE id > 3000) AS s";
    for (position, call) in [
        "count(*)",
        "count(*) FILTER (WHERE treated)",
        "qini(visit, treated, uplift)",
        "auuc(visit, treated, uplift)",
        "ate(visit, treated)",
        "uplift_at_k(visit, treated, uplift)",
        "avg(uplift)",
    ]
    .into_iter()
    .enumerate()
    {
        let (measured, expected) = (rows[position][1].parse::<f64>().unwrap(), shop.number(&format!("SELECT {call} {scored}")).await);
        assert!((measured - expected).abs() < 1e-12, "{call}: {measured} {expected}");
    }
    for row in &rows[2..5] {
        let [value, low, high] = [1, 2, 3].map(|column| row[column].parse::<f64>().unwrap());
        assert!(0.0 < low && low < value && value < high, "{row:?}");
    }
    assert_eq!(shop.rows("SELECT metric, value, low, high FROM ml.evaluations WHERE split = 'query'").await, rows);
    assert_eq!(shop.value("SELECT treatment FROM ml.models").await, "treated");
    let other = "SELECT value FROM ml.evaluate('who', $$SELECT item_id, price, visit, 1 - treated::int AS mailed FROM experiment$$, \
                 treatment => 'mailed') WHERE metric = 'ate'";
    assert!(shop.number(other).await < 0.0);
    for (sql, message) in [
        (
            "SELECT * FROM ml.evaluate('who', $$SELECT item_id, price, visit FROM experiment$$)",
            "ml.evaluate needs column \"treated\", which is not there",
        ),
        (
            "SELECT * FROM ml.evaluate('who', $$SELECT * FROM experiment$$, group_col => 'arm')",
            "argument group_col of ml.evaluate is for models of a probability, which this model is not",
        ),
        (
            "SELECT * FROM ml.global_explain('who', $$SELECT * FROM experiment$$)",
            "model \"who@1\" is an uplift model, which gives no probability",
        ),
        (
            "SELECT * FROM ml.compare('who', 'who', $$SELECT * FROM experiment$$)",
            "model \"who@1\" is an uplift model, which gives no probability",
        ),
    ] {
        assert_eq!(shop.refusal(sql).await.message, message, "{sql}");
    }
}

#[tokio::test]
async fn a_row_can_be_given_in_every_way_and_the_treatment_is_not_needed() {
    let shop = shop().await;
    shop.rows(&call(", learner => 's'")).await;
    let expected = shop.rows("SELECT predict_uplift('who', e) FROM experiment e WHERE id = 7").await;
    for call in [
        "predict_uplift('who@1', e.*) FROM experiment e",
        "predict_uplift('who', item_id, price) FROM experiment",
        "predict_uplift('who', item_id => item_id, price => price) FROM experiment",
        "predict_uplift('who', e) FROM (SELECT id, item_id, price FROM experiment) e",
        "predict_uplift('who', e) FROM (SELECT id, item_id, price, NOT treated AS treated FROM experiment) e",
        "uplift FROM ml.predict('who', query => $$SELECT id, item_id, price FROM experiment$$)",
    ] {
        assert_eq!(shop.rows(&format!("SELECT {call} WHERE id = 7")).await, expected, "{call}");
    }
    assert_eq!(shop.value("SELECT features FROM ml.models").await, "item_id bigint, price double precision");
    assert_eq!(shop.value("SELECT model_type FROM ml.models").await, "s-learner");
    let info = shop.rows("SELECT DISTINCT source FROM ml.feature_info('who') ORDER BY source").await.concat();
    assert_eq!(info, ["item_id", "price"]);
    let plan = shop.rows("EXPLAIN SELECT id, predict_uplift('who', e) FROM experiment e ORDER BY id LIMIT 5").await;
    let (_, below) = plan[0][1].split_once("Calls:").unwrap_or_else(|| panic!("{}", plan[0][1]));
    assert!(below.contains("Sort:"), "the call comes after the five rows are chosen: {}", plan[0][1]);
    let refusal = shop.refusal("SELECT predict_uplift('who', item_id => 3) FROM experiment").await;
    assert_eq!(refusal.message, "model \"who@1\" needs column \"price\", which is not there");
}

#[tokio::test]
async fn a_model_of_another_kind_is_refused_when_the_statement_is_planned() {
    let shop = shop().await;
    shop.train("ctr", "").await;
    shop.rows(&call(", learner => 't', epochs => 1").replace("epochs => 6, ", "")).await;
    for (sql, message) in [
        ("SELECT predict_ctr('who', e) FROM experiment e", "model \"who@1\" is an uplift model, which gives no probability"),
        ("SELECT predict_cvr('who', e) FROM experiment e", "model \"who@1\" is an uplift model, which gives no probability"),
        ("SELECT predict_uplift('ctr', i) FROM impressions i", "model \"ctr@1\" is no uplift model"),
        (
            "SELECT * FROM finetune('ctr', $$SELECT item_id, price, visit FROM experiment$$, 'visit', base => 'who')",
            "model \"who@1\" is an uplift model, which no training goes on from",
        ),
    ] {
        let Err(error) = shop.plan(sql).await else { panic!("{sql}: planned") };
        let error = find(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
        assert_eq!(error.to_string(), message);
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{sql}");
    }
    assert_eq!(shop.rows("SELECT count(uplift) FROM ml.predict('who', $$SELECT item_id, price FROM experiment$$)").await, [["6000"]]);
}

#[tokio::test]
async fn wrong_arguments_are_refused_before_a_row_is_read() {
    let shop = shop().await;
    let query = "$$SELECT item_id, price, treated, visit, arm, p FROM experiment$$";
    for (arguments, message) in [
        ("task => 'uplift'", "argument task of finetune is 'uplift', which needs a treatment"),
        ("task => 'churn'", "argument task of finetune is 'churn'"),
        ("treatment => 'treated'", "argument treatment of finetune is for uplift models only"),
        ("propensity => 0.5", "argument propensity of finetune is for uplift models only"),
        ("task => 'uplift', treatment => 'visit'", "argument treatment of finetune is 'visit', which is the outcome too"),
        ("task => 'uplift', treatment => 'treatet'", "finetune needs column \"treatet\", which is not there"),
        ("task => 'uplift', treatment => 'arm'", "treatment column \"arm\" cannot be text"),
        (
            "task => 'uplift', treatment => 'treated', features => 'treated: category'",
            "argument features of finetune wants \"treated\" as a feature, which is the treatment",
        ),
        (
            "task => 'uplift', treatment => 'treated', learner => 'u'",
            "invalid value for option \"learner\": \"u\" is not one of: s, t, x, r",
        ),
        (
            "task => 'uplift', treatment => 'treated', learner => 't', propensity => 0.5",
            "argument propensity of finetune is not used by learner 't'",
        ),
        ("task => 'uplift', treatment => 'treated', propensity => 1.5", "argument propensity of finetune is 1.5"),
        ("task => 'uplift', treatment => 'treated', propensity => 'arm'", "propensity column \"arm\" cannot be text"),
        (
            "task => 'uplift', treatment => 'treated', conversion => 'visit'",
            "argument conversion of finetune is about clicks and conversions, not about an uplift model",
        ),
        (
            "task => 'uplift', treatment => 'treated', model_type => 'esmm'",
            "argument model_type of finetune is 'esmm', which learns clicks and conversions",
        ),
        ("task => 'uplift', treatment => 'treated', outcome => 'visit'", "argument \"outcome\" of finetune is given twice"),
    ] {
        let Err(error) = shop.plan(&format!("SELECT * FROM finetune('who', {query}, label => 'visit', {arguments})")).await else {
            panic!("{arguments}: planned")
        };
        assert_eq!(find(&error).map(ToString::to_string).as_deref(), Some(message), "{}", plan_error(&error));
    }
    let refusal = |query: &str| call("").replace("SELECT item_id, price, treated, visit FROM experiment", query);
    let telling = shop.refusal(&refusal("SELECT item_id, arm, treated, visit FROM experiment")).await;
    assert_eq!(telling.message, "column \"arm\" tells who was treated");
    assert!(telling.hint.starts_with("leave arm out of the query"), "{telling:?}");
    let one = shop.refusal(&refusal("SELECT item_id, price, treated, visit FROM experiment WHERE treated")).await;
    assert!(one.message.starts_with("all ") && one.message.ends_with(" rows are treated"), "{one:?}");
    let nulls = shop.refusal(&refusal("SELECT item_id, price, CASE WHEN id > 9 THEN treated END AS treated, visit FROM experiment")).await;
    assert_eq!(nulls.message, "column \"treated\" is NULL in 9 of 6000 rows");
}

#[tokio::test]
async fn amounts_and_propensities_are_taken_from_columns() {
    let mut shop = shop().await;
    let sql = "SELECT version FROM finetune('spend', $$SELECT item_id, price, treated, CASE WHEN visit THEN 20 ELSE 0 END AS spend, p \
               FROM experiment$$, outcome => 'spend', task => 'uplift', treatment => 'treated', learner => 'r', propensity => 'p', epochs => 6) \
               WHERE version > 0";
    assert_eq!(shop.value(sql).await, "1");
    let moved = shop.number("SELECT avg(predict_uplift('spend', e)) FROM experiment e WHERE item_id < 6").await;
    assert!((5.0..11.0).contains(&moved), "{moved}");
    assert_eq!(shop.value("SELECT features FROM ml.models").await, "item_id bigint, price double precision");
    let mut notices = Vec::new();
    while let Ok(notice) = shop.notices.try_recv() {
        notices.push(notice.message);
    }
    let judged = "SELECT metric, value FROM ml.evaluate('spend', $$SELECT * , CASE WHEN visit THEN 20 ELSE 0 END AS spend FROM experiment$$) \
                  WHERE metric = 'qini'";
    let area = "SELECT 'qini', qini(CASE WHEN visit THEN 20 ELSE 0 END, treated, predict_uplift('spend', e), definition => 'per_head') FROM experiment e";
    assert_eq!(shop.rows(judged).await, shop.rows(area).await);
    assert_eq!(notices[0], "training spend on 6000 rows of 2 columns");
    assert_eq!(notices[1], "outcome \"spend\" has other values than 0 and 1: predict_uplift gives the change of its expected value");
}
