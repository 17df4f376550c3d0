//! `ml.pr_curve(query, label, score [, weight, points])`: the precision-recall curve of scored rows.

use datafusion::arrow::array::ArrayRef;
use stratagem_models::metrics::curves::Ranked;

use super::{Curve, ERRORS, LABEL, QUERY, SCORE, WEIGHT, doubles, points};
use crate::declaration::{Column, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::relation::Constants;

/// The declaration of `ml.pr_curve`.
pub static DECLARATION: Function = Function {
    name: "ml.pr_curve",
    kind: Kind::Table,
    parameters: &[
        QUERY,
        LABEL,
        SCORE,
        WEIGHT,
        Parameter::value("points", Type::Integer, "The most points, 2 or more; they lie evenly by recall. NULL: all corners.").or("NULL"),
    ],
    returns: Returns::Rows(&[
        Column::new("threshold", Type::Double, "Rows with this score or a higher one are called positive; `Infinity` for none."),
        Column::new("precision", Type::Double, "The share of positive rows among them; 1 for no rows."),
        Column::new("recall", Type::Double, "The share of the positive rows that is among them; NULL without positive rows.").nullable(),
    ]),
    summary: "The precision-recall curve of scored rows, threshold by threshold",
    docs: "The points of scikit-learn's `precision_recall_curve` with `drop_intermediate`, in the order of `ml.roc_curve`: thresholds fall and \
           recall rises from 0 to 1. Of the points with one recall only the first and the last are there. Where positives are rare, as clicks \
           are, it says more than the ROC curve. Rows with a NULL in a column that is used are skipped.",
    example: "SELECT * FROM ml.pr_curve(query => $$SELECT click, predict_ctr('ctr', i) AS p FROM impressions i$$,\n\
              \x20                        label => 'click', score => 'p', points => 20)",
    errors: ERRORS,
};

/// The curve of `ml.pr_curve`.
#[derive(Debug)]
pub(crate) struct PrCurve;

impl Curve for PrCurve {
    const DECLARATION: &'static Function = &DECLARATION;
    type Options = Option<usize>;

    fn options(arguments: &Constants) -> Result<Self::Options, Error> {
        points(arguments, 2)
    }

    fn points(ranked: &Ranked, points: Self::Options) -> Vec<ArrayRef> {
        let curve = ranked.precision_recall(points);
        vec![
            doubles(curve.iter().map(|point| point.threshold)),
            doubles(curve.iter().map(|point| point.precision)),
            doubles(curve.iter().map(|point| point.recall)),
        ]
    }
}
