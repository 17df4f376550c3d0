//! COPY: what goes which way in which format, in today's syntax and in the one that psql's `\copy` and older clients send.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query, Statement};
use datafusion::sql::sqlparser::parser::{IsOptional, Parser};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Command, folded, name, parse_one, read_only, unsupported, words};
use crate::copy::{Columns, Csv, Format, Header, Lines};
use crate::sqlstate::{SqlError, SqlState};

/// The statement at hand, if it is a COPY; otherwise no token is taken.
pub(super) fn parse(parser: &mut Parser<'_>) -> Option<Result<Command, SqlError>> {
    words(parser, &["COPY"]).then(|| copy(parser))
}

/// What is copied.
enum Source {
    Query(Box<Query>),
    Table(ObjectName, Vec<Ident>),
}

fn copy(parser: &mut Parser<'_>) -> Result<Command, SqlError> {
    let mut said = Said::default();
    if words(parser, &["BINARY"]) {
        said.format = Some("binary".to_owned());
    }
    let source = if parser.consume_token(&Token::LParen) {
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        read_only(&query)?;
        Source::Query(query)
    } else {
        Source::Table(parser.parse_object_name(false)?, parser.parse_parenthesized_column_list(IsOptional::Optional, false)?)
    };
    let from = words(parser, &["FROM"]);
    if !from && !words(parser, &["TO"]) {
        parser.expected_ref::<()>("FROM or TO", parser.peek_token_ref())?;
    }
    if !words(parser, &["STDIN"]) && !words(parser, &["STDOUT"]) {
        let program = words(parser, &["PROGRAM"]);
        parser.parse_literal_string()?;
        let what = if program { "program" } else { "file" };
        let hint = format!(
            "psql's \\copy reads and writes a {what} of the client; COPY ... FROM STDIN and COPY ... TO STDOUT go over the connection"
        );
        return Err(SqlError::new(SqlState::InsufficientPrivilege, format!("COPY with a {what} of the server is not allowed"))
            .with_hint(if from { format!("{hint}; a Parquet file in the server's data folder is a table") } else { hint }));
    }
    let with = words(parser, &["WITH"]);
    if parser.consume_token(&Token::LParen) {
        said.listed(parser)?;
    } else {
        said.spelled(parser, with)?;
    }
    if words(parser, &["WHERE"]) {
        return Err(unsupported("COPY FROM with WHERE").with_hint("copy everything and filter with CREATE TABLE ... AS SELECT"));
    }
    let format = said.format(from)?;
    match source {
        Source::Table(table, columns) if from => {
            Ok(Command::CopyFrom { target: name(&table)?, columns: columns.iter().map(folded).collect(), format })
        }
        Source::Table(table, columns) => {
            let columns: Vec<String> = columns.iter().map(Ident::to_string).collect();
            let list = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
            Ok(Command::CopyTo { query: Box::new(parse_one(&format!("SELECT {list} FROM {table}"))?), format })
        }
        Source::Query(_) if from => Err(SqlError::new(SqlState::SyntaxError, "COPY FROM takes a table, not a query")),
        Source::Query(query) => Ok(Command::CopyTo { query: Box::new(Statement::Query(query)), format }),
    }
}

/// The options as they were written.
#[derive(Default)]
struct Said {
    format: Option<String>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<Header>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<Columns>,
    force_not_null: Option<Columns>,
    force_null: Option<Columns>,
    encoding: Option<String>,
    freeze: Option<bool>,
}

fn once<T>(option: &mut Option<T>, value: T) -> Result<(), SqlError> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(SqlError::new(SqlState::SyntaxError, "conflicting or redundant options")),
    }
}

impl Said {
    /// `name [value], ...)`.
    fn listed(&mut self, parser: &mut Parser<'_>) -> Result<(), SqlError> {
        loop {
            let option = folded(&parser.parse_identifier()?);
            match option.as_str() {
                "format" => once(&mut self.format, folded(&parser.parse_identifier()?))?,
                "delimiter" => once(&mut self.delimiter, parser.parse_literal_string()?)?,
                "null" => once(&mut self.null, parser.parse_literal_string()?)?,
                "quote" => once(&mut self.quote, parser.parse_literal_string()?)?,
                "escape" => once(&mut self.escape, parser.parse_literal_string()?)?,
                "encoding" => once(&mut self.encoding, parser.parse_literal_string()?)?,
                "header" => {
                    let header = if words(parser, &["MATCH"]) {
                        Header::Match
                    } else if switch(parser, "header")? {
                        Header::Yes
                    } else {
                        Header::No
                    };
                    once(&mut self.header, header)?;
                }
                "freeze" => once(&mut self.freeze, switch(parser, "freeze")?)?,
                "force_quote" => once(&mut self.force_quote, columns(parser)?)?,
                "force_not_null" => once(&mut self.force_not_null, columns(parser)?)?,
                "force_null" => once(&mut self.force_null, columns(parser)?)?,
                _ => return Err(SqlError::new(SqlState::SyntaxError, format!("option \"{option}\" not recognized"))),
            }
            if !parser.consume_token(&Token::Comma) {
                parser.expect_token(&Token::RParen)?;
                return Ok(());
            }
        }
    }

