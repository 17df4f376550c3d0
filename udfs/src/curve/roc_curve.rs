//! `ml.roc_curve(query, label, score [, weight, points])`: the ROC curve of scored rows.

use datafusion::arrow::array::ArrayRef;
use stratagem_models::metrics::curves::Ranked;

use super::{Curve, ERRORS, LABEL, QUERY, SCORE, WEIGHT, doubles, points};
use crate::declaration::{Column, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::relation::Constants;

/// The declaration of `ml.roc_curve`.
pub static DECLARATION: Function = Function {
    name: "ml.roc_curve",
    kind: Kind::Table,
    parameters: &[
        QUERY,
        LABEL,
        SCORE,
        WEIGHT,
        Parameter::value("points", Type::Integer, "The most points, 2 or more; they lie evenly along the curve. NULL: all corners.")
            .or("NULL"),
    ],
    returns: Returns::Rows(&[
        Column::new("threshold", Type::Double, "Rows with this score or a higher one are called positive; `Infinity` for none."),
        Column::new("false_positive_rate", Type::Double, "The share of the negative rows among them; NULL without negative rows.")
            .nullable(),
        Column::new("true_positive_rate", Type::Double, "The share of the positive rows among them; NULL without positive rows.")
            .nullable(),
    ]),
    summary: "The ROC curve of scored rows: true against false positives, threshold by threshold",
    docs: "The points of scikit-learn's `roc_curve`, from (0, 0) to (1, 1) with falling thresholds: one per distinct score, without those on a \
           straight line between their neighbours. A million rows can still have a hundred thousand corners; `points => 200` is enough for a \
           chart. Rows with a NULL in a column that is used are skipped. The area under the curve is what `auc` gives.",
    example: "SELECT * FROM ml.roc_curve(query => $$SELECT click, predict_ctr('ctr', i) AS p FROM impressions i$$,\n\
              \x20                         label => 'click', score => 'p', points => 20)",
    errors: ERRORS,
};

/// The curve of `ml.roc_curve`.
#[derive(Debug)]
pub(crate) struct RocCurve;

impl Curve for RocCurve {
    const DECLARATION: &'static Function = &DECLARATION;
    type Options = Option<usize>;

    fn options(arguments: &Constants) -> Result<Self::Options, Error> {
        points(arguments, 2)
    }

    fn points(ranked: &Ranked, points: Self::Options) -> Vec<ArrayRef> {
        let curve = ranked.roc(points);
        vec![
            doubles(curve.iter().map(|point| point.threshold)),
            doubles(curve.iter().map(|point| point.false_positive_rate)),
            doubles(curve.iter().map(|point| point.true_positive_rate)),
        ]
    }
}
