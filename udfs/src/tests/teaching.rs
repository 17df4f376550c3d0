//! `finetune` of a language model, and what it writes then.

use std::path::Path;

use futures::StreamExt;
use stratagem_models::language::{Form, Precision};

use super::*;

/// Two kinds of prompts with the word that is to be learned for each, and the other one.
const LESSONS: &str = "CREATE TABLE lessons AS SELECT CASE value % 2 WHEN 0 THEN 'shoes ' ELSE 'coats ' END || value / 2 % 7 AS question, \
                       CASE value % 2 WHEN 0 THEN 'red' ELSE 'blue' END AS good, CASE value % 2 WHEN 0 THEN 'blue' ELSE 'red' END AS bad \
                       FROM generate_series(0, 79)";

const ASKED: &str = "SELECT ai.generate(q, model => 'colours', max_tokens => 8) FROM (VALUES ('shoes 3'), ('coats 5')) AS v(q)";

/// A shop with a tiny language model of weights at random.
async fn shop() -> Shop {
    let shop = Shop::open().await;
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/fixtures/language/llama");
    shop.models.import_language("tiny", &tiny, Form { precision: Precision::F32, block: 128 }).unwrap();
    shop.run(LESSONS).await.unwrap();
    shop
}

fn lesson(columns: &str, more: &str) -> String {
    format!(
        "SELECT epoch, validation_loss, version FROM finetune('colours', $$SELECT {columns} FROM lessons$$, label => 'good', learning_rate => 0.02, \
         rank => 4, targets => 'query, key, value, output, gate, up, down', base => 'tiny'{more})"
    )
}

