//! `finetune` with task 'text_classification', and `ai.classify` by what it has trained.

use super::*;

/// Questions with their topic: three topics of 60 rows, in two scripts.
const QUESTIONS: &str = "CREATE TABLE questions AS SELECT value AS id, CASE value % 3 WHEN 0 THEN 'delivery' WHEN 1 THEN 'payment' ELSE '质量' END AS \
                         topic, 'note ' || value % 7 || ' on ' || CASE value % 3 WHEN 0 THEN 'a late parcel' WHEN 1 THEN 'a card charged twice' ELSE \
                         '质量不错值得买' END AS question FROM generate_series(1, 180)";

async fn shop() -> Shop {
    let shop = Shop::open().await;
    shop.run(QUESTIONS).await.unwrap();
    shop
}

fn training(more: &str) -> String {
    format!(
        "SELECT version, validation_loss, validation_auc FROM finetune('topic', $$SELECT question, topic FROM questions$$, 'topic', task => \
         'text_classification', epochs => 6, ensembles => 1{more}) WHERE version IS NOT NULL"
    )
}

#[tokio::test]
async fn a_text_model_is_trained_and_classifies_by_its_name() {
    let shop = shop().await;
    let trained = shop.rows(&training("")).await;
    assert_eq!((trained[0][0].as_str(), trained[0][2].as_str()), ("1", "NULL"), "{trained:?}");
    assert!(trained[0][1].parse::<f64>().unwrap() < 0.3, "{trained:?}");
    let asked = "SELECT ai.classify(t, model => 'topic') FROM (VALUES ('where is my parcel'), ('charged twice'), ('质量很好，值得买'), (NULL)) AS v(t)";
    assert_eq!(shop.rows(asked).await, [["delivery"], ["payment"], ["质量"], ["NULL"]]);
    let right = "SELECT count(*) FROM questions WHERE ai.classify(question, model => 'topic@1') = topic";
    assert_eq!(shop.value(right).await, "180");
    let figures =
        "SELECT metric, round(value, 3) FROM ml.evaluations WHERE metric IN ('accuracy', 'macro_f1', 'truncated_texts') ORDER BY metric";
    assert_eq!(shop.rows(figures).await, [["accuracy", "1.0"], ["macro_f1", "1.0"], ["truncated_texts", "0.0"]]);
    assert_eq!(shop.rows("SELECT model_type, features FROM ml.models").await, [["text, ngram", "question text"]]);
    let status = "SELECT status, version FROM ml.training_runs";
    assert_eq!(shop.rows(status).await, [["succeeded", "1"]]);
    let shop = shop.reopen().await;
    assert_eq!(shop.rows(asked).await, [["delivery"], ["payment"], ["质量"], ["NULL"]]);
}

#[tokio::test]
async fn the_probabilities_of_classes_add_up_and_rank_texts() {
    let shop = shop().await;
    shop.run(&training("")).await.unwrap();
    let whole = "SELECT count(*), round(min(p), 6), round(max(p), 6) FROM (SELECT ai.class_probability(question, 'delivery', 'topic') + \
                 ai.class_probability(question, 'payment', 'topic') + ai.class_probability(question, '质量', 'topic@1') AS p FROM questions) s";
    assert_eq!(shop.rows(whole).await, [["180", "1.0", "1.0"]]);
    let ranked = "SELECT auc(topic = 'payment', ai.class_probability(question, 'payment', model => 'topic')) FROM questions";
    assert_eq!(shop.value(ranked).await, "1.0");
    let likeliest = "SELECT count(*) FROM questions WHERE ai.class_probability(question, topic, 'topic') > 0.5";
    assert_eq!(shop.value(likeliest).await, "180");
    let nulls = "SELECT ai.class_probability(t, c, 'topic') IS NULL FROM (VALUES (NULL, 'payment'), ('a card', NULL)) AS v(t, c)";
    assert_eq!(shop.rows(nulls).await, [["true"], ["true"]]);
    for (sql, message, hint) in [
        ("SELECT ai.class_probability('x', 'paymnt', 'topic')", "is 'paymnt', which model \"topic@1\" does not know", "'payment'"),
        ("SELECT ai.class_probability('x', 'payment', NULL)", "argument model of ai.class_probability is NULL", ""),
        ("SELECT ai.class_probability('x', 'payment', 'nothing')", "model \"nothing\" does not exist", ""),
    ] {
        let refusal = shop.refusal(sql).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{sql}: {refusal:?}");
    }
}

#[tokio::test]
async fn a_text_model_predicts_the_rows_of_a_query_by_the_column_it_was_trained_on() {
    let shop = shop().await;
    shop.run(&training("")).await.unwrap();
    let right = "SELECT count(*), count(*) FILTER (WHERE predicted = topic) FROM ml.predict('topic', query => $$SELECT id, topic, question FROM questions$$)";
    assert_eq!(shop.rows(right).await, [["180", "180"]]);
    let refusal = shop.refusal("SELECT * FROM ml.predict('topic', query => $$SELECT question AS q FROM questions$$)").await;
    assert!(refusal.message.contains("question") && refusal.hint.contains("AS question"), "{refusal:?}");
}

