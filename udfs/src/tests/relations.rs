//! `ml.predict`, `ml.feature_info` and what all table functions share.

use super::*;

async fn trained() -> Shop {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    shop
}

#[tokio::test]
async fn predict_adds_a_column_to_the_rows_of_a_query() {
    let shop = trained().await;
    assert_eq!(
        shop.rows("SELECT * FROM ml.predict('ctr', query => $$SELECT *, 'more' AS more FROM impressions WHERE id < 50$$) ORDER BY id")
            .await,
        shop.rows("SELECT *, 'more', predict_ctr('ctr', i) FROM impressions i WHERE id < 50 ORDER BY id").await
    );
    for sql in [
        "SELECT count(*) FROM ml.predict('ctr', (SELECT * FROM impressions)) WHERE predicted > 0.3",
        "SELECT count(*) FROM ml.predict(query => 'SELECT * FROM impressions', model => 'ctr@1') AS p WHERE p.predicted > 0.3",
        "SELECT count(*) FROM ml.predict('ctr', $$SELECT * FROM impressions$$) WHERE predict.predicted > 0.3",
        "WITH few AS (SELECT * FROM impressions) SELECT count(*) FROM ml.predict('ctr', $$SELECT * FROM few$$) LIMIT 1",
    ] {
        assert!(shop.number(sql).await > 0.0, "{sql}");
    }
    assert_eq!(
        shop.value("SELECT count(p) FROM ml.predict('ctr', $$SELECT * FROM impressions$$) AS t (a, b, c, d, e, f, g, p)").await,
        "4000"
    );
}

#[tokio::test]
async fn predict_reads_only_what_is_needed_and_scores_only_what_is_asked_for() {
    let shop = trained().await;
    shop.run("SELECT * FROM finetune('small', $$SELECT item_id, price, click FROM impressions$$, 'click', epochs => 1)").await.unwrap();
    let sql = "SELECT user_id, predicted FROM ml.predict('small', $$SELECT * FROM impressions$$) WHERE slot = 'slot 1'";
    let plan = &shop.rows(&format!("EXPLAIN {sql}")).await[0][1];
    assert!(plan.contains("projection=[user_id, item_id, slot, price]"), "{plan}");
    let (scored, filtered) = (plan.find("predict_ctr").unwrap(), plan.find("slot 1").unwrap());
    assert!(scored < filtered, "the filter is below the scores: {plan}");
}

#[tokio::test]
async fn predict_refuses_what_it_cannot_score() {
    let shop = trained().await;
    for (call, message) in [
        ("'crt', $$SELECT * FROM impressions$$", "model \"crt\" does not exist"),
        ("'ctr', $$SELECT user_id FROM impressions$$", "model \"ctr@1\" needs column \"item_id\", which is not there"),
        ("'ctr', $$SELECT *, 1 AS predicted FROM impressions$$", "the query has a column \"predicted\", which ml.predict adds"),
        ("$1, $$SELECT * FROM impressions$$", "ml.predict takes no parameters such as $1, because its columns depend on its arguments"),
        ("NULL, $$SELECT * FROM impressions$$", "argument model of ml.predict is NULL"),
        ("'ctr'", "ml.predict needs argument \"query\""),
        (
            "'ctr', $$SELECT * FROM nowhere$$",
            "in the query argument of ml.predict: Error during planning: table 'datafusion.public.nowhere' not found",
        ),
    ] {
        let Err(error) = shop.plan(&format!("SELECT * FROM ml.predict({call})")).await else { panic!("{call}: planned") };
        assert_eq!(find(&error).map(ToString::to_string).as_deref(), Some(message), "{}", plan_error(&error));
    }
    let refusal = shop.refusal("SELECT * FROM ml.predcit('ctr', $$SELECT 1$$)").await;
    assert_eq!((refusal.message.as_str(), refusal.hint.as_str()), ("function ml.predcit does not exist", "did you mean ml.predict?"));
}

