//! `ml.evaluate`, `ml.compare` and `ml.global_explain`.

use super::*;

async fn trained() -> Shop {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    shop
}

#[tokio::test]
async fn compare_tells_a_better_model_from_chance() {
    let shop = trained().await;
    // Users do not matter, so a model of users alone is worth nothing.
    shop.run("SELECT * FROM finetune('blind', $$SELECT user_id, click FROM impressions$$, 'click', epochs => 1, ensembles => 1)")
        .await
        .unwrap();
    let columns = "metric, winner, p_value < 0.001, difference > 0, low <= difference AND difference <= high, rows";
    let rows = shop.rows(&format!("SELECT {columns} FROM ml.compare('ctr', 'blind', $$SELECT * FROM impressions$$)")).await;
    let row = |metric: &str, above: &str| [metric, "ctr", "true", above, "true", "4000"].map(str::to_owned).to_vec();
    assert_eq!(rows, [row("auc", "true"), row("logloss", "false"), row("brier", "false")]);
    let turned = "SELECT winner FROM ml.compare(a => 'blind@1', b => 'ctr@1', query => $$SELECT * FROM impressions$$) WHERE metric = 'auc'";
    assert_eq!(shop.value(turned).await, "ctr@1");
    let aucs = shop.rows("SELECT a, b FROM ml.compare('ctr', 'blind', $$SELECT * FROM impressions$$) WHERE metric = 'auc'").await;
    for (ours, model) in aucs[0].iter().zip(["ctr", "blind"]) {
        let auc = shop.number(&format!("SELECT auc(click, predict_ctr('{model}', i)) FROM impressions i")).await;
        assert!((ours.parse::<f64>().unwrap() - auc).abs() < 1e-12);
    }
}

#[tokio::test]
async fn a_model_does_not_differ_from_itself() {
    let shop = trained().await;
    let rows =
        shop.rows("SELECT difference, p_value, winner FROM ml.compare('ctr', 'ctr@1', $$SELECT * FROM impressions WHERE id < 500$$)").await;
    assert_eq!(rows, [["0.0", "1.0", "NULL"], ["0.0", "1.0", "NULL"], ["0.0", "1.0", "NULL"]]);
    let refusal = shop.refusal("SELECT * FROM ml.compare('ctr', 'crt', $$SELECT * FROM impressions$$)").await;
    assert_eq!(refusal.message, "model \"crt\" does not exist");
    let refusal = shop.refusal("SELECT * FROM ml.compare('ctr', 'ctr', $$SELECT * FROM impressions$$, label => 'clicked')").await;
    assert_eq!(
        (refusal.message.as_str(), refusal.hint.as_str()),
        ("ml.compare needs column \"clicked\", which is not there", "did you mean label => 'click'?")
    );
}

#[tokio::test]
async fn evaluate_measures_what_the_aggregates_do_and_records_it() {
    let shop = trained().await;
    let query = "SELECT * FROM impressions WHERE id > 3000";
    let rows = shop.rows(&format!("SELECT metric, value, low, high FROM ml.evaluate('ctr', $${query}$$)")).await;
    let value = |metric: &str| rows.iter().find(|row| row[0] == metric).unwrap_or_else(|| panic!("no {metric}: {rows:?}"));
    assert_eq!(value("rows")[1], "1000.0");
    assert_eq!(
        value("positives")[1].parse::<f64>().unwrap(),
        shop.number("SELECT count(*) FROM impressions WHERE id > 3000 AND click").await
    );
    for metric in ["auc", "logloss"] {
        let aggregate = shop.number(&format!("SELECT {metric}(click, predict_ctr('ctr', i)) FROM ({query}) i")).await;
        assert!((value(metric)[1].parse::<f64>().unwrap() - aggregate).abs() < 1e-12, "{metric}");
    }
    for metric in ["auc", "pr_auc", "logloss", "brier"] {
        let [low, value, high] = [2, 1, 3].map(|column| value(metric)[column].parse::<f64>().unwrap());
        assert!(low < value && value < high, "{metric}: {low} {value} {high}");
    }
    let [low, auc, high] = [2, 1, 3].map(|column| value("auc")[column].parse::<f64>().unwrap());
    assert!(0.5 < low && low < auc && auc < high && high < 1.0, "{low} {auc} {high}");
    let kept = "SELECT metric, value, low, high FROM ml.evaluations WHERE split = 'query'";
    assert_eq!(shop.rows(kept).await, rows);
    assert_eq!(
        shop.rows("SELECT DISTINCT model, version, run, rows, length(query_sha256), query, created_at <= now() FROM ml.evaluations WHERE split = 'query'")
            .await,
        [["ctr", "1", "NULL", "1000", "64", query, "true"]]
    );
    let shop = shop.reopen().await;
    assert_eq!(shop.rows(kept).await, rows);
}

