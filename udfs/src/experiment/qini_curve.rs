//! `ml.qini_curve(query, outcome, treated, uplift)`: the Qini curve of an experiment: what treating the best rows has added, for a chart.

use datafusion::arrow::array::ArrayRef;
use stratagem_models::metrics::uplift::{Curve, Uplift};

use super::{CURVE, ERRORS, OUTCOME, POINTS, PROPENSITY, Picture, QUERY, TREATED, UPLIFT, curve};
use crate::declaration::{Function, Kind, Returns};

/// The declaration of `ml.qini_curve`.
pub static DECLARATION: Function = Function {
    name: "ml.qini_curve",
    kind: Kind::Table,
    parameters: &[QUERY, OUTCOME, TREATED, UPLIFT, PROPENSITY, POINTS],
    returns: Returns::Rows(CURVE),
    summary: "The Qini curve of an experiment: what treating the best rows has added, for a chart",
    docs: "For so many rows with the highest uplift, the outcomes of the treated ones less those of the untreated ones scaled to the \
           same number (Radcliffe 2007; scikit-uplift's `qini_curve`), from (0, 0) on. The area between `gain` and `random` is what \
           `qini` measures. Rows of equal uplift are one step. When there are more steps than `points`, those nearest to equal distances \
           are kept, the first and the last always. Rows with a NULL in a column that is named are skipped; without treated or untreated \
           rows there is no curve.",
    example: "SELECT share, gain, random FROM ml.qini_curve(\n\
              \x20   query => $$SELECT * FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS t (visit, treated, score)$$,\n\
              \x20   outcome => 'visit', treated => 'treated', uplift => 'score')",
    errors: ERRORS,
};

/// The picture of `ml.qini_curve`.
#[derive(Debug)]
pub(crate) struct QiniCurve;

impl Picture for QiniCurve {
    const DECLARATION: &'static Function = &DECLARATION;
    const FINENESS: (&'static str, usize, usize) = ("points", 2, 1_000_000);

    fn columns(rows: &mut Uplift, points: usize) -> Vec<ArrayRef> {
        curve(rows, Curve::Qini, points)
    }
}
