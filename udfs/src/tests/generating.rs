//! `ai.generate` and `ai.count_tokens`.

use datafusion::arrow::datatypes::DataType;

use super::*;

/// How many texts the language model has written.
fn written(shop: &Shop) -> u64 {
    shop.models.language(None).unwrap().engine.usage().completed
}

#[tokio::test]
async fn the_language_model_writes_only_what_a_statement_returns() {
    let shop = Shop::open().await;
    for (sql, expected) in [
        ("SELECT id, ai.generate('Say ' || id, max_tokens => 2) FROM impressions ORDER BY id DESC LIMIT 5", 5),
        ("SELECT count(*) FROM (SELECT ai.generate('Count ' || id, max_tokens => 2) AS t FROM impressions) s", 0),
        ("SELECT id FROM impressions WHERE ai.generate('Keep ' || id, max_tokens => 2) <> '' AND id <= 4", 4),
        // Equal prompts are answered once, wherever they stand.
        ("SELECT ai.generate('Slot ' || slot, max_tokens => 2) FROM impressions WHERE id <= 60", 3),
        (
            "SELECT ai.generate('Both ' || slot, max_tokens => 2) FROM impressions WHERE id <= 60 AND ai.generate('Both ' || slot, max_tokens => 2) <> ''",
            3,
        ),
        ("SELECT CASE WHEN id = 3 THEN ai.generate('Case ' || id, max_tokens => 2) END FROM impressions WHERE id <= 10", 1),
        ("SELECT ai.generate('Twice ' || ai.generate('Once', max_tokens => 2), max_tokens => 2)", 2),
        ("SELECT length(ai.generate('Group ' || slot, max_tokens => 2)) AS l, count(*) FROM impressions GROUP BY 1 ORDER BY 2", 3),
        ("SELECT max(ai.generate('Most ' || slot, max_tokens => 2)) FROM impressions", 3),
        ("SELECT id FROM impressions WHERE id <= 3 ORDER BY ai.generate('Sort ' || id, max_tokens => 2)", 3),
        ("SELECT ai.generate(p, max_tokens => 2) FROM (VALUES (NULL), (''), ('  ')) AS t(p)", 0),
    ] {
        let before = written(&shop);
        assert!(!shop.rows(sql).await.is_empty(), "{sql}");
        assert_eq!(written(&shop) - before, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_text_depends_on_its_prompt_options_and_seed_alone() {
    let shop = Shop::open().await;
    let warm = "ai.generate('Write a line about ' || slot, max_tokens => 8, temperature => 1.0, seed => id)";
    let all = shop.rows(&format!("SELECT id, {warm} FROM impressions WHERE id <= 6 ORDER BY id")).await;
    let some = shop.rows(&format!("SELECT id, {warm} FROM impressions WHERE id IN (2, 5) ORDER BY id")).await;
    assert_eq!([&all[1], &all[4]], [&some[0], &some[1]]);
    // Rows 3 and 6 have one prompt and two seeds.
    assert_ne!(all[2][1], all[5][1]);
    let text = shop.value("SELECT ai.generate('Name the capital of France.', max_tokens => 12)").await;
    assert!(text.contains("Paris"), "{text}");
    let stopped = shop.value("SELECT ai.generate('Name the capital of France.', max_tokens => 12, stop => 'Paris')").await;
    assert_eq!(text.split("Paris").next(), Some(stopped.as_str()));
    let told = shop.value("SELECT ai.generate('What is your name?', max_tokens => 16, system => 'You are a robot called Bolt.')").await;
    assert!(told.contains("Bolt"), "{told}");
}

#[tokio::test]
async fn a_row_of_fields_comes_back_with_its_types() {
    let shop = Shop::open().await;
    let call = "ai.generate('Write a product headline.', output_schema => 'headline text, stars integer, new boolean', max_tokens => 80)";
    let plan = shop.plan(&format!("SELECT {call} AS copy")).await.unwrap();
    let DataType::Struct(fields) = plan.schema().field(0).data_type().clone() else { panic!("{:?}", plan.schema()) };
    let types: Vec<_> = fields.iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect();
    assert_eq!(types, [("headline", DataType::Utf8), ("stars", DataType::Int64), ("new", DataType::Boolean)]);
    let rows = shop
        .rows(&format!(
            "SELECT copy['headline'] <> '', copy['stars'] IS NOT NULL, copy['new'] IN (true, false) FROM (SELECT {call} AS copy) s"
        ))
        .await;
    assert_eq!(rows, [["true", "true", "true"]]);

    let short = call.replace("=> 80", "=> 3");
    let refusal = shop.refusal(&format!("SELECT {short}")).await;
    assert!(refusal.message.contains("within 3 tokens") && refusal.hint.contains("max_tokens"), "{refusal:?}");
    let nulls = short.replace("max_tokens", "on_error => 'null', max_tokens");
    assert_eq!(shop.value(&format!("SELECT {nulls} IS NULL")).await, "true");
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_the_way_out() {
    let shop = Shop::open().await;
    for (call, message, hint) in [
        ("ai.generate('x', model => 'smolm2')", "model \"smolm2\" does not exist", "did you mean \"smollm2\"?"),
        ("ai.generate('x', temperature => -1)", "temperature", ""),
        ("ai.generate('x', max_tokens => 0)", "max_tokens", ""),
        ("ai.generate('x', max_tokens => length(slot)) FROM impressions", "argument max_tokens of ai.generate must be a constant", ""),
        ("ai.generate('x', on_error => 'ignore')", "on_error", "'fail', 'null' or 'report'"),
        ("ai.generate('x', output_schema => 'headline')", "\"headline\"", "headline text"),
        ("ai.generate(7)", "argument prompt of ai.generate cannot be bigint", "text"),
        ("ai.generate(repeat('word ', 200000))", "has 1000000 bytes", ""),
        ("ai.generate(repeat('word ', 20000), max_tokens => 2)", "tokens", "shorten the prompt"),
        ("1 FROM impressions a JOIN impressions b ON a.id = b.id AND ai.generate(a.slot || b.slot) = ''", "in this place", "subquery"),
    ] {
        let refusal = shop.refusal(&format!("SELECT {call}")).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{call}: {refusal:?}");
    }
    let sql = "SELECT ai.generate(p, max_tokens => 2, on_error => 'null') IS NULL FROM (VALUES (repeat('word ', 20000)), ('x')) AS t(p)";
    assert_eq!(shop.rows(sql).await, [["true"], ["false"]]);
}

#[tokio::test]
async fn tokens_are_counted() {
    let shop = Shop::open().await;
    let sql = "SELECT ai.count_tokens(t) FROM (VALUES ('Running shoes'), (''), (NULL)) AS v(t)";
    assert_eq!(shop.rows(sql).await, [["2"], ["0"], ["NULL"]]);
    assert_eq!(shop.value("SELECT ai.count_tokens(repeat('a b ', 1000)) BETWEEN 1000 AND 3000").await, "true");
}
