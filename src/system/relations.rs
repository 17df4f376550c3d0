//! Schemas, relations and columns.

use std::any::Any;
use std::sync::Arc;

use arrow_pg::datatypes::into_pg_type;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{CatalogProvider, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::TableType;
use pgwire::api::Type;

use super::rows::Rows;
use super::{OWNER, System};
use crate::catalog::ParquetTable;
use crate::planner::DATABASE;
use crate::store::{Draft, StoredTable, TEMPORARY};

pub(super) struct Relation {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) kind: &'static str,
    pub(super) columns: SchemaRef,
}

pub(super) fn pg_namespace(system: &System, database: &Arc<dyn CatalogProvider>) -> Result<Arc<dyn TableProvider>> {
    let names = super::schema_names(database);
    Rows::default()
        .oids("oid", names.iter().map(|name| system.schema(name)))
        .texts("nspname", names.iter().map(Some))
        .oids("nspowner", names.iter().map(|_| OWNER.cast_unsigned()))
        .no_lists("nspacl", names.len())
        .table()
}

/// Every relation, read as far as its columns.
pub(super) async fn relations(system: &System, database: &Arc<dyn CatalogProvider>) -> Result<Vec<Relation>> {
    let mut relations = Vec::new();
    for schema in database.schema_names() {
        let Some(tables) = database.schema(&schema) else { continue };
        let mut names = tables.table_names();
        names.sort();
        for name in names {
            // what was dropped in between is not listed
            let Some(table) = tables.table(&name).await? else { continue };
            let kind = if table.table_type() == TableType::View { "v" } else { "r" };
            let number = system.relation(&schema, &name);
            system.know_size(number, bytes(table.as_ref()));
            relations.push(Relation { schema: schema.clone(), name, number, kind, columns: table.schema() });
        }
    }
    Ok(relations)
}

/// Bytes of a table's files.
fn bytes(table: &dyn TableProvider) -> Option<u64> {
    let table = table as &dyn Any;
    let files = table.downcast_ref::<ParquetTable>().or_else(|| table.downcast_ref::<StoredTable>().map(StoredTable::parquet));
    files.map(ParquetTable::byte_count)
}

pub(super) async fn pg_class(system: &System, database: &Arc<dyn CatalogProvider>) -> Result<Arc<dyn TableProvider>> {
    let all = relations(system, database).await?;
    let rows = all.len();
    let zeros = || std::iter::repeat_n(0_u32, rows);
    let never = || std::iter::repeat_n(false, rows);
    Rows::default()
        .oids("oid", all.iter().map(|r| r.number))
        .texts("relname", all.iter().map(|r| Some(&r.name)))
        .oids("relnamespace", all.iter().map(|r| system.schema(&r.schema)))
        .oids("reltype", zeros())
        .oids("reloftype", zeros())
        .oids("relowner", std::iter::repeat_n(OWNER.cast_unsigned(), rows))
        .oids("relam", zeros())
        .oids("relfilenode", all.iter().map(|r| r.number))
        .oids("reltablespace", zeros())
        .integers("relpages", std::iter::repeat_n(0, rows))
        // not known
        .reals("reltuples", std::iter::repeat_n(-1.0, rows))
        .integers("relallvisible", std::iter::repeat_n(0, rows))
        .oids("reltoastrelid", zeros())
        .switches("relhasindex", never())
        .switches("relisshared", never())
        .texts("relpersistence", all.iter().map(|r| Some(if r.schema == TEMPORARY { "t" } else { "p" })))
        .texts("relkind", all.iter().map(|r| Some(r.kind)))
        .shorts("relnatts", all.iter().map(|r| i16::try_from(r.columns.fields().len()).unwrap_or(i16::MAX)))
        .shorts("relchecks", std::iter::repeat_n(0, rows))
        .switches("relhasrules", all.iter().map(|r| r.kind == "v"))
        .switches("relhastriggers", never())
        .switches("relhassubclass", never())
        .switches("relrowsecurity", never())
        .switches("relforcerowsecurity", never())
        .switches("relispopulated", std::iter::repeat_n(true, rows))
        .texts("relreplident", std::iter::repeat_n(Some("d"), rows))
        .switches("relispartition", never())
        .oids("relrewrite", zeros())
        .integers("relfrozenxid", std::iter::repeat_n(0, rows))
        .integers("relminmxid", std::iter::repeat_n(0, rows))
        .no_lists("relacl", rows)
        .no_lists("reloptions", rows)
        .texts("relpartbound", std::iter::repeat_n(None::<&str>, rows))
        .table()
}

