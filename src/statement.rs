//! What a client may say: the allow-list of statements, parsed into what the session does with them.

mod change;
mod copy;
mod create;
mod cursor;
mod explain;
mod model;
mod prompt;
mod setting;

use datafusion::sql::sqlparser::ast::{
    ColumnDef, Delete, DiscardObject, Insert, ObjectName, ObjectType, Query, Reset, Statement, TableObject, TransactionAccessMode,
    TransactionMode, Update,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use stratagem_udfs::models::ModelName;

use crate::copy::Format;
use crate::names::folded;
use crate::sqlstate::{SqlError, SqlState};
use crate::store::Kind;
use crate::system::Post;

pub(crate) use change::Alteration;
pub(crate) use cursor::{Declared, Fetch, Way};
pub(crate) use explain::Explain;

/// Expressions may be nested this deep.
const NESTING: usize = 100;

/// A statement this server runs.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// SELECT, VALUES, TABLE: answers rows.
    Query(Statement),
    /// EXPLAIN of a query.
    Explain(Explain),
    /// INSERT into a table of a writable schema.
    Insert { target: Name, statement: Statement },
    /// DELETE from such a table.
    Delete { target: Name, delete: Box<Delete> },
    /// UPDATE of such a table.
    Update { target: Name, update: Box<Update> },
    /// TRUNCATE.
    Truncate(Vec<Name>),
    /// CREATE TABLE AS.
    CreateTableAs { target: Name, if_not_exists: bool, columns: Vec<String>, query: Box<Query> },
    /// CREATE TABLE with columns.
    CreateTable { target: Name, if_not_exists: bool, columns: Vec<ColumnDef> },
    /// CREATE VIEW.
    CreateView { target: Name, or_replace: bool, query: Box<Query> },
    /// DROP TABLE or DROP VIEW.
    Drop { view: bool, if_exists: bool, targets: Vec<Name> },
    /// ALTER TABLE of columns.
    Alter { target: Name, if_exists: bool, alterations: Vec<Alteration> },
    /// ALTER TABLE or ALTER VIEW, RENAME TO.
    Rename { kind: Kind, target: Name, if_exists: bool, to: String },
    /// COMMENT ON a table or view or one of its columns; no text removes it.
    Comment { kind: Kind, target: Name, column: Option<String>, text: Option<String> },
    /// CREATE SCHEMA.
    CreateSchema { name: String, if_not_exists: bool },
    /// DROP SCHEMA.
    DropSchema { names: Vec<String>, if_exists: bool, cascade: bool },
    /// CREATE MODEL: `training` is a query that calls `finetune`.
    CreateModel { name: ModelName, or_replace: bool, if_not_exists: bool, training: Box<Statement> },
    /// DROP MODEL, of models and of versions.
    DropModel { if_exists: bool, targets: Vec<(ModelName, Option<u32>)> },
    /// ALTER MODEL SET ALIAS; no version is DROP ALIAS.
    AlterModel { name: ModelName, alias: String, version: Option<u32> },
    /// CREATE PROMPT.
    CreatePrompt { name: ModelName, or_replace: bool, if_not_exists: bool, text: String },
    /// DROP PROMPT, of prompts and of versions.
    DropPrompt { if_exists: bool, targets: Vec<(ModelName, Option<u32>)> },
    /// COPY TO STDOUT; a table is a query of all or some of its columns.
    CopyTo { query: Box<Statement>, format: Format },
    /// COPY FROM STDIN; no columns are all.
    CopyFrom { target: Name, columns: Vec<String>, format: Format },
    /// DECLARE CURSOR.
    Declare { cursor: Declared, query: Box<Statement> },
    /// FETCH and MOVE.
    Fetch(Fetch),
    /// CLOSE; no name is ALL.
    Close(Option<String>),
    /// SET; no value is DEFAULT.
    Set { local: bool, name: String, value: Option<String> },
    /// RESET; no name is ALL.
    Reset(Option<String>),
    /// SHOW; no name is ALL.
    Show(Option<String>),
    /// DISCARD ALL and its parts.
    Discard(Discarded),
    /// DEALLOCATE; no name is ALL.
    Deallocate(Option<String>),
    /// BEGIN or START TRANSACTION, with the command tag it is answered with, and READ ONLY or READ WRITE and the isolation if that
    /// was said.
    Begin { words: &'static str, read_only: Option<bool>, isolation: Option<String> },
    /// COMMIT or END.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// SAVEPOINT.
    Savepoint(String),
    /// RELEASE SAVEPOINT.
    Release(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(String),
    /// LISTEN, UNLISTEN and NOTIFY.
    Post(Post),
}

/// What DISCARD forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discarded {
    All,
    Plans,
    Sequences,
    Temporary,
}

/// A possibly qualified name of a table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// `pg_temp` where a table is to be temporary.
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl Command {
    /// Whether it changes something outside its own session.
    pub(crate) fn writes(&self) -> bool {
        self.stands_alone()
            || matches!(
                self,
                Command::Insert { .. }
                    | Command::Delete { .. }
                    | Command::Update { .. }
                    | Command::Truncate(_)
                    | Command::CreateTableAs { .. }
                    | Command::CreateTable { .. }
                    | Command::CreateView { .. }
                    | Command::Drop { .. }
                    | Command::Alter { .. }
                    | Command::Rename { .. }
                    | Command::Comment { .. }
                    | Command::CreateSchema { .. }
                    | Command::DropSchema { .. }
                    | Command::CopyFrom { .. }
            )
    }

    /// Whether what it writes can't be rolled back.
    pub(crate) fn stands_alone(&self) -> bool {
        matches!(
            self,
            Command::CreateModel { .. }
                | Command::DropModel { .. }
                | Command::AlterModel { .. }
                | Command::CreatePrompt { .. }
                | Command::DropPrompt { .. }
        )
    }

    /// Whether it is allowed while a failed transaction waits for its end.
    pub(crate) fn ends_failure(&self) -> bool {
        matches!(self, Command::Commit | Command::Rollback | Command::RollbackTo(_))
    }

    /// Whether it ends the transaction.
    pub(crate) fn ends_transaction(&self) -> bool {
        matches!(self, Command::Commit | Command::Rollback)
    }

    /// The words of the command, as its tag and as errors name it.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Command::Query(_) => "SELECT",
            Command::Explain(_) => "EXPLAIN",
            Command::Insert { .. } => "INSERT",
            Command::Delete { .. } => "DELETE",
            Command::Update { .. } => "UPDATE",
            Command::Truncate(_) => "TRUNCATE TABLE",
            Command::Alter { .. } | Command::Rename { kind: Kind::Any | Kind::Table, .. } => "ALTER TABLE",
            Command::Rename { kind: Kind::View, .. } => "ALTER VIEW",
            Command::Comment { .. } => "COMMENT",
            Command::CreateSchema { .. } => "CREATE SCHEMA",
            Command::DropSchema { .. } => "DROP SCHEMA",
            Command::CreateTableAs { .. } => "CREATE TABLE AS",
            Command::CreateTable { .. } => "CREATE TABLE",
            Command::CreateView { .. } => "CREATE VIEW",
            Command::Drop { view: true, .. } => "DROP VIEW",
            Command::Drop { view: false, .. } => "DROP TABLE",
            Command::CreateModel { .. } => "CREATE MODEL",
            Command::DropModel { .. } => "DROP MODEL",
            Command::AlterModel { .. } => "ALTER MODEL",
            Command::CreatePrompt { .. } => "CREATE PROMPT",
            Command::DropPrompt { .. } => "DROP PROMPT",
            Command::CopyTo { .. } => "COPY TO",
            Command::CopyFrom { .. } => "COPY FROM",
            Command::Declare { .. } => "DECLARE CURSOR",
            Command::Fetch(Fetch { moves: false, .. }) => "FETCH",
            Command::Fetch(Fetch { moves: true, .. }) => "MOVE",
            Command::Close(Some(_)) => "CLOSE CURSOR",
            Command::Close(None) => "CLOSE CURSOR ALL",
            Command::Set { .. } => "SET",
            Command::Reset(_) => "RESET",
            Command::Show(_) => "SHOW",
            Command::Discard(Discarded::All) => "DISCARD ALL",
            Command::Discard(Discarded::Plans) => "DISCARD PLANS",
            Command::Discard(Discarded::Sequences) => "DISCARD SEQUENCES",
            Command::Discard(Discarded::Temporary) => "DISCARD TEMP",
            Command::Deallocate(None) => "DEALLOCATE ALL",
            Command::Deallocate(Some(_)) => "DEALLOCATE",
            Command::Begin { words, .. } => words,
            Command::Commit => "COMMIT",
            Command::Rollback | Command::RollbackTo(_) => "ROLLBACK",
            Command::Savepoint(_) => "SAVEPOINT",
            Command::Release(_) => "RELEASE",
            Command::Post(Post::Listen(_)) => "LISTEN",
            Command::Post(Post::Unlisten(_)) => "UNLISTEN",
            Command::Post(Post::Notify { .. }) => "NOTIFY",
        }
    }
}

