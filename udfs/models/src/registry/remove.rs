//! Deleting models and versions. The number of a version is never given again.

use std::fs;

use super::{ModelName, ModelRef, Registry, Selector};
use crate::durable;
use crate::error::{Error, Result};

/// Holds the highest version that was ever given, when the folders of the versions no longer tell.
const HIGHEST: &str = "highest";

impl Registry {
    /// Whether a model, or this version of it, is there; the error says what is.
    pub fn contains(&self, name: &ModelName, version: Option<u32>) -> Result<()> {
        if self.latest(name)?.is_none() {
            return Err(self.no_such_model(name));
        }
        let Some(version) = version else { return Ok(()) };
        self.resolve(&ModelRef { name: name.clone(), selector: Selector::Version(version) }).map(drop)
    }

    /// Deletes a version, or with `None` a model: its versions and aliases. What is deleted stays so after a power cut; a crash in the middle
    /// of a model leaves its latest versions.
    ///
    /// Errors: [`Error::NoSuchModel`], [`Error::NoSuchVersion`], [`Error::HasAlias`] for a version that an alias names, [`Error::Busy`],
    /// [`Error::Io`].
    pub fn remove(&self, name: &ModelName, version: Option<u32>) -> Result<()> {
        self.contains(name, version)?;
        // Declared before the locks, so that the files are deleted when these are free again.
        let mut gone = Vec::new();
        let _versions = self.lock_versions(name)?;
        let _aliases = self.lock_aliases(name)?;
        // Someone else may have deleted it while this one waited.
        self.contains(name, version)?;
        let mut aliases = self.aliases()?;
        let doomed = match version {
            Some(version) => {
                let named = aliases.get(name).into_iter().flatten().filter(|(_, v)| **v == version);
                let aliases: Vec<String> = named.map(|(alias, _)| alias.clone()).collect();
                if !aliases.is_empty() {
                    return Err(Error::HasAlias { name: name.to_string(), version, aliases });
                }
                vec![version]
            }
            None => {
                if aliases.remove(name).is_some() {
                    self.write_aliases(aliases)?;
                }
                self.versions(name)?
            }
        };
        durable::replace(&self.root.join(name.as_str()), HIGHEST, self.highest(name)?.to_string().as_bytes())?;
        for version in doomed {
            let temporary = self.temporary(name)?;
            durable::rename_directory(&self.version_directory(name, version), &temporary.path)?;
            gone.push(temporary);
        }
        Ok(())
    }

    /// The highest version that was ever given; 0 when there was none.
    pub(super) fn highest(&self, name: &ModelName) -> Result<u32> {
        let path = self.root.join(name.as_str()).join(HIGHEST);
        let kept = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| Error::corrupt(path.display().to_string(), "it does not hold a number"))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Error::io(path)(error)),
        };
        Ok(self.latest(name)?.map_or(kept, |latest| latest.max(kept)))
    }
}

#[cfg(test)]
mod tests;
