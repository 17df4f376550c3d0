//! DECLARE, FETCH, MOVE and CLOSE.

use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Command, folded, read_only, words};
use crate::sqlstate::{SqlError, SqlState};

/// What DECLARE says of a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Rows are sent in binary.
    pub(crate) binary: bool,
    /// Rows can be fetched again.
    pub(crate) scroll: bool,
    /// It outlives its transaction.
    pub(crate) hold: bool,
}

/// FETCH, or MOVE, which sends no rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) name: String,
    pub(crate) moves: bool,
    pub(crate) way: Way,
}

/// Which rows, seen from where the cursor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// So many of the next; none is all. Zero is the row at hand.
    Forward(Option<u64>),
    /// So many of those before, the nearest first; none is all.
    Backward(Option<u64>),
    /// The row of this number from the first, or from the last where it is negative.
    Absolute(i64),
    /// The row so many rows further.
    Relative(i64),
}

/// The statement at hand, if it is about cursors; otherwise no token is taken.
pub(super) fn parse(parser: &mut Parser<'_>) -> Option<Result<Command, SqlError>> {
    if words(parser, &["DECLARE"]) {
        Some(declare(parser))
    } else if words(parser, &["FETCH"]) {
        Some(fetch(parser, false))
    } else if words(parser, &["MOVE"]) {
        Some(fetch(parser, true))
    } else if words(parser, &["CLOSE"]) {
        Some(close(parser))
    } else {
        None
    }
}

fn declare(parser: &mut Parser<'_>) -> Result<Command, SqlError> {
    let mut cursor = Declared { name: folded(&parser.parse_identifier()?), binary: false, scroll: false, hold: false };
    let mut forward = false;
    loop {
        if words(parser, &["BINARY"]) {
            cursor.binary = true;
        } else if words(parser, &["NO", "SCROLL"]) {
            forward = true;
        } else if words(parser, &["SCROLL"]) {
            cursor.scroll = true;
        } else if !words(parser, &["INSENSITIVE"]) && !words(parser, &["ASENSITIVE"]) {
            break;
        }
    }
    if forward && cursor.scroll {
        return Err(SqlError::new(SqlState::SyntaxError, "cannot specify both SCROLL and NO SCROLL"));
    }
    if !words(parser, &["CURSOR"]) {
        parser.expected_ref::<()>("CURSOR", parser.peek_token_ref())?;
    }
    if words(parser, &["WITH", "HOLD"]) {
        cursor.hold = true;
    } else {
        words(parser, &["WITHOUT", "HOLD"]);
    }
    if !words(parser, &["FOR"]) {
        parser.expected_ref::<()>("FOR", parser.peek_token_ref())?;
    }
    let query = parser.parse_query()?;
    read_only(&query)?;
    Ok(Command::Declare { cursor, query: Box::new(Statement::Query(query)) })
}

fn fetch(parser: &mut Parser<'_>, moves: bool) -> Result<Command, SqlError> {
    // one word is the name, whatever the word
    let alone = matches!(parser.peek_nth_token_ref(1).token, Token::EOF | Token::SemiColon);
    let way = if alone { Way::Forward(Some(1)) } else { way(parser)? };
    if !alone && !words(parser, &["FROM"]) {
        words(parser, &["IN"]);
    }
    Ok(Command::Fetch(Fetch { name: folded(&parser.parse_identifier()?), moves, way }))
}

fn way(parser: &mut Parser<'_>) -> Result<Way, SqlError> {
    let count = |n: i64| match n {
        n if n < 0 => Way::Backward(Some(n.unsigned_abs())),
        n => Way::Forward(Some(n.unsigned_abs())),
    };
    if words(parser, &["NEXT"]) {
        Ok(Way::Forward(Some(1)))
    } else if words(parser, &["PRIOR"]) {
        Ok(Way::Backward(Some(1)))
    } else if words(parser, &["FIRST"]) {
        Ok(Way::Absolute(1))
    } else if words(parser, &["LAST"]) {
        Ok(Way::Absolute(-1))
    } else if words(parser, &["ABSOLUTE"]) {
        Ok(Way::Absolute(required(parser)?))
    } else if words(parser, &["RELATIVE"]) {
        Ok(Way::Relative(required(parser)?))
    } else if words(parser, &["ALL"]) || words(parser, &["FORWARD", "ALL"]) {
        Ok(Way::Forward(None))
    } else if words(parser, &["BACKWARD", "ALL"]) {
        Ok(Way::Backward(None))
    } else if words(parser, &["FORWARD"]) {
        Ok(count(number(parser)?.unwrap_or(1)))
    } else if words(parser, &["BACKWARD"]) {
        let n = number(parser)?.unwrap_or(1);
        // no rows back are no rows on
        Ok(if n > 0 { Way::Backward(Some(n.unsigned_abs())) } else { Way::Forward(Some(n.unsigned_abs())) })
    } else {
        Ok(count(number(parser)?.unwrap_or(1)))
    }
}

