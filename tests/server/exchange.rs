//! Models that leave the server and come into it, with the command line, while the server runs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::running::{Running, state};

/// Runs `stratagem models` for the folders of a server.
fn models(server: &Running, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratagem"));
    command.arg("models").args(arguments).arg("--data").arg(&server.data).output().expect("the binary runs")
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(file: &str) -> PathBuf {
    root().join("udfs/models/tests/fixtures/foreign").join(file)
}

fn import(server: &Running, from: &Path, arguments: &[&str]) -> Output {
    models(server, &[&["import", from.to_str().expect("a path in UTF-8")], arguments].concat())
}

/// The rows of a query as text: by row, then by column, with the columns' names.
async fn rows(client: &Client, sql: &str) -> (Vec<String>, Vec<Vec<Option<String>>>) {
    let (mut names, mut rows) = (Vec::new(), Vec::new());
    for message in client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error:?}")) {
        match message {
            SimpleQueryMessage::RowDescription(columns) => names = columns.iter().map(|column| column.name().to_owned()).collect(),
            SimpleQueryMessage::Row(row) => rows.push((0..names.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => {}
        }
    }
    (names, rows)
}

/// Says so past the capture of test output, which hides what a passing test prints.
fn skipped(why: &str) {
    let mut terminal = std::io::stderr().lock();
    writeln!(terminal, "SKIPPED an_export_scores_the_same_in_plain_python: {why}").expect("the error stream is open");
}

/// A Python with ONNX Runtime in an environment below the cache folder, made as the benchmarks make theirs.
fn python() -> Option<PathBuf> {
    let make = "import run; print(run.environment_for('../tests/export/requirements.txt'))";
    let made =
        Command::new("python3").args(["-c", make]).env("PYTHONPATH", root().join("benches")).env("PYTHONDONTWRITEBYTECODE", "1").output();
    let made = made.ok().filter(|made| made.status.success())?;
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    said.trim().lines().last().map(PathBuf::from)
}

/// Impressions with every type of column, with NULLs; `more` are values that the training does not see.
fn impressions(from: u32, to: u32, more: &str) -> String {
    format!(
        "SELECT n % 2 = 0 AS promo, CASE WHEN n % 11 = 0 THEN NULL {more} ELSE n % 23 END AS item_id, \
         CASE WHEN n % 13 = 0 THEN NULL WHEN n % 3 = 0 THEN 'red' WHEN n % 3 = 1 THEN 'dark green' ELSE '' END AS colour, \
         CASE WHEN n % 17 = 0 THEN NULL ELSE (n * 37 % 1000) / 8.0 END AS price, \
         to_timestamp_seconds(1500000000 + n * 28200) AS seen_at, CAST(to_timestamp_seconds(1500000000 + n * 86400) AS date) AS day, \
         CASE WHEN n % 19 = 0 THEN NULL ELSE make_array(n % 5, n % 7) END AS seen, \
         make_array(CASE WHEN n % 4 = 0 THEN 'new' ELSE 'old' END, 'shop ' || (n % 6)) AS tags, \
         make_array((n % 10) / 4.0, (n % 3) - 1.5) AS vector, \
         'A good shoe, ' || CASE WHEN n % 5 < 2 THEN 'Red and' ELSE 'blue' END || ' size ' || (n % 9) AS note, \
         (n % 23) % 3 = 0 AND n % 4 < 3 OR n % 29 = 0 AS click \
         FROM (SELECT value AS n FROM generate_series({from}, {to})) AS numbers"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_scores_the_same_in_plain_python() {
    let server = Running::start();
    let client = server.connect().await;
    let folder = tempfile::tempdir().expect("a folder");
    let columns = "features = 'item_id: category, tags: hash(64)', ";
    for (model, options) in [("plain", ""), ("hashed", columns), ("din", "model_type = 'din', history = 'seen: item_id', ")] {
        let train = impressions(1, 3000, "");
        let create =
            format!("CREATE MODEL {model} OPTIONS ({options}label = 'click', epochs = 2, ensembles = 2, early_stop = false) AS {train}");
        client.batch_execute(&create).await.expect("trained");
        let to = folder.path().join(model);
        assert!(done(&models(&server, &["export", model, "--to", to.to_str().expect("UTF-8")])).contains(&format!("{model}@1 is in ")));
    }
    let signature = std::fs::read(folder.path().join("plain/signature.json")).expect("a signature");
    let signature: Value = serde_json::from_slice(&signature).expect("JSON");
    let inputs = signature["inputs"].as_array().expect("inputs");
    let colour = inputs.iter().find(|input| input["column"] == "colour").expect("an input for colour");
    assert_eq!((&colour["name"], &colour["dtype"]), (&json!("colour"), &json!("str")), "the texts of known values are saved");
    let Some(python) = python() else { return skipped("pip could not install tests/export/requirements.txt") };

    let query = impressions(2900, 3300, "WHEN n % 7 = 0 THEN 4711");
    for model in ["plain", "hashed", "din"] {
        let (names, rows) = rows(&client, &format!("SELECT i.*, predict_ctr('{model}', i) AS p FROM ({query}) AS i")).await;
        let columns: Map<String, Value> =
            names.iter().enumerate().map(|(at, name)| (name.clone(), rows.iter().map(|row| json!(row[at])).collect())).collect();
        let script = root().join("tests/export/score.py");
        let mut scoring = Command::new(&python);
        scoring.arg(script).arg(folder.path().join(model));
        let scoring = scoring.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut scoring = scoring.expect("python starts");
        let input = Value::Object(columns).to_string();
        scoring.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("python reads");
        let answer = scoring.wait_with_output().expect("python ends");
        assert!(answer.status.success(), "{model}");
        let own: Vec<Vec<f64>> = serde_json::from_slice(&answer.stdout).expect("probabilities");
        let expected: Vec<f64> =
            rows.iter().map(|row| row.last().cloned().flatten().expect("a score").parse().expect("a number")).collect();
        assert_eq!((own.len(), expected.len()), (401, 401));
        let worst = own.iter().zip(&expected).map(|(own, expected)| (own[0] - expected).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-5, "{model}: {worst}");
        assert!(expected.iter().any(|p| (p - expected[0]).abs() > 0.05), "{model}: the scores are alike");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_model_comes_back_as_it_was() {
    let server = Running::start();
    let client = server.connect().await;
    let train = impressions(1, 2000, "");
    let transform = "TRANSFORM (ml.quantile_bucketize(price, 5) AS price_b, colour, item_id, click)";
    let create = format!("CREATE MODEL ctr {transform} OPTIONS (label = 'click', epochs = 1, ensembles = 1) AS {train}");
    client.batch_execute(&create).await.expect("trained");
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("out");
    let to = to.to_str().expect("UTF-8");
    done(&models(&server, &["export", "ctr@1", "--to", to]));
    let signature: Value = serde_json::from_slice(&std::fs::read(format!("{to}/signature.json")).expect("a signature")).expect("JSON");
    assert!(signature["transform"].as_str().is_some_and(|text| text.contains("quantile_bucketize")), "{signature}");
    assert!(signature["inputs"].as_array().expect("inputs").iter().any(|input| input["column"] == "price_b"));
    assert!(refused(&models(&server, &["export", "ctr", "--to", to])).contains("holds an export already\nHINT: "));
    done(&models(&server, &["export", "ctr", "--to", to, "--force"]));

    assert!(done(&import(&server, Path::new(to), &["--name", "copy"])).contains("is saved as copy@1"));
    let query = impressions(1990, 2100, "");
    let differ = format!("SELECT count(*) FROM ({query}) AS i WHERE predict_ctr('ctr', i) <> predict_ctr('copy', i)");
    assert_eq!(rows(&client, &differ).await.1, [[Some("0".to_owned())]]);
    let list = done(&models(&server, &["list"]));
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines[1][0], lines[1][1], lines[2][0], lines[2][2]), ("copy@1", "dcnv2", "ctr@1", "click"), "{list}");
    assert!(refused(&models(&server, &["export", "cpoy", "--to", to])).contains("model \"cpoy\" does not exist"));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_of_other_libraries_score_in_sql() {
    let server = Running::start();
    let client = server.connect().await;
    let columns = ["--columns", "price,age,score"];
    for name in ["lightgbm", "xgboost"] {
        done(&import(&server, &fixture(&format!("{name}.onnx")), &[&["--name", name, "--label", "click"], columns.as_slice()].concat()));
    }
    done(&import(&server, &fixture("sklearn.onnx"), &["--name", "sklearn"]));
    let expected: Value = serde_json::from_slice(&std::fs::read(fixture("expected.json")).expect("a file")).expect("JSON");
    for model in ["lightgbm", "xgboost", "sklearn"] {
        for (row, p) in expected["rows"].as_array().expect("rows").iter().zip(expected[model].as_array().expect("probabilities")) {
            let price = if row["gap"] == true && model != "sklearn" { "NULL".to_owned() } else { row["price"].to_string() };
            let (age, score, colour) = (&row["age"], &row["score"], row["colour"].as_str().expect("a text"));
            let values =
                format!("CAST({price} AS double precision) AS price, {age} AS age, {score} AS score, '{colour}' AS colour, 1 AS other");
            let sql = format!("SELECT predict_ctr('{model}', r) FROM (SELECT {values}) AS r");
            let own: f64 = client.query_one(&sql, &[]).await.expect("a score").get(0);
            assert!((own - p.as_f64().expect("a number")).abs() < 1e-5, "{model}: {own} {p}");
        }
    }
    let (_, known) = rows(&client, "SELECT model_type, label, features, rows FROM ml.models ORDER BY name").await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(known[0], [text("onnx"), text("click"), text("price real, age real, score real"), None]);
    assert_eq!(known[1], [text("onnx"), None, text("price real, age bigint, colour text, score real"), None]);
    let (_, features) = rows(&client, "SELECT position, feature, sql_type, encoding, parameters FROM ml.feature_info('sklearn')").await;
    assert_eq!(features[2], [text("3"), text("colour"), text("text"), text("plain"), text("input colour")]);
    let predicted = "SELECT predicted FROM ml.predict('lightgbm', query => $$SELECT 1.5 AS price, 20 AS age, 0.1 AS score$$)";
    assert_eq!(rows(&client, predicted).await.1.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_an_imported_model_is_told() {
    let server = Running::start();
    let client = server.connect().await;
    done(&import(&server, &fixture("sklearn.onnx"), &["--name", "elsewhere"]));
    let score = |row: &str| format!("SELECT predict_ctr('elsewhere', r) FROM (SELECT {row}) AS r");
    let cases = [
        ("1.5 AS price, 20 AS age, 0.1 AS score", "42703"),
        ("1.5 AS price, 20 AS age, 7 AS colour, 0.1 AS score", "42804"),
        ("1.5 AS price, CAST(NULL AS bigint) AS age, 'red' AS colour, 0.1 AS score", "22004"),
    ];
    for (row, code) in cases {
        let error = client.simple_query(&score(row)).await.expect_err(row);
        assert_eq!(state(&error), code, "{error:?}");
    }
    // A linear model knows no NULL: it answers with no number.
    let unknown = score("CAST(NULL AS real) AS price, 20 AS age, 'red' AS colour, 0.1 AS score");
    assert_eq!(rows(&client, &unknown).await.1, [[None::<String>]]);
    let train = impressions(1, 100, "");
    let tuned = format!("SELECT * FROM finetune(model => 'more', base => 'elsewhere', label => 'click', query => $${train}$$)");
    let error = client.simple_query(&tuned).await.expect_err("not to be trained");
    assert_eq!(state(&error), "22023", "{error:?}");

    let error = refused(&import(&server, &fixture("zipmap.onnx"), &["--name", "maps"]));
    assert!(error.contains("zipmap.onnx gives its probabilities as a list of maps (ZipMap)\nHINT: export it without that"), "{error}");
    let error = refused(&import(&server, &fixture("expected.json"), &["--name", "text"]));
    assert!(error.contains("expected.json is no ONNX model"), "{error}");
    let error = refused(&import(&server, &fixture("lightgbm.onnx"), &["--name", "No Name"]));
    assert!(error.contains("\"No Name\" is not a model name"), "{error}");
    assert_eq!(rows(&client, "SELECT name FROM ml.models").await.1, [[Some("elsewhere".to_owned())]]);
}
