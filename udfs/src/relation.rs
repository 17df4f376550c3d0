//! Table functions: planned above the plan of their query, so that optimizer rules, EXPLAIN and the authorization of a statement see what is
//! read. A function whose columns are declared is a [`Relation`], a node of its own; one that stands for a plan of the engine is an
//! [`Expansion`], whose columns may depend on its arguments and on the query. One without a query is planned over a relation without rows.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNode};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, Ident, Query, TableFactor};

use crate::declaration::{Function, Kind, Parameter, Role, Type, sql_type};
use crate::defer::StepPlanner;
use crate::error::Error;
use crate::{declaration, pin, rewrite, spelling};

mod node;
mod whole;

pub(crate) use node::RelationNode;
pub(crate) use whole::WholeRelations;
pub use whole::writes;

/// What a table function with declared columns does.
pub(crate) trait Relation: Debug + Send + Sync {
    /// Its declaration.
    fn declaration(&self) -> &'static Function;

    /// Whether it changes nothing, so that it may run twice or be stopped early. One that does not say so is taken to write.
    fn reads_only(&self) -> bool {
        false
    }

    /// Checks the arguments against the query's columns, as soon as the arguments are known.
    fn check(&self, _arguments: &Constants, _input: &DFSchema) -> Result<(), Error> {
        Ok(())
    }

    /// Whether it reads a plan over its query instead of the query's rows as they are.
    fn narrows(&self) -> bool {
        false
    }

    /// The plan that it reads, for one that [narrows](Relation::narrows): the columns it needs, computed by the engine.
    fn input(&self, _arguments: &Constants, query: LogicalPlan) -> Result<LogicalPlan> {
        Ok(query)
    }

    /// The plan that runs it over the query's plan.
    fn plan(&self, arguments: &Constants, query: &str, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>;

    /// The same with the plan of a second query beside it, for one that has a parameter for it.
    fn plan_beside(
        &self,
        arguments: &Constants,
        query: &str,
        input: Arc<dyn ExecutionPlan>,
        _side: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.plan(arguments, query, input)
    }
}

/// What a table function stands for.
pub(crate) trait Expansion: Debug + Send + Sync {
    /// Its declaration.
    fn declaration(&self) -> &'static Function;

    /// The plan over the query's plan.
    fn expand(&self, arguments: &Constants, input: LogicalPlan) -> Result<LogicalPlan>;
}

/// The constant arguments of a call, by parameter; the query's place holds NULL.
#[derive(Debug)]
pub(crate) struct Constants {
    function: &'static Function,
    values: Vec<ScalarValue>,
}

impl Constants {
    /// The arguments as constants of the declared types; `None` while a parameter or an expression is among them.
    fn of(function: &'static Function, arguments: &[Expr]) -> Result<Option<Self>, Error> {
        let mut values = Vec::with_capacity(arguments.len());
        for (parameter, argument) in function.parameters.iter().zip(arguments) {
            let Some(value) = constant(function, parameter, argument)? else { return Ok(None) };
            values.push(value);
        }
        Ok(Some(Self { function, values }))
    }

    fn value(&self, name: &str) -> &ScalarValue {
        &self.values[self.function.position(name).expect("functions ask for parameters of their own declaration")]
    }

    /// The value of an argument as the engine has it.
    pub(crate) fn literal(&self, name: &str) -> ScalarValue {
        self.value(name).clone()
    }

    fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| Error::value(format!("argument {name} of {}", self.function.name), "is NULL"))
    }

    pub(crate) fn text(&self, name: &str) -> Result<&str, Error> {
        self.required(name, self.value(name).try_as_str().flatten())
    }

    /// A text; `None` is NULL.
    pub(crate) fn optional_text(&self, name: &str) -> Option<&str> {
        self.value(name).try_as_str().flatten()
    }

    /// A number; `None` is NULL.
    pub(crate) fn optional_double(&self, name: &str) -> Option<f64> {
        if let ScalarValue::Float64(value) = self.value(name) { *value } else { None }
    }

    pub(crate) fn double(&self, name: &str) -> Result<f64, Error> {
        self.required(name, self.optional_double(name))
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<bool, Error> {
        let value = if let ScalarValue::Boolean(value) = self.value(name) { *value } else { None };
        self.required(name, value)
    }

    /// A whole number; `None` is NULL.
    pub(crate) fn whole(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            ScalarValue::Int64(value) => *value,
            ScalarValue::Int32(value) => value.map(i64::from),
            _ => None,
        }
    }

    /// A value, if it is within these limits.
    pub(crate) fn within<T: PartialOrd + Display>(&self, name: &str, value: T, limits: RangeInclusive<T>) -> Result<T, Error> {
        if limits.contains(&value) {
            return Ok(value);
        }
        let reason = format!("is {value}, but must be from {} to {}", limits.start(), limits.end());
        Err(Error::value(format!("argument {name} of {}", self.function.name), reason))
    }

    /// A whole number that is not negative.
    pub(crate) fn count<T: TryFrom<i64>>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.whole(name) else { return Ok(None) };
        let out_of_range =
            |_| Error::value(format!("argument {name} of {}", self.function.name), format!("is {value}, which is out of range"));
        T::try_from(value).map(Some).map_err(out_of_range)
    }
}

