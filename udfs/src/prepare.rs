//! Columns made ready for a model: functions of a row, functions that learn from many rows before they map one, and [`Transform`], a select
//! list of both that is kept with a model and replayed when it scores.

use std::sync::Arc;

use datafusion::logical_expr::{ScalarUDF, WindowUDF};

use crate::declaration::Function;

pub(crate) mod bucketize;
mod categories;
mod eigen;
pub(crate) mod feature_cross;
mod fit;
mod hash;
pub(crate) mod hash_bucketize;
pub(crate) mod impute;
mod map;
mod number;
pub(crate) mod one_hot;
pub(crate) mod pca;
pub(crate) mod quantile_bucketize;
mod quantiles;
pub(crate) mod split;
pub(crate) mod standard_scaler;
pub(crate) mod tf_idf;
pub(crate) mod tokens;
mod transform;
mod values;

pub use transform::{Bound, Fitted, Fitting, Transform};

use fit::Learned;
use map::MapFunction;

/// The functions that learn.
static LEARNED: &[Learned] = &[
    Learned::of::<impute::Impute>(),
    Learned::of::<one_hot::OneHot>(),
    Learned::of::<pca::Pca>(),
    Learned::of::<quantile_bucketize::QuantileBucketize>(),
    Learned::of::<standard_scaler::StandardScaler>(),
    Learned::of::<tf_idf::TfIdf>(),
];

/// The functions of a row.
pub(crate) fn maps() -> [Arc<ScalarUDF>; 4] {
    [
        Arc::new(MapFunction::<bucketize::Bucketize>::function()),
        Arc::new(MapFunction::<feature_cross::FeatureCross>::function()),
        Arc::new(MapFunction::<hash_bucketize::HashBucketize>::function()),
        Arc::new(MapFunction::<split::Split>::function()),
    ]
}

/// The functions that learn, each over a window.
pub(crate) fn windows() -> impl Iterator<Item = Arc<WindowUDF>> {
    LEARNED.iter().map(|learned| Arc::new((learned.window)()))
}

/// Whether a function is one of these.
pub(crate) fn prepares(function: &Function) -> bool {
    learned(function).is_some() || maps().iter().any(|map| map.name() == function.name)
}

fn learned(function: &Function) -> Option<&'static Learned> {
    LEARNED.iter().find(|learned| learned.declaration.name == function.name)
}
