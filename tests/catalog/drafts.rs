//! Transactions: what a draft changes is seen by nobody else, then by everybody, all of it or nothing.

use std::fs;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use stratagem::catalog::DataCatalog;
use stratagem::store::{Comments, Draft, Error, Id, IfExists, Kind, SCHEMA, TEMPORARY};

use crate::fixture;
use crate::store::{Desk, query_rows, work};

/// The answer of a query that sees a draft.
async fn seen(draft: &Arc<Draft>, query: &str) -> String {
    let catalog = DataCatalog::empty();
    for schema in draft.schemas() {
        catalog.mount(&schema, draft.schema(&schema).unwrap());
    }
    fixture::rows(&fixture::session(&Arc::new(catalog)), query).await
}

async fn create(draft: &Draft, name: &str, query: &str) {
    let (schema, rows) = query_rows(query).await;
    draft.create_table(&work(name), &schema, rows, IfExists::Fail).await.unwrap();
}

async fn insert(draft: &Draft, name: &str, query: &str) {
    draft.insert(&work(name), query_rows(query).await.1).await.unwrap();
}

async fn rewrite(draft: &Draft, name: &str, query: &str) {
    let (schema, rows) = query_rows(query).await;
    draft.hold(&work(name)).unwrap();
    draft.rewrite(&work(name), &schema, rows).await.unwrap();
}

#[tokio::test]
async fn changes_are_their_sessions_own_until_they_are_committed() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let (one, other) = (desk.store.draft(), desk.store.draft());
    insert(&one, "t", "SELECT 2").await;
    create(&one, "u", "SELECT 3 AS id").await;
    assert_eq!(seen(&one, "SELECT sum(t.id), max(u.id) FROM work.t, work.u").await, "3 3");
    assert_eq!(seen(&other, "SELECT sum(id) FROM work.t").await, "1");
    assert!(!other.contains(&work("u")));
    one.commit().await.unwrap();
    assert_eq!(seen(&other, "SELECT sum(id) FROM work.t").await, "3");
    let desk = desk.restart_without(vec![one, other]);
    assert_eq!(desk.rows("SELECT sum(t.id), max(u.id) FROM work.t, work.u").await, "3 3");
}

#[tokio::test]
async fn what_is_rolled_back_leaves_nothing() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let before = desk.files();
    let draft = desk.store.draft();
    insert(&draft, "t", "SELECT 2").await;
    create(&draft, "u", "SELECT 3 AS id").await;
    create(&draft, "empty", "SELECT 3 AS id WHERE false").await;
    draft.rename(Kind::Table, &work("t"), "s").unwrap();
    draft.create_schema("later").unwrap();
    draft.rollback();
    assert_eq!(seen(&draft, "SELECT sum(id) FROM work.t").await, "1");
    assert_eq!(draft.schemas(), [SCHEMA]);
    assert_eq!(desk.files(), before);
}

#[tokio::test]
async fn a_savepoint_is_gone_back_to() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let draft = desk.store.draft();
    insert(&draft, "t", "SELECT 2").await;
    let saved = draft.save();
    draft.truncate(&work("t")).unwrap();
    draft.drop_relation(Kind::Table, &work("t")).unwrap();
    draft.restore(&saved);
    assert_eq!(seen(&draft, "SELECT sum(id) FROM work.t").await, "3");
    draft.commit().await.unwrap();
    assert_eq!(desk.rows("SELECT sum(id) FROM work.t").await, "3");
}

#[tokio::test]
async fn of_two_that_change_the_same_the_second_is_refused() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let (one, other) = (desk.store.draft(), desk.store.draft());
    rewrite(&one, "t", "SELECT 10 AS id").await;
    rewrite(&other, "t", "SELECT 20 AS id").await;
    one.commit().await.unwrap();
    assert!(matches!(other.commit().await, Err(Error::Conflict { .. })));
    assert_eq!(seen(&other, "SELECT id FROM work.t").await, "10", "the refused one sees what is committed");

    // rows that are added to what another changes are not lost, and are not seen half
    insert(&one, "t", "SELECT 11").await;
    insert(&other, "t", "SELECT 12").await;
    one.commit().await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(desk.rows("SELECT id FROM work.t ORDER BY id").await, "10\n11\n12");
}

#[tokio::test]
async fn a_pinned_draft_reads_one_state() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let draft = desk.store.draft();
    draft.pin();
    desk.insert("t", "SELECT 2").await.unwrap();
    assert_eq!(seen(&draft, "SELECT sum(id) FROM work.t").await, "1");
    draft.commit().await.unwrap();
    assert_eq!(seen(&draft, "SELECT sum(id) FROM work.t").await, "3");
}