/// Parses the statements of a query string. An empty string has none.
pub(crate) fn parse(sql: &str) -> Result<Vec<Command>, SqlError> {
    let dialect = PostgreSqlDialect {};
    let mut parser = parser(&dialect, sql)?;
    let mut commands = Vec::new();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        if parser.peek_token_ref().token == Token::EOF {
            return Ok(commands);
        }
        let ours = model::parse(&mut parser, sql)
            .or_else(|| prompt::parse(&mut parser))
            .or_else(|| change::parse(&mut parser))
            .or_else(|| copy::parse(&mut parser))
            .or_else(|| cursor::parse(&mut parser));
        commands.push(match ours {
            Some(parsed) => parsed?,
            None => command(parser.parse_statement()?)?,
        });
        let next = parser.peek_token_ref();
        if !matches!(next.token, Token::SemiColon | Token::EOF) {
            parser.expected_ref::<()>("end of statement", next)?;
        }
    }
}

/// Parses a string that must hold one query, such as the text of a view.
pub(crate) fn parse_one(sql: &str) -> Result<Statement, SqlError> {
    let mut statements = parser(&PostgreSqlDialect {}, sql)?.parse_statements()?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement @ Statement::Query(_)), true) => Ok(statement),
        _ => Err(SqlError::new(SqlState::SyntaxError, "expected one query")),
    }
}