/// An argument as a constant of the declared type; `None` when it depends on a parameter that has no value yet.
fn constant(function: &Function, parameter: &Parameter, argument: &Expr) -> Result<Option<ScalarValue>, Error> {
    let object = || format!("argument {} of {}", parameter.name, function.name);
    let open = argument.exists(|part| Ok(matches!(part, Expr::Placeholder(_)))).unwrap_or(true);
    if open {
        return Ok(None);
    }
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().build());
    let simple = simplifier.coerce(argument.clone(), &DFSchema::empty()).and_then(|argument| simplifier.simplify(argument));
    let Ok(Expr::Literal(value, _)) = simple else { return Err(Error::value(object(), "must be a constant")) };
    let actual = value.data_type();
    // Text is what a parameter without a type arrives as, and what a quoted literal is before it has one.
    if !parameter.data_type.accepts(&actual) && !Type::Text.accepts(&actual) {
        return Err(Error::WrongType {
            object: object(),
            actual: sql_type(&actual),
            detail: Some(format!("the function is {}", function.signature())),
            hint: Some(format!("it takes {}", parameter.data_type.sql())),
        });
    }
    value.cast_to(&parameter.data_type.arrow()).map(Some).map_err(|_| Error::value(object(), format!("cannot be {value}")))
}

/// Plans the table functions of a session, from SQL to execution.
#[derive(Debug, Clone)]
pub(crate) struct Relations {
    relations: Arc<[Arc<dyn Relation>]>,
    expansions: Arc<[Arc<dyn Expansion>]>,
}

impl Relations {
    pub(crate) fn new(relations: impl Into<Arc<[Arc<dyn Relation>]>>, expansions: impl Into<Arc<[Arc<dyn Expansion>]>>) -> Self {
        Self { relations: relations.into(), expansions: expansions.into() }
    }

    fn find(&self, name: &str) -> Option<&Arc<dyn Relation>> {
        self.relations.iter().find(|relation| relation.declaration().name == name)
    }

    /// The plan of a call.
    fn logical(&self, function: &'static Function, call: Call) -> Result<LogicalPlan> {
        let constants = Constants::of(function, &call.arguments)?;
        if let Some(relation) = self.find(function.name) {
            let input = match constants {
                Some(constants) => {
                    relation.check(&constants, call.input.schema())?;
                    relation.input(&constants, call.input)?
                }
                None if relation.narrows() => return Err(open(function, "what it reads depends").into()),
                None => call.input,
            };
            let node = RelationNode::new(function, relation.reads_only(), call.arguments, input, call.side, call.query)?;
            return Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }));
        }
        let expansion = self.expansions.iter().find(|expansion| expansion.declaration().name == function.name);
        let expansion = expansion.expect("every declared table function is a relation or an expansion, a test runs the examples of all");
        let constants = constants.ok_or_else(|| open(function, "its columns depend"))?;
        let expanded = expansion.expand(&constants, call.input)?;
        LogicalPlanBuilder::from(expanded).alias(qualifier(function).value)?.build()
    }
}