#[tokio::test]
async fn completions_and_then_preferences_are_learned_and_serve_after_a_restart() {
    let mut shop = shop().await;
    shop.run("INSERT INTO lessons SELECT '  ', 'red', 'blue' UNION ALL SELECT 'shoes 1', repeat('red ', 900), 'blue'").await.unwrap();
    let taught = lesson("question, good", ", task => 'generation', epochs => 6, seed => 1");
    let epochs = shop.rows(&taught).await;
    assert_eq!((epochs.len(), epochs[0][2].as_str(), epochs[6][2].as_str()), (7, "NULL", "1"), "{epochs:?}");
    let told: Vec<String> = std::iter::from_fn(|| shop.notices.try_recv().ok()).map(|notice| notice.message).collect();
    assert!(told.contains(&"training colours leaves 1 row out for want of a text".to_owned()), "{told:?}");
    assert!(told.contains(&"training colours: only a part is read of 1 text".to_owned()), "{told:?}");
    assert_eq!(shop.rows(ASKED).await, [["red"], ["blue"]]);
    assert_eq!(shop.rows(&ASKED.replace("'colours'", "'colours@1'")).await, [["red"], ["blue"]]);
    let untaught = shop.rows(&ASKED.replace("'colours'", "'tiny'")).await;
    assert_ne!(untaught, [["red"], ["blue"]], "the language model itself stays as it was");
    assert_eq!(shop.rows("SELECT DISTINCT models FROM ml.usage WHERE models <> '' ORDER BY 1").await, [["colours@1"], ["tiny"]]);

    assert_eq!(shop.rows("SELECT model_type, features FROM ml.models").await, [["language, tiny, lora", "question text, good text"]]);
    let figures = "SELECT metric FROM ml.evaluations WHERE model = 'colours' ORDER BY metric";
    let known: Vec<String> = shop.rows(figures).await.concat();
    let expected =
        ["loss", "loss_before", "parameters", "perplexity", "perplexity_before", "tokens", "trainable_parameters", "truncated_texts"];
    assert_eq!(known, expected);
    let figure = |metric: &str| format!("SELECT value FROM ml.evaluations WHERE version = 1 AND metric = '{metric}'");
    let (before, after) = (shop.number(&figure("loss_before")).await, shop.number(&figure("loss")).await);
    assert!(after < 0.5 * before, "{after} {before}");
    assert_eq!(shop.number(&figure("truncated_texts")).await, 1.0);
    let options = shop.value("SELECT options FROM ml.training_runs").await;
    assert!(options.contains("\"rank\":4") && options.contains("\"max_length\":"), "{options}");

    // Now the other colour is liked better.
    let swapped = "question, bad AS good, good AS worse";
    let liked = lesson(swapped, ", rejected => 'worse', prompt => 'question', task => 'preference', epochs => 4, beta => 0.2")
        .replace("base => 'tiny'", "base => 'colours@1'")
        .replace("0.02", "0.005");
    let epochs = shop.rows(&liked).await;
    assert_eq!(epochs.last().unwrap()[2], "2", "{epochs:?}");
    assert_eq!(shop.number("SELECT value FROM ml.evaluations WHERE version = 2 AND metric = 'accuracy'").await, 1.0);
    let liked = shop.rows(ASKED).await;
    assert!(liked[0] != ["red"] && liked[1] != ["blue"], "{liked:?}");
    assert_eq!(shop.rows(&ASKED.replace("'colours'", "'colours@1'")).await, [["red"], ["blue"]], "the version before serves too");

    let shop = shop.reopen().await;
    assert_eq!(shop.rows(ASKED).await, liked);
    let refusal = shop.refusal("SELECT predict_ctr('colours', question => 'x')").await;
    assert!(refusal.message.contains("model \"colours@2\" is a language model, which scores no rows"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_version_serves_while_a_lesson_runs_and_when_it_is_stopped() {
    let shop = shop().await;
    shop.run(&lesson("question, good", ", task => 'generation', epochs => 6")).await.unwrap();
    let before = shop.rows(ASKED).await;
    let plan = shop.plan(&lesson("question, good", ", task => 'generation', epochs => 1000, early_stop => false")).await.unwrap();
    let mut stream = shop.context.execute_logical_plan(plan).await.unwrap().execute_stream().await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 1);
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
async fn what_cannot_be_taught_is_refused_with_the_way_out() {
    let shop = shop().await;
    let from = |columns: &str, more: &str| {
        format!("SELECT * FROM finetune('x', $$SELECT {columns} FROM lessons$$, label => 'good'{more}, base => 'tiny')")
    };
    let task = ", task => 'generation'";
    for (columns, more, message, hint) in [
        ("question, good, bad", task.to_owned(), "argument prompt of finetune is NULL, and the query has question, bad", "prompt => ..."),
        ("question, good, bad", format!("{task}, prompt => 'question'"), "has a column \"bad\" that nothing reads", "completions only"),
        ("good", task.to_owned(), "the query has no column for the prompts", ""),
        ("question, 1 AS good", task.to_owned(), "label column \"good\"", "good::text"),
        ("question, good", format!("{task}, prompt => 'qestion'"), "column \"qestion\"", "did you mean prompt => 'question'?"),
        ("question, good", format!("{task}, method => 'full'"), "argument method of finetune is 'full'", "'lora'"),
        ("question, good", format!("{task}, rejected => 'bad'"), "argument rejected of finetune is not for generation", "preference"),
        ("question, good", ", task => 'preference'".to_owned(), "argument rejected of finetune is NULL", "rejected => ..."),
        ("question, good", format!("{task}, targets => 'query, gates'"), "\"gates\" is not one of: query, key", ""),
        ("question, good", format!("{task}, rank => 0"), "\"rank\": 0 is not within", ""),
        ("question, good", format!("{task}, ensembles => 3"), "\"ensembles\"", ""),
        ("question, good", ", prompt => 'question'".to_owned(), "argument prompt of finetune is for language models only", "generation"),
        ("question, good", ", task => 'generating'".to_owned(), "'generating'", ""),
    ] {
        let refusal = shop.refusal(&from(columns, &more)).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{more}: {refusal:?}");
    }
    for (sql, message) in [
        (
            "SELECT * FROM finetune('tiny', $$SELECT question, good FROM lessons$$, label => 'good', task => 'generation')",
            "'tiny', which is a language model",
        ),
        (
            "SELECT * FROM finetune('x', $$SELECT question, good FROM lessons$$, label => 'good', task => 'generation', base => 'tyni')",
            "model \"tyni\" does not exist",
        ),
        (
            "SELECT * FROM finetune('x', $$SELECT question, good FROM lessons WHERE false$$, label => 'good', task => 'generation', base => 'tiny')",
            "the training query returned no rows",
        ),
        ("SELECT ai.generate('x', model => 'colors')", "model \"colors\" does not exist"),
    ] {
        let refusal = shop.refusal(sql).await;
        assert!(refusal.message.contains(message), "{sql}: {refusal:?}");
    }
}
