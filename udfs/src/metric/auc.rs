//! `auc(label, score [, weight])`: the area under the ROC curve, exact, ties counted half.

use stratagem_models::metrics::auc::Auc;

use super::Metric;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
