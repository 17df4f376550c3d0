//! Prompts: `ai.prompt`, `generate_strategy(prompt => ...)` and `ml.prompts`.

use super::*;

#[tokio::test]
async fn a_row_fills_in_the_version_that_is_named() {
    let shop = Shop::open().await;
    shop.prompt("welcome", "Hello {{name}}, {{orders}} orders, {{vip}}, {{price}}, since {{since}}");
    let row = "(SELECT 'An\"n\n' AS name, 3 AS orders, true AS vip, 1.5 AS price, CAST('2026-01-02' AS date) AS since, 'x' AS more) c";
    let first = "Hello \"An'n\", 3 orders, true, 1.5, since \"2026-01-02\"";
    assert_eq!(shop.value(&format!("SELECT ai.prompt('welcome', c) FROM {row}")).await, first);
    assert_eq!(shop.prompt("welcome", "Bye {{name}}"), 2);
    let both = format!("SELECT ai.prompt('welcome@1', c), ai.prompt('welcome', c), ai.prompt('welcome', name => NULL) FROM {row}");
    assert_eq!(shop.rows(&both).await, [[first, "Bye \"An'n\"", "Bye none"]]);
    let listed = shop.rows("SELECT name, version, is_default, variables, created_at > '2026-01-01' FROM ml.prompts ORDER BY version").await;
    assert_eq!(listed, [["welcome", "1", "false", "name, orders, price, since, vip", "true"], ["welcome", "2", "true", "name", "true"]]);
}

#[tokio::test]
async fn a_variable_that_is_not_there_is_told_before_the_first_row() {
    let shop = Shop::open().await;
    shop.prompt("welcome", "Hello {{first_name}}");
    let refusal = shop.refusal("SELECT ai.prompt('welcome', c) FROM (SELECT 1 AS firstname) c WHERE false").await;
    assert_eq!(refusal.message, "prompt \"welcome@1\" needs column \"first_name\", which is not there");
    assert_eq!(refusal.hint, "did you mean firstname? Otherwise name it in the call: first_name => ...");
    let refusal = shop.refusal("SELECT ai.prompt('welcom', c) FROM (SELECT 1 AS first_name) c").await;
    assert_eq!((refusal.message.as_str(), refusal.hint.as_str()), ("prompt \"welcom\" does not exist", "prompts: welcome"));
    let refusal = shop.refusal("SELECT ai.prompt(p, c) FROM (SELECT 'welcome' AS p, 1 AS first_name) c").await;
    assert_eq!(refusal.message, "argument prompt of ai.prompt must be a constant");
    let refusal = shop.refusal("SELECT ai.prompt('welcome', first_name => [1, 2])").await;
    assert_eq!(refusal.message, "variable \"first_name\" of prompt \"welcome@1\" cannot be bigint[]");
}

#[tokio::test]
async fn a_strategy_is_written_after_a_prompt_of_the_shop() {
    let shop = Shop::open().await;
    let text = "product: \"garden chairs\"\ntone: friendly\nheadline: A seat in the sun\nbody: Try our garden chairs and rest a while.\n\n\
                product: \"tea\"\ntone: {{tone}}\nheadline: Something warm\nbody: Find our tea and slow down together.\n{# customer {{customer_id}} #}";
    shop.prompt("calm", text);
    let call = |more: &str| {
        format!(
            "SELECT (s).product, (s).prompt, (s).body FROM (SELECT generate_strategy(c, n => 1, seed => 3{more}) AS s FROM customers c WHERE customer_id = 1) q"
        )
    };
    let own = shop.rows(&call(", prompt => 'calm'")).await;
    assert_eq!(own[0][..2], ["shoes", "calm@1"]);
    assert_eq!(own[0][2].matches("shoes").count(), 1, "{own:?}");
    let built_in = shop.rows(&call("")).await;
    assert_eq!(built_in[0][1], "built-in@1");
    assert_ne!(own[0][2], built_in[0][2]);
    shop.prompt("broken", "{{customer_id}} {{segment}}");
    let refusal = shop.refusal(&call(", prompt => 'broken'")).await;
    assert_eq!(refusal.message, "prompt \"broken@1\" needs column \"segment\", which is not there");
    let drafts = "SELECT (strategy).prompt FROM ml.generate_strategies(query => $$SELECT * FROM customers WHERE customer_id = 1$$, n => 1, prompt => 'calm')";
    assert_eq!(shop.value(drafts).await, "calm@1");
}
