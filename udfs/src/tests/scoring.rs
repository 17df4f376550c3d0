//! `predict_ctr`.

use super::*;

const EXACT: &str = "SELECT id, predict_ctr('ctr', i) AS p FROM impressions i ORDER BY id";

async fn trained() -> Shop {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    shop
}

#[tokio::test]
async fn a_restarted_server_predicts_the_same_bits() {
    let shop = trained().await;
    let before = shop.rows(EXACT).await;
    assert_eq!(before.len(), 4000);
    let shop = shop.reopen().await;
    assert_eq!(shop.models.resident(), 0);
    assert_eq!(shop.rows(EXACT).await, before);
    assert_eq!(shop.models.resident(), 1);
}

#[tokio::test]
async fn a_row_can_be_given_in_every_way() {
    let shop = trained().await;
    let expected = shop.rows("SELECT predict_ctr('ctr', i) FROM impressions i WHERE id = 7").await;
    for call in [
        "predict_ctr('ctr', i.*) FROM impressions i",
        "predict_ctr('ctr@1', i) FROM impressions i",
        "predict_ctr('ctr@latest', impressions) FROM impressions",
        "predict_ctr(features => i, model => 'ctr') FROM impressions i",
        "predict_ctr('ctr', *) FROM impressions",
        "predict_ctr('ctr', i.user_id, item_id, slot, i.price, i.ts) FROM impressions i",
        "predict_ctr('ctr', ts => ts, item_id => item_id, user_id => i.user_id, slot => i.slot, price => price) FROM impressions i",
        "predict_ctr('ctr', s) FROM (SELECT id, price, ts, slot, CAST(item_id AS int) AS item_id, user_id, 'x' AS more FROM impressions) AS s",
        "predict_ctr('ctr', c) FROM (WITH d AS (SELECT * FROM impressions) SELECT * FROM d) AS c",
        "predict_ctr('ctr', named_struct('user_id', user_id, 'item_id', item_id, 'slot', slot, 'price', price, 'ts', ts)) FROM impressions",
        "predict_ctr('ctr', i) FROM impressions i JOIN (SELECT 7 AS k) k ON i.id = k.k",
        "predict_ctr('ctr', i, price => 0) FROM (SELECT id, user_id, item_id, slot, ts, 99 AS price FROM impressions) AS i",
    ] {
        let sql = format!("SELECT {call} WHERE id = 7");
        let sql = if call.ends_with("AS i") { sql.replace("price => 0", "price => CAST(0.7 AS double precision)") } else { sql };
        assert_eq!(shop.rows(&sql).await, expected, "{sql}");
    }
    let value: f64 = expected[0][0].parse().unwrap();
    assert!((0.0..=1.0).contains(&value));
}

#[tokio::test]
async fn a_row_can_be_used_in_every_clause() {
    let shop = trained().await;
    for sql in [
        "SELECT count(*) FROM impressions i WHERE predict_ctr('ctr', i) >= 0",
        "SELECT count(*) FROM (SELECT predict_ctr('ctr', i) FROM impressions i GROUP BY predict_ctr('ctr', i)) AS g",
        "WITH s AS (SELECT predict_ctr('ctr', i) AS p, click FROM impressions i) SELECT auc(click, p) FROM s",
        "SELECT avg(predict_ctr('ctr', i)) FILTER (WHERE click) FROM impressions i",
        "SELECT count(*) FROM impressions i WHERE EXISTS (SELECT 1 FROM impressions j WHERE j.id = i.id AND predict_ctr('ctr', j) >= 0)",
    ] {
        assert!(shop.number(sql).await > 0.0, "{sql}");
    }
    let top = shop.rows("SELECT item_id FROM impressions i ORDER BY predict_ctr('ctr', i) DESC, id LIMIT 5").await;
    assert!(top.iter().all(|row| row[0].parse::<i64>().unwrap() < 4), "{top:?}");
}

#[tokio::test]
async fn missing_values_and_unseen_categories_are_scored() {
    let shop = trained().await;
    let sql = "SELECT predict_ctr('ctr', user_id => NULL, item_id => 123456789, slot => 'never seen', price => NULL, ts => NULL)";
    let p: f64 = shop.value(sql).await.parse().unwrap();
    assert!((0.0..=1.0).contains(&p), "{p}");
    assert_eq!(shop.value("SELECT count(predict_ctr('ctr', i)) FROM impressions i WHERE false").await, "0");
}

#[tokio::test]
async fn one_statement_uses_one_version() {
    let shop = trained().await;
    let plan = shop
        .plan("SELECT predict_ctr('ctr', i) AS a, (SELECT max(predict_ctr('ctr', j)) FROM impressions j) AS b FROM impressions i")
        .await
        .unwrap();
    let analyzed = shop.context.state().optimize(&plan).unwrap();
    shop.train("ctr", ", seed => 1").await;
    let text = analyzed.display_indent().to_string();
    assert_eq!(text.matches("predict_ctr(Utf8(\"ctr@1\")").count(), 2, "{text}");
    assert_eq!(shop.value("SELECT count(*) FROM impressions i WHERE predict_ctr('ctr', i) <> predict_ctr('ctr@2', i)").await, "0");
    assert!(shop.number("SELECT count(*) FROM impressions i WHERE predict_ctr('ctr', i) <> predict_ctr('ctr@1', i)").await > 0.0);
}

#[tokio::test]
async fn only_the_columns_of_the_model_are_read() {
    let shop = trained().await;
    let plan = shop.rows("EXPLAIN SELECT predict_ctr('ctr', i) FROM impressions i").await;
    let logical = plan[0][1].lines().find(|line| line.contains("TableScan")).unwrap().to_owned();
    assert!(logical.contains("price") && !logical.contains("click") && !logical.contains("[id"), "{logical}");
}

