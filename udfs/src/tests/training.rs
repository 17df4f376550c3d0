//! `finetune`.

use std::time::Duration;

use futures::StreamExt;

use super::*;

const LONG: &str =
    "SELECT * FROM finetune('long_run', $$SELECT item_id, price, click FROM impressions$$, 'click', epochs => 1000, early_stop => false)";

#[tokio::test]
async fn a_training_yields_a_row_per_epoch_and_saves_a_version() {
    let mut shop = Shop::open().await;
    let rows = shop.train("ctr", "").await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    let column = |name: &str| crate::finetune::DECLARATION.columns().iter().position(|column| column.name == name).unwrap();
    for (epoch, row) in rows[..2].iter().enumerate() {
        assert_eq!((row[0].as_str(), row[1].as_str(), &row[column("epoch")]), ("ctr", "NULL", &(epoch + 1).to_string()));
        assert_eq!((row[column("trial")].as_str(), row[column("member")].as_str(), row[column("epochs")].as_str()), ("1", "1", "2"));
        assert_eq!(row[column("rows")], "3600");
        assert!(row[column("validation_auc")].parse::<f64>().unwrap() > 0.5);
    }
    let last = &rows[2];
    assert_eq!((last[1].as_str(), last[column("eta_seconds")].as_str()), ("1", "0.0"));
    let kept: usize = last[column("epoch")].parse().unwrap();
    assert_eq!(last[column("validation_loss")], rows[kept - 1][column("validation_loss")]);
    assert!(rows[0][column("train_loss")].parse::<f64>().unwrap() > rows[1][column("train_loss")].parse().unwrap());
    assert_eq!(shop.train("ctr", "").await[2][1], "2");
    let notice = shop.notices.recv().await.unwrap();
    assert_eq!(notice.message, "training ctr on 4000 rows of 5 columns");
}

#[tokio::test]
async fn the_model_learns_what_matters() {
    let shop = Shop::open().await;
    shop.rows(&format!("SELECT * FROM finetune(model => 'ctr', query => $${TRAINING}$$, label => 'click')")).await;
    let area = shop.number("SELECT auc(click, predict_ctr('ctr', i)) FROM impressions i").await;
    assert!(area > 0.8, "{area}");
}

#[tokio::test]
async fn the_same_rows_give_the_same_model_in_any_order_and_partitioning() {
    let mut files = Vec::new();
    for (partitions, order) in [(1, "id"), (4, "id"), (3, "item_id DESC, id DESC")] {
        let shop = Shop::over(tempfile::tempdir().unwrap(), partitions).await;
        let sql = format!(
            "SELECT * FROM finetune('ctr', $$SELECT item_id, price, slot, click FROM impressions ORDER BY {order}$$, 'click', epochs => 1)"
        );
        shop.rows(&sql).await;
        files.push(std::fs::read(shop.folder.path().join("models/ctr/1/weights.safetensors")).unwrap());
    }
    assert!(files[0] == files[1] && files[0] == files[2]);
}