pub(super) async fn pg_attribute(system: &System, database: &Arc<dyn CatalogProvider>) -> Result<Arc<dyn TableProvider>> {
    let relations = relations(system, database).await?;
    let all: Vec<_> = relations.iter().flat_map(|r| r.columns.fields().iter().zip(1_i16..).map(move |(f, n)| (r.number, f, n))).collect();
    let types: Vec<_> = all.iter().map(|(_, field, _)| Stored::of(field.data_type())).collect();
    let rows = all.len();
    let never = || std::iter::repeat_n(false, rows);
    Rows::default()
        .oids("attrelid", all.iter().map(|(relation, ..)| *relation))
        .texts("attname", all.iter().map(|(_, field, _)| Some(field.name())))
        .oids("atttypid", types.iter().map(|t| t.number))
        .shorts("attlen", types.iter().map(|t| t.length))
        .shorts("attnum", all.iter().map(|(.., number)| *number))
        .integers("attcacheoff", std::iter::repeat_n(-1, rows))
        .integers("atttypmod", types.iter().map(|t| t.modifier))
        .shorts("attndims", types.iter().map(|t| i16::from(t.array)))
        .switches("attbyval", types.iter().map(|t| t.length > 0))
        .texts("attalign", std::iter::repeat_n(Some("i"), rows))
        .texts("attstorage", types.iter().map(|t| Some(if t.length > 0 { "p" } else { "x" })))
        .texts("attcompression", std::iter::repeat_n(Some(""), rows))
        .switches("attnotnull", all.iter().map(|(_, field, _)| !field.is_nullable()))
        .switches("atthasdef", never())
        .switches("atthasmissing", never())
        .texts("attidentity", std::iter::repeat_n(Some(""), rows))
        .texts("attgenerated", std::iter::repeat_n(Some(""), rows))
        .switches("attisdropped", never())
        .switches("attislocal", std::iter::repeat_n(true, rows))
        .shorts("attinhcount", std::iter::repeat_n(0, rows))
        .shorts("attstattarget", std::iter::repeat_n(-1, rows))
        .oids("attcollation", std::iter::repeat_n(0, rows))
        .no_lists("attacl", rows)
        .no_lists("attoptions", rows)
        .no_lists("attfdwoptions", rows)
        .no_lists("attmissingval", rows)
        .table()
}

/// How PostgreSQL would store a type.
struct Stored {
    number: u32,
    length: i16,
    modifier: i32,
    array: bool,
}

impl Stored {
    fn of(data_type: &DataType) -> Self {
        let wire = into_pg_type(data_type).unwrap_or(Type::TEXT);
        let length = match wire {
            Type::BOOL => 1,
            Type::INT2 => 2,
            Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
            Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
            Type::INTERVAL => 16,
            _ => -1,
        };
        let modifier = match data_type {
            DataType::Decimal128(precision, scale) => (i32::from(*precision) << 16 | i32::from(*scale) & 0xffff) + 4,
            _ => -1,
        };
        let number = if wire == Type::UNKNOWN { Type::TEXT.oid() } else { wire.oid() };
        Self { number, length, modifier, array: data_type.is_list() }
    }
}

/// The one role there is: whoever asks, as clients are not told apart.
pub(crate) fn pg_roles(user: &str) -> Result<Arc<dyn TableProvider>> {
    Rows::default()
        .texts("rolname", [Some(user)])
        .switches("rolsuper", [false])
        .switches("rolinherit", [true])
        .switches("rolcreaterole", [false])
        .switches("rolcreatedb", [false])
        .switches("rolcanlogin", [true])
        .switches("rolreplication", [false])
        .integers("rolconnlimit", [-1])
        .texts("rolpassword", [Some("********")])
        .texts("rolvaliduntil", [None::<&str>])
        .switches("rolbypassrls", [false])
        .no_lists("rolconfig", 1)
        .oids("oid", [OWNER.cast_unsigned()])
        .table()
}

