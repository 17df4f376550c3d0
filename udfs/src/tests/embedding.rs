//! `ai.embed`, `ai.similarity`, `ai.classify` and `ai.match_answer`.

use datafusion::arrow::datatypes::DataType;

use super::*;
use crate::encoder::EXACT;
use crate::language::{Form, Precision};

/// How many texts the installed encoder has computed.
fn computed(shop: &Shop) -> u64 {
    shop.models.encoder(None).unwrap().computed()
}

/// A tiny encoder.
fn tiny(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/tests/fixtures/encoder").join(name)
}

#[tokio::test]
async fn texts_are_embedded_once_and_only_where_a_statement_returns_them() {
    let shop = Shop::open().await;
    for (sql, expected) in [
        ("SELECT id, ai.embed('Row ' || id) FROM impressions ORDER BY id DESC LIMIT 5", 5),
        ("SELECT count(*) FROM (SELECT ai.embed('Count ' || id) AS e FROM impressions) s", 0),
        ("SELECT ai.embed(slot) FROM impressions", 3),
        ("SELECT ai.embed(slot), ai.similarity(slot, 'slot 1') FROM impressions", 0),
        ("SELECT ai.embed(t) FROM (VALUES (NULL), (''), ('')) AS v(t)", 1),
        ("SELECT count(*) FROM impressions WHERE id <= 40 AND ai.similarity('Kept ' || id, 'kept') > -1", 41),
        ("SELECT ai.classify(slot, ARRAY['slot 0', 'slot 2', 'zebra']), count(*) FROM impressions GROUP BY 1", 1),
    ] {
        let before = computed(&shop);
        assert!(!shop.rows(sql).await.is_empty(), "{sql}");
        assert_eq!(computed(&shop) - before, expected, "{sql}");
    }
}

#[tokio::test]
async fn the_type_of_a_vector_is_known_when_a_statement_is_planned() {
    let shop = Shop::open().await;
    shop.models.import_encoder("tiny", &tiny("bert"), EXACT).unwrap();
    for (call, dimension) in [("ai.embed('x')", 384), ("ai.embed('x', model => 'minilm')", 384), ("ai.embed('x', 'tiny')", 48)] {
        let plan = shop.plan(&format!("SELECT {call}")).await.unwrap();
        let DataType::FixedSizeList(item, size) = plan.schema().field(0).data_type() else { panic!("{:?}", plan.schema()) };
        assert_eq!((item.data_type(), *size), (&DataType::Float32, dimension));
        assert_eq!(shop.value(&format!("SELECT array_length({call})")).await, dimension.to_string());
    }
    let rows = shop.rows("SELECT t, ai.embed(t) IS NULL FROM (VALUES (NULL), (''), ('shoe')) AS v(t)").await;
    assert_eq!(rows, [["NULL", "true"], ["", "false"], ["shoe", "false"]]);
}

#[tokio::test]
async fn likeness_is_the_cosine_of_texts_or_vectors() {
    let shop = Shop::open().await;
    let near = shop.number("SELECT ai.similarity('a parcel that came late', 'my delivery is delayed')").await;
    let far = shop.number("SELECT ai.similarity('a parcel that came late', 'red wine goes with cheese')").await;
    assert!(near > 0.45 && far < 0.2, "{near} {far}");
    let both = shop.number("SELECT ai.similarity(ai.embed('a parcel that came late'), 'my delivery is delayed')").await;
    assert!((both - near).abs() < 1e-6, "{both} {near}");
    for (call, expected) in [
        ("ai.similarity(ARRAY[1, 2], ARRAY[2, 4])", "1.0"),
        ("ai.similarity(ARRAY[1.0, 0.0], ARRAY[0.0, 3.0])", "0.0"),
        ("ai.similarity(ARRAY[1, 2], ARRAY[-1, -2])", "-1.0"),
        ("ai.similarity(ARRAY[0, 0], ARRAY[1, 2])", "NULL"),
        ("ai.similarity(ARRAY[1, NULL], ARRAY[1, 2])", "NULL"),
        ("ai.similarity(NULL, 'text')", "NULL"),
    ] {
        assert_eq!(shop.value(&format!("SELECT {call}")).await, expected, "{call}");
    }
    // Vectors are compared in a join's condition too.
    let vectors = "(SELECT slot, ai.embed(slot) AS e FROM (SELECT DISTINCT slot FROM impressions) s)";
    let pairs = format!("SELECT count(*) FROM {vectors} a JOIN {vectors} b ON ai.similarity(a.e, b.e) > 0.999");
    assert_eq!(shop.value(&pairs).await, "3");
}

