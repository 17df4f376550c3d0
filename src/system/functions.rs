//! PostgreSQL's functions about the objects of its catalog.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, ListBuilder, StringArray, StringBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int32Type, Int64Type};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::catalog::CatalogProvider;
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use datafusion_pg_catalog::pg_catalog::oid_field::{kind, oid_field};
use pgwire::api::Type;

use super::format::Format;
use super::{System, comments, routines};
use crate::names;
use crate::planner::DATABASE;
use crate::session::functions::put;
use crate::sqlstate::{SqlError, SqlState};
use crate::store::{Draft, Id, TEMPORARY};

/// Registers the functions, which see names by the search path.
pub(crate) fn follow(state: &mut SessionState, path: &[String]) {
    let config = state.config();
    let (Some(system), Some(draft)) = (config.get_extension::<System>(), config.get_extension::<Draft>()) else { return };
    let Some(database) = state.catalog_list().catalog(DATABASE) else { return };
    let names = Arc::new(Names { system, draft, database, path: path.to_vec() });
    put(state, ScalarUDF::from(Format::new()));
    for function in functions(&names) {
        put(state, ScalarUDF::from(function));
    }
}

/// `pg_get_userbyid(oid)`: everything belongs to whoever asks.
pub(crate) fn owner(user: &str) -> ScalarUDF {
    let user = user.to_owned();
    let look: Look = Arc::new(move |asked: &Asked<'_>| Ok(Answer::Text(asked.oid(0).map(|_| user.clone()))));
    let signature = Signature::one_of(vec![TypeSignature::Any(1)], Volatility::Stable);
    ScalarUDF::from(Lookup { name: "pg_get_userbyid".to_owned(), returns: DataType::Utf8, signature, look })
}

/// A function that does something each time it is called.
pub(crate) fn acting(name: impl Into<String>, counts: &[usize], returns: DataType, look: Look) -> ScalarUDF {
    ScalarUDF::from(Lookup { name: name.into(), returns, signature: signature(counts, Volatility::Volatile), look })
}

/// Arguments of any type, so many or so many of them.
fn signature(counts: &[usize], volatility: Volatility) -> Signature {
    let shape = |count: &usize| if *count == 0 { TypeSignature::Nullary } else { TypeSignature::Any(*count) };
    Signature::one_of(counts.iter().map(shape).collect(), volatility)
}

/// The relations and what a name means.
struct Names {
    system: Arc<System>,
    draft: Arc<Draft>,
    database: Arc<dyn CatalogProvider>,
    path: Vec<String>,
}

impl Names {
    fn has(&self, schema: &str, relation: &str) -> bool {
        self.database.schema(schema).is_some_and(|schema| schema.table_exist(relation))
    }

    /// The schema in which a name without one is found.
    fn place(&self, relation: &str) -> Option<&str> {
        [TEMPORARY, "pg_catalog"].into_iter().chain(self.path.iter().map(String::as_str)).find(|schema| self.has(schema, relation))
    }

    /// The number of the relation a text names, as `schema.relation`, `"Relation"` or a number.
    fn number(&self, text: &str) -> Option<u32> {
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        let (schema, relation) = split(text)?;
        let schema = match schema {
            Some(schema) if self.has(&schema, &relation) => schema,
            Some(_) => return None,
            None => self.place(&relation)?.to_owned(),
        };
        Some(self.system.relation(&schema, &relation))
    }

    /// The name of a relation, with its schema where it needs one.
    fn name(&self, number: u32) -> Option<String> {
        let (schema, relation, _) = self.system.find(number)?;
        let relation_quoted = quoted(&relation);
        Some(if self.place(&relation) == Some(schema.as_str()) {
            relation_quoted
        } else {
            format!("{}.{relation_quoted}", quoted(&schema))
        })
    }

    fn is_visible(&self, number: u32) -> bool {
        self.system.find(number).is_some_and(|(schema, relation, _)| self.place(&relation) == Some(schema.as_str()))
    }

    fn view(&self, number: u32) -> Option<String> {
        let (schema, relation, _) = self.system.find(number)?;
        let id = Id::new(schema, relation);
        self.draft.views().into_iter().find(|(view, _)| *view == id).map(|(_, text)| format!(" {text};"))
    }

    fn size(&self, number: u32) -> Option<i64> {
        let (_, _, bytes) = self.system.find(number)?;
        Some(i64::try_from(bytes.unwrap_or(0)).unwrap_or(i64::MAX))
    }

    /// What a relation is for, or one of its columns from 1.
    fn comment(&self, number: u32, column: Option<usize>) -> Option<String> {
        let (schema, relation, _) = self.system.find(number)?;
        comments::of(&self.draft, &schema, &relation, column)
    }
}

/// Schema and relation of a name as it stands in SQL.
fn split(text: &str) -> Option<(Option<String>, String)> {
    let mut parts = Vec::new();
    let mut characters = text.trim().chars().peekable();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        let mut part = String::new();
        if characters.next_if_eq(&'"').is_some() {
            loop {
                match characters.next()? {
                    '"' if characters.next_if_eq(&'"').is_some() => part.push('"'),
                    '"' => break,
                    c => part.push(c),
                }
            }
        } else {
            while let Some(c) = characters.next_if(|c| *c != '.' && !c.is_whitespace()) {
                part.extend(c.to_lowercase());
            }
        }
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match characters.next() {
            None => break,
            Some('.') => {}
            Some(_) => return None,
        }
    }
    let relation = parts.pop()?;
    match parts.as_slice() {
        [] => Some((None, relation)),
        [schema] => Some((Some(schema.clone()), relation)),
        [database, schema] if database == DATABASE => Some((Some(schema.clone()), relation)),
        _ => None,
    }
}

