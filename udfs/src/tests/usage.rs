//! What statements ask of language models: counted, limited, told and kept.

use std::time::Duration;

use super::*;
use crate::notice::Severity;
use crate::usage::{Limits, OnError};

const ASK: &str = "SELECT id, ai.generate('Say ' || slot, max_tokens => 3) AS t FROM impressions WHERE id <= 6 ORDER BY id";

#[tokio::test]
async fn a_statement_is_counted_as_one_with_what_it_asked_twice() {
    let shop = Shop::open().await;
    shop.client.begin(ASK, Limits::default());
    shop.rows(ASK).await;
    let kept = shop
        .rows("SELECT pid, user_name, statement, models, requests, repeated, answered, tokens, prompt_tokens > 0, device_seconds > 0, seconds > 0 FROM ml.usage")
        .await;
    let tokens = kept[0][7].parse::<u64>().unwrap();
    assert!((3..=9).contains(&tokens), "{tokens}");
    let expected = ["7", "analyst", ASK, "smollm2", "3", "3", "3", kept[0][7].as_str(), "true", "true", "true"];
    assert_eq!(kept, [expected.map(str::to_owned)]);
    shop.rows("SELECT 1").await;
    assert_eq!(shop.value("SELECT count(*) FROM ml.usage").await, "1", "only what asked is kept");
    let plan = shop.rows(&format!("EXPLAIN ANALYZE {ASK}")).await.concat().concat();
    for metric in ["calls=6", "prompt_tokens=", "tokens=", "queue_time=", "device_time="] {
        assert!(plan.contains(metric), "no {metric} in {plan}");
    }
}

#[tokio::test]
async fn a_used_up_limit_fails_the_statement_or_leaves_rows_null() {
    let mut shop = Shop::open().await;
    let ask = "SELECT id, ai.generate('Say ' || id, max_tokens => 3) AS t FROM impressions WHERE id <= 200 ORDER BY id";
    let limits = |on_error| Limits { tokens: Some(5), on_error, ..Limits::default() };
    shop.client.begin(ask, limits(OnError::Fail));
    let refusal = shop.refusal(ask).await;
    assert!(refusal.message.ends_with("and ml.max_tokens_per_query is 5") && refusal.hint.contains("on_error"), "{refusal:?}");
    while shop.notices.try_recv().is_ok() {}
    for (on_error, warned) in [(OnError::Null, false), (OnError::Report, true)] {
        shop.client.begin(ask, limits(on_error));
        let rows = shop.rows(ask).await;
        let nulls = rows.iter().filter(|row| row[1] == "NULL").count();
        assert!(rows.len() == 200 && (1..200).contains(&nulls), "{nulls}");
        let mut warnings = Vec::new();
        while let Ok(notice) = shop.notices.try_recv() {
            warnings.extend((notice.severity == Severity::Warning).then_some(notice.message));
        }
        let expected = format!("ai.generate: {nulls} rows have no answer; the first: the statement has written ");
        assert!(warnings.len() == usize::from(warned) && warnings.iter().all(|warning| warning.starts_with(&expected)), "{warnings:?}");
    }
    // What a call says itself comes first.
    shop.client.begin(ask, limits(OnError::Null));
    let own = ask.replace("max_tokens => 3", "max_tokens => 3, on_error => 'fail'");
    assert!(shop.refusal(&own).await.message.contains("ml.max_tokens_per_query"));
}

#[tokio::test]
async fn time_that_is_over_ends_the_texts_of_a_statement() {
    let shop = Shop::open().await;
    shop.value("SELECT ai.generate('Warm up.', max_tokens => 1)").await;
    let ask = "SELECT ai.generate('Tell a long story about ' || slot, max_tokens => 800) FROM impressions WHERE id <= 3";
    let time = Some(Duration::from_millis(1));
    shop.client.begin(ask, Limits { time, ..Limits::default() });
    assert!(shop.refusal(ask).await.message.contains("within the 0.001 s that ml.timeout allows"));
    shop.client.begin(ask, Limits { time, on_error: OnError::Null, ..Limits::default() });
    assert_eq!(shop.rows(ask).await.concat(), ["NULL", "NULL", "NULL"]);
}

#[tokio::test]
async fn a_long_statement_tells_how_far_it_is() {
    let mut shop = Shop::open().await;
    let ask = "SELECT ai.generate(t, max_tokens => 800) FROM (VALUES ('Tell a long story.'), ('Tell another one.')) AS v(t)";
    shop.client.begin(ask, Limits { time: Some(Duration::from_millis(2500)), on_error: OnError::Null, ..Limits::default() });
    shop.rows(ask).await;
    let told = shop.notices.try_recv().unwrap();
    assert_eq!(told.severity, Severity::Notice);
    assert!(told.message.starts_with("ai.generate: ") && told.message.contains(" of 2 rows, "), "{}", told.message);
}
