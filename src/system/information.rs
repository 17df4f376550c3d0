//! The schema `information_schema`: what the standard says of tables, columns, views and schemas, in PostgreSQL's words.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{CatalogProvider, TableProvider};
use datafusion::common::Result;
use pgwire::api::Type;

use super::relations::{Relation, relations};
use super::rows::Rows;
use super::{System, type_name};
use crate::encode::wire_type;
use crate::planner::DATABASE;
use crate::store::{Draft, TEMPORARY};

/// Relations that never have a row, with their columns.
const EMPTY: [(&str, &str); 11] = [
    ("check_constraints", "constraint_catalog constraint_schema constraint_name check_clause"),
    ("column_privileges", "grantor grantee table_catalog table_schema table_name column_name privilege_type is_grantable"),
    ("constraint_column_usage", "table_catalog table_schema table_name column_name constraint_catalog constraint_schema constraint_name"),
    ("constraint_table_usage", "table_catalog table_schema table_name constraint_catalog constraint_schema constraint_name"),
    ("domains", "domain_catalog domain_schema domain_name data_type domain_default udt_catalog udt_schema udt_name dtd_identifier"),
    (
        "key_column_usage",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name column_name ordinal_position position_in_unique_constraint",
    ),
    (
        "referential_constraints",
        "constraint_catalog constraint_schema constraint_name unique_constraint_catalog unique_constraint_schema unique_constraint_name match_option update_rule delete_rule",
    ),
    (
        "sequences",
        "sequence_catalog sequence_schema sequence_name data_type numeric_precision numeric_precision_radix numeric_scale start_value minimum_value maximum_value increment cycle_option",
    ),
    (
        "table_constraints",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name constraint_type is_deferrable initially_deferred enforced nulls_distinct",
    ),
    ("table_privileges", "grantor grantee table_catalog table_schema table_name privilege_type is_grantable with_hierarchy"),
    (
        "triggers",
        "trigger_catalog trigger_schema trigger_name event_manipulation event_object_catalog event_object_schema event_object_table action_order action_condition action_statement action_orientation action_timing",
    ),
];

/// A relation of the schema; none where the engine's own will do.
pub(crate) async fn information(
    system: &System,
    draft: &Draft,
    database: &Arc<dyn CatalogProvider>,
    user: &str,
    name: &str,
) -> Result<Option<Arc<dyn TableProvider>>> {
    if let Some((_, columns)) = EMPTY.iter().find(|(empty, _)| *empty == name) {
        return nulls(Rows::default(), columns, 0).table().map(Some);
    }
    let writable = draft.schemas();
    let is_writable = |relation: &Relation| relation.kind == "r" && writable.contains(&relation.schema);
    Ok(Some(match name {
        "tables" => tables(&relations(system, database).await?, is_writable)?,
        "columns" => columns(&relations(system, database).await?, is_writable)?,
        "views" => views(&relations(system, database).await?, draft)?,
        "schemata" => schemata(database, user)?,
        "information_schema_catalog_name" => Rows::default().texts("catalog_name", [Some(DATABASE)]).table()?,
        _ => return Ok(None),
    }))
}

/// Columns without values.
fn nulls(rows: Rows, names: &str, count: usize) -> Rows {
    names.split(' ').fold(rows, |rows, name| rows.texts(name, std::iter::repeat_n(None::<&str>, count)))
}

fn yes(value: bool) -> Option<&'static str> {
    Some(if value { "YES" } else { "NO" })
}

fn tables(all: &[Relation], is_writable: impl Fn(&Relation) -> bool) -> Result<Arc<dyn TableProvider>> {
    let kind = |relation: &Relation| match relation.kind {
        "v" => "VIEW",
        _ if relation.schema == TEMPORARY => "LOCAL TEMPORARY",
        _ => "BASE TABLE",
    };
    let rows = Rows::default()
        .texts("table_catalog", all.iter().map(|_| Some(DATABASE)))
        .texts("table_schema", all.iter().map(|r| Some(&r.schema)))
        .texts("table_name", all.iter().map(|r| Some(&r.name)))
        .texts("table_type", all.iter().map(|r| Some(kind(r))));
    let missing =
        "self_referencing_column_name reference_generation user_defined_type_catalog user_defined_type_schema user_defined_type_name";
    nulls(rows, missing, all.len())
        .texts("is_insertable_into", all.iter().map(|r| yes(is_writable(r))))
        .texts("is_typed", all.iter().map(|_| yes(false)))
        .texts("commit_action", all.iter().map(|r| (r.schema == TEMPORARY).then_some("PRESERVE")))
        .table()
}

