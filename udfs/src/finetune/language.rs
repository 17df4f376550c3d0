//! The arguments and the rows of a training of a language model.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result as EngineResult};
use stratagem_models::features::Column as RawColumn;
use stratagem_models::language::tune::{self, Base, Objective, Tune};

use super::texts::{Read, Seen};
use super::{Answer, Label, column, invalid, missing_label};
use crate::declaration::{Type, sql_type};
use crate::error::{Error, Result};
use crate::models::Models;
use crate::relation::Constants;

/// Arguments that are for language models only.
pub(super) const OWN: [&str; 5] = ["prompt", "system", "rejected", "chat", "beta"];

/// Arguments of other tasks.
const OTHERS: [&str; 7] = ["conversion", "treatment", "learner", "propensity", "features", "transform", "history"];

/// Arguments of the training of encoders.
const ENCODERS: [&str; 3] = ["accumulation", "layer_decay", "r_drop"];

/// What a language model is trained on.
#[derive(Debug)]
pub(super) struct Language {
    pub(super) objective: Objective,
    pub(super) tune: Tune,
    /// The model, or the version to go on from.
    base: Option<String>,
    prompt: usize,
    system: Option<usize>,
    /// The completion; or the chosen and the rejected one.
    completions: Vec<usize>,
}

/// The objective that a task has, if it is one of a language model.
pub(super) fn objective(task: &str) -> Option<Objective> {
    task.parse().ok()
}

impl Language {
    /// Checks the arguments: the texts of a row, and how the model is trained. `mark` is the column of the split.
    pub(super) fn new(
        models: &Models,
        objective: Objective,
        arguments: &Constants,
        schema: &Schema,
        mark: Option<usize>,
    ) -> Result<(Self, Label, Vec<RawColumn>)> {
        if let Some(other) = OTHERS.iter().find(|argument| arguments.optional_text(argument).is_some()) {
            return Err(invalid(other, format!("is not for {objective}"), "leave it out"));
        }
        if let Some(other) = ENCODERS.iter().find(|argument| !arguments.literal(argument).is_null()) {
            let hint = "leave it out; a large batch_size is computed in parts already";
            return Err(invalid(other, format!("is not for {objective}"), hint));
        }
        match arguments.optional_text("method") {
            None | Some("lora") => {}
            Some(other) => return Err(invalid("method", format!("is '{other}'"), "a language model is trained by 'lora'")),
        }
        let name = arguments.optional_text("label").ok_or_else(missing_label)?;
        let label = text_column(name, "label", schema)?;
        let mut completions = vec![label];
        match (objective, arguments.optional_text("rejected")) {
            (Objective::Preference, Some(rejected)) => completions.push(text_column(rejected, "rejected", schema)?),
            (Objective::Preference, None) => {
                let hint = "name the column of the worse completions: rejected => ...";
                return Err(invalid("rejected", "is NULL", hint));
            }
            (Objective::Generation, Some(_)) => {
                return Err(invalid("rejected", "is not for generation", "write task => 'preference' with it"));
            }
            (Objective::Generation, None) => {}
        }
        let system = arguments.optional_text("system").map(|system| text_column(system, "system", schema)).transpose()?;
        let taken = |position: &usize| completions.contains(position) || system == Some(*position) || mark == Some(*position);
        let others: Vec<usize> = (0..schema.fields().len()).filter(|position| !taken(position)).collect();
        let prompt = match (arguments.optional_text("prompt"), others.as_slice()) {
            (Some(prompt), _) => text_column(prompt, "prompt", schema)?,
            (None, [prompt]) => text_column(schema.field(*prompt).name(), "prompt", schema)?,
            (None, []) => return Err(Error::value("the query", "has no column for the prompts")),
            (None, more) => {
                let names: Vec<&str> = more.iter().map(|position| schema.field(*position).name().as_str()).collect();
                return Err(invalid(
                    "prompt",
                    format!("is NULL, and the query has {}", names.join(", ")),
                    "name the column of the prompts: prompt => ...",
                ));
            }
        };
        if taken(&prompt) {
            return Err(invalid("prompt", "is the column of another text too", "name another column"));
        }
        if let Some(idle) = others.iter().find(|position| **position != prompt) {
            let reason = format!("has a column \"{}\" that nothing reads", schema.field(*idle).name());
            return Err(invalid("query", reason, "select the prompt and the completions only"));
        }
        let tune = tuning(arguments, objective)?;
        let base = arguments.optional_text("base").map(str::to_owned);
        // A base that does not exist is an error before the rows are read.
        models.language_name(base.as_deref())?;
        let names: Vec<&str> =
            std::iter::once(prompt).chain(completions.iter().copied()).map(|position| schema.field(position).name().as_str()).collect();
        let columns = tune::columns(&names);
        let label = Label { column: label, name: name.to_owned(), role: "label", answer: Answer::Binary };
        Ok((Self { objective, tune, base, prompt, system, completions }, label, columns))
    }

