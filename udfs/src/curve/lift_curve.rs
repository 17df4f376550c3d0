//! `ml.lift_curve(query, label, score [, weight, points])`: what the rows with the highest scores hold.

use datafusion::arrow::array::ArrayRef;
use stratagem_models::metrics::curves::Ranked;

use super::{Curve, ERRORS, LABEL, QUERY, SCORE, WEIGHT, doubles, points};
use crate::declaration::{Column, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::relation::Constants;

/// The declaration of `ml.lift_curve`.
pub static DECLARATION: Function = Function {
    name: "ml.lift_curve",
    kind: Kind::Table,
    parameters: &[
        QUERY,
        LABEL,
        SCORE,
        WEIGHT,
        Parameter::value("points", Type::Integer, "How many steps: 20 is every 5 % of the rows.").or("20"),
    ],
    returns: Returns::Rows(&[
        Column::new("share_of_rows", Type::Double, "This share of the rows, those with the highest scores."),
        Column::new("threshold", Type::Double, "The lowest score among them."),
        Column::new("share_of_positives", Type::Double, "The share of all positive rows among them (the cumulative gain).").nullable(),
        Column::new("lift", Type::Double, "How many times as many positive rows as among as many rows chosen at random.").nullable(),
    ]),
    summary: "Cumulative gains and lift: what the rows with the highest scores hold",
    docs: "If only a tenth of the customers gets the mail, which share of the buyers does it reach? One row per step, from the first share of \
           the rows to all of them. Rows with the same score count as if they stood in random order, so the result does not depend on theirs. \
           Rows with a NULL in a column that is used are skipped. Without positive rows there is neither gain nor lift.",
    example: "SELECT share_of_rows, share_of_positives, bar(share_of_positives, 0, 1, 20), round(lift, 2) AS lift\n\
              FROM ml.lift_curve(query => $$SELECT click, predict_ctr('ctr', i) AS p FROM impressions i$$,\n\
              \x20                  label => 'click', score => 'p', points => 10)",
    errors: ERRORS,
};

/// The curve of `ml.lift_curve`.
#[derive(Debug)]
pub(crate) struct LiftCurve;

impl Curve for LiftCurve {
    const DECLARATION: &'static Function = &DECLARATION;
    type Options = usize;

    fn options(arguments: &Constants) -> Result<Self::Options, Error> {
        let needed = || Error::value(format!("argument points of {}", DECLARATION.name), "is NULL");
        points(arguments, 1)?.ok_or_else(needed)
    }

    fn points(ranked: &Ranked, points: Self::Options) -> Vec<ArrayRef> {
        let gains = ranked.gains(points);
        vec![
            doubles(gains.iter().map(|gain| gain.rows)),
            doubles(gains.iter().map(|gain| gain.threshold)),
            doubles(gains.iter().map(|gain| gain.positives)),
            doubles(gains.iter().map(|gain| gain.lift)),
        ]
    }
}
