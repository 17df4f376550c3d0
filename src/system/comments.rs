//! What things are for: comments of users, and the documentation of our own relations and functions.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, TableProvider};
use datafusion::common::Result;

use super::rows::Rows;
use super::{System, relations, routines};
use crate::store::{Draft, Id};

/// What is said of a relation, or of one of its columns from 1.
pub(super) fn of(draft: &Draft, schema: &str, relation: &str, column: Option<usize>) -> Option<String> {
    if let Some(table) = stratagem_udfs::catalog::tables().iter().find(|table| schema == "ml" && table.name == relation) {
        return match column {
            None => Some(table.summary.to_owned()),
            Some(column) => table.columns.get(column.checked_sub(1)?).map(|column| column.docs.to_owned()),
        };
    }
    let id = Id::new(schema, relation);
    let comments = draft.comments(&id);
    match column {
        None => comments.relation,
        Some(column) => comments.columns.get(draft.column(&id, column.checked_sub(1)?)?.as_str()).cloned(),
    }
}

/// A comment: the catalog of what it is about, that one's number, and the column or 0.
struct Comment {
    catalog: u32,
    number: u32,
    column: i32,
    text: String,
}

pub(super) async fn pg_description(system: &System, draft: &Draft, database: &Arc<dyn CatalogProvider>) -> Result<Arc<dyn TableProvider>> {
    let (relation, function) = (system.relation("pg_catalog", "pg_class"), system.relation("pg_catalog", "pg_proc"));
    let mut all: Vec<Comment> =
        routines::all().map(|(number, docs)| Comment { catalog: function, number, column: 0, text: docs.to_owned() }).collect();
    for found in relations::relations(system, database).await? {
        let about = |column| of(draft, &found.schema, &found.name, column);
        let comment = |column: i32, text| Comment { catalog: relation, number: found.number, column, text };
        all.extend(about(None).map(|text| comment(0, text)));
        let columns = 1..=found.columns.fields().len();
        all.extend(columns.filter_map(|column| Some(comment(i32::try_from(column).ok()?, about(Some(column))?))));
    }
    Rows::default()
        .oids("objoid", all.iter().map(|comment| comment.number))
        .oids("classoid", all.iter().map(|comment| comment.catalog))
        .integers("objsubid", all.iter().map(|comment| comment.column))
        .texts("description", all.iter().map(|comment| Some(&comment.text)))
        .table()
}
