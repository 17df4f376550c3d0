//! CREATE MODEL, DROP MODEL and ALTER MODEL: what stands behind them are calls of functions and of the registry.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArgOperator, Ident, SetExpr, Statement, TableFactor, Value,
};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use stratagem_udfs::models::{Error as ModelError, ModelName, ModelRef, Selector};

use super::{Command, folded, parse_one, read_only, words};
use crate::sqlstate::{SqlError, SqlState, internal};

const CREATE: &str =
    "CREATE [OR REPLACE] MODEL [IF NOT EXISTS] name [TRANSFORM (expression AS name, ...)] [OPTIONS (name = value, ...)] AS SELECT ...";
const DROP: &str = "DROP MODEL [IF EXISTS] name [, ...], where name@3 is one version";
const ALTER: &str = "ALTER MODEL name SET ALIAS alias = version, or ALTER MODEL name DROP ALIAS alias";

/// The statement of `sql` at hand, if it is one about models; otherwise no token is taken.
pub(super) fn parse(parser: &mut Parser<'_>, sql: &str) -> Option<Result<Command, SqlError>> {
    let (parsed, form) = if words(parser, &["CREATE", "MODEL"]) {
        (create(parser, sql, false), CREATE)
    } else if words(parser, &["CREATE", "OR", "REPLACE", "MODEL"]) {
        (create(parser, sql, true), CREATE)
    } else if words(parser, &["DROP", "MODEL"]) {
        (drop(parser), DROP)
    } else if words(parser, &["ALTER", "MODEL"]) {
        (alter(parser), ALTER)
    } else {
        return None;
    };
    Some(parsed.map_err(|error| match error.hint {
        None if error.state == SqlState::SyntaxError => error.with_hint(format!("the statement is {form}")),
        _ => error,
    }))
}

fn create(parser: &mut Parser<'_>, sql: &str, or_replace: bool) -> Result<Command, SqlError> {
    let at = parser.peek_token_ref().span.start;
    let if_not_exists = words(parser, &["IF", "NOT", "EXISTS"]);
    if or_replace && if_not_exists {
        return Err(at_place(SqlError::new(SqlState::SyntaxError, "OR REPLACE and IF NOT EXISTS exclude each other"), at));
    }
    let name = name(parser)?;
    let mut arguments = vec![argument("model", text(name.to_string()))];
    if words(parser, &["TRANSFORM"]) {
        parser.expect_token(&Token::LParen)?;
        let from = offset(sql, parser.peek_token_ref().span.start);
        parser.parse_comma_separated(Parser::parse_select_item)?;
        let to = offset(sql, parser.expect_token(&Token::RParen)?.span.start);
        arguments.push(argument("transform", text(sql[from..to].trim_end().to_owned())));
    }
    if words(parser, &["OPTIONS"]) {
        parser.expect_token(&Token::LParen)?;
        arguments.extend(parser.parse_comma_separated0(option, Token::RParen)?);
        parser.expect_token(&Token::RParen)?;
    }
    if !words(parser, &["AS"]) {
        parser.expected_ref::<()>("TRANSFORM, OPTIONS or AS", parser.peek_token_ref())?;
    }
    let query = parser.parse_query()?;
    read_only(&query)?;
    arguments.push(argument("query", Expr::Subquery(query)));
    Ok(Command::CreateModel { name, or_replace, if_not_exists, training: Box::new(training(arguments)?) })
}

/// `name = value`; a bare word is a text, as for PostgreSQL's own options.
fn option(parser: &mut Parser<'_>) -> Result<FunctionArg, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::Eq)?;
    let value = match parser.parse_expr()? {
        Expr::Identifier(word) => text(folded(&word)),
        other => other,
    };
    Ok(FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), operator: FunctionArgOperator::RightArrow })
}

fn argument(name: &str, value: Expr) -> FunctionArg {
    FunctionArg::Named { name: Ident::new(name), arg: FunctionArgExpr::Expr(value), operator: FunctionArgOperator::RightArrow }
}

fn text(text: String) -> Expr {
    Expr::value(Value::SingleQuotedString(text))
}

/// `SELECT * FROM finetune(...)`.
fn training(arguments: Vec<FunctionArg>) -> Result<Statement, SqlError> {
    let mut statement = parse_one("SELECT * FROM finetune()")?;
    if let Statement::Query(query) = &mut statement
        && let SetExpr::Select(select) = query.body.as_mut()
        && let [from] = select.from.as_mut_slice()
        && let TableFactor::Table { args: Some(args), .. } = &mut from.relation
    {
        args.args = arguments;
        return Ok(statement);
    }
    Err(internal("the call of finetune was parsed as something else"))
}

