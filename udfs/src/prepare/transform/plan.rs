//! A select list as physical expressions.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias};

use super::calls::{Calls, Found};
use super::columns::Column;
use super::select::{self, Item, Value};
use crate::error::Error;
use crate::options::Options;
use crate::prepare::fit::Learned;
use crate::prepare::{learned, maps};

/// A select list over the columns of a training query.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) select: String,
    pub(super) columns: Vec<Column>,
    /// The columns that expressions read.
    pub(super) read: Vec<usize>,
    /// The calls of functions that learn.
    pub(super) calls: Vec<Call>,
    pub(super) outputs: Vec<Output>,
    /// The columns of `read`, which the arguments of calls are over.
    pub(super) narrow: SchemaRef,
    /// The same and the results of the calls, which outputs are over.
    pub(super) wide: SchemaRef,
}

/// A call of a function that learns.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) learned: &'static Learned,
    pub(super) argument: Arc<dyn PhysicalExpr>,
    pub(super) data_type: DataType,
    pub(super) options: Options,
    /// The columns that the argument reads, as positions in [`Plan::read`].
    reads: Vec<usize>,
}

/// An output.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) source: Source,
}

/// Where an output comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A column, as it is.
    Column(usize),
    /// An expression over [`Plan::wide`].
    Expression {
        value: Arc<dyn PhysicalExpr>,
        /// What it reads, as positions in [`Plan::wide`].
        reads: Vec<usize>,
    },
}

/// What outputs need.
#[derive(Debug)]
pub(super) struct Needs {
    /// For each column of the query.
    pub(super) columns: Vec<bool>,
    /// For each call.
    pub(super) calls: Vec<bool>,
}

/// An output before it has a physical expression.
enum Logical {
    Column(usize),
    Expression(Expr),
}

impl Plan {
    /// Plans the text of a select list.
    pub(super) fn new(select: &str, columns: Vec<Column>) -> Result<Self> {
        let all = schema(&columns);
        let (items, calls) = logical_parts(select, &columns, &all)?;
        let expressions = items.iter().filter_map(|(_, item)| if let Logical::Expression(value) = item { Some(value) } else { None });
        let read = read(&columns, expressions.chain(calls.iter().map(|call| &call.argument)).collect())?;
        let narrow = Arc::new(all.project(&read)?);
        let wide = Arc::new(with_results(&narrow, &calls));
        let (narrow_names, wide_names) = (DFSchema::try_from(Arc::clone(&narrow))?, DFSchema::try_from(Arc::clone(&wide))?);
        let calls = calls.into_iter().map(|call| call.physical(&narrow_names)).collect::<Result<_>>()?;
        let mut outputs = Vec::with_capacity(items.len());
        for (name, item) in items {
            let source = match item {
                Logical::Column(column) => Source::Column(column),
                Logical::Expression(value) => {
                    Source::Expression { reads: reads(&value, &wide_names)?, value: session().create_physical_expr(value, &wide_names)? }
                }
            };
            outputs.push(Output { name, source });
        }
        Ok(Self { select: select.to_owned(), columns, read, calls, outputs, narrow, wide })
    }

    /// What the outputs that are not in `except` need.
    pub(super) fn needs(&self, except: &[&str]) -> Needs {
        let mut needs = Needs { columns: vec![false; self.columns.len()], calls: vec![false; self.calls.len()] };
        for output in self.outputs.iter().filter(|output| !except.contains(&output.name.as_str())) {
            match &output.source {
                Source::Column(column) => needs.columns[*column] = true,
                Source::Expression { reads, .. } => {
                    for place in reads {
                        match self.read.get(*place) {
                            Some(column) => needs.columns[*column] = true,
                            None => needs.calls[place - self.read.len()] = true,
                        }
                    }
                }
            }
        }
        for (call, _) in self.calls.iter().zip(&needs.calls).filter(|(_, needed)| **needed) {
            call.reads.iter().for_each(|place| needs.columns[self.read[*place]] = true);
        }
        needs
    }

    pub(super) fn input_columns(&self, except: &[&str]) -> Vec<(&str, &str)> {
        let needs = self.needs(except);
        let needed = self.columns.iter().zip(needs.columns).filter(|(_, needed)| *needed);
        needed.map(|(column, _)| (column.name.as_str(), column.sql_type.as_str())).collect()
    }

    /// The columns that expressions read, in their types; `find` gives the column of a row for a column of the query, if it is there.
    pub(super) fn narrow(&self, rows: usize, find: impl Fn(usize) -> Option<ArrayRef>) -> Result<RecordBatch> {
        // A value that its type cannot hold is an error: a NULL in its place would be scored as if it had been missing.
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let mut arrays = Vec::with_capacity(self.read.len());
        for (column, field) in self.read.iter().zip(self.narrow.fields()) {
            arrays.push(match find(*column) {
                Some(array) => cast_with_options(&array, field.data_type(), &strict)?,
                None => datafusion::arrow::array::new_null_array(field.data_type(), rows),
            });
        }
        batch(&self.narrow, arrays, rows)
    }
}

/// A batch whose number of rows is known without columns.
pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))?)
}

/// The columns as expressions read them. One that they cannot read has a place too, so that it is found, and then refused.
fn schema(columns: &[Column]) -> Schema {
    let field = |column: &Column| Field::new(&column.name, column.data_type().unwrap_or(DataType::Null), true);
    Schema::new(columns.iter().map(field).collect::<Vec<_>>())
}

