//! How a click model is trained.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
pub use crate::net::ModelType;

/// A set of named choices of an option.
macro_rules! choices {
    ($(#[$docs:meta])* $name:ident, $option:literal: $($(#[$choice_docs:meta])* $choice:ident = $text:literal),+) => {
        $(#[$docs])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$choice_docs])* $choice),+ }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(raw: &str) -> Result<Self> {
                match raw {
                    $($text => Ok(Self::$choice),)+
                    _ => Err(Error::option($option, format!("\"{raw}\" is not one of: {}", [$($text),+].join(", ")))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$choice => $text),+ })
            }
        }
    };
}

pub(crate) use choices;

choices! {
    /// How the learning rates change over the steps, after the warm-up.
    Schedule, "schedule":
    /// Not at all.
    Constant = "constant",
    /// In a straight line to zero.
    Linear = "linear",
    /// Along half a cosine to zero (Loshchilov and Hutter 2017).
    Cosine = "cosine"
}

choices! {
    /// What matrices are multiplied in when an encoder or a language model is trained.
    Precision, "precision":
    /// Floats of 32 bits.
    Float32 = "float32",
    /// bfloat16, with weights, sums and gradients in floats of 32 bits: on a GPU.
    Bfloat16 = "bfloat16"
}

// Of versions that were made before there was a choice.
#[allow(clippy::derivable_impls, reason = "the macro makes the enum")]
impl Default for Precision {
    fn default() -> Self {
        Self::Float32
    }
}

choices! {
    /// How probabilities are corrected on the held-out rows.
    Calibrate, "calibration":
    /// They are not.
    None = "none",
    /// The logits are multiplied by one number (Guo et al. 2017).
    Temperature = "temperature",
    /// A monotone step function of the logits (Zadrozny and Elkan 2002).
    Isotonic = "isotonic"
}

choices! {
    /// Which rows are held out.
    Split, "split":
    /// The same share of each class, at random.
    Random = "random",
    /// The last ones by a column.
    Time = "time",
    /// Those for which a column is true.
    Column = "column"
}

