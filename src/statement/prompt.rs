//! CREATE PROMPT and DROP PROMPT.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::model::{at_place, name, targets};
use super::{Command, words};
use crate::sqlstate::{SqlError, SqlState};

const CREATE: &str = "CREATE [OR REPLACE] PROMPT [IF NOT EXISTS] name AS 'text with {{column}}'";
const DROP: &str = "DROP PROMPT [IF EXISTS] name [, ...], where name@3 is one version";

/// The statement at hand, if it is one about prompts; otherwise no token is taken.
pub(super) fn parse(parser: &mut Parser<'_>) -> Option<Result<Command, SqlError>> {
    let (parsed, form) = if words(parser, &["CREATE", "PROMPT"]) {
        (create(parser, false), CREATE)
    } else if words(parser, &["CREATE", "OR", "REPLACE", "PROMPT"]) {
        (create(parser, true), CREATE)
    } else if words(parser, &["DROP", "PROMPT"]) {
        (drop(parser), DROP)
    } else {
        return None;
    };
    Some(parsed.map_err(|error| match error.hint {
        None if error.state == SqlState::SyntaxError => error.with_hint(format!("the statement is {form}")),
        _ => SqlError { message: error.message.replace("is not a model name", "is not a prompt name"), ..error },
    }))
}

fn create(parser: &mut Parser<'_>, or_replace: bool) -> Result<Command, SqlError> {
    let at = parser.peek_token_ref().span.start;
    let if_not_exists = words(parser, &["IF", "NOT", "EXISTS"]);
    if or_replace && if_not_exists {
        return Err(at_place(SqlError::new(SqlState::SyntaxError, "OR REPLACE and IF NOT EXISTS exclude each other"), at));
    }
    let name = name(parser)?;
    if !words(parser, &["AS"]) {
        parser.expected_ref::<()>("AS", parser.peek_token_ref())?;
    }
    let next = parser.next_token();
    let text = match next.token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) | Token::UnicodeStringLiteral(text) => text,
        Token::DollarQuotedString(text) => text.value,
        _ => parser.expected("the text of the prompt in quotes", next)?,
    };
    Ok(Command::CreatePrompt { name, or_replace, if_not_exists, text })
}

fn drop(parser: &mut Parser<'_>) -> Result<Command, SqlError> {
    let if_exists = words(parser, &["IF", "EXISTS"]);
    let targets = targets(parser, |target, _| {
        let message = format!("DROP PROMPT takes a prompt or a version, but \"{target}\" is neither");
        (message, "prompts have versions and no aliases".to_owned())
    })?;
    Ok(Command::DropPrompt { if_exists, targets })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn a_prompt_is_a_text_in_any_quotes() {
        for sql in [
            "CREATE PROMPT welcome AS 'Say \"hello\" to {{first_name}}, it''s time'",
            "create or replace prompt \"welcome\" as $$Say \"hello\" to {{first_name}}, it's time$$",
            "CREATE PROMPT IF NOT EXISTS welcome AS $p$Say \"hello\" to {{first_name}}, it's time$p$; SELECT 1",
        ] {
            let Command::CreatePrompt { name, text, .. } = parse(sql).expect(sql).remove(0) else { panic!("{sql}") };
            assert_eq!((name.as_str(), text.as_str()), ("welcome", "Say \"hello\" to {{first_name}}, it's time"));
        }
        let Command::DropPrompt { if_exists: true, targets } = parse("DROP PROMPT IF EXISTS welcome, cart@2").expect("a drop").remove(0)
        else {
            panic!("not a drop")
        };
        assert_eq!(
            targets.iter().map(|(name, version)| (name.as_str(), *version)).collect::<Vec<_>>(),
            [("welcome", None), ("cart", Some(2))]
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_form() {
        for (sql, message) in [
            ("CREATE PROMPT welcome 'Hello'", "syntax error at or near \"'Hello'\""),
            ("CREATE PROMPT welcome AS SELECT 1", "syntax error at or near \"SELECT\""),
            ("CREATE PROMPT \"Welcome\" AS 'Hello'", "\"Welcome\" is not a prompt name"),
            ("CREATE OR REPLACE PROMPT IF NOT EXISTS a AS 'x'", "OR REPLACE and IF NOT EXISTS exclude each other"),
            ("DROP PROMPT welcome@champion", "DROP PROMPT takes a prompt or a version, but \"welcome@champion\" is neither"),
        ] {
            let error = parse(sql).expect_err(sql);
            assert_eq!(error.message, message);
            assert!(error.hint.is_some(), "{sql}");
        }
    }
}
