//! The system catalog as far as it shows what this server has: schemas, relations, columns and functions. What every PostgreSQL has, such
//! as its types, comes from `datafusion-pg-catalog`.

mod activity;
mod channels;
mod comments;
mod format;
mod functions;
mod information;
mod locks;
mod relations;
mod routines;
mod rows;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{CatalogProvider, TableProvider};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder, lit};
use pgwire::api::Type;

use crate::cancel::Backends;
use crate::session::Own;
use crate::store::Draft;

use activity::Activity;
pub(crate) use activity::Presence;
pub(crate) use channels::{Channels, Message, Post, ear};
pub(crate) use functions::{Answer, Asked, acting, follow, owner};
pub(crate) use locks::{Key, Locks, Mode, Until, Wish, mode_name};
pub(crate) use relations::{Setting, pg_roles, pg_settings};
pub(crate) use routines::named;

/// Who owns everything: the number of PostgreSQL's first role.
const OWNER: i32 = 10;

/// The first number of what is not the same in every PostgreSQL.
const FIRST: u32 = 16_384;

/// The relations of `pg_catalog` that list what this server never has. They are planned as nothing, which spares the engine what it
/// can't do with them.
const EMPTY: [&str; 27] = [
    "pg_attrdef",
    "pg_collation",
    "pg_constraint",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_enum",
    "pg_event_trigger",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_matviews",
    "pg_partitioned_table",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_rewrite",
    "pg_seclabel",
    "pg_sequence",
    "pg_statistic_ext",
    "pg_subscription",
    "pg_transform",
    "pg_trigger",
    "pg_user_mapping",
];

/// Whether a relation of `pg_catalog` never has a row.
pub(crate) fn is_empty(name: &str) -> bool {
    EMPTY.contains(&name)
}

/// What the sessions of a server know their relations by.
#[derive(Debug)]
pub(crate) struct System {
    /// Where the data is: the data folder and the tables that SQL made.
    folders: Vec<PathBuf>,
    /// When the server began.
    pub(crate) began: DateTime<Utc>,
    activity: Activity,
    pub(crate) backends: Arc<Backends>,
    pub(crate) channels: Channels,
    pub(crate) locks: Arc<Locks>,
    numbers: Mutex<Numbers>,
}

/// The numbers of schemas and relations, which stay what they are as long as the server runs.
#[derive(Debug, Default)]
struct Numbers {
    by_name: HashMap<(String, Option<String>), u32>,
    by_number: HashMap<u32, Known>,
}

/// A schema, or a relation in it.
#[derive(Debug, Clone)]
struct Known {
    schema: String,
    relation: Option<String>,
    /// Bytes on disk, when the relation was last listed.
    bytes: Option<u64>,
}

impl System {
    pub(crate) fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            began: Utc::now(),
            activity: Activity::default(),
            backends: Arc::default(),
            channels: Channels::default(),
            locks: Arc::default(),
            numbers: Mutex::default(),
        }
    }

    /// Bytes of all Parquet files.
    fn bytes(&self) -> i64 {
        let mut folders = self.folders.clone();
        let mut bytes = 0_u64;
        while let Some(folder) = folders.pop() {
            // what can't be read has no size that is known
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else if entry.path().extension().is_some_and(|extension| extension == "parquet") {
                    bytes += metadata.len();
                }
            }
        }
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        // nothing panics while it is held
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a schema.
    fn schema(&self, name: &str) -> u32 {
        match name {
            "pg_catalog" => 11,
            "public" => 2200,
            "information_schema" => 13_283,
            name => self.number(name, None),
        }
    }

    /// The number of a relation.
    fn relation(&self, schema: &str, name: &str) -> u32 {
        self.number(schema, Some(name))
    }

    fn number(&self, schema: &str, relation: Option<&str>) -> u32 {
        let mut numbers = self.numbers();
        let name = (schema.to_owned(), relation.map(str::to_owned));
        let next = FIRST + u32::try_from(numbers.by_name.len()).unwrap_or_default();
        let next = if schema == "pg_catalog" { relation.and_then(fixed).unwrap_or(next) } else { next };
        let number = *numbers.by_name.entry(name.clone()).or_insert(next);
        numbers.by_number.entry(number).or_insert(Known { schema: name.0, relation: name.1, bytes: None });
        number
    }

    fn know_size(&self, number: u32, bytes: Option<u64>) {
        if let Some(known) = self.numbers().by_number.get_mut(&number) {
            known.bytes = bytes;
        }
    }

    /// The relation of a number, with its schema.
    fn find(&self, number: u32) -> Option<(String, String, Option<u64>)> {
        let known = self.numbers().by_number.get(&number).cloned()?;
        Some((known.schema, known.relation?, known.bytes))
    }
}