    /// The older `[WITH] BINARY CSV HEADER DELIMITER AS ',' FORCE QUOTE a, b`, in any order.
    fn spelled(&mut self, parser: &mut Parser<'_>, with: bool) -> Result<(), SqlError> {
        let text = |parser: &mut Parser<'_>| {
            words(parser, &["AS"]);
            parser.parse_literal_string()
        };
        for option in 0.. {
            if words(parser, &["BINARY"]) {
                once(&mut self.format, "binary".to_owned())?;
            } else if words(parser, &["CSV"]) {
                once(&mut self.format, "csv".to_owned())?;
            } else if words(parser, &["HEADER"]) {
                once(&mut self.header, Header::Yes)?;
            } else if words(parser, &["DELIMITER"]) {
                once(&mut self.delimiter, text(parser)?)?;
            } else if words(parser, &["NULL"]) {
                once(&mut self.null, text(parser)?)?;
            } else if words(parser, &["QUOTE"]) {
                once(&mut self.quote, text(parser)?)?;
            } else if words(parser, &["ESCAPE"]) {
                once(&mut self.escape, text(parser)?)?;
            } else if words(parser, &["FORCE", "QUOTE"]) {
                once(&mut self.force_quote, columns(parser)?)?;
            } else if words(parser, &["FORCE", "NOT", "NULL"]) {
                once(&mut self.force_not_null, columns(parser)?)?;
            } else if words(parser, &["FORCE", "NULL"]) {
                once(&mut self.force_null, columns(parser)?)?;
            } else if words(parser, &["ENCODING"]) {
                once(&mut self.encoding, parser.parse_literal_string()?)?;
            } else if words(parser, &["FREEZE"]) {
                once(&mut self.freeze, true)?;
            } else if with && option == 0 {
                return Ok(parser.expected_ref("an option of COPY", parser.peek_token_ref())?);
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The format, once the options are known to go together.
    fn format(self, from: bool) -> Result<Format, SqlError> {
        use SqlState::{FeatureNotSupported, InvalidParameterValue, SyntaxError};
        let refuse = |state, message: String| Err(SqlError::new(state, message));
        if let Some(encoding) = &self.encoding
            && !matches!(encoding.to_ascii_lowercase().replace(['-', '_'], "").as_str(), "utf8" | "unicode")
        {
            return refuse(FeatureNotSupported, format!("COPY in the encoding \"{encoding}\" is not supported; data is in UTF8"));
        }
        if self.freeze == Some(true) {
            return refuse(FeatureNotSupported, "COPY with FREEZE is not supported".to_owned());
        }
        let (binary, csv) = match self.format.as_deref() {
            None | Some("text") => (false, false),
            Some("csv") => (false, true),
            Some("binary") => (true, false),
            Some(other) => return refuse(InvalidParameterValue, format!("COPY format \"{other}\" not recognized")),
        };
        if binary {
            if self.delimiter.is_some() || self.null.is_some() {
                let what = if self.delimiter.is_some() { "DELIMITER" } else { "NULL" };
                return refuse(SyntaxError, format!("cannot specify {what} in BINARY mode"));
            }
            if self.header.is_some_and(|header| header != Header::No) {
                return refuse(FeatureNotSupported, "cannot specify HEADER in BINARY mode".to_owned());
            }
        }
        if !csv {
            let only_csv = [
                ("quote", self.quote.is_some()),
                ("escape", self.escape.is_some()),
                ("force quote", self.force_quote.is_some()),
                ("force not null", self.force_not_null.is_some()),
                ("force null", self.force_null.is_some()),
            ];
            if let Some((what, _)) = only_csv.into_iter().find(|(_, said)| *said) {
                return refuse(FeatureNotSupported, format!("COPY {what} available only in CSV mode"));
            }
        }
        let one_way = [
            ("quote", self.force_quote.is_some() && from, "TO"),
            ("not null", self.force_not_null.is_some() && !from, "FROM"),
            ("null", self.force_null.is_some() && !from, "FROM"),
        ];
        if let Some((what, _, way)) = one_way.into_iter().find(|(_, wrong, _)| *wrong) {
            return refuse(FeatureNotSupported, format!("COPY force {what} only available using COPY {way}"));
        }
        if binary {
            return Ok(Format::Binary);
        }
        let header = self.header.unwrap_or(Header::No);
        if header == Header::Match && !from {
            return refuse(FeatureNotSupported, "cannot use \"match\" with HEADER in COPY TO".to_owned());
        }
        let byte = |text: Option<&str>, default: u8, what: &str| match text.map(str::as_bytes) {
            None => Ok(default),
            Some([byte]) => Ok(*byte),
            Some(_) => Err(SqlError::new(FeatureNotSupported, format!("COPY {what} must be a single one-byte character"))),
        };
        let delimiter = byte(self.delimiter.as_deref(), if csv { b',' } else { b'\t' }, "delimiter")?;
        let null = self.null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_owned() });
        if matches!(delimiter, b'\n' | b'\r') {
            return refuse(InvalidParameterValue, "COPY delimiter cannot be newline or carriage return".to_owned());
        }
        if null.contains(['\n', '\r']) {
            return refuse(InvalidParameterValue, "COPY null representation cannot use newline or carriage return".to_owned());
        }
        if !csv && (matches!(delimiter, b'\\' | b'.') || delimiter.is_ascii_lowercase() || delimiter.is_ascii_digit()) {
            return refuse(InvalidParameterValue, format!("COPY delimiter cannot be \"{}\"", char::from(delimiter)));
        }
        if null.as_bytes().contains(&delimiter) {
            return refuse(FeatureNotSupported, "COPY delimiter must not appear in the NULL specification".to_owned());
        }
        if !csv {
            return Ok(Format::Lines(Lines { delimiter, null, header, csv: None }));
        }
        let quote = byte(self.quote.as_deref(), b'"', "quote")?;
        let escape = byte(self.escape.as_deref(), quote, "escape")?;
        if delimiter == quote {
            return refuse(InvalidParameterValue, "COPY delimiter and quote must be different".to_owned());
        }
        if null.as_bytes().contains(&quote) {
            return refuse(FeatureNotSupported, "CSV quote character must not appear in the NULL specification".to_owned());
        }
        let none = || Columns::Named(Vec::new());
        let csv = Csv {
            quote,
            escape,
            force_quote: self.force_quote.unwrap_or_else(none),
            force_not_null: self.force_not_null.unwrap_or_else(none),
            force_null: self.force_null.unwrap_or_else(none),
        };
        Ok(Format::Lines(Lines { delimiter, null, header, csv: Some(csv) }))
    }
}

