//! Texts by a language model over the wire: what comes when, what stops it, and whether strategies hold to their facts.

use std::collections::HashSet;
use std::pin::pin;

use futures::TryStreamExt;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::demo::sample_data;
use crate::running::{PATIENCE, Running, state};

/// What `ml.usage` says of the last statement: asked for and answered.
async fn usage(client: &Client) -> (i64, i64) {
    let row = client.query_one("SELECT requests, answered FROM ml.usage ORDER BY started_at DESC LIMIT 1", &[]).await.expect("usage");
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_as_they_are_written_and_a_cancel_stops_the_rest() {
    let server = Running::start();
    let (client, other) = (server.connect().await, server.connect().await);
    let asked = "SELECT ai.generate('Tell a story about the number ' || value, max_tokens => 40) FROM generate_series(1, 1000)";
    let mut rows = pin!(client.simple_query_raw(asked).await.expect("started"));
    let first = loop {
        match rows.try_next().await.expect("a row") {
            Some(SimpleQueryMessage::Row(row)) => break row.get(0).map(str::to_owned),
            Some(_) => {}
            None => panic!("no rows"),
        }
    };
    assert!(first.is_some_and(|text| !text.is_empty()));
    let (requests, answered) = usage(&other).await;
    assert!(answered > 0 && requests < 1000, "{answered} of {requests} were answered when the first row was here");
    client.cancel_token().cancel_query(NoTls).await.expect("the request is sent");
    let error = loop {
        match rows.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it went on to its end"),
            Err(error) => break error,
        }
    };
    assert_eq!(state(&error), "57014");
    // What was asked for and not begun is not begun any more: others are answered at once.
    let text = tokio::time::timeout(PATIENCE, client.query_one("SELECT ai.generate('Say yes.', max_tokens => 4)", &[])).await;
    assert!(!text.expect("in time").expect("usable").get::<_, String>(0).is_empty());
    let left: i64 = client.query_one("SELECT answered FROM ml.usage WHERE statement LIKE '%story%'", &[]).await.expect("usage").get(0);
    assert!(left < 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_limits_what_its_statements_ask() {
    let server = Running::start();
    let client = server.connect().await;
    let ask = "SELECT count(ai.generate('Count from ' || value, max_tokens => 4)) FROM generate_series(1, 300)";
    client.batch_execute("SET ml.max_tokens_per_query = 40").await.expect("set");
    let error = client.simple_query(ask).await.expect_err("too many");
    assert_eq!(state(&error), "53400", "{error:?}");
    client.batch_execute("SET ml.on_error = 'report'").await.expect("set");
    let some: i64 = client.query_one(ask, &[]).await.expect("counted").get(0);
    assert!((10..300).contains(&some), "{some}");
    assert_eq!(usage(&client).await, (some, some));
    client.batch_execute("RESET ALL; SET ml.timeout = '1ms'").await.expect("set");
    let error = client.simple_query(ask).await.expect_err("too long");
    assert_eq!(state(&error), "57014", "{error:?}");
    client.batch_execute("SET ml.on_error = 'null'").await.expect("set");
    assert_eq!(client.query_one(ask, &[]).await.expect("counted").get::<_, i64>(0), 0);
    let said: String = client.query_one("SELECT max(statement) FROM ml.usage", &[]).await.expect("usage").get(0);
    assert_eq!(said, ask);
}

/// The text that a query gives.
async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.expect("a text").get(0)
}

/// The tiny checkpoints that the importers are tested with.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/udfs/models/tests/fixtures/language");

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_language_model_answers_by_its_name() {
    let server = Running::start();
    let client = server.connect().await;
    let import = |from: &str, name: &str, more: &[&str]| {
        let data = server.data.display().to_string();
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_stratagem"))
            .args(["models", "import", from, "--name", name, "--data", &data])
            .args(more)
            .output()
            .expect("the binary runs");
        (run.status.success(), String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr))
    };
    let (folder, file) = (format!("{TINY}/llama"), format!("{TINY}/qwen2.gguf"));
    for (from, name, more) in [(folder.as_str(), "first", &[][..]), (&file, "second", &["--precision", "f32"][..])] {
        let (done, said) = import(from, name, more);
        assert!(done && said.contains(&format!("imported as the language model {name}")), "{said}");
    }
    let ask = |name: &str| format!("SELECT ai.generate('one two', model => '{name}', max_tokens => 6, temperature => 1, seed => 3)");
    let (first, second) = (text(&client, &ask("first")).await, text(&client, &ask("second")).await);
    assert!(!first.is_empty() && !second.is_empty() && first != second, "{first:?} {second:?}");
    assert_eq!(text(&client, &ask("first")).await, first);
    let listed =
        "SELECT string_agg(name || ' ' || family || ' ' || precision || ' ' || loaded, ', ' ORDER BY name) FROM ml.language_models";
    assert_eq!(text(&client, listed).await, "first llama int8 true, second qwen2 f32 true, smollm2 llama int8 false");
    let error = client.simple_query(&ask("third")).await.expect_err("unknown");
    assert_eq!(state(&error), "42704");

    let cut = server.data.join("cut.gguf");
    let whole = std::fs::read(&file).expect("the file");
    std::fs::write(&cut, &whole[..whole.len() / 2]).expect("written");
    for (from, name, more, reason) in [
        (cut.to_str().expect("a path"), "cut", &[][..], "is damaged: it ends after"),
        (&file, "smollm2", &[][..], "choose another name"),
        (&file, "Not A Name", &[][..], "lower-case letter"),
        (&file, "tiny", &["--precision", "int7"][..], "not int8, int4, f16 or f32"),
        (&file, "tiny", &["--block", "31"][..], "31 is not 32, 64 or 128"),
    ] {
        let (done, said) = import(from, name, more);
        assert!(!done && said.contains(reason), "{said}");
    }
}

