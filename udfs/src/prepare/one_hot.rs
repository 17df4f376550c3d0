//! `ml.one_hot(x, top_k)`: a category as a list of zeros with a one.

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use serde::{Deserialize, Serialize};

use super::categories::Categories;
use super::fit::{Fit, State};
use super::values::{of_width, texts};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// The declaration of `ml.one_hot`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.one_hot",
    kind: Kind::Window,
    parameters: &[
        Parameter::value("x", Type::Any, "The category."),
        Parameter::value("top_k", Type::Integer, "How many values have a place of their own at most, from 1 to 65536; a constant.")
            .or("32"),
    ],
    returns: Returns::Value(Type::Doubles),
    summary: "A category as a list of zeros with a one at the place of its value",
    docs: "The `top_k` most frequent values have a place each, in the order of their text; the last place is for all others, also those that \
           were not there to learn from. Equal to scikit-learn's `OneHotEncoder(max_categories=top_k + 1, \
           handle_unknown='infrequent_if_exist')` where there are more values than places; but of equally frequent values the first in \
           the order of text has the place, not the last. NULL is a list of zeros.",
    example: "SELECT slot, ml.one_hot(slot, top_k => 8) OVER () AS slot_v FROM impressions",
    errors: &[
        Failure { sqlstate: "42883", when: "it stands without `OVER`, outside of a model's `TRANSFORM`" },
        Failure {
            sqlstate: "22023",
            when: "`top_k` is not a constant from 1 to 65536, or there are too many different values to count them",
        },
        Failure { sqlstate: "42804", when: "the argument is a list or a row" },
    ],
};

/// The values so far.
#[derive(Debug)]
pub(super) struct OneHot {
    top_k: usize,
    categories: Categories<u64>,
}

/// The values with a place, sorted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Places {
    values: Vec<String>,
}

impl Fit for OneHot {
    const DECLARATION: &'static Function = &DECLARATION;
    type State = Places;

    fn returns(_: &DataType) -> DataType {
        Type::Doubles.arrow()
    }

    fn start(_: &DataType, options: &Options) -> Result<Self, Error> {
        Ok(Self { top_k: options.whole("top_k", 1..=65_536)? as usize, categories: Categories::new(&DECLARATION) })
    }

    fn update(&mut self, values: &ArrayRef) -> Result<()> {
        texts(values)?.iter().flatten().try_for_each(|text| self.categories.count(text, |count| *count += 1))?;
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        Ok(self.categories.merge(other.categories, |count, more| *count += more)?)
    }

    fn finish(self) -> Result<Places> {
        Ok(Places { values: self.categories.top(self.top_k).into_iter().map(|(text, _)| text).collect() })
    }
}

impl State for Places {
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let texts = texts(values)?;
        let width = self.values.len() + 1;
        let mut numbers = vec![0.0; texts.len() * width];
        for (text, places) in texts.iter().zip(numbers.chunks_mut(width)) {
            if let Some(text) = text {
                let place = self.values.binary_search_by(|value| value.as_str().cmp(text)).unwrap_or(self.values.len());
                places[place] = 1.0;
            }
        }
        of_width(&DECLARATION, texts.len(), width, numbers, None)
    }
}
