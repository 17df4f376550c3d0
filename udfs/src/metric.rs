//! The metric aggregates: a declaration each, and a statistic of [`stratagem_models::metrics`] that does the work.
//!
//! What they share is here. Parameters with a default are options: constants that are known before the first row. All others are columns; a row
//! with a NULL in one of them is skipped.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;
use stratagem_models::metrics::statistic::{Invalid, Template, Value};

use crate::declaration::{Function, Returns};
use crate::error::Error;
use crate::options::Options;

mod ab_test;
mod ab_test_cuped;
mod accumulator;
mod ate;
mod auc;
mod auuc;
mod calibration;
mod classes;
mod clipped_ips;
mod curve;
mod dm;
mod dr;
mod ess;
mod forecast;
mod gauc;
mod groups;
mod ips;
mod ks_drift;
mod loss;
mod max_weight;
mod off_policy;
mod parameters;
mod psi;
mod qini;
mod ranking;
mod rows;
mod snips;
mod srm_test;
mod switch_dr;
mod threshold;
mod uplift;
mod uplift_at_k;

use rows::Reading;

/// All metrics.
pub(crate) static METRICS: &[&Metric] = &[
    &ab_test::FIXED,
    &ab_test::SEQUENTIAL,
    &ab_test_cuped::METRIC,
    &ate::VALUE,
    &ate::WITH_INTERVAL,
    &auc::APPROX_AUC,
    &auc::AUC,
    &auc::AUC_CI,
    &auuc::VALUE,
    &auuc::WITH_INTERVAL,
    &calibration::COPC,
    &calibration::ECE,
    &calibration::MCE,
    &classes::ACCURACY,
    &classes::ACCURACY_CI,
    &classes::COHEN_KAPPA,
    &classes::MACRO_F1,
    &classes::MATTHEWS,
    &classes::MICRO_F1,
    &classes::WEIGHTED_F1,
    &clipped_ips::VALUE,
    &clipped_ips::WITH_INTERVAL,
    &curve::KS,
    &curve::PR_AUC,
    &curve::PR_AUC_CI,
    &dm::VALUE,
    &dm::WITH_INTERVAL,
    &dr::VALUE,
    &dr::WITH_INTERVAL,
    &ess::METRIC,
    &forecast::MAE,
    &forecast::RMSE,
    &forecast::RMSSE,
    &forecast::SMAPE,
    &forecast::WAPE,
    &gauc::GAUC,
    &gauc::GAUC_CI,
    &gauc::GAUC_DETAIL,
    &ips::VALUE,
    &ips::WITH_INTERVAL,
    &ks_drift::METRIC,
    &loss::BRIER,
    &loss::BRIER_CI,
    &loss::LOGLOSS,
    &loss::LOGLOSS_CI,
    &max_weight::METRIC,
    &psi::DIVERGENCE,
    &psi::STABILITY,
    &qini::VALUE,
    &qini::WITH_INTERVAL,
    &ranking::HIT_AT_K,
    &ranking::MAP_AT_K,
    &ranking::MRR,
    &ranking::NDCG_AT_K,
    &snips::VALUE,
    &snips::WITH_INTERVAL,
    &srm_test::METRIC,
    &switch_dr::VALUE,
    &switch_dr::WITH_INTERVAL,
    &threshold::F1_AT,
    &threshold::PRECISION_AT,
    &threshold::PRECISION_AT_CI,
    &threshold::RECALL_AT,
    &threshold::RECALL_AT_CI,
    &uplift_at_k::METRIC,
];

/// The aggregates of SQL.
pub(crate) fn functions() -> impl Iterator<Item = Arc<AggregateUDF>> {
    METRICS.iter().map(|metric| {
        let signature = metric.declaration.engine_signature(Volatility::Immutable);
        Arc::new(AggregateUDF::from(MetricAggregate { metric, signature }))
    })
}

/// A metric.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Its declaration.
    pub(crate) declaration: &'static Function,
    /// An empty statistic for the options of a call.
    pub(crate) template: fn(&Options) -> Result<Template, Error>,
}

impl Metric {
    fn returns(&self) -> DataType {
        match self.declaration.returns {
            Returns::Value(data_type) => data_type.arrow(),
            Returns::Struct(_) | Returns::Rows(_) | Returns::QueryRows(_) => DataType::Struct(self.declaration.schema().fields().clone()),
        }
    }

    /// The results of some groups, one behind the other, as an array.
    fn array(&self, values: &[Value]) -> Result<ArrayRef> {
        let DataType::Struct(fields) = self.returns() else { return Ok(column(&self.returns(), values.iter())) };
        let columns = fields
            .iter()
            .enumerate()
            .map(|(position, field)| column(field.data_type(), values.iter().skip(position).step_by(fields.len())));
        let columns = columns.collect();
        Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
    }

    fn refused(&self, invalid: Invalid) -> Error {
        let Invalid { argument, value, allowed } = invalid;
        Error::value(format!("argument {argument} of {}", self.declaration.name), format!("is {value}, but must be {allowed}"))
    }
}

/// One field of the results.
fn column<'a>(data_type: &DataType, values: impl Iterator<Item = &'a Value>) -> ArrayRef {
    match data_type {
        DataType::Utf8 => {
            Arc::new(StringArray::from_iter(values.map(|value| if let Value::Text(text) = value { Some(text.as_str()) } else { None })))
        }
        DataType::Int64 => {
            Arc::new(Int64Array::from_iter(values.map(|value| if let Value::Count(count) = value { Some(*count) } else { None })))
        }
        _ => Arc::new(Float64Array::from_iter(values.map(|value| match value {
            Value::Number(number) => Some(*number),
            Value::Count(count) => Some(*count as f64),
            Value::Null | Value::Text(_) => None,
        }))),
    }
}

/// A call of a metric: its options are known.
#[derive(Debug)]
struct Call {
    metric: &'static Metric,
    template: Template,
    reading: Reading,
}

/// The SQL aggregate of a metric.
#[derive(Debug)]
struct MetricAggregate {
    metric: &'static Metric,
    signature: Signature,
}

impl MetricAggregate {
    fn call(&self, args: &AccumulatorArgs<'_>) -> Result<Arc<Call>> {
        let constants = args.exprs.iter().map(|argument| argument.downcast_ref::<Literal>().map(|literal| literal.value().clone()));
        let options = Options::with_defaults(self.metric.declaration, constants);
        let template = (self.metric.template)(&options)?;
        let reading = Reading::new(self.metric.declaration, args.expr_fields.iter().map(|field| field.data_type()));
        Ok(Arc::new(Call { metric: self.metric, template, reading }))
    }
}

impl PartialEq for MetricAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.metric.declaration.name == other.metric.declaration.name
    }
}

impl Eq for MetricAggregate {}

impl Hash for MetricAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.metric.declaration.name.hash(state);
    }
}

impl AggregateUDFImpl for MetricAggregate {
    fn name(&self) -> &str {
        self.metric.declaration.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.metric.declaration.check_types(arguments)?;
        Ok(self.metric.returns())
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[part]", args.name), DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(accumulator::new(self.call(&args)?, args.is_distinct))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(groups::Grouped::new(self.call(&args)?)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(accumulator::Sliding::new(self.call(&args)?, args.is_distinct)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}
