//! What the estimates of another policy's reward share: their parameters, intervals and errors.

use super::parameters::{HIGH, LOW, VALUE, WRONG_TYPE};
use crate::declaration::{Column, Failure, Parameter, Type};

pub(super) const REWARD: Parameter = Parameter::value("reward", Type::Outcome, "What the shown action earned: a click, or an amount.");
pub(super) const TARGET: Parameter =
    Parameter::value("target_probability", Type::Number, "The probability with which the new policy would have shown that action.");
pub(super) const LOGGED: Parameter =
    Parameter::value("logged_propensity", Type::Number, "The probability with which the logging policy showed it, above 0.");
pub(super) const Q_LOGGED: Parameter =
    Parameter::value("q_logged", Type::Number, "The reward that a model expects of the shown action, such as `predict_ctr`.");
pub(super) const Q_NEW: Parameter = Parameter::value(
    "q_new",
    Type::Number,
    "The reward that the model expects under the new policy: the sum over all actions of its probability times the model's reward.",
);

/// The fields of an estimate with an interval.
pub(super) const INTERVAL: &[Column] =
    &[VALUE, Column::new("std_error", Type::Double, "Its standard error; NULL below two rows.").nullable(), LOW, HIGH];

pub(super) const ERRORS: &[Failure] = &[
    Failure {
        sqlstate: "22023",
        when: "a propensity is not above 0 and at most 1, a target probability is not from 0 to 1, a reward or an expected reward is not \
               finite, or an option is out of range",
    },
    WRONG_TYPE,
];
