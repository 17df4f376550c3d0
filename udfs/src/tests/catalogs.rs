//! The schema `ml`.

use super::*;

#[tokio::test]
async fn models_are_listed_as_they_appear() {
    let shop = Shop::open().await;
    assert_eq!(shop.value("SELECT count(*) FROM ml.models").await, "0");
    shop.train("ctr", "").await;
    shop.train("ctr", ", seed => 1").await;
    let rows = shop.rows("SELECT name, version, is_default, aliases, model_type, label, rows, epochs, source_query, damage FROM ml.models ORDER BY version").await;
    let version = |version: &str, default: &str| {
        ["ctr", version, default, "NULL", "dcnv2", "click", "4000", "2", TRAINING, "NULL"].map(str::to_owned).to_vec()
    };
    assert_eq!(rows, [version("1", "false"), version("2", "true")]);
    assert_eq!(
        shop.value("SELECT features FROM ml.models WHERE version = 1").await,
        "user_id bigint, item_id bigint, slot text, price double precision, ts.hour timestamp, ts.weekday timestamp"
    );
    let sane = "SELECT count(*) FROM ml.models WHERE validation_auc > 0.5 AND train_loss > 0 AND positives BETWEEN 1 AND rows \
                AND created_at > now() - INTERVAL '1 hour' AND created_at <= now()";
    assert_eq!(shop.value(sane).await, "2");
}

#[tokio::test]
async fn a_damaged_version_is_listed_as_such() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    std::fs::write(shop.folder.path().join("ctr/1/manifest.json"), "{}").unwrap();
    let rows = shop.rows("SELECT name, rows, damage FROM ml.models").await;
    assert_eq!((rows[0][0].as_str(), rows[0][1].as_str()), ("ctr", "NULL"));
    assert!(rows[0][2].contains("manifest.json does not match its SHA-256"), "{rows:?}");
}
