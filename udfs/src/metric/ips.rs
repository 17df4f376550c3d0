//! `ips(reward, target_probability, logged_propensity)`: what another policy would have earned.

use stratagem_models::metrics::ips::Ips;

use super::Metric;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