choices! {
    /// What tells the best epoch.
    Metric, "metric":
    /// The lowest log loss of the held-out rows.
    Logloss = "logloss",
    /// The highest area under the ROC curve of the held-out rows.
    Auc = "auc"
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
    /// Cross layers of dcnv2; 0 leaves them out.
    pub cross_layers: usize,
    /// Widths of the hidden layers of an MLP; empty leaves it out.
    pub hidden: Vec<usize>,
    /// Experts of mmoe.
    pub experts: usize,
    /// Classes of which each row has one, of a text model; 0 for clicks.
    #[serde(default)]
    pub classes: usize,
    /// Whether a row may have none or several of these classes.
    #[serde(default)]
    pub several: bool,
    /// Learning rate of the dense part (AdamW).
    pub learning_rate: f32,
    /// Learning rate of the embedding table (row-wise Adagrad).
    pub table_learning_rate: f32,
    /// How the learning rates change.
    pub schedule: Schedule,
    /// Share of the steps in which the learning rates rise from zero, below 1.
    pub warmup: f32,
    /// Decoupled weight decay of the dense part.
    pub weight_decay: f32,
    /// L2 penalty of an embedding row in a step that uses it.
    pub l2: f32,
    /// Share of the hidden units left out in a step, below 1.
    pub dropout: f32,
    /// A value seen c times in the training rows counts as unseen in a share of v / (v + c) of its uses, so that what unseen values mean is
    /// learned and a rare value is not learned by heart.
    pub value_dropout: f32,
    /// Share of the items of a list and of the n-grams of a text that are left out in a step, below 1; the others count for them.
    #[serde(default)]
    pub token_dropout: f32,
    /// Labels are moved this share of the way to one half (Szegedy et al. 2016).
    pub label_smoothing: f32,
    /// Length by which the embeddings of a row are moved against the loss in a second pass (Miyato et al. 2017); 0 leaves it out.
    pub adversarial: f32,
    /// Weight of rows with label 1; `None` makes both classes count the same. Probabilities are corrected back.
    pub positive_weight: Option<f32>,
    /// Share of the rows with label 0 that an epoch uses. Probabilities are corrected back.
    pub negative_sampling: f32,
    /// Correction of the probabilities on the held-out rows.
    pub calibration: Calibrate,
    /// Nets trained with seeds of their own, whose logits are averaged.
    pub ensembles: u32,
    /// Settings tried before the best one is kept; 1 tries none but the given one.
    pub trials: u32,
    /// Which rows are held out.
    pub split: Split,
    /// Share of the rows held out for validation; 0 uses all rows for training, without early stopping.
    pub validation: f32,
    /// Stop when the metric of the held-out rows no longer gets better. The best epoch is kept either way, if there is validation.
    pub early_stop: bool,
    /// What tells the best epoch.
    pub metric: Metric,
    /// Epochs without a better one before a training stops early.
    pub patience: u32,
    /// For din: the list column and the column it is attended with; `None` finds them.
    pub history: Option<(String, String)>,
    /// What matrices are multiplied in when an encoder or a language model is trained.
    #[serde(default)]
    pub precision: Precision,
    /// Seed of the split, the order of the rows and the first weights.
    pub seed: u64,
    /// Threads; 0 is one per core. The model does not depend on it.
    pub threads: usize,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            model_type: ModelType::Dcnv2,
            epochs: 15,
            batch_size: None,
            embedding_dim: 16,
            cross_layers: 2,
            hidden: vec![128, 64],
            experts: 4,
            classes: 0,
            several: false,
            learning_rate: 2e-3,
            table_learning_rate: 0.1,
            schedule: Schedule::Constant,
            warmup: 0.0,
            weight_decay: 0.01,
            l2: 0.0,
            dropout: 0.0,
            value_dropout: 10.0,
            token_dropout: 0.0,
            label_smoothing: 0.0,
            adversarial: 0.0,
            positive_weight: Some(1.0),
            negative_sampling: 1.0,
            calibration: Calibrate::None,
            ensembles: 3,
            trials: 1,
            split: Split::Random,
            validation: 0.1,
            early_stop: true,
            metric: Metric::Logloss,
            patience: 3,
            history: None,
            precision: Precision::Float32,
            seed: 0,
            threads: 0,
        }
    }
}

impl TrainOptions {
    /// The options with every choice made that was left open, for a number of training rows and a share of positive ones.
    pub(crate) fn filled(&self, rows: usize, positive_share: f64) -> Self {
        // Steps enough for an epoch to move, and a click or two in every step, so that rare clicks do not pull it to and fro.
        const STEPS: usize = 64;
        const POSITIVES: f64 = 1.5;
        let wanted = (rows / STEPS).max((POSITIVES / positive_share) as usize);
        let batch_size = self.batch_size.unwrap_or_else(|| wanted.next_power_of_two().clamp(128, 1024));
        let threads = match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let balanced = ((1.0 - positive_share) / positive_share) as f32;
        let positive_weight = Some(self.positive_weight.unwrap_or(balanced));
        Self { batch_size: Some(batch_size), positive_weight, threads, ..self.clone() }
    }

    /// What is to be added to a click logit, because positive rows counted more and negative rows were left out.
    pub(crate) fn correction(&self) -> f32 {
        self.negative_sampling.ln() - self.positive_weight.unwrap_or(1.0).ln()
    }

