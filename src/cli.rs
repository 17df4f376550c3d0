//! The command line: one verb per thing a person does.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Flags, LogConfig, LogFormat, ModelsFlags, ServerFlags};
use crate::server::Server;
use crate::{bandit, demo, doctor, models, report, sample};

/// A query server that speaks the PostgreSQL wire protocol, in which marketing models are SQL functions.
#[derive(Debug, Parser)]
#[command(name = "stratagem", version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve the Parquet files of a folder.
    Serve(ServeArgs),
    /// Run the main job on the Open Bandit sample over a real connection: train, score, evaluate.
    Demo(demo::DemoArgs),
    /// Write a page that shows what a model is worth on the rows of a query.
    Report(report::ReportArgs),
    /// List, export and import models.
    #[command(subcommand)]
    Models(models::ModelsVerb),
    /// Say what is installed, which runtime and device will be used, and what is wrong.
    Doctor(doctor::DoctorArgs),
    /// Write the sample shop as Parquet.
    Sample(sample::SampleArgs),
    /// Convert the Open Bandit sample to Parquet.
    ConvertBandit(bandit::ConvertBanditArgs),
    /// Print the reference of the SQL functions as Markdown.
    Reference,
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    /// Configuration file; stratagem.example.toml shows every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of Parquet files: each file or folder of files is a table, sub-folders are schemas.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The server's own folder [default: .stratagem inside the data folder].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1].
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on, 0 for a free one [default: 5433].
    #[arg(long)]
    port: Option<u16>,
    /// auto, cpu or cuda:N [default: auto].
    #[arg(long)]
    device: Option<String>,
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = std::io::stdout().lock();
    match cli.verb {
        Verb::Serve(args) => {
            drop(out);
            serve(&args)
        }
        Verb::Demo(args) => {
            drop(out);
            ended(demo::run(&args))
        }
        Verb::Report(args) => {
            drop(out);
            ended(report::run(&args))
        }
        Verb::Models(verb) => ended(models::run(&verb, &mut out)),
        Verb::Doctor(args) => match doctor::run(&args, &mut out) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => failed(&error),
        },
        Verb::Sample(args) => ended(sample::run(&args, &mut out)),
        Verb::ConvertBandit(args) => ended(bandit::run(&args, &mut out)),
        Verb::Reference => ended(out.write_all(stratagem_udfs::reference::markdown().as_bytes())),
    }
}

fn ended<E: Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// One sentence on the error stream.
fn failed(error: &dyn Display) -> ExitCode {
    // a closed error stream leaves nobody to tell
    let _ = writeln!(std::io::stderr(), "stratagem: {error}");
    ExitCode::FAILURE
}

fn serve(args: &ServeArgs) -> ExitCode {
    let flags = Flags {
        data: args.data.clone(),
        state: args.state.clone(),
        server: ServerFlags { host: args.host.clone(), port: args.port },
        models: ModelsFlags { device: args.device.clone() },
    };
    let config = match Config::load(args.config.as_deref(), &flags) {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    if let Err(error) = start_log(&config.log) {
        return failed(&error);
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(serve_until_told(&config)),
        Err(error) => failed(&error),
    }
}

async fn serve_until_told(config: &Config) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    let server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => return failed(&error),
    };
    let (host, port) = (server.address().ip(), server.address().port());
    let ready = writeln!(std::io::stdout(), "stratagem is ready: psql -h {host} -p {port}");
    if let Err(error) = ready {
        tracing::debug!(%error, "nobody reads the standard output");
    }
    signals.next().await;
    server.stop(signals.next()).await;
    ExitCode::SUCCESS
}

/// SIGTERM and SIGINT, which mean the same here.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Sends the log to the error stream. A panic becomes a line of it.
fn start_log(config: &LogConfig) -> Result<(), String> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(&config.level).map_err(|e| format!("log.level {:?} is not valid: {e}", config.level))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|e| e.to_string())?;
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, message = panic.payload_as_str().unwrap_or_default(), "panic");
    }));
    Ok(())
}