#[tokio::test]
async fn a_text_gets_the_label_that_is_nearest() {
    let shop = Shop::open().await;
    let sql = "SELECT ai.classify(t, ARRAY['delivery', 'payment', 'returns']) FROM (VALUES ('my parcel never arrived'), \
               ('the card was charged twice'), ('how do I return the shoes?'), (NULL)) AS v(t)";
    assert_eq!(shop.rows(sql).await, [["delivery"], ["payment"], ["returns"], ["NULL"]]);
    // Labels of a row.
    let sql =
        "SELECT ai.classify('cheese', l) FROM (VALUES (ARRAY['food', 'cars']), (ARRAY['cars', NULL, 'food']), (ARRAY['cars'])) AS v(l)";
    assert_eq!(shop.rows(sql).await, [["food"], ["food"], ["cars"]]);
    assert_eq!(shop.value("SELECT ai.classify('cheese', CAST(NULL AS text[]))").await, "NULL");
}

#[tokio::test]
async fn what_is_not_read_of_long_texts_is_told_once() {
    let mut shop = Shop::open().await;
    let sql = "SELECT count(ai.embed(CASE WHEN id % 2 = 0 THEN repeat('word ', 300 + id) ELSE 'short' END)) FROM impressions WHERE id <= 6";
    assert_eq!(shop.value(sql).await, "6");
    // On a slow machine progress is told too.
    let told = std::iter::from_fn(|| shop.notices.try_recv().ok()).map(|notice| notice.message).filter(|told| !told.contains(" rows, "));
    assert_eq!(told.collect::<Vec<_>>(), ["ai.embed: 3 texts are longer than the 256 tokens that the encoder reads"]);
    let million = "SELECT ai.similarity(repeat('running shoes ', 80000), repeat('running shoes ', 400))";
    assert!(shop.number(million).await > 0.9999);
}

