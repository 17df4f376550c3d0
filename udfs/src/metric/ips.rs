//! `ips(reward, target_probability, logged_propensity)`: what another policy would have earned.

use stratagem_models::metrics::ips::Ips;

use super::Metric;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};

pub(super) static METRIC: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Ips::template()) };

static DECLARATION: Function = Function {
    name: "ips",
    kind: Kind::Aggregate,
    parameters: &[
        Parameter::value("reward", Type::Outcome, "What the shown action earned: a click, or an amount."),
        Parameter::value("target_probability", Type::Number, "The probability with which the new policy would have shown that action."),
        Parameter::value("logged_propensity", Type::Number, "The probability with which the logging policy showed it, above 0."),
    ],
    returns: Returns::Value(Type::Double),
    summary: "Inverse propensity score: what another policy would have earned per row of the log",
    docs: "The mean of `reward * target_probability / logged_propensity` over the rows of a log: an unbiased estimate of the mean reward if \
           the new policy had chosen instead of the logging policy, as long as the logging policy showed every action the new one would \
           show with some probability (Horvitz and Thompson 1952). Equal to `InverseProbabilityWeighting` of Open Bandit Pipeline. For a \
           policy without randomness the target probability is 1 where it agrees with the log and 0 elsewhere.\n\n\
           The variance grows as propensities shrink: compare few policies on many rows. Rows with a NULL argument are skipped. The result \
           is NULL when no row is left.",
    example: "SELECT ips(click, CASE WHEN item = best THEN 1 ELSE 0 END, propensity)\n\
              FROM (VALUES (1, 7, 7, 0.25), (0, 3, 7, 0.5), (0, 7, 7, 0.25)) AS log (click, item, best, propensity)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a propensity is not above 0 and at most 1, a target probability is not from 0 to 1, or a reward is not finite",
        },
        Failure { sqlstate: "42804", when: "an argument has a type that is not a number (or boolean, for the reward)" },
    ],
};