#[tokio::test]
async fn two_tables_that_change_names_do_so_together() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    let draft = desk.store.draft();
    create(&draft, "next", "SELECT 2 AS id").await;
    draft.rename(Kind::Table, &work("t"), "backup").unwrap();
    draft.rename(Kind::Table, &work("next"), "t").unwrap();
    draft.drop_relation(Kind::Any, &work("backup")).unwrap();
    draft.commit().await.unwrap();
    assert_eq!(desk.rows("SELECT id FROM work.t").await, "2");
    assert_eq!(desk.files().len(), 3, "one folder, one manifest, one data file: {:?}", desk.files());
    let desk = desk.restart_without(vec![draft]);
    assert_eq!(desk.rows("SELECT id FROM work.t").await, "2");
}

#[tokio::test]
async fn a_change_of_several_manifests_that_was_interrupted_is_finished() {
    let desk = Desk::new();
    desk.create("t", "SELECT 1 AS id", IfExists::Fail).await.unwrap();
    desk.create("u", "SELECT 2 AS id", IfExists::Fail).await.unwrap();
    // as if the server had died behind the first of two manifests: the journal is there
    let folder = |name: &str| {
        let found = desk.files().into_iter().find(|file| file.starts_with(&format!("tables/{name}-")) && !file.contains('.'));
        found.unwrap().strip_prefix("tables/").unwrap().to_owned()
    };
    let path = desk.state.path().join("tables").join(folder("t")).join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    manifest["name"] = "renamed".into();
    let journal = serde_json::json!({ "format": 1, "manifests": { folder("t"): manifest, folder("u"): null } });
    fs::write(desk.state.path().join("journal.json"), journal.to_string()).unwrap();

    let desk = desk.restart();
    assert_eq!(desk.rows("SELECT id FROM work.renamed").await, "1");
    assert!(!desk.contains("t") && !desk.contains("u"));
    assert!(!desk.files().iter().any(|file| file.contains("journal") || file.starts_with("tables/u-")), "{:?}", desk.files());
}

#[tokio::test]
async fn temporary_tables_are_their_sessions_own_and_leave_nothing() {
    let desk = Desk::new();
    let draft = desk.store.draft();
    let id = Id::new(TEMPORARY, "t");
    let (schema, rows) = query_rows("SELECT 1 AS id").await;
    draft.create_table(&id, &schema, rows, IfExists::Fail).await.unwrap();
    draft.commit().await.unwrap();
    draft.insert(&id, query_rows("SELECT 2").await.1).await.unwrap();
    draft.rollback();
    assert_eq!(seen(&draft, "SELECT sum(id) FROM pg_temp.t").await, "1");
    assert!(!desk.store.draft().contains(&id));
    drop(draft);
    assert!(desk.files().is_empty(), "{:?}", desk.files());
}

#[tokio::test]
async fn schemas_and_comments_are_kept() {
    let desk = Desk::new();
    let draft = desk.store.draft();
    draft.create_schema("marts").unwrap();
    assert!(matches!(draft.create_schema("marts"), Err(Error::SchemaExists { .. })));
    let id = Id::new("marts", "t");
    let (schema, rows) = query_rows("SELECT 1 AS id").await;
    draft.create_table(&id, &schema, rows, IfExists::Fail).await.unwrap();
    let comments = Comments { relation: Some("a mart".to_owned()), columns: [("id".to_owned(), "its key".to_owned())].into() };
    draft.comment(Kind::Table, &id, comments.clone()).unwrap();
    draft.commit().await.unwrap();

    let desk = desk.restart_without(vec![draft]);
    let draft = desk.store.draft();
    assert_eq!(draft.schemas(), ["marts", SCHEMA]);
    assert_eq!(draft.comments(&id), comments);
    assert_eq!(seen(&draft, "SELECT id FROM marts.t").await, "1");
    assert!(matches!(draft.drop_schema("marts", false), Err(Error::SchemaInUse { .. })));
    let table: Arc<dyn TableProvider> = draft.schema("marts").unwrap().table("t").await.unwrap().unwrap();
    draft.drop_schema("marts", true).unwrap();
    draft.commit().await.unwrap();
    drop(table);
    assert!(desk.files().is_empty(), "{:?}", desk.files());
}

#[tokio::test]
async fn a_table_in_a_schema_that_is_dropped_meanwhile_is_refused() {
    let desk = Desk::new();
    let (one, other) = (desk.store.draft(), desk.store.draft());
    one.create_schema("s").unwrap();
    one.commit().await.unwrap();
    let (schema, rows) = query_rows("SELECT 1 AS id").await;
    other.create_table(&Id::new("s", "t"), &schema, rows, IfExists::Fail).await.unwrap();
    one.drop_schema("s", false).unwrap();
    one.commit().await.unwrap();
    assert!(matches!(other.commit().await, Err(Error::NoSuchSchema { .. })));
    drop((one, other));
    assert!(desk.files().is_empty(), "{:?}", desk.files());
}
