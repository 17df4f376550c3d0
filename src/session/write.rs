//! The commands that create, fill and drop tables, views and schemas.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{ParamValues, TableReference};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{ColumnDef, Query, Statement};
use futures::StreamExt;
use tokio_util::task::AbortOnDropHandle;

use super::{Outcome, Session, done, no_rows};
use crate::names;
use crate::planner;
use crate::sqlstate::{Severity, SqlError, SqlState, internal};
use crate::statement::Name;
use crate::store::{self, Id, IfExists, Kind, TEMPORARY};

impl Session {
    pub(super) async fn create_table_as(
        &mut self,
        target: &Name,
        if_not_exists: bool,
        columns: &[String],
        query: &Query,
        values: Option<ParamValues>,
    ) -> Result<Outcome, SqlError> {
        let id = self.writable(target)?;
        if self.draft.contains(&id) {
            return self.exists(taken(&id), if_not_exists, "CREATE TABLE AS");
        }
        let plan = self.plan_with(Statement::Query(Box::new(query.clone())), values).await?;
        if stratagem_udfs::writes(&plan) {
            return Err(SqlError::new(SqlState::FeatureNotSupported, "finetune can't be the query of CREATE TABLE AS")
                .with_hint("run it by itself; ml.training_metrics keeps what it answers"));
        }
        let schema = renamed(plan.schema().as_arrow(), columns)?;
        let stream = with_schema(self.stream(&plan).await?, Arc::clone(&schema));
        let draft = Arc::clone(&self.draft);
        let rows = self.on_compute(async move { draft.create_table(&id, &schema, stream, IfExists::Fail).await }).await?;
        Ok(done(&format!("SELECT {}", rows.unwrap_or_default())))
    }

    pub(super) async fn create_table(&mut self, target: &Name, if_not_exists: bool, columns: &[ColumnDef]) -> Result<Outcome, SqlError> {
        let id = self.writable(target)?;
        if self.draft.contains(&id) {
            return self.exists(taken(&id), if_not_exists, "CREATE TABLE");
        }
        let schema: SchemaRef = Arc::new(planner::table_schema(&self.state, columns)?);
        let stream = no_rows(Arc::clone(&schema))?;
        let draft = Arc::clone(&self.draft);
        self.on_compute(async move { draft.create_table(&id, &schema, stream, IfExists::Fail).await }).await?;
        Ok(done("CREATE TABLE"))
    }

    pub(super) async fn insert(&mut self, target: &Name, statement: &Statement, values: Option<ParamValues>) -> Result<Outcome, SqlError> {
        let id = self.writable_existing(target).await?;
        let plan = self.plan_with(statement.clone(), values).await?;
        let LogicalPlan::Dml(DmlStatement { op: WriteOp::Insert(_), input, target: table, .. }) = &plan else {
            return Err(internal("INSERT was planned as something else"));
        };
        let stream = with_schema(self.stream(input).await?, table.schema());
        let draft = Arc::clone(&self.draft);
        let rows = self.on_compute(async move { draft.insert(&id, stream).await }).await?;
        Ok(done(&format!("INSERT 0 {rows}")))
    }

    pub(super) async fn create_view(&mut self, target: &Name, or_replace: bool, query: &Query) -> Result<Outcome, SqlError> {
        let id = self.writable(target)?;
        // planned once for its columns, and so that a view that can't work is not made
        let statement = Statement::Query(Box::new(query.clone()));
        let schema = renamed(self.plan(statement, Vec::new()).await?.logical.schema().as_arrow(), &[])?;
        let if_exists = if or_replace { IfExists::Replace } else { IfExists::Fail };
        self.draft.create_view(&id, &query.to_string(), &schema, if_exists)?;
        Ok(done("CREATE VIEW"))
    }

    pub(super) async fn drop_relations(&mut self, view: bool, if_exists: bool, targets: &[Name]) -> Result<Outcome, SqlError> {
        let (kind, words) = if view { (Kind::View, "DROP VIEW") } else { (Kind::Table, "DROP TABLE") };
        for target in targets {
            let dropped = match self.writable_existing(target).await {
                Ok(id) => self.draft.drop_relation(kind, &id).map_err(SqlError::from),
                Err(error) => Err(error),
            };
            match dropped {
                Err(error) if if_exists && error.state == SqlState::UndefinedTable => {
                    let what = if view { "view" } else { "table" };
                    let message = format!("{what} \"{}\" does not exist, skipping", target.table);
                    self.tell(SqlError::notice(Severity::Notice, SqlState::SuccessfulCompletion, message));
                }
                other => other?,
            }
        }
        Ok(done(words))
    }

    pub(super) fn create_schema(&mut self, name: &str, if_not_exists: bool) -> Result<Outcome, SqlError> {
        if name.starts_with("pg_") {
            return Err(SqlError::new(SqlState::ReservedName, format!("unacceptable schema name \"{name}\""))
                .with_detail("the prefix \"pg_\" is reserved for system schemas"));
        }
        if name == "information_schema" || self.schema_exists(name) {
            let error = SqlError::new(SqlState::DuplicateSchema, format!("schema \"{name}\" already exists"));
            return self.exists(error, if_not_exists, "CREATE SCHEMA");
        }
        self.draft.create_schema(name)?;
        Ok(done("CREATE SCHEMA"))
    }

