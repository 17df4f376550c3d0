//! `finetune` of the installed text encoder, whole or by low-rank changes, and `ai.classify` by what came of it.

use super::*;
use futures::StreamExt;

/// Three topics of 40 rows.
const QUESTIONS: &str = "CREATE TABLE questions AS SELECT value AS id, CASE value % 3 WHEN 0 THEN 'delivery' WHEN 1 THEN 'payment' ELSE 'returns' END \
                         AS topic, 'note ' || value % 7 || ' on ' || CASE value % 3 WHEN 0 THEN 'a late parcel' WHEN 1 THEN 'a card charged twice' ELSE \
                         'shoes that go back' END AS question FROM generate_series(1, 120)";

const ASKED: &str = "SELECT ai.classify(t, model => 'topic') FROM (VALUES ('where is my package'), ('they billed my card two times'), \
                     ('I want to send the shoes back'), (NULL)) AS v(t)";

async fn shop() -> Shop {
    let shop = Shop::open().await;
    shop.run(QUESTIONS).await.unwrap();
    shop
}

fn training(method: &str, more: &str) -> String {
    format!(
        "SELECT version, validation_loss FROM finetune('topic', $$SELECT question, topic FROM questions$$, 'topic', task => 'text_classification', \
         base => 'minilm', method => '{method}'{more}) WHERE version IS NOT NULL"
    )
}

#[tokio::test]
async fn an_encoder_is_trained_whole_and_by_changes_and_serves_after_a_restart() {
    let mut shop = shop().await;
    let expected = [["delivery"], ["payment"], ["returns"], ["NULL"]];
    shop.run("INSERT INTO questions SELECT 1000, 'payment', repeat('a card charged twice ', 80) UNION ALL SELECT 1001, 'payment', '  '")
        .await
        .unwrap();
    let trained = shop.rows(&training("full", ", epochs => 2")).await;
    assert_eq!(trained[0][0], "1");
    let told: Vec<String> = std::iter::from_fn(|| shop.notices.try_recv().ok()).map(|notice| notice.message).collect();
    assert!(told.contains(&"training topic leaves 1 row out for want of a text".to_owned()), "{told:?}");
    assert!(told.contains(&"training topic: only the beginning is read of 1 text".to_owned()), "{told:?}");
    assert_eq!(shop.rows(ASKED).await, expected);

    let trained = shop.rows(&training("lora", ", epochs => 3, rank => 4, targets => 'query, key, value'")).await;
    assert_eq!(trained[0][0], "2");
    assert_eq!(shop.rows(ASKED).await, expected);
    assert_eq!(shop.rows(&ASKED.replace("'topic'", "'topic@1'")).await, expected, "the version before serves too");

    let types = "SELECT model_type, features FROM ml.models ORDER BY version";
    assert_eq!(shop.rows(types).await, [["text, minilm, full", "question text"], ["text, minilm, lora", "question text"]]);
    // Six layers, three matrices of 384 x 384, by 4; the head of three classes.
    let (changes, head) = (6 * 3 * 2 * 4 * 384, 3 * 384 + 3);
    let figures = "SELECT value FROM ml.evaluations WHERE model = 'topic' AND metric = 'trainable_parameters' ORDER BY version";
    let all = shop.number(&figures.replace("trainable_", "").replace(" ORDER", " AND version = 1 ORDER")).await;
    assert_eq!(all, 22_565_376.0 + f64::from(head), "MiniLM without the pooler that it does not use, and a head");
    let trainable: Vec<f64> = shop.rows(figures).await.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(trainable, [all, f64::from(changes + head)]);
    let options = "SELECT options FROM ml.training_runs ORDER BY run";
    let options: Vec<String> = shop.rows(options).await.remove(1);
    assert!(options[0].contains("\"rank\":4") && options[0].contains("\"method\":\"lora\""), "{options:?}");

    let explained = "SELECT min(class), count(*), abs(sum(attribution) - min(difference)) < 0.05 * abs(min(difference)), max(token) FILTER (WHERE \
                     attribution > 0.1) IS NOT NULL FROM ml.explain_predict('topic', query => $$SELECT 'they charged my card' AS question$$, steps => 64)";
    for model in ["'topic@1'", "'topic@2'"] {
        assert_eq!(shop.rows(&explained.replace("'topic'", model)).await, [["payment", "4", "true", "true"]], "{model}");
    }
    let attended = "SELECT count(*), sum(attribution) BETWEEN 0.05 AND 1, min(class) FROM ml.explain_predict('topic', query => $$SELECT 'they charged my card' AS \
                    question$$, method => 'attention')";
    assert_eq!(shop.rows(attended).await, [["4", "true", "payment"]]);
    let left_out = "SELECT token FROM ml.explain_predict('topic', query => $$SELECT 'they charged my card' AS question$$, method => 'occlusion', class => \
                    'payment') ORDER BY attribution DESC LIMIT 2";
    let mut left_out: Vec<String> = shop.rows(left_out).await.concat();
    left_out.sort();
    assert_eq!(left_out, ["card", "charged"]);
    for (more, message) in [
        ("class => 'paymnt'", "is 'paymnt', which model \"topic@2\" does not know"),
        ("method => 'shap'", "argument method of ml.explain_predict is 'shap'"),
        ("steps => 0", "argument steps of ml.explain_predict is 0"),
    ] {
        let refusal =
            shop.refusal(&format!("SELECT * FROM ml.explain_predict('topic', query => $$SELECT 'x' AS question$$, {more})")).await;
        assert!(refusal.message.contains(message), "{more}: {refusal:?}");
    }

    let shop = shop.reopen().await;
    assert_eq!(shop.rows(ASKED).await, expected);
    assert_eq!(shop.rows(&ASKED.replace("'topic'", "'topic@1'")).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_version_serves_while_a_training_runs_and_when_it_is_stopped() {
    let shop = shop().await;
    shop.run(&training("lora", ", epochs => 1, learning_rate => 0.003")).await.unwrap();
    let before = shop.rows(ASKED).await;
    let long = training("full", ", epochs => 1000, early_stop => false").replace(" WHERE version IS NOT NULL", "");
    let plan = shop.plan(&long).await.unwrap();
    let mut stream = shop.context.execute_logical_plan(plan).await.unwrap().execute_stream().await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.num_rows(), 1);
    assert_eq!(shop.rows(ASKED).await, before);
    drop(stream);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while shop.value("SELECT count(*) FROM ml.training_runs WHERE status = 'running'").await != "0" {
            tokio::task::yield_now().await;
        }
    });
    ended.await.expect("the training stops soon after its stream is dropped");
    assert_eq!(shop.rows("SELECT status FROM ml.training_runs ORDER BY run").await, [["succeeded"], ["canceled"]]);
    assert_eq!(shop.rows("SELECT version FROM ml.models").await, [["1"]], "a stopped training saves nothing");
    assert_eq!(shop.rows(ASKED).await, before);
}