#[tokio::test]
async fn examples_tell_what_a_label_means() {
    let shop = shop().await;
    let asked = |more: &str| format!("SELECT ai.classify('it fell apart after a week', ARRAY['a', 'b', 'a']{more})");
    let examples = ", examples => ARRAY['my parcel is late', 'the quality is poor, it fell apart', 'when does it arrive?']";
    assert_eq!(shop.value(&asked(examples)).await, "b");
    let rows = "SELECT ai.classify(t, l, examples => e) FROM (VALUES ('it broke', ARRAY['x', 'y'], ARRAY['late', 'damaged goods']), \
                ('it broke', ARRAY['x', 'y'], ARRAY['damaged goods', 'late']), ('it broke', ARRAY['late', 'damaged'], NULL)) AS v(t, l, e)";
    assert_eq!(shop.rows(rows).await, [["y"], ["x"], ["damaged"]]);
    let refusal = shop.refusal(&asked(", examples => ARRAY['one']")).await;
    assert!(refusal.message.contains("has 1 texts, and labels has 3") && refusal.hint.contains("for each label"), "{refusal:?}");
}

#[tokio::test]
async fn a_head_on_an_encoder_is_trained_on_vectors() {
    let mut shop = shop().await;
    shop.run(
        "CREATE TABLE more AS SELECT question, topic FROM questions UNION ALL SELECT * FROM (VALUES ('', 'payment'), (NULL, 'payment'), \
         (repeat('a parcel ', 300), 'delivery')) AS v(question, topic)",
    )
    .await
    .unwrap();
    let trained = shop.rows(&training(", base => 'minilm', method => 'head'").replace("FROM questions", "FROM more")).await;
    assert_eq!(trained[0][0], "1");
    let told: Vec<String> = std::iter::from_fn(|| shop.notices.try_recv().ok()).map(|notice| notice.message).collect();
    assert!(told.contains(&"training topic leaves 2 rows out for want of a text".to_owned()), "{told:?}");
    assert!(told.contains(&"training topic: only the beginning is read of 1 text".to_owned()), "{told:?}");
    let asked = "SELECT ai.classify(t, model => 'topic') FROM (VALUES ('where is my package'), ('they billed my card two times')) AS v(t)";
    assert_eq!(shop.rows(asked).await, [["delivery"], ["payment"]]);
    assert_eq!(shop.value("SELECT model_type FROM ml.models").await, "text, minilm");
}

#[tokio::test]
async fn what_no_text_model_can_be_made_of_is_refused_with_the_way_out() {
    let shop = shop().await;
    let task = "task => 'text_classification'";
    let from = |query: &str, more: &str| format!("SELECT * FROM finetune('x', $${query}$$, 'topic', {task}{more})");
    for (sql, message, hint) in [
        (from("SELECT question, topic FROM questions WHERE topic = 'payment'", ""), "all 60 rows have the same label", "two classes"),
        (from("SELECT question, topic FROM questions WHERE id < 5", ""), "has 1 row", "2 rows of every class"),
        (from("SELECT question, topic FROM questions WHERE id < 0", ""), "the training query returned no rows", ""),
        (from("SELECT * FROM questions", ""), "has 2 columns besides the label: id, question", "select the text and the label only"),
        (from("SELECT id, topic FROM questions", ""), "column \"id\" cannot be", ""),
        (
            from("SELECT question, CAST(id AS double precision) AS topic FROM questions", ""),
            "label column \"topic\" cannot be",
            "topic::text",
        ),
        (from("SELECT question, topic FROM questions", ", base => 'minillm'"), "model \"minillm\" does not exist", "minilm"),
        (from("SELECT question, topic FROM questions", ", method => 'head'"), "method", "base => 'minilm'"),
        (from("SELECT question, topic FROM questions", ", metric => 'auc'"), "metric", ""),
        (from("SELECT question, topic FROM questions", ", treatment => 'id'"), "is not for text models", "leave it out"),
        (from("SELECT question, nullif(topic, 'payment') AS topic FROM questions", ""), "NULL", "IS NOT NULL"),
        ("SELECT ai.classify('x')".to_owned(), "argument labels of ai.classify is NULL", "model => ..."),
        ("SELECT ai.classify('x', model => 'nothing')".to_owned(), "model \"nothing\" does not exist", ""),
    ] {
        let refusal = shop.refusal(&sql).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{sql}: {refusal:?}");
    }
    shop.run(&training("")).await.unwrap();
    for method in ["integrated_gradients", "attention"] {
        let refusal = shop
            .refusal(&format!(
                "SELECT * FROM ml.explain_predict('topic', query => $$SELECT question FROM questions$$, method => '{method}')"
            ))
            .await;
        assert!(refusal.message.contains("has no encoder of its own") && refusal.hint.contains("method => 'full'"), "{refusal:?}");
    }
    // A model without an encoder of its own is explained by what its probability loses.
    let spoken = "SELECT token FROM ml.explain_predict('topic', query => $$SELECT 'the parcel' AS question$$, class => 'delivery') ORDER BY attribution DESC";
    assert_eq!(shop.rows(spoken).await[0], ["parcel"]);
    let refusal = shop.refusal("SELECT predict_ctr('topic', q) FROM questions q").await;
    assert!(refusal.message.contains("is a text model") && refusal.hint.contains("ai.classify"), "{refusal:?}");
    shop.run(
        "SELECT * FROM finetune('ctr', $$SELECT question, topic = 'payment' AS paid FROM questions$$, 'paid', epochs => 1, ensembles => 1)",
    )
    .await
    .unwrap();
    let refusal = shop.refusal("SELECT ai.classify('x', model => 'ctr')").await;
    assert!(refusal.message.contains("is no text model") && refusal.hint.contains("text_classification"), "{refusal:?}");
}