fn with_results(schema: &Schema, calls: &[Learning]) -> Schema {
    let results = calls.iter().map(|call| Arc::new(call.field()));
    Schema::new(schema.fields().iter().cloned().chain(results).collect::<Vec<_>>())
}

/// Outputs by name.
type Named = Vec<(String, Logical)>;

/// The outputs by name, and the calls of functions that learn, which are columns to the outputs.
fn logical_parts(select: &str, columns: &[Column], all: &Schema) -> Result<(Named, Vec<Learning>)> {
    let mut items = select::items(select, columns)?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut calls = Calls::new(&names);
    for item in &mut items {
        if let Value::Expression(expression) = &mut item.value {
            calls.take(expression)?;
        }
    }
    let schema = DFSchema::try_from(all.clone())?;
    let calls = calls.found.into_iter().map(|found| Learning::plan(found, &schema)).collect::<Result<Vec<_>>>()?;
    let schema = DFSchema::try_from(with_results(all, &calls))?;
    let part = |item: Item| {
        let part = match item.value {
            Value::Column(column) => Logical::Column(column),
            Value::Expression(expression) => Logical::Expression(logical(*expression, &schema)?),
        };
        Ok((item.name, part))
    };
    Ok((items.into_iter().map(part).collect::<Result<_>>()?, calls))
}

/// The positions of the columns that expressions read.
fn read(columns: &[Column], expressions: Vec<&Expr>) -> Result<Vec<usize>> {
    let names: HashSet<&str> =
        expressions.iter().flat_map(|expression| expression.column_refs()).map(|column| column.name.as_str()).collect();
    let mut read = Vec::new();
    for (position, column) in columns.iter().enumerate().filter(|(_, column)| names.contains(column.name.as_str())) {
        column.data_type().ok_or_else(|| column.unreadable())?;
        read.push(position);
    }
    Ok(read)
}

/// A call of a function that learns, as a logical expression.
struct Learning {
    name: String,
    learned: &'static Learned,
    argument: Expr,
    data_type: DataType,
    options: Options,
}

impl Learning {
    fn plan(found: Found, schema: &DFSchema) -> Result<Self> {
        let Some(learned) = learned(found.function) else { unreachable!("only calls of functions that learn are taken out") };
        let arguments = found.arguments.into_iter().map(|argument| logical(argument, schema)).collect::<Result<Vec<_>>>()?;
        let constant = |argument: &Expr| if let Expr::Literal(value, _) = argument { Some(value.clone()) } else { None };
        let options = Options::new(found.function, arguments.iter().map(constant));
        let Some(argument) = arguments.into_iter().next() else { unreachable!("functions that learn have an argument") };
        let data_type = argument.get_type(schema)?;
        found.function.check_types([&data_type])?;
        (learned.start)(&data_type, &options)?;
        Ok(Self { name: found.name, learned, argument, data_type, options })
    }

    fn field(&self) -> Field {
        Field::new(&self.name, (self.learned.returns)(&self.data_type), true)
    }

    fn physical(self, schema: &DFSchema) -> Result<Call> {
        let reads = reads(&self.argument, schema)?;
        let argument = session().create_physical_expr(self.argument, schema)?;
        Ok(Call { learned: self.learned, argument, data_type: self.data_type, options: self.options, reads })
    }
}

fn reads(expression: &Expr, schema: &DFSchema) -> Result<Vec<usize>> {
    expression.column_refs().into_iter().map(|column| schema.index_of_column(column)).collect()
}

/// A session that knows the engine's functions and ours of a row, and no tables.
fn session() -> &'static SessionState {
    static SESSION: LazyLock<SessionState> = LazyLock::new(|| {
        let mut builder = SessionStateBuilder::new().with_default_features();
        builder.scalar_functions().get_or_insert_default().extend(maps());
        builder.build()
    });
    &SESSION
}

/// The expression with its types settled and its constants computed.
fn logical(expression: SqlExpr, schema: &DFSchema) -> Result<Expr> {
    let expression = session().create_logical_expr_from_sql_expr(ExprWithAlias { expr: expression, alias: None }, schema)?;
    expression.apply(|part| replayable(part).map(|()| TreeNodeRecursion::Continue).map_err(Into::into))?;
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(session().config_options()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    simplifier.simplify(simplifier.coerce(expression, schema)?)
}

/// Refuses what is not a function of one row, or would have another value when it is scored.
fn replayable(part: &Expr) -> Result<(), Error> {
    let (what, hint) = match part {
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            (format!("{}, whose value is another one each time,", call.func.name()), "compute it in the training query")
        }
        Expr::AggregateFunction(call) => (format!("the aggregate {}", call.func.name()), "compute it in the training query"),
        Expr::WindowFunction(call) => (format!("the window function {}", call.fun.name()), "compute it in the training query"),
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::ScalarSubquery(_) => {
            ("a subquery".to_owned(), "join the table in the training query")
        }
        Expr::Placeholder(parameter) => (format!("the parameter {}", parameter.id), "write the value"),
        Expr::Unnest(_) => ("unnest".to_owned(), "compute it in the training query"),
        _ => return Ok(()),
    };
    Err(Error::Unsupported { reason: format!("{what} cannot stand in TRANSFORM"), hint: hint.to_owned() })
}