#[tokio::test]
async fn a_model_learns_new_topics_and_keeps_the_old_ones_by_rehearsal() {
    let shop = shop().await;
    shop.run(
        "CREATE TABLE vouchers AS SELECT CASE value % 3 WHEN 0 THEN 'voucher' ELSE 'opening hours' END AS topic, CASE value % 3 WHEN 0 THEN 'my discount code is \
         refused' ELSE 'when does the branch open' END || ', note ' || value % 9 AS question FROM generate_series(1, 90)",
    )
    .await
    .unwrap();
    let old = "SELECT avg(CASE WHEN ai.classify(question, model => 'topic') = topic THEN 1.0 ELSE 0.0 END) FROM questions WHERE id % 2 = 1";
    let new = old.replace("questions WHERE id % 2 = 1", "vouchers");
    for method in ["full", "lora"] {
        shop.run(&training(method, ", epochs => 3, seed => 1").replace("FROM questions", "FROM questions WHERE id % 2 = 0")).await.unwrap();
        let before = shop.number(old).await;
        let base = shop.value("SELECT 'topic@' || max(version) FROM ml.models WHERE name = 'topic'").await;
        let go_on = format!(
            "SELECT version FROM finetune('topic', $$SELECT question, topic FROM vouchers$$, 'topic', task => 'text_classification', base => '{base}', epochs => \
             4, rehearsal => $$SELECT question, topic FROM questions WHERE id % 2 = 0$$) WHERE version IS NOT NULL"
        );
        shop.run(&go_on).await.unwrap();
        assert!(before > 0.95 && shop.number(old).await > before - 0.02, "{method}: what was known stays");
        assert!(shop.number(&new).await > 0.95, "{method}: what is new is learned");
        let kind = "SELECT model_type FROM ml.models ORDER BY version DESC LIMIT 1";
        assert_eq!(shop.value(kind).await, format!("text, minilm, {method}"));
    }
    for (more, message, hint) in [
        ("base => 'topic@9'", "model \"topic\" has no version 9", "the latest version is"),
        ("base => 'topic', rank => 4", "argument rank of finetune is that of the version to go on from", "leave it out"),
        ("base => 'topic@1', method => 'lora'", "was trained by method 'full'", "method => 'full'"),
        (
            "base => 'topic', rehearsal => $$SELECT topic FROM questions$$",
            "argument rehearsal of finetune has the columns topic",
            "question, topic",
        ),
        ("base => 'topic', rehearsal => 'x'", "rehearsal", ""),
    ] {
        let refusal = shop
            .refusal(&format!(
                "SELECT * FROM finetune('x', $$SELECT question, topic FROM vouchers$$, 'topic', task => 'text_classification', {more})"
            ))
            .await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{more}: {refusal:?}");
    }
}

