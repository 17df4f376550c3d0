//! One client's session: its settings, its transaction, and how its commands are planned and run.

mod acting;
mod catalog;
mod change;
mod constant;
mod copy;
mod explain;
pub(crate) mod functions;
mod idiom;
mod kept;
mod model;
mod own;
mod parameters;
mod prompt;
mod rewrite;
mod rows;
mod setting;
mod transaction;
mod write;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::sqlparser::ast::Statement;
use futures::StreamExt;
use stratagem_udfs::notice::{Notice, Notices};
use stratagem_udfs::usage::Client;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::planner;
use crate::server::Engine;
use crate::settings::Settings;
use crate::sqlstate::{Severity, SqlError, SqlState};
use crate::statement::{Command, Discarded, Fetch};
use crate::store::Draft;
use crate::system::{Message, Post, Presence, ear};

pub(crate) use copy::Intake;
pub(crate) use kept::Kept;
pub(crate) use own::{Own, OwnCursor, OwnStatement};
pub(crate) use parameters::{Parameters, wire_type};
pub(crate) use rewrite::rewrite;
pub(crate) use rows::Rows;
pub(crate) use transaction::Transaction;

/// Batches made ahead of the client.
const BATCHES_AHEAD: usize = 2;

/// A statement with what the client must know before it runs.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) command: Option<Command>,
    pub(crate) text: String,
    pub(crate) parameters: Parameters,
    /// The columns of its rows; none when it answers no rows.
    pub(crate) columns: Option<SchemaRef>,
    pub(crate) kept: Kept,
}

/// The logical plan of a statement.
struct Plan {
    logical: LogicalPlan,
    /// Whether the statement reads from anything.
    reads: bool,
}