pub(super) fn quoted(name: &str) -> String {
    let plain =
        name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    if plain { name.to_owned() } else { names::quoted(name) }
}

/// A value of an answer.
pub(crate) enum Answer {
    Texts(Option<Vec<String>>),
    Numbers(Option<Vec<i32>>),
    Text(Option<String>),
    Switch(Option<bool>),
    Number(Option<i32>),
    Large(Option<i64>),
}

/// What an argument says: a number or a text.
pub(crate) struct Asked<'a> {
    numbers: &'a [Option<ArrayRef>],
    texts: &'a [ArrayRef],
    row: usize,
}

impl Asked<'_> {
    /// How many arguments there are.
    pub(crate) fn count(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn number(&self, argument: usize) -> Option<i64> {
        let numbers = self.numbers.get(argument)?.as_ref()?.as_primitive::<Int64Type>();
        numbers.is_valid(self.row).then(|| numbers.value(self.row))
    }

    fn oid(&self, argument: usize) -> Option<u32> {
        u32::try_from(self.number(argument)?).ok()
    }

    pub(crate) fn text(&self, argument: usize) -> Option<&str> {
        let texts = self.texts.get(argument)?.as_string::<i32>();
        texts.is_valid(self.row).then(|| texts.value(self.row))
    }
}

pub(crate) type Look = Arc<dyn Fn(&Asked<'_>) -> Result<Answer, SqlError> + Send + Sync>;

/// A function that looks something up for each row.
struct Lookup {
    name: String,
    returns: DataType,
    signature: Signature,
    look: Look,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("name", &self.name).finish_non_exhaustive()
    }
}