pub(super) fn pg_views(draft: &Draft) -> Result<Arc<dyn TableProvider>> {
    let views = draft.views();
    Rows::default()
        .texts("schemaname", views.iter().map(|(id, _)| Some(&id.schema)))
        .texts("viewname", views.iter().map(|(id, _)| Some(&id.name)))
        .texts("viewowner", views.iter().map(|_| None::<&str>))
        .texts("definition", views.iter().map(|(_, text)| Some(text)))
        .table()
}

pub(super) async fn pg_tables(system: &System, database: &Arc<dyn CatalogProvider>) -> Result<Arc<dyn TableProvider>> {
    let mut all = relations(system, database).await?;
    all.retain(|relation| relation.kind == "r");
    let never = || std::iter::repeat_n(false, all.len());
    Rows::default()
        .texts("schemaname", all.iter().map(|r| Some(&r.schema)))
        .texts("tablename", all.iter().map(|r| Some(&r.name)))
        .texts("tableowner", all.iter().map(|_| None::<&str>))
        .texts("tablespace", all.iter().map(|_| None::<&str>))
        .switches("hasindexes", never())
        .switches("hasrules", never())
        .switches("hastriggers", never())
        .switches("rowsecurity", never())
        .table()
}

/// The indexes, of which there are none.
pub(super) fn pg_indexes() -> Result<Arc<dyn TableProvider>> {
    let columns = ["schemaname", "tablename", "indexname", "tablespace", "indexdef"];
    columns.into_iter().fold(Rows::default(), |rows, column| rows.texts(column, std::iter::empty::<Option<&str>>())).table()
}

/// The one database.
pub(super) fn pg_database() -> Result<Arc<dyn TableProvider>> {
    Rows::default()
        .oids("oid", [1])
        .texts("datname", [Some(DATABASE)])
        .oids("datdba", [OWNER.cast_unsigned()])
        .integers("encoding", [6])
        .texts("datlocprovider", [Some("c")])
        .switches("datistemplate", [false])
        .switches("datallowconn", [true])
        .integers("datconnlimit", [-1])
        .integers("datfrozenxid", [0])
        .integers("datminmxid", [0])
        .oids("dattablespace", [1663])
        .texts("datcollate", [Some("C.UTF-8")])
        .texts("datctype", [Some("C.UTF-8")])
        .texts("daticulocale", [None::<&str>])
        .texts("daticurules", [None::<&str>])
        .texts("datcollversion", [None::<&str>])
        .no_lists("datacl", 1)
        .table()
}

/// A setting as `pg_settings` shows it.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) about: &'static str,
    pub(crate) context: &'static str,
    pub(crate) data_type: &'static str,
    pub(crate) source: &'static str,
    pub(crate) built_in: &'static str,
    pub(crate) default: String,
}

pub(crate) fn pg_settings(all: &[Setting]) -> Result<Arc<dyn TableProvider>> {
    let none = || all.iter().map(|_| None::<&str>);
    Rows::default()
        .texts("name", all.iter().map(|s| Some(s.name)))
        .texts("setting", all.iter().map(|s| Some(&s.value)))
        .texts("unit", none())
        .texts("category", all.iter().map(|s| Some(if s.name.contains('.') { "Customized Options" } else { "Client Connection Defaults" })))
        .texts("short_desc", all.iter().map(|s| Some(s.about)))
        .texts("extra_desc", none())
        .texts("context", all.iter().map(|s| Some(s.context)))
        .texts("vartype", all.iter().map(|s| Some(s.data_type)))
        .texts("source", all.iter().map(|s| Some(s.source)))
        .texts("min_val", none())
        .texts("max_val", none())
        .no_lists("enumvals", all.len())
        .texts("boot_val", all.iter().map(|s| Some(s.built_in)))
        .texts("reset_val", all.iter().map(|s| Some(&s.default)))
        .texts("sourcefile", none())
        .texts("sourceline", none())
        .switches("pending_restart", all.iter().map(|_| false))
        .table()
}