#[tokio::test]
async fn equal_calls_are_computed_once() {
    let shop = trained().await;
    let plan = shop.rows("EXPLAIN SELECT predict_ctr('ctr', i) AS a, predict_ctr('ctr', i) * 2 AS b FROM impressions i").await;
    assert_eq!(plan[0][1].matches("predict_ctr(Utf8").count(), 1, "{}", plan[0][1]);
}

#[tokio::test]
async fn an_unknown_model_is_refused_with_the_closest_name() {
    let shop = trained().await;
    let refusal = shop.refusal("SELECT predict_ctr('crt', i) FROM impressions i").await;
    assert_eq!(refusal.message, "model \"crt\" does not exist");
    assert!(refusal.hint.contains("did you mean \"ctr\"?"), "{refusal:?}");
    let refusal = shop.refusal("SELECT predict_ctr('ctr@9', i) FROM impressions i").await;
    assert_eq!(refusal.message, "model \"ctr\" has no version 9");
    assert_eq!(shop.refusal("SELECT predict_ctr('../ctr', i) FROM impressions i").await.message, "\"../ctr\" is not a model name");
}

#[tokio::test]
async fn a_row_that_does_not_fit_the_model_is_refused_before_it_is_read() {
    let shop = trained().await;
    let refused = async |sql: &str| {
        let Err(error) = shop.plan(sql).await else { panic!("{sql}: planned") };
        let error = find(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
        (error.to_string(), error.detail().unwrap_or_default())
    };
    let (message, detail) = refused("SELECT predict_ctr('ctr', i) FROM (SELECT user_id, slot, price, ts FROM impressions) i").await;
    assert_eq!(message, "model \"ctr@1\" needs column \"item_id\", which is not there");
    assert_eq!(
        detail,
        "the model reads: user_id bigint, item_id bigint, slot text, price double precision, ts timestamp; the row has: user_id, slot, price, ts"
    );
    let (message, detail) = refused("SELECT predict_ctr('ctr', i, item_id => 'x') FROM impressions i").await;
    assert_eq!(
        (message.as_str(), detail.as_str()),
        ("column \"item_id\" of model \"ctr@1\" cannot be text", "the model was trained on bigint")
    );
    let (message, _) = refused("SELECT predict_ctr('ctr', user_id, item_id) FROM impressions i").await;
    assert_eq!(message, "model \"ctr@1\" needs column \"slot\", which is not there");
    let (message, _) = refused("SELECT predict_ctr(7, i) FROM impressions i").await;
    assert_eq!(message, "argument model of predict_ctr cannot be bigint");
}

#[tokio::test]
async fn a_model_that_changes_with_the_row_is_refused() {
    let shop = trained().await;
    let refusal = shop.refusal("SELECT predict_ctr(slot, i) FROM impressions i").await;
    assert_eq!(refusal.message, "argument model of predict_ctr must be a constant");
    assert_eq!(shop.refusal("SELECT predict_ctr(NULL, i) FROM impressions i").await.message, "argument model of predict_ctr is NULL");
}

#[tokio::test]
async fn parameters_are_allowed_for_the_model_and_for_features() {
    let shop = trained().await;
    let plan = shop.plan("SELECT predict_ctr($1, i, price => $2) FROM impressions i WHERE id = 7").await.unwrap();
    let values = vec![datafusion::common::ScalarValue::from("ctr"), datafusion::common::ScalarValue::from(0.7)];
    let frame = shop.context.execute_logical_plan(plan).await.unwrap().with_param_values(values).unwrap();
    let p = frame.collect().await.unwrap();
    let p = p.iter().find(|batch| batch.num_rows() > 0).unwrap().column(0).clone();
    let expected = shop.number("SELECT predict_ctr('ctr', i) FROM impressions i WHERE id = 7").await;
    assert_eq!(datafusion::common::cast::as_float64_array(&p).unwrap().value(0), expected);
}

#[tokio::test]
async fn a_damaged_model_is_refused_by_name() {
    let shop = trained().await.reopen().await;
    let weights = shop.folder.path().join("models/ctr/1/weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let refusal = shop.refusal(EXACT).await;
    assert_eq!(refusal.message, "model \"ctr@1\" is damaged: weights.safetensors does not match its SHA-256");
}

#[tokio::test]
async fn a_statement_ends_with_the_version_it_began_with_although_that_is_dropped() {
    use futures::StreamExt;
    let shop = trained().await;
    let expected = shop.rows(EXACT).await;
    let plan = shop.plan("SELECT predict_ctr('ctr', i) AS p FROM impressions i").await.unwrap();
    let mut stream = shop.context.execute_logical_plan(plan).await.unwrap().execute_stream().await.unwrap();
    let mut rows = stream.next().await.unwrap().unwrap().num_rows();
    assert!(rows < expected.len(), "there is more to score");
    shop.models.remove(&crate::models::ModelName::parse("ctr").unwrap(), None).unwrap();
    assert_eq!(shop.models.resident(), 0);
    while let Some(batch) = stream.next().await {
        rows += batch.unwrap().num_rows();
    }
    assert_eq!(rows, expected.len());
    assert_eq!(shop.refusal(EXACT).await.message, "model \"ctr\" does not exist");
    shop.train("ctr", ", seed => 1").await;
    assert_eq!(shop.value("SELECT version FROM ml.models").await, "2");
    assert_eq!(shop.refusal("SELECT predict_ctr('ctr@1', i) FROM impressions i").await.message, "model \"ctr\" has no version 1");
}
