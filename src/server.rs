//! The server: what all sessions share, the socket they come in on, and how it ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::setup_pg_catalog;
use stratagem_udfs::language::{Checkpoint, Installed};
use stratagem_udfs::models::{Models, Sources};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::buckets;
use crate::cancel::Backends;
use crate::catalog::DataCatalog;
use crate::config::{self, Config};
use crate::connection::{Connection, Start, ending, greet, refuse, too_many};
use crate::counts;
use crate::interval::Intervals;
use crate::json;
use crate::like;
use crate::limits::UnorderedLimits;
use crate::overflow::CheckOverflow;
use crate::pattern;
use crate::planner::DATABASE;
use crate::round::RoundCasts;
use crate::settings::Settings;
use crate::store::{self, Store};
use crate::sum::{self, ShareSums};
use crate::system::System;
use crate::texts::WriteTexts;
use crate::truth::Truths;

/// Connections beyond the limit that are told so at a time; more are closed without a word.
const TURNED_AWAY: usize = 64;

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The data folder can't be used.
    #[error("the data folder {} can't be used: {reason}", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// What the catalog said.
        reason: String,
    },
    /// The server's own folder can't be used.
    #[error("the state folder {} can't be used: {reason}", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// What went wrong and what to do.
        reason: String,
    },
    /// The address is taken or not to be had.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread or task could not be started.
    #[error("can't start the server's threads: {0}")]
    Threads(#[from] std::io::Error),
    /// The engine refused its set-up.
    #[error("can't set up the query engine: {0}")]
    Engine(#[from] DataFusionError),
}

/// What all sessions share.
pub(crate) struct Engine {
    /// The state every session's own is made from: tables, functions, memory.
    pub(crate) base: SessionState,
    pub(crate) store: Arc<Store>,
    pub(crate) system: Arc<System>,
    pub(crate) models: Arc<Models>,
    pub(crate) settings: Settings,
    pub(crate) partitions: usize,
    pub(crate) message_size: usize,
    /// Where queries are computed, apart from the sockets.
    pub(crate) compute: tokio::runtime::Handle,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    drain: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
    grace: Duration,
    /// Ends with the server; in an Option so that it can be shut down without blocking.
    compute: Option<tokio::runtime::Runtime>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the data, binds the address and starts to accept clients.
    ///
    /// # Errors
    /// Where the configuration, a folder or the address can't be used. Nothing is left running then.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        config.check()?;
        let (ip, port) = config.address()?;
        let listener = TcpListener::bind((ip, port)).await;
        let listener = listener.map_err(|source| Error::Listen { address: SocketAddr::new(ip, port).to_string(), source })?;
        let address = listener.local_addr()?;
        let partitions = std::thread::available_parallelism().map_or(1, usize::from);
        let compute = tokio::runtime::Builder::new_multi_thread().worker_threads(partitions).thread_name("compute").enable_all().build()?;
        let engine = match Engine::open(config, partitions, compute.handle().clone()) {
            Ok(engine) => Arc::new(engine),
            Err(error) => {
                compute.shutdown_background();
                return Err(error);
            }
        };
        let server = Self {
            address,
            drain: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
            grace: config.server.grace,
            compute: Some(compute),
        };
        let door = Door {
            backends: Arc::clone(&engine.system.backends),
            engine,
            places: Arc::new(Semaphore::new(config.limits.connections)),
            aside: Arc::new(Semaphore::new(TURNED_AWAY)),
            limit: config.limits.connections,
            drain: server.drain.clone(),
            kill: server.kill.clone(),
            tasks: server.tasks.clone(),
        };
        server.tasks.spawn(door.accept(listener));
        tracing::info!(address = %server.address, data = %config.data.display(), "ready for connections");
        Ok(server)
    }

    /// The address clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new clients, lets running statements end within the grace period, then ends. `hurry` ends the waiting.
    pub async fn stop(mut self, hurry: impl Future<Output = ()>) {
        tracing::info!(grace = ?self.grace, "shutting down");
        self.drain.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = tokio::time::sleep(self.grace) => tracing::warn!("statements still run after the grace period and are ended"),
            () = hurry => tracing::warn!("ending at once"),
        }
        self.kill.cancel();
        self.tasks.wait().await;
        if let Some(compute) = self.compute.take() {
            compute.shutdown_background();
        }
        tracing::info!("ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill.cancel();
        if let Some(compute) = self.compute.take() {
            compute.shutdown_background();
        }
    }
}