    /// The learning rates' factor at a step of `steps`.
    pub(crate) fn rate(&self, step: usize, steps: usize) -> f32 {
        let at = step as f32 / steps.max(1) as f32;
        if at < self.warmup {
            return (step + 1) as f32 / (self.warmup * steps as f32).max(1.0);
        }
        let rest = ((at - self.warmup) / (1.0 - self.warmup)).min(1.0);
        match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - rest,
            Schedule::Cosine => 0.5 * (1.0 + (std::f32::consts::PI * rest).cos()),
        }
    }

    /// Checks every option's range.
    pub fn check(&self) -> Result<()> {
        const LARGEST_BATCH: usize = 1 << 20;
        let range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(Error::option(name, format!("{value} is not within {low} to {high}"))) }
        };
        let positive = |name: &str, value: f32, most: f32| {
            let fits = value > 0.0 && value <= most;
            if fits { Ok(()) } else { Err(Error::option(name, format!("{value} is not above 0 and at most {most}"))) }
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
        range("experts", self.experts, 1, 64)?;
        range("ensembles", self.ensembles as usize, 1, 32)?;
        range("trials", self.trials as usize, 1, 1000)?;
        range("patience", self.patience as usize, 1, 1000)?;
        range("threads", self.threads, 0, 1024)?;
        positive("learning_rate", self.learning_rate, 10.0)?;
        positive("table_learning_rate", self.table_learning_rate, 10.0)?;
        positive("positive_weight", self.positive_weight.unwrap_or(1.0), 1e6)?;
        positive("negative_sampling", self.negative_sampling, 1.0)?;
        share("warmup", self.warmup, 1.0)?;
        share("weight_decay", self.weight_decay, 10.0)?;
        share("l2", self.l2, 10.0)?;
        share("dropout", self.dropout, 1.0)?;
        share("value_dropout", self.value_dropout, 1000.0)?;
        share("token_dropout", self.token_dropout, 1.0)?;
        share("label_smoothing", self.label_smoothing, 1.0)?;
        share("adversarial", self.adversarial, 100.0)?;
        share("validation", self.validation, 0.9)?;
        if self.model_type == ModelType::Dcnv2 && self.cross_layers == 0 && self.hidden.is_empty() {
            return Err(Error::option("hidden", "a net without cross layers needs a hidden layer"));
        }
        if self.hidden.is_empty() && !matches!(self.model_type, ModelType::Dcnv2 | ModelType::Logistic | ModelType::Fm) {
            return Err(Error::option("hidden", format!("{} needs a hidden layer", self.model_type)));
        }
        if self.trials > 1 && self.validation == 0.0 {
            return Err(Error::option("trials", "a search needs held-out rows: validation is 0"));
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
        assert_eq!(named(TrainOptions { negative_sampling: 0.0, ..TrainOptions::default() }), "negative_sampling");
        assert_eq!(named(TrainOptions { trials: 5, validation: 0.0, ..TrainOptions::default() }), "trials");
        assert!("resnet".parse::<ModelType>().is_err());
        let error = "platt".parse::<Calibrate>().unwrap_err();
        assert!(error.to_string().ends_with("\"platt\" is not one of: none, temperature, isotonic"), "{error}");
    }

    #[test]
    fn the_learning_rate_warms_up_and_then_follows_its_schedule() {
        let options = |schedule| TrainOptions { warmup: 0.1, schedule, ..TrainOptions::default() };
        let cosine = options(Schedule::Cosine);
        let rates: Vec<f32> = [0, 4, 9, 10, 55, 100].map(|step| cosine.rate(step, 100)).to_vec();
        for (rate, expected) in rates.iter().zip([0.1, 0.5, 1.0, 1.0, 0.5, 0.0]) {
            assert!((rate - expected).abs() < 1e-5, "{rates:?}");
        }
        assert!((options(Schedule::Linear).rate(55, 100) - 0.5).abs() < 1e-5);
        assert_eq!(options(Schedule::Constant).rate(99, 100), 1.0);
    }

    #[test]
    fn the_correction_undoes_sampling_and_weights() {
        let options = TrainOptions { negative_sampling: 0.25, positive_weight: Some(2.0), ..TrainOptions::default() };
        // A true rate of 1 in 5 becomes odds of 1 : 4 x 0.25 with every positive twice: 2 : 1.
        let logit = 2f32.ln() + options.correction();
        assert!((1.0 / (1.0 + (-logit).exp()) - 0.2).abs() < 1e-6);
        let balanced = TrainOptions { positive_weight: None, ..TrainOptions::default() }.filled(1000, 0.2);
        assert_eq!(balanced.positive_weight, Some(4.0));
    }
}