fn required(parser: &mut Parser<'_>) -> Result<i64, SqlError> {
    match number(parser)? {
        Some(number) => Ok(number),
        None => Ok(parser.expected_ref("a number of rows", parser.peek_token_ref())?),
    }
}

/// The whole number that is next, if one is.
fn number(parser: &mut Parser<'_>) -> Result<Option<i64>, SqlError> {
    let sign = match parser.peek_token_ref().token {
        Token::Minus => -1,
        Token::Plus => 1,
        _ => 0,
    };
    if sign != 0 {
        parser.advance_token();
    }
    let value = match &parser.peek_token_ref().token {
        Token::Number(digits, _) => digits.parse::<i64>().ok(),
        _ if sign == 0 => return Ok(None),
        _ => None,
    };
    let Some(value) = value else { return Ok(parser.expected_ref("a number of rows", parser.peek_token_ref())?) };
    parser.advance_token();
    Ok(Some(if sign < 0 { -value } else { value }))
}

fn close(parser: &mut Parser<'_>) -> Result<Command, SqlError> {
    if words(parser, &["ALL"]) {
        return Ok(Command::Close(None));
    }
    Ok(Command::Close(Some(folded(&parser.parse_identifier()?))))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn every_way_of_fetching_is_read() {
        for (sql, way) in [
            ("FETCH c", Way::Forward(Some(1))),
            ("FETCH NEXT FROM c", Way::Forward(Some(1))),
            ("FETCH NEXT c", Way::Forward(Some(1))),
            ("FETCH FROM c", Way::Forward(Some(1))),
            ("FETCH PRIOR IN c", Way::Backward(Some(1))),
            ("FETCH FIRST c", Way::Absolute(1)),
            ("FETCH LAST c", Way::Absolute(-1)),
            ("FETCH ABSOLUTE -3 FROM c", Way::Absolute(-3)),
            ("FETCH RELATIVE 0 FROM c", Way::Relative(0)),
            ("FETCH 10 FROM c", Way::Forward(Some(10))),
            ("FETCH -10 FROM c", Way::Backward(Some(10))),
            ("FETCH ALL c", Way::Forward(None)),
            ("FETCH FORWARD FROM c", Way::Forward(Some(1))),
            ("FETCH FORWARD 5 FROM c", Way::Forward(Some(5))),
            ("FETCH FORWARD ALL IN c", Way::Forward(None)),
            ("FETCH BACKWARD 2 FROM c", Way::Backward(Some(2))),
            ("FETCH BACKWARD -2 FROM c", Way::Forward(Some(2))),
            ("FETCH BACKWARD ALL FROM c", Way::Backward(None)),
        ] {
            let Command::Fetch(fetch) = parse(sql).expect(sql).remove(0) else { panic!("{sql}") };
            assert_eq!(fetch, Fetch { name: "c".to_owned(), moves: false, way }, "{sql}");
        }
        let Command::Fetch(fetch) = parse("MOVE forward 3 from \"My Cursor\"").expect("a move").remove(0) else { panic!("not one") };
        assert_eq!((fetch.name.as_str(), fetch.moves), ("My Cursor", true));
        let Command::Fetch(fetch) = parse("FETCH next").expect("a fetch").remove(0) else { panic!("not one") };
        assert_eq!(fetch.name, "next");
        assert!(parse("FETCH ABSOLUTE FROM c").is_err() && parse("FETCH - FROM c").is_err() && parse("FETCH").is_err());
    }

    #[test]
    fn cursors_are_declared_with_their_properties() {
        let declared = |sql: &str| match parse(sql).expect(sql).remove(0) {
            Command::Declare { cursor, query } => (cursor.binary, cursor.scroll, cursor.hold, query.to_string()),
            other => panic!("{sql}: {other:?}"),
        };
        assert_eq!(declared("DECLARE c CURSOR FOR SELECT 1"), (false, false, false, "SELECT 1".to_owned()));
        assert_eq!(
            declared("declare c scroll binary insensitive cursor with hold for values (1)"),
            (true, true, true, "VALUES (1)".to_owned())
        );
        assert_eq!(declared("DECLARE c NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1"), (false, false, false, "SELECT 1".to_owned()));
        for sql in ["DECLARE c CURSOR SELECT 1", "DECLARE c SCROLL NO SCROLL CURSOR FOR SELECT 1", "DECLARE c CURSOR FOR DROP TABLE t"] {
            assert_eq!(parse(sql).expect_err(sql).state, SqlState::SyntaxError, "{sql}");
        }
        assert!(matches!(parse("CLOSE ALL").expect("a close").remove(0), Command::Close(None)));
        assert!(matches!(parse("CLOSE c").expect("a close").remove(0), Command::Close(Some(name)) if name == "c"));
    }
}
