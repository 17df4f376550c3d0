//! Vectors of texts over the wire: their type, imported encoders, and what stops a statement that makes them.

use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

use crate::running::{PATIENCE, Running, state};

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_is_an_array_of_reals() {
    let server = Running::start();
    let client = server.connect().await;
    let statement = client.prepare("SELECT ai.embed($1::text), ai.similarity($1::text, 'running shoes')").await.expect("prepared");
    let types: Vec<&Type> = statement.columns().iter().map(tokio_postgres::Column::type_).collect();
    assert_eq!(types, [&Type::FLOAT4_ARRAY, &Type::FLOAT8]);
    let row = client.query_one(&statement, &[&"running shoes"]).await.expect("a row");
    let vector: Vec<f32> = row.get(0);
    let length = vector.iter().map(|value| value * value).sum::<f32>();
    assert!(vector.len() == 384 && (length - 1.0).abs() < 1e-4, "{} {length}", vector.len());
    assert!((row.get::<_, f64>(1) - 1.0).abs() < 1e-6);
    // Kept in a table, and compared there.
    client.batch_execute("CREATE TABLE v AS SELECT name, ai.embed(name) AS e FROM items").await.expect("kept");
    let nearest = "SELECT name FROM v ORDER BY ai.similarity(e, (SELECT e FROM v WHERE name = 'item 3')) DESC LIMIT 1";
    assert_eq!(client.query_one(nearest, &[]).await.expect("a row").get::<_, String>(0), "item 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_encoder_embeds_by_its_name() {
    let server = Running::start();
    let client = server.connect().await;
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/udfs/models/tests/fixtures/encoder");
    let import = |name: &str, from: &str, more: &[&str]| {
        let data = server.data.display().to_string();
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_stratagem"))
            .args(["models", "import", &format!("{tiny}/{from}"), "--name", name, "--data", &data])
            .args(more)
            .output()
            .expect("the binary runs");
        (run.status.success(), String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr))
    };
    let (done, said) = import("small", "xlm-roberta", &["--precision", "int8", "--block", "32"]);
    assert!(done && said.contains("is imported as the text encoder small: xlm-roberta, vectors of 32 numbers"), "{said}");
    let sql = "SELECT array_length(ai.embed('x', model => 'small'), 1)::bigint, (SELECT precision FROM ml.encoders WHERE name = 'small')";
    let row = client.query_one(sql, &[]).await.expect("a row");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (32, "int8"));
    for (name, from, more, reason) in [
        ("minilm", "bert", &[][..], "choose another name"),
        ("other", "bert", &["--precision", "int4"][..], "f32 or int8, not int4"),
        ("other", "bert", &["--block", "31"][..], "31 is not 32, 64 or 128"),
    ] {
        let (done, said) = import(name, from, more);
        assert!(!done && said.contains(reason), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_a_statement_that_embeds() {
    let server = Running::start();
    let client = server.connect().await;
    let token = client.cancel_token();
    let asked =
        "SELECT count(ai.embed('a long story about the number ' || value || repeat(' and more', 200))) FROM generate_series(1, 200000)";
    let running = tokio::spawn(async move { (client.simple_query(asked).await, client) });
    let other = server.connect().await;
    let loaded = tokio::time::timeout(PATIENCE, async {
        while !other.query_one("SELECT bool_or(loaded) FROM ml.encoders", &[]).await.expect("listed").get::<_, bool>(0) {}
    });
    loaded.await.expect("it begins");
    token.cancel_query(NoTls).await.expect("the request is sent");
    let (ended, client) = tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("ended");
    assert_eq!(state(&ended.expect_err("canceled")), "57014");
    let after = tokio::time::timeout(PATIENCE, client.query_one("SELECT ai.similarity('a', 'a')", &[])).await;
    assert!(after.expect("in time").expect("usable").get::<_, f64>(0) > 0.999);
}
