//! The ONNX Runtime library: loaded by path, once per process, with the device that works.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::click::Precision;
use crate::error::{Error, Result};
use crate::graph::{Graph, Shape};

/// Where graphs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first GPU if the library has CUDA and it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this number. When it does not work the CPU is used and [`Runtime::degraded`] says why.
    Cuda(u32),
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(raw: &str) -> Result<Self> {
        match raw {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(0)),
            _ => {}
        }
        raw.strip_prefix("cuda:")
            .and_then(|number| number.parse().ok())
            .map(Self::Cuda)
            .ok_or_else(|| Error::option("device", format!("\"{raw}\" is not auto, cpu or cuda:N")))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// The library, which a process can load only once.
struct Loaded {
    path: PathBuf,
    environment: Environment,
    version: String,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// The loaded library and the device chosen for it.
pub struct Runtime {
    environment: Environment,
    version: String,
    device: Device,
    device_name: String,
    degraded: Option<String>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("version", &self.version).field("device", &self.device).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Loads the library and tries the device with a small graph.
    ///
    /// A GPU that does not work is not an error: the CPU is used, and [`Runtime::degraded`] says why. Errors:
    /// [`Error::RuntimeMissing`] when the library cannot be loaded or this process has loaded another one.
    pub fn load(dylib: &Path, device: Device) -> Result<Arc<Self>> {
        let (environment, version) = load_library(dylib)?;
        let wanted = match device {
            Device::Cpu => None,
            Device::Cuda(number) => Some(number),
            // The CPU build of the library is not a GPU build that fails.
            Device::Auto => has_cuda(dylib).then_some(0),
        };
        let mut runtime = Self { environment, version, device: Device::Cpu, device_name: Device::Cpu.to_string(), degraded: None };
        if let Some(number) = wanted {
            runtime.device = Device::Cuda(number);
            match runtime.probe() {
                Ok(()) => runtime.device_name = runtime.device.to_string(),
                Err(error) => {
                    let reason = format!("cuda:{number} cannot be used, the CPU is used instead: {error}");
                    tracing::warn!(%reason, "device");
                    runtime.device = Device::Cpu;
                    runtime.degraded = Some(reason);
                }
            }
        }
        Ok(Arc::new(runtime))
    }

    /// The library's version, such as `1.32.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The device in use, `cpu` or `cuda:N`.
    pub fn device(&self) -> &str {
        &self.device_name
    }

    /// Whether graphs run on the CPU.
    pub(crate) fn is_cpu(&self) -> bool {
        self.device == Device::Cpu
    }

    /// Checks that matrices can be multiplied in a precision.
    ///
    /// Errors: [`Error::InvalidOption`] where that needs a GPU.
    pub fn check_precision(&self, precision: Precision) -> Result<()> {
        if precision == Precision::Float32 || !self.is_cpu() {
            return Ok(());
        }
        Err(Error::option("precision", format!("{precision} needs a GPU, and models are trained on the CPU here")))
    }

    /// Why the device in use is not the one asked for, as a sentence.
    pub fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }

    /// A session for a serialised model. Idle threads sleep: spinning would take time from the queries beside it.
    pub(crate) fn session(&self, model: &[u8], threads: usize) -> Result<Session> {
        let mut builder = self.builder(threads)?.with_intra_op_spinning(false)?;
        if let Some(provider) = self.provider() {
            builder = builder.with_execution_providers([provider])?;
        }
        Ok(builder.commit_from_memory(model)?)
    }

    /// A session on the CPU, whatever the device, for a model whose weights lie in a file beside it.
    ///
    /// Such a model has hundreds of short products one after another. Waking a sleeping thread for each takes a good part of a step, and spinning
    /// without end takes the processor from whoever else wants it, so threads spin for as long as the gaps between products last.
    pub(crate) fn session_of_file(&self, model: &Path, threads: usize) -> Result<Session> {
        Ok(self.attentive(threads)?.commit_from_file(model)?)
    }

    /// As [`Runtime::session_of_file`] for a model in memory whose external weights are `weights` instead of a file of the name `file`.
    pub(crate) fn session_of_weights(&self, model: &[u8], file: &str, weights: Arc<[u8]>, threads: usize) -> Result<Session> {
        let mut builder = self.attentive(threads)?.with_external_initializer_file_in_memory(file, weights)?;
        Ok(builder.commit_from_memory(model)?)
    }