// one is in force per session at any time, as the search path is set
impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.look, &other.look)
    }
}
impl Eq for Lookup {}
impl Hash for Lookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Lookup {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
        // a text may be a number, and one that is not is none
        let numbers: Vec<Option<ArrayRef>> = arrays.iter().map(|array| cast(array, &DataType::Int64).ok()).collect();
        let texts = arrays.iter().map(texts).collect::<Result<Vec<_>>>()?;
        let answers = (0..rows).map(|row| (self.look)(&Asked { numbers: &numbers, texts: &texts, row })).collect::<Result<Vec<_>, _>>()?;
        let array: ArrayRef = match &self.returns {
            DataType::Boolean => {
                Arc::new(BooleanArray::from_iter(answers.iter().map(|a| if let Answer::Switch(v) = a { *v } else { None })))
            }
            DataType::Int32 => Arc::new(Int32Array::from_iter(answers.iter().map(|a| if let Answer::Number(v) = a { *v } else { None }))),
            DataType::List(item) if item.data_type().is_integer() => {
                let lists = answers.iter().map(|a| if let Answer::Numbers(v) = a { v.clone() } else { None });
                let list = ListArray::from_iter_primitive::<Int32Type, _, _>(lists.map(|list| Some(list?.into_iter().map(Some))));
                of_items(item, &list)
            }
            DataType::List(item) => {
                let mut lists = ListBuilder::new(StringBuilder::new());
                for answer in &answers {
                    match answer {
                        Answer::Texts(Some(list)) => lists.append_value(list.iter().map(Some)),
                        _ => lists.append_null(),
                    }
                }
                of_items(item, &lists.finish())
            }
            DataType::Int64 => Arc::new(Int64Array::from_iter(answers.iter().map(|a| if let Answer::Large(v) = a { *v } else { None }))),
            _ => Arc::new(StringArray::from_iter(answers.iter().map(|a| if let Answer::Text(v) = a { v.as_deref() } else { None }))),
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// The texts of an array; that of a list shows its items.
fn texts(array: &ArrayRef) -> Result<ArrayRef> {
    if !array.data_type().is_list() {
        return Ok(cast(array, &DataType::Utf8)?);
    }
    let shown = (0..array.len()).map(|row| match array.is_null(row) {
        true => Ok(None),
        false => array_value_to_string(array, row).map(Some),
    });
    Ok(Arc::new(shown.collect::<Result<StringArray, _>>()?))
}

/// A list with another field of its items.
fn of_items(item: &FieldRef, list: &ListArray) -> ArrayRef {
    Arc::new(ListArray::new(Arc::clone(item), list.offsets().clone(), Arc::clone(list.values()), list.nulls().cloned()))
}

/// A list of numbers of objects.
fn oid_list() -> DataType {
    DataType::List(Arc::new(oid_field("item", kind::OID, true)))
}

/// The numbers in a text such as `23 25`, `{23,25}` or `[23, 25]`.
fn numbers_in(text: &str) -> Vec<i32> {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.filter_map(|digits| Some(digits.parse::<u32>().ok()?.cast_signed())).collect()
}

fn functions(names: &Arc<Names>) -> Vec<Lookup> {
    let mut all = Vec::new();
    let mut add = |name: &'static str, counts: &[usize], returns: DataType, look: Look| {
        all.push(Lookup { name: name.to_owned(), returns, signature: signature(counts, Volatility::Stable), look });
    };
    /// A function of the relations, as a closure over them.
    macro_rules! look {
        ($names:ident, $asked:ident, $answer:expr) => {{
            let $names = Arc::clone(names);
            Arc::new(move |$asked: &Asked<'_>| {
                let _ = &$names;
                Ok::<Answer, SqlError>($answer)
            })
        }};
    }
    use DataType::{Boolean, Int32, Int64, Utf8};
    add("pg_table_is_visible", &[1], Boolean, look!(n, a, Answer::Switch(a.oid(0).map(|oid| n.is_visible(oid)))));
    // a session sees no temporary schema but its own
    let temporary = |n: &Names| n.database.schema(TEMPORARY).is_some_and(|tables| !tables.table_names().is_empty());
    let number = move |n: &Names| if temporary(n) { n.system.schema(TEMPORARY).cast_signed() } else { 0 };
    add("pg_my_temp_schema", &[0], Int32, look!(n, _a, Answer::Number(Some(number(&n)))));
    add("pg_is_other_temp_schema", &[1], Boolean, look!(n, a, Answer::Switch(a.oid(0).map(|_| false))));
    add("pg_function_is_visible", &[1], Boolean, look!(n, a, Answer::Switch(a.oid(0).map(|oid| routines::is_visible(oid, &n.path)))));
    for name in [
        "pg_collation_is_visible",
        "pg_conversion_is_visible",
        "pg_opclass_is_visible",
        "pg_operator_is_visible",
        "pg_opfamily_is_visible",
        "pg_statistics_obj_is_visible",
        "pg_ts_config_is_visible",
        "pg_ts_dict_is_visible",
        "pg_ts_parser_is_visible",
        "pg_ts_template_is_visible",
        "pg_type_is_visible",
    ] {
        // all of them are PostgreSQL's own
        add(name, &[1], Boolean, look!(n, a, Answer::Switch(a.oid(0).map(|_| true))));
    }
    let comment = |n: &Names, a: &Asked<'_>| {
        let oid = a.oid(0)?;
        let of = a.text(1);
        let routine = routines::find(oid).filter(|_| of.is_none_or(|of| of == "pg_proc")).map(|routine| routine.docs.clone());
        routine.or_else(|| n.comment(oid, None).filter(|_| of.is_none_or(|of| of == "pg_class")))
    };
    add("obj_description", &[1, 2], Utf8, look!(n, a, Answer::Text(comment(&n, a))));
    add("shobj_description", &[2], Utf8, look!(n, a, Answer::Text(a.text(0).and(None))));
    let column = |a: &Asked<'_>| a.number(1).and_then(|column| usize::try_from(column).ok());
    add("col_description", &[2], Utf8, look!(n, a, Answer::Text(a.oid(0).and_then(|oid| n.comment(oid, Some(column(a)?))))));
    let routine = |a: &Asked<'_>| a.oid(0).and_then(routines::find);
    add("pg_get_function_result", &[1], Utf8, look!(n, a, Answer::Text(routine(a).map(routines::result))));
    add("pg_get_function_arguments", &[1], Utf8, look!(n, a, Answer::Text(routine(a).map(|r| routines::arguments(r, true)))));
    add("pg_get_function_identity_arguments", &[1], Utf8, look!(n, a, Answer::Text(routine(a).map(|r| routines::arguments(r, false)))));
    add("pg_get_functiondef", &[1], Utf8, look!(n, a, Answer::Text(routine(a).map(routines::definition))));
    add("pg_get_viewdef", &[1, 2], Utf8, look!(n, a, Answer::Text(a.text(0).and_then(|text| n.view(n.number(text)?)))));
    for name in ["pg_get_function_sqlbody", "pg_get_indexdef", "pg_get_ruledef", "pg_get_triggerdef", "pg_get_serial_sequence"] {
        add(name, &[1, 2, 3], Utf8, look!(n, a, Answer::Text(a.text(0).and(None))));
    }
    let size = |n: &Names, a: &Asked<'_>| a.text(0).and_then(|text| n.size(n.number(text)?));
    for name in ["pg_table_size", "pg_relation_size", "pg_total_relation_size"] {
        add(name, &[1, 2], Int64, look!(n, a, Answer::Large(size(&n, a))));
    }
    add("pg_indexes_size", &[1], Int64, look!(n, a, Answer::Large(a.text(0).map(|_| 0))));
    add("pg_size_pretty", &[1], Utf8, look!(n, a, Answer::Text(a.number(0).map(pretty))));
    add("to_regclass", &[1], Utf8, look!(n, a, Answer::Text(a.text(0).and_then(|text| n.name(n.number(text)?)))));
    add("to_regtype", &[1], Utf8, look!(n, a, Answer::Text(a.text(0).and_then(to_regtype))));
    add("quote_literal", &[1], Utf8, look!(n, a, Answer::Text(a.text(0).map(literal))));
    add("quote_nullable", &[1], Utf8, look!(n, a, Answer::Text(Some(a.text(0).map_or_else(|| "NULL".to_owned(), literal)))));
    add("pg_tablespace_location", &[1], Utf8, look!(n, a, Answer::Text(a.text(0).map(|_| String::new()))));
    add("pg_database_size", &[1], Int64, look!(n, a, Answer::Large(a.text(0).map(|_| n.system.bytes()))));
    add("getdatabaseencoding", &[0], Utf8, look!(n, _a, Answer::Text(Some("UTF8".to_owned()))));
    let encoded = |number: i64| if number == 6 { "UTF8" } else { "" };
    add("pg_encoding_to_char", &[1], Utf8, look!(n, a, Answer::Text(a.number(0).map(|number| encoded(number).to_owned()))));
    add("pg_char_to_encoding", &[1], Int32, look!(n, a, Answer::Number(a.text(0).map(encoding))));
    // what the rewrite makes of lists of numbers of objects, and of casts to and from regclass and regtype
    for name in ["oids", "regtypesin"] {
        add(name, &[1], oid_list(), look!(n, a, Answer::Numbers(a.text(0).map(numbers_in))));
    }
    let shown = |text: &str| numbers_in(text).into_iter().map(|number| regtypeout(number.cast_unsigned())).collect();
    add("regtypesout", &[1], DataType::new_list(Utf8, true), look!(n, a, Answer::Texts(a.text(0).map(shown))));
    add("regtypeout", &[1], Utf8, look!(n, a, Answer::Text(a.oid(0).map(regtypeout))));
    let find = |a: &Asked<'_>| {
        let Some(text) = a.text(0) else { return Ok(Answer::Number(None)) };
        let number = text.parse().ok().or_else(|| named_type(text).map(|known| known.oid().cast_signed()));
        match number {
            Some(number) => Ok(Answer::Number(Some(number))),
            None => Err(SqlError::new(SqlState::UndefinedObject, format!("type \"{text}\" does not exist"))),
        }
    };
    add("regtypein", &[1], Int32, Arc::new(find));
    add("regclassout", &[1], Utf8, look!(n, a, Answer::Text(a.oid(0).map(|oid| n.name(oid).unwrap_or_else(|| oid.to_string())))));
    let known = Arc::clone(names);
    let find = move |a: &Asked<'_>| {
        let Some(text) = a.text(0) else { return Ok(Answer::Number(None)) };
        match known.number(text) {
            Some(number) => Ok(Answer::Number(Some(number.cast_signed()))),
            None => Err(SqlError::new(SqlState::UndefinedTable, format!("relation \"{text}\" does not exist"))),
        }
    };
    add("regclassin", &[1], Int32, Arc::new(find));
    all
}

