//! Tables and views that users create: there or not there, never half, and still there after a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::collect;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, stream};
use stratagem::catalog::{self, DataCatalog};
use stratagem::store::{Draft, Error, Id, IfExists, Kind, Limits, SCHEMA, Store, StoredView};
use tempfile::TempDir;

use crate::fixture::{batches, rows, session};

pub(crate) struct Desk {
    pub(crate) state: TempDir,
    pub(crate) store: Arc<Store>,
    session: SessionContext,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), Limits::default())
    }

    pub(crate) fn open(state: TempDir, limits: Limits) -> Self {
        let store = Store::open(state.path(), limits).unwrap();
        let catalog = DataCatalog::empty();
        catalog.mount(SCHEMA, store.draft().schema(SCHEMA).unwrap());
        let session = session(&Arc::new(catalog));
        Self { state, store, session }
    }

    /// The same, once nothing holds these drafts any more.
    pub(crate) fn restart_without(self, drafts: Vec<Arc<Draft>>) -> Self {
        drop(drafts);
        self.restart()
    }

    /// Ends this server and starts another on the same state.
    pub(crate) fn restart(self) -> Self {
        let Self { state, store, session } = self;
        drop(session);
        drop(Arc::into_inner(store).expect("nothing else holds the store"));
        Self::open(state, Limits::default())
    }

    pub(crate) async fn create(&self, name: &str, query: &str, if_exists: IfExists) -> Result<Option<u64>, Error> {
        let (schema, rows) = query_rows(query).await;
        create_table(&self.store, name, &schema, rows, if_exists).await
    }

    pub(crate) async fn insert(&self, name: &str, query: &str) -> Result<u64, Error> {
        insert(&self.store, name, query_rows(query).await.1).await
    }

    pub(crate) async fn create_view(&self, name: &str, sql: &str, schema: &SchemaRef, if_exists: IfExists) -> Result<bool, Error> {
        let draft = self.store.draft();
        let made = draft.create_view(&work(name), sql, schema, if_exists)?;
        draft.commit().await.map(|()| made)
    }

    pub(crate) async fn drop(&self, kind: Kind, name: &str) -> Result<(), Error> {
        let draft = self.store.draft();
        draft.drop_relation(kind, &work(name))?;
        draft.commit().await
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.store.draft().contains(&work(name))
    }

    pub(crate) fn views(&self) -> Vec<(Id, String)> {
        self.store.draft().views()
    }

    pub(crate) async fn rows(&self, query: &str) -> String {
        rows(&self.session, query).await
    }

    /// Every file below the state directory but the lock, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.state.path().to_owned()];
        while let Some(folder) = folders.pop() {
            // A folder may be on its way out.
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.state.path()).unwrap().display().to_string();
                match path.is_dir() {
                    true => folders.push(path),
                    false if name == "lock" => continue,
                    false => {}
                }
                found.push(name);
            }
        }
        found.sort();
        found.retain(|name| name != "tables");
        found
    }

    pub(crate) fn only_data_file(&self) -> PathBuf {
        let files = self.files();
        let data: Vec<_> = files.iter().filter(|name| name.ends_with(".parquet")).collect();
        assert_eq!(data.len(), 1, "{files:?}");
        self.state.path().join(data[0])
    }
}

pub(crate) fn work(name: &str) -> Id {
    Id::new(SCHEMA, name)
}

/// Creates a table in a transaction of its own.
async fn create_table(
    store: &Arc<Store>,
    name: &str,
    schema: &SchemaRef,
    rows: SendableRecordBatchStream,
    if_exists: IfExists,
) -> Result<Option<u64>, Error> {
    let draft = store.draft();
    let made = draft.create_table(&work(name), schema, rows, if_exists).await?;
    draft.commit().await.map(|()| made)
}

/// Inserts rows in a transaction of its own.
async fn insert(store: &Arc<Store>, name: &str, rows: SendableRecordBatchStream) -> Result<u64, Error> {
    let draft = store.draft();
    let count = draft.insert(&work(name), rows).await?;
    draft.commit().await.map(|()| count)
}

