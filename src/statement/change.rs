//! What changes tables that are there: DELETE, UPDATE, TRUNCATE, ALTER, COMMENT, and the schemas that tables are in.

use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption, DataType, Delete, Expr, FromTable, ObjectName,
    RenameTableNameKind, SchemaName, TableFactor, TableWithJoins, Truncate, Update,
};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Command, Name, folded, name, unsupported, words};
use crate::sqlstate::{SqlError, SqlState};
use crate::store::Kind;

/// One change of a table's columns.
#[derive(Debug, Clone)]
pub(crate) enum Alteration {
    /// ADD COLUMN.
    Add { column: Box<ColumnDef>, if_not_exists: bool },
    /// DROP COLUMN.
    Drop { column: String, if_exists: bool },
    /// RENAME COLUMN.
    Rename { column: String, to: String },
    /// ALTER COLUMN TYPE, with the expression of USING.
    Retype { column: String, data_type: Box<DataType>, using: Option<Box<Expr>> },
}

/// ALTER VIEW or COMMENT, if it is next; otherwise no token is taken.
pub(super) fn parse(parser: &mut Parser<'_>) -> Option<Result<Command, SqlError>> {
    if words(parser, &["ALTER", "VIEW"]) {
        return Some(alter_view(parser));
    }
    words(parser, &["COMMENT", "ON"]).then(|| comment(parser))
}

fn alter_view(parser: &mut Parser<'_>) -> Result<Command, SqlError> {
    let if_exists = words(parser, &["IF", "EXISTS"]);
    let target = name(&parser.parse_object_name(false)?)?;
    if !words(parser, &["RENAME", "TO"]) {
        return Err(
            unsupported("this form of ALTER VIEW").with_hint("ALTER VIEW name RENAME TO name is; CREATE OR REPLACE VIEW changes it")
        );
    }
    Ok(Command::Rename { kind: Kind::View, target, if_exists, to: folded(&parser.parse_identifier()?) })
}

pub(super) fn delete(delete: Delete) -> Result<Command, SqlError> {
    if delete.returning.is_some() {
        return Err(no_returning("DELETE"));
    }
    if !delete.order_by.is_empty() || delete.limit.is_some() || delete.output.is_some() || !delete.tables.is_empty() {
        return Err(unsupported("this form of DELETE"));
    }
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [table] = from.as_slice() else { return Err(unsupported("DELETE from more than one table")) };
    Ok(Command::Delete { target: changed(table, "DELETE")?, delete: Box::new(delete) })
}

pub(super) fn update(update: Update) -> Result<Command, SqlError> {
    if update.returning.is_some() {
        return Err(no_returning("UPDATE"));
    }
    if !update.order_by.is_empty() || update.limit.is_some() || update.output.is_some() || update.or.is_some() {
        return Err(unsupported("this form of UPDATE"));
    }
    Ok(Command::Update { target: changed(&update.table, "UPDATE")?, update: Box::new(update) })
}

/// The table that is changed.
fn changed(table: &TableWithJoins, words: &str) -> Result<Name, SqlError> {
    match &table.relation {
        TableFactor::Table { name: table, args: None, .. } => name(table),
        _ => Err(unsupported(&format!("{words} of anything but a table"))),
    }
}

pub(super) fn no_returning(words: &str) -> SqlError {
    unsupported(&format!("{words} with RETURNING")).with_hint("run a SELECT after it, in the same transaction")
}

pub(super) fn truncate(truncate: &Truncate) -> Result<Command, SqlError> {
    if truncate.partitions.is_some() || truncate.if_exists {
        return Err(unsupported("this form of TRUNCATE"));
    }
    Ok(Command::Truncate(truncate.table_names.iter().map(|table| name(&table.name)).collect::<Result<_, _>>()?))
}