/// A text as it stands in SQL.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// The number of an encoding.
fn encoding(name: &str) -> i32 {
    match name.to_ascii_uppercase().as_str() {
        "SQL_ASCII" => 0,
        "UTF8" | "UTF-8" | "UNICODE" => 6,
        _ => -1,
    }
}

/// The type of a name, in PostgreSQL's words.
fn to_regtype(text: &str) -> Option<String> {
    named_type(text).map(|known| super::type_name(&known).to_owned())
}

/// The type of a number, in PostgreSQL's words.
fn regtypeout(number: u32) -> String {
    match Type::from_oid(number) {
        Some(known) => super::type_name(&known).to_owned(),
        None if number == 0 => "-".to_owned(),
        None => number.to_string(),
    }
}

pub(super) fn named_type(text: &str) -> Option<Type> {
    let name = text.trim().to_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    if let Some(element) = name.strip_suffix("[]") {
        let array = format!("_{}", named_type(element)?.name());
        // the numbers of PostgreSQL's own types
        return (16..10_000).filter_map(Type::from_oid).find(|known| known.name() == array);
    }
    Some(match name {
        "bool" | "boolean" => Type::BOOL,
        "int2" | "smallint" => Type::INT2,
        "int4" | "integer" | "int" => Type::INT4,
        "int8" | "bigint" => Type::INT8,
        "float4" | "real" => Type::FLOAT4,
        "float8" | "double precision" => Type::FLOAT8,
        "numeric" | "decimal" => Type::NUMERIC,
        "text" => Type::TEXT,
        "varchar" | "character varying" => Type::VARCHAR,
        "bytea" => Type::BYTEA,
        "date" => Type::DATE,
        "time" | "time without time zone" => Type::TIME,
        "timestamp" | "timestamp without time zone" => Type::TIMESTAMP,
        "timestamptz" | "timestamp with time zone" => Type::TIMESTAMPTZ,
        "interval" => Type::INTERVAL,
        "uuid" => Type::UUID,
        "json" => Type::JSON,
        "jsonb" => Type::JSONB,
        "oid" => Type::OID,
        "char" | "\"char\"" => Type::CHAR,
        "bpchar" | "character" => Type::BPCHAR,
        "name" => Type::NAME,
        "regclass" => Type::REGCLASS,
        "regtype" => Type::REGTYPE,
        name => return (16..10_000).filter_map(Type::from_oid).find(|known| known.name() == name),
    })
}

