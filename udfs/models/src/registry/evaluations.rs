//! What versions were worth on the rows of queries, one small file per evaluation.
//!
//! ```text
//! <root>/.evaluations/7.json    written once
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ModelName, PATIENCE, entries, sha256};
use crate::durable::{self, Lock, Sharing};
use crate::error::{Error, Result};

/// The most evaluations that are kept; the oldest give way.
const KEPT: usize = 10_000;

const RECORD: &str = ".json";

/// Locked by who gives the next number.
const NUMBERS: &str = ".numbers";

/// One metric of a version on some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured, such as `auc`.
    pub metric: String,
    /// The value; none where there is none, or it is not finite.
    #[serde(with = "super::exact")]
    pub value: Option<f64>,
    /// The lower end of its 95 % interval, if it has one.
    #[serde(with = "super::exact")]
    pub low: Option<f64>,
    /// The upper end.
    #[serde(with = "super::exact")]
    pub high: Option<f64>,
}

/// An evaluation to be recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The model.
    pub model: ModelName,
    /// Its version.
    pub version: u32,
    /// The query that gave the rows.
    pub query: String,
    /// How many rows counted.
    pub rows: u64,
    /// What was measured.
    pub figures: Vec<Figure>,
}

/// An evaluation as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Its number, from 1.
    pub id: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// SHA-256 of the query's text, lower-case hexadecimal.
    pub query_sha256: String,
    /// What was measured.
    #[serde(flatten)]
    pub measurement: Measurement,
}

/// The evaluations of a registry.
#[derive(Debug)]
pub struct Evaluations {
    folder: PathBuf,
}

impl Evaluations {
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        durable::create_directory(&folder)?;
        Ok(Self { folder })
    }

    /// Records an evaluation and gives its number. It is on disk when this returns.
    pub fn add(&self, measurement: Measurement) -> Result<u64> {
        let busy = || Error::Busy { name: measurement.model.to_string() };
        let _numbering = Lock::take(self.folder.join(NUMBERS), Sharing::Exclusive, PATIENCE)?.ok_or_else(busy)?;
        let ids = self.ids()?;
        for oldest in ids.iter().take((ids.len() + 1).saturating_sub(KEPT)) {
            let path = self.path(*oldest);
            fs::remove_file(&path).map_err(Error::io(path))?;
        }
        let id = ids.last().map_or(1, |highest| highest + 1);
        let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let measured = Measured { id, at, query_sha256: sha256(measurement.query.as_bytes()), measurement };
        let text = serde_json::to_vec(&measured).map_err(|e| Error::Io { path: self.path(id), source: e.into() })?;
        durable::replace(&self.folder, &format!("{id}{RECORD}"), &text)?;
        Ok(id)
    }

    /// All evaluations, by number. A record that cannot be read is left out and logged.
    pub fn list(&self) -> Result<Vec<Measured>> {
        let mut list = Vec::new();
        for id in self.ids()? {
            let path = self.path(id);
            let record = match fs::read(&path) {
                Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(path.display().to_string(), e)),
                // It gave way to a newer one.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => Err(Error::io(path)(error)),
            };
            match record {
                Ok(record) => list.push(record),
                Err(error) => tracing::warn!(%error, "an evaluation is left out"),
            }
        }
        Ok(list)
    }

    fn ids(&self) -> Result<BTreeSet<u64>> {
        Ok(entries(&self.folder)?.iter().filter_map(|entry| entry.strip_suffix(RECORD)?.parse().ok()).collect())
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{id}{RECORD}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(version: u32) -> Measurement {
        let auc = Figure { metric: "auc".to_owned(), value: Some(0.75), low: Some(0.25), high: None };
        Measurement { model: ModelName::parse("ctr").unwrap(), version, query: "SELECT 1".to_owned(), rows: 9, figures: vec![auc] }
    }

    #[test]
    fn evaluations_are_numbered_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Evaluations::open(folder.path().join(".evaluations")).unwrap();
        assert_eq!((open().add(measurement(1)).unwrap(), open().add(measurement(2)).unwrap()), (1, 2));
        let list = open().list().unwrap();
        assert_eq!(list.iter().map(|m| (m.id, m.measurement.clone())).collect::<Vec<_>>(), [(1, measurement(1)), (2, measurement(2))]);
        assert_eq!(list[0].query_sha256, sha256(b"SELECT 1"));
        fs::write(folder.path().join(".evaluations/1.json"), "{").unwrap();
        assert_eq!(open().list().unwrap().len(), 1);
    }

    #[test]
    fn figures_come_back_to_the_last_bit_and_those_of_older_records_as_numbers() {
        let numbers = (1..2000).map(|n| f64::from(n).sqrt().recip()).chain([5e-324, 1.7e308, -0.0, 4.35, 0.1 + 0.2]);
        let figures: Vec<Figure> =
            numbers.map(|n| Figure { metric: "auc".to_owned(), value: Some(n), low: Some(-n), high: None }).collect();
        let folder = tempfile::tempdir().unwrap();
        let evaluations = Evaluations::open(folder.path().to_owned()).unwrap();
        evaluations.add(Measurement { figures: figures.clone(), ..measurement(1) }).unwrap();
        let bits = |figures: &[Figure]| figures.iter().map(|f| (f.value.map(f64::to_bits), f.low.map(f64::to_bits))).collect::<Vec<_>>();
        assert_eq!(bits(&evaluations.list().unwrap()[0].measurement.figures), bits(&figures));
        let older = r#"{"id":1,"at":"","query_sha256":"","model":"ctr","version":1,"query":"","rows":9,
                        "figures":[{"metric":"auc","value":0.75,"low":0.25,"high":null}]}"#;
        fs::write(folder.path().join("1.json"), older).unwrap();
        assert_eq!(evaluations.list().unwrap()[0].measurement.figures, measurement(1).figures);
    }
}