impl RelationPlanner for Relations {
    fn plan_relation(&self, factor: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let (name, arguments) = match &factor {
            TableFactor::Table { name, args: Some(args), .. } => (name, &args.args),
            TableFactor::Function { name, args, .. } => (name, args),
            _ => return Ok(RelationPlanning::Original(Box::new(factor))),
        };
        let Some(function) = rewrite::declared(name).filter(|f| f.kind == Kind::Table) else {
            known(&rewrite::spelled(name))?;
            return Ok(RelationPlanning::Original(Box::new(factor)));
        };
        let call = Call::plan(function, rewrite::positional(function, arguments.clone())?, context)?;
        let plan = self.logical(function, call)?;
        let alias = match factor {
            TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. } => alias,
            _ => None,
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// A call with its query planned.
struct Call {
    arguments: Vec<Expr>,
    input: LogicalPlan,
    side: Option<LogicalPlan>,
    query: String,
}

impl Call {
    fn plan(function: &'static Function, arguments: Vec<FunctionArg>, context: &mut dyn RelationPlannerContext) -> Result<Self> {
        let mut planned = Vec::with_capacity(arguments.len());
        let mut input: Option<(LogicalPlan, String)> = None;
        let mut side = None;
        let takes_query = function.parameters.iter().any(|parameter| parameter.role == Role::Query);
        for (parameter, argument) in function.parameters.iter().zip(arguments) {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = argument else {
                unreachable!("positional arguments are expressions");
            };
            match (parameter.role, value) {
                (Role::Query | Role::Side, ast::Expr::Subquery(query)) => {
                    let inside = Some((function.name, parameter.name));
                    let text = query.to_string();
                    let plan = plan_query(query, context).map_err(|error| rewrite::within(inside, error))?;
                    match input {
                        _ if parameter.role == Role::Side => side = Some(plan),
                        None => input = Some((plan, text)),
                        // Its rows come after those of the first.
                        Some((first, text)) => input = Some((both(function, parameter, first, plan)?, text)),
                    }
                    planned.push(Expr::Literal(ScalarValue::Utf8(None), None));
                }
                (_, value) => planned.push(context.sql_to_expr(value, &DFSchema::empty())?),
            }
        }
        let (input, query) = match input {
            Some(input) => input,
            None if takes_query => return Err(Error::call(function, format!("{} needs a query", function.name), None).into()),
            None => (LogicalPlanBuilder::empty(false).build()?, String::new()),
        };
        Ok(Self { arguments: planned, input, side, query })
    }
}

/// The rows of two queries, which have columns of the same names.
fn both(function: &Function, parameter: &Parameter, first: LogicalPlan, second: LogicalPlan) -> Result<LogicalPlan> {
    let names = |plan: &LogicalPlan| plan.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(", ");
    let (own, other) = (names(&first), names(&second));
    if own != other {
        return Err(Error::InvalidValue {
            object: format!("argument {} of {}", parameter.name, function.name),
            reason: format!("has the columns {other}"),
            hint: Some(format!("select the same ones as query: {own}")),
        }
        .into());
    }
    LogicalPlanBuilder::from(first).union(second)?.build()
}

fn plan_query(query: Box<Query>, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    context.plan(TableFactor::Derived { lateral: false, subquery: query, alias: None, sample: None })
}

#[async_trait]
impl ExtensionPlanner for Relations {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<RelationNode>() else { return Ok(None) };
        let Some(relation) = self.find(node.function().name) else { return Ok(None) };
        let [input, side @ ..] = inputs else { return Ok(None) };
        let Some(constants) = Constants::of(node.function(), node.arguments())? else {
            let object = format!("a parameter in the call of {}", node.function().name);
            return Err(Error::value(object, "has no value").into());
        };
        if !relation.narrows() {
            relation.check(&constants, node.input().schema())?;
        }
        let (query, input) = (node.query(), Arc::clone(input));
        match side {
            [side, ..] => relation.plan_beside(&constants, query, input, Arc::clone(side)).map(Some),
            [] => relation.plan(&constants, query, input).map(Some),
        }
    }
}

/// The engine's planner, with our nodes, and with the models of a statement in memory before its first row.
#[async_trait]
impl QueryPlanner for Relations {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let explained = matches!(plan, LogicalPlan::Explain(_));
        for held in if explained { vec![] } else { pin::held(plan)? } {
            let loaded = tokio::task::spawn_blocking(move || held.model().map(drop)).await;
            match loaded {
                Ok(loaded) => loaded.map_err(Error::from)?,
                Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
                Err(_) => return Err(Error::Model(crate::models::Error::Canceled).into()),
            }
        }
        let in_order = if writes(plan) { in_order(session) } else { None };
        let session = in_order.as_ref().map_or(session, |state| state);
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(self.clone()), Arc::new(StepPlanner)]);
        planner.create_physical_plan(plan, session).await
    }
}

/// The session without round-robin repartitioning, which would mix up the epochs of a training under a computed column.
fn in_order(session: &dyn Session) -> Option<SessionState> {
    let mut state = session.as_any().downcast_ref::<SessionState>()?.clone();
    state.config_mut().options_mut().optimizer.enable_round_robin_repartition = false;
    Some(state)
}

/// The error for a parameter without a value where the value is needed to plan.
fn open(function: &Function, because: &str) -> Error {
    Error::Unsupported {
        reason: format!("{} takes no parameters such as $1, because {because} on its arguments", function.name),
        hint: "write the value into the statement".to_owned(),
    }
}

/// Refuses a function of our own schemas that there is not.
fn known(name: &str) -> Result<(), Error> {
    if !name.starts_with("ml.") && !name.starts_with("ai.") {
        return Ok(());
    }
    let close = spelling::closest(declaration::functions().iter().map(|function| function.name), name);
    Err(Error::NoSuchFunction { name: name.to_owned(), hint: close.map(|close| format!("did you mean {close}?")) })
}

/// How the columns of a function's rows are qualified without an alias: by its name, as in PostgreSQL.
fn qualifier(function: &Function) -> Ident {
    Ident::new(function.name.rsplit('.').next().unwrap_or(function.name))
}