fn parser<'a>(dialect: &'a PostgreSqlDialect, sql: &str) -> Result<Parser<'a>, SqlError> {
    Ok(Parser::new(dialect).with_recursion_limit(NESTING).try_with_sql(sql)?)
}

/// Takes these words if they are next, in any case.
fn words(parser: &mut Parser<'_>, expected: &[&str]) -> bool {
    let next = |(n, word): (usize, &&str)| match &parser.peek_nth_token_ref(n).token {
        Token::Word(found) => found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word),
        _ => false,
    };
    let found = expected.iter().enumerate().all(next);
    if found {
        expected.iter().for_each(|_| parser.advance_token());
    }
    found
}

/// The allow-list. What is not named here is refused.
fn command(statement: Statement) -> Result<Command, SqlError> {
    match statement {
        Statement::Query(query) => {
            read_only(&query)?;
            Ok(Command::Query(Statement::Query(query)))
        }
        Statement::Explain { .. } => explain::explain(statement),
        Statement::Insert(insert) => self::insert(insert),
        Statement::CreateTable(table) => create::table(table),
        Statement::CreateView(view) => create::view(view),
        Statement::Delete(delete) => change::delete(delete),
        Statement::Update(update) => change::update(update),
        Statement::Truncate(truncate) => change::truncate(&truncate),
        Statement::AlterTable(alter) => change::alter(alter),
        Statement::CreateSchema { schema_name, if_not_exists, .. } => change::create_schema(&schema_name, if_not_exists),
        Statement::Drop { object_type: ObjectType::Schema, if_exists, names, cascade, .. } => {
            Ok(Command::DropSchema { names: names.iter().map(change::schema).collect::<Result<_, _>>()?, if_exists, cascade })
        }
        Statement::Drop { object_type, if_exists, names, temporary: false, .. } => {
            let view = match object_type {
                ObjectType::Table => false,
                ObjectType::View => true,
                other => return Err(unsupported(&format!("DROP {other}"))),
            };
            Ok(Command::Drop { view, if_exists, targets: names.iter().map(name).collect::<Result<_, _>>()? })
        }
        Statement::Set(set) => self::setting::set(set),
        Statement::Reset(reset) => Ok(Command::Reset(match reset.reset {
            Reset::ALL => None,
            Reset::ConfigurationParameter(name) => Some(name.to_string()),
        })),
        Statement::ShowVariable { variable } => setting::show(&variable.iter().map(|i| i.value.clone()).collect::<Vec<_>>()),
        Statement::Discard { object_type } => Ok(Command::Discard(match object_type {
            DiscardObject::ALL => Discarded::All,
            DiscardObject::PLANS => Discarded::Plans,
            DiscardObject::SEQUENCES => Discarded::Sequences,
            DiscardObject::TEMP => Discarded::Temporary,
        })),
        Statement::Deallocate { name, .. } => {
            Ok(Command::Deallocate(if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all") {
                None
            } else {
                Some(folded(&name))
            }))
        }
        Statement::StartTransaction { begin, modes, statements, .. } if statements.is_empty() => {
            let read_only = modes.iter().find_map(|mode| match mode {
                TransactionMode::AccessMode(mode) => Some(*mode == TransactionAccessMode::ReadOnly),
                TransactionMode::IsolationLevel(_) => None,
            });
            let isolation = modes.iter().find_map(|mode| match mode {
                TransactionMode::IsolationLevel(level) => Some(level.to_string().to_lowercase()),
                TransactionMode::AccessMode(_) => None,
            });
            Ok(Command::Begin { words: if begin { "BEGIN" } else { "START TRANSACTION" }, read_only, isolation })
        }
        Statement::Commit { chain: false, .. } => Ok(Command::Commit),
        Statement::Rollback { chain: false, savepoint: None } => Ok(Command::Rollback),
        Statement::Rollback { chain: false, savepoint: Some(name) } => Ok(Command::RollbackTo(folded(&name))),
        Statement::Savepoint { name } => Ok(Command::Savepoint(folded(&name))),
        Statement::ReleaseSavepoint { name } => Ok(Command::Release(folded(&name))),
        Statement::LISTEN { channel } => Ok(Command::Post(Post::Listen(folded(&channel)))),
        Statement::UNLISTEN { channel } => {
            let all = channel.quote_style.is_none() && channel.value == "*";
            Ok(Command::Post(Post::Unlisten((!all).then(|| folded(&channel)))))
        }
        Statement::NOTIFY { channel, payload } => {
            Ok(Command::Post(Post::notify(&folded(&channel), payload.as_deref().unwrap_or_default())?))
        }
        other => Err(refused(&other)),
    }
}

