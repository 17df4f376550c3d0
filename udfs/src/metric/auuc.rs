//! `auuc(outcome, treated, uplift)`, and `auuc_ci` with an interval: how well a score orders the rows of an experiment by what treatment
//! adds.

use stratagem_models::metrics::uplift::{Curve, Score};

use super::Metric;
use super::off_policy::INTERVAL;
use super::parameters::LEVEL;
use super::uplift::{DEFINITION, ERRORS, OUTCOME, PROPENSITY, SAMPLES, SEED, TREATED, UPLIFT, definition, resampling};
use crate::declaration::{Function, Kind, Returns, Type};

/// `auuc`.
pub(super) static VALUE: Metric =
    Metric { declaration: &DECLARATION, template: |options| Ok(Score::area(Curve::Uplift, definition(options)?, None).template()) };

/// `auuc_ci`.
pub(super) static WITH_INTERVAL: Metric = Metric {
    declaration: &INTERVAL_DECLARATION,
    template: |options| Ok(Score::area(Curve::Uplift, definition(options)?, Some(resampling(options)?)).template()),
};

static DECLARATION: Function = Function {
    name: "auuc",
    kind: Kind::Aggregate,
    parameters: &[OUTCOME, TREATED, UPLIFT, DEFINITION, PROPENSITY],
    returns: Returns::Value(Type::Double),
    summary: "Area under the uplift curve: how well a score orders the rows of an experiment by what treatment adds",
    docs: "The rows are taken from the highest `uplift` down. The uplift curve shows, for so many rows, the difference of the mean \
           outcomes of treated and untreated ones times the number of rows (Jaskowski and Jaroszewicz 2012; Devriendt et al. 2020). \
           There are two common numbers:\n\n\
           - `'normalized'`: the area between curve and the line of a random order as a share of that of a perfect order, for outcomes \
           that are 0 or 1: scikit-uplift's `uplift_auc_score`.\n- `'per_head'`: the area between the curve and the axis, the number of \
           rows on the axis from 0 to 1 and the height per row, for amounts too: causalml's `auuc_score` without normalization over the \
           number of rows, up to its sum of points in place of an area. A random order gives half of `ate`.\n\n\
           Rows of equal uplift are one step of the curve, so their order does not matter; treated and untreated rows should be a random \
           split. With propensities, each row counts by the inverse of the probability of the arm it came to. Rows with a NULL argument \
           are skipped. The result is NULL when treated or untreated rows are missing, or when a perfect order would gain nothing. It \
           needs memory for three numbers per row of a group.",
    example: "SELECT auuc(visit, treated, uplift)\n\
              FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS experiment (visit, treated, uplift)",
    errors: ERRORS,
};

static INTERVAL_DECLARATION: Function = Function {
    name: "auuc_ci",
    kind: Kind::Aggregate,
    parameters: &[OUTCOME, TREATED, UPLIFT, DEFINITION, LEVEL, SAMPLES, SEED, PROPENSITY],
    returns: Returns::Struct(INTERVAL),
    summary: "`auuc` with its standard error and an interval by the bootstrap",
    docs: "The value of `auuc`; its standard error is the standard deviation of the same statistic over samples of the rows that are \
           drawn with replacement (Efron 1979), and the interval is that of their quantiles. Equal seeds give equal intervals, whatever \
           the order of the rows. It takes as long as `samples` passes over the sorted rows, and memory for 28 bytes per row of a group.",
    example: "SELECT (auuc_ci(visit, treated, uplift)).low\n\
              FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS experiment (visit, treated, uplift)",
    errors: ERRORS,
};