fn columns(relations: &[Relation], is_writable: impl Fn(&Relation) -> bool) -> Result<Arc<dyn TableProvider>> {
    let all: Vec<_> = relations.iter().flat_map(|r| r.columns.fields().iter().zip(1_i32..).map(move |(field, n)| (r, field, n))).collect();
    let types: Vec<Type> = all.iter().map(|(_, field, _)| wire_type(field)).collect();
    let precision = |wire: &Type, data_type: &DataType| match (wire, data_type) {
        (_, DataType::Decimal128(precision, scale)) => Some((i32::from(*precision), 10, Some(i32::from(*scale)))),
        (&Type::INT2, _) => Some((16, 2, Some(0))),
        (&Type::INT4, _) => Some((32, 2, Some(0))),
        (&Type::INT8, _) => Some((64, 2, Some(0))),
        (&Type::FLOAT4, _) => Some((24, 2, None)),
        (&Type::FLOAT8, _) => Some((53, 2, None)),
        _ => None,
    };
    let precisions: Vec<_> = all.iter().zip(&types).map(|((_, field, _), wire)| precision(wire, field.data_type())).collect();
    let data_type = |wire: &Type| if wire.name().starts_with('_') { "ARRAY".to_owned() } else { type_name(wire).to_owned() };
    let of_time = |wire: &Type| match *wire {
        Type::DATE => Some(0),
        Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::INTERVAL => Some(6),
        _ => None,
    };
    let rows = Rows::default()
        .texts("table_catalog", all.iter().map(|_| Some(DATABASE)))
        .texts("table_schema", all.iter().map(|(r, ..)| Some(&r.schema)))
        .texts("table_name", all.iter().map(|(r, ..)| Some(&r.name)))
        .texts("column_name", all.iter().map(|(_, field, _)| Some(field.name())))
        .integers("ordinal_position", all.iter().map(|(.., number)| *number))
        .texts("column_default", all.iter().map(|_| None::<&str>))
        .texts("is_nullable", all.iter().map(|(_, field, _)| yes(field.is_nullable())))
        .texts("data_type", types.iter().map(|wire| Some(data_type(wire))))
        .numbers("character_maximum_length", all.iter().map(|_| None))
        .numbers("character_octet_length", types.iter().map(|wire| (*wire == Type::TEXT).then_some(1_073_741_824)))
        .numbers("numeric_precision", precisions.iter().map(|known| known.map(|(precision, ..)| precision)))
        .numbers("numeric_precision_radix", precisions.iter().map(|known| known.map(|(_, radix, _)| radix)))
        .numbers("numeric_scale", precisions.iter().map(|known| known.and_then(|(.., scale)| scale)))
        .numbers("datetime_precision", types.iter().map(of_time));
    let missing = "interval_type interval_precision character_set_catalog character_set_schema character_set_name collation_catalog collation_schema collation_name domain_catalog domain_schema domain_name";
    let rows = nulls(rows, missing, all.len())
        .texts("udt_catalog", all.iter().map(|_| Some(DATABASE)))
        .texts("udt_schema", all.iter().map(|_| Some("pg_catalog")))
        .texts("udt_name", types.iter().map(|wire| Some(if *wire == Type::RECORD { "record" } else { wire.name() })));
    nulls(rows, "scope_catalog scope_schema scope_name maximum_cardinality", all.len())
        .texts("dtd_identifier", all.iter().map(|(.., number)| Some(number.to_string())))
        .texts("is_self_referencing", all.iter().map(|_| yes(false)))
        .texts("is_identity", all.iter().map(|_| yes(false)))
        .texts("identity_generation", all.iter().map(|_| None::<&str>))
        .texts("identity_start", all.iter().map(|_| None::<&str>))
        .texts("identity_increment", all.iter().map(|_| None::<&str>))
        .texts("identity_maximum", all.iter().map(|_| None::<&str>))
        .texts("identity_minimum", all.iter().map(|_| None::<&str>))
        .texts("identity_cycle", all.iter().map(|_| yes(false)))
        .texts("is_generated", all.iter().map(|_| Some("NEVER")))
        .texts("generation_expression", all.iter().map(|_| None::<&str>))
        .texts("is_updatable", all.iter().map(|(r, ..)| yes(is_writable(r))))
        .table()
}

fn views(relations: &[Relation], draft: &Draft) -> Result<Arc<dyn TableProvider>> {
    let definitions = draft.views();
    let all: Vec<_> = relations.iter().filter(|relation| relation.kind == "v").collect();
    let definition = |relation: &Relation| {
        let found = definitions.iter().find(|(id, _)| id.schema == relation.schema && id.name == relation.name);
        found.map(|(_, text)| text.as_str())
    };
    let no = || all.iter().map(|_| yes(false));
    Rows::default()
        .texts("table_catalog", all.iter().map(|_| Some(DATABASE)))
        .texts("table_schema", all.iter().map(|r| Some(&r.schema)))
        .texts("table_name", all.iter().map(|r| Some(&r.name)))
        .texts("view_definition", all.iter().map(|r| definition(r)))
        .texts("check_option", all.iter().map(|_| Some("NONE")))
        .texts("is_updatable", no())
        .texts("is_insertable_into", no())
        .texts("is_trigger_updatable", no())
        .texts("is_trigger_deletable", no())
        .texts("is_trigger_insertable_into", no())
        .table()
}

fn schemata(database: &Arc<dyn CatalogProvider>, user: &str) -> Result<Arc<dyn TableProvider>> {
    let names = super::schema_names(database);
    let rows = Rows::default()
        .texts("catalog_name", names.iter().map(|_| Some(DATABASE)))
        .texts("schema_name", names.iter().map(Some))
        .texts("schema_owner", names.iter().map(|_| Some(user)));
    nulls(rows, "default_character_set_catalog default_character_set_schema default_character_set_name sql_path", names.len()).table()
}
