//! `psi(value, is_actual)` and `js_divergence(value, is_actual)`: how far a distribution has moved.

use stratagem_models::metrics::drift::{Distance, Drift};

use super::Metric;
use super::parameters::size;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// `psi`.
pub(super) static STABILITY: Metric =
    Metric { declaration: &DECLARATION, template: |options| Ok(Drift::template(Distance::Psi { bins: bins(options)? })) };

/// `js_divergence`.
pub(super) static DIVERGENCE: Metric = Metric {
    declaration: &DIVERGENCE_DECLARATION,
    template: |options| Ok(Drift::template(Distance::JensenShannon { bins: bins(options)? })),
};

fn bins(options: &Options) -> Result<usize, Error> {
    size(options, "bins", 2..=10_000)
}

const VALUE: Parameter = Parameter::value("value", Type::Mixed, "The value: a number, or anything else as a category.");
pub(super) const IS_ACTUAL: Parameter =
    Parameter::value("is_actual", Type::Label, "False or 0 for a row of the earlier sample (training), true or 1 for one of the later.");
const BINS: Parameter = Parameter::value("bins", Type::Integer, "The most bins for numbers, from 2 to 10000. A constant.").or("10");

pub(super) const ERRORS: &[Failure] = &[
    Failure { sqlstate: "22023", when: "`is_actual` is not 0 or 1, a number is not finite, or `bins` is out of range" },
    Failure { sqlstate: "42804", when: "an argument has a type that it cannot have" },
];

static DECLARATION: Function = Function {
    name: "psi",
    kind: Kind::Aggregate,
    parameters: &[VALUE, IS_ACTUAL, BINS],
    returns: Returns::Value(Type::Double),
    summary: "Population stability index: how far a distribution has moved from an earlier one",
    docs: "The sum over bins of `(a - e) * ln(a / e)`, where `e` and `a` are the shares of the earlier and the later sample; a share \
           below 0.0001 counts as 0.0001. Below 0.1 is little, above 0.25 much, by a rule of thumb of credit scoring. Numbers are cut at \
           the quantiles of the earlier sample (interpolated, as NumPy's; a number on a cut belongs below it); where both samples have \
           no more than `bins` different numbers, each has a bin of its own. Texts, booleans and the like are categories.\n\n\
           One query brings both samples: `SELECT psi(price, day >= '2026-03-01') FROM impressions`. Rows with a NULL argument are \
           skipped. The result is NULL when a sample has no rows. It needs memory for one number per row of a group.",
    example: "SELECT psi(price, is_new, bins => 2)\n\
              FROM (VALUES (1.0, false), (2.0, false), (3.0, false), (2.5, true), (9.0, true)) AS t (price, is_new)",
    errors: ERRORS,
};

static DIVERGENCE_DECLARATION: Function = Function {
    name: "js_divergence",
    kind: Kind::Aggregate,
    parameters: &[VALUE, IS_ACTUAL, BINS],
    returns: Returns::Value(Type::Double),
    summary: "Jensen-Shannon divergence: how far a distribution has moved from an earlier one",
    docs: "The mean divergence of both samples' shares from their middle (Lin 1991), in nats: 0 when they are the same, ln 2 (0.693) \
           when they have nothing in common. It needs no floor for empty bins, so it does not depend on one as `psi` does. It is the \
           square of SciPy's `jensenshannon`. The bins are those of `psi`.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when a sample has no rows. It needs memory for one number per row \
           of a group.",
    example: "SELECT js_divergence(channel, is_new) FROM (VALUES ('web', false), ('shop', false), ('web', true)) AS t (channel, is_new)",
    errors: ERRORS,
};