/// Words that the encoder has never seen are learned through those that they may stand for.
#[tokio::test]
async fn a_model_knows_words_that_only_the_synonyms_have() {
    let shop = Shop::open().await;
    shop.run(
        "CREATE TABLE notes AS SELECT CASE value % 2 WHEN 0 THEN 'zorbel' ELSE 'quimpf' END AS kind, 'note ' || value % 7 || ' on a ' || CASE value % 2 WHEN 0 \
         THEN 'zorbel' ELSE 'quimpf' END || ' from the shop' AS note FROM generate_series(1, 80)",
    )
    .await
    .unwrap();
    shop.run("CREATE TABLE synonyms AS VALUES ('zorbel', 'drisket'), ('Quimpf', 'vantolo'), ('quimpf', 'melgar'), ('hat', 'cap')")
        .await
        .unwrap();
    let train = "SELECT version FROM finetune('note', $$SELECT note, kind FROM notes$$, 'kind', task => 'text_classification', base => 'minilm', method => 'lora', \
                 epochs => 6, word_synonyms => 0.5, word_dropout => 0.05, word_swap => 0.05, synonyms => $$SELECT * FROM synonyms$$) WHERE version IS NOT NULL";
    shop.run(train).await.unwrap();
    let asked = "SELECT ai.classify(t, model => 'note') FROM (VALUES ('a drisket from the shop'), ('note 5 on a vantolo from the shop'), ('on a melgar')) AS v(t)";
    assert_eq!(shop.rows(asked).await, [["zorbel"], ["quimpf"], ["quimpf"]]);
    let options = shop.value("SELECT options FROM ml.training_runs").await;
    assert!(options.contains("\"word_synonyms\":0.5") && options.contains("\"word_swap\":0.05"), "{options}");
    let refused = |query: &str, more: &str| {
        format!(
            "SELECT * FROM finetune('x', $$SELECT note, kind FROM notes$$, 'kind', task => 'text_classification', base => 'minilm', synonyms => $${query}$${more})"
        )
    };
    let lora = ", method => 'lora'";
    for (query, more, message, hint) in [
        ("SELECT * FROM synonyms", "", "argument synonyms of finetune is for an encoder that is trained", "method => 'full'"),
        ("SELECT 'a', 'b', 'c'", lora, "argument synonyms of finetune has 3 columns", "select a word"),
        ("SELECT 'a' AS word, 1 AS other", lora, "column \"other\" of argument synonyms of finetune cannot be", ""),
        ("SELECT 'so good', 'great'", lora, "has \"so good\", which is more than one word", "leave it out"),
        ("SELECT 'good', NULL::text", lora, "has a row without a word", "leave it out"),
        ("SELECT 'good', 'great' FROM nothing", lora, "nothing", ""),
        ("SELECT 'good', 'great'", ", method => 'lora', word_dropout => 1", "\"word_dropout\": 1 is not at least 0 and below 1", ""),
    ] {
        let refusal = shop.refusal(&refused(query, more)).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{query}{more}: {refusal:?}");
    }
    let alone = refused("", lora).replace("synonyms => $$$$", "word_synonyms => 0.2");
    let refusal = shop.refusal(&alone).await;
    assert!(
        refusal.message.contains("argument word_synonyms of finetune has no synonyms") && refusal.hint.contains("synonyms =>"),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn the_methods_that_train_little_serve_after_a_restart_too() {
    let shop = shop().await;
    let expected = [["delivery"], ["payment"], ["returns"], ["NULL"]];
    let methods = ["adalora", "adapter", "prefix"];
    for method in methods {
        shop.run(&training(method, ", epochs => 5")).await.unwrap();
        assert_eq!(shop.rows(ASKED).await, expected, "{method}");
    }
    let shop = shop.reopen().await;
    for (version, method) in (1..).zip(methods) {
        assert_eq!(shop.rows(&ASKED.replace("'topic'", &format!("'topic@{version}'"))).await, expected, "{method}");
    }
    let head = 3 * 384 + 3;
    let trained = "SELECT value FROM ml.evaluations WHERE metric = 'trainable_parameters' ORDER BY version";
    let trained: Vec<f64> = shop.rows(trained).await.iter().map(|row| row[0].parse().unwrap()).collect();
    // Six layers: two changes of rank 12 with factors; two bottlenecks of 32 and two norms; 16 keys and values.
    let of = [6 * 2 * (2 * 12 * 384 + 12), 6 * 2 * (2 * 32 * 384 + 32 + 384) + 6 * 2 * 2 * 384, 6 * 2 * 16 * 384];
    assert_eq!(trained, of.map(|count| f64::from(count + head)));
}

#[tokio::test]
async fn what_cannot_be_tuned_is_refused_with_the_way_out() {
    let shop = shop().await;
    let from = |more: &str| format!("SELECT * FROM finetune('x', $$SELECT question, topic FROM questions$$, 'topic'{more})");
    let task = ", task => 'text_classification'";
    for (more, message, hint) in [
        (format!("{task}, base => 'minillm', method => 'full'"), "model \"minillm\" does not exist", "minilm"),
        (format!("{task}, method => 'lora'"), "is 'lora', which needs an encoder", "base => 'minilm'"),
        (format!("{task}, base => 'minilm', method => 'qlora'"), "is 'qlora'", "head, full, lora"),
        (format!("{task}, base => 'minilm', method => 'full', accumulation => 0"), "\"accumulation\": 0 is not within", ""),
        (format!("{task}, base => 'minilm', method => 'full', layer_decay => 1.5"), "\"layer_decay\": 1.5", ""),
        (format!("{task}, base => 'minilm', method => 'full', r_drop => 1, dropout => 0"), "\"r_drop\"", ""),
        (format!("{task}, accumulation => 2"), "argument accumulation of finetune is not for this method", "method => 'full'"),
        (format!("{task}, base => 'minilm', method => 'full', precision => 'bfloat16'"), "bfloat16 needs a GPU", ""),
        (format!("{task}, base => 'minilm', method => 'full', precision => 'half'"), "\"half\" is not one of: float32, bfloat16", ""),
        (format!("{task}, precision => 'float32'"), "argument precision of finetune is not for this method", "method => 'full'"),
        (format!("{task}, base => 'minilm', method => 'full', positive_weight => 3"), "\"positive_weight\"", ""),
        (format!("{task}, base => 'minilm', rank => 4"), "argument rank of finetune is not for this method", "method => 'lora'"),
        (format!("{task}, base => 'minilm', method => 'full', alpha => 4"), "argument alpha", "method => 'lora'"),
        (format!("{task}, base => 'minilm', method => 'head', max_length => 64"), "argument max_length", "method => 'full' or 'lora'"),
        (format!("{task}, base => 'minilm', method => 'lora', rank => 0"), "\"rank\": 0 is not within", ""),
        (format!("{task}, base => 'minilm', method => 'lora', targets => 'query, values'"), "\"values\" is not one of: query, key", ""),
        (format!("{task}, base => 'minilm', method => 'full', ensembles => 3"), "\"ensembles\"", ""),
        (", rank => 4".to_owned(), "argument rank of finetune is for text models only", "text_classification"),
    ] {
        let refusal = shop.refusal(&from(&more)).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{more}: {refusal:?}");
    }
    let few = from(&format!("{task}, base => 'minilm', method => 'full'"));
    for (condition, message) in [("topic = 'payment'", "all 40 rows have the same label"), ("id < 4", "has 1 row"), ("id < 0", "no rows")] {
        let refusal = shop.refusal(&few.replace("questions$$", &format!("questions WHERE {condition}$$"))).await;
        assert!(refusal.message.contains(message), "{condition}: {refusal:?}");
    }
}
