//! The functions of this server in `pg_proc`, as they are declared.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, Result};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::functions::expr_fn::translate;
use datafusion::functions_nested::expr_fn::string_to_array;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, lit};
use pgwire::api::Type;
use stratagem_udfs::declaration::{Argument, Kind, Routine, routines};

use super::functions::named_type;
use super::rows::Rows;
use super::{OWNER, System};

/// The first number of our functions, far from PostgreSQL's own and from those of relations.
const FIRST: u32 = 1_000_000;

/// The language of functions that are written in the server.
const INTERNAL: u32 = 12;

static ROUTINES: LazyLock<Vec<Routine>> = LazyLock::new(routines);

/// The schema a function is listed in.
fn schema(routine: &Routine) -> &'static str {
    routine.schema.unwrap_or("public")
}

/// The schemas of all functions.
pub(super) fn schemas() -> impl Iterator<Item = &'static str> {
    ROUTINES.iter().map(schema)
}

/// The function of a number.
pub(super) fn find(number: u32) -> Option<&'static Routine> {
    ROUTINES.get(usize::try_from(number.checked_sub(FIRST)?).ok()?)
}

/// The numbers of all functions, with what they are for.
pub(super) fn all() -> impl Iterator<Item = (u32, &'static str)> {
    (FIRST..).zip(ROUTINES.iter().map(|routine| routine.docs.as_str()))
}

/// The number of a function that is named as in a call, with its schema or without.
pub(crate) fn named(name: &str) -> Option<u32> {
    let (schema, name) = name.split_once('.').map_or((None, name), |(schema, name)| (Some(schema), name));
    let place = ROUTINES.iter().position(|routine| routine.name == name && schema.is_none_or(|schema| self::schema(routine) == schema));
    place.and_then(|place| u32::try_from(place).ok()).map(|place| FIRST + place)
}

/// Whether a function can be called without its schema.
pub(super) fn is_visible(number: u32, path: &[String]) -> bool {
    find(number).is_none_or(|routine| routine.schema.is_none_or(|schema| path.iter().any(|p| p == schema)))
}

/// `model text, query text, "limit" bigint DEFAULT NULL`.
pub(super) fn arguments(routine: &Routine, defaults: bool) -> String {
    let argument = |argument: &Argument| match argument.default {
        Some(default) if defaults => format!("{} {} DEFAULT {default}", argument.name, argument.data_type),
        _ => format!("{} {}", argument.name, argument.data_type),
    };
    routine.arguments.iter().map(argument).collect::<Vec<_>>().join(", ")
}

/// The type of the result, or `TABLE(...)`.
pub(super) fn result(routine: &Routine) -> String {
    if routine.kind != Kind::Table {
        return routine.result.to_owned();
    }
    if routine.columns.is_empty() {
        return "SETOF record".to_owned();
    }
    let columns: Vec<String> = routine.columns.iter().map(|(name, data_type)| format!("{name} {data_type}")).collect();
    format!("TABLE({})", columns.join(", "))
}

/// A statement that says what the function is; its body is in the server.
pub(super) fn definition(routine: &Routine) -> String {
    let mut text = format!("CREATE OR REPLACE FUNCTION {}.{}({})\n", schema(routine), routine.name, arguments(routine, true));
    // writing to a String does not fail
    let _ = write!(text, " RETURNS {}\n LANGUAGE internal\nAS $function${}$function$\n", result(routine), routine.name);
    text
}

