//! `ml.uplift_by_decile(query, outcome, treated, uplift)`: what treatment adds in slices of the rows.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array};
use stratagem_models::metrics::uplift::{Slice, Uplift};

use super::{ERRORS, OUTCOME, PROPENSITY, Picture, QUERY, TREATED, UPLIFT};
use crate::declaration::{Column, Function, Kind, Parameter, Returns, Type};

/// The declaration of `ml.uplift_by_decile`.
pub static DECLARATION: Function = Function {
    name: "ml.uplift_by_decile",
    kind: Kind::Table,
    parameters: &[
        QUERY,
        OUTCOME,
        TREATED,
        UPLIFT,
        PROPENSITY,
        Parameter::value("bins", Type::Integer, "The number of slices, from 1 to 10000.").or("10"),
    ],
    returns: Returns::Rows(&[
        Column::new("decile", Type::Integer, "The slice; 1 has the highest uplift."),
        Column::new("highest_uplift", Type::Double, "The highest predicted uplift in it."),
        Column::new("lowest_uplift", Type::Double, "The lowest predicted uplift in it."),
        Column::new("treated_rows", Type::BigInt, "Its treated rows."),
        Column::new("control_rows", Type::BigInt, "Its untreated rows."),
        Column::new("treated_mean", Type::Double, "The mean outcome of the treated rows; NULL without any.").nullable(),
        Column::new("control_mean", Type::Double, "The mean outcome of the untreated rows; NULL without any.").nullable(),
        Column::new("effect", Type::Double, "`treated_mean - control_mean`: what treatment adds in this slice.").nullable(),
    ]),
    summary: "What treatment adds in slices of the rows, from the highest predicted uplift down",
    docs: "A good model has effects that fall from slice to slice. The slices have equally many rows, the first ones one more where they \
           must (scikit-uplift's `uplift_by_percentile` with the strategy `overall`). Rows of equal uplift stay together, in the slice \
           of the middle one, so with many of them slices are larger, smaller, or missing. Rows with a NULL in a column that is named \
           are skipped.",
    example: "SELECT decile, effect FROM ml.uplift_by_decile(\n\
              \x20   query => $$SELECT * FROM (VALUES (1, 1, 0.9), (0, 0, 0.8), (0, 1, 0.3), (1, 0, 0.1)) AS t (visit, treated, score)$$,\n\
              \x20   outcome => 'visit', treated => 'treated', uplift => 'score', bins => 2)",
    errors: ERRORS,
};

/// The picture of `ml.uplift_by_decile`.
#[derive(Debug)]
pub(crate) struct UpliftByDecile;

impl Picture for UpliftByDecile {
    const DECLARATION: &'static Function = &DECLARATION;
    const FINENESS: (&'static str, usize, usize) = ("bins", 1, 10_000);

    fn columns(rows: &mut Uplift, bins: usize) -> Vec<ArrayRef> {
        let slices = rows.slices(bins);
        let counts = |count: fn(&Slice) -> usize| -> ArrayRef {
            Arc::new(slices.iter().map(|(_, slice)| i64::try_from(count(slice)).ok()).collect::<Int64Array>())
        };
        let doubles = |value: fn(&Slice) -> Option<f64>| -> ArrayRef {
            Arc::new(slices.iter().map(|(_, slice)| value(slice)).collect::<Float64Array>())
        };
        vec![
            Arc::new(slices.iter().map(|(number, _)| i32::try_from(number + 1).ok()).collect::<Int32Array>()),
            doubles(|slice| Some(slice.from)),
            doubles(|slice| Some(slice.to)),
            counts(|slice| slice.treated_rows),
            counts(|slice| slice.control_rows),
            doubles(|slice| slice.treated_mean),
            doubles(|slice| slice.control_mean),
            doubles(|slice| Some(slice.treated_mean? - slice.control_mean?)),
        ]
    }
}
