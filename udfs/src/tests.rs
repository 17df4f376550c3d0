//! Promises of the functions, through SQL in process.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use stratagem_models::runtime::Device;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::error::find;
use crate::language::{Checkpoint, Installed, Limits};
use crate::models::{Models, Sources};
use crate::notice::{Notice, Notices};
use crate::usage::Client;
use crate::{catalog, register_all, rewrite};

mod calling;
mod catalogs;
mod curves;
mod embedding;
mod experiments;
mod generating;
mod judging;
mod metrics;
mod preparing;
mod prompting;
mod relations;
mod scoring;
mod strategies;
mod teaching;
mod texts;
mod texts_of_tasks;
mod training;
mod tuning;
mod uplift;
mod usage;

/// A session over a folder of models.
struct Shop {
    folder: TempDir,
    models: Arc<Models>,
    context: SessionContext,
    notices: UnboundedReceiver<Notice>,
    client: Arc<Client>,
}

/// An error as a client sees it.
#[derive(Debug)]
struct Refusal {
    message: String,
    detail: String,
    hint: String,
}

/// Where the set-up puts what it installs.
fn cache() -> std::result::Result<PathBuf, String> {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = home("STRATAGEM_CACHE")
        .or_else(|| home("XDG_CACHE_HOME").map(|cache| cache.join("stratagem")))
        .or_else(|| home("HOME").map(|home| home.join(".cache/stratagem")));
    cache.ok_or_else(|| "HOME is not set".to_owned())
}

/// The language model that the set-up has installed.
fn language() -> std::result::Result<Checkpoint, String> {
    let cache = cache()?;
    let mut files = std::fs::read_dir(cache.join("assets/smollm2")).map_err(|e| e.to_string())?;
    let source = files.find_map(|file| Some(file.ok()?.path()).filter(|path| path.extension().is_some_and(|e| e == "gguf")));
    let source = source.ok_or("run \"make setup\"")?;
    Ok(Checkpoint { name: "smollm2".to_owned(), source, cache: cache.join("language") })
}

/// A text encoder that the set-up has installed.
fn encoder(name: &str) -> std::result::Result<Checkpoint, String> {
    let cache = cache()?;
    Ok(Checkpoint { name: name.to_owned(), source: cache.join("assets").join(name), cache: cache.join("language") })
}

/// The runtime's library: `ORT_DYLIB_PATH`, or where the set-up has put it.
fn library() -> std::result::Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Ok(path.into());
    }
    let folder = cache()?.join("assets/onnxruntime/lib");
    let found = std::fs::read_dir(&folder).ok().and_then(|mut files| {
        files.find_map(|file| Some(file.ok()?.path()).filter(|path| path.to_string_lossy().contains("libonnxruntime.so.")))
    });
    found.ok_or_else(|| format!("{} has no ONNX Runtime; run \"make setup\"", folder.display()))
}

impl Shop {
    async fn open() -> Self {
        Self::over(tempfile::tempdir().unwrap(), 2).await
    }

    /// Opens the models again, as a server does after a restart.
    async fn reopen(self) -> Self {
        drop((self.models, self.context));
        Self::over(self.folder, 2).await
    }

    async fn over(folder: TempDir, partitions: usize) -> Self {
        let encoders: Vec<Installed> = vec![Box::new(|| encoder("minilm")), Box::new(|| encoder("e5"))];
        let sources = Sources { library: Box::new(library), language: Box::new(language), encoders };
        let models = Models::open(&folder.path().join("models"), Device::Cpu, sources, Limits::default());
        let models = Arc::new(models.unwrap());
        let (sender, notices) = Notices::channel();
        let client = Arc::new(Client::new(7, "analyst"));
        let config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(512)
            .with_extension(Arc::new(sender))
            .with_extension(Arc::clone(&client));
        let builder = SessionStateBuilder::new().with_default_features().with_config(config);
        let context = SessionContext::new_with_state(register_all(builder, Arc::clone(&models)).build());
        let database = context.catalog("datafusion").unwrap();
        catalog::mount(&models, |name, schema| {
            database.register_schema(name, schema).unwrap();
        });
        let shop = Self { folder, models, context, notices, client };
        shop.run(IMPRESSIONS).await.unwrap();
        shop.run(CUSTOMERS).await.unwrap();
        shop
    }

    async fn plan(&self, sql: &str) -> Result<LogicalPlan> {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql)?.pop().expect("one statement");
        rewrite::rewrite(&mut statement, &Planned(&self.context)).await?;
        self.context.state().statement_to_plan(EngineStatement::Statement(Box::new(statement))).await
    }

    async fn run(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let plan = self.plan(sql).await?;
        self.context.execute_logical_plan(plan).await?.collect().await
    }

    /// All rows, their values as text.
    async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let batches = self.run(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
        let options = FormatOptions::new().with_null("NULL");
        let mut rows = Vec::new();
        for batch in batches {
            let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
            rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()));
        }
        rows
    }

    /// The value of a query with one row of one column.
    async fn value(&self, sql: &str) -> String {
        let mut rows = self.rows(sql).await;
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}");
        rows.remove(0).remove(0)
    }

    async fn number(&self, sql: &str) -> f64 {
        self.value(sql).await.parse().unwrap()
    }

    async fn refusal(&self, sql: &str) -> Refusal {
        let error = match self.run(sql).await {
            Ok(_) => panic!("{sql}: not refused"),
            Err(error) => error,
        };
        let Some(error) = find(&error) else { panic!("{sql}: {error}") };
        Refusal { message: error.to_string(), detail: error.detail().unwrap_or_default(), hint: error.hint().unwrap_or_default() }
    }

    fn prompt(&self, name: &str, text: &str) -> u32 {
        self.models.prompts().create(&name.parse().unwrap(), text).unwrap()
    }

    async fn train(&self, name: &str, more: &str) -> Vec<Vec<String>> {
        self.rows(&format!("SELECT * FROM finetune('{name}', $${TRAINING}$$, 'click', epochs => 2, ensembles => 1{more})")).await
    }
}