#[tokio::test]
async fn a_model_of_conversions_adds_a_second_column() {
    let shop = Shop::open().await;
    let query = "SELECT item_id, price, click, click AND id % 3 = 0 AS bought FROM impressions";
    shop.run(&format!("SELECT * FROM finetune('shop', $${query}$$, 'click', conversion => 'bought', epochs => 1)")).await.unwrap();
    assert_eq!(
        shop.rows("SELECT id, predicted, predicted_cvr FROM ml.predict('shop', $$SELECT * FROM impressions WHERE id < 9$$) ORDER BY id")
            .await,
        shop.rows("SELECT id, predict_ctr('shop', i), predict_cvr('shop', i) FROM impressions i WHERE id < 9 ORDER BY id").await
    );
    assert_eq!(shop.value("SELECT count(*) FROM impressions i WHERE predict_ctr('shop', i) = predict_cvr('shop', i)").await, "0");
    let refusal = shop.refusal("SELECT * FROM ml.predict('shop', $$SELECT *, 1 AS predicted_cvr FROM impressions$$)").await;
    assert_eq!(refusal.message, "the query has a column \"predicted_cvr\", which ml.predict adds");
}

#[tokio::test]
async fn predict_cvr_gives_the_only_probability_of_a_model_with_one_task() {
    let shop = trained().await;
    let sql = "SELECT count(*) FROM impressions i WHERE predict_cvr('ctr', i) = predict_ctr('ctr', i)";
    assert_eq!(shop.value(sql).await, "4000");
    assert_eq!(shop.refusal("SELECT predict_cvr(NULL, i) FROM impressions i").await.message, "argument model of predict_cvr is NULL");
    let plan = &shop.rows("EXPLAIN SELECT predict_cvr('ctr', i) FROM impressions i").await[0][1];
    assert!(plan.contains("predict_cvr(Utf8(\"ctr@1\")"), "{plan}");
}

#[tokio::test]
async fn feature_info_tells_what_becomes_of_each_column() {
    let shop = trained().await;
    let rows = shop.rows("SELECT position, feature, source, sql_type, encoding FROM ml.feature_info('ctr') ORDER BY position").await;
    assert_eq!(
        rows,
        [
            ["1", "user_id", "user_id", "bigint", "category"],
            ["2", "user_id", "user_id", "bigint", "number"],
            ["3", "item_id", "item_id", "bigint", "category"],
            ["4", "item_id", "item_id", "bigint", "number"],
            ["5", "slot", "slot", "text", "category"],
            ["6", "slot", "slot", "text", "unused"],
            ["7", "price", "price", "double precision", "number"],
            ["8", "ts.hour", "ts", "timestamp", "category"],
            ["9", "ts.weekday", "ts", "timestamp", "category"],
            ["10", "ts.age", "ts", "timestamp", "number"],
        ]
    );
    let price = shop.rows("SELECT parameters, missing, distinct_values FROM ml.feature_info('ctr@1') WHERE feature = 'price'").await;
    assert!(price[0][0].starts_with("mean 2.4"), "{price:?}");
    assert_eq!(price[0][1..], ["0.0", "50"]);
    assert_eq!(shop.refusal("SELECT * FROM ml.feature_info('crt')").await.message, "model \"crt\" does not exist");
}

#[tokio::test]
async fn a_function_that_only_reads_may_be_cut_short_and_run_twice() {
    let shop = trained().await;
    assert!(!crate::writes(&shop.plan("SELECT * FROM ml.feature_info('ctr')").await.unwrap()));
    assert_eq!(shop.rows("SELECT feature FROM ml.feature_info('ctr') LIMIT 2").await.len(), 2);
    let sql = "WITH f AS (SELECT * FROM ml.feature_info('ctr')) SELECT count(*) FROM f AS a JOIN f AS b ON a.position = b.position";
    assert_eq!(shop.value(sql).await, "10");
    let plan = shop.plan("SELECT * FROM ml.feature_info($1)").await.unwrap();
    let frame =
        shop.context.execute_logical_plan(plan).await.unwrap().with_param_values(vec![datafusion::common::ScalarValue::from("ctr")]);
    assert_eq!(frame.unwrap().count().await.unwrap(), 10);
}
