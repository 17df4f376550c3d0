//! From a parsed statement to a logical plan, with PostgreSQL's rules for names: the search path, views, and what is broken said as such.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, TableReference, plan_datafusion_err};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{TableProvider, ViewTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF, cast, lit,
};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::planner::{NullOrdering, ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{ColumnDef, Statement};
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use futures::future::BoxFuture;

use crate::casts;
use crate::catalog;
use crate::literals;
use crate::names;
use crate::session::Own;
use crate::sqlstate::{SqlError, SqlState};
use crate::store::{StoredView, TEMPORARY};
use crate::system;
use crate::values;
use crate::wording;

/// The one catalog of the server, which clients see as the database.
pub(crate) const DATABASE: &str = "stratagem";

/// Views may use views this deep.
const VIEW_DEPTH: usize = 32;

/// Where a name without a schema is looked up before the search path, as in PostgreSQL.
const SYSTEM_SCHEMA: &str = "pg_catalog";

/// The standard's catalog, which the engine derives from the tables there are.
const INFORMATION_SCHEMA: &str = "information_schema";

/// The function whose rows are numbers one after the other.
const SERIES: &str = "generate_series";

/// Plans a statement. `types` are the types of its parameters as far as the client told them.
pub(crate) async fn plan(state: &SessionState, path: &[String], statement: Statement, types: Vec<Option<FieldRef>>) -> Result<LogicalPlan> {
    plan_at(state, path, statement, types, 0).await
}

fn plan_at<'a>(
    state: &'a SessionState,
    path: &'a [String],
    mut statement: Statement,
    types: Vec<Option<FieldRef>>,
    depth: usize,
) -> BoxFuture<'a, Result<LogicalPlan>> {
    Box::pin(async move {
        values::apply(&mut statement);
        names::apply(&mut statement);
        wording::apply(&mut statement);
        casts::apply(&mut statement);
        literals::apply(&mut statement);
        let mut statement = DfStatement::Statement(Box::new(statement));
        let (references, _) = resolve_table_references(&statement, true)?;
        let mut names = Names { state, tables: HashMap::with_capacity(references.len()) };
        for reference in references {
            if let Some(table) = find(state, path, &reference).await? {
                let table = open(state, table, depth).await?;
                names.tables.insert(reference, provider_as_source(table));
            }
        }
        let planner = SqlToRel::new_with_options(&names, parser_options());
        let mut context = PlannerContext::new().with_prepare_param_data_types(types);
        match &mut statement {
            DfStatement::Statement(statement) => {
                planner.sql_statement_to_plan_with_context(std::mem::replace(statement, empty()), &mut context)
            }
            other => Err(plan_datafusion_err!("unsupported statement {other}")),
        }
    })
}

fn empty() -> Statement {
    Statement::ShowVariables { filter: None, global: false, session: false }
}

fn parser_options() -> ParserOptions {
    ParserOptions::new()
        .with_map_string_types_to_utf8view(true)
        .with_collect_spans(true)
        .with_support_varchar_with_length(true)
        .with_default_null_ordering(NullOrdering::NullsMax)
}

/// The columns of CREATE TABLE.
pub(crate) fn table_schema(state: &SessionState, columns: &[ColumnDef]) -> Result<Schema> {
    let names = Names { state, tables: HashMap::new() };
    let mut columns = columns.to_vec();
    columns.iter_mut().for_each(|column| literals::settle(&mut column.data_type));
    SqlToRel::new_with_options(&names, parser_options()).build_schema(columns)
}

