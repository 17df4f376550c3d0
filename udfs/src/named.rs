//! Columns of a query that the arguments of a table function name.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, cast};

use crate::declaration::{Function, Type, sql_type};
use crate::error::{Error, Result};
use crate::spelling;

/// The column of this name, and its type; `argument` is the one that names it.
pub(crate) fn column(function: &Function, argument: &str, name: &str, query: &DFSchema) -> Result<(Expr, DataType)> {
    let mut found = query.iter().filter(|(_, field)| field.name() == name);
    let names = || query.fields().iter().map(|field| field.name().as_str());
    let Some((qualifier, field)) = found.next() else {
        return Err(Error::NoSuchColumn {
            what: function.name.to_owned(),
            column: name.to_owned(),
            detail: format!("the query has: {}", names().collect::<Vec<_>>().join(", ")),
            hint: spelling::closest(names(), name).map(|close| format!("did you mean {argument} => '{close}'?")),
        });
    };
    if found.next().is_some() {
        let hint = "give the columns of the query different names".to_owned();
        return Err(Error::AmbiguousColumn { column: name.to_owned(), hint });
    }
    Ok((Expr::Column(Column::new(qualifier.cloned(), name)), field.data_type().clone()))
}

/// The same as double precision, for a column of numbers or labels.
pub(crate) fn number(function: &Function, argument: &str, name: &str, accepted: Type, query: &DFSchema) -> Result<Expr> {
    let (column, data_type) = column(function, argument, name, query)?;
    if !accepted.accepts(&data_type) || data_type.is_null() {
        let condition = format!("write a condition in the query, such as {name} = 'yes' AS {name}");
        return Err(Error::WrongType {
            object: format!("column \"{name}\", the {argument} of {},", function.name),
            actual: sql_type(&data_type),
            detail: Some(format!("it takes {}", accepted.sql())),
            hint: (accepted == Type::Label).then_some(condition),
        });
    }
    // Booleans become 0 and 1 by way of integers.
    let column = if data_type == DataType::Boolean { cast(column, DataType::Int32) } else { column };
    Ok(cast(column, DataType::Float64).alias(argument))
}
