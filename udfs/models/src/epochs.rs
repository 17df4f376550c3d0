//! The epochs of a training, of which the best one is kept.

use std::ops::ControlFlow;

use crate::click::{Progress, TrainOptions};
use crate::error::{Error, Result};
use crate::net::Parameter;

/// What is trained pass by pass.
pub(crate) trait Epochs {
    /// What there is for the held-out rows after a pass.
    type Held;

    /// One pass over the rows, `epoch` from 1; gives its figures.
    fn epoch(&mut self, epoch: u32) -> Result<(Progress, Self::Held)>;

    /// The weights that are trained, as they are now.
    fn trained(&self) -> Vec<Parameter>;
}

/// The best epoch, and the figures of all.
#[derive(Debug)]
pub(crate) struct Best<H> {
    pub(crate) weights: Vec<Parameter>,
    pub(crate) progress: Progress,
    pub(crate) held: H,
    pub(crate) epochs: Vec<Progress>,
}

/// Trains until the last epoch, or until the loss of the held-out rows no longer gets better.
///
/// Errors: [`Error::Canceled`] when `on_epoch` breaks, and what an epoch gives.
pub(crate) fn best<E: Epochs>(
    training: &mut E,
    options: &TrainOptions,
    on_epoch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Best<E::Held>> {
    let mut epochs = Vec::new();
    let mut best: Option<(f64, Vec<Parameter>, Progress, E::Held)> = None;
    for epoch in 1..=options.epochs {
        let (progress, held) = training.epoch(epoch)?;
        epochs.push(progress.clone());
        if on_epoch(&progress).is_break() {
            return Err(Error::Canceled);
        }
        // Without held-out rows the last epoch is the best one.
        let figure = progress.validation_loss.unwrap_or(-f64::from(epoch));
        match &best {
            Some((lowest, _, kept, _)) if *lowest <= figure => {
                if options.early_stop && epoch - kept.epoch >= options.patience {
                    break;
                }
            }
            _ => best = Some((figure, training.trained(), progress, held)),
        }
    }
    let (_, weights, progress, held) = best.ok_or_else(|| Error::option("epochs", "0 is not within 1 to 1000"))?;
    Ok(Best { weights, progress, held, epochs })
}