/// The table, or none, a name stands for: in its schema, or in the first schema of the search path that has it.
pub(crate) async fn find(state: &SessionState, path: &[String], name: &TableReference) -> Result<Option<Arc<dyn TableProvider>>> {
    if let Some(database) = name.catalog()
        && database != DATABASE
    {
        let message = format!("cross-database references are not implemented: \"{name}\"");
        return Err(SqlError::new(SqlState::FeatureNotSupported, message).with_hint(format!("the only database is \"{DATABASE}\"")).into());
    }
    let Some(database) = state.catalog_list().catalog(DATABASE) else { return Ok(None) };
    let implicit = [TEMPORARY.to_owned(), SYSTEM_SCHEMA.to_owned()];
    let schemas: Vec<&str> = match name.schema() {
        Some(schema) => vec![schema],
        None => implicit.iter().chain(path).map(String::as_str).collect(),
    };
    for schema in schemas {
        if schema == SYSTEM_SCHEMA {
            let own = state.config().get_extension::<Own>();
            let table = own.map_or(Ok(None), |own| own.table(name.table()))?;
            if let Some(table) = table.or(system::table(state, &database, name.table()).await?) {
                return Ok(Some(table));
            }
        }
        if schema == INFORMATION_SCHEMA
            && let Some(table) = system::of_information_schema(state, &database, name.table()).await?
        {
            return Ok(Some(table));
        }
        let schema = match schema {
            INFORMATION_SCHEMA => Some(Arc::new(InformationSchemaProvider::new(Arc::clone(state.catalog_list()))) as _),
            schema => database.schema(schema),
        };
        if let Some(schema) = schema
            && let Some(table) = schema.table(name.table()).await?
        {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// A stored view becomes its plan; a broken table becomes its reason.
async fn open(state: &SessionState, table: Arc<dyn TableProvider>, depth: usize) -> Result<Arc<dyn TableProvider>> {
    if let Some(reason) = catalog::broken(table.as_ref()) {
        return Err(DataFusionError::External(Box::new(reason.clone())));
    }
    let Some(view) = (table.as_ref() as &dyn std::any::Any).downcast_ref::<StoredView>() else { return Ok(table) };
    if depth >= VIEW_DEPTH {
        return Err(SqlError::new(SqlState::ProgramLimitExceeded, format!("views are nested more than {VIEW_DEPTH} deep")).into());
    }
    let statement = crate::statement::parse_one(view.sql()).map_err(DataFusionError::from)?;
    let statement = crate::session::rewrite(state, &default_path(), statement).await?;
    let plan = plan_at(state, &default_path(), statement, Vec::new(), depth + 1).await?;
    Ok(Arc::new(ViewTable::new(plan, Some(view.sql().to_owned()))))
}

/// The path views are planned with, so that they mean the same to everyone.
pub(crate) fn default_path() -> Vec<String> {
    vec![crate::store::SCHEMA.to_owned(), "public".to_owned()]
}

/// The engine's series are of bigints: makes them of integers. Whether they all were integers, and so is the series.
fn all_bigint(args: &mut [Expr]) -> bool {
    let mut integers = true;
    for arg in args {
        match arg {
            Expr::Literal(ScalarValue::Int32(number), _) => *arg = lit(ScalarValue::Int64(number.map(i64::from))),
            _ => integers = false,
        }
    }
    integers
}

/// What the SQL planner asks the session for.
struct Names<'a> {
    state: &'a SessionState,
    tables: HashMap<TableReference, Arc<dyn TableSource>>,
}

impl Names<'_> {
    /// The name of a function without the schema that PostgreSQL's own functions live in.
    fn function<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix("pg_catalog.").unwrap_or(name)
    }
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        self.tables.get(&name).cloned().ok_or_else(|| no_such_table(self.state, &name).into())
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        let Some(function) = self.state.table_functions().get(self.function(name)) else {
            let known = self.state.table_functions().keys().map(String::as_str);
            let error = SqlError::new(SqlState::UndefinedFunction, format!("table function \"{name}\" does not exist"));
            return Err(match stratagem_udfs::spelling::closest(known, name) {
                Some(known) => error.with_hint(format!("perhaps you meant \"{known}\"")),
                None => error,
            }
            .into());
        };
        let simplifier = datafusion::optimizer::simplify_expressions::ExprSimplifier::new(
            datafusion::logical_expr::simplify::SimplifyContext::builder()
                .with_config_options(Arc::clone(self.state.config_options()))
                .build(),
        );
        let schema = DFSchema::empty();
        let mut args =
            args.into_iter().map(|arg| simplifier.coerce(arg, &schema).and_then(|e| simplifier.simplify(e))).collect::<Result<Vec<_>>>()?;
        let integers = name == SERIES && all_bigint(&mut args);
        let arguments = datafusion::catalog::TableFunctionArgs::new(&args, self.state);
        let table = provider_as_source(function.create_table_provider_with_args(arguments)?);
        if !integers {
            return Ok(table);
        }
        let plan = LogicalPlanBuilder::scan(SERIES, table, None)?;
        let columns = plan.schema().columns().into_iter().map(|column| {
            let name = column.name.clone();
            cast(Expr::Column(column), DataType::Int32).alias(name)
        });
        let plan = plan.clone().project(columns.collect::<Vec<_>>())?.build()?;
        Ok(provider_as_source(Arc::new(ViewTable::new(plan, None))))
    }

    fn create_cte_work_table(&self, name: &str, schema: datafusion::arrow::datatypes::SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(self.function(name)).cloned().or_else(|| casts::function(name))
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(self.function(name)).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(self.function(name)).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(PgOidTypePlanner))
    }

    fn options(&self) -> &datafusion::config::ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// The error for a table that is not there, with the closest name that is.
pub(crate) fn no_such_table(state: &SessionState, name: &TableReference) -> SqlError {
    if name.table().contains(['/', '\\']) || name.table().contains("://") {
        return SqlError::new(
            SqlState::InsufficientPrivilege,
            "a file or address can't be read by its name: SQL has no access to files or the network",
        )
        .with_hint("put the Parquet file into the server's data folder and it becomes a table");
    }
    let error = SqlError::new(SqlState::UndefinedTable, format!("relation \"{name}\" does not exist"));
    let Some(database) = state.catalog_list().catalog(DATABASE) else { return error };
    if let Some(schema) = name.schema()
        && database.schema(schema).is_none()
        && schema != INFORMATION_SCHEMA
    {
        let known: Vec<String> = database.schema_names();
        return match stratagem_udfs::spelling::closest(known.iter().map(String::as_str), schema) {
            Some(known) => error.with_hint(format!("there is no schema \"{schema}\"; perhaps you meant \"{known}\"")),
            None => error.with_hint(format!("there is no schema \"{schema}\"; \\dn lists the schemas")),
        };
    }
    let tables: Vec<(String, String)> = database
        .schema_names()
        .into_iter()
        .filter(|schema| schema != SYSTEM_SCHEMA && name.schema().is_none_or(|s| s == schema))
        .filter_map(|schema| database.schema(&schema).map(|tables| (schema, tables)))
        .flat_map(|(schema, tables)| tables.table_names().into_iter().map(move |table| (schema.clone(), table)))
        .collect();
    match stratagem_udfs::spelling::closest(tables.iter().map(|(_, table)| table.as_str()), name.table()) {
        Some(close) => {
            let (schema, table) = tables.iter().find(|(_, table)| table == close).cloned().unwrap_or_default();
            error.with_hint(format!("perhaps you meant \"{schema}.{table}\""))
        }
        None => error.with_hint("\\dt *.* lists the tables"),
    }
}
