//! What `finetune` learns of texts besides one class, and what is called with it.

use super::*;

/// Titles of products as words with tags, and as texts with spans: a brand of one or two words, a colour and a price, in changing places.
const TITLES: &str = "CREATE TABLE titles AS SELECT id, words, tags, array_to_string(words, ' ') AS title FROM (SELECT value AS id, CASE value / 4 % 3 WHEN 0 \
    THEN array_cat(array_cat(brand, ARRAY[colour, thing]), ARRAY['for', price, 'dollars']) WHEN 1 THEN array_cat(ARRAY['new', colour], \
    array_cat(brand, ARRAY[thing, price])) ELSE array_cat(ARRAY[thing, 'by'], array_cat(brand, ARRAY[colour])) END AS words, CASE value / 4 % 3 WHEN 0 THEN \
    array_cat(array_cat(named, ARRAY['B-colour', 'O']), ARRAY['O', 'B-price', 'O']) WHEN 1 THEN array_cat(ARRAY['O', 'B-colour'], array_cat(named, \
    ARRAY['O', 'B-price'])) ELSE array_cat(ARRAY['O', 'O'], array_cat(named, ARRAY['B-colour'])) END AS tags FROM (SELECT value, CASE value % 4 WHEN 0 THEN \
    ARRAY['Acme'] WHEN 1 THEN ARRAY['North', 'Star'] WHEN 2 THEN ARRAY['Zenith'] ELSE ARRAY['Blue', 'River'] END AS brand, CASE value % 4 WHEN 0 THEN \
    ARRAY['B-brand'] WHEN 1 THEN ARRAY['B-brand', 'I-brand'] WHEN 2 THEN ARRAY['B-brand'] ELSE ARRAY['B-brand', 'I-brand'] END AS named, CASE value % 5 WHEN 0 \
    THEN 'red' WHEN 1 THEN 'green' WHEN 2 THEN 'black' WHEN 3 THEN 'yellow' ELSE 'white' END AS colour, CASE value % 3 WHEN 0 THEN 'boots' WHEN 1 THEN 'jacket' \
    ELSE 'headphones' END AS thing, CAST(10 + value * 7 % 90 AS text) AS price FROM generate_series(1, 240)) AS parts) AS built";

async fn shop() -> Shop {
    let shop = Shop::open().await;
    shop.run(TITLES).await.unwrap();
    shop
}

#[tokio::test]
async fn words_are_tagged_and_entities_are_found_where_they_stand() {
    let shop = shop().await;
    let train = "SELECT version FROM finetune('titles', $$SELECT words, tags FROM titles$$, label => 'tags', task => 'token_classification', base => 'minilm', \
                 method => 'full', max_length => 128, learning_rate => 0.0001, batch_size => 16, epochs => 4) WHERE version IS NOT NULL";
    assert_eq!(shop.value(train).await, "1");
    let figure = |metric: &str| format!("SELECT value FROM ml.evaluations WHERE model = 'titles' AND metric = '{metric}'");
    for metric in ["accuracy", "macro_f1", "weighted_f1", "entity_micro_f1", "brand.f1", "B-price.recall"] {
        assert!(shop.number(&figure(metric)).await > 0.95, "{metric}");
    }
    let report = "SELECT class, f1 > 0.95 FROM ml.classification_report($$SELECT unnest(tags) AS label, unnest(ai.tags(words, 'titles')) AS predicted FROM \
                  titles WHERE id <= 60$$, 'label', 'predicted') WHERE class IN ('B-brand', 'I-brand', 'macro avg') ORDER BY class";
    assert_eq!(shop.rows(report).await, [["B-brand", "true"], ["I-brand", "true"], ["macro avg", "true"]]);
    let found = "SELECT (e).label, (e).text, substr(t, (e).start, (e).length) = (e).text, (e).probability > 0.5 FROM (SELECT t, unnest(ai.entities(t, \
                 'titles')) AS e FROM (VALUES ('yellow North Star jacket for 35 dollars'), (NULL), ('')) AS v(t)) AS f ORDER BY (e).start";
    let expected = [["colour", "yellow"], ["brand", "North Star"], ["price", "35"]].map(|[label, text]| [label, text, "true", "true"]);
    assert_eq!(shop.rows(found).await, expected);
    let predicted = "SELECT count(*) FILTER (WHERE predicted = tags) > 230, count(*) FROM ml.predict('titles', query => $$SELECT words, tags FROM titles$$)";
    assert_eq!(shop.rows(predicted).await, [["true", "240"]]);
    let of_text = "SELECT array_length(predicted) FROM ml.predict('titles', query => $$SELECT 'red Acme boots for 12 dollars' AS words$$)";
    assert_eq!(shop.value(of_text).await, "3");
    for (sql, message, hint) in [
        ("SELECT ai.classify('x', model => 'titles')", "gives tags of words", "ai.entities"),
        ("SELECT ai.estimate('x', 'titles')", "gives tags of words", "ai.tags"),
        ("SELECT ai.tags('x', 'titles')", "argument words of ai.tags", "text[]"),
    ] {
        let refusal = shop.refusal(sql).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{sql}: {refusal:?}");
    }
}

