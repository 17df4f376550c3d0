//! Rows on their way from the compute runtime.

use datafusion::arrow::array::RecordBatch;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::sqlstate::{SqlError, internal};

/// Rows made by a task of the compute runtime, if they are not there from the start; dropping this stops the task.
pub(crate) struct Rows {
    pub(super) batches: mpsc::Receiver<Result<RecordBatch, SqlError>>,
    pub(super) task: Option<AbortOnDropHandle<()>>,
}

impl Rows {
    /// The rows of one batch.
    pub(super) fn of(batch: RecordBatch) -> Self {
        let (sender, batches) = mpsc::channel(1);
        // the channel has room for the one batch
        let _ = sender.try_send(Ok(batch));
        Self { batches, task: None }
    }

    /// The next batch, if it is already there.
    pub(crate) fn ready(&mut self) -> Option<Result<RecordBatch, SqlError>> {
        self.batches.try_recv().ok()
    }

    /// The next batch; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        match self.batches.recv().await {
            Some(batch) => batch.map(Some),
            None => match &mut self.task {
                Some(task) => match task.await {
                    Err(error) if error.is_panic() => Err(internal(&crate::cancel::panic_text(error.into_panic().as_ref()))),
                    _ => Ok(None),
                },
                None => Ok(None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlstate::SqlState;

    #[tokio::test]
    async fn a_panic_among_the_rows_is_an_error_of_its_statement() {
        let (sender, batches) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let _sender = sender;
            panic!("eighteen")
        });
        let mut rows = Rows { batches, task: Some(AbortOnDropHandle::new(task)) };
        let error = rows.next().await.expect_err("it panicked");
        assert_eq!(error.state, SqlState::InternalError);
        assert!(error.message.contains("eighteen"), "{}", error.message);
    }
}
