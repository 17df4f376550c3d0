//! The commands about models.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ParamValues;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::Statement;
use futures::StreamExt;
use stratagem_udfs::models::{Error, ModelName, Models};
use stratagem_udfs::notice::{Notices, Severity as NoticeSeverity};
use tokio_util::task::AbortOnDropHandle;

use super::{Outcome, Session, done};
use crate::sqlstate::{Severity, SqlError, SqlState, internal};

impl Session {
    pub(super) async fn create_model(
        &mut self,
        name: &ModelName,
        or_replace: bool,
        if_not_exists: bool,
        training: &Statement,
        values: Option<ParamValues>,
    ) -> Result<Outcome, SqlError> {
        let wanted = name.clone();
        if !or_replace && self.on_disk(move |models| models.registry().names().map(|names| names.contains(&wanted))).await? {
            let error = SqlError::new(SqlState::DuplicateObject, format!("model \"{name}\" already exists"))
                .with_hint(format!("CREATE OR REPLACE MODEL {name} trains its next version, DROP MODEL {name} deletes it"));
            return self.exists(error, if_not_exists, "CREATE MODEL");
        }
        let plan = self.plan_with(training.clone(), values).await?;
        let stream = self.stream(&plan).await?;
        let notices = self.state.config().get_extension::<Notices>();
        let told = stream.map(move |batch| {
            let batch = batch?;
            if let Some(notices) = &notices {
                (0..batch.num_rows()).for_each(|row| notices.send(NoticeSeverity::Notice, report(&batch, row)));
            }
            Ok(batch)
        });
        let rows = self.pump(Box::pin(RecordBatchStreamAdapter::new(Arc::new(plan.schema().as_arrow().clone()), told)));
        Ok(Outcome::Work { rows, tag: "CREATE MODEL" })
    }

    pub(super) async fn drop_models(&mut self, if_exists: bool, targets: &[(ModelName, Option<u32>)]) -> Result<Outcome, SqlError> {
        let contains = |models: &Models, name: &ModelName, version| models.registry().contains(name, version);
        self.drop_versions(if_exists, targets, contains, Models::remove).await?;
        Ok(done("DROP MODEL"))
    }

    /// All are there before the first is deleted, unless they may be missing.
    pub(super) async fn drop_versions(
        &mut self,
        if_exists: bool,
        targets: &[(ModelName, Option<u32>)],
        contains: fn(&Models, &ModelName, Option<u32>) -> Result<(), Error>,
        remove: fn(&Models, &ModelName, Option<u32>) -> Result<(), Error>,
    ) -> Result<(), SqlError> {
        let targets = targets.to_vec();
        let missing = self.on_disk(move |models| {
            let mut present = Vec::new();
            let mut missing = Vec::new();
            for (name, version) in &targets {
                match contains(models, name, *version) {
                    Ok(()) => present.push((name, *version)),
                    Err(error @ (Error::NoSuchModel { .. } | Error::NoSuchVersion { .. } | Error::NoSuchPrompt { .. })) if if_exists => {
                        missing.push(error.to_string());
                    }
                    Err(error) => return Err(error),
                }
            }
            present.into_iter().try_for_each(|(name, version)| remove(models, name, version))?;
            Ok(missing)
        });
        for message in missing.await? {
            self.tell(SqlError::notice(Severity::Notice, SqlState::SuccessfulCompletion, format!("{message}, skipping")));
        }
        Ok(())
    }

    pub(super) async fn alter_model(&mut self, name: &ModelName, alias: &str, version: Option<u32>) -> Result<Outcome, SqlError> {
        let (name, alias) = (name.clone(), alias.to_owned());
        self.on_disk(move |models| match version {
            Some(version) => models.registry().set_alias(&name, &alias, version),
            None => models.registry().remove_alias(&name, &alias),
        })
        .await?;
        Ok(done("ALTER MODEL"))
    }

    /// Does a piece of work with the registry apart from the sockets.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Models) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, SqlError> {
        let models = Arc::clone(&self.engine.models);
        match AbortOnDropHandle::new(self.engine.compute.spawn_blocking(move || work(&models))).await {
            Ok(result) => result.map_err(SqlError::from),
            Err(error) if error.is_panic() => Err(internal(&crate::cancel::panic_text(error.into_panic().as_ref()))),
            Err(error) => Err(internal(&error.to_string())),
        }
    }
}

/// A row of a training in words: `epoch 3 of 10: train loss 0.1300, validation loss 0.1234, auc 0.7100`.
fn report(batch: &RecordBatch, row: usize) -> String {
    let number = |name: &str| {
        let column = cast(batch.column_by_name(name)?, &DataType::Float64).ok()?;
        let column = column.as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let words = [
        ("train_loss", "train loss"),
        ("validation_loss", "validation loss"),
        ("validation_auc", "auc"),
        ("validation_qini", "qini"),
        ("validation_auuc", "auuc"),
    ];
    let measured: Vec<String> = words.into_iter().filter_map(|(column, words)| Some(format!("{words} {:.4}", number(column)?))).collect();
    let whole = |name: &str| number(name).unwrap_or_default();
    let measured = measured.join(", ");
    if let Some(version) = number("version") {
        return format!("saved as version {version}: {measured}");
    }
    // The first of each needs no name, as it often is the only one.
    let among = |column: &str, words: &str| number(column).filter(|n| *n > 1.0).map(|n| format!(" of {words} {n}")).unwrap_or_default();
    let stages = batch.column_by_name("stage").and_then(|column| column.as_string_opt::<i32>());
    let stage = stages.filter(|stages| stages.is_valid(row)).map(|stages| format!(" ({})", stages.value(row))).unwrap_or_default();
    let (member, trial) = (among("member", "net"), among("trial", "trial"));
    format!("epoch {} of {}{member}{trial}{stage}: {measured}", whole("epoch"), whole("epochs"))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};

    use super::*;

    #[test]
    fn a_row_of_a_training_is_told_in_words() {
        let columns: [(&str, ArrayRef); 10] = [
            ("trial", Arc::new(Int32Array::from(vec![1, 3, 1]))),
            ("member", Arc::new(Int32Array::from(vec![1, 2, 3]))),
            ("version", Arc::new(Int32Array::from(vec![None, None, Some(7)]))),
            ("epoch", Arc::new(Int32Array::from(vec![1, 2, 1]))),
            ("epochs", Arc::new(Int32Array::from(vec![2, 2, 2]))),
            ("train_loss", Arc::new(Float64Array::from(vec![0.5, 0.25, 0.5]))),
            ("validation_loss", Arc::new(Float64Array::from(vec![Some(0.61), None, Some(0.61)]))),
            ("validation_auc", Arc::new(Float64Array::from(vec![Some(0.71), None, None]))),
            ("stage", Arc::new(StringArray::from(vec![None, Some("effect"), None]))),
            ("validation_qini", Arc::new(Float64Array::from(vec![None, None, Some(0.02)]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("a batch");
        assert_eq!(report(&batch, 0), "epoch 1 of 2: train loss 0.5000, validation loss 0.6100, auc 0.7100");
        assert_eq!(report(&batch, 1), "epoch 2 of 2 of net 2 of trial 3 (effect): train loss 0.2500");
        assert_eq!(report(&batch, 2), "saved as version 7: train loss 0.5000, validation loss 0.6100, qini 0.0200");
    }
}