#[tokio::test]
async fn spans_of_characters_are_learned_as_tags_are() {
    let shop = shop().await;
    let train = "SELECT version FROM finetune('colours', $$SELECT title, ARRAY[named_struct('start', strpos(title, colour), 'length', length(colour), 'label', \
                 'colour')] AS spans FROM (SELECT title, CASE id % 5 WHEN 0 THEN 'red' WHEN 1 THEN 'green' WHEN 2 THEN 'black' WHEN 3 THEN 'yellow' ELSE \
                 'white' END AS colour FROM titles) AS c$$, label => 'spans', task => 'token_classification', base => 'minilm', method => 'lora', epochs => 4) \
                 WHERE version IS NOT NULL";
    assert_eq!(shop.value(train).await, "1");
    assert!(shop.number("SELECT value FROM ml.evaluations WHERE metric = 'entity_micro_f1'").await > 0.9);
    let found = "SELECT (ai.entities('new black Zenith boots 44', 'colours'))[1]";
    assert_eq!(shop.value(&format!("SELECT ({}).text", found.replacen("SELECT ", "", 1))).await, "black");
    let bad = |spans: &str| {
        format!(
            "SELECT * FROM finetune('x', $$SELECT title, {spans} AS spans FROM titles$$, 'spans', task => 'token_classification', base => 'minilm', method => 'full')"
        )
    };
    for (spans, message) in [
        ("ARRAY[named_struct('start', 900, 'length', 3, 'label', 'x')]", "has a span of 3 characters from 900 on"),
        ("ARRAY[named_struct('start', 0, 'length', 3, 'label', 'x')]", "from 0 on"),
        ("ARRAY[named_struct('start', 1, 'length', 3)]", "label column \"spans\" cannot be"),
        ("'brand'", "label column \"spans\" cannot be"),
    ] {
        let refusal = shop.refusal(&bad(spans)).await;
        assert!(refusal.message.contains(message), "{spans}: {refusal:?}");
    }
}

#[tokio::test]
async fn tags_that_do_not_fit_are_refused_with_the_row() {
    let shop = shop().await;
    let from = |query: &str| {
        format!(
            "SELECT * FROM finetune('x', $${query}$$, label => 'tags', task => 'token_classification', base => 'minilm', method => 'full', epochs => 1)"
        )
    };
    for (query, message, hint) in [
        (
            "SELECT words, CASE WHEN id = 7 THEN array_append(tags, 'O') ELSE tags END AS tags FROM titles",
            "has 7 tags for the 6 words of \"new black Blue River jacket 59\"",
            "one tag",
        ),
        (
            "SELECT words, array_append(array_slice(tags, 2, 99), 'E-brand') AS tags FROM titles",
            "has \"E-brand\", which is no tag",
            "B-brand",
        ),
        ("SELECT words, 'O' AS tags FROM titles", "label column \"tags\" cannot be", "ARRAY["),
        ("SELECT words, tags, id FROM titles", "has 2 columns besides the label", "select the text and the label only"),
        ("SELECT words, CASE WHEN id > 9 THEN tags END AS tags FROM titles", "NULL", "IS NOT NULL"),
    ] {
        let refusal = shop.refusal(&from(query)).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{query}: {refusal:?}");
    }
    let all = from("SELECT ARRAY['a', 'b'] AS words, ARRAY['O', 'O'] AS tags FROM titles");
    assert!(shop.refusal(&all).await.message.contains("all tokens of 240 rows have the same tag"));
    let without = from("SELECT words, tags FROM titles").replace(", base => 'minilm', method => 'full'", "");
    assert!(shop.refusal(&without).await.hint.contains("base => 'minilm'"));
}