#[tokio::test]
async fn another_seed_gives_another_model() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    shop.train("ctr", ", seed => -1").await;
    let file = |version: u32| std::fs::read(shop.folder.path().join(format!("models/ctr/{version}/weights.safetensors"))).unwrap();
    assert_ne!(file(1), file(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_epoch_is_seen_before_the_last_and_a_dropped_stream_stops_the_training() {
    let shop = Shop::open().await;
    let plan = shop.plan(LONG).await.unwrap();
    let mut stream = shop.context.execute_logical_plan(plan).await.unwrap().execute_stream().await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.num_rows(), 1);
    assert!(training_threads() > 0);
    drop(stream);
    let stopped = tokio::time::timeout(Duration::from_secs(20), async {
        while training_threads() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    stopped.await.expect("the training stops soon after its stream is dropped");
    assert_eq!(shop.rows("SELECT * FROM ml.models").await.len(), 0, "a stopped training saves nothing");
}

/// The threads of this process that train `long_run`, by their names.
fn training_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter(|task| {
            std::fs::read_to_string(task.as_ref().unwrap().path().join("comm")).is_ok_and(|name| name.starts_with("train long_run"))
        })
        .count()
}

#[tokio::test]
async fn a_limit_that_would_lose_the_model_is_refused() {
    let shop = Shop::open().await;
    for sql in [
        format!("{LONG} LIMIT 1"),
        format!("SELECT epoch FROM ({LONG}) AS t WHERE epoch > 1 LIMIT 1"),
        format!("SELECT * FROM impressions, ({LONG}) AS t LIMIT 1"),
    ] {
        let refusal = shop.refusal(&sql).await;
        assert_eq!(refusal.message, "LIMIT would end finetune before its model is saved");
        assert!(refusal.hint.contains("WHERE version IS NOT NULL"), "{}", refusal.hint);
    }
    let refusal = shop.refusal(&format!("SELECT 1 WHERE EXISTS ({LONG})")).await;
    assert_eq!(refusal.message, "EXISTS or IN would end finetune before its model is saved");
    let call = format!("SELECT * FROM finetune('ctr', $${TRAINING}$$, 'click', epochs => 1)");
    assert_eq!(shop.rows(&format!("{call} ORDER BY version NULLS LAST LIMIT 1")).await[0][1], "1");
    assert_eq!(shop.value(&format!("SELECT max(version) FROM ({call}) AS t LIMIT 1")).await, "2");
}

#[tokio::test]
async fn one_call_never_trains_twice() {
    let shop = Shop::open().await;
    let sql = format!(
        "WITH t AS (SELECT * FROM finetune('ctr', $${TRAINING}$$, 'click', epochs => 1)) SELECT * FROM t AS a JOIN t AS b ON a.epoch = b.epoch"
    );
    let refusal = shop.refusal(&sql).await;
    assert!(refusal.message.starts_with("finetune would run twice"), "{refusal:?}");
}

#[tokio::test]
async fn explain_shows_the_call_and_the_plan_of_its_query() {
    let shop = Shop::open().await;
    let plan = shop
        .rows("EXPLAIN SELECT * FROM finetune('ctr', $$SELECT item_id, click FROM impressions WHERE price > 1$$, 'click', epochs => 7)")
        .await;
    assert!(plan[0][1].contains("finetune: model=ctr, label=click, epochs=7\n"), "{}", plan[0][1]);
    assert!(plan[0][1].contains("Filter: impressions.price >"), "{}", plan[0][1]);
    assert!(plan[1][1].contains("FinetuneExec: model=ctr, model_type=dcnv2, label=click, features=2"), "{}", plan[1][1]);
    assert_eq!(shop.rows("SELECT * FROM ml.models").await.len(), 0, "explaining trains nothing");
}

#[tokio::test]
async fn the_query_sees_the_callers_common_table_expressions() {
    let shop = Shop::open().await;
    let sql = "WITH few AS (SELECT item_id, click FROM impressions WHERE id < 1000) \
               SELECT max(f.version), max(f.rows) FROM finetune('ctr', query => $$SELECT * FROM few$$, label => 'click', epochs => 1, validation => 0) AS f";
    assert_eq!(shop.rows(sql).await, [["1", "999"]]);
}

#[tokio::test]
async fn options_can_be_parameters_and_expressions() {
    let shop = Shop::open().await;
    let plan = shop
        .plan("SELECT * FROM finetune($1, $$SELECT item_id, click FROM impressions$$, $2, epochs => 3 - 2, ensembles => 1, seed => $3)")
        .await
        .unwrap();
    assert!(crate::writes(&plan));
    let values: Vec<datafusion::common::ScalarValue> = vec!["ctr".into(), "click".into(), 5_i64.into()];
    let frame = shop.context.execute_logical_plan(plan).await.unwrap().with_param_values(values).unwrap();
    assert_eq!(frame.collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
}

#[tokio::test]
async fn wrong_calls_are_refused_before_a_row_is_read() {
    let shop = Shop::open().await;
    for (call, message) in [
        (
            "'ctr', $$SELECT * FROM nowhere$$, 'click'",
            "in the query argument of finetune: Error during planning: table 'datafusion.public.nowhere' not found",
        ),
        ("'ctr', $$SELECT item_id, click FROM impressions$$, 'clik'", "finetune needs column \"clik\", which is not there"),
        ("'ctr', $$SELECT item_id, slot FROM impressions$$, 'slot'", "label column \"slot\" cannot be text"),
        ("'ctr', $$SELECT ARRAY[click] AS clicks, click FROM impressions$$, 'click'", "feature column \"clicks\" cannot be boolean[]"),
        (
            "'ctr', $$SELECT item_id, click FROM impressions$$, 'click', split => 'time'",
            "argument split of finetune is 'time', which needs a split_col",
        ),
        (
            "'ctr', $$SELECT item_id, slot, click FROM impressions$$, 'click', split => 'column', split_col => 'slot'",
            "split column \"slot\" cannot be text",
        ),
        (
            "'ctr', $$SELECT item_id, click FROM impressions$$, 'click', model_type => 'esmm'",
            "argument model_type of finetune is 'esmm', which learns clicks and conversions",
        ),
        ("'ctr', $$SELECT item_id, click FROM impressions$$, 'click', hidden => 'wide'", "argument hidden of finetune is 'wide'"),
        ("'ctr', $$SELECT item_id, click FROM impressions$$, 'click', base => 'ctr'", "model \"ctr\" does not exist"),
        ("'ctr', $$SELECT click FROM impressions$$, 'click'", "the query has no column besides the label"),
        ("'Ctr', $$SELECT item_id, click FROM impressions$$, 'click'", "\"Ctr\" is not a model name"),
        (
            "'ctr', $$SELECT item_id, click FROM impressions$$, 'click', epochs => 0",
            "invalid value for option \"epochs\": 0 is not within 1 to 1000",
        ),
        ("'ctr', $$SELECT item_id, click FROM impressions$$, 'click', epochs => 'many'", "argument epochs of finetune cannot be many"),
        (
            "'ctr', $$SELECT item_id, click FROM impressions$$, 'click', epochs => -1",
            "argument epochs of finetune is -1, which is out of range",
        ),
        (
            "'ctr', $$SELECT item_id, click FROM impressions$$, 'click', model_type => 'gbdt'",
            "invalid value for option \"model_type\": \"gbdt\" is not one of: logistic, fm, deepfm, dcnv2, finalmlp, din, esmm, mmoe",
        ),
        ("'ctr', $$SELECT item_id, click FROM impressions$$, 'click', epochs => true", "argument epochs of finetune cannot be boolean"),
        ("'ctr', $$SELECT item_id, click FROM impressions$$, 'click', seed => random()", "argument seed of finetune must be a constant"),
        ("7, $$SELECT item_id, click FROM impressions$$, 'click'", "argument model of finetune cannot be bigint"),
        ("NULL, $$SELECT item_id, click FROM impressions$$, 'click'", "argument model of finetune is NULL"),
    ] {
        let Err(error) = shop.plan(&format!("SELECT * FROM finetune({call})")).await else { panic!("{call}: planned") };
        assert_eq!(find(&error).map(ToString::to_string).as_deref(), Some(message), "{}", plan_error(&error));
    }
}

#[tokio::test]
async fn unusable_labels_are_counted_or_named() {
    let shop = Shop::open().await;
    let call = |label: &str| format!("SELECT * FROM finetune('ctr', $$SELECT item_id, {label} AS y FROM impressions$$, 'y')");
    let refusal = shop.refusal(&call("CASE WHEN id > 10 THEN click END")).await;
    assert_eq!(
        (refusal.message.as_str(), refusal.hint.as_str()),
        ("column \"y\" is NULL in 10 of 4000 rows", "leave these rows out: WHERE y IS NOT NULL")
    );
    assert_eq!(shop.refusal(&call("id % 1 + 3")).await.message, "label column \"y\" is 3 in a row, but must be 0 or 1");
    assert_eq!(shop.refusal(&call("1")).await.message, "all 4000 labels are 1");
    let refusal = shop.refusal("SELECT * FROM finetune('ctr', $$SELECT item_id, click FROM impressions WHERE false$$, 'click')").await;
    assert_eq!(refusal.message, "the training query returned no rows");
}

#[tokio::test]
async fn rows_beyond_the_memory_limit_train_the_same_model_from_temporary_files() {
    use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    let mut shop = Shop::open().await;
    let sql =
        "SELECT version FROM finetune('ctr', $$SELECT item_id, price, click FROM impressions$$, 'click', epochs => 2) WHERE version > 0";
    assert_eq!(shop.value(sql).await, "1");
    let whole = shop.value("SELECT sum(predict_ctr('ctr', i)) FROM impressions i").await;
    while shop.notices.try_recv().is_ok() {}
    let limited = |shop: Shop, disk: DiskManagerMode| {
        let pool = Arc::new(GreedyMemoryPool::new(20_000));
        let small =
            RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk));
        let state = SessionStateBuilder::new_from_existing(shop.context.state()).with_runtime_env(small.build_arc().unwrap()).build();
        Shop { context: SessionContext::new_with_state(state), ..shop }
    };
    let mut shop = limited(shop, DiskManagerMode::OsTmpDirectory);
    assert_eq!(shop.value(sql).await, "2");
    let notice = shop.notices.recv().await.unwrap();
    assert!(notice.message.ends_with("from temporary files because they do not fit into memory"), "{notice:?}");
    assert_eq!(shop.value("SELECT sum(predict_ctr('ctr', i)) FROM impressions i").await, whole);
    let error = limited(shop, DiskManagerMode::Disabled).run(sql).await.unwrap_err();
    assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
}

#[tokio::test]
async fn a_transform_learns_from_the_rows_and_raw_rows_are_scored() {
    let shop = Shop::open().await;
    let sql = "SELECT version FROM finetune('ctr', $$SELECT item_id, price, slot, click FROM impressions$$, 'click', epochs => 2, \
               transform => 'ml.standard_scaler(price) * 2 AS scaled, ml.hash_bucketize(item_id, 50) AS item_h, ml.one_hot(slot) AS slots, \
               click') WHERE version > 0";
    assert_eq!(shop.value(sql).await, "1");
    assert_eq!(shop.value("SELECT features FROM ml.models").await, "scaled double precision, item_h bigint, slots double precision[]");
    let auc = shop.number("SELECT auc(click, predict_ctr('ctr', i)) FROM impressions i").await;
    assert!(auc > 0.8, "{auc}");
    // The same rows, alone: what was learned is replayed, not learned again.
    let one = "SELECT predict_ctr('ctr', item_id => item_id, price => price, slot => slot) FROM impressions WHERE id = 77";
    let all = "SELECT p FROM (SELECT id, predict_ctr('ctr', i) AS p FROM impressions i) AS scored WHERE id = 77";
    assert!((shop.number(one).await - shop.number(all).await).abs() < 1e-6);
    let refusal = shop.refusal("SELECT predict_ctr('ctr', item_id => 1, slot => 'x')").await;
    assert_eq!(refusal.message, "model \"ctr@1\" needs column \"price\", which is not there");
}

#[tokio::test]
async fn a_training_leaves_a_record_with_its_trials_and_evaluations() {
    let shop = Shop::open().await;
    shop.train("ctr", ", trials => 2").await;
    let runs = shop.rows("SELECT trial, status, version FROM ml.training_runs ORDER BY run").await;
    assert_eq!(runs, [["NULL", "succeeded", "1"], ["1", "succeeded", "NULL"], ["2", "succeeded", "NULL"]]);
    let metrics = "SELECT count(*) FROM ml.training_metrics WHERE run = 1 AND split = 'validation' AND metric = 'auc'";
    assert_eq!(shop.value(metrics).await, "4");
    let names = shop.rows("SELECT metric FROM ml.evaluations WHERE model = 'ctr' AND version = 1 ORDER BY metric").await;
    assert_eq!(names.concat(), ["auc", "ece", "logloss", "predicted_over_actual"]);
    shop.refusal("SELECT * FROM finetune('ctr', $$SELECT item_id, price, 1 AS y FROM impressions$$, 'y')").await;
    let failed = shop.rows("SELECT status, error FROM ml.training_runs WHERE run = 4").await;
    assert_eq!(failed, [["failed", "all 4000 labels are 1"]]);
}

#[tokio::test]
async fn a_column_that_tells_the_label_gets_a_warning() {
    let mut shop = Shop::open().await;
    shop.run("SELECT * FROM finetune('ctr', $$SELECT item_id, price + CASE WHEN click THEN 100 ELSE 0 END AS paid, click FROM impressions$$, 'click', epochs => 1)")
        .await
        .unwrap();
    let mut warnings = Vec::new();
    while let Ok(notice) = shop.notices.try_recv() {
        if notice.severity == crate::notice::Severity::Warning {
            warnings.push(notice.message);
        }
    }
    assert_eq!(warnings, ["column \"paid\" alone tells the label: is it known before the outcome? If not, leave it out"]);
}

#[tokio::test]
async fn a_training_goes_on_from_a_version() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    let sql = "SELECT version FROM finetune('ctr', $$SELECT *, 7 AS more FROM impressions$$, 'click', base => 'ctr', epochs => 1, ensembles => 1) \
               WHERE version > 0";
    assert_eq!(shop.value(sql).await, "2");
    assert!(shop.number("SELECT auc(click, predict_ctr('ctr@2', i)) FROM impressions i").await > 0.8);
    let refusal = shop.refusal("SELECT * FROM finetune('ctr', $$SELECT item_id, click FROM impressions$$, 'click', base => 'ctr')").await;
    assert_eq!(refusal.message, "model \"ctr@2\" needs column \"user_id\", which is not there");
}