/// A strategy as it came, with the facts it was made from.
struct Strategy {
    product: String,
    offer: String,
    headline: String,
    body: String,
    written_by: String,
}

/// Words that promise what no fact says. Written for this test alone, from what advertisers say.
const PROMISES: [&str; 42] = [
    "free",
    "best",
    "cheapest",
    "cheap",
    "lowest",
    "guarantee",
    "guaranteed",
    "discount",
    "sale",
    "save",
    "deal",
    "percent",
    "price",
    "limited",
    "only",
    "exclusive",
    "today",
    "tonight",
    "tomorrow",
    "hurry",
    "now",
    "winner",
    "official",
    "authentic",
    "award",
    "proven",
    "certified",
    "original",
    "gift",
    "bonus",
    "returns",
    "shipping",
    "delivery",
    "warranty",
    "refund",
    "stock",
    "organic",
    "sustainable",
    "luxury",
    "premium",
    "unique",
    "perfect",
];

impl Strategy {
    /// What is wrong with it.
    fn fault(&self) -> Option<String> {
        let lower = |text: &str| text.to_lowercase();
        let words = |text: &str| -> Vec<String> {
            lower(text).split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let told = |what: &str| Some(format!("{what}: {} | {}", self.headline, self.body));
        let Some(sentence) = self.body.strip_suffix(&format!(" {}.", self.offer)) else { return told("the offer is not as it was given") };
        let parts: Vec<&str> = sentence.split(self.product.as_str()).collect();
        if parts.len() != 2 {
            return told("the product is not in it once");
        }
        if self.headline.is_empty() || self.headline.chars().count() > 78 || self.body.chars().count() > 400 {
            return told("the length");
        }
        let facts: HashSet<String> = words(&self.product).into_iter().collect();
        let free = [self.headline.as_str(), parts[0], parts[1]];
        if free.iter().any(|text| text.chars().any(|c| c.is_numeric() || "%$€£#@*\"<>{}[]".contains(c))) {
            return told("a figure");
        }
        if let Some(word) = free.iter().flat_map(|text| words(text)).find(|word| PROMISES.contains(&word.as_str()) && !facts.contains(word))
        {
            return told(&format!("it promises \"{word}\""));
        }
        // A name would be a word with a capital that begins neither line.
        let named = |text: &str, first: usize| {
            text.split(' ').skip(first).any(|word| word.starts_with(char::is_uppercase) && !facts.contains(&words(word).concat()))
        };
        if named(&self.headline, 1) || named(parts[0], 1) || named(parts[1], 0) {
            return told("a name");
        }
        (!sentence.ends_with('.')).then(|| told("the sentence has no end")).flatten()
    }
}

/// The product that each customer put into the cart last.
const STRATEGIES: &str = "SELECT (s).product, (s).offer, (s).headline, (s).body, (s).written_by FROM ( \
    SELECT generate_strategy(l, goal => 'cart', offer => '10% off', n => 1, seed => l.customer_id) AS s FROM ( \
        SELECT e.customer_id, p.title, row_number() OVER (PARTITION BY e.customer_id ORDER BY e.ts DESC, e.product_id) AS place \
        FROM shop.events e JOIN shop.products p ON p.product_id = e.product_id WHERE e.kind IN ('cart', 'view')) l \
    WHERE l.place = 1 ORDER BY l.customer_id LIMIT 200) q";

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_strategies_hold_to_their_facts_and_few_are_templates() {
    let folder = sample_data();
    let server = Running::over(folder.path(), &[]);
    let client = server.connect().await;
    let rows = client.query(STRATEGIES, &[]).await.expect("strategies");
    let text = |row: &tokio_postgres::Row, column: usize| row.get::<_, String>(column);
    let strategies: Vec<Strategy> = rows
        .iter()
        .map(|row| Strategy {
            product: text(row, 0),
            offer: text(row, 1),
            headline: text(row, 2),
            body: text(row, 3),
            written_by: text(row, 4),
        })
        .collect();
    assert_eq!(strategies.len(), 200);
    let faults: Vec<String> = strategies.iter().filter_map(Strategy::fault).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let templates = strategies.iter().filter(|strategy| strategy.written_by == "template").count();
    assert!(templates < 60, "{templates} of 200 are templates");
    let different: HashSet<&str> = strategies.iter().map(|strategy| strategy.headline.as_str()).collect();
    assert!(different.len() > 100, "{} different headlines", different.len());
}
