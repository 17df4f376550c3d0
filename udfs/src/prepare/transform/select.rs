//! The text of a select list, as its outputs in order.

use datafusion::common::Result;
use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{IsOptional, Parser};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::columns::Column;
use crate::error::Error;
use crate::spelling;

/// One output.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) value: Value,
}

/// What an output is.
#[derive(Debug)]
pub(super) enum Value {
    /// A column as it is, by its position.
    Column(usize),
    /// Anything else.
    Expression(Box<Expr>),
}

/// The outputs of a select list over these columns: `*` and `* EXCEPT (...)` are expanded, names are unique.
pub(super) fn items(text: &str, columns: &[Column]) -> Result<Vec<Item>> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text)?;
    let mut items: Vec<Item> = Vec::new();
    loop {
        if parser.consume_token(&Token::Mul) {
            let except = match parser.parse_one_of_keywords(&[Keyword::EXCEPT, Keyword::EXCLUDE]) {
                Some(_) => parser.parse_parenthesized_column_list(IsOptional::Mandatory, false)?,
                None => vec![],
            };
            all(columns, &except, &mut items)?;
        } else {
            items.push(item(parser.parse_select_item()?, columns)?);
        }
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::EOF)?;
    if let Some(name) =
        items.iter().enumerate().find_map(|(n, item)| items[..n].iter().any(|other| other.name == item.name).then_some(&item.name))
    {
        let hint = format!("give one another name with AS, or leave the column out of the star: * EXCEPT ({name})");
        return Err(invalid(format!("output \"{name}\""), "is there twice", hint));
    }
    Ok(items)
}

fn all(columns: &[Column], except: &[Ident], items: &mut Vec<Item>) -> Result<()> {
    let except: Vec<String> = except.iter().map(normal).collect();
    if let Some(unknown) = except.iter().find(|name| !columns.iter().any(|column| column.name == **name)) {
        let names = columns.iter().map(|column| column.name.as_str());
        return Err(Error::NoSuchColumn {
            what: "* EXCEPT".to_owned(),
            column: unknown.clone(),
            detail: format!("the query has: {}", names.clone().collect::<Vec<_>>().join(", ")),
            hint: spelling::closest(names, unknown).map(|close| format!("did you mean \"{close}\"?")),
        }
        .into());
    }
    let kept = columns.iter().enumerate().filter(|(_, column)| !except.contains(&column.name));
    items.extend(kept.map(|(position, column)| Item { name: column.name.clone(), value: Value::Column(position) }));
    Ok(())
}

fn item(item: SelectItem, columns: &[Column]) -> Result<Item> {
    let (value, alias) = match item {
        SelectItem::UnnamedExpr(value) => (value, None),
        SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias)),
        other => return Err(invalid(format!("{other}"), "cannot be an output", "write * or the names of columns".to_owned())),
    };
    let name = match (&alias, &value) {
        (Some(alias), _) => normal(alias),
        (None, Expr::Identifier(name)) => normal(name),
        (None, other) => return Err(invalid(format!("output {other}"), "has no name", format!("write {other} AS name"))),
    };
    let column = match &value {
        Expr::Identifier(name) => columns.iter().position(|column| column.name == normal(name)),
        _ => None,
    };
    Ok(Item { name, value: column.map_or_else(|| Value::Expression(Box::new(value)), Value::Column) })
}

fn invalid(object: String, reason: &str, hint: String) -> datafusion::common::DataFusionError {
    Error::InvalidValue { object, reason: reason.to_owned(), hint: Some(hint) }.into()
}

/// The identifier as the engine compares it.
pub(super) fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}