fn drop(parser: &mut Parser<'_>) -> Result<Command, SqlError> {
    let if_exists = words(parser, &["IF", "EXISTS"]);
    let targets = targets(parser, |target, alias| {
        let message = format!("DROP MODEL takes a model or a version, but \"{target}\" is an alias");
        (message, format!("ALTER MODEL {} DROP ALIAS {alias} removes the alias", target.name))
    })?;
    Ok(Command::DropModel { if_exists, targets })
}

/// Names and versions of what is to be dropped; `refused` gives message and hint for what has an alias in place of a version.
pub(super) fn targets(
    parser: &mut Parser<'_>,
    refused: impl Fn(&ModelRef, &str) -> (String, String),
) -> Result<Vec<(ModelName, Option<u32>)>, SqlError> {
    let mut targets = Vec::new();
    loop {
        let at = parser.peek_token_ref().span.start;
        let target = reference(parser)?;
        let version = match &target.selector {
            Selector::Default => None,
            Selector::Version(version) => Some(*version),
            Selector::Alias(alias) => {
                let (message, hint) = refused(&target, alias);
                return Err(at_place(SqlError::new(SqlState::InvalidParameterValue, message).with_hint(hint), at));
            }
        };
        targets.push((target.name, version));
        if !parser.consume_token(&Token::Comma) {
            return Ok(targets);
        }
    }
}

fn alter(parser: &mut Parser<'_>) -> Result<Command, SqlError> {
    let name = name(parser)?;
    if words(parser, &["DROP", "ALIAS"]) {
        return Ok(Command::AlterModel { name, alias: folded(&parser.parse_identifier()?), version: None });
    }
    if !words(parser, &["SET", "ALIAS"]) {
        parser.expected_ref::<()>("SET ALIAS or DROP ALIAS", parser.peek_token_ref())?;
    }
    let alias = folded(&parser.parse_identifier()?);
    parser.expect_token(&Token::Eq)?;
    let next = parser.next_token();
    let version = match &next.token {
        Token::Number(number, _) => number.parse().ok().filter(|version| *version > 0),
        _ => None,
    };
    match version {
        Some(version) => Ok(Command::AlterModel { name, alias, version: Some(version) }),
        None => Ok(parser.expected("the number of a version", next)?),
    }
}

/// The name of a model.
pub(super) fn name(parser: &mut Parser<'_>) -> Result<ModelName, SqlError> {
    let at = parser.peek_token_ref().span.start;
    let name = folded(&parser.parse_identifier()?);
    ModelName::parse(&name).map_err(|error| at_place(SqlError::from(error), at))
}

/// `ctr`, `ctr@3`, `"ctr@3"` or `'ctr@3'`.
fn reference(parser: &mut Parser<'_>) -> Result<ModelRef, SqlError> {
    let at = parser.peek_token_ref().span.start;
    let mut written = folded(&parser.parse_identifier()?);
    if parser.consume_token(&Token::AtSign) {
        let next = parser.next_token();
        let (Token::Number(selector, _) | Token::Word(datafusion::sql::sqlparser::tokenizer::Word { value: selector, .. })) = &next.token
        else {
            return Ok(parser.expected("the number of a version", next)?);
        };
        written = format!("{written}@{selector}");
    }
    written.parse().map_err(|error: ModelError| at_place(SqlError::from(error), at))
}

/// The byte of a place in the text.
fn offset(sql: &str, at: Location) -> usize {
    let line: usize = sql.split_inclusive('\n').zip(1..at.line).map(|(line, _)| line.len()).sum();
    sql[line..].char_indices().zip(1..).find(|(_, column)| *column == at.column).map_or(sql.len(), |((byte, _), _)| line + byte)
}