/// What running a command gave.
pub(crate) enum Outcome {
    /// Rows that are still being made.
    Rows { schema: SchemaRef, rows: Rows, tag: &'static str, counted: bool },
    /// Rows for COPY TO STDOUT.
    CopyOut { schema: SchemaRef, rows: Rows, format: crate::copy::Format },
    /// A table that waits for the data of COPY FROM STDIN.
    CopyIn(Intake),
    /// Rows of a cursor, which the connection has.
    Fetch(Fetch),
    /// Work that goes on; its rows are for nobody, what it notices is for the client.
    Work { rows: Rows, tag: &'static str },
    /// Nothing but its tag.
    Done { tag: String },
}

/// One client's session.
pub(crate) struct Session {
    engine: Arc<Engine>,
    state: SessionState,
    pub(crate) settings: Settings,
    pub(crate) transaction: Transaction,
    /// The writable schemas with what this session has changed and not committed.
    draft: Arc<Draft>,
    /// What functions know of who asks.
    client: Arc<Client>,
    /// What other sessions see of this one.
    presence: Presence,
    /// Where messages for this session go.
    ear: mpsc::Sender<Message>,
    /// What the session's own relations of the catalog show.
    pub(crate) own: Arc<Own>,
    /// Notices of the session itself that the client has not seen.
    pub(crate) told: Vec<SqlError>,
}

impl Session {
    /// A session of its own state over the engine's shared tables, functions and memory. Notices of functions and messages of
    /// other sessions come out of the receivers.
    pub(crate) fn new(
        engine: Arc<Engine>,
        pid: i32,
        user: &str,
        settings: Settings,
    ) -> (Self, mpsc::UnboundedReceiver<Notice>, mpsc::Receiver<Message>) {
        let (sender, notices) = Notices::channel();
        let client = Arc::new(Client::new(pid, user));
        let own = Arc::new(Own::new(user, &settings));
        let config = engine.base.config().clone().with_extension(Arc::new(sender));
        let draft = engine.store.draft();
        let config = config.with_extension(Arc::clone(&client)).with_extension(Arc::clone(&own)).with_extension(Arc::clone(&draft));
        let mut builder = SessionStateBuilder::new_from_existing(engine.base.clone()).with_session_id(format!("{pid}")).with_config(config);
        if let Some(common) = engine.base.catalog_list().catalog(planner::DATABASE) {
            let database = Arc::new(catalog::Database { common, draft: Arc::clone(&draft) });
            builder = builder.with_catalog_list(Arc::new(catalog::Databases(database)));
        }
        let mut state = builder.build();
        let presence = engine.system.enter(pid, user);
        let (ear, messages) = ear();
        functions::register(&mut state, pid, user);
        let told = Vec::new();
        let mut session = Self { engine, state, settings, transaction: Transaction::Idle, draft, client, presence, ear, own, told };
        session.apply_settings();
        (session, notices, messages)
    }

    /// Plans a command as far as a client may ask before it runs: parameter types and result columns.
    pub(crate) async fn prepare(
        &mut self,
        command: Option<Command>,
        text: String,
        told: &[Option<DataType>],
    ) -> Result<Prepared, SqlError> {
        let Some(command) = command else { return Ok(Prepared { text, ..Prepared::default() }) };
        let mut kept = Kept::default();
        let (parameters, columns) = match &command {
            Command::Query(statement) => {
                let (plan, parameters) = self.plan_typed(statement, told).await?;
                let columns = Arc::new(plan.logical.schema().as_arrow().clone());
                kept = Kept::of(plan, parameters.fields(), &self.settings);
                (parameters, Some(columns))
            }
            Command::Explain(explain) => (self.plan_typed(&explain.query, told).await?.1, Some(explain::columns())),
            Command::Insert { statement, .. } => (self.plan_typed(statement, told).await?.1, None),
            Command::Update { target, update } => {
                let query = self.update_as_query(target, update).await?;
                (self.plan_typed(&query, told).await?.1, None)
            }
            Command::Delete { target, delete } => {
                let query = self.delete_as_query(target, delete).await?;
                (self.plan_typed(&query, told).await?.1, None)
            }
            Command::Declare { query, .. } => (self.plan_typed(query, told).await?.1, None),
            Command::CreateTableAs { query, .. } => {
                let (_, parameters) = self.plan_typed(&Statement::Query(query.clone()), told).await?;
                (parameters, None)
            }
            Command::CreateModel { training, .. } => (self.plan_typed(training, told).await?.1, None),
            Command::Show(name) => (Parameters::default(), Some(self.show(name.as_deref())?.schema())),
            _ => (Parameters::default(), None),
        };
        Ok(Prepared { command: Some(command), text, parameters, columns, kept })
    }

    /// Refuses what a failed transaction does not accept: everything but its end.
    pub(crate) fn admit(&self, command: Option<&Command>) -> Result<(), SqlError> {
        if matches!(self.transaction, Transaction::Failed(_)) && !command.is_some_and(Command::ends_failure) {
            let message = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(SqlError::new(SqlState::InFailedTransaction, message));
        }
        Ok(())
    }

    /// Refuses to write where only reading is allowed, and where what is written could not be rolled back.
    fn admit_writing(&self, words: &str, alone: bool) -> Result<(), SqlError> {
        let block = !matches!(self.transaction, Transaction::Idle);
        if self.settings.read_only(block) {
            return Err(SqlError::new(SqlState::ReadOnlyTransaction, format!("cannot execute {words} in a read-only transaction")));
        }
        if block && alone {
            let message = format!("{words} cannot run inside a transaction block, because it can't be rolled back");
            return Err(
                SqlError::new(SqlState::FeatureNotSupported, message).with_hint("COMMIT first, or turn autocommit on in the client")
            );
        }
        Ok(())
    }

    /// Runs the command of a statement, whose plan may be kept. Rows are made while the client takes them.
    pub(crate) async fn run(&mut self, command: &Command, of: &Prepared, values: Option<ParamValues>) -> Result<Outcome, SqlError> {
        self.client.begin(&of.text, self.settings.limits());
        self.presence.active(&of.text, self.settings.application_name(), self.transaction.started());
        self.admit(Some(command))?;
        if command.writes() {
            self.admit_writing(command.words(), command.stands_alone())?;
        }
        self.pin();
        match command {
            Command::Query(statement) => self.query(statement, &of.kept, values, "SELECT", true).await,
            Command::Explain(explain) => self.explain(explain, values).await,
            Command::Insert { target, statement } => self.insert(target, statement, values).await,
            Command::Delete { target, delete } => self.delete(target, delete, values).await,
            Command::Update { target, update } => self.update(target, update, values).await,
            Command::Truncate(targets) => self.truncate(targets).await,
            Command::Alter { target, if_exists, alterations } => self.alter(target, *if_exists, alterations).await,
            Command::Rename { kind, target, if_exists, to } => self.rename(*kind, target, *if_exists, to, command.words()).await,
            Command::Comment { kind, target, column, text } => self.comment(*kind, target, column.as_deref(), text.as_deref()).await,
            Command::CreateSchema { name, if_not_exists } => self.create_schema(name, *if_not_exists),
            Command::DropSchema { names, if_exists, cascade } => self.drop_schemas(names, *if_exists, *cascade),
            Command::CreateTableAs { target, if_not_exists, columns, query } => {
                self.create_table_as(target, *if_not_exists, columns, query, values).await
            }
            Command::CreateTable { target, if_not_exists, columns } => self.create_table(target, *if_not_exists, columns).await,
            Command::CreateView { target, or_replace, query } => self.create_view(target, *or_replace, query).await,
            Command::Drop { view, if_exists, targets } => self.drop_relations(*view, *if_exists, targets).await,
            Command::CopyTo { query, format } => self.copy_to(query, format).await,
            Command::CopyFrom { target, columns, format } => self.copy_from(target, columns, format).await,
            Command::Declare { query, .. } => self.query(query, &of.kept, values, "SELECT", true).await,
            Command::Fetch(fetch) => Ok(Outcome::Fetch(fetch.clone())),
            Command::Close(_) => Ok(done(command.words())),
            Command::CreateModel { name, or_replace, if_not_exists, training } => {
                self.create_model(name, *or_replace, *if_not_exists, training, values).await
            }
            Command::DropModel { if_exists, targets } => self.drop_models(*if_exists, targets).await,
            Command::AlterModel { name, alias, version } => self.alter_model(name, alias, *version).await,
            Command::CreatePrompt { name, or_replace, if_not_exists, text } => {
                self.create_prompt(name, *or_replace, *if_not_exists, text).await
            }
            Command::DropPrompt { if_exists, targets } => self.drop_prompts(*if_exists, targets).await,
            Command::Set { local, name, value } => self.set(*local, name, value.as_deref()),
            Command::Reset(name) => self.reset(name.as_deref()),
            Command::Show(name) => {
                let shown = self.show(name.as_deref())?;
                Ok(Outcome::Rows { schema: shown.schema(), rows: Rows::of(shown), tag: "SHOW", counted: false })
            }
            Command::Discard(what) => self.discard(*what, command.words()),
            Command::Deallocate(_) => Ok(done(command.words())),
            Command::Begin { words, read_only, isolation } => self.begin(words, *read_only, isolation.as_deref()),
            Command::Commit => self.commit().await,
            Command::Rollback => Ok(self.rollback()),
            Command::Savepoint(name) => self.savepoint(name),
            Command::Release(name) => self.release(name),
            Command::RollbackTo(name) => self.rollback_to(name),
            Command::Post(post) => self.post(post, command.words()),
        }
    }

    /// The end of a CREATE of what is already there: this error, or where it may be there a notice.
    fn exists(&mut self, error: SqlError, if_not_exists: bool, tag: &str) -> Result<Outcome, SqlError> {
        if !if_not_exists {
            return Err(error);
        }
        self.skip(&error);
        Ok(done(tag))
    }

    /// Says that something was left as it is, for the reason of this error.
    fn skip(&mut self, error: &SqlError) {
        self.tell(SqlError::notice(Severity::Notice, error.state, format!("{}, skipping", error.message)));
    }

    /// Nothing runs until the client asks.
    pub(crate) fn waits(&self) {
        let state = match self.transaction {
            Transaction::Idle => "idle",
            Transaction::Open(_) => "idle in transaction",
            Transaction::Failed(_) => "idle in transaction (aborted)",
        };
        self.presence.waits(state, self.transaction.started());
    }

    /// Memory of the server for something the session keeps.
    pub(crate) fn reserve(&self, what: String) -> MemoryReservation {
        MemoryConsumer::new(what).register(&self.state.runtime_env().memory_pool)
    }

    /// Keeps a notice for the client, if it wants to hear of it.
    fn tell(&mut self, notice: SqlError) {
        if self.settings.wants(notice.severity) {
            self.told.push(notice);
        }
    }

    /// What a function notices, if the client wants to hear of it.
    pub(crate) fn heard(&self, notice: Notice) -> Option<SqlError> {
        let (severity, state) = match notice.severity {
            stratagem_udfs::notice::Severity::Notice => (Severity::Notice, SqlState::SuccessfulCompletion),
            stratagem_udfs::notice::Severity::Warning => (Severity::Warning, SqlState::Warning),
        };
        self.settings.wants(severity).then(|| SqlError::notice(severity, state, notice.message))
    }

    /// The plan of a statement with parameters, once their types are settled: what the client says, what a cast says, what the place
    /// says, and text for what nobody says.
    async fn plan_typed(&mut self, statement: &Statement, told: &[Option<DataType>]) -> Result<(Plan, Parameters), SqlError> {
        let told = parameters::with_casts(&self.state, statement, told);
        let types = parameters::fields(&told);
        let plan = self.plan(statement.clone(), types.clone()).await?;
        let parameters = Parameters::of(&plan.logical, &told, statement)?;
        if parameters.fields() == types {
            return Ok((plan, parameters));
        }
        let plan = self.plan(statement.clone(), parameters.fields()).await?;
        Ok((plan, parameters))
    }

    /// The logical plan of a statement, with every name resolved and every function call in its declared form.
    async fn plan(&mut self, statement: Statement, types: Vec<Option<FieldRef>>) -> Result<Plan, SqlError> {
        self.start();
        let path = self.settings.search_path();
        let statement = rewrite(&self.state, &path, statement).await?;
        let reads = kept::reads(&statement);
        let logical = planner::plan(&self.state, &path, statement, types).await?;
        Ok(Plan { logical, reads })
    }

    /// The time of a statement is that of its start, or of the start of its transaction.
    fn start(&mut self) {
        self.state.mark_start_execution();
        if let Transaction::Open(block) = &self.transaction {
            self.state.execution_props_mut().query_execution_start_time = Some(block.started);
        }
    }

    async fn query(
        &mut self,
        statement: &Statement,
        kept: &Kept,
        values: Option<ParamValues>,
        tag: &'static str,
        counted: bool,
    ) -> Result<Outcome, SqlError> {
        let types = values.as_ref().map(parameters::types_of).unwrap_or_default();
        let plan = match kept.plan(&types, &self.settings) {
            Some(plan) => {
                self.start();
                with_values(plan.clone(), values)?
            }
            None => self.plan_with(statement.clone(), values).await?,
        };
        if stratagem_udfs::writes(&plan) {
            self.admit_writing("finetune", true)?;
        }
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        let rows = match constant::row(&self.state, &plan) {
            Some(row) => Rows::of(row),
            None => self.pump(self.stream(&plan).await?),
        };
        Ok(Outcome::Rows { schema, rows, tag, counted })
    }

    async fn plan_with(&mut self, statement: Statement, values: Option<ParamValues>) -> Result<LogicalPlan, SqlError> {
        let types = values.as_ref().map(parameters::types_of).unwrap_or_default();
        with_values(self.plan(statement, types).await?.logical, values)
    }

    /// Starts a plan.
    async fn stream(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream, SqlError> {
        self.execute(&self.physical(plan).await?)
    }

    /// The plan as it is carried out. Only reading is let through here, whatever the statement said.
    async fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(plan)?;
        Ok(self.state.create_physical_plan(plan).await?)
    }

    fn execute(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<SendableRecordBatchStream, SqlError> {
        // operators start their tasks on the runtime they are started from
        let _compute = self.engine.compute.enter();
        let rows = execute_stream(Arc::clone(plan), self.state.task_ctx())?;
        Ok(crate::catalog::name_damaged_file(plan, rows))
    }

    /// Moves the work of a stream to the compute runtime.
    fn pump(&self, mut stream: SendableRecordBatchStream) -> Rows {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let task = self.engine.compute.spawn(async move {
            while let Some(batch) = stream.next().await {
                let failed = batch.is_err();
                if sender.send(batch.map_err(SqlError::from)).await.is_err() || failed {
                    return;
                }
            }
        });
        Rows { batches, task: Some(AbortOnDropHandle::new(task)) }
    }

    /// Keeps what is done once the transaction is committed.
    fn post(&self, post: &Post, words: &str) -> Result<Outcome, SqlError> {
        if let Post::Notify { channel, .. } = post {
            self.engine.system.channels.admit(channel)?;
        }
        self.own.post(post.clone());
        Ok(done(words))
    }

    fn discard(&mut self, what: Discarded, words: &str) -> Result<Outcome, SqlError> {
        match what {
            // plans are not kept, and there are no sequences
            Discarded::Plans | Discarded::Sequences => return Ok(done(words)),
            Discarded::Temporary => {
                self.draft.discard_temporary();
                return Ok(done(words));
            }
            Discarded::All => {}
        }
        if !matches!(self.transaction, Transaction::Idle) {
            return Err(SqlError::new(SqlState::ActiveTransaction, "DISCARD ALL cannot run inside a transaction block"));
        }
        self.settings.reset_all();
        self.draft.discard_temporary();
        self.own.post(Post::Unlisten(None));
        self.engine.system.locks.give_all_back(self.presence.pid);
        self.apply_settings();
        Ok(done("DISCARD ALL"))
    }
}

/// A plan with values in the place of its parameters.
fn with_values(plan: LogicalPlan, values: Option<ParamValues>) -> Result<LogicalPlan, SqlError> {
    Ok(match values {
        Some(values) => plan.replace_params_with_values(&values)?,
        None => plan,
    })
}

fn done(tag: &str) -> Outcome {
    Outcome::Done { tag: tag.to_owned() }
}

/// A stream of nothing with this schema.
pub(crate) fn no_rows(schema: SchemaRef) -> Result<SendableRecordBatchStream, SqlError> {
    Ok(Box::pin(MemoryStream::try_new(Vec::new(), schema, None)?))
}
