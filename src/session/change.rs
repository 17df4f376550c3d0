//! DELETE, UPDATE and ALTER TABLE: each is a query of the rows that the table has afterwards.

mod columns;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ParamValues;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{
    AssignmentTarget, Delete, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, Statement,
    TableAlias, TableFactor, TableWithJoins, Update, UpdateTableFromKind, Visit, VisitMut, Visitor, VisitorMut,
};
use futures::StreamExt;

use super::{Outcome, Session, done};
use crate::names::{self, quoted};
use crate::planner;
use crate::sqlstate::{Severity, SqlError, SqlState, internal};
use crate::statement::{Alteration, Name, parse_one};
use crate::store::{self, Id, Kind};
use columns::Columns;

/// The column that says whether a row is changed. No name in SQL has this form by chance.
const HIT: &str = "?hit";

/// The column that numbers the rows of the changed table.
const ROW: &str = "?row";

impl Session {
    pub(super) async fn delete(&mut self, target: &Name, delete: &Delete, values: Option<ParamValues>) -> Result<Outcome, SqlError> {
        let id = self.writable_existing(target).await?;
        let saved = self.draft.save();
        let before = self.draft.hold(&id).map_err(|error| not_a_table(error, "cannot delete from view"))?;
        if delete.selection.is_none() && delete.using.is_none() {
            self.draft.truncate(&id)?;
            return Ok(done(&format!("DELETE {before}")));
        }
        let schema = self.draft.columns(&id)?;
        let after = self.rewrite(&id, schema, kept(delete)?, values).await?;
        if before == after {
            self.draft.restore(&saved);
        }
        Ok(done(&format!("DELETE {}", before - after)))
    }

    pub(super) async fn update(&mut self, target: &Name, update: &Update, values: Option<ParamValues>) -> Result<Outcome, SqlError> {
        let id = self.writable_existing(target).await?;
        let saved = self.draft.save();
        self.draft.hold(&id).map_err(|error| not_a_table(error, "cannot update view"))?;
        let schema = self.draft.columns(&id)?;
        let statement = updated(update, &schema)?;
        let parted = matches!(&statement, Statement::Query(query) if !matches!(*query.body, SetExpr::Select(_)));
        let plan = self.plan_with(statement, values).await?;
        if parted && is_volatile(&plan)? {
            let message = "UPDATE with a subquery and a function such as random() in one condition is not supported";
            return Err(SqlError::new(SqlState::FeatureNotSupported, message).with_hint("join the subquery with FROM"));
        }
        let (stream, hits) = counted(self.stream(&plan).await?, Arc::clone(&schema));
        let draft = Arc::clone(&self.draft);
        self.on_compute(async move { draft.rewrite(&id, &schema, stream).await }).await?;
        let hits = hits.load(Ordering::Relaxed);
        if hits == 0 {
            self.draft.restore(&saved);
        }
        Ok(done(&format!("UPDATE {hits}")))
    }

    /// The query whose types of parameters are those of an UPDATE.
    pub(super) async fn update_as_query(&self, target: &Name, update: &Update) -> Result<Statement, SqlError> {
        let id = self.writable_existing(target).await?;
        let schema = self.draft.columns(&id).map_err(|error| not_a_table(error, "cannot update view"))?;
        updated(update, &schema)
    }

    /// The same of a DELETE.
    pub(super) async fn delete_as_query(&self, target: &Name, delete: &Delete) -> Result<Statement, SqlError> {
        self.writable_existing(target).await?;
        kept(delete)
    }

    pub(super) async fn truncate(&mut self, targets: &[Name]) -> Result<Outcome, SqlError> {
        for target in targets {
            let id = self.writable_existing(target).await?;
            self.draft.truncate(&id)?;
        }
        Ok(done("TRUNCATE TABLE"))
    }

