//! The commands about prompts.

use stratagem_udfs::models::{Error, ModelName};

use super::{Outcome, Session, done};
use crate::sqlstate::{Severity, SqlError, SqlState};

impl Session {
    pub(super) async fn create_prompt(
        &mut self,
        name: &ModelName,
        or_replace: bool,
        if_not_exists: bool,
        text: &str,
    ) -> Result<Outcome, SqlError> {
        let (wanted, text) = (name.clone(), text.to_owned());
        let version = self.on_disk(move |models| {
            let prompts = models.prompts();
            if !or_replace && prompts.names()?.contains(&wanted) {
                return Ok(None);
            }
            prompts.create(&wanted, &text).map(Some)
        });
        if version.await?.is_some() {
            return Ok(done("CREATE PROMPT"));
        }
        let error = SqlError::new(SqlState::DuplicateObject, format!("prompt \"{name}\" already exists"));
        if !if_not_exists {
            return Err(error.with_hint(format!("CREATE OR REPLACE PROMPT {name} makes its next version, DROP PROMPT {name} deletes it")));
        }
        self.tell(SqlError::notice(Severity::Notice, error.state, format!("{}, skipping", error.message)));
        Ok(done("CREATE PROMPT"))
    }

    /// All are there before the first is deleted, unless they may be missing.
    pub(super) async fn drop_prompts(&mut self, if_exists: bool, targets: &[(ModelName, Option<u32>)]) -> Result<Outcome, SqlError> {
        let targets = targets.to_vec();
        let missing = self.on_disk(move |models| {
            let mut present = Vec::new();
            let mut missing = Vec::new();
            for (name, version) in &targets {
                let reference = version.map_or(name.to_string(), |version| format!("{name}@{version}"));
                match models.prompts().get(&reference) {
                    Ok(_) => present.push((name, *version)),
                    Err(error @ Error::NoSuchPrompt { .. }) if if_exists => missing.push(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
            present.into_iter().try_for_each(|(name, version)| models.prompts().remove(name, version))?;
            Ok(missing)
        });
        for message in missing.await? {
            self.tell(SqlError::notice(Severity::Notice, SqlState::SuccessfulCompletion, format!("{message}, skipping")));
        }
        Ok(done("DROP PROMPT"))
    }
}
