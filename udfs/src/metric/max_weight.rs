//! `max_weight(target_probability, logged_propensity)`: the largest weight of a row when another policy is judged by a log.

use stratagem_models::metrics::policy::{Share, Weights};

use super::Metric;
use super::off_policy::{ERRORS, LOGGED, TARGET};
use crate::declaration::{Function, Kind, Returns, Type};

pub(super) static METRIC: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Weights::template(Share::Largest)) };

static DECLARATION: Function = Function {
    name: "max_weight",
    kind: Kind::Aggregate,
    parameters: &[TARGET, LOGGED],
    returns: Returns::Value(Type::Double),
    summary: "The largest weight of a row when another policy is judged by a log",
    docs: "The largest `target_probability / logged_propensity`: the row that moves `ips` and `dr` most moves them by this much over the \
           number of rows times its reward.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left.",
    example: "SELECT max_weight(p_new, p_logged) FROM (VALUES (0.9, 0.25), (0.1, 0.5), (0.8, 0.25)) AS log (p_new, p_logged)",
    errors: ERRORS,
};
