//! `stratagem report`: one page that shows what a model is worth on the rows of a query. It is a client like any other: everything on the page
//! is the answer to a statement, and the page needs nothing but itself.

mod chart;
mod experiment;
mod facts;
mod number;
mod page;
mod policy;

use std::io;
use std::path::PathBuf;

use crate::client;
use crate::config::{Config, Flags, ServerFlags};
use crate::server::Server;

use facts::Facts;

/// Options of `stratagem report`.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// The model: a name, name@version or name@alias.
    #[arg(long)]
    model: String,
    /// The rows to judge it on; it should not have been trained on them.
    #[arg(long, value_name = "SQL")]
    query: String,
    /// The file to write.
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Folder of Parquet files [default: data].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The server's own folder, where the model is [default: .stratagem inside the data folder].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Ask a server that runs, instead of one started for the report.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["data", "state"])]
    server: Option<String>,
    /// The column with the outcome [default: the label the model was trained on].
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The column that says who was treated, for an uplift model [default: the one it was trained with].
    #[arg(long, value_name = "COLUMN")]
    treatment: Option<String>,
    /// The column with what a shown action earned: adds what the policy in --target would have earned.
    #[arg(long, value_name = "COLUMN", requires = "target")]
    reward: Option<String>,
    /// The column with the probability with which the new policy would have shown that action.
    #[arg(long, value_name = "COLUMN", requires = "logged")]
    target: Option<String>,
    /// The column with the probability with which the logging policy showed it.
    #[arg(long, value_name = "COLUMN", requires = "reward")]
    logged: Option<String>,
    /// The column with the reward that a model expects of the shown action: adds the estimators that use a model.
    #[arg(long, value_name = "COLUMN", requires = "q_new")]
    q_logged: Option<String>,
    /// The column with the reward that it expects under the new policy.
    #[arg(long, value_name = "COLUMN", requires = "q_logged", requires = "reward")]
    q_new: Option<String>,
    /// A column, such as the user, within whose groups rows are ranked: adds the grouped AUC.
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    /// Rows that the importance of the columns is measured on.
    #[arg(long, value_name = "ROWS", default_value_t = 5000)]
    sample: u32,
    /// Seed of that sample.
    #[arg(long, default_value_t = 0)]
    seed: i64,
    /// The heading [default: the model's name].
    #[arg(long)]
    title: Option<String>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The server did not start.
    #[error(transparent)]
    Server(#[from] crate::server::Error),
    /// The address is not one.
    #[error("\"{0}\" is not the address of a server; write HOST:PORT, such as 127.0.0.1:5433")]
    Address(String),
    /// A statement failed.
    #[error("{}", client::sentence(.0))]
    Statement(#[from] tokio_postgres::Error),
    /// An answer without the columns it should have.
    #[error("the server gave an answer that is not understood: {0}")]
    Answer(String),
    /// The page could not be written, or the process has no resources.
    #[error("can't write {}: {source}", .path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The runtime did not start.
    #[error("can't start: {0}")]
    Start(#[from] io::Error),
}

/// Writes the page.
///
/// # Errors
/// Where the server can't start or be reached, a statement fails or the file can't be written.
pub fn run(args: &ReportArgs) -> Result<(), Error> {
    let runtime = tokio::runtime::Runtime::new()?;
    let facts = runtime.block_on(async {
        match &args.server {
            Some(address) => {
                let wrong = || Error::Address(address.clone());
                let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
                ask(args, host.trim_matches(['[', ']']), port.parse().map_err(|_| wrong())?).await
            }
            None => {
                let flags = Flags {
                    data: args.data.clone(),
                    state: args.state.clone(),
                    server: ServerFlags { host: None, port: Some(0) },
                    ..Flags::default()
                };
                let server = Server::start(&Config::load(None, &flags)?).await?;
                let facts = ask(args, &server.address().ip().to_string(), server.address().port()).await;
                server.stop(std::future::ready(())).await;
                facts
            }
        }
    })?;
    let page = page::page(args.title.as_deref(), &facts);
    std::fs::write(&args.output, page).map_err(|source| Error::Output { path: args.output.clone(), source })
}

async fn ask(args: &ReportArgs, host: &str, port: u16) -> Result<Facts, Error> {
    let (client, notices) = client::connect(host, port, "report").await?;
    let facts = Facts::ask(&client, args).await;
    drop(client);
    // the connection ends with its client
    let _ = notices.await;
    facts
}
