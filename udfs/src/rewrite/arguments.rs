//! Binds the arguments of a call to the parameters of its declaration.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, SetExpr, Statement, Value, WindowType,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::declaration::{Function, Kind, Parameter, Presence, Role};
use crate::error::{Error, Result};
use crate::spelling;

/// The arguments of one call, by parameter.
#[derive(Debug)]
pub(super) struct Bound {
    /// The value of each parameter, as far as it was given; a row parameter's place stays empty.
    pub(super) values: Vec<Option<Expr>>,
    /// What was given for the row parameter.
    pub(super) row: Vec<RowPart>,
}

/// A piece of a row argument.
#[derive(Debug, Clone)]
pub(super) enum RowPart {
    /// `i`, `i.*`, `*` or a value, by position.
    Positional(FunctionArgExpr),
    /// `name => value`
    Named(Ident, Expr),
}

/// The identifier as the engine compares it: quoted as written, else in lower case.
pub(super) fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Binds `arguments` to the parameters of `function`.
pub(super) fn bind(function: &'static Function, arguments: Vec<FunctionArg>) -> Result<Bound> {
    let mut bound = Bound { values: vec![None; function.parameters.len()], row: Vec::new() };
    let mut position = 0;
    let mut named_before = false;
    for argument in arguments {
        match argument {
            // The parser reads `name := value` as an assignment.
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, op: BinaryOperator::Assignment, right }))
                if matches!(*left, Expr::Identifier(_)) =>
            {
                let Expr::Identifier(name) = *left else { continue };
                named_before = true;
                named(function, &mut bound, name, FunctionArgExpr::Expr(*right))?;
            }
            FunctionArg::Unnamed(value) if named_before => {
                return Err(Error::call(
                    function,
                    format!("in the call of {}, positional argument {value} follows a named one", function.name),
                    Some("put positional arguments first, or name it".to_owned()),
                ));
            }
            FunctionArg::Unnamed(value) => by_position(function, &mut bound, &mut position, value)?,
            FunctionArg::Named { name, arg, .. } => {
                named_before = true;
                named(function, &mut bound, name, arg)?;
            }
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                named_before = true;
                named(function, &mut bound, name, arg)?;
            }
            FunctionArg::ExprNamed { name, .. } => {
                return Err(Error::call(function, format!("in the call of {}, {name} is not an argument name", function.name), None));
            }
        }
    }
    Ok(bound)
}

fn by_position(function: &'static Function, bound: &mut Bound, position: &mut usize, value: FunctionArgExpr) -> Result<()> {
    let Some(parameter) = function.parameters.get(*position) else {
        let count = function.parameters.len();
        return Err(Error::call(function, format!("{} takes at most {count} arguments", function.name), None));
    };
    if parameter.role == Role::Row {
        // A row takes all that follows: several aliases, or one value per feature. What comes after it is named.
        bound.row.push(RowPart::Positional(value));
        return Ok(());
    }
    bound.values[*position] = Some(expression(function, parameter.name, value)?);
    *position += 1;
    Ok(())
}

fn named(function: &'static Function, bound: &mut Bound, name: Ident, value: FunctionArgExpr) -> Result<()> {
    let spelled = normal(&name);
    match function.position(&spelled) {
        Some(position) if function.parameters[position].role == Role::Row => {
            if bound.row.iter().any(|part| matches!(part, RowPart::Positional(_))) {
                return Err(twice(function, &spelled));
            }
            bound.row.push(RowPart::Positional(value));
        }
        Some(position) => {
            if bound.values[position].is_some() {
                return Err(twice(function, &spelled));
            }
            bound.values[position] = Some(expression(function, &spelled, value)?);
        }
        None if function.row().is_some() => {
            // Where options stand beside the columns, a column whose name is nearly that of an option is a slip.
            let options = function.parameters.iter().filter(|parameter| matches!(parameter.presence, Presence::Default(_)));
            if let Some(close) = spelling::closest(options.map(|option| option.name), &spelled) {
                let hint = format!("did you mean \"{close}\"? A column of that name is given as part of a table's row");
                return Err(Error::call(function, format!("{} has no argument \"{spelled}\"", function.name), Some(hint)));
            }
            let value = expression(function, &spelled, value)?;
            if bound.row.iter().any(|part| matches!(part, RowPart::Named(other, _) if normal(other) == spelled)) {
                return Err(twice(function, &spelled));
            }
            bound.row.push(RowPart::Named(name, value));
        }
        None => {
            let close = spelling::closest(function.parameters.iter().map(|p| p.name), &spelled);
            return Err(Error::call(
                function,
                format!("{} has no argument \"{spelled}\"", function.name),
                close.map(|close| format!("did you mean \"{close}\"?")),
            ));
        }
    }
    Ok(())
}

fn twice(function: &Function, name: &str) -> Error {
    Error::call(function, format!("argument \"{name}\" of {} is given twice", function.name), None)
}

fn expression(function: &Function, name: &str, value: FunctionArgExpr) -> Result<Expr> {
    match value {
        FunctionArgExpr::Expr(value) => Ok(value),
        other => Err(Error::call(function, format!("argument \"{name}\" of {} cannot be {other}", function.name), None)),
    }
}

/// The positional arguments of a function without a row parameter, as the engine plans them.
pub(crate) fn positional(function: &'static Function, arguments: Vec<FunctionArg>) -> Result<Vec<FunctionArg>> {
    positions(function, bind(function, arguments)?, None)
}