/// The schemas there are: those of relations, those of functions, and the standard's.
fn schema_names(database: &Arc<dyn CatalogProvider>) -> Vec<String> {
    let mut names = database.schema_names();
    names.extend(routines::schemas().map(str::to_owned));
    names.push("information_schema".to_owned());
    names.sort();
    names.dedup();
    names
}

/// The numbers that clients know by heart.
fn fixed(relation: &str) -> Option<u32> {
    Some(match relation {
        "pg_type" => 1247,
        "pg_attribute" => 1249,
        "pg_proc" => 1255,
        "pg_class" => 1259,
        "pg_database" => 1262,
        "pg_constraint" => 2606,
        "pg_description" => 2609,
        "pg_namespace" => 2615,
        _ => return None,
    })
}

/// A relation of `pg_catalog` that shows this server; none of those that every PostgreSQL has.
pub(crate) async fn table(state: &SessionState, database: &Arc<dyn CatalogProvider>, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    let config = state.config();
    let (Some(system), Some(draft)) = (config.get_extension::<System>(), config.get_extension::<Draft>()) else { return Ok(None) };
    let table = match name {
        "pg_namespace" => relations::pg_namespace(&system, database)?,
        "pg_class" => relations::pg_class(&system, database).await?,
        "pg_attribute" => relations::pg_attribute(&system, database).await?,
        "pg_locks" => system.locks.pg_locks()?,
        "pg_stat_activity" => system.activity.pg_stat_activity()?,
        "pg_indexes" => relations::pg_indexes()?,
        "pg_tables" => relations::pg_tables(&system, database).await?,
        "pg_database" => relations::pg_database()?,
        "pg_views" => relations::pg_views(&draft)?,
        "pg_description" => comments::pg_description(&system, &draft, database).await?,
        name if matches!(name, "pg_language" | "pg_proc" | "pg_tablespace" | "pg_type") || is_empty(name) => {
            let Some(schema) = database.schema("pg_catalog") else { return Ok(None) };
            let Some(general) = schema.table(name).await? else { return Ok(None) };
            match name {
                "pg_proc" => routines::pg_proc(&system, general)?,
                name if is_empty(name) => nothing(name, &general)?,
                _ => without_privileges(general)?,
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(table))
}

/// A relation of `information_schema`; none where the engine's own will do.
pub(crate) async fn of_information_schema(
    state: &SessionState,
    database: &Arc<dyn CatalogProvider>,
    name: &str,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let config = state.config();
    let (Some(system), Some(draft), Some(own)) =
        (config.get_extension::<System>(), config.get_extension::<Draft>(), config.get_extension::<Own>())
    else {
        return Ok(None);
    };
    information::information(&system, &draft, database, own.user(), name).await
}

/// What PostgreSQL calls a type in `format_type` and where it casts to regtype.
pub(crate) fn type_name(wire: &Type) -> &str {
    match *wire {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::CHAR => "\"char\"",
        Type::BPCHAR => "character",
        Type::VARCHAR => "character varying",
        Type::TIME => "time without time zone",
        Type::TIMESTAMP => "timestamp without time zone",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        Type::BOOL_ARRAY => "boolean[]",
        Type::INT2_ARRAY => "smallint[]",
        Type::INT4_ARRAY => "integer[]",
        Type::INT8_ARRAY => "bigint[]",
        Type::FLOAT4_ARRAY => "real[]",
        Type::FLOAT8_ARRAY => "double precision[]",
        Type::TEXT_ARRAY => "text[]",
        _ => wire.name(),
    }
}

/// A relation whose lists of privileges are lists, which they are not in the export it comes from, and empty.
fn without_privileges(general: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let columns = general.schema();
    let plan = LogicalPlanBuilder::scan("general", provider_as_source(general), None)?;
    let none = ScalarValue::try_from(&DataType::new_list(DataType::Utf8, true))?;
    let columns = columns.fields().iter().map(|field| match field.name().ends_with("acl") && !field.data_type().is_nested() {
        true => lit(none.clone()).alias(field.name()),
        false => Expr::Column(Column::new(Some("general"), field.name())),
    });
    let plan = plan.project(columns.collect::<Vec<_>>())?;
    // what it is called is for those who ask
    Ok(Arc::new(ViewTable::new(plan.build()?, None)))
}

/// A relation with these columns and no row. Some have columns by the names that they had in PostgreSQL 15 and 16.
fn nothing(name: &str, general: &Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let older: &[&str] = if name == "pg_collation" { &["colliculocale"] } else { &[] };
    let plan = LogicalPlanBuilder::scan("nothing", provider_as_source(Arc::clone(general)), None)?;
    let columns = plan.schema().columns().into_iter().map(Expr::Column);
    let older = older.iter().map(|name| lit(ScalarValue::Utf8(None)).alias(*name));
    let plan = plan.clone().project(columns.chain(older).collect::<Vec<_>>())?.build()?;
    let plan = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::clone(plan.schema()) });
    Ok(Arc::new(ViewTable::new(plan, None)))
}