#[tokio::test]
async fn every_kind_of_column_trains_and_scores() {
    let shop = Shop::open().await;
    shop.run(
        "CREATE TABLE wide AS SELECT id, click, item_id % 2 = 0 AS flag, CAST(price AS DECIMAL(8, 2)) AS money, CAST(ts AS DATE) AS day, ts, \
         CASE WHEN id % 5 > 0 THEN ARRAY[item_id, user_id] END AS seen, ARRAY[price, CAST(user_id AS DOUBLE)] AS taste, \
         'the number ' || item_id || ' item of the shop' AS title, CAST(NULL AS DOUBLE) AS nothing, 'always' AS constant, \
         CASE WHEN id % 3 > 0 THEN price END AS sometimes, arrow_cast(slot, 'Dictionary(Int32, Utf8)') AS slot FROM impressions",
    )
    .await
    .unwrap();
    shop.run("SELECT * FROM finetune('wide', $$SELECT * FROM wide$$, 'click', epochs => 3, ensembles => 1, features => 'id: skip')")
        .await
        .unwrap();
    let info = shop.rows("SELECT feature, encoding FROM ml.feature_info('wide') WHERE encoding <> 'unused' ORDER BY position").await;
    let expected = [
        ["flag", "category"],
        ["money", "number"],
        ["day.weekday", "category"],
        ["day.month", "category"],
        ["day.age", "number"],
        ["ts.hour", "category"],
        ["ts.weekday", "category"],
        ["ts.age", "number"],
        ["seen", "items"],
        ["taste", "vector"],
        ["title", "category"],
        ["title", "words"],
        ["sometimes", "number"],
        ["slot", "category"],
    ];
    assert_eq!(info, expected);
    let auc = shop.number("SELECT auc(click, predict_ctr('wide', w)) FROM wide w").await;
    assert!(auc > 0.8, "{auc}");
    let nothing = "SELECT predict_ctr('wide', flag => NULL, money => NULL, day => NULL, ts => NULL, seen => NULL, taste => NULL, title => NULL, \
                   sometimes => NULL, slot => NULL)";
    let probability = shop.number(nothing).await;
    assert!((0.0..=1.0).contains(&probability));
    let huge = shop.number(&nothing.replace("title => NULL", "title => repeat('word ', 2000000)")).await;
    assert!((0.0..=1.0).contains(&huge));
}