/// The positional arguments of the engine's call: `row` stands for the row parameter, defaults for what was left out.
pub(super) fn positions(function: &'static Function, bound: Bound, mut row: Option<Expr>) -> Result<Vec<FunctionArg>> {
    let last = bound.values.iter().rposition(Option::is_some);
    let mut arguments = Vec::with_capacity(bound.values.len());
    for (position, (parameter, value)) in function.parameters.iter().zip(bound.values).enumerate() {
        let value = if parameter.role == Role::Row { row.take() } else { value };
        let value = match (value, parameter.presence) {
            (Some(value), _) => value,
            (None, Presence::Default(literal)) => parse_literal(literal),
            // Only last parameters are optional: a later one that is given leaves a gap, an earlier end needs no filling.
            (None, Presence::Optional) if last.is_some_and(|last| last > position) => Expr::value(Value::Null),
            (None, Presence::Optional) => break,
            (None, Presence::Required) => return Err(missing(function, parameter)),
        };
        let left_out = matches!(parameter.presence, Presence::Default(_)) && is_null(&value);
        let value =
            if matches!(parameter.role, Role::Query | Role::Side) && !left_out { subquery(function, parameter, value)? } else { value };
        arguments.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(value)));
    }
    Ok(arguments)
}

fn missing(function: &Function, parameter: &Parameter) -> Error {
    let hint = match parameter.role {
        Role::Row => "give a table alias, or name => value for each feature".to_owned(),
        Role::Query | Role::Side => format!("give it as {} => $$SELECT ...$$", parameter.name),
        Role::Value | Role::Model => format!("give it as {} => ...", parameter.name),
    };
    Error::call(function, format!("{} needs argument \"{}\"", function.name, parameter.name), Some(hint))
}

fn parse_literal(literal: &str) -> Expr {
    Parser::new(&PostgreSqlDialect {})
        .try_with_sql(literal)
        .and_then(|mut parser| parser.parse_expr())
        .expect("defaults in declarations are SQL literals, every one is bound by a test")
}

fn is_null(value: &Expr) -> bool {
    matches!(value, Expr::Value(value) if value.value == Value::Null)
}

/// The query of a query argument, as a subquery.
fn subquery(function: &'static Function, parameter: &'static Parameter, value: Expr) -> Result<Expr> {
    let text = match value {
        Expr::Subquery(_) => return Ok(value),
        Expr::Nested(inner) => return subquery(function, parameter, *inner),
        Expr::Value(value) => match value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => text,
            Value::DollarQuotedString(text) => text.value,
            other => return Err(not_a_query(function, parameter, &other.to_string())),
        },
        other => return Err(not_a_query(function, parameter, &other.to_string())),
    };
    let wrap = |error| Error::InQuery { function: function.name, argument: parameter.name, source: Box::new(error) };
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, &text).map_err(|error| wrap(error.into()))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Statement::Query(query)), true) if reads_only(&query.body) => Ok(Expr::Subquery(query)),
        (Some(Statement::Query(_)), true) => Err(not_a_query(function, parameter, "a statement that writes")),
        (Some(_), true) => Err(not_a_query(function, parameter, "another kind of statement")),
        (Some(_), false) => Err(not_a_query(function, parameter, "several statements")),
        (None, _) => Err(not_a_query(function, parameter, "empty")),
    }
}

fn reads_only(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Values(_) | SetExpr::Table(_) => true,
        SetExpr::Query(query) => reads_only(&query.body),
        SetExpr::SetOperation { left, right, .. } => reads_only(left) && reads_only(right),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => false,
    }
}

fn not_a_query(function: &Function, parameter: &Parameter, found: &str) -> Error {
    Error::InvalidValue {
        object: format!("argument \"{}\" of {}", parameter.name, function.name),
        reason: format!("must be one SELECT, but is {found}"),
        hint: Some(format!("write {} => $$SELECT ...$$ or {} => (SELECT ...)", parameter.name, parameter.name)),
    }
}

/// An error for a function that stands where its kind cannot stand.
pub(super) fn misplaced(function: &Function) -> Error {
    let (reason, hint) = match function.kind {
        Kind::Table => ("returns rows and stands in FROM only", format!("SELECT * FROM {}(...)", function.name)),
        Kind::Scalar | Kind::Aggregate => ("returns a value and cannot stand in FROM", format!("SELECT {}(...) FROM ...", function.name)),
        Kind::Window => ("returns a value and cannot stand in FROM", format!("SELECT {}(...) OVER () FROM ...", function.name)),
    };
    Error::call(function, format!("{} {reason}", function.name), Some(format!("write {hint}")))
}

/// Checks the clauses after the arguments of a function that learns from its window: OVER, and nothing that the function would pass over.
pub(super) fn window(function: &Function, call: &Call) -> Result<()> {
    let refused = |reason: &str, hint: String| Err(Error::call(function, format!("{} {reason}", function.name), Some(hint)));
    let Some(over) = &call.over else {
        let hint = format!("write {}(...) OVER () to learn from all rows, or use it in the TRANSFORM of a model", function.name);
        return refused("learns from many rows and needs OVER", hint);
    };
    if matches!(over, WindowType::WindowSpec(window) if window.window_frame.is_some()) {
        return refused("learns from whole partitions and takes no frame", "leave ROWS, RANGE or GROUPS out".to_owned());
    }
    let plain = plain(call);
    if plain { Ok(()) } else { refused("takes no DISTINCT, FILTER or NULLS clause", "filter the rows in a subquery".to_owned()) }
}

/// Whether a call has arguments only, apart from OVER.
pub(crate) fn plain(call: &Call) -> bool {
    let arguments = match &call.args {
        FunctionArguments::List(list) => list.duplicate_treatment.is_none() && list.clauses.is_empty(),
        FunctionArguments::None | FunctionArguments::Subquery(_) => true,
    };
    arguments && call.filter.is_none() && call.null_treatment.is_none() && call.within_group.is_empty()
}
