//! Models over the wire: what is told while they are trained, and what a stop leaves.

use std::future::poll_fn;
use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::running::{Running, state};

/// A client with the notices that the server sends it.
async fn connect(server: &Running) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (client, mut connection) = server.try_connect().await.expect("a connection");
    let (sender, notices) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| Pin::new(&mut connection).poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message
                && sender.send(notice.message().to_owned()).is_err()
            {
                return;
            }
        }
    });
    (client, notices)
}

const ROWS: &str = "SELECT value % 7 AS item_id, value % 7 < 2 OR value % 41 = 0 AS click FROM generate_series(1, 2000)";

#[tokio::test(flavor = "multi_thread")]
async fn create_model_tells_of_every_epoch_and_sends_no_rows() {
    let server = Running::start();
    let (client, mut notices) = connect(&server).await;
    let create = format!("CREATE MODEL ctr OPTIONS (label = 'click', epochs = 2, ensembles = 1, early_stop = false) AS {ROWS}");
    let answer = client.simple_query(&create).await.expect("trained");
    assert!(matches!(answer.as_slice(), [tokio_postgres::SimpleQueryMessage::CommandComplete(0)]), "{answer:?}");
    let replace = create.replace("CREATE", "CREATE OR REPLACE");
    assert_eq!(client.execute(&replace, &[]).await.expect("trained again"), 0);
    let mut told = Vec::new();
    while let Ok(notice) = notices.try_recv() {
        told.extend(notice.split_once(": ").map(|(begin, _)| begin.to_owned()));
    }
    told.retain(|begin| begin.starts_with("epoch ") || begin.starts_with("saved "));
    assert_eq!(told, ["epoch 1 of 2", "epoch 2 of 2", "saved as version 1", "epoch 1 of 2", "epoch 2 of 2", "saved as version 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_create_model_saves_nothing() {
    let server = Running::start();
    let (client, mut notices) = connect(&server).await;
    let token = client.cancel_token();
    let create = format!("CREATE MODEL ctr OPTIONS (label = 'click', epochs = 1000, early_stop = false) AS {ROWS}");
    let (result, ()) = tokio::join!(client.simple_query(&create), async {
        while !notices.recv().await.expect("it goes on").starts_with("epoch 2 of 1000") {}
        token.cancel_query(NoTls).await.expect("the request is sent");
    });
    assert_eq!(state(&result.expect_err("canceled")), "57014");
    server.wait_until_idle().await;
    let count: i64 = client.query_one("SELECT count(*) FROM ml.models", &[]).await.expect("usable").get(0);
    assert_eq!(count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_what_was_dropped_survive_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    crate::running::write_items(&folder.path().join("items.parquet"), 5);
    {
        let server = Running::over(folder.path(), &[]);
        let client = server.connect().await;
        for name in ["kept", "gone"] {
            let create = format!("CREATE MODEL {name} OPTIONS (label = 'click', epochs = 1) AS {ROWS}");
            client.batch_execute(&create).await.expect("trained");
        }
        client.batch_execute("ALTER MODEL kept SET ALIAS champion = 1; DROP MODEL gone").await.expect("changed");
        // dropping the server kills it
    }
    let server = Running::over(folder.path(), &[]);
    let client = server.connect().await;
    let row = client.query_one("SELECT name, aliases FROM ml.models", &[]).await.expect("one model");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("kept", "champion"));
}

/// Three topics of 20 rows.
const QUESTIONS: &str = "SELECT CASE value % 3 WHEN 0 THEN 'a late parcel' WHEN 1 THEN 'a card charged twice' ELSE 'shoes that go back' END || ', note ' || \
                         value AS question, CASE value % 3 WHEN 0 THEN 'delivery' WHEN 1 THEN 'payment' ELSE 'returns' END AS topic FROM generate_series(1, 60)";

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_an_encoder_is_trained_leaves_the_version_before_it_and_a_run_that_failed() {
    let folder = tempfile::tempdir().expect("a folder");
    crate::running::write_items(&folder.path().join("items.parquet"), 5);
    let create = |epochs: u32| {
        format!(
            "CREATE OR REPLACE MODEL topic OPTIONS (label = 'topic', task = 'text_classification', base = 'minilm', method = 'full', early_stop = false, \
             learning_rate = 0.0003, epochs = {epochs}) AS {QUESTIONS}"
        )
    };
    let asked = "SELECT ai.classify('they charged my card', model => 'topic')";
    let before: String = {
        let server = Running::over(folder.path(), &[]);
        let (client, mut notices) = connect(&server).await;
        client.simple_query(&create(2)).await.expect("trained");
        let before = client.query_one(asked, &[]).await.expect("a class").get(0);
        while notices.try_recv().is_ok() {}
        let endless = create(1000);
        let training = client.simple_query(&endless);
        tokio::select! {
            ended = training => panic!("it goes on: {ended:?}"),
            () = async { while !notices.recv().await.expect("it goes on").starts_with("epoch 1 of 1000") {} } => {}
        }
        before
        // dropping the server kills it
    };
    let server = Running::over(folder.path(), &[]);
    let client = server.connect().await;
    let after: String = client.query_one(asked, &[]).await.expect("a class").get(0);
    assert_eq!((after.as_str(), before.as_str()), ("payment", "payment"), "the version before it serves");
    let versions: i64 = client.query_one("SELECT count(*) FROM ml.models", &[]).await.expect("a count").get(0);
    assert_eq!(versions, 1);
    let runs = client.query("SELECT status, error FROM ml.training_runs ORDER BY run", &[]).await.expect("two runs");
    let runs: Vec<(String, Option<String>)> = runs.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(runs, [("succeeded".to_owned(), None), ("failed".to_owned(), Some("the server stopped".to_owned()))]);
}