    /// The language model that is to be trained.
    pub(super) async fn base(&self, models: &Arc<Models>) -> EngineResult<Arc<Base>> {
        let (models, base, tune) = (Arc::clone(models), self.base.clone(), self.tune.clone());
        let opening = SpawnedTask::spawn_blocking(move || {
            let (name, decoder, before) = models.language_base(base.as_deref())?;
            let base = Base::new(&name, decoder, tune)?;
            match before {
                Some(before) => base.from(before),
                None => Ok(base),
            }
        });
        let base = opening.join_unwind().await.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?;
        Ok(Arc::new(base.map_err(Error::from)?))
    }

    /// The rows of a batch that have all texts.
    pub(super) async fn read(&self, batch: &RecordBatch, base: &Arc<Base>) -> EngineResult<Read> {
        let texts = |position: usize| EngineResult::Ok(cast(batch.column(position), &DataType::Utf8)?.as_string::<i32>().clone());
        let (prompts, system) = (texts(self.prompt)?, self.system.map(texts).transpose()?);
        let completions = self.completions.iter().map(|position| texts(*position)).collect::<EngineResult<Vec<StringArray>>>()?;
        let present = |texts: &StringArray, row: usize| texts.is_valid(row) && !texts.value(row).trim().is_empty();
        let whole = |row: &usize| present(&prompts, *row) && completions.iter().all(|texts| present(texts, *row));
        let rows: Vec<usize> = (0..batch.num_rows()).filter(whole).collect();
        let blank = batch.num_rows() - rows.len();
        let (base, own) = (Arc::clone(base), rows.clone());
        let reading = SpawnedTask::spawn_blocking(move || {
            let system = |row: usize| system.as_ref().filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row));
            let row = |row: &usize| (system(*row), prompts.value(*row), completions.iter().map(|texts| texts.value(*row)).collect());
            base.read(own.iter().map(row))
        });
        let read = reading.join_unwind().await.map_err(|failed| DataFusionError::ExecutionJoin(Box::new(failed)))?;
        let (batch, truncated) = read.map_err(Error::from)?;
        Ok(Read { batch, labels: Vec::new(), rows, nulls: 0, seen: Seen { blank, truncated } })
    }
}

/// A column of texts.
fn text_column(name: &str, argument: &str, schema: &Schema) -> Result<usize> {
    let position = column(name, argument, schema)?;
    let data_type = schema.field(position).data_type();
    if Type::Text.accepts(data_type) && !data_type.is_null() {
        return Ok(position);
    }
    Err(Error::WrongType {
        object: format!("{argument} column \"{name}\""),
        actual: sql_type(data_type),
        detail: Some("a language model is trained on texts".to_owned()),
        hint: Some(format!("write {name}::text")),
    })
}

/// How the model is trained.
fn tuning(arguments: &Constants, objective: Objective) -> Result<Tune> {
    let usual = Tune::default();
    let rank = arguments.count("rank")?.unwrap_or(usual.rank);
    let targets = match arguments.optional_text("targets") {
        None => usual.targets,
        Some(targets) => targets.split(',').map(|target| target.trim().parse()).collect::<Result<_, _>>()?,
    };
    let beta = arguments.optional_double("beta");
    if beta.is_some() && objective != Objective::Preference {
        return Err(invalid("beta", "is not for generation", "write task => 'preference' with it"));
    }
    let tune = Tune {
        rank,
        alpha: arguments.optional_double("alpha").map_or(2.0 * rank as f32, |alpha| alpha as f32),
        targets,
        max_length: arguments.count("max_length")?.unwrap_or(usual.max_length),
        chat: if arguments.literal("chat").is_null() { usual.chat } else { arguments.boolean("chat")? },
        beta: beta.map_or(usual.beta, |beta| beta as f32),
    };
    tune.check()?;
    Ok(tune)
}