pub(super) fn alter(alter: AlterTable) -> Result<Command, SqlError> {
    let (target, if_exists) = (name(&alter.name)?, alter.if_exists);
    if let [AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(to) }] = alter.operations.as_slice() {
        return Ok(Command::Rename { kind: Kind::Any, target, if_exists, to: name(to)?.table });
    }
    let mut alterations = Vec::new();
    for operation in alter.operations {
        match operation {
            AlterTableOperation::AddColumn { if_not_exists, column_def, .. } => {
                if column_def.options.iter().any(|option| !matches!(option.option, ColumnOption::Null)) {
                    return Err(unsupported("a constraint or default in ADD COLUMN").with_hint("add the column and fill it with UPDATE"));
                }
                alterations.push(Alteration::Add { column: Box::new(column_def), if_not_exists });
            }
            AlterTableOperation::DropColumn { column_names, if_exists, .. } => {
                alterations.extend(column_names.iter().map(|column| Alteration::Drop { column: folded(column), if_exists }));
            }
            AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                alterations.push(Alteration::Rename { column: folded(&old_column_name), to: folded(&new_column_name) });
            }
            AlterTableOperation::AlterColumn { column_name, op: AlterColumnOperation::SetDataType { data_type, using, .. } } => {
                let (data_type, using) = (Box::new(data_type), using.map(Box::new));
                alterations.push(Alteration::Retype { column: folded(&column_name), data_type, using });
            }
            other => {
                let hint = "ALTER TABLE can rename a table, and add, drop, rename and retype columns";
                return Err(unsupported(&format!("ALTER TABLE ... {other}")).with_hint(hint));
            }
        }
    }
    Ok(Command::Alter { target, if_exists, alterations })
}

/// Unlike the parser's own, it takes texts between dollar signs.
fn comment(parser: &mut Parser<'_>) -> Result<Command, SqlError> {
    let kinds = [("TABLE", Some(Kind::Table)), ("VIEW", Some(Kind::View)), ("COLUMN", None)];
    let Some((_, kind)) = kinds.into_iter().find(|(word, _)| words(parser, &[word])) else {
        return Err(
            unsupported(&format!("COMMENT ON {}", parser.peek_token_ref())).with_hint("comments are kept of tables, views and columns")
        );
    };
    let mut object = parser.parse_object_name(false)?;
    let column = match kind {
        Some(_) => None,
        None => object.0.pop().and_then(|part| part.as_ident().map(folded)),
    };
    if object.0.is_empty() {
        return Err(SqlError::new(SqlState::SyntaxError, "column name must be qualified"));
    }
    if !words(parser, &["IS"]) {
        parser.expected_ref::<()>("IS", parser.peek_token_ref())?;
    }
    let text = match &parser.peek_token_ref().token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Some(text.clone()),
        Token::DollarQuotedString(text) => Some(text.value.clone()),
        Token::Word(word) if word.value.eq_ignore_ascii_case("null") => None,
        _ => return Ok(parser.expected_ref("a text or NULL", parser.peek_token_ref())?),
    };
    parser.advance_token();
    // an empty comment is none
    let text = text.filter(|text| !text.is_empty());
    Ok(Command::Comment { kind: kind.unwrap_or(Kind::Any), target: name(&object)?, column, text })
}

pub(super) fn create_schema(schema_name: &SchemaName, if_not_exists: bool) -> Result<Command, SqlError> {
    let (SchemaName::Simple(named) | SchemaName::NamedAuthorization(named, _)) = schema_name else {
        return Err(unsupported("CREATE SCHEMA without a name"));
    };
    Ok(Command::CreateSchema { name: schema(named)?, if_not_exists })
}

/// The name of a schema, perhaps behind that of the database.
pub(super) fn schema(schema: &ObjectName) -> Result<String, SqlError> {
    let name = name(schema)?;
    match name.schema {
        Some(database) if database != crate::planner::DATABASE => {
            Err(unsupported(&format!("a schema of the database \"{database}\"")).with_hint("there is one database"))
        }
        _ => Ok(name.table),
    }
}
