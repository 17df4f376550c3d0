//! Puts the pieces of a row argument together: one `named_struct(...)`, or a value that is a row by itself.

use datafusion::sql::sqlparser::ast::{
    Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Value,
};

use super::arguments::{RowPart, normal};
use super::scope::{Scopes, Whole};
use super::{Known, Stop};
use crate::declaration::Function;
use crate::error::Error;

type Fields = Vec<(String, Expr)>;

/// The row argument of a call in the given scopes; `None` when nothing was given for it.
pub(super) fn row(function: &'static Function, parts: Vec<RowPart>, scopes: &Scopes, known: &Known) -> Result<Option<Expr>, Stop> {
    let mut fields = Fields::new();
    let mut named = Fields::new();
    let mut values = Vec::new();
    for part in parts {
        match part {
            RowPart::Named(name, value) => named.push((normal(&name), value)),
            RowPart::Positional(part) => match whole(&part, scopes, known)? {
                Some(expanded) => fields.extend(expanded),
                None => values.push(part),
            },
        }
    }
    let with_names = !fields.is_empty() || !named.is_empty();
    if !values.is_empty() && with_names {
        let reason = format!("in the call of {}, value {} has no name, but other values of the row have one", function.name, values[0]);
        return Err(Error::call(function, reason, Some("write name => value".to_owned())).into());
    }
    if !values.is_empty() {
        return by_position(function, values).map(Some);
    }
    if fields.is_empty() && named.is_empty() {
        return Ok(None);
    }
    // A named value replaces the column of that name: predict_ctr('ctr', i, price => i.price * 0.9).
    fields.retain(|(name, _)| !named.iter().any(|(other, _)| other == name));
    if let Some((name, _)) = fields.iter().enumerate().find_map(|(n, field)| fields[..n].iter().find(|other| other.0 == field.0)) {
        let hint = format!("name it in the call: {name} => alias.{name}");
        return Err(Error::AmbiguousColumn { column: name.clone(), hint }.into());
    }
    fields.extend(named);
    Ok(Some(named_struct(fields)))
}

/// The columns of `i`, `i.*` or `*`; `None` for any other expression.
fn whole(part: &FunctionArgExpr, scopes: &Scopes, known: &Known) -> Result<Option<Fields>, Stop> {
    let found = match part {
        FunctionArgExpr::Wildcard => return scopes.all(known).map(Some),
        FunctionArgExpr::QualifiedWildcard(name) => scopes.qualified(&parts(name), known)?,
        FunctionArgExpr::Expr(Expr::Identifier(name)) => scopes.bare(name, known)?,
        FunctionArgExpr::Expr(Expr::CompoundIdentifier(name)) => scopes.qualified(name, known)?,
        _ => None,
    };
    let Some(Whole { qualifier, columns }) = found else { return Ok(None) };
    let column = |name: String| {
        let mut path = qualifier.clone();
        path.push(Ident::with_quote('"', name.clone()));
        (name, Expr::CompoundIdentifier(path))
    };
    Ok(Some(columns.into_iter().map(column).collect()))
}

fn parts(name: &ObjectName) -> Vec<Ident> {
    name.0.iter().filter_map(|part| part.as_ident().cloned()).collect()
}

/// One value is passed on (it may be a row by itself); several are named `$1`, `$2`, ... and meet the model's features in their order.
fn by_position(function: &'static Function, mut values: Vec<FunctionArgExpr>) -> Result<Expr, Stop> {
    let expression = |value| match value {
        FunctionArgExpr::Expr(value) => Ok(value),
        other => Err(Stop::from(Error::call(function, format!("no table of the FROM clause fits {other}"), None))),
    };
    if values.len() == 1 {
        return expression(values.remove(0));
    }
    let fields = values.into_iter().enumerate().map(|(n, value)| Ok((format!("${}", n + 1), expression(value)?)));
    Ok(named_struct(fields.collect::<Result<_, Stop>>()?))
}

fn named_struct(fields: Fields) -> Expr {
    let unnamed = |value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value));
    let name = |name| unnamed(Expr::value(Value::SingleQuotedString(name)));
    let args = fields.into_iter().flat_map(|(field, value)| [name(field), unnamed(value)]).collect();
    Expr::Function(Call {
        name: ObjectName::from(vec![Ident::new("named_struct")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
