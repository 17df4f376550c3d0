//! `ess(target_probability, logged_propensity)`: effective sample size: how many rows of the new policy's own log would tell as much.

use stratagem_models::metrics::policy::{Share, Weights};

use super::Metric;
use super::off_policy::{ERRORS, LOGGED, TARGET};
use crate::declaration::{Function, Kind, Returns, Type};

pub(super) static METRIC: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Weights::template(Share::EffectiveRows)) };

static DECLARATION: Function = Function {
    name: "ess",
    kind: Kind::Aggregate,
    parameters: &[TARGET, LOGGED],
    returns: Returns::Value(Type::Double),
    summary: "Effective sample size: how many rows of the new policy's own log would tell as much",
    docs: "The square of the sum of the weights `target_probability / logged_propensity` over the sum of their squares (Kish 1965): all \
           rows when the policies agree, few when the estimate hangs on few rows. Below 1 % of the rows no estimate that weighs rows is \
           worth much: compare a policy that is closer to the logging one, log with more randomness, or rely on `dm`.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no row is left, and 0 when all weights are.",
    example: "SELECT ess(p_new, p_logged) FROM (VALUES (0.9, 0.25), (0.1, 0.5), (0.8, 0.25)) AS log (p_new, p_logged)",
    errors: ERRORS,
};
