//! `generate_strategy` and `ml.generate_strategies`.

use super::*;

const ROWS: &str = "(VALUES (1, 'shoes', '10% off'), (2, 'coffee', NULL), (3, NULL, 'free delivery'), (4, 'shoes', '10% off')) \
                         AS c(customer_id, favourite_category, deal)";

#[tokio::test]
async fn a_strategy_words_what_the_row_decides() {
    let shop = Shop::open().await;
    let call = "generate_strategy(c, goal => 'repurchase', offer => c.deal, channel => 'push', seed => 7, n => 2)";
    let sql = format!(
        "SELECT (s).product, (s).offer, (s).channel, (s).goal, (s).language, (s).headline, (s).body, (s).written_by, (s).model, (s).tokens > 0, (s).score < 0 \
         FROM (SELECT customer_id, {call} AS s FROM {ROWS}) q ORDER BY customer_id"
    );
    let rows = shop.rows(&sql).await;
    assert_eq!(rows[0][..5], ["shoes", "10% off", "push", "repurchase", "en"]);
    assert_eq!(rows[1][..5], ["coffee", "NULL", "push", "repurchase", "en"]);
    assert!(rows[2].iter().all(|field| field == "NULL"), "no product, no strategy: {:?}", rows[2]);
    assert_eq!(rows[3], rows[0], "equal facts have equal texts");
    for row in [&rows[0], &rows[1]] {
        let (product, headline, body) = (&row[0], &row[5], &row[6]);
        assert_eq!(row[7..], ["model", "smollm2", "true", "true"]);
        assert_eq!(body.matches(product.as_str()).count(), 1, "{body}");
        assert!(headline.chars().count() <= 50 && !headline.contains(|c: char| c.is_numeric()), "{headline}");
    }
    assert!(rows[0][6].ends_with(". 10% off."), "{:?}", rows[0]);
    let twice = shop.rows(&sql).await;
    assert_eq!(twice, rows, "a seed has one text");
    let other = shop.rows(&sql.replace("seed => 7", "seed => 8")).await;
    assert_ne!(other[0], rows[0]);
}

#[tokio::test]
async fn the_product_comes_before_the_category_and_a_named_value_before_both() {
    let shop = Shop::open().await;
    let promoted = |call: &str| format!("SELECT ({call}).product FROM (VALUES ('lamps', 'Oak Lamp')) AS p(category, title)");
    assert_eq!(shop.value(&promoted("generate_strategy(p, n => 1)")).await, "Oak Lamp");
    assert_eq!(shop.value(&promoted("generate_strategy(p, product => 'Tea Pot', n => 1)")).await, "Tea Pot");
    assert_eq!(shop.value(&promoted("generate_strategy(p, title => NULL, n => 1)")).await, "lamps");
    let decided = "SELECT (generate_strategy(p, n => 1, offer => '5% off')).rationale FROM (VALUES ('lamps')) AS p(category)";
    let rationale = shop.value(decided).await;
    assert!(rationale.starts_with("category: lamps; offer as given: 5% off; goal: purchase; "), "{rationale}");
}

#[tokio::test]
async fn a_fixed_text_stands_in_where_no_draft_holds() {
    let shop = Shop::open().await;
    let call = |more: &str| {
        format!(
            "SELECT (s).headline, (s).body, (s).written_by, (s).model, (s).score FROM \
             (SELECT generate_strategy(product => 'Oak Lamp', offer => 'two for one', goal => 'welcome', n => 1{more}) AS s) q"
        )
    };
    // No sentence is without one of these.
    let banned = shop.rows(&call(", banned => 'the, your, our, a, and, you, it, to, of, oak lamp'")).await;
    assert_eq!(banned, [["Welcome", "Discover Oak Lamp. Two for one.", "template", "NULL", "NULL"]]);
    let short = shop.rows(&call(", max_tokens => 3")).await;
    assert_eq!(short, banned);
    // A small English model does not write German.
    let german = shop.rows(&call(", language => 'de'")).await;
    assert_eq!(german, [["Willkommen", "Jetzt entdecken: Oak Lamp. Two for one.", "template", "NULL", "NULL"]]);
}

