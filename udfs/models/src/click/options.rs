//! How a click model is trained.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// Deep and cross network, version 2 (Wang et al. 2021).
    #[default]
    Dcnv2,
}

impl FromStr for ModelType {
    type Err = Error;

    fn from_str(raw: &str) -> Result<Self> {
        match raw {
            "dcnv2" => Ok(Self::Dcnv2),
            _ => Err(Error::option("model_type", format!("\"{raw}\" is not one of: dcnv2"))),
        }
    }
}

impl fmt::Display for ModelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dcnv2 => "dcnv2",
        })
    }
}

/// Options of a training. The defaults suit tables from a thousand rows up, also when clicks are rare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainOptions {
    /// The architecture.
    pub model_type: ModelType,
    /// Passes over the training rows, at most.
    pub epochs: u32,
    /// Rows per step; `None` is chosen by the number of rows.
    pub batch_size: Option<usize>,
    /// Numbers per embedding.
    pub embedding_dim: usize,
    /// Cross layers; 0 leaves them out.
    pub cross_layers: usize,
    /// Widths of the hidden layers of the parallel MLP; empty leaves it out.
    pub hidden: Vec<usize>,
    /// Rows of the embedding table; `None` is chosen by the number of distinct values.
    pub table_rows: Option<usize>,
    /// Learning rate of the dense part (AdamW).
    pub learning_rate: f32,
    /// Learning rate of the embedding table (row-wise Adagrad).
    pub table_learning_rate: f32,
    /// Decoupled weight decay of the dense part.
    pub weight_decay: f32,
    /// Share of the hidden units left out in a step, below 1.
    pub dropout: f32,
    /// Share of the rows held out for validation; 0 uses all rows for training, without early stopping.
    pub validation: f32,
    /// Stop when the validation loss no longer falls. The best epoch is kept either way, if there is validation.
    pub early_stop: bool,
    /// Seed of the split, the order of the rows and the first weights.
    pub seed: u64,
    /// Threads; 0 is one per core. Another number of threads may change the last bits of the weights.
    pub threads: usize,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            model_type: ModelType::Dcnv2,
            epochs: 10,
            batch_size: None,
            embedding_dim: 16,
            cross_layers: 2,
            hidden: vec![64, 32],
            table_rows: None,
            learning_rate: 1e-3,
            table_learning_rate: 0.01,
            weight_decay: 0.01,
            dropout: 0.0,
            validation: 0.1,
            early_stop: true,
            seed: 0,
            threads: 0,
        }
    }
}

impl TrainOptions {
    /// The options with every choice made that was left open, for a share of positive training rows.
    pub(crate) fn filled(&self, rows: usize, positive_share: f64, table_rows: usize) -> Self {
        // Steps enough for an epoch to move, and a click or two in every step, so that rare clicks do not pull it to and fro.
        const STEPS: usize = 64;
        const POSITIVES: f64 = 1.5;
        let wanted = (rows / STEPS).max((POSITIVES / positive_share) as usize);
        let batch_size = self.batch_size.unwrap_or_else(|| wanted.next_power_of_two().clamp(128, 4096));
        let threads = match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        Self { batch_size: Some(batch_size), table_rows: Some(table_rows), threads, ..self.clone() }
    }

    /// Checks every option's range.
    pub fn check(&self) -> Result<()> {
        const LARGEST_TABLE: usize = 1 << 26;
        const LARGEST_BATCH: usize = 1 << 20;
        let range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(Error::option(name, format!("{value} is not within {low} to {high}"))) }
        };
        let positive = |name: &str, value: f32| {
            if value > 0.0 && value <= 10.0 { Ok(()) } else { Err(Error::option(name, format!("{value} is not above 0 and at most 10"))) }
        };
        let share = |name: &str, value: f32, below: f32| {
            if (0.0..below).contains(&value) { Ok(()) } else { Err(Error::option(name, format!("{value} is not from 0 to below {below}"))) }
        };
        range("epochs", self.epochs as usize, 1, 1000)?;
        range("batch_size", self.batch_size.unwrap_or(1), 1, LARGEST_BATCH)?;
        range("embedding_dim", self.embedding_dim, 1, 256)?;
        range("cross_layers", self.cross_layers, 0, 8)?;
        range("hidden", self.hidden.len(), 0, 8)?;
        self.hidden.iter().try_for_each(|width| range("hidden", *width, 1, 4096))?;
        range("table_rows", self.table_rows.unwrap_or(1), 1, LARGEST_TABLE)?;
        range("threads", self.threads, 0, 1024)?;
        positive("learning_rate", self.learning_rate)?;
        positive("table_learning_rate", self.table_learning_rate)?;
        share("weight_decay", self.weight_decay, 10.0)?;
        share("dropout", self.dropout, 1.0)?;
        share("validation", self.validation, 0.9)?;
        if self.cross_layers == 0 && self.hidden.is_empty() {
            return Err(Error::option("hidden", "a net without cross layers needs a hidden layer"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_an_option_out_of_range_is_named() {
        TrainOptions::default().check().unwrap();
        let named = |options: TrainOptions| match options.check().unwrap_err() {
            Error::InvalidOption { option, .. } => option,
            other => panic!("{other}"),
        };
        assert_eq!(named(TrainOptions { epochs: 0, ..TrainOptions::default() }), "epochs");
        assert_eq!(named(TrainOptions { learning_rate: f32::NAN, ..TrainOptions::default() }), "learning_rate");
        assert_eq!(named(TrainOptions { validation: -0.1, ..TrainOptions::default() }), "validation");
        assert_eq!(named(TrainOptions { hidden: vec![64, 0], ..TrainOptions::default() }), "hidden");
        assert_eq!(named(TrainOptions { hidden: vec![], cross_layers: 0, ..TrainOptions::default() }), "hidden");
        assert!("resnet".parse::<ModelType>().is_err());
    }
}
