//! Uplift models: how much a treatment changes the outcome of a row, learned from rows of which some were treated.
//!
//! The meta-learners are made of click nets over the same features:
//!
//! - S, T and X: Künzel, Sekhon, Bickel and Yu 2019, "Metalearners for estimating heterogeneous treatment effects using machine learning".
//! - R: Nie and Wager 2021, "Quasi-oracle estimation of heterogeneous treatment effects".
//!
//! The rows of a training have two labels: the outcome, and whether the row was treated; and a third, the probability that it was treated, where
//! that is [`Propensity::Given`].

mod arms;
mod model;
mod train;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::model::UpliftModel;
pub use self::train::{column, rows, train};
use crate::click::{TrainOptions, choices};
use crate::error::{Error, Result};
pub use crate::net::Output;

choices! {
    /// The meta-learner.
    Learner, "learner":
    /// One net, of which the treatment is a feature.
    S = "s",
    /// A net for the treated rows and one for the others.
    T = "t",
    /// Nets of effects that the other arm's net has imputed.
    X = "x",
    /// A net of the effect, on what is left when outcome and treatment are predicted without it.
    R = "r"
}

/// The probability that a row is treated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propensity {
    /// The share of treated rows: treatment was drawn at random.
    Share,
    /// The same number for all rows.
    Constant(f32),
    /// A label of each row.
    Given,
    /// What a net makes of the features of a row.
    Learned,
}

/// How an uplift model is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The meta-learner.
    pub learner: Learner,
    /// The probability that a row is treated; [`Learner::S`] and [`Learner::T`] do without it.
    pub propensity: Propensity,
    /// The name of the column that tells who was treated.
    pub treatment: String,
}

/// What a net of an uplift model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The outcome, of all rows.
    Outcome,
    /// The outcome of treated rows.
    Treated,
    /// The outcome of rows that were not treated.
    Control,
    /// The probability of being treated.
    Propensity,
    /// The effect, as imputed for treated rows.
    EffectTreated,
    /// The effect, as imputed for rows that were not treated.
    EffectControl,
    /// The effect.
    Effect,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outcome => "outcome",
            Self::Treated => "treated",
            Self::Control => "control",
            Self::Propensity => "propensity",
            Self::EffectTreated => "effect_treated",
            Self::EffectControl => "effect_control",
            Self::Effect => "effect",
        })
    }
}

/// What an uplift model is, as its manifest says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Uplift {
    /// The meta-learner.
    pub learner: Learner,
    /// The name of the column that tells who was treated.
    pub treatment: String,
    /// What the outcome is: with 0 and 1 a probability, with other numbers a number.
    pub outcome: Output,
    /// Where the probability of treatment is from.
    pub propensity: Propensity,
    /// Treated rows, of all rows.
    pub treated: u64,
    /// The mean probability of treatment, by which [`Learner::X`] weighs its two effects where no net gives it.
    pub share: f32,
    /// What the nets that score a row are for, each of as many nets as the ensemble has, in the order of their weights.
    pub parts: Vec<Stage>,
    /// How good it is on the held-out rows; none without rows of both arms among them.
    pub evaluation: Option<Gain>,
}

/// How good an uplift model is on held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// Held-out rows.
    pub rows: u64,
    /// The Qini coefficient, as the aggregate `qini` gives it; none of an outcome that is a number.
    pub qini: Option<f64>,
    /// The area under the uplift curve, as the aggregate `auuc` gives it; none of an outcome that is a number.
    pub auuc: Option<f64>,
    /// Mean outcome of the treated rows minus that of the others.
    pub ate: f64,
    /// The mean predicted uplift.
    pub predicted: f64,
}

impl Uplift {
    /// What the output of a part's nets stands for.
    pub(crate) fn output(&self, part: Stage) -> Output {
        match part {
            Stage::Outcome | Stage::Treated | Stage::Control => self.outcome,
            Stage::Propensity => Output::Probability,
            Stage::EffectTreated | Stage::EffectControl | Stage::Effect => Output::Number,
        }
    }

    /// The effect, from what the parts say of a row: of [`Learner::S`] for the row as treated, then as not treated.
    fn effect(&self, values: &[f32]) -> f32 {
        let effect = match (self.learner, values) {
            (Learner::S | Learner::T, [treated, control]) => treated - control,
            (Learner::X, [treated, control, rest @ ..]) => {
                let share = rest.first().copied().unwrap_or(self.share);
                share * control + (1.0 - share) * treated
            }
            (_, values) => values.first().copied().unwrap_or(f32::NAN),
        };
        match self.outcome {
            Output::Probability => effect.clamp(-1.0, 1.0),
            Output::Number => effect,
        }
    }
}

impl Plan {
    /// The nets that a training with these options trains.
    pub fn nets(&self, options: &TrainOptions) -> u32 {
        let learned = u32::from(self.propensity == Propensity::Learned);
        let nets = match self.learner {
            Learner::S => options.ensembles,
            Learner::T => 2 * options.ensembles,
            Learner::X => (4 + learned) * options.ensembles,
            Learner::R => train::FOLDS as u32 * (1 + learned) + options.ensembles,
        };
        nets + options.trials - 1
    }
}
