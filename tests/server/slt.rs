//! The files of tests/sql, each through the simple and the extended protocol. Those of what PostgreSQL has, too, are run against a PostgreSQL
//! where one is installed; what stands under `onlyif stratagem` has another answer there.

use std::path::Path;

use async_trait::async_trait;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::{FromSql, Type};

use crate::postgres::Postgres;
use crate::running::Running;

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_files_hold_in_the_simple_protocol() {
    run_all(Protocol::Simple).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_files_hold_in_the_extended_protocol() {
    run_all(Protocol::Extended).await;
}

/// Files of what PostgreSQL has, too.
const COMMON: [&str; 9] = ["basics", "catalog", "changing", "explain", "json", "patterns", "settings", "transactions", "writing"];

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_files_hold_of_postgresql() {
    let Some(postgres) = Postgres::start() else { return };
    for name in COMMON {
        postgres.empty();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql").join(name).with_extension("slt");
        let text = std::fs::read_to_string(&file).expect("a readable file");
        // the SQLSTATE is the same, the words are ours
        let lines = text.lines().map(|line| match line.strip_prefix("statement error ") {
            Some(expected) => format!("statement error {}", expected.split(' ').next().unwrap_or_default()),
            None => line.to_owned(),
        });
        let text = lines.collect::<Vec<_>>().join("\n") + "\n";
        let address = format!("host=127.0.0.1 port={} user=test dbname=stratagem", postgres.port);
        let mut runner = Runner::new(|| async {
            let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, Failure>(Wire { client, protocol: Protocol::Simple, engine: "postgresql" })
        });
        runner.with_column_validator(sqllogictest::default_column_validator);
        if let Err(error) = runner.run_script_async(&text).await {
            panic!("{name}: {}", error.display(false));
        }
    }
}

async fn run_all(protocol: Protocol) {
    let mut files: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql"))
        .expect("the folder of SQL files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        // each file has a server of its own, so that none sees what another left behind
        let server = Running::start();
        let mut runner = Runner::new(|| async {
            let (client, connection) = server.try_connect().await.expect("a connection");
            tokio::spawn(connection);
            Ok::<_, Failure>(Wire { client, protocol, engine: "stratagem" })
        });
        runner.with_column_validator(sqllogictest::default_column_validator);
        if let Err(error) = runner.run_file_async(&file).await {
            panic!("{protocol:?}: {}", error.display(false));
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Simple,
    Extended,
}

struct Wire {
    client: tokio_postgres::Client,
    protocol: Protocol,
    engine: &'static str,
}

/// An error with its SQLSTATE in front: `statement error 42P01`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure(match error.as_db_error() {
            Some(db) => {
                let part = |label: &str, text: Option<&str>| text.map(|t| format!("\n{label}: {t}")).unwrap_or_default();
                format!("{} {}{}{}", db.code().code(), db.message(), part("DETAIL", db.detail()), part("HINT", db.hint()))
            }
            None => error.to_string(),
        })
    }
}

#[async_trait]
impl AsyncDB for Wire {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        match self.protocol {
            Protocol::Simple => self.simple(sql).await,
            Protocol::Extended => self.extended(sql).await,
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.engine
    }
}

impl Wire {
    async fn simple(&self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let (mut columns, mut rows, mut count) = (None, Vec::new(), 0);
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(described) => columns = Some(described.len()),
                SimpleQueryMessage::Row(row) => rows.push((0..row.len()).map(|i| shown(row.get(i))).collect()),
                SimpleQueryMessage::CommandComplete(n) => count = n,
                _ => {}
            }
        }
        Ok(output(columns, rows, count))
    }

    /// Parse, describe, bind and execute, then the same values as text: the types are checked by the binary decoders of the driver.
    async fn extended(&self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let statement = self.client.prepare(sql).await?;
        if statement.columns().is_empty() {
            return Ok(output(None, Vec::new(), self.client.execute(&statement, &[]).await?));
        }
        let rows = self.client.query(&statement, &[]).await?;
        let rows = rows.iter().map(|row| (0..row.len()).map(|i| binary(row, i)).collect()).collect();
        Ok(output(Some(statement.columns().len()), rows, 0))
    }
}

fn output(columns: Option<usize>, rows: Vec<Vec<String>>, count: u64) -> DBOutput<DefaultColumnType> {
    match columns {
        Some(columns) => DBOutput::Rows { types: vec![DefaultColumnType::Text; columns], rows },
        None => DBOutput::StatementComplete(count),
    }
}

fn shown(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.to_owned(),
    }
}

/// A numeric: digits in base 10000, the weight of the first, a sign and the places behind the point.
struct Numeric(String);

impl FromSql<'_> for Numeric {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let shorts: Vec<i16> = raw.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect();
        let [_, weight, sign, places, digits @ ..] = shorts.as_slice() else { return Err("a numeric is too short".into()) };
        let digit = |at: i16| usize::try_from(*weight - at).ok().and_then(|place| digits.get(place)).copied().unwrap_or(0);
        let before: String = (0..=(*weight).max(0)).rev().map(|at| format!("{:04}", digit(at))).collect();
        let behind: String = (1..=(places + 3) / 4).map(|at| format!("{:04}", digit(-at))).collect();
        let minus = if *sign == 0 { "" } else { "-" };
        let whole = before.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let point = if *places > 0 { "." } else { "" };
        Ok(Self(format!("{minus}{whole}{point}{}", &behind[..usize::try_from(*places)?])))
    }

    fn accepts(wire: &Type) -> bool {
        *wire == Type::NUMERIC
    }
}

/// A binary value in the words of the text format.
fn binary(row: &tokio_postgres::Row, column: usize) -> String {
    fn text<'a, T: tokio_postgres::types::FromSql<'a> + ToString>(row: &'a tokio_postgres::Row, column: usize) -> Option<String> {
        row.get::<_, Option<T>>(column).map(|v| v.to_string())
    }
    let value = match *row.columns()[column].type_() {
        Type::BOOL => row.get::<_, Option<bool>>(column).map(|b| if b { "t" } else { "f" }.to_owned()),
        Type::INT2 => text::<i16>(row, column),
        Type::INT4 => text::<i32>(row, column),
        Type::INT8 => text::<i64>(row, column),
        Type::FLOAT4 => text::<f32>(row, column),
        Type::FLOAT8 => text::<f64>(row, column),
        Type::NUMERIC => row.get::<_, Option<Numeric>>(column).map(|number| number.0),
        Type::TEXT | Type::VARCHAR | Type::NAME => text::<String>(row, column),
        Type::TIMESTAMP => row.get::<_, Option<chrono::NaiveDateTime>>(column).map(|t| t.to_string()),
        Type::DATE => row.get::<_, Option<chrono::NaiveDate>>(column).map(|t| t.to_string()),
        ref other => panic!("the test has no words for {other} yet"),
    };
    shown(value.as_deref())
}