impl Engine {
    fn open(config: &Config, partitions: usize, compute: tokio::runtime::Handle) -> Result<Self, Error> {
        let state_error = |reason: String| Error::State { path: config.state(), reason };
        std::fs::create_dir_all(config.state()).map_err(|e| state_error(format!("{e}; name another one with --state DIR")))?;
        let store = Store::open(&config.state(), store::Limits { max_bytes: Some(config.limits.table_disk.as_u64()) })
            .map_err(|e| state_error(e.to_string()))?;
        let catalog = DataCatalog::open(&config.data).map_err(|e| Error::Data { path: config.data.clone(), reason: e.to_string() })?;
        let models = models(config).map_err(|e| state_error(e.to_string()))?;

        let system = Arc::new(System::new(vec![config.data.clone(), config.state().join("tables")]));
        let options = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, "public")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            .with_target_partitions(partitions)
            .with_extension(Arc::clone(&system));
        let builder = SessionStateBuilder::new().with_default_features().with_config(options).with_runtime_env(memory_and_disk(config)?);
        let builder = builder.with_physical_optimizer_rule(Arc::new(UnorderedLimits));
        let mut context = SessionContext::new_with_state(stratagem_udfs::register_all(builder, Arc::clone(&models)).build());
        stratagem_udfs::catalog::mount(&models, |schema, tables| catalog.mount(schema, tables));
        context.register_catalog(DATABASE, Arc::new(catalog));
        context.register_expr_planner(Arc::new(Intervals::new()))?;
        context.register_expr_planner(Arc::new(Truths))?;
        context.add_analyzer_rule(Arc::new(RoundCasts::new()));
        context.add_analyzer_rule(Arc::new(CheckOverflow::new()));
        context.add_analyzer_rule(Arc::new(ShareSums::new()));
        context.add_analyzer_rule(Arc::new(WriteTexts::new()));
        pattern::register(&context)?;
        sum::register(&mut context)?;
        counts::register(&mut context)?;
        buckets::register(&mut context)?;
        like::register(&mut context)?;
        json::register(&mut context)?;
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|e| *e)?;
        Ok(Self {
            base: context.state(),
            store,
            system,
            models,
            settings: Settings::new(config.limits.statement_timeout),
            partitions,
            message_size: usize::try_from(config.limits.message_size.as_u64()).unwrap_or(usize::MAX),
            compute,
        })
    }
}

/// The models of this server, with the runtime they will be run by when the first is needed.
pub(crate) fn models(config: &Config) -> Result<Arc<Models>, stratagem_udfs::models::Error> {
    let library = || crate::assets::Assets::locate().and_then(|assets| assets.runtime_library()).map_err(|e| e.to_string());
    let language = || {
        let assets = crate::assets::Assets::locate().map_err(|e| e.to_string())?;
        let source = assets.language_model().map_err(|e| e.to_string())?;
        Ok(Checkpoint { name: "smollm2".to_owned(), source, cache: assets.prepared() })
    };
    let encoder = |name: &'static str| -> Installed {
        Box::new(move || {
            let assets = crate::assets::Assets::locate().map_err(|e| e.to_string())?;
            let source = assets.text_encoder(name).map_err(|e| e.to_string())?;
            Ok(Checkpoint { name: name.to_owned(), source, cache: assets.prepared() })
        })
    };
    let texts = stratagem_udfs::language::Limits {
        slots: config.texts.rows,
        queue: config.texts.queue,
        cache_bytes: usize::try_from(config.texts.cache.as_u64()).unwrap_or(usize::MAX),
        idle: config.texts.idle,
        ..Default::default()
    };
    let encoders = crate::assets::TEXT_ENCODERS.map(encoder).into();
    let sources = Sources { library: Box::new(library), language: Box::new(language), encoders };
    Models::open(&config.models_folder(), config.models.device.parse()?, sources, texts).map(Arc::new)
}

fn memory_and_disk(config: &Config) -> Result<Arc<RuntimeEnv>, Error> {
    const NAMED_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(4);
    let spill = config.state().join("spill");
    // what an earlier run left behind is of no use to anyone
    let _ = std::fs::remove_dir_all(&spill);
    std::fs::create_dir_all(&spill)?;
    let pool = TrackConsumersPool::new(FairSpillPool::new(config.limits.memory.bytes()), NAMED_CONSUMERS);
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![spill]))
        .with_max_temp_directory_size(config.limits.temp_disk.as_u64());
    Ok(RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk).build_arc()?)
}

/// Where clients come in.
struct Door {
    engine: Arc<Engine>,
    backends: Arc<Backends>,
    places: Arc<Semaphore>,
    aside: Arc<Semaphore>,
    limit: usize,
    drain: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.drain.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => self.admit(socket),
                Err(error) => {
                    // out of file descriptors, most likely: waiting lets some connection end
                    tracing::error!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // who comes now is told so for as long as others are still served
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.kill.cancelled() => return,
                () = alone(&self.tasks) => return,
                accepted = listener.accept() => accepted,
            };
            if let Ok((socket, _)) = accepted {
                self.turn_away(socket, ending());
            }
        }
    }

    fn admit(&self, socket: TcpStream) {
        keep_alive(&socket);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.turn_away(socket, too_many(self.limit));
        };
        let (engine, backends) = (Arc::clone(&self.engine), Arc::clone(&self.backends));
        let (drain, kill) = (self.drain.clone(), self.kill.clone());
        self.tasks.spawn(async move {
            let _place = place;
            let start = tokio::select! {
                () = kill.cancelled() => return,
                start = greet(socket, &backends) => start,
            };
            if let Some(connection) = Connection::open(&engine, backends.register(&kill), start, drain) {
                connection.serve().await;
            }
        });
    }

    /// Hears what the client wants, carries a cancel request out, and says why anything else is refused.
    fn turn_away(&self, socket: TcpStream, error: crate::sqlstate::SqlError) {
        let Ok(place) = Arc::clone(&self.aside).try_acquire_owned() else { return };
        let backends = Arc::clone(&self.backends);
        tokio::spawn(async move {
            let _place = place;
            if let Start::Session { socket, .. } = greet(socket, &backends).await {
                refuse(socket, error).await;
            }
        });
    }
}

/// Waits until the task that asks is the only one that is tracked.
async fn alone(tasks: &TaskTracker) {
    while tasks.len() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A client whose machine or cable is gone is noticed within about a minute.
fn keep_alive(socket: &TcpStream) {
    let probes = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    if let Err(error) = socket2::SockRef::from(socket).set_tcp_keepalive(&probes) {
        tracing::debug!(%error, "no keep-alive on this connection");
    }
}
