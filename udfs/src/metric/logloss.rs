//! `logloss(label, probability [, weight])`: the mean negative log-likelihood of probabilities.

use stratagem_models::metrics::logloss::LogLoss;

use super::Metric;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