    /// A session on the device for a model that computes for long, with threads as in [`Runtime::session_of_file`].
    ///
    /// Memory is what such a session is short of: it is taken value by value, as blocks that fit the calls before are held besides, and what a graph
    /// computes twice rather than to keep it stays computed twice.
    pub(crate) fn session_for_training(&self, model: &[u8], threads: usize) -> Result<Session> {
        let builder = self.attentive(threads)?.with_memory_pattern(false)?;
        let mut builder = builder.with_disabled_optimizers("CommonSubexpressionElimination")?;
        if let Some(provider) = self.provider() {
            builder = builder.with_execution_providers([provider])?;
        }
        Ok(builder.commit_from_memory(model)?)
    }

    /// With threads that spin for a moment.
    fn attentive(&self, threads: usize) -> Result<SessionBuilder> {
        const SPIN_MICROSECONDS: &str = "20";
        let builder = self.builder(threads)?.with_intra_op_spinning(true)?;
        Ok(builder.with_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)?)
    }

    fn builder(&self, threads: usize) -> Result<SessionBuilder> {
        Ok(Session::builder(&self.environment)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_optimization_level(GraphOptimizationLevel::All)?)
    }

    fn provider(&self) -> Option<ExecutionProviderDispatch> {
        let Device::Cuda(number) = self.device else { return None };
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        Some(CUDA::default().with_device_id(number).build().error_on_failure())
    }

    /// Runs one small graph on the device.
    fn probe(&self) -> Result<()> {
        let mut graph = Graph::new("probe");
        let x = graph.input("x", Shape::fixed(&[1]))?;
        let y = graph.relu(x)?;
        graph.output("y", y)?;
        let mut session = self.session(&graph.model(), 1)?;
        let one = ort::value::TensorRef::from_array_view(([1usize], &[1f32][..]))?;
        session.run(ort::inputs![one])?;
        Ok(())
    }
}

fn has_cuda(dylib: &Path) -> bool {
    dylib.parent().is_some_and(|folder| folder.join("libonnxruntime_providers_cuda.so").exists())
}

fn load_library(dylib: &Path) -> Result<(Environment, String)> {
    let missing = |reason: String| Error::RuntimeMissing { path: dylib.to_owned(), reason };
    let path = dylib.canonicalize().map_err(|e| missing(e.to_string()))?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = loaded.as_ref() {
        if loaded.path == path {
            return Ok((loaded.environment.clone(), loaded.version.clone()));
        }
        return Err(missing(format!("this process has already loaded version {} from {}", loaded.version, loaded.path.display())));
    }
    let environment = ort::init_from(&path)
        .map_err(|e| missing(e.to_string()))?
        .with_name("stratagem")
        .with_telemetry(false)
        .build()
        .map_err(|e| missing(e.to_string()))?;
    let version = version(&path);
    *loaded = Some(Loaded { path, environment: environment.clone(), version: version.clone() });
    Ok((environment, version))
}

/// The library tells its version only through its build information (`git-branch=rel-1.32.0, ...`); its file name is the second source.
fn version(path: &Path) -> String {
    let from_build = ort::info().split("git-branch=rel-").nth(1).and_then(|rest| rest.split([',', ' ']).next());
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let from_name = file.split(".so.").nth(1);
    from_build.or(from_name).unwrap_or("unknown").to_owned()
}

/// Sessions of one model, one for each thread that runs it at a time: a session serves one call at a time.
pub(crate) struct SessionPool {
    runtime: Arc<Runtime>,
    model: Vec<u8>,
    idle: Mutex<Vec<Worker>>,
}

/// A session and buffers that are kept between calls.
pub(crate) struct Worker {
    pub(crate) session: Session,
    pub(crate) buffer: Vec<f32>,
    pub(crate) history: Vec<f32>,
    pub(crate) sums: Vec<f32>,
}

impl SessionPool {
    /// Builds the first session, so that a model that cannot run fails here.
    pub(crate) fn new(runtime: Arc<Runtime>, model: Vec<u8>) -> Result<Self> {
        let pool = Self { runtime, model, idle: Mutex::default() };
        let first = pool.worker()?;
        pool.idle().push(first);
        Ok(pool)
    }

    /// Calls `work` with a session that nobody else uses. A session whose call failed is not used again.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Worker) -> Result<R>) -> Result<R> {
        let idle = self.idle().pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => self.worker()?,
        };
        let result = work(&mut worker)?;
        self.idle().push(worker);
        Ok(result)
    }

    fn worker(&self) -> Result<Worker> {
        Ok(Worker { session: self.runtime.session(&self.model, 1)?, buffer: Vec::new(), history: Vec::new(), sums: Vec::new() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        // Every state of the list is whole, so a panic elsewhere does not spoil it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SessionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPool").field("idle", &self.idle().len()).finish_non_exhaustive()
    }
}