/// A size as people read it: `8192 bytes`, `16 kB`, as PostgreSQL rounds.
fn pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    // each unit but bytes holds one binary place more, for rounding
    let mut size = bytes;
    for (at, unit) in UNITS.iter().enumerate() {
        let limit = if at == 0 { 10 * 1024 } else { 20 * 1024 - 1 };
        if size.unsigned_abs() < limit || at + 1 == UNITS.len() {
            let rounded = if at == 0 { size } else { half(size) };
            return format!("{rounded} {unit}");
        }
        // the first step leaves one place, the others none
        size /= if at == 0 { 512 } else { 1024 };
    }
    format!("{bytes} bytes")
}

/// The half of a number, rounded away from zero.
fn half(number: i64) -> i64 {
    if number < 0 { (number - 1) / 2 } else { (number + 1) / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_as_postgresql_rounds_them() {
        // answers of PostgreSQL 15
        for (bytes, text) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (10_752, "11 kB"),
            (10_485_247, "10239 kB"),
            (10_485_760, "10 MB"),
            (-10_240, "-10 kB"),
            (1_099_511_627_776, "1024 GB"),
        ] {
            assert_eq!(pretty(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn names_are_read_as_sql_reads_them() {
        assert_eq!(split("Items"), Some((None, "items".to_owned())));
        assert_eq!(split("work.\"My.Table\""), Some((Some("work".to_owned()), "My.Table".to_owned())));
        assert_eq!(split("stratagem.public.items"), Some((Some("public".to_owned()), "items".to_owned())));
        assert_eq!(split(" \"work\" . items"), Some((Some("work".to_owned()), "items".to_owned())));
        assert_eq!(split("\"a\"\"b\""), Some((None, "a\"b".to_owned())));
        for text in ["", "a.", ".a", "\"a", "a.b.c", "other.public.items"] {
            assert_eq!(split(text), None, "{text}");
        }
        assert_eq!((quoted("items"), quoted("My \"T\"")), ("items".to_owned(), "\"My \"\"T\"\"\"".to_owned()));
    }
}