pub(super) fn at_place(mut error: SqlError, at: Location) -> SqlError {
    error.location = Some((at.line, at.column));
    error
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn training_of(sql: &str) -> String {
        match parse(sql).expect(sql).remove(0) {
            Command::CreateModel { training, .. } => training.to_string(),
            other => panic!("{sql}: {other:?}"),
        }
    }

    fn refusal(sql: &str) -> (String, Option<(u64, u64)>) {
        let error = parse(sql).expect_err(sql);
        assert!(error.hint.is_some(), "{sql}: {error} has no hint");
        (error.message, error.location)
    }

    #[test]
    fn create_model_is_a_call_of_finetune() {
        assert_eq!(
            training_of(
                "CREATE MODEL ctr OPTIONS (label = 'click', epochs = 2 + 1, model_type = DCNv2, early_stop = false) AS SELECT * FROM t"
            ),
            "SELECT * FROM finetune(model => 'ctr', label => 'click', epochs => 2 + 1, model_type => 'dcnv2', early_stop => false, \
             query => (SELECT * FROM t))"
        );
        assert_eq!(
            training_of(
                "-- é\ncreate or replace model \"ctr\" transform ( ml.bucketize(\"prié\",ARRAY[1, 2]) as b ,\n * ) options () as (select 1)"
            ),
            "SELECT * FROM finetune(model => 'ctr', transform => 'ml.bucketize(\"prié\",ARRAY[1, 2]) as b ,\n *', query => ((SELECT 1)))"
        );
        assert!(matches!(
            parse("CREATE MODEL IF NOT EXISTS m AS WITH a AS (SELECT 1) SELECT * FROM a").expect("it is one").remove(0),
            Command::CreateModel { or_replace: false, if_not_exists: true, .. }
        ));
    }

    #[test]
    fn statements_of_models_stand_among_others() {
        let commands = parse("SELECT 1; CREATE MODEL a AS SELECT 1;; DROP MODEL a; COMMIT;").expect("four");
        assert_eq!(commands.iter().map(Command::words).collect::<Vec<_>>(), ["SELECT", "CREATE MODEL", "DROP MODEL", "COMMIT"]);
        assert_eq!(parse("CREATE MODEL a AS SELECT 1 SELECT 2").expect_err("no delimiter").state, SqlState::SyntaxError);
        // a table may still be called so
        assert!(matches!(parse("SELECT * FROM model").expect("a query").remove(0), Command::Query(_)));
        assert!(matches!(parse("DROP TABLE model").expect("a drop").remove(0), Command::Drop { .. }));
    }

    #[test]
    fn versions_are_written_in_every_way() {
        let Command::DropModel { if_exists, targets } =
            parse("DROP MODEL IF EXISTS Ctr, ctr@3, \"ctr@4\", 'ctr@5'").expect("a drop").remove(0)
        else {
            panic!("not a drop")
        };
        assert!(if_exists);
        assert!(targets.iter().all(|(name, _)| name.as_str() == "ctr"));
        assert_eq!(targets.iter().map(|(_, version)| *version).collect::<Vec<_>>(), [None, Some(3), Some(4), Some(5)]);
        let Command::AlterModel { alias, version, .. } = parse("ALTER MODEL ctr SET ALIAS champion = 3").expect("an alter").remove(0)
        else {
            panic!("not an alter")
        };
        assert_eq!((alias.as_str(), version), ("champion", Some(3)));
        assert!(matches!(
            parse("ALTER MODEL ctr DROP ALIAS \"default\"").expect("an alter").remove(0),
            Command::AlterModel { version: None, .. }
        ));
    }

    #[test]
    fn what_does_not_fit_is_refused_at_its_place() {
        for (sql, message, column) in [
            ("CREATE MODEL ctr SELECT 1", "syntax error at or near \"SELECT\"", 18),
            ("CREATE MODEL ctr OPTIONS (label 'click') AS SELECT 1", "syntax error at or near \"'click'\"", 33),
            ("CREATE MODEL ctr OPTIONS (label = 'x' AS SELECT 1", "syntax error at or near \"AS\"", 39),
            ("CREATE MODEL ctr TRANSFORM () AS SELECT 1", "syntax error at or near \")\"", 29),
            ("CREATE MODEL \"Ctr\" AS SELECT 1", "\"Ctr\" is not a model name", 14),
            ("CREATE OR REPLACE MODEL IF NOT EXISTS a AS SELECT 1", "OR REPLACE and IF NOT EXISTS exclude each other", 25),
            ("CREATE MODEL a.b AS SELECT 1", "syntax error at or near \".\"", 15),
            ("DROP MODEL ctr@", "syntax error at end of input", 0),
            ("DROP MODEL ctr@champion", "DROP MODEL takes a model or a version, but \"ctr@champion\" is an alias", 12),
            ("DROP MODEL ctr@0", "\"ctr@0\" is not a model name", 12),
            ("ALTER MODEL ctr RENAME TO x", "syntax error at or near \"RENAME\"", 17),
            ("ALTER MODEL ctr SET ALIAS champion = 0", "syntax error at or near \"0\"", 38),
            ("ALTER MODEL ctr SET ALIAS champion = -1", "syntax error at or near \"-\"", 38),
        ] {
            // the end has no place
            let place = (column > 0).then_some((1, column));
            assert_eq!(refusal(sql), (message.to_owned(), place), "{sql}");
        }
        for sql in ["CREATE MODEL a AS SELECT 1 INTO t", "CREATE MODEL a AS WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d"] {
            assert_eq!(parse(sql).expect_err(sql).state, SqlState::FeatureNotSupported, "{sql}");
        }
    }
}
