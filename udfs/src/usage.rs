//! What statements ask of language models: limited by the settings of the session, counted while it happens, told to the client and kept for
//! `ml.usage`.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use stratagem_models::language::Completion;

use crate::error::Error;
use crate::models::lock;
use crate::notice::{Notices, Severity};

/// Time between two messages about a statement that goes on.
const EVERY: Duration = Duration::from_secs(2);

/// The statements that are kept.
const KEPT: usize = 1000;

/// The most bytes of a statement's text that are kept.
const TEXT: usize = 1024;

/// What becomes of a row that a language model has no answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The statement fails.
    #[default]
    Fail,
    /// The row is NULL.
    Null,
    /// The row is NULL, and a warning says how many are and why the first of them is.
    Report,
}

impl OnError {
    /// Reads `fail`, `null` or `report`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "fail" => Some(Self::Fail),
            "null" => Some(Self::Null),
            "report" => Some(Self::Report),
            _ => None,
        }
    }
}

/// What a session allows each of its statements to ask of language models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Once so many tokens were written, no further text is begun.
    pub tokens: Option<u64>,
    /// How long texts may take, from the first on.
    pub time: Option<Duration>,
    /// What becomes of rows without an answer where the call does not say.
    pub on_error: OnError,
}

/// Who asks. The front end puts it into the session configuration and says which statement begins.
#[derive(Debug)]
pub struct Client {
    pid: i32,
    user: String,
    statement: Mutex<(String, Limits)>,
}

impl Client {
    /// A client that has not asked anything yet.
    pub fn new(pid: i32, user: &str) -> Self {
        Self { pid, user: user.to_owned(), statement: Mutex::default() }
    }

    /// A statement begins.
    pub fn begin(&self, text: &str, limits: Limits) {
        let end = text.floor_char_boundary(TEXT);
        *lock(&self.statement) = (text[..end].to_owned(), limits);
    }
}

/// What a statement has asked of language models.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) started_at: DateTime<Utc>,
    started: Instant,
    pub(crate) pid: Option<i32>,
    pub(crate) user: Option<String>,
    pub(crate) statement: Option<String>,
    limits: Limits,
    counts: Mutex<Counts>,
}

/// The numbers of a [`Tally`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// The models that were asked.
    models: BTreeSet<Arc<str>>,
    /// Texts that were asked for.
    pub(crate) requests: u64,
    /// Texts that the statement had asked for before.
    pub(crate) repeated: u64,
    /// Requests that were answered.
    pub(crate) answered: u64,
    pub(crate) prompt_tokens: u64,
    /// Tokens of prompts that did not have to be computed again.
    pub(crate) shared_tokens: u64,
    pub(crate) tokens: u64,
    /// Time in the queue, summed over the requests.
    pub(crate) queued: Duration,
    /// The requests' shares of the time of the model.
    pub(crate) device: Duration,
    /// From the first request to the last answer so far.
    pub(crate) elapsed: Duration,
}

impl Counts {
    pub(crate) fn models(&self) -> String {
        self.models.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ")
    }
}

impl Tally {
    fn new(client: Option<&Client>) -> Self {
        let (statement, limits) = client.map(|client| lock(&client.statement).clone()).unzip();
        Self {
            started_at: Utc::now(),
            started: Instant::now(),
            pid: client.map(|client| client.pid),
            user: client.map(|client| client.user.clone()),
            statement,
            limits: limits.unwrap_or_default(),
            counts: Mutex::default(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// When the statement's time is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.limits.time.map(|time| self.started + time)
    }

    pub(crate) fn late(&self) -> Error {
        let seconds = self.limits.time.unwrap_or_default().as_secs_f64();
        Error::Spent {
            reason: format!("a text was not there within the {seconds} s that ml.timeout allows a statement"),
            hint: "raise ml.timeout, ask for fewer rows, or keep what is there with on_error => 'null'".to_owned(),
            late: true,
        }
    }

    /// Whether another text may be begun.
    pub(crate) fn admit(&self, model: &Arc<str>) -> Result<(), Error> {
        let mut counts = lock(&self.counts);
        if let Some(limit) = self.limits.tokens.filter(|limit| counts.tokens >= *limit) {
            return Err(Error::Spent {
                reason: format!("the statement has written {} tokens, and ml.max_tokens_per_query is {limit}", counts.tokens),
                hint: "raise ml.max_tokens_per_query, ask for fewer rows, or keep what is there with on_error => 'null'".to_owned(),
                late: false,
            });
        }
        counts.requests += 1;
        if !counts.models.contains(model) {
            counts.models.insert(Arc::clone(model));
        }
        Ok(())
    }

    pub(crate) fn repeated(&self) {
        lock(&self.counts).repeated += 1;
    }

    /// A request has come to its end, with an answer or without.
    pub(crate) fn ended(&self, answer: Option<&Completion>) {
        let mut counts = lock(&self.counts);
        counts.elapsed = self.started.elapsed();
        if let Some(completion) = answer {
            counts.answered += 1;
            counts.prompt_tokens += completion.prompt_tokens as u64;
            counts.shared_tokens += completion.shared_tokens as u64;
            counts.tokens += completion.ids.len() as u64;
            counts.queued += completion.queued;
            counts.device += completion.device;
        }
    }
}

/// The last statements that asked, the first of them first.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<VecDeque<Arc<Tally>>>);

impl Ledger {
    /// A statement begins to ask.
    pub(crate) fn open(&self, client: Option<&Client>) -> Arc<Tally> {
        let tally = Arc::new(Tally::new(client));
        let mut kept = lock(&self.0);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&tally));
        tally
    }