fn unsupported(what: &str) -> SqlError {
    SqlError::new(SqlState::FeatureNotSupported, format!("{what} is not supported"))
}

fn refused(statement: &Statement) -> SqlError {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take_while(|w| w.chars().all(|c| c.is_ascii_uppercase() || c == '_')).take(3).collect();
    match words.first() {
        Some(&"LOAD" | &"ATTACH" | &"INSTALL" | &"UNLOAD") => SqlError::new(
            SqlState::InsufficientPrivilege,
            format!("{} is not allowed: SQL has no access to files or the network", words[0]),
        ),
        _ => unsupported(&if words.is_empty() { "this statement".to_owned() } else { words.join(" ") }).with_hint(
            "this server runs queries, COPY, cursors, CREATE, ALTER and DROP of models, prompts, schemas, tables and views, INSERT, UPDATE, DELETE, TRUNCATE, settings and transactions",
        ),
    }
}

/// SELECT ... INTO and data-modifying WITH would write where only reading is expected.
fn read_only(query: &Query) -> Result<(), SqlError> {
    use datafusion::sql::sqlparser::ast::SetExpr;
    match query.body.as_ref() {
        SetExpr::Select(select) if select.into.is_some() => {
            Err(unsupported("SELECT INTO").with_hint("write CREATE TABLE name AS SELECT ..."))
        }
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => Err(unsupported("a data-modifying WITH")),
        SetExpr::Query(inner) => read_only(inner),
        _ => query.with.iter().flat_map(|with| &with.cte_tables).try_for_each(|cte| read_only(&cte.query)),
    }
}

fn insert(insert: Insert) -> Result<Command, SqlError> {
    if insert.returning.is_some() {
        return Err(change::no_returning("INSERT"));
    }
    if insert.on.is_some() || insert.overwrite {
        return Err(unsupported("INSERT with ON CONFLICT or OVERWRITE"));
    }
    let TableObject::TableName(table) = &insert.table else { return Err(unsupported("INSERT into anything but a table")) };
    let target = name(table)?;
    if insert.source.is_none() {
        return Err(unsupported("INSERT without VALUES or a query"));
    }
    Ok(Command::Insert { target, statement: Statement::Insert(insert) })
}

fn name(name: &ObjectName) -> Result<Name, SqlError> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
    match parts.as_slice() {
        [table] => Ok(Name { schema: None, table: table.clone() }),
        [schema, table] => Ok(Name { schema: Some(schema.clone()), table: table.clone() }),
        [database, schema, table] if database == crate::planner::DATABASE => {
            Ok(Name { schema: Some(schema.clone()), table: table.clone() })
        }
        _ => Err(SqlError::new(SqlState::FeatureNotSupported, format!("cross-database references are not implemented: {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sql: &str) -> SqlError {
        parse(sql).expect_err(sql)
    }

    #[test]
    fn no_statement_reaches_files_or_the_network() {
        for sql in ["COPY (SELECT 1) TO '/tmp/x'", "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/tmp/x'"] {
            assert_eq!(refusal(sql).state, SqlState::InsufficientPrivilege, "{sql}");
        }
    }

    #[test]
    fn what_is_not_on_the_list_is_refused() {
        for sql in [
            "VACUUM",
            "GRANT SELECT ON t TO x",
            "CREATE INDEX i ON t (a)",
            "SELECT 1 INTO t",
            "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
        ] {
            assert_eq!(refusal(sql).state, SqlState::FeatureNotSupported, "{sql}");
        }
    }

    #[test]
    fn an_empty_string_has_no_statements() {
        for sql in ["", "  ", ";", " ; ;", "-- only a comment"] {
            assert!(parse(sql).expect(sql).is_empty(), "{sql:?}");
        }
    }
}
