//! What the references to a model mean, remembered for as long as the folders stay as they are: a statement asks several times.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{ALIASES, DEFAULT_ALIAS, LATEST_ALIAS, ModelName, Registry, Selector};
use crate::error::{Error, Result};

/// Two changes within one tick of the kernel's clock have one time, so what changed less than this ago is not remembered.
const SETTLING: Duration = Duration::from_millis(100);

/// What is remembered, by model.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<ModelName, Arc<Meanings>>>);

/// The versions of a model, of which there is at least one, and the aliases that name them.
#[derive(Debug)]
pub(super) struct Meanings {
    changed: Changed,
    latest: u32,
    versions: Vec<u32>,
    aliases: BTreeMap<String, u32>,
}

/// When the folder of a model and the file of the aliases last changed, whichever process did it.
#[derive(Debug, PartialEq)]
struct Changed {
    folder: SystemTime,
    aliases: Option<SystemTime>,
}

impl Changed {
    fn settled(&self, now: SystemTime) -> bool {
        self.aliases.is_none_or(|aliases| aliases + SETTLING < now) && self.folder + SETTLING < now
    }
}

impl Meanings {
    /// The version that is meant.
    pub(super) fn version(&self, name: &ModelName, selector: &Selector) -> Result<u32> {
        let version = match selector {
            Selector::Version(version) => *version,
            Selector::Default => self.default(),
            Selector::Alias(alias) if alias == LATEST_ALIAS => self.latest,
            Selector::Alias(alias) if alias == DEFAULT_ALIAS => self.default(),
            Selector::Alias(alias) => self.aliases.get(alias).copied().ok_or_else(|| Error::NoSuchAlias {
                name: name.to_string(),
                alias: alias.clone(),
                known: self.aliases.keys().cloned().collect(),
            })?,
        };
        if self.versions.contains(&version) {
            return Ok(version);
        }
        Err(Error::NoSuchVersion { name: name.to_string(), version, latest: self.latest })
    }

    fn default(&self) -> u32 {
        self.aliases.get(DEFAULT_ALIAS).copied().unwrap_or(self.latest)
    }
}

impl Registry {
    /// What the references to a model mean now; none when there is no such model.
    pub(super) fn meanings(&self, name: &ModelName) -> Result<Option<Arc<Meanings>>> {
        let now = SystemTime::now();
        let known = || self.known.0.lock().unwrap_or_else(PoisonError::into_inner);
        // the times come first: what changes while the rest is read is read again the next time
        let Some(folder) = changed(&self.root.join(name.as_str()))? else {
            known().remove(name);
            return Ok(None);
        };
        let changed = Changed { folder, aliases: changed(&self.root.join(ALIASES))? };
        if let Some(meanings) = known().get(name).filter(|meanings| meanings.changed == changed) {
            return Ok(Some(Arc::clone(meanings)));
        }
        let versions = self.versions(name)?;
        let Some(latest) = versions.last().copied() else { return Ok(None) };
        let settled = changed.settled(now);
        let meanings = Arc::new(Meanings { changed, latest, versions, aliases: self.aliases()?.remove(name).unwrap_or_default() });
        if settled {
            known().insert(name.clone(), Arc::clone(&meanings));
        }
        Ok(Some(meanings))
    }
}

/// When a file or folder last changed; none when it is not there.
fn changed(path: &Path) -> Result<Option<SystemTime>> {
    match fs::metadata(path).and_then(|metadata| metadata.modified()) {
        Ok(time) => Ok(Some(time)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
    }
}

#[cfg(test)]
mod tests;
