//! The main job, run as a person would: a server on the sample data, a client on its socket, the statements of `sql/demo.sql`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use tokio_postgres::SimpleQueryMessage;

use crate::assets::Assets;
use crate::client::{self, sentence};
use crate::config::{Config, Flags, ServerFlags};
use crate::server::Server;

/// The script, which psql runs as it is.
const SCRIPT: &str = include_str!("../sql/demo.sql");

/// Rows that come later than this are shown apart from those before: progress is seen as it happens.
const PAUSE: Duration = Duration::from_millis(150);

/// Options of `stratagem demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Folder with the sample data [default: what the set-up has made].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The server's own folder for the trained model [default: .stratagem inside the data folder].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sample data is not installed.
    #[error(transparent)]
    Assets(#[from] crate::assets::Error),
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The server did not start.
    #[error(transparent)]
    Server(#[from] crate::server::Error),
    /// A statement failed.
    #[error("{}", sentence(.0))]
    Statement(#[from] tokio_postgres::Error),
    /// The answer could not be written.
    #[error("can't write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the demo and prints what an analyst would see.
///
/// # Errors
/// Where the data is missing, the server can't start or a statement fails.
pub fn run(args: &DemoArgs) -> Result<(), Error> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => Assets::locate()?.data(),
    };
    let flags = Flags {
        data: Some(data.clone()),
        state: args.state.clone(),
        server: ServerFlags { host: None, port: Some(0) },
        ..Flags::default()
    };
    let config = Config::load(None, &flags)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let server = Server::start(&config).await?;
        let result = play(&server, &data).await;
        server.stop(std::future::ready(())).await;
        result
    })
}

async fn play(server: &Server, data: &std::path::Path) -> Result<(), Error> {
    let address = server.address();
    let (client, notices) = client::connect(&address.ip().to_string(), address.port(), "demo").await?;
    for step in steps(SCRIPT) {
        match step {
            Step::Say(text) => writeln!(io::stdout(), "{text}")?,
            Step::Run(sql) => show(&client, &sql).await?,
        }
    }
    writeln!(
        io::stdout(),
        "\nThe model is kept. To go on with psql, start the server and connect to it from a second terminal:\n\n    \
         {} serve --data {}\n    psql -h 127.0.0.1 -p 5433\n\n\
         The same steps are in sql/demo.sql: psql -h 127.0.0.1 -p 5433 -f sql/demo.sql",
        std::env::current_exe()?.display(),
        data.display()
    )?;
    drop(client);
    // the connection ends with its client
    let _ = notices.await;
    Ok(())
}

enum Step {
    Say(String),
    Run(String),
}

/// The script as psql reads it: `\echo 'text'` lines, comments, and statements up to their semicolon at the end of a line.
fn steps(script: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut statement = String::new();
    for line in script.lines() {
        if statement.is_empty() {
            if let Some(text) = line.strip_prefix("\\echo") {
                let text = text.trim();
                let text = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(text);
                steps.push(Step::Say(text.replace("''", "'")));
                continue;
            }
            if line.trim().is_empty() || line.starts_with("--") || line.starts_with('\\') {
                continue;
            }
        }
        statement.push_str(line);
        statement.push('\n');
        if line.trim_end().ends_with(';') {
            steps.push(Step::Run(std::mem::take(&mut statement)));
        }
    }
    steps
}

/// Runs a statement and prints its rows as they come.
async fn show(client: &tokio_postgres::Client, sql: &str) -> Result<(), Error> {
    let stream = client.simple_query_raw(sql).await?;
    futures::pin_mut!(stream);
    let mut table = Table::default();
    loop {
        match tokio::time::timeout(PAUSE, stream.next()).await {
            Err(_) => table.print()?,
            Ok(None) => break,
            Ok(Some(message)) => match message? {
                SimpleQueryMessage::RowDescription(columns) => {
                    table = Table { names: columns.iter().map(|c| c.name().to_owned()).collect(), ..Table::default() };
                }
                SimpleQueryMessage::Row(row) => {
                    table.rows.push((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect());
                }
                _ => {}
            },
        }
    }
    table.print()?;
    table.end()
}

/// Rows printed in columns; the widths are those of the first rows.
#[derive(Default)]
struct Table {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
    right: Vec<bool>,
    shown: usize,
}

impl Table {
    fn print(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        if self.widths.is_empty() {
            self.measure();
            let names: Vec<String> = self.names.iter().zip(&self.widths).map(|(n, w)| format!(" {n:^w$} ")).collect();
            writeln!(out, "{}", names.join("|").trim_end())?;
            let lines: Vec<String> = self.widths.iter().map(|w| "-".repeat(w + 2)).collect();
            writeln!(out, "{}", lines.join("+"))?;
        }
        for row in self.rows.drain(..) {
            self.shown += 1;
            let cells: Vec<String> = row
                .iter()
                .zip(self.widths.iter().zip(&self.right))
                .map(|(cell, (w, right))| if *right { format!(" {cell:>w$} ") } else { format!(" {cell:<w$} ") })
                .collect();
            writeln!(out, "{}", cells.join("|").trim_end())?;
        }
        out.flush()
    }

    fn measure(&mut self) {
        for (column, name) in self.names.iter().enumerate() {
            let cells: Vec<&str> = self.rows.iter().filter_map(|r| r.get(column)).map(String::as_str).collect();
            let widest = cells.iter().map(|c| c.chars().count()).max().unwrap_or(0);
            self.widths.push(widest.max(name.chars().count()));
            self.right.push(cells.iter().all(|c| c.is_empty() || c.parse::<f64>().is_ok()));
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        match (self.names.is_empty(), self.shown) {
            (true, _) => Ok(()),
            (false, 1) => Ok(writeln!(io::stdout(), "(1 row)\n")?),
            (false, n) => Ok(writeln!(io::stdout(), "({n} rows)\n")?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_read_as_psql_reads_it() {
        let steps = steps("-- a comment\n\\echo 'it''s here'\nSELECT 1,\n  2;\n\n\\pset border 1\nSELECT 3;\n");
        let shown: Vec<String> = steps
            .into_iter()
            .map(|s| match s {
                Step::Say(text) => format!("say {text}"),
                Step::Run(sql) => format!("run {}", sql.split_whitespace().collect::<Vec<_>>().join(" ")),
            })
            .collect();
        assert_eq!(shown, ["say it's here", "run SELECT 1, 2;", "run SELECT 3;"]);
    }
}
