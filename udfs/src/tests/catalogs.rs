//! The schema `ml`.

use stratagem_models::registry::{Evaluation, ModelName, Outcome, RunInfo};

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
        "user_id bigint, item_id bigint, slot text, price double precision, ts timestamp"
    );
    let sane = "SELECT count(*) FROM ml.models WHERE validation_auc > 0.5 AND train_loss > 0 AND positives BETWEEN 1 AND rows \
                AND created_at > now() - INTERVAL '1 hour' AND created_at <= now()";
    assert_eq!(shop.value(sane).await, "2");
}

#[tokio::test]
async fn a_damaged_version_is_listed_as_such() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    std::fs::write(shop.folder.path().join("models/ctr/1/manifest.json"), "{}").unwrap();
    let rows = shop.rows("SELECT name, rows, damage FROM ml.models").await;
    assert_eq!((rows[0][0].as_str(), rows[0][1].as_str()), ("ctr", "NULL"));
    assert!(rows[0][2].contains("manifest.json does not match its SHA-256"), "{rows:?}");
}

#[tokio::test]
async fn trainings_are_listed_with_what_they_measured() {
    let shop = Shop::open().await;
    let info = || RunInfo {
        model: ModelName::parse("ctr").unwrap(),
        rows: 4000,
        options: serde_json::json!({ "epochs": 2 }),
        seed: (-1_i64).cast_unsigned(),
        trial: None,
        parent: None,
    };
    let runs = shop.models.registry().runs();
    let mut first = runs.begin(info()).unwrap();
    first.metrics(1, None, &[("train", "loss", 0.5), ("validation", "loss", f64::INFINITY)]).unwrap();
    let evaluation = Evaluation { split: "validation".to_owned(), metric: "auc".to_owned(), value: Some(0.75), rows: 400 };
    first.finish(Outcome::Succeeded { version: Some(7), evaluations: vec![evaluation] }).unwrap();
    let _second = runs.begin(RunInfo { trial: Some(1), parent: Some(1), ..info() }).unwrap();
    assert_eq!(
        shop.rows("SELECT run, model, version, status, error, rows, seed, options, trial, parent, ended_at >= started_at FROM ml.training_runs ORDER BY run")
            .await,
        [
            ["1", "ctr", "7", "succeeded", "NULL", "4000", "-1", "{\"epochs\":2}", "NULL", "NULL", "true"],
            ["2", "ctr", "NULL", "running", "NULL", "4000", "-1", "{\"epochs\":2}", "1", "1", "NULL"]
        ]
    );
    assert_eq!(
        shop.rows("SELECT run, epoch, step, split, metric, value, at <= now() FROM ml.training_metrics ORDER BY split").await,
        [["1", "1", "NULL", "train", "loss", "0.5", "true"], ["1", "1", "NULL", "validation", "loss", "NULL", "true"]]
    );
    assert_eq!(
        shop.rows("SELECT model, version, run, split, metric, value, rows FROM ml.evaluations").await,
        [["ctr", "7", "1", "validation", "auc", "0.75", "400"]]
    );
}

#[tokio::test]
async fn aliases_are_listed() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    let ctr = ModelName::parse("ctr").unwrap();
    shop.models.registry().set_alias(&ctr, "champion", 1).unwrap();
    shop.models.registry().set_alias(&ctr, "default", 1).unwrap();
    assert_eq!(shop.rows("SELECT * FROM ml.aliases ORDER BY alias").await, [["ctr", "champion", "1"], ["ctr", "default", "1"]]);
}
