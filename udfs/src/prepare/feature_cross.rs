//! `ml.feature_cross(a, b [, c, d])`: several categories as one.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StringArray, builder::StringBuilder};
use datafusion::common::Result;

use super::map::Map;
use super::values::texts;
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// The declaration of `ml.feature_cross`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.feature_cross",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("a", Type::Any, "The first category."),
        Parameter::value("b", Type::Any, "The second."),
        Parameter::value("c", Type::Any, "A third.").optional(),
        Parameter::value("d", Type::Any, "A fourth.").optional(),
    ],
    returns: Returns::Value(Type::Text),
    summary: "Several categories as one: every combination of values is a value",
    docs: "The values as text with `_` between them: `mobile_evening`. A `_` or `\\` inside a value gets a `\\` before it, so different \
           combinations always have different texts. NULL when one of the values is NULL. Nothing is learned; a model finds out what a \
           combination is worth, where single categories only add up. For very many combinations put `ml.hash_bucketize` around it.",
    example: "SELECT ml.feature_cross(slot, item_id) AS slot_item, count(*) FROM impressions GROUP BY 1",
    errors: &[Failure { sqlstate: "42804", when: "a value is a list or a row" }],
};

/// The map of `ml.feature_cross`.
pub(super) struct FeatureCross;

impl Map for FeatureCross {
    const DECLARATION: &'static Function = &DECLARATION;
    const COLUMNS: usize = 4;

    fn check(_: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn map(_: &Options, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let columns = columns.iter().map(texts).collect::<Result<Vec<StringArray>>>()?;
        let rows = columns.first().map_or(0, Array::len);
        let mut crosses = StringBuilder::with_capacity(rows, rows * columns.len() * 8);
        let mut cross = String::new();
        for row in 0..rows {
            if columns.iter().any(|column| column.is_null(row)) {
                crosses.append_null();
                continue;
            }
            cross.clear();
            for (position, column) in columns.iter().enumerate() {
                if position > 0 {
                    cross.push('_');
                }
                for letter in column.value(row).chars() {
                    if matches!(letter, '_' | '\\') {
                        cross.push('\\');
                    }
                    cross.push(letter);
                }
            }
            crosses.append_value(&cross);
        }
        Ok(Arc::new(crosses.finish()))
    }
}