#[tokio::test]
async fn evaluate_ranks_within_groups_when_asked() {
    let shop = trained().await;
    let metric = |more: &str| format!("SELECT count(*) FROM ml.evaluate('ctr', $$SELECT * FROM impressions$${more}) WHERE metric = 'gauc'");
    assert_eq!(shop.value(&metric("")).await, "0");
    assert_eq!(shop.value(&metric(", group_col => 'user_id'")).await, "1");
}

#[tokio::test]
async fn evaluate_is_refused_where_it_would_not_be_recorded_or_has_nothing_to_record() {
    let shop = trained().await;
    assert!(crate::writes(&shop.plan("SELECT * FROM ml.evaluate('ctr', $$SELECT * FROM impressions$$)").await.unwrap()));
    for (sql, message) in [
        (
            "SELECT * FROM ml.evaluate('ctr', $$SELECT * FROM impressions$$) LIMIT 1",
            "LIMIT would end ml.evaluate before its result is saved",
        ),
        (
            "SELECT * FROM ml.evaluate('ctr', $$SELECT * FROM impressions WHERE false$$)",
            "the query of ml.evaluate gives no row with a label and a score",
        ),
        ("SELECT * FROM ml.evaluate('ctr', $$SELECT user_id FROM impressions$$)", "ml.evaluate needs column \"click\", which is not there"),
        (
            "SELECT * FROM ml.evaluate('ctr', $$SELECT click FROM impressions$$)",
            "model \"ctr@1\" needs column \"user_id\", which is not there",
        ),
        (
            "SELECT * FROM ml.evaluate('ctr', $$SELECT * FROM impressions$$, group_col => 'usr_id')",
            "ml.evaluate needs column \"usr_id\", which is not there",
        ),
    ] {
        assert_eq!(shop.refusal(sql).await.message, message, "{sql}");
    }
    assert_eq!(shop.value("SELECT count(*) FROM ml.evaluations WHERE split = 'query'").await, "0");
}

#[tokio::test]
async fn explain_puts_what_matters_first_and_repeats_itself() {
    let shop = trained().await;
    let sql = |order: &str| {
        format!(
            "SELECT feature, importance, logloss FROM ml.global_explain('ctr', $$SELECT * FROM impressions ORDER BY {order}$$, repeats => 2, sample => 2000)"
        )
    };
    let rows = shop.rows(&sql("id")).await;
    assert_eq!(rows.len(), 5, "{rows:?}");
    assert_eq!(rows[0][0], "item_id", "{rows:?}");
    let importance: Vec<f64> = rows.iter().map(|row| row[1].parse().unwrap()).collect();
    assert!(importance[0] > 0.1 && importance.is_sorted_by(|a, b| a >= b), "{importance:?}");
    assert!(rows[0][2].parse::<f64>().unwrap() > 0.0);
    assert_eq!(rows, shop.rows(&sql("id DESC")).await);
    for (more, message) in [
        (", sample => 0", "argument sample of ml.global_explain is 0, but must be from 1 to 100000"),
        (", label => 'id'", "the label of ml.global_explain is "),
    ] {
        let refusal = shop.refusal(&format!("SELECT * FROM ml.global_explain('ctr', $$SELECT * FROM impressions$${more})")).await;
        assert!(refusal.message.starts_with(message), "{}", refusal.message);
    }
    let one = shop.refusal("SELECT * FROM ml.global_explain('ctr', $$SELECT * FROM impressions WHERE click$$)").await;
    assert_eq!(one.message, "the label of ml.global_explain is the same in all rows of the sample");
}