#[tokio::test]
async fn several_labels_of_a_text_come_as_a_list() {
    let shop = Shop::open().await;
    shop.run(
        "CREATE TABLE reviews AS SELECT CASE value % 4 WHEN 0 THEN 'the parcel came late and the card was charged twice' WHEN 1 THEN 'a late parcel' WHEN 2 \
         THEN 'the card was charged twice' ELSE 'all is well' END || ', note ' || value % 9 AS text, CASE value % 4 WHEN 0 THEN ARRAY['delivery', 'payment'] \
         WHEN 1 THEN ARRAY['delivery'] WHEN 2 THEN ARRAY['payment'] ELSE array_remove(ARRAY['x'], 'x') END AS topics FROM generate_series(1, 160)",
    )
    .await
    .unwrap();
    for (version, more) in
        ["", ", base => 'minilm', method => 'head'", ", base => 'minilm', method => 'lora', epochs => 5"].into_iter().enumerate()
    {
        let train = format!(
            "SELECT version FROM finetune('topics', $$SELECT text, topics FROM reviews$$, 'topics', task => 'text_classification'{more}) WHERE version IS NOT \
             NULL"
        );
        assert_eq!(shop.value(&train).await, (version + 1).to_string());
        let figure = |metric: &str| format!("SELECT value FROM ml.evaluations WHERE metric = '{metric}' AND version = {}", version + 1);
        for metric in ["micro_f1", "macro_f1", "exact_match"] {
            assert!(shop.number(&figure(metric)).await > 0.9, "{more} {metric}");
        }
        let asked = "SELECT array_to_string(ai.classify(t, model => 'topics'), '+') FROM (VALUES ('the parcel came late and the card was charged twice'), ('a \
                     late parcel'), ('all is well'), (NULL)) AS v(t)";
        assert_eq!(shop.rows(asked).await, [["delivery+payment"], ["delivery"], [""], ["NULL"]], "{more}");
        let shares = "SELECT ai.class_probability('the parcel came late and the card was charged twice', 'payment', 'topics') > 0.5, ai.class_probability('all \
                      is well', 'payment', 'topics') < 0.5";
        assert_eq!(shop.rows(shares).await, [["true", "true"]], "{more}");
    }
    let right = "SELECT count(*) FROM ml.predict('topics', query => $$SELECT text, topics FROM reviews$$) WHERE predicted = topics";
    assert!(shop.number(right).await > 150.0);
    let one = "SELECT * FROM finetune('x', $$SELECT text, ARRAY['a'] AS topics FROM reviews$$, 'topics', task => 'text_classification')";
    assert!(shop.refusal(one).await.message.contains("all 160 rows have the same labels"));
}

#[tokio::test]
async fn a_number_is_learned_and_estimated_in_its_unit() {
    let shop = Shop::open().await;
    shop.run(
        "CREATE TABLE reviews AS SELECT CASE value % 3 WHEN 0 THEN 'it broke at once, very poor' WHEN 1 THEN 'it is all right' ELSE 'excellent, I love it' END || \
         ', day ' || value % 11 AS text, CASE value % 3 WHEN 0 THEN 1.0 WHEN 1 THEN 3.0 ELSE 5.0 END AS stars FROM generate_series(1, 150)",
    )
    .await
    .unwrap();
    for (version, more) in
        ["", ", base => 'minilm', method => 'head'", ", base => 'minilm', method => 'full', epochs => 5"].into_iter().enumerate()
    {
        let train = format!(
            "SELECT validation_loss < 0.1 FROM finetune('stars', $$SELECT text, stars FROM reviews$$, 'stars', task => 'regression'{more}) WHERE version IS NOT \
             NULL"
        );
        assert_eq!(shop.value(&train).await, "true", "{more}");
        let figure = |metric: &str| format!("SELECT value FROM ml.evaluations WHERE metric = '{metric}' AND version = {}", version + 1);
        assert!(shop.number(&figure("r2")).await > 0.9 && shop.number(&figure("rmse")).await < 0.5, "{more}");
        let asked =
            "SELECT ai.estimate(t, 'stars') FROM (VALUES ('it broke at once, very poor'), ('excellent, I love it'), (NULL)) AS v(t)";
        let found = shop.rows(asked).await;
        let number = |row: usize| found[row][0].parse::<f64>().unwrap();
        assert!((number(0) - 1.0).abs() < 0.8 && (number(1) - 5.0).abs() < 0.8 && found[2][0] == "NULL", "{more}: {found:?}");
    }
    let error = shop.number("SELECT rmse(stars, predicted) FROM ml.predict('stars', query => $$SELECT text, stars FROM reviews$$)").await;
    assert!(error < 0.6, "{error}");
    let refusal = shop.refusal("SELECT ai.classify('x', model => 'stars')").await;
    assert!(refusal.message.contains("gives numbers") && refusal.hint.contains("ai.estimate"), "{refusal:?}");
    let refusal =
        shop.refusal("SELECT * FROM finetune('x', $$SELECT text, text AS stars FROM reviews$$, 'stars', task => 'regression')").await;
    assert!(refusal.message.contains("label column \"stars\" cannot be"), "{refusal:?}");
    let refusal =
        shop.refusal("SELECT * FROM finetune('x', $$SELECT text, 1 AS stars FROM reviews$$, 'stars', task => 'regression')").await;
    assert!(refusal.message.contains("have the same label"), "{refusal:?}");
}

