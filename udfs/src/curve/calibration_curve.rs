//! `ml.calibration_curve(query, label, score [, bins, strategy])`: predicted probabilities against what happened.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array};
use stratagem_models::metrics::curves::Ranked;
use stratagem_models::metrics::reliability::{Strategy, reliability};

use super::{Curve, ERRORS, LABEL, QUERY, doubles};
use crate::declaration::{Column, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::relation::Constants;

const MOST_BINS: usize = 10_000;

/// The declaration of `ml.calibration_curve`.
pub static DECLARATION: Function = Function {
    name: "ml.calibration_curve",
    kind: Kind::Table,
    parameters: &[
        QUERY,
        LABEL,
        Parameter::value("score", Type::Text, "The column with the predicted probability, from 0 to 1."),
        Parameter::value("bins", Type::Integer, "How many bins.").or("10"),
        Parameter::value("strategy", Type::Text, "`uniform`: bins of one width; `quantile`: bins with the same number of rows.")
            .or("'uniform'"),
    ],
    returns: Returns::Rows(&[
        Column::new("bin", Type::Integer, "The place of the bin, from 1."),
        Column::new("rows", Type::BigInt, "Its rows."),
        Column::new("predicted", Type::Double, "Their mean probability."),
        Column::new("observed", Type::Double, "The share of positive rows among them."),
        Column::new("low", Type::Double, "The lower end of the 95 % interval of that share (Wilson 1927)."),
        Column::new("high", Type::Double, "The upper end."),
    ]),
    summary: "Predicted probabilities against what happened, bin by bin (a reliability diagram)",
    docs: "Of the rows with a predicted probability of about 0.2, a fifth should be positive. One row per bin that has rows, with the bins of \
           scikit-learn's `calibration_curve`. A bin whose interval does not hold its mean probability is off by more than chance. Click rates \
           are small, so that nearly all rows fall into one uniform bin: take `strategy => 'quantile'` for them. Rows with a NULL in a column \
           that is used are skipped.",
    example: "SELECT bin, rows, predicted, observed, low, high\n\
              FROM ml.calibration_curve(query => $$SELECT click, predict_ctr('ctr', i) AS p FROM impressions i$$,\n\
              \x20                         label => 'click', score => 'p', bins => 8, strategy => 'quantile')",
    errors: ERRORS,
};

/// The curve of `ml.calibration_curve`.
#[derive(Debug)]
pub(crate) struct CalibrationCurve;

impl Curve for CalibrationCurve {
    const DECLARATION: &'static Function = &DECLARATION;
    const PROBABILITIES: bool = true;
    type Options = (usize, Strategy);

    fn options(arguments: &Constants) -> Result<Self::Options, Error> {
        let object = |argument: &str| format!("argument {argument} of {}", DECLARATION.name);
        let bins = arguments.count::<usize>("bins")?.ok_or_else(|| Error::value(object("bins"), "is NULL"))?;
        let bins = arguments.within("bins", bins, 1..=MOST_BINS)?;
        let strategy = match arguments.text("strategy")? {
            "uniform" => Strategy::Uniform,
            "quantile" => Strategy::Quantile,
            other => return Err(Error::value(object("strategy"), format!("is '{other}', but must be 'uniform' or 'quantile'"))),
        };
        Ok((bins, strategy))
    }

    fn points(ranked: &Ranked, (bins, strategy): Self::Options) -> Vec<ArrayRef> {
        let bins = reliability(ranked, bins, strategy);
        vec![
            Arc::new(bins.iter().map(|bin| i32::try_from(bin.bin).ok()).collect::<Int32Array>()),
            Arc::new(bins.iter().map(|bin| i64::try_from(bin.rows).ok()).collect::<Int64Array>()),
            doubles(bins.iter().map(|bin| bin.predicted)),
            doubles(bins.iter().map(|bin| bin.observed)),
            doubles(bins.iter().map(|bin| bin.low)),
            doubles(bins.iter().map(|bin| bin.high)),
        ]
    }
}
