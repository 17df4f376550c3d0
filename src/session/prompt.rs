//! The commands about prompts.

use stratagem_udfs::models::{ModelName, Models};

use super::{Outcome, Session, done};
use crate::sqlstate::{SqlError, SqlState};

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
        let error = SqlError::new(SqlState::DuplicateObject, format!("prompt \"{name}\" already exists"))
            .with_hint(format!("CREATE OR REPLACE PROMPT {name} makes its next version, DROP PROMPT {name} deletes it"));
        self.exists(error, if_not_exists, "CREATE PROMPT")
    }

    pub(super) async fn drop_prompts(&mut self, if_exists: bool, targets: &[(ModelName, Option<u32>)]) -> Result<Outcome, SqlError> {
        let contains = |models: &Models, name: &ModelName, version| models.prompts().contains(name, version);
        let remove = |models: &Models, name: &ModelName, version| models.prompts().remove(name, version);
        self.drop_versions(if_exists, targets, contains, remove).await?;
        Ok(done("DROP PROMPT"))
    }
}