#[tokio::test]
async fn drafts_come_as_ranked_rows() {
    let shop = Shop::open().await;
    let sql = format!(
        "SELECT customer_id, rank, headline, body, score, (strategy).product, (strategy).body FROM ml.generate_strategies( \
         query => $$SELECT customer_id, favourite_category FROM {ROWS} WHERE customer_id < 4$$, n => 3, seed => 1) ORDER BY customer_id, rank"
    );
    let rows = shop.rows(&sql).await;
    for customer in ["1", "2"] {
        let own: Vec<_> = rows.iter().filter(|row| row[0] == customer).collect();
        let ranks: Vec<_> = own.iter().map(|row| row[1].as_str()).collect();
        assert!(!own.is_empty() && ranks == ["1", "2", "3"][..own.len()], "{own:?}");
        let scores: Vec<f64> = own.iter().map(|row| row[4].parse().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        assert!(own.iter().all(|row| row[3] == row[6] && row[3].contains(row[5].as_str())));
        let texts: std::collections::HashSet<_> = own.iter().map(|row| (&row[2], &row[3])).collect();
        assert_eq!(texts.len(), own.len(), "drafts differ");
    }
    assert!(rows.len() > 3, "more than one draft of some customer holds: {rows:?}");
    let nothing: Vec<_> = rows.iter().filter(|row| row[0] == "3").collect();
    assert_eq!(nothing, [&["3", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"]]);
    // The best alone is what generate_strategy gives.
    let first = "SELECT headline FROM ml.generate_strategies(query => $$SELECT 'shoes' AS product$$, n => 1, seed => 1) WHERE rank = 1";
    let best = "SELECT (generate_strategy(product => 'shoes', n => 1, seed => 1)).headline";
    assert_eq!(shop.value(best).await, shop.value(first).await);
    let tokens = |budget: &str| {
        let query = "SELECT favourite_category FROM (VALUES ('shoes')) AS c(favourite_category)";
        format!("SELECT max((strategy).tokens) FROM ml.generate_strategies(query => $${query}$$, n => 4{budget})")
    };
    assert!(shop.number(&tokens(", budget => 1")).await < shop.number(&tokens("")).await);
}

#[tokio::test]
async fn a_click_model_may_choose() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    let row = "i.*, 'shoes' AS product";
    let sql = format!(
        "SELECT rank, score, written_by FROM ml.generate_strategies(query => $$SELECT {row} FROM impressions i WHERE id = 1$$, n => 3, rank_by => 'ctr')"
    );
    let rows = shop.rows(&sql).await;
    assert!(!rows.is_empty() && rows.iter().all(|row| (0.0..1.0).contains(&row[1].parse::<f64>().unwrap())), "{rows:?}");
    // A prediction, where a likelihood would be a logarithm.
    let alone =
        shop.number("SELECT (generate_strategy(i, product => 'shoes', rank_by => 'ctr')).score FROM impressions i WHERE id = 1").await;
    assert!((0.0..1.0).contains(&alone), "{alone}");
    let refusal = shop.refusal("SELECT generate_strategy(product => 'shoes', rank_by => 'ctr')").await;
    assert!(refusal.message.starts_with("model \"ctr@1\" needs column"), "{refusal:?}");
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_with_the_way_out() {
    let shop = Shop::open().await;
    for (call, message, hint) in [
        ("generate_strategy(c, gaol => 'x')", "generate_strategy has no argument \"gaol\"", "did you mean \"goal\"?"),
        ("generate_strategy(x => 1)", "generate_strategy needs column \"product\"", "product => ..."),
        ("generate_strategy(product => 7)", "column \"product\" of generate_strategy cannot be bigint", "cast it to text"),
        ("generate_strategy(c, channel => 'fax')", "argument channel of generate_strategy is 'fax'", "email, sms, push, social, banner"),
        ("generate_strategy(c, language => 'tlh')", "argument language of generate_strategy is 'tlh'", "en, de, fr"),
        ("generate_strategy(c, tone => NULL)", "argument tone of generate_strategy is NULL", ""),
        ("generate_strategy(c, n => 0)", "argument n of generate_strategy is not from 1 to 16", ""),
        ("generate_strategy(c, n => c.customer_id)", "argument n of generate_strategy must be a constant", ""),
        ("generate_strategy(c, model => 'gpt')", "model \"gpt\" does not exist", "smollm2"),
        ("generate_strategy(c, rank_by => 'ctr')", "model \"ctr\" does not exist", ""),
        ("generate_strategy(product => repeat('x', 121))", "column \"product\" of generate_strategy has 121 characters", "shorten it"),
        (
            "generate_strategy(product => repeat('x', 90), channel => 'banner')",
            "need 91 characters, and a banner has 90",
            "another channel",
        ),
    ] {
        let refusal = shop.refusal(&format!("SELECT {call} FROM {ROWS} WHERE customer_id = 1")).await;
        assert!(refusal.message.contains(message) && refusal.hint.contains(hint), "{call}: {refusal:?}");
    }
    let nulls = "SELECT generate_strategy(c, channel => deal, on_error => 'null') IS NULL FROM (VALUES ('shoes', 'fax'), ('shoes', 'sms')) AS c(product, deal)";
    assert_eq!(shop.rows(nulls).await, [["true"], ["false"]]);
    let clash = shop.refusal("SELECT * FROM ml.generate_strategies(query => $$SELECT 'shoes' AS product, 1 AS rank$$)").await;
    assert!(clash.message.contains("has a column \"rank\"") && clash.hint.contains("AS"), "{clash:?}");
}