    pub(crate) fn list(&self) -> Vec<Arc<Tally>> {
        lock(&self.0).iter().cloned().collect()
    }
}

/// Follows the calls of one step of a plan.
#[derive(Debug)]
pub(crate) struct Progress {
    function: String,
    /// The rows there will be, where that is known.
    total: Option<usize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    started: Instant,
    told: Instant,
    rows: usize,
    tokens: usize,
    /// Partitions that have not come to their end.
    open: usize,
    /// Rows without an answer that are to be reported, and why the first is.
    failed: usize,
    first: Option<String>,
    /// Texts of which only the beginning was read, and its tokens.
    truncated: usize,
    most: usize,
}

impl Progress {
    pub(crate) fn new(function: String, total: Option<usize>, partitions: usize) -> Self {
        let now = Instant::now();
        let state = State { started: now, told: now, rows: 0, tokens: 0, open: partitions, failed: 0, first: None, truncated: 0, most: 0 };
        Self { function, total, state: Mutex::new(state) }
    }
}

/// Counts what the calls of one partition of a step cost, for the plan's metrics and for messages to the client.
#[derive(Debug)]
pub(crate) struct Meter {
    progress: Arc<Progress>,
    client: Option<Arc<Client>>,
    notices: Option<Arc<Notices>>,
    metrics: ExecutionPlanMetricsSet,
    partition: usize,
    /// Made with the first text, so that steps that write none do not show them.
    costs: OnceLock<Costs>,
}

#[derive(Debug)]
struct Costs {
    prompt_tokens: Count,
    tokens: Count,
    queued: Time,
    device: Time,
}

impl Meter {
    pub(crate) fn new(progress: &Arc<Progress>, context: &TaskContext, metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let config = context.session_config();
        Self {
            progress: Arc::clone(progress),
            client: config.get_extension::<Client>(),
            notices: config.get_extension::<Notices>(),
            metrics: metrics.clone(),
            partition,
            costs: OnceLock::new(),
        }
    }

    /// Time between two messages.
    pub(crate) fn every() -> Duration {
        EVERY
    }

    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.as_deref()
    }

    /// A text was written.
    pub(crate) fn wrote(&self, completion: &Completion) {
        let costs = self.costs.get_or_init(|| {
            let new = || MetricBuilder::new(&self.metrics);
            Costs {
                prompt_tokens: new().counter("prompt_tokens", self.partition),
                tokens: new().counter("tokens", self.partition),
                queued: new().subset_time("queue_time", self.partition),
                device: new().subset_time("device_time", self.partition),
            }
        });
        costs.prompt_tokens.add(completion.prompt_tokens);
        costs.tokens.add(completion.ids.len());
        costs.queued.add_duration(completion.queued);
        costs.device.add_duration(completion.device);
        lock(&self.progress.state).tokens += completion.ids.len();
    }

    /// Texts were read: so many tokens, and of so many texts only the first `most` tokens.
    pub(crate) fn read(&self, tokens: usize, truncated: usize, most: usize) {
        let mut state = lock(&self.progress.state);
        state.tokens += tokens;
        state.truncated += truncated;
        state.most = most;
    }

    /// What becomes of a row without an answer: it is NULL, or the error ends the statement. `own` is what the call itself says.
    pub(crate) fn excuse(&self, error: DataFusionError, own: Option<OnError>) -> Result<(), DataFusionError> {
        let session = || self.client().map(|client| lock(&client.statement).1.on_error).unwrap_or_default();
        let on_error = own.unwrap_or_else(session);
        if on_error == OnError::Fail || !crate::ask::of_the_row(&error) {
            return Err(error);
        }
        if on_error == OnError::Report {
            let mut state = lock(&self.progress.state);
            state.failed += 1;
            state.first.get_or_insert_with(|| crate::error::find(&error).map_or_else(|| error.to_string(), Error::to_string));
        }
        Ok(())
    }

    /// Rows are done.
    pub(crate) fn done(&self, rows: usize) {
        lock(&self.progress.state).rows += rows;
    }

    /// Tells how far it is, unless that was told a moment ago.
    pub(crate) fn tell(&self) {
        let Some(notices) = &self.notices else { return };
        let mut state = lock(&self.progress.state);
        if state.told.elapsed() + EVERY / 10 < EVERY {
            return;
        }
        state.told = Instant::now();
        let of = self.progress.total.map(|total| format!(" of {total}")).unwrap_or_default();
        let message = format!(
            "{}: {}{of} rows, {} tokens, {:.0} s",
            self.progress.function,
            state.rows,
            state.tokens,
            state.started.elapsed().as_secs_f64()
        );
        notices.send(Severity::Notice, message);
    }

    /// The rows of a partition are all done: with the last one, what was excused and what was not read is reported.
    pub(crate) fn report(&self) {
        let Some(notices) = &self.notices else { return };
        let mut state = lock(&self.progress.state);
        state.open = state.open.saturating_sub(1);
        if state.open > 0 {
            return;
        }
        let (failed, first) = (std::mem::take(&mut state.failed), state.first.take());
        if let Some(first) = first {
            let rows = if failed == 1 { "1 row has".to_owned() } else { format!("{failed} rows have") };
            notices.send(Severity::Warning, format!("{}: {rows} no answer; the first: {first}", self.progress.function));
        }
        let (truncated, most) = (std::mem::take(&mut state.truncated), state.most);
        if truncated > 0 {
            let texts = if truncated == 1 { "1 text is".to_owned() } else { format!("{truncated} texts are") };
            let message = format!("{}: {texts} longer than the {most} tokens that the encoder reads", self.progress.function);
            notices.send(Severity::Notice, message);
        }
    }
}
