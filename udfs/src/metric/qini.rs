//! `qini(outcome, treated, uplift)`, and `qini_ci` with an interval: how well a score orders the rows of an experiment by what treatment
//! adds.

use stratagem_models::metrics::uplift::{Curve, Score};

use super::Metric;
use super::off_policy::INTERVAL;
use super::parameters::LEVEL;
use super::uplift::{DEFINITION, ERRORS, OUTCOME, PROPENSITY, SAMPLES, SEED, TREATED, UPLIFT, definition, resampling};
use crate::declaration::{Function, Kind, Returns, Type};

/// `qini`.
pub(super) static VALUE: Metric =
    Metric { declaration: &DECLARATION, template: |options| Ok(Score::area(Curve::Qini, definition(options)?, None).template()) };

/// `qini_ci`.
pub(super) static WITH_INTERVAL: Metric = Metric {
    declaration: &INTERVAL_DECLARATION,
    template: |options| Ok(Score::area(Curve::Qini, definition(options)?, Some(resampling(options)?)).template()),
};

static DECLARATION: Function = Function {
    name: "qini",
    kind: Kind::Aggregate,
    parameters: &[OUTCOME, TREATED, UPLIFT, DEFINITION, PROPENSITY],
    returns: Returns::Value(Type::Double),
    summary: "Qini coefficient: how well a score orders the rows of an experiment by what treatment adds",
    docs: "The rows are taken from the highest `uplift` down. The Qini curve (Radcliffe 2007) shows, for so many rows, the outcomes of \
           the treated ones less those of the untreated ones scaled to the same number: what treating them has added. A random order \
           gives a straight line to the end of the curve. There are two common numbers:\n\n\
           - `'normalized'`: the area between curve and line as a share of that of a perfect order, for outcomes that are 0 or 1: \
           scikit-uplift's `qini_auc_score`. 1 is perfect, 0 is random.\n- `'per_head'`: the area itself, the number of rows on the axis \
           from 0 to 1 and the height per treated row (Radcliffe 2007; Belbahri et al. 2021), for amounts too. causalml's `qini_score` \
           without normalization is this times the number of treated rows, up to its sum of points in place of an area.\n\n\
           Rows of equal uplift are one step of the curve, so their order does not matter; treated and untreated rows should be a random \
           split. With propensities, each row counts by the inverse of the probability of the arm it came to. Rows with a NULL argument \
           are skipped. The result is NULL when treated or untreated rows are missing, or when a perfect order would gain nothing. It \
           needs memory for three numbers per row of a group.",
    example: "SELECT qini(visit, treated, uplift)\n\
              FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS experiment (visit, treated, uplift)",
    errors: ERRORS,
};

static INTERVAL_DECLARATION: Function = Function {
    name: "qini_ci",
    kind: Kind::Aggregate,
    parameters: &[OUTCOME, TREATED, UPLIFT, DEFINITION, LEVEL, SAMPLES, SEED, PROPENSITY],
    returns: Returns::Struct(INTERVAL),
    summary: "`qini` with its standard error and an interval by the bootstrap",
    docs: "The value of `qini`; its standard error is the standard deviation of the same statistic over samples of the rows that are \
           drawn with replacement (Efron 1979), and the interval is that of their quantiles. Equal seeds give equal intervals, whatever \
           the order of the rows. It takes as long as `samples` passes over the sorted rows, and memory for 28 bytes per row of a group.",
    example: "SELECT (qini_ci(visit, treated, uplift)).low\n\
              FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS experiment (visit, treated, uplift)",
    errors: ERRORS,
};