/// PostgreSQL's functions with ours.
pub(super) fn pg_proc(system: &System, general: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let general = with_lists(super::without_privileges(general)?)?;
    let all = || ROUTINES.iter();
    let numbers = || (FIRST..).zip(all()).map(|(number, _)| number);
    let count = |argument: &dyn Fn(&&Argument) -> bool| {
        all().map(|r| i16::try_from(r.arguments.iter().filter(argument).count()).unwrap_or(i16::MAX)).collect::<Vec<_>>()
    };
    let own = Rows::default()
        .oids("oid", numbers())
        .texts("proname", all().map(|r| Some(r.name)))
        .oids("pronamespace", all().map(|r| system.schema(schema(r))))
        .oids("proowner", all().map(|_| OWNER.cast_unsigned()))
        .oids("prolang", all().map(|_| INTERNAL))
        .reals("procost", all().map(|_| 1.0))
        .reals("prorows", all().map(|r| if r.kind == Kind::Table { 1000.0 } else { 0.0 }))
        .texts("prokind", all().map(|r| Some(kind(r))))
        .switches("proretset", all().map(|r| r.kind == Kind::Table))
        .texts("provolatile", all().map(|_| Some("s")))
        .texts("proparallel", all().map(|_| Some("u")))
        .shorts("pronargs", count(&|_| true))
        .shorts("pronargdefaults", count(&|argument| argument.default.is_some()))
        .oids("prorettype", all().map(|r| type_number(r.result)))
        .texts("proargtypes", all().map(|r| Some(argument_types(r).collect::<Vec<_>>().join(" "))))
        .lists("proallargtypes", all().map(all_types))
        .lists("proargmodes", all().map(modes))
        .lists("proargnames", all().map(all_names))
        .texts("prosrc", all().map(|r| Some(r.name)))
        .table_like(&general.schema())?;
    let scan = |name: &str, table| LogicalPlanBuilder::scan(name, provider_as_source(table), None);
    let plan = scan("pg_proc", general)?.union(scan("routines", own)?.build()?)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// The lists of PostgreSQL's functions as lists; in the export they are texts such as `['i', 'o']`.
fn with_lists(general: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let columns = general.schema();
    let plan = LogicalPlanBuilder::scan("general", provider_as_source(general), None)?;
    let columns = columns.fields().iter().map(|field| {
        let column = Expr::Column(Column::new(Some("general"), field.name()));
        let items = || string_to_array(translate(column.clone(), lit("[]'\" "), lit("")), lit(","), lit("NULL"));
        match field.name().as_str() {
            "proargmodes" | "proargnames" => items().alias(field.name()),
            "proallargtypes" => cast(items(), DataType::new_list(DataType::Int32, true)).alias(field.name()),
            _ => column,
        }
    });
    let plan = plan.project(columns.collect::<Vec<_>>())?;
    Ok(Arc::new(ViewTable::new(plan.build()?, None)))
}

fn argument_types(routine: &Routine) -> impl Iterator<Item = String> {
    routine.arguments.iter().map(|argument| type_number(argument.data_type).to_string())
}

/// The types of arguments and columns, of a function that has columns.
fn all_types(routine: &Routine) -> Option<Vec<String>> {
    let columns = routine.columns.iter().map(|(_, data_type)| type_number(data_type).to_string());
    (!routine.columns.is_empty()).then(|| argument_types(routine).chain(columns).collect())
}

fn modes(routine: &Routine) -> Option<Vec<&'static str>> {
    let columns = routine.columns.iter().map(|_| "t");
    (!routine.columns.is_empty()).then(|| routine.arguments.iter().map(|_| "i").chain(columns).collect())
}

fn all_names(routine: &Routine) -> Option<Vec<&'static str>> {
    let names = routine.arguments.iter().map(|argument| argument.name).chain(routine.columns.iter().map(|(name, _)| *name));
    Some(names.collect::<Vec<_>>()).filter(|names| !names.is_empty())
}

fn kind(routine: &Routine) -> &'static str {
    match routine.kind {
        Kind::Scalar | Kind::Table => "f",
        Kind::Aggregate => "a",
        Kind::Window => "w",
    }
}

/// The number of a type; what is of no one type is text to clients.
fn type_number(name: &str) -> u32 {
    named_type(name).unwrap_or(Type::TEXT).oid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_described_as_they_are_declared() {
        let auc = find(named("auc").expect("listed")).expect("found");
        assert_eq!((result(auc).as_str(), schema(auc)), ("double precision", "public"));
        assert!(arguments(auc, true).ends_with("weight double precision DEFAULT NULL"), "{}", arguments(auc, true));
        assert!(!arguments(auc, false).contains("DEFAULT"));
        let predict = find(named("ml.predict").expect("listed")).expect("found");
        assert!(definition(predict).starts_with("CREATE OR REPLACE FUNCTION ml.predict(model text, "), "{}", definition(predict));
        assert!(!is_visible(named("ml.predict").expect("listed"), &["public".to_owned()]));
        assert!(is_visible(named("auc").expect("listed"), &["public".to_owned()]));
        assert_eq!(named("ml.nothing"), None);
    }
}
