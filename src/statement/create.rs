//! CREATE TABLE and CREATE VIEW.

use datafusion::sql::sqlparser::ast::{ColumnOption, CreateTable, CreateView, OnCommit, Statement};

use super::{Command, name, parse_one, read_only, unsupported};
use crate::names::folded;
use crate::sqlstate::{SqlError, SqlState};
use crate::store::TEMPORARY;

pub(super) fn table(table: CreateTable) -> Result<Command, SqlError> {
    if table.external || table.location.is_some() || table.file_format.is_some() {
        return Err(SqlError::new(
            SqlState::InsufficientPrivilege,
            "CREATE EXTERNAL TABLE is not allowed: SQL has no access to files or the network",
        )
        .with_hint("put the Parquet file into the server's data folder and it becomes a table"));
    }
    if table.or_replace || table.like.is_some() || table.clone.is_some() {
        return Err(unsupported("this form of CREATE TABLE")
            .with_hint("CREATE TABLE name AS SELECT ... and CREATE TABLE name (column type, ...) are"));
    }
    if !matches!(table.on_commit, None | Some(OnCommit::PreserveRows)) {
        return Err(unsupported("CREATE TABLE with ON COMMIT").with_hint("a temporary table is kept until the session ends or drops it"));
    }
    let mut target = name(&table.name)?;
    if table.temporary {
        if target.schema.as_deref().is_some_and(|schema| schema != TEMPORARY) {
            return Err(SqlError::new(SqlState::InvalidTableDefinition, "cannot create temporary relation in non-temporary schema"));
        }
        target.schema = Some(TEMPORARY.to_owned());
    }
    let constrained = table.columns.iter().any(|c| c.options.iter().any(|o| !matches!(o.option, ColumnOption::Null)));
    if constrained || !table.constraints.is_empty() {
        return Err(unsupported("a constraint or default in CREATE TABLE"));
    }
    Ok(match table.query {
        Some(query) => {
            read_only(&query)?;
            let columns = table.columns.iter().map(|c| folded(&c.name)).collect();
            Command::CreateTableAs { target, if_not_exists: table.if_not_exists, columns, query }
        }
        None => Command::CreateTable { target, if_not_exists: table.if_not_exists, columns: table.columns },
    })
}

pub(super) fn view(view: CreateView) -> Result<Command, SqlError> {
    if view.materialized || view.temporary || view.or_alter || view.if_not_exists {
        return Err(unsupported("this form of CREATE VIEW").with_hint("CREATE [OR REPLACE] VIEW name AS SELECT ... is"));
    }
    read_only(&view.query)?;
    let target = name(&view.name)?;
    let query = if view.columns.is_empty() {
        view.query
    } else {
        let columns: Vec<String> = view.columns.iter().map(|c| c.name.to_string()).collect();
        let text = format!("SELECT * FROM ({}) AS v ({})", view.query, columns.join(", "));
        let Statement::Query(query) = parse_one(&text)? else { return Err(unsupported("this form of CREATE VIEW")) };
        query
    };
    Ok(Command::CreateView { target, or_replace: view.or_replace, query })
}