/// Answers the rewrite from the session, as the server does.
struct Planned<'a>(&'a SessionContext);

#[async_trait]
impl rewrite::Scope for Planned<'_> {
    async fn columns(&self, query: &Query) -> Result<Vec<String>> {
        let statement = EngineStatement::Statement(Box::new(Statement::Query(Box::new(query.clone()))));
        let plan = self.0.state().statement_to_plan(statement).await?;
        Ok(plan.schema().fields().iter().map(|field| field.name().clone()).collect())
    }
}

/// Clicks that depend on item, price and hour; users do not matter.
const IMPRESSIONS: &str = "CREATE TABLE impressions AS
    SELECT value AS id, value % 97 AS user_id, value % 13 AS item_id, 'slot ' || (value % 3) AS slot, (value % 50) / 10.0 AS price,
        to_timestamp_seconds(value * 3607) AS ts,
        (value * 7919) % 100 < CASE WHEN value % 13 < 4 THEN 60 ELSE 5 END AS click
    FROM generate_series(1, 4000)";

const CUSTOMERS: &str = "CREATE TABLE customers AS
    SELECT customer_id, favourite_category FROM (VALUES (1, 'shoes'), (2, 'coffee'), (3, NULL)) AS c(customer_id, favourite_category)";

const TRAINING: &str = "SELECT user_id, item_id, slot, price, ts, click FROM impressions";

#[tokio::test]
async fn every_example_runs() {
    let shop = Shop::open().await;
    shop.train("ctr", "").await;
    shop.prompt("welcome", "Say hello to customer {{customer_id}}, who likes {{favourite_category}}.");
    let treated = TRAINING.replace("SELECT", "SELECT id % 2 = 0 AS treated,");
    let uplift = "task => 'uplift', treatment => 'treated', learner => 's', epochs => 1, ensembles => 1";
    shop.rows(&format!("SELECT * FROM finetune('who', $${treated}$$, 'click', {uplift})")).await;
    shop.run(
        "CREATE TABLE questions AS SELECT CASE value % 2 WHEN 0 THEN 'refund' ELSE 'delivery' END AS intent, CASE value % 2 WHEN 0 THEN 'money back' ELSE \
         'where is it' END || ', number ' || value AS question FROM generate_series(1, 40)",
    )
    .await
    .unwrap();
    let intent = "task => 'text_classification', base => 'minilm', method => 'lora', epochs => 1";
    shop.rows(&format!("SELECT * FROM finetune('intent', $$SELECT question, intent FROM questions$$, 'intent', {intent})")).await;
    shop.run(
        "CREATE TABLE reviews AS SELECT value AS review_id, 'note ' || value || CASE value % 2 WHEN 0 THEN ', fine' ELSE ', poor' END AS text, 1.0 + value % 2 AS \
         stars FROM generate_series(1, 40)",
    )
    .await
    .unwrap();
    shop.rows(
        "SELECT * FROM finetune('stars', $$SELECT text, stars FROM reviews$$, 'stars', task => 'regression', epochs => 1, ensembles => 1)",
    )
    .await;
    shop.run("CREATE TABLE products AS SELECT value AS product_id, 'red Acme shoes ' || value AS title FROM generate_series(1, 80)")
        .await
        .unwrap();
    let tags = "task => 'token_classification', base => 'minilm', method => 'full', epochs => 4, learning_rate => 0.0003";
    let words = "SELECT string_to_array(title, ' ') AS words, ARRAY['B-colour', 'B-brand', 'O', 'O'] AS tags FROM products";
    shop.rows(&format!("SELECT * FROM finetune('titles', $${words}$$, 'tags', {tags})")).await;
    for function in crate::declaration::functions() {
        let rows = shop.run(function.example).await;
        assert!(rows.is_ok_and(|batches| batches.iter().any(|batch| batch.num_rows() > 0)), "{}", function.name);
    }
}

#[tokio::test]
async fn the_catalog_names_every_function() {
    let shop = Shop::open().await;
    for function in crate::declaration::functions() {
        let state = shop.context.state();
        let known = state.scalar_functions().contains_key(function.name)
            || state.aggregate_functions().contains_key(function.name)
            || state.window_functions().contains_key(function.name)
            || function.kind == crate::declaration::Kind::Table;
        assert!(known, "{}", function.name);
    }
    assert_eq!(crate::declaration::routines().len(), crate::declaration::functions().len());
}

fn plan_error(error: &DataFusionError) -> String {
    error.find_root().to_string()
}