/// A boolean, which is true where nothing is said.
fn switch(parser: &mut Parser<'_>, option: &str) -> Result<bool, SqlError> {
    let written = match &parser.peek_token_ref().token {
        Token::Word(word) => word.value.clone(),
        Token::Number(number, _) => number.clone(),
        Token::SingleQuotedString(text) => text.clone(),
        _ => return Ok(true),
    };
    let value = match written.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => true,
        "false" | "off" | "0" => false,
        _ => {
            let values = if option == "header" { "a Boolean value or \"match\"" } else { "a Boolean value" };
            return Err(SqlError::new(SqlState::SyntaxError, format!("{option} requires {values}")));
        }
    };
    parser.advance_token();
    Ok(value)
}

/// `*`, `(a, b)` or the older `a, b`.
fn columns(parser: &mut Parser<'_>) -> Result<Columns, SqlError> {
    if parser.consume_token(&Token::Mul) {
        return Ok(Columns::All);
    }
    let names = if parser.peek_token_ref().token == Token::LParen {
        parser.parse_parenthesized_column_list(IsOptional::Mandatory, false)?
    } else {
        parser.parse_comma_separated(Parser::parse_identifier)?
    };
    Ok(Columns::Named(names.iter().map(folded).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn format(sql: &str) -> Format {
        match parse(sql).expect(sql).remove(0) {
            Command::CopyTo { format, .. } | Command::CopyFrom { format, .. } => format,
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn both_syntaxes_say_the_same() {
        for (today, older) in [
            ("COPY t TO STDOUT", "COPY t TO STDOUT"),
            ("COPY t TO STDOUT WITH (FORMAT csv, HEADER)", "COPY t TO STDOUT CSV HEADER"),
            ("COPY t TO STDOUT (FORMAT 'csv', HEADER true)", "copy t to stdout with csv header"),
            ("COPY t TO STDOUT (FORMAT binary)", "COPY BINARY t TO STDOUT"),
            ("COPY t TO STDOUT (FORMAT binary)", "COPY t TO STDOUT WITH BINARY"),
            ("COPY t TO STDOUT (DELIMITER '|', NULL '')", "COPY t TO STDOUT DELIMITER '|' NULL AS ''"),
            ("COPY t TO STDOUT (FORMAT csv, FORCE_QUOTE *)", "COPY t TO STDOUT CSV FORCE QUOTE *"),
            ("COPY t TO STDOUT (FORMAT csv, FORCE_QUOTE (a, \"B\"), QUOTE '''')", "COPY t TO STDOUT CSV QUOTE '''' FORCE QUOTE A, \"B\""),
            ("COPY t FROM STDIN (FORMAT csv, FORCE_NULL (a), FORCE_NOT_NULL (b))", "COPY t FROM STDIN CSV FORCE NULL a FORCE NOT NULL b"),
        ] {
            assert_eq!(format(today), format(older), "{today}");
        }
        let Format::Lines(lines) = format("COPY t FROM STDIN DELIMITER E'\\t'") else { panic!("not lines") };
        assert_eq!((lines.delimiter, lines.null.as_str()), (b'\t', "\\N"));
    }

    #[test]
    fn a_copy_stands_among_other_statements() {
        let commands = parse("SELECT 1; COPY t FROM STDIN; COPY (SELECT 1 AS a) TO STDOUT; SELECT 2").expect("four");
        assert_eq!(commands.iter().map(Command::words).collect::<Vec<_>>(), ["SELECT", "COPY FROM", "COPY TO", "SELECT"]);
        let Command::CopyTo { query, .. } = parse("COPY s.\"T\" (\"A\", b) TO STDOUT").expect("a copy").remove(0) else {
            panic!("not one")
        };
        assert_eq!(query.to_string(), "SELECT \"A\", b FROM s.\"T\"");
    }

    #[test]
    fn options_that_do_not_go_together_are_refused_as_postgresql_does() {
        for (options, state, message) in [
            ("TO STDOUT (FORMAT csv, FORMAT csv)", "42601", "conflicting or redundant options"),
            ("TO STDOUT (FORMAT xml)", "22023", "COPY format \"xml\" not recognized"),
            ("TO STDOUT (COLOUR red)", "42601", "option \"colour\" not recognized"),
            ("TO STDOUT (FORMAT binary, NULL '')", "42601", "cannot specify NULL in BINARY mode"),
            ("TO STDOUT (FORMAT binary, HEADER)", "0A000", "cannot specify HEADER in BINARY mode"),
            ("TO STDOUT (HEADER maybe)", "42601", "header requires a Boolean value or \"match\""),
            ("TO STDOUT (HEADER match)", "0A000", "cannot use \"match\" with HEADER in COPY TO"),
            ("TO STDOUT (QUOTE '''')", "0A000", "COPY quote available only in CSV mode"),
            ("TO STDOUT (DELIMITER 'ab')", "0A000", "COPY delimiter must be a single one-byte character"),
            ("TO STDOUT (DELIMITER 'a')", "22023", "COPY delimiter cannot be \"a\""),
            ("TO STDOUT (DELIMITER E'\\n')", "22023", "COPY delimiter cannot be newline or carriage return"),
            ("TO STDOUT (FORMAT csv, DELIMITER '\"')", "22023", "COPY delimiter and quote must be different"),
            ("TO STDOUT (DELIMITER ',', NULL 'a,b')", "0A000", "COPY delimiter must not appear in the NULL specification"),
            ("FROM STDIN (FORMAT csv, FORCE_QUOTE *)", "0A000", "COPY force quote only available using COPY TO"),
            ("TO STDOUT (FORMAT csv, FORCE_NULL (a))", "0A000", "COPY force null only available using COPY FROM"),
            ("TO STDOUT WITH", "42601", "syntax error at end of input"),
        ] {
            let error = parse(&format!("COPY t {options}")).expect_err(options);
            assert_eq!((error.state.code(), error.message.as_str()), (state, message), "{options}");
        }
    }

    #[test]
    fn files_and_programs_of_the_server_stay_closed() {
        for sql in ["COPY t TO '/tmp/x'", "COPY t FROM '/etc/passwd' CSV", "COPY (SELECT 1) TO PROGRAM 'cat'"] {
            let error = parse(sql).expect_err(sql);
            assert_eq!(error.state, SqlState::InsufficientPrivilege, "{sql}");
            assert!(error.hint.is_some_and(|hint| hint.contains("\\copy")), "{sql}");
        }
    }
}
