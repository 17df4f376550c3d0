//! Trainings and what they measured, one small file each.
//!
//! ```text
//! <root>/.runs/7.json    the record, replaced as a whole
//! <root>/.runs/7.lock    locked by the process that trains; gone when the run has ended
//! ```
//!
//! The operating system frees the lock of a process that dies, so a run that nobody holds any more is known as such.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ModelName, PATIENCE, entries};
use crate::durable::{self, Lock, Sharing};
use crate::error::{Error, Result};

/// The most records that are kept; the oldest give way.
const KEPT: usize = 10_000;

const RECORD: &str = ".json";
const LOCK: &str = ".lock";

/// Locked by who gives the next number.
const NUMBERS: &str = ".numbers";

/// What a run says of itself when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The model that is trained.
    pub model: ModelName,
    /// The rows it is trained and validated on.
    pub rows: u64,
    /// The options of the training.
    pub options: serde_json::Value,
    /// The seed.
    pub seed: u64,
    /// The number of the trial, from 1, when options are searched for.
    pub trial: Option<u32>,
    /// The run that searches, for a trial.
    pub parent: Option<u64>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It goes on.
    Running,
    /// It saved a version, or was a trial that went to its end.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// It was stopped on request.
    Canceled,
}

impl Status {
    /// The status in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// One measurement while a run goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The epoch, from 1.
    pub epoch: u32,
    /// The steps since the beginning, if they are counted.
    pub step: Option<u64>,
    /// The rows it was measured on: `train`, `validation` or `test`.
    pub split: String,
    /// What was measured, such as `loss` or `auc`.
    pub metric: String,
    /// The value; `None` stands for one that is not finite.
    #[serde(with = "super::exact")]
    pub value: Option<f64>,
    /// When, RFC 3339 in UTC.
    pub at: String,
}

/// One figure of the saved model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The rows it was measured on: `train`, `validation` or `test`.
    pub split: String,
    /// What was measured, such as `loss` or `auc`.
    pub metric: String,
    /// The value; `None` stands for one that is not finite.
    #[serde(with = "super::exact")]
    pub value: Option<f64>,
    /// How many rows.
    pub rows: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It went to its end.
    Succeeded {
        /// The version that was saved; a trial saves none.
        version: Option<u32>,
        /// What the kept weights are worth.
        evaluations: Vec<Evaluation>,
    },
    /// It failed, for this reason.
    Failed(String),
    /// It was stopped on request.
    Canceled,
}

/// A run as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its number, from 1.
    pub id: u64,
    /// What it said when it began.
    #[serde(flatten)]
    pub info: RunInfo,
    /// The version that it saved.
    pub version: Option<u32>,
    /// Where it stands.
    pub status: Status,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began, RFC 3339 in UTC.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// What was measured on the way.
    pub metrics: Vec<Metric>,
    /// What the saved model is worth.
    pub evaluations: Vec<Evaluation>,
}

/// The runs of a registry.
#[derive(Debug)]
pub struct Runs {
    folder: PathBuf,
}