    pub(super) fn drop_schemas(&mut self, names: &[String], if_exists: bool, cascade: bool) -> Result<Outcome, SqlError> {
        for name in names {
            match self.draft.drop_schema(name, cascade) {
                Err(store::Error::NoSuchSchema { .. }) if self.schema_exists(name) => {
                    let message = format!("permission denied: schema \"{name}\" can't be dropped");
                    return Err(SqlError::new(SqlState::InsufficientPrivilege, message)
                        .with_hint("only schemas made with CREATE SCHEMA can be dropped"));
                }
                Err(error @ store::Error::NoSuchSchema { .. }) if if_exists => {
                    let message = format!("{error}, skipping");
                    self.tell(SqlError::notice(Severity::Notice, SqlState::SuccessfulCompletion, message));
                }
                other => other?,
            }
        }
        Ok(done("DROP SCHEMA"))
    }

    fn schema_exists(&self, name: &str) -> bool {
        self.state.catalog_list().catalog(planner::DATABASE).is_some_and(|database| database.schema(name).is_some())
    }

    /// Does a piece of writing on the compute runtime. Dropping the future abandons it.
    pub(super) async fn on_compute<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, store::Error>> + Send + 'static,
    ) -> Result<T, SqlError> {
        let task = AbortOnDropHandle::new(self.engine.compute.spawn(work));
        match task.await {
            Ok(result) => result.map_err(SqlError::from),
            Err(error) if error.is_panic() => Err(internal(&crate::cancel::panic_text(error.into_panic().as_ref()))),
            Err(error) => Err(internal(&error.to_string())),
        }
    }

    /// The place of a new relation, if its schema can be written to.
    fn writable(&self, target: &Name) -> Result<Id, SqlError> {
        let path = self.settings.search_path();
        match target.schema.as_ref().or(path.first()) {
            Some(schema) if self.draft.schema(schema).is_some() => Ok(Id::new(schema.as_str(), target.table.as_str())),
            Some(schema) if self.schema_exists(schema) => Err(read_only(schema, &target.table)),
            Some(schema) => Err(SqlError::new(SqlState::InvalidSchemaName, format!("schema \"{schema}\" does not exist"))
                .with_hint(format!("CREATE SCHEMA {schema}"))),
            None => Err(SqlError::new(SqlState::InvalidSchemaName, "no schema has been selected to create in")
                .with_hint("SET search_path = work, public")),
        }
    }

    /// The place of a relation that is there, if its schema can be written to.
    pub(super) async fn writable_existing(&self, target: &Name) -> Result<Id, SqlError> {
        let path = self.settings.search_path();
        let reference = match &target.schema {
            Some(schema) => TableReference::partial(schema.as_str(), target.table.as_str()),
            None => TableReference::bare(target.table.as_str()),
        };
        let schemas = match &target.schema {
            Some(schema) => std::slice::from_ref(schema),
            None => path.as_slice(),
        };
        let temporary = target.schema.is_none().then_some(TEMPORARY);
        for schema in temporary.into_iter().chain(schemas.iter().map(String::as_str)) {
            let id = Id::new(schema, target.table.as_str());
            if self.draft.contains(&id) {
                return Ok(id);
            }
            let reference = TableReference::partial(schema, target.table.as_str());
            if planner::find(&self.state, &path, &reference).await?.is_some() {
                return Err(read_only(schema, &target.table));
            }
        }
        Err(planner::no_such_table(&self.state, &reference))
    }
}

fn read_only(schema: &str, table: &str) -> SqlError {
    SqlError::new(SqlState::InsufficientPrivilege, format!("permission denied: \"{table}\" in {schema} is read-only data"))
        .with_hint(format!("tables and views made with SQL live in the schema \"{0}\": {0}.{table}", store::SCHEMA))
}

/// The columns a table is made with: as PostgreSQL names them, nullable, without the engine's marks.
fn renamed(schema: &Schema, columns: &[String]) -> Result<SchemaRef, SqlError> {
    if columns.len() > schema.fields().len() {
        return Err(SqlError::new(SqlState::SyntaxError, "too many column names were specified"));
    }
    let given = columns.iter().map(String::as_str);
    let own = schema.fields().iter().skip(columns.len()).map(|f| names::shown(f.name()));
    let names: Vec<&str> = given.chain(own).collect();
    if let Some(twice) = names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(name)) {
        return Err(SqlError::new(SqlState::DuplicateColumn, format!("column \"{twice}\" specified more than once"))
            .with_hint("give each an alias of its own"));
    }
    let fields = names.iter().zip(schema.fields()).map(|(name, f)| Field::new(*name, f.data_type().clone(), true));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The same columns under the names of `schema`.
fn with_schema(stream: SendableRecordBatchStream, schema: SchemaRef) -> SendableRecordBatchStream {
    let to = Arc::clone(&schema);
    let renamed = stream.map(move |batch| {
        let batch = batch?;
        let columns = batch.columns().iter().zip(to.fields()).map(|(c, f)| datafusion::arrow::compute::cast(c, f.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(datafusion::arrow::array::RecordBatch::try_new_with_options(Arc::clone(&to), columns, &options)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, renamed))
}

/// The error for the name of a relation that is there.
fn taken(id: &Id) -> SqlError {
    let name = &id.name;
    SqlError::new(SqlState::DuplicateTable, format!("relation \"{name}\" already exists"))
        .with_hint(format!("DROP TABLE {name} first, or choose another name"))
}