#[tokio::test]
async fn pairs_make_an_encoder_of_ones_own() {
    let shop = Shop::open().await;
    shop.run(
        "CREATE TABLE pairs AS SELECT 'ref ' || value % 8 || ' asks' AS question, CASE value % 8 WHEN 0 THEN 'alpha' WHEN 1 THEN 'bravo' WHEN 2 THEN 'charlie' \
         WHEN 3 THEN 'delta' WHEN 4 THEN 'echo' WHEN 5 THEN 'foxtrot' WHEN 6 THEN 'golf' ELSE 'hotel' END || ' replies' AS answer FROM generate_series(1, 160)",
    )
    .await
    .unwrap();
    let train = "SELECT version FROM finetune('ours', $$SELECT question, answer FROM pairs$$, task => 'similarity', base => 'minilm', method => 'full', epochs \
                 => 6, learning_rate => 0.0002) WHERE version IS NOT NULL";
    assert_eq!(shop.value(train).await, "1");
    assert!(shop.number("SELECT value FROM ml.evaluations WHERE metric = 'recall_at_1'").await > 0.9);
    let nearer = "SELECT ai.similarity('ref 2 asks', 'charlie replies', model => 'ours') > ai.similarity('ref 2 asks', 'golf replies', model => 'ours@1') + 0.2, \
                  cardinality(ai.embed('ref 2 asks', model => 'ours'))";
    assert_eq!(shop.rows(nearer).await, [["true", "384"]]);
    let matched = "SELECT answer FROM ai.match_answer('ref 5 asks', query => $$SELECT DISTINCT question, answer FROM pairs$$, model => 'ours', min_score => 0)";
    assert_eq!(shop.value(matched).await, "foxtrot replies");
    let like = "SELECT version FROM finetune('like', $$SELECT question, answer, CASE WHEN question LIKE 'ref 1%' THEN 0.9 ELSE 0.1 END AS near FROM pairs$$, \
                label => 'near', task => 'similarity', base => 'minilm', method => 'lora', epochs => 4) WHERE version IS NOT NULL";
    assert_eq!(shop.value(like).await, "1");
    assert!(shop.number("SELECT value FROM ml.evaluations WHERE model = 'like' AND metric = 'pearson'").await > 0.8);
    for (sql, message, hint) in [
        ("SELECT ai.classify('x', model => 'ours')", "gives vectors", "ai.embed"),
        ("SELECT * FROM ml.predict('ours', query => $$SELECT question FROM pairs$$)", "gives vectors", "ai.embed"),
        ("SELECT ai.embed('x', model => 'our')", "model \"our\" does not exist", ""),
        (
            "SELECT * FROM finetune('x', $$SELECT question FROM pairs$$, task => 'similarity', base => 'minilm', method => 'full')",
            "has 1 column: question",
            "select two texts",
        ),
        (
            "SELECT * FROM finetune('x', $$SELECT question, answer, 7 AS near FROM pairs$$, 'near', task => 'similarity', base => 'minilm', method => 'full')",
            "has 7, which is no cosine",
            "-1 to 1",
        ),
        ("SELECT * FROM finetune('x', $$SELECT question, answer FROM pairs$$)", "finetune needs argument \"label\"", "label => ..."),
    ] {
        let refusal = shop.refusal(sql).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{sql}: {refusal:?}");
    }
}