    /// Puts the rows of a query in the place of those of a table.
    async fn rewrite(&mut self, id: &Id, schema: SchemaRef, query: Statement, values: Option<ParamValues>) -> Result<u64, SqlError> {
        let plan = self.plan_with(query, values).await?;
        let (stream, draft, id) = (self.stream(&plan).await?, Arc::clone(&self.draft), id.clone());
        self.on_compute(async move { draft.rewrite(&id, &schema, stream).await }).await
    }

    /// What ALTER is about; nothing, with a notice, where it is not there and need not be.
    async fn writable_if_exists(&mut self, target: &Name, if_exists: bool) -> Result<Option<Id>, SqlError> {
        match self.writable_existing(target).await {
            Err(error) if if_exists && error.state == SqlState::UndefinedTable => {
                self.skip(&error);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    pub(super) async fn alter(&mut self, target: &Name, if_exists: bool, alterations: &[Alteration]) -> Result<Outcome, SqlError> {
        let Some(id) = self.writable_if_exists(target, if_exists).await? else { return Ok(done("ALTER TABLE")) };
        self.draft.hold(&id)?;
        let mut columns = Columns::of(&id, &self.draft.columns(&id)?, self.draft.comments(&id));
        for alteration in alterations {
            if let Some(skipped) = columns.apply(alteration, |column| planner::table_schema(&self.state, &[column]))? {
                self.tell(SqlError::notice(Severity::Notice, SqlState::SuccessfulCompletion, format!("{skipped}, skipping")));
            }
        }
        if columns.changed {
            self.rewrite(&id, Arc::new(Schema::new(columns.fields())), columns.query(&id)?, None).await?;
            self.draft.comment(Kind::Table, &id, columns.comments)?;
        }
        Ok(done("ALTER TABLE"))
    }

    pub(super) async fn rename(&mut self, kind: Kind, target: &Name, if_exists: bool, to: &str, tag: &str) -> Result<Outcome, SqlError> {
        let Some(id) = self.writable_if_exists(target, if_exists).await? else { return Ok(done(tag)) };
        self.draft.rename(kind, &id, to)?;
        Ok(done(tag))
    }

    pub(super) async fn comment(
        &mut self,
        kind: Kind,
        target: &Name,
        column: Option<&str>,
        text: Option<&str>,
    ) -> Result<Outcome, SqlError> {
        let id = self.writable_existing(target).await?;
        let mut comments = self.draft.comments(&id);
        match column {
            None => comments.relation = text.map(str::to_owned),
            Some(column) => {
                let schema = match self.draft.schema(&id.schema) {
                    Some(schema) => schema.table(&id.name).await?.map(|table| table.schema()),
                    None => None,
                };
                if schema.is_none_or(|schema| schema.column_with_name(column).is_none()) {
                    return Err(no_such_column(&id, column));
                }
                match text {
                    Some(text) => comments.columns.insert(column.to_owned(), text.to_owned()),
                    None => comments.columns.remove(column),
                };
            }
        }
        self.draft.comment(kind, &id, comments)?;
        Ok(done("COMMENT"))
    }
}

/// Whether a plan may answer otherwise when it is run again.
fn is_volatile(plan: &LogicalPlan) -> Result<bool, SqlError> {
    let mut volatile = false;
    plan.apply_with_subqueries(|node| {
        volatile |= node.expressions().iter().any(datafusion::logical_expr::Expr::is_volatile);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(volatile)
}

fn not_a_table(error: store::Error, message: &str) -> SqlError {
    match error {
        store::Error::NotATable { name } => SqlError::new(SqlState::WrongObjectType, format!("{message} \"{name}\"")),
        other => other.into(),
    }
}

fn no_such_column(id: &Id, column: &str) -> SqlError {
    SqlError::new(SqlState::UndefinedColumn, format!("column \"{column}\" of relation \"{}\" does not exist", id.name))
}

/// The rows that a DELETE leaves: those for which its condition is not true.
fn kept(delete: &Delete) -> Result<Statement, SqlError> {
    use datafusion::sql::sqlparser::ast::FromTable;
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let condition = condition(delete.selection.as_ref())?;
    let keep = match &delete.using {
        None => Expr::IsNotTrue(Box::new(Expr::Nested(Box::new(condition)))),
        Some(using) => {
            let mut found = parse_one("SELECT 1 AS one FROM found")?;
            let select = select(&mut found)?;
            select.from.clone_from(using);
            select.selection = Some(condition);
            Expr::Exists { subquery: query(found)?, negated: true }
        }
    };
    let mut statement = parse_one("SELECT * FROM kept")?;
    let rows = select(&mut statement)?;
    rows.from.clone_from(from);
    rows.selection = Some(keep);
    Ok(statement)
}

/// The rows that a table has after an UPDATE, and whether each was changed by it.
fn updated(update: &Update, schema: &SchemaRef) -> Result<Statement, SqlError> {
    let table = shown_name(&update.table.relation)?;
    let id = Id::new("", table.value.as_str());
    let mut new: Vec<Option<Expr>> = vec![None; schema.fields().len()];
    for (column, value) in assignments(update)? {
        let Some((at, field)) = schema.column_with_name(&column) else { return Err(no_such_column(&id, &column)) };
        if new[at].replace(cast(local(value)?, field.data_type())?).is_some() {
            return Err(SqlError::new(SqlState::SyntaxError, format!("multiple assignments to same column \"{column}\"")));
        }
    }
    let condition = condition(update.selection.as_ref())?;
    let (from, hit) = match &update.from {
        None if asks(&condition) => return parted(update, schema, &new, condition),
        None => {
            let mut marked = parse_one(&format!("SELECT *, true AS \"{HIT}\" FROM t"))?;
            let inner = select(&mut marked)?;
            inner.from = vec![update.table.clone()];
            if let Some(SelectItem::ExprWithAlias { expr, .. }) = inner.projection.last_mut() {
                *expr = Expr::IsTrue(Box::new(Expr::Nested(Box::new(condition))));
            }
            (TableWithJoins { relation: derived(query(marked)?, &table), joins: Vec::new() }, table.clone())
        }
        Some(UpdateTableFromKind::BeforeSet(_)) => return Err(SqlError::new(SqlState::SyntaxError, "FROM comes after SET")),
        Some(UpdateTableFromKind::AfterSet(sources)) => {
            let mut numbered = parse_one(&format!("SELECT *, row_number() OVER () AS \"{ROW}\" FROM t"))?;
            select(&mut numbered)?.from = vec![update.table.clone()];
            let (source, hit) = joined(sources)?;
            let on = JoinOperator::LeftOuter(JoinConstraint::On(condition));
            let joins = vec![Join { relation: source, global: false, join_operator: on }];
            (TableWithJoins { relation: derived(query(numbered)?, &table), joins }, hit)
        }
    };
    let distinct = if update.from.is_some() { format!("DISTINCT ON ({table}.\"{ROW}\") ") } else { String::new() };
    let hit = format!("{hit}.\"{HIT}\"");
    let mut list = String::new();
    for (field, new) in schema.fields().iter().zip(&new) {
        let name = quoted(field.name());
        // the new value takes the place of the first NULL
        let value = if new.is_some() { format!("CASE WHEN {hit} THEN NULL ELSE {table}.{name} END") } else { format!("{table}.{name}") };
        list.push_str(&format!("{value} AS {name}, "));
    }
    let mut statement = parse_one(&format!("SELECT {distinct}{list}{hit} IS TRUE AS \"{HIT}\" FROM t"))?;
    let rows = select(&mut statement)?;
    rows.from = vec![from];
    for (item, new) in rows.projection.iter_mut().zip(new) {
        if let (SelectItem::ExprWithAlias { expr: Expr::Case { conditions, .. }, .. }, Some(new)) = (item, new)
            && let Some(when) = conditions.first_mut()
        {
            when.result = new;
        }
    }
    Ok(statement)
}

/// The same by way of two queries, one of the rows that change and one of the others: the engine takes a condition that asks a query
/// behind WHERE only.
fn parted(update: &Update, schema: &SchemaRef, new: &[Option<Expr>], condition: Expr) -> Result<Statement, SqlError> {
    let table = shown_name(&update.table.relation)?;
    let part = |hit: bool, condition: Expr| -> Result<Box<SetExpr>, SqlError> {
        let column = |field: &Arc<Field>| format!("{table}.{0} AS {0}", quoted(field.name()));
        let list: Vec<String> = schema.fields().iter().map(column).collect();
        let mut statement = parse_one(&format!("SELECT {}, {hit} AS \"{HIT}\" FROM t", list.join(", ")))?;
        let rows = select(&mut statement)?;
        rows.from = vec![update.table.clone()];
        rows.selection = Some(condition);
        for (item, new) in rows.projection.iter_mut().zip(new).filter(|_| hit) {
            if let (SelectItem::ExprWithAlias { expr, .. }, Some(new)) = (item, new) {
                *expr = new.clone();
            }
        }
        Ok(query(statement)?.body)
    };
    let mut both = parse_one("SELECT 1 AS a UNION ALL SELECT 2 AS a")?;
    if let Statement::Query(both) = &mut both
        && let SetExpr::SetOperation { left, right, .. } = both.body.as_mut()
    {
        *left = part(true, condition.clone())?;
        *right = part(false, Expr::IsNotTrue(Box::new(Expr::Nested(Box::new(condition)))))?;
    }
    Ok(both)
}

/// Whether a condition asks a query.
fn asks(condition: &Expr) -> bool {
    struct Search;
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            match expression {
                Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    condition.visit(&mut Search).is_break()
}

/// What the columns are set to.
fn assignments(update: &Update) -> Result<Vec<(String, Expr)>, SqlError> {
    let column =
        |name: &ObjectName| names::last(name).ok_or_else(|| SqlError::new(SqlState::SyntaxError, format!("{name} is not a column")));
    let mut all = Vec::new();
    for assignment in &update.assignments {
        match (&assignment.target, &assignment.value) {
            (AssignmentTarget::ColumnName(name), value) => all.push((column(name)?, value.clone())),
            (AssignmentTarget::Tuple(names), Expr::Tuple(values)) if names.len() == values.len() => {
                for (name, value) in names.iter().zip(values) {
                    all.push((column(name)?, value.clone()));
                }
            }
            (AssignmentTarget::Tuple(_), Expr::Tuple(_)) => {
                return Err(SqlError::new(SqlState::SyntaxError, "number of columns does not match number of values"));
            }
            (AssignmentTarget::Tuple(_), _) => {
                return Err(SqlError::new(SqlState::FeatureNotSupported, "UPDATE of several columns from a query is not supported")
                    .with_hint("set each column by itself, or join the query with FROM"));
            }
        }
    }
    Ok(all)
}

/// The sources of an UPDATE as one relation, and the name of the part of it that says whether there is a row.
fn joined(sources: &[TableWithJoins]) -> Result<(TableFactor, Ident), SqlError> {
    let Some((first, others)) = sources.split_first() else { return Err(internal("UPDATE FROM nothing")) };
    let name = shown_name(&first.relation)?;
    let mut marked = parse_one(&format!("SELECT *, true AS \"{HIT}\" FROM t"))?;
    select(&mut marked)?.from = vec![TableWithJoins { relation: first.relation.clone(), joins: Vec::new() }];
    let relation = derived(query(marked)?, &name);
    let mut joins = first.joins.clone();
    for other in others {
        let cross = JoinOperator::CrossJoin(JoinConstraint::None);
        joins.push(Join { relation: other.relation.clone(), global: false, join_operator: cross });
        joins.extend(other.joins.iter().cloned());
    }
    if joins.is_empty() {
        return Ok((relation, name));
    }
    Ok((TableFactor::NestedJoin { table_with_joins: Box::new(TableWithJoins { relation, joins }), alias: None }, name))
}

fn condition(selection: Option<&Expr>) -> Result<Expr, SqlError> {
    match selection {
        Some(selection) => local(selection.clone()),
        None => expression("true"),
    }
}

/// The same expression with columns named by their table alone, which is what the tables of the query are called.
fn local(mut expression: Expr) -> Result<Expr, SqlError> {
    struct Shorten;
    impl VisitorMut for Shorten {
        type Break = ();

        fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
            if let Expr::CompoundIdentifier(parts) = expression
                && parts.len() > 2
            {
                parts.drain(..parts.len() - 2);
            }
            ControlFlow::Continue(())
        }
    }
    let _: ControlFlow<()> = VisitMut::visit(&mut expression, &mut Shorten);
    Ok(expression)
}

/// The value as the column stores it. A type without a name in SQL is left to the writing.
fn cast(value: Expr, data_type: &DataType) -> Result<Expr, SqlError> {
    let sql = match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE PRECISION".to_owned(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "TEXT".to_owned(),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "BYTEA".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".to_owned(),
        DataType::Decimal128(precision, scale) => format!("NUMERIC({precision}, {scale})"),
        _ => return Ok(value),
    };
    let mut whole = expression(&format!("CAST(NULL AS {sql})"))?;
    if let Expr::Cast { expr, .. } = &mut whole {
        **expr = value;
    }
    Ok(whole)
}

/// What a relation of a query is called in it.
fn shown_name(factor: &TableFactor) -> Result<Ident, SqlError> {
    let name = match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. } => Some(alias.name.clone()),
        TableFactor::Table { name, .. } => name.0.last().and_then(|part| part.as_ident()).cloned(),
        _ => None,
    };
    name.ok_or_else(|| SqlError::new(SqlState::SyntaxError, format!("{factor} needs a name")).with_hint("give it one with AS"))
}

fn derived(subquery: Box<Query>, name: &Ident) -> TableFactor {
    let alias = Some(TableAlias { explicit: true, name: name.clone(), columns: Vec::new(), at: None });
    TableFactor::Derived { lateral: false, subquery, alias, sample: None }
}

fn query(statement: Statement) -> Result<Box<Query>, SqlError> {
    match statement {
        Statement::Query(query) => Ok(query),
        _ => Err(internal("a query was parsed as something else")),
    }
}

fn select(statement: &mut Statement) -> Result<&mut Select, SqlError> {
    match statement {
        Statement::Query(query) => match query.body.as_mut() {
            SetExpr::Select(select) => Ok(select),
            _ => Err(internal("a select was parsed as something else")),
        },
        _ => Err(internal("a query was parsed as something else")),
    }
}

fn expression(text: &str) -> Result<Expr, SqlError> {
    let mut statement = parse_one(&format!("SELECT {text} AS e"))?;
    match select(&mut statement)?.projection.pop() {
        Some(SelectItem::ExprWithAlias { expr, .. }) => Ok(expr),
        _ => Err(internal("an expression was parsed as something else")),
    }
}

/// The rows without the column that says whether they were changed, and the number of those that were.
fn counted(stream: SendableRecordBatchStream, schema: SchemaRef) -> (SendableRecordBatchStream, Arc<AtomicU64>) {
    let hits = Arc::new(AtomicU64::new(0));
    let (counter, count) = (Arc::clone(&hits), schema.fields().len());
    let rows = stream.map(move |batch| {
        let batch: RecordBatch = batch?;
        counter.fetch_add(batch.column(count).as_boolean().true_count() as u64, Ordering::Relaxed);
        Ok(batch.project(&(0..count).collect::<Vec<_>>())?)
    });
    (Box::pin(RecordBatchStreamAdapter::new(schema, rows)), hits)
}