#[tokio::test]
async fn the_nearest_known_question_is_answered_and_a_strange_one_is_not() {
    let mut shop = Shop::open().await;
    shop.run(
        "CREATE TABLE faq AS SELECT * FROM (VALUES ('When does my delivery come?', 'Within two days.'), ('How do I return an order?', 'With the \
         label in the box.'), ('Which cards do you take?', 'All.'), ('Where is order 4711?', 'On its way.'), (NULL, 'Never.'), ('Why?', NULL), \
         ('', 'Nothing.')) AS f(question, answer)",
    )
    .await
    .unwrap();
    let ask = |question: &str, more: &str| {
        format!("SELECT answer FROM ai.match_answer('{question}', query => $$SELECT * FROM faq$$, min_score => 0.3{more})")
    };
    for (question, answer) in
        [("sending something back", "With the label in the box."), ("is my parcel late?", "Within two days."), ("4711", "On its way.")]
    {
        assert_eq!(shop.value(&ask(question, "")).await, answer, "{question}");
    }
    let ranked = "SELECT rank, score > 0.3, round(score - 0.7 * meaning - 0.3 * words, 9) FROM \
                  ai.match_answer('when does my delivery come', query => (SELECT * FROM faq), top_k => 2, min_score => -1)";
    assert_eq!(shop.rows(ranked).await[0], ["1", "true", "0.0"]);
    assert_eq!(shop.rows(ranked).await.len(), 2);
    while shop.notices.try_recv().is_ok() {}
    let strange = "SELECT * FROM ai.match_answer('who won the world cup in 1974?', query => $$SELECT * FROM faq$$)";
    assert!(shop.rows(strange).await.is_empty());
    let told = shop.notices.try_recv().unwrap().message;
    assert!(told.starts_with("ai.match_answer: no good answer, the best score is 0.") && told.ends_with("and min_score 0.42"), "{told}");
    assert!(shop.rows("SELECT * FROM ai.match_answer('x', query => $$SELECT * FROM faq WHERE false$$)").await.is_empty());
    let texts = "SELECT answer FROM ai.match_answer('a label', query => $$SELECT * FROM faq$$, question_col => NULL, min_score => 0)";
    assert_eq!(shop.value(texts).await, "With the label in the box.");
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_with_the_way_out() {
    let shop = Shop::open().await;
    for (sql, message, hint) in [
        ("SELECT ai.embed('x', model => 'minillm')", "model \"minillm\" does not exist", "did you mean \"minilm\"?"),
        ("SELECT ai.embed('x', model => slot) FROM impressions", "argument model of ai.embed must be a constant", ""),
        ("SELECT ai.embed(7)", "argument text of ai.embed cannot be bigint", "text"),
        ("SELECT ai.similarity(1, 'x')", "argument a of ai.similarity cannot be bigint", "text or real[]"),
        ("SELECT ai.similarity(ARRAY[1, 2], ARRAY[1])", "argument b of ai.similarity has 1 numbers, and a has 2", ""),
        ("SELECT ai.classify('x', 'y')", "argument labels of ai.classify cannot be text", "text[]"),
        ("SELECT 1 FROM impressions a JOIN impressions b ON ai.similarity(a.slot, b.slot) > 2", "in this place", "ai.embed"),
        ("SELECT * FROM ai.match_answer('x', query => $$SELECT 1 AS question, 'b' AS answer$$)", "column \"question\"", "question::text"),
        ("SELECT * FROM ai.match_answer('x', query => $$SELECT 'a' AS qestion, 'b' AS answer$$)", "needs column \"question\"", "qestion"),
        ("SELECT * FROM ai.match_answer('x', query => $$SELECT 'a' AS question, 'b' AS answer$$, top_k => 0)", "top_k", "from 1 to 1000"),
    ] {
        let refusal = shop.refusal(sql).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{sql}: {refusal:?}");
    }
}

#[tokio::test]
async fn encoders_are_listed_and_imported_ones_serve_by_their_names() {
    let shop = Shop::open().await;
    let listed = "SELECT name, installed, family, dimension, max_tokens, pooling, normalized, precision, block FROM ml.encoders ORDER BY installed DESC, name";
    let e5 = ["e5", "true", "bert", "384", "512", "mean", "true", "f32", "NULL"];
    let minilm = ["minilm", "true", "bert", "384", "256", "mean", "true", "f32", "NULL"];
    assert_eq!(shop.rows(listed).await, [e5, minilm]);
    shop.models.import_encoder("first", &tiny("xlm-roberta"), EXACT).unwrap();
    shop.models.import_encoder("second", &tiny("bert"), Form { precision: Precision::Int8, block: 32 }).unwrap();
    let first = ["first", "false", "xlm-roberta", "32", "40", "cls", "false", "f32", "NULL"];
    let second = ["second", "false", "bert", "48", "24", "mean", "true", "int8", "32"];
    assert_eq!(shop.rows(listed).await, [e5, minilm, first, second]);
    for name in ["first", "second"] {
        assert_eq!(shop.value(&format!("SELECT round(ai.similarity('warm socks', 'warm socks', '{name}'), 6)")).await, "1.0");
    }
    let loaded = "SELECT string_agg(name, ' ' ORDER BY name) FROM ml.encoders WHERE loaded AND NOT installed";
    assert_eq!(shop.value(loaded).await, "first second");
    let taken = shop.models.import_encoder("minilm", &tiny("bert"), EXACT).unwrap_err();
    assert!(taken.to_string().contains("an installed text encoder is called minilm"), "{taken}");
}