impl Runs {
    /// Opens the folder and marks the runs of processes that died as failed.
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        durable::create_directory(&folder)?;
        let runs = Self { folder };
        // Who else opens the folder or begins a run in it sees to this as well.
        let Some(_numbering) = Lock::take(runs.folder.join(NUMBERS), Sharing::Exclusive, Duration::ZERO)? else { return Ok(runs) };
        for id in runs.ids(LOCK)? {
            let Some(_dead) = Lock::take(runs.path(id, LOCK), Sharing::Exclusive, Duration::ZERO)? else { continue };
            // The crash may have been before the first record, or between the last one and the end of the lock.
            if let Some(mut record) = runs.read(id)?.filter(|record| record.status == Status::Running) {
                record.end(Outcome::Failed("the server stopped".to_owned()));
                runs.write(&record)?;
            }
            runs.unlock(id)?;
        }
        Ok(runs)
    }

    /// Begins a run: it is on disk as running when this returns.
    pub fn begin(&self, info: RunInfo) -> Result<Run> {
        let busy = || Error::Busy { name: info.model.to_string() };
        let _numbering = Lock::take(self.folder.join(NUMBERS), Sharing::Exclusive, PATIENCE)?.ok_or_else(busy)?;
        self.prune(KEPT - 1)?;
        let id = self.ids(RECORD)?.last().max(self.ids(LOCK)?.last()).map_or(1, |highest| highest + 1);
        let lock = Lock::take(self.path(id, LOCK), Sharing::Exclusive, Duration::ZERO)?.ok_or_else(busy)?;
        let record = RunRecord {
            id,
            info,
            version: None,
            status: Status::Running,
            error: None,
            started_at: now(),
            ended_at: None,
            metrics: Vec::new(),
            evaluations: Vec::new(),
        };
        self.write(&record)?;
        Ok(Run { runs: Self { folder: self.folder.clone() }, record, _lock: lock })
    }

    /// All runs, by number. A record that cannot be read is left out and logged.
    pub fn list(&self) -> Result<Vec<RunRecord>> {
        let mut list = Vec::new();
        for id in self.ids(RECORD)? {
            match self.read(id) {
                Ok(record) => list.extend(record),
                Err(error) => tracing::warn!(%error, "a training run is left out"),
            }
        }
        Ok(list)
    }

    /// Deletes the oldest records beyond `kept`, but none of a run that goes on.
    fn prune(&self, kept: usize) -> Result<()> {
        let records = self.ids(RECORD)?;
        let running = self.ids(LOCK)?;
        let beyond = records.len().saturating_sub(kept);
        records.iter().filter(|id| !running.contains(id)).take(beyond).try_for_each(|id| remove(&self.path(*id, RECORD)))
    }

    /// The numbers of the files with this ending.
    fn ids(&self, ending: &str) -> Result<BTreeSet<u64>> {
        Ok(entries(&self.folder)?.iter().filter_map(|entry| entry.strip_suffix(ending)?.parse().ok()).collect())
    }

    fn path(&self, id: u64, ending: &str) -> PathBuf {
        self.folder.join(format!("{id}{ending}"))
    }

    /// The record; `None` when there is none.
    fn read(&self, id: u64) -> Result<Option<RunRecord>> {
        let path = self.path(id, RECORD);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::corrupt(path.display().to_string(), e)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path)(error)),
        }
    }

    fn write(&self, record: &RunRecord) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|e| Error::Io { path: self.path(record.id, RECORD), source: e.into() })?;
        durable::replace(&self.folder, &format!("{}{RECORD}", record.id), &text)
    }

    /// Says that the run has ended. The caller holds the lock.
    fn unlock(&self, id: u64) -> Result<()> {
        remove(&self.path(id, LOCK))
    }
}

impl RunRecord {
    fn end(&mut self, outcome: Outcome) {
        self.ended_at = Some(now());
        match outcome {
            Outcome::Succeeded { version, evaluations } => {
                (self.status, self.version, self.evaluations) = (Status::Succeeded, version, evaluations);
            }
            Outcome::Failed(reason) => (self.status, self.error) = (Status::Failed, Some(reason)),
            Outcome::Canceled => self.status = Status::Canceled,
        }
    }
}

/// A run that goes on. One that is dropped without an end has failed.
#[derive(Debug)]
pub struct Run {
    runs: Runs,
    record: RunRecord,
    _lock: Lock,
}

impl Run {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// Adds measurements of one moment, as `(split, metric, value)`. They are on disk when this returns.
    pub fn metrics(&mut self, epoch: u32, step: Option<u64>, measured: &[(&str, &str, f64)]) -> Result<()> {
        let at = now();
        self.record.metrics.extend(measured.iter().map(|(split, metric, value)| Metric {
            epoch,
            step,
            split: (*split).to_owned(),
            metric: (*metric).to_owned(),
            value: value.is_finite().then_some(*value),
            at: at.clone(),
        }));
        self.runs.write(&self.record)
    }

    /// Adds one measurement after an epoch. It is on disk when this returns.
    pub fn metric(&mut self, epoch: u32, split: &str, metric: &str, value: f64) -> Result<()> {
        self.metrics(epoch, None, &[(split, metric, value)])
    }

    /// Ends the run.
    pub fn finish(mut self, outcome: Outcome) -> Result<()> {
        self.end(outcome)
    }

    fn end(&mut self, outcome: Outcome) -> Result<()> {
        self.record.end(outcome);
        self.runs.write(&self.record)?;
        self.runs.unlock(self.record.id)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.record.status == Status::Running
            && let Err(error) = self.end(Outcome::Failed("it ended without a result".to_owned()))
        {
            tracing::warn!(run = self.record.id, %error, "the end of a training run could not be written");
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests;
