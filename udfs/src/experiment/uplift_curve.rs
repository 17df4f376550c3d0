//! `ml.uplift_curve(query, outcome, treated, uplift)`: the uplift curve of an experiment: what treating the best rows would add, for a
//! chart.

use datafusion::arrow::array::ArrayRef;
use stratagem_models::metrics::uplift::{Curve, Uplift};

use super::{CURVE, ERRORS, OUTCOME, POINTS, PROPENSITY, Picture, QUERY, TREATED, UPLIFT, curve};
use crate::declaration::{Function, Kind, Returns};

/// The declaration of `ml.uplift_curve`.
pub static DECLARATION: Function = Function {
    name: "ml.uplift_curve",
    kind: Kind::Table,
    parameters: &[QUERY, OUTCOME, TREATED, UPLIFT, PROPENSITY, POINTS],
    returns: Returns::Rows(CURVE),
    summary: "The uplift curve of an experiment: what treating the best rows would add, for a chart",
    docs: "For so many rows with the highest uplift, the difference of the mean outcomes of treated and untreated ones times the number \
           of rows (scikit-uplift's `uplift_curve`), from (0, 0) on. Its area is what `auuc` measures. Rows of equal uplift are one \
           step. When there are more steps than `points`, those nearest to equal distances are kept, the first and the last always. Rows \
           with a NULL in a column that is named are skipped; without treated or untreated rows there is no curve.",
    example: "SELECT share, gain, random FROM ml.uplift_curve(\n\
              \x20   query => $$SELECT * FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS t (visit, treated, score)$$,\n\
              \x20   outcome => 'visit', treated => 'treated', uplift => 'score')",
    errors: ERRORS,
};

/// The picture of `ml.uplift_curve`.
#[derive(Debug)]
pub(crate) struct UpliftCurve;

impl Picture for UpliftCurve {
    const DECLARATION: &'static Function = &DECLARATION;
    const FINENESS: (&'static str, usize, usize) = ("points", 2, 1_000_000);

    fn columns(rows: &mut Uplift, points: usize) -> Vec<ArrayRef> {
        curve(rows, Curve::Uplift, points)
    }
}