pub(crate) async fn query_rows(query: &str) -> (SchemaRef, SendableRecordBatchStream) {
    let batches = batches(query).await;
    let schema = batches[0].schema();
    (Arc::clone(&schema), rows_of(&schema, batches.into_iter().map(Ok).collect()))
}

fn rows_of(schema: &SchemaRef, batches: Vec<Result<RecordBatch, DataFusionError>>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), stream::iter(batches)))
}

#[tokio::test]
async fn created_tables_and_views_survive_a_restart() {
    let desk = Desk::new();
    let query = "SELECT value AS id, 'n' || value AS name, value / 2.0 AS half, [value] AS list FROM generate_series(1, 5)";
    assert_eq!(desk.create("t", query, IfExists::Fail).await.unwrap(), Some(5));
    assert_eq!(desk.insert("t", "SELECT 6, 'six', 3.0, [6, 7]").await.unwrap(), 1);
    let columns = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    assert!(desk.create_view("v", "SELECT id FROM t", &columns, IfExists::Fail).await.unwrap());
    let before = desk.rows("SELECT * FROM work.t ORDER BY id").await;

    let desk = desk.restart();
    assert_eq!(desk.rows("SELECT * FROM work.t ORDER BY id").await, before);
    assert_eq!(desk.rows("SELECT count(*), sum(id), max(name) FROM work.t").await, "6 21 six");
    assert_eq!(desk.views(), [(work("v"), "SELECT id FROM t".to_owned())]);
    assert_eq!(
        desk.rows("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'work' ORDER BY 1").await,
        "t BASE TABLE\nv VIEW"
    );
    assert_eq!(desk.rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'v'").await, "id Int64");
    assert_eq!(desk.insert("t", "SELECT 7, 'seven', 3.5, [7]").await.unwrap(), 1);
    assert_eq!(desk.rows("SELECT count(*) FROM work.t").await, "7");
}

#[tokio::test]
async fn view_hands_its_text_to_the_planner() {
    let desk = Desk::new();
    let columns = Arc::new(Schema::new(vec![Field::new("x", DataType::Utf8, false)]));
    desk.create_view("v", "SELECT 1", &columns, IfExists::Fail).await.unwrap();
    assert!(!desk.create_view("v", "SELECT 2", &columns, IfExists::Keep).await.unwrap());
    desk.create_view("v", "SELECT 3", &columns, IfExists::Replace).await.unwrap();
    let view = desk.store.draft().schema(SCHEMA).unwrap().table("v").await.unwrap().unwrap();
    let view = view.downcast_ref::<StoredView>().unwrap();
    assert_eq!((view.name(), view.sql()), ("v", "SELECT 3"));
    desk.drop(Kind::View, "v").await.unwrap();
    assert!(desk.views().is_empty());
    assert!(desk.files().is_empty(), "{:?}", desk.files());
}

#[tokio::test]
async fn failed_query_leaves_nothing() {
    let desk = Desk::new();
    let batch = batches("SELECT 1 AS id").await.remove(0);
    let failing = || {
        let failure = Err(DataFusionError::Execution("the query failed".into()));
        rows_of(&batch.schema(), vec![Ok(batch.clone()), failure])
    };
    let error = create_table(&desk.store, "t", &batch.schema(), failing(), IfExists::Fail).await.unwrap_err();
    assert!(matches!(&error, Error::Query(DataFusionError::Execution(text)) if text == "the query failed"), "{error}");
    assert!(desk.files().is_empty(), "{:?}", desk.files());
    assert!(!desk.contains("t"));

    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let before = desk.files();
    assert!(insert(&desk.store, "t", failing()).await.is_err());
    let error = desk.insert("t", "SELECT 'no number'").await.unwrap_err();
    assert!(matches!(&error, Error::BadValue { column, .. } if column == "id"), "{error}");
    assert_eq!(desk.files(), before);
    assert_eq!(desk.rows("SELECT count(*) FROM work.t").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_create_leaves_nothing() {
    let desk = Desk::new();
    let batch = batches("SELECT value AS id FROM generate_series(1, 100000)").await.remove(0);
    let (sent, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let endless = stream::iter(0..).map({
        let batch = batch.clone();
        move |_| {
            let _ = sent.send(());
            Ok(batch.clone())
        }
    });
    let endless = Box::pin(RecordBatchStreamAdapter::new(batch.schema(), endless));
    let (store, schema) = (Arc::clone(&desk.store), batch.schema());
    let create = tokio::spawn(async move { create_table(&store, "t", &schema, endless, IfExists::Fail).await });
    for _ in 0..20 {
        seen.recv().await.unwrap();
    }
    create.abort();
    assert!(create.await.unwrap_err().is_cancelled());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !desk.files().is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", desk.files());
        tokio::task::yield_now().await;
    }
    assert!(!desk.contains("t"));
}

#[tokio::test]
async fn running_statement_reads_the_table_that_it_was_planned_with() {
    let desk = Desk::new();
    desk.create("t", "SELECT value AS id FROM generate_series(1, 10)", IfExists::Fail).await.unwrap();
    let plan = desk.session.sql("SELECT id FROM work.t WHERE id > 0").await.unwrap().create_physical_plan().await.unwrap();
    desk.insert("t", "SELECT 11").await.unwrap();
    desk.create("t", "SELECT 'other' AS name", IfExists::Replace).await.unwrap();
    desk.drop(Kind::Table, "t").await.unwrap();
    assert!(!desk.files().is_empty(), "the old rows are kept for the statement");
    let batches = collect(plan, desk.session.task_ctx()).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
    assert!(desk.files().is_empty(), "{:?}", desk.files());
}

#[tokio::test]
async fn second_server_on_one_state_directory_is_refused() {
    let desk = Desk::new();
    let error = Store::open(desk.state.path(), Limits::default()).unwrap_err();
    assert!(matches!(error, Error::Locked { process: Some(process), .. } if process == std::process::id()), "{error}");
    let desk = desk.restart();
    assert!(desk.views().is_empty());
}

#[tokio::test]
async fn leftovers_of_a_killed_server_are_swept() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let folder = desk.only_data_file().parent().unwrap().to_owned();
    let before = desk.files();
    // An INSERT and a manifest that did not finish, and a table whose manifest was never written.
    fs::write(folder.join("900.parquet"), "half").unwrap();
    fs::write(folder.join("manifest.json.tmp"), "{").unwrap();
    let unborn = desk.state.path().join("tables/unborn-901");
    fs::create_dir(&unborn).unwrap();
    fs::write(unborn.join("902.parquet"), "half").unwrap();
    // Not the store's.
    fs::create_dir(desk.state.path().join("tables/lost+found")).unwrap();

    let desk = desk.restart();
    let mut expected = before;
    expected.push("tables/lost+found".into());
    expected.sort();
    assert_eq!(desk.files(), expected);
    assert_eq!(desk.rows("SELECT id FROM work.t").await, "1");
}

#[tokio::test]
async fn interrupted_replacement_is_the_new_table() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let old = desk.only_data_file().parent().unwrap().to_owned();
    let saved = desk.state.path().join("saved");
    copy(&old, &saved);
    desk.create("t", "SELECT 2 AS id", IfExists::Replace).await.unwrap();
    // As if the server had died after the new manifest and before the old one was removed.
    copy(&saved, &old);
    fs::remove_dir_all(&saved).unwrap();
    let desk = desk.restart();
    assert_eq!(desk.rows("SELECT id FROM work.t").await, "2");
    assert!(!old.exists());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn any_identifier_is_a_table_name() {
    let desk = Desk::new();
    let longest = "x".repeat(63);
    let names =
        ["Upper", "upper", "größe", "商品 表", "a/b", "..", "../../etc/passwd", "q\"uote", "semi;'colon", "NUL", ".hidden", &longest];
    for (at, name) in names.iter().enumerate() {
        desk.create(name, &format!("SELECT {at} AS id"), IfExists::Fail).await.unwrap();
    }
    let desk = desk.restart();
    for (at, name) in names.iter().enumerate() {
        let quoted = name.replace('"', "\"\"");
        assert_eq!(desk.rows(&format!("SELECT id FROM work.\"{quoted}\"")).await, at.to_string(), "{name}");
    }
    let outside: Vec<_> = desk.files().into_iter().filter(|name| !name.starts_with("tables/")).collect();
    assert!(outside.is_empty(), "{outside:?}");
    let error = desk.create(&"é".repeat(32), "SELECT 1 AS id", IfExists::Fail).await.unwrap_err();
    assert!(matches!(error, Error::NameTooLong { length: 64, .. }), "{error}");
    assert!(matches!(desk.create("", "SELECT 1 AS id", IfExists::Fail).await.unwrap_err(), Error::NameEmpty));
}

#[tokio::test]
async fn taken_and_missing_names_are_told_apart() {
    let desk = Desk::new();
    let columns = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    desk.create_view("v", "SELECT 1 AS id", &columns, IfExists::Fail).await.unwrap();

    assert!(matches!(desk.create("t", "SELECT 2 AS id", IfExists::Fail).await, Err(Error::Exists { .. })));
    assert!(matches!(desk.create("v", "SELECT 2 AS id", IfExists::Fail).await, Err(Error::Exists { .. })));
    assert_eq!(desk.create("t", "SELECT 2 AS id", IfExists::Keep).await.unwrap(), None);
    assert!(matches!(desk.create("v", "SELECT 2 AS id", IfExists::Replace).await, Err(Error::NotATable { .. })));
    let view = desk.create_view("t", "SELECT 1 AS id", &columns, IfExists::Replace).await;
    assert!(matches!(view, Err(Error::NotAView { .. })));
    assert!(matches!(desk.insert("v", "SELECT 1").await, Err(Error::NotATable { .. })));
    assert!(matches!(desk.insert("nowhere", "SELECT 1").await, Err(Error::NoSuchTable { .. })));
    assert!(matches!(desk.insert("t", "SELECT 1, 2").await, Err(Error::ColumnCount { expected: 1, found: 2, .. })));
    assert!(matches!(desk.drop(Kind::Table, "v").await, Err(Error::NotATable { .. })));
    assert!(matches!(desk.drop(Kind::View, "t").await, Err(Error::NotAView { .. })));
    assert!(matches!(desk.drop(Kind::Table, "nowhere").await, Err(Error::NoSuchTable { .. })));
    assert!(matches!(desk.drop(Kind::View, "nowhere").await, Err(Error::NoSuchView { .. })));
    assert_eq!(desk.rows("SELECT id FROM work.t").await, "1");
}

#[tokio::test]
async fn columns_are_stored_as_sql_types() {
    let desk = Desk::new();
    let query = "SELECT NULL AS nothing, arrow_cast('d', 'Dictionary(Int32, Utf8)') AS dict, arrow_cast('l', 'LargeUtf8') AS large, \
                 arrow_cast('b', 'LargeBinary') AS bytes, CAST(1.5 AS DECIMAL(20, 3)) AS price, TIME '10:00' AS time, \
                 TIMESTAMP '2024-01-01 00:00:00' AS at, arrow_cast(9, 'UInt8') AS small, true AS yes, \
                 named_struct('a', [1, NULL]) AS deep";
    desk.create("t", query, IfExists::Fail).await.unwrap();
    desk.insert("t", "SELECT 'text', 'e', 'm', 'c', 2, TIME '11:00', TIMESTAMP '2024-01-02 00:00:00', 8, false, named_struct('a', [2])")
        .await
        .unwrap();
    let desk = desk.restart();
    assert_eq!(
        desk.rows("SELECT nothing, dict, large, price, time, at, small, yes, deep FROM work.t ORDER BY dict").await,
        "NULL d l 1.500 10:00:00 2024-01-01T00:00:00 9 true {a: [1, NULL]}\ntext e m 2.000 11:00:00 2024-01-02T00:00:00 8 false {a: [2]}"
    );
    let types =
        desk.rows("SELECT data_type FROM information_schema.columns WHERE table_name = 't' ORDER BY ordinal_position LIMIT 4").await;
    assert_eq!(types, "Utf8View\nUtf8View\nUtf8View\nBinaryView");
}

#[tokio::test]
async fn columns_that_cannot_be_stored_are_refused_by_name() {
    let desk = Desk::new();
    let error = desk.create("t", "SELECT 1 AS id, INTERVAL '1' MONTH AS span", IfExists::Fail).await.unwrap_err();
    assert!(matches!(&error, Error::UnsupportedType { column, .. } if column == "span"), "{error}");
    let field = Arc::new(Field::new("twice", DataType::Int64, true));
    let schema = Arc::new(Schema::new(vec![Arc::clone(&field), field]));
    let error = create_table(&desk.store, "t", &schema, rows_of(&schema, Vec::new()), IfExists::Fail).await.unwrap_err();
    assert!(matches!(&error, Error::DuplicateColumn { column } if column == "twice"), "{error}");
    let schema = Arc::new(Schema::empty());
    let error = create_table(&desk.store, "t", &schema, rows_of(&schema, Vec::new()), IfExists::Fail).await.unwrap_err();
    assert!(matches!(error, Error::NoColumns { .. }), "{error}");
    assert!(desk.files().is_empty());
}

#[tokio::test]
async fn empty_table_keeps_its_columns() {
    let desk = Desk::new();
    assert_eq!(desk.create("t", "SELECT 1 AS id, 'x' AS name WHERE false", IfExists::Fail).await.unwrap(), Some(0));
    let desk = desk.restart();
    assert_eq!(desk.rows("SELECT count(*), max(name) FROM work.t").await, "0 NULL");
    assert_eq!(desk.insert("t", "SELECT 1, 'y' WHERE false").await.unwrap(), 0);
    assert_eq!(desk.insert("t", "SELECT 1, 'y'").await.unwrap(), 1);
    assert_eq!(desk.rows("SELECT id, name FROM work.t").await, "1 y");
    desk.drop(Kind::Table, "t").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_inserts_all_arrive() {
    let desk = Desk::new();
    desk.create("t", "SELECT CAST(0 AS BIGINT) AS id", IfExists::Fail).await.unwrap();
    let mut inserts = tokio::task::JoinSet::new();
    for id in 1..=20 {
        let (store, rows) = (Arc::clone(&desk.store), query_rows(&format!("SELECT {id}")).await.1);
        inserts.spawn(async move { insert(&store, "t", rows).await });
    }
    while let Some(done) = inserts.join_next().await {
        assert_eq!(done.unwrap().unwrap(), 1);
    }
    assert_eq!(desk.rows("SELECT count(*), sum(id) FROM work.t").await, "21 210");
    let desk = desk.restart();
    assert_eq!(desk.rows("SELECT count(*), sum(id) FROM work.t").await, "21 210");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_creators_of_a_name_wins() {
    let desk = Desk::new();
    let mut creators = tokio::task::JoinSet::new();
    for id in 0..8 {
        let (store, (schema, rows)) = (Arc::clone(&desk.store), query_rows(&format!("SELECT {id} AS id")).await);
        creators.spawn(async move { create_table(&store, "t", &schema, rows, IfExists::Fail).await });
    }
    let (mut won, mut refused) = (0, 0);
    while let Some(done) = creators.join_next().await {
        match done.unwrap() {
            Ok(_) => won += 1,
            Err(Error::Exists { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((won, refused), (1, 7));
    assert_eq!(desk.files().len(), 3, "one folder, one manifest, one data file: {:?}", desk.files());
}

#[tokio::test]
async fn rows_of_a_table_that_is_dropped_meanwhile_go_nowhere() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let batch = batches("SELECT 2 AS id").await.remove(0);
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let slow = stream::once({
        let batch = batch.clone();
        async move {
            wait.await.unwrap();
            Ok(batch)
        }
    });
    let slow = Box::pin(RecordBatchStreamAdapter::new(batch.schema(), slow));
    let store = Arc::clone(&desk.store);
    let (inserted, ()) = tokio::join!(insert(&store, "t", slow), async {
        desk.create("t", "SELECT 3 AS id", IfExists::Replace).await.unwrap();
        go.send(()).unwrap();
    });
    assert!(matches!(inserted, Err(Error::Replaced { .. })), "{inserted:?}");
    assert_eq!(desk.rows("SELECT id FROM work.t").await, "3");
    assert_eq!(desk.files().len(), 3, "{:?}", desk.files());
}

#[tokio::test]
async fn limit_on_stored_bytes_refuses_the_statement_and_keeps_the_rest() {
    let desk = Desk::open(tempfile::tempdir().unwrap(), Limits { max_bytes: Some(200_000) });
    let small = "SELECT value AS id FROM generate_series(1, 100)";
    let large = "SELECT md5(CAST(value AS VARCHAR)) AS noise FROM generate_series(1, 100000)";
    desk.create("small", small, IfExists::Fail).await.unwrap();
    let error = desk.create("large", large, IfExists::Fail).await.unwrap_err();
    assert!(matches!(error, Error::QuotaExceeded { limit: 200_000 }), "{error}");
    assert_eq!(desk.files().len(), 3, "{:?}", desk.files());
    assert_eq!(desk.rows("SELECT count(*) FROM work.small").await, "100");
    assert!(desk.store.stored_bytes() > 0);
    // What the failed statement had claimed is free again.
    desk.create("other", small, IfExists::Fail).await.unwrap();
    desk.drop(Kind::Table, "other").await.unwrap();
    desk.drop(Kind::Table, "small").await.unwrap();
    assert_eq!(desk.store.stored_bytes(), 0);
}

#[tokio::test]
async fn damaged_table_is_named_and_others_serve() {
    let desk = Desk::new();
    desk.create("bad", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let file = desk.only_data_file();
    desk.create("good", "SELECT 2 AS id", IfExists::Fail).await.unwrap();
    fs::write(&file, "cut").unwrap();
    let desk = desk.restart();
    assert_eq!(desk.rows("SELECT id FROM work.good").await, "2");
    let error = crate::fixture::run(&desk.session, "SELECT * FROM work.bad").await.unwrap_err();
    let Some(catalog::Error::Damaged { path, reason }) = catalog::Error::find(&error) else { panic!("{error}") };
    assert!(path.starts_with("tables/bad-") && reason.starts_with("it has 3 bytes"), "{path}: {reason}");
    assert!(file.exists(), "what is damaged is not deleted");
    assert!(matches!(desk.insert("bad", "SELECT 3").await, Err(Error::Broken(_))));
    desk.drop(Kind::Table, "bad").await.unwrap();
    assert!(!file.exists());
}

#[tokio::test]
async fn damaged_manifest_keeps_its_files() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let file = desk.only_data_file();
    let manifest = file.with_file_name("manifest.json");
    let text = fs::read(&manifest).unwrap();
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    let desk = desk.restart();
    assert!(file.exists());
    let name = file.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let error = crate::fixture::run(&desk.session, &format!("SELECT * FROM work.\"{name}\"")).await.unwrap_err();
    assert!(matches!(catalog::Error::find(&error), Some(catalog::Error::Damaged { .. })), "{error}");
    fs::write(&manifest, text).unwrap();
    assert_eq!(desk.restart().rows("SELECT id FROM work.t").await, "1");
}

#[tokio::test]
async fn many_small_inserts_do_not_become_many_files() {
    let desk = Desk::new();
    desk.create("t", "SELECT CAST(0 AS BIGINT) AS id, 'zero' AS name", IfExists::Fail).await.unwrap();
    let early = desk.session.sql("SELECT id FROM work.t WHERE id >= 0").await.unwrap().create_physical_plan().await.unwrap();
    for id in 1..=100 {
        desk.insert("t", &format!("SELECT {id}, 'n{id}'")).await.unwrap();
    }
    assert_eq!(desk.rows("SELECT count(*), sum(id), min(id), max(name) FROM work.t").await, "101 5050 0 zero");
    let batches = collect(early, desk.session.task_ctx()).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1, "an old statement reads the old file");
    let files = desk.files().iter().filter(|name| name.ends_with(".parquet")).count();
    assert!(files <= 40, "{files} files");
    let desk = desk.restart();
    assert_eq!(desk.rows("SELECT count(*), sum(id) FROM work.t").await, "101 5050");
}
