//! Values cast to text as PostgreSQL writes them. The engine alone writes times as ISO 8601 does, and numbers and lists in its own way.

use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, exec_datafusion_err};
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::encode;
use crate::parts;

/// Puts a function in the place of casts of values that the engine writes in another way.
#[derive(Debug)]
pub(crate) struct WriteTexts(Arc<ScalarUDF>);

impl WriteTexts {
    pub(crate) fn new() -> Self {
        Self(Arc::new(ScalarUDF::from(Text(Signature::any(1, Volatility::Stable)))))
    }

    fn written(&self, expression: Expr, schema: &DFSchema) -> Transformed<Expr> {
        match expression {
            Expr::Cast(Cast { expr, field }) if field.data_type().is_string() && expr.get_type(schema).is_ok_and(|of| is_other(&of)) => {
                let text = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.0), vec![*expr]));
                Transformed::yes(Expr::Cast(Cast { expr: Box::new(text), field }))
            }
            other => Transformed::no(other),
        }
    }
}

/// Whether the engine writes values of a type in another way than PostgreSQL.
fn is_other(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) | DataType::Date32 | DataType::Date64 => true,
        data_type => data_type.is_floating(),
    }
}

impl AnalyzerRule for WriteTexts {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        parts::rewrite(plan, |part, schema| self.written(part, schema))
    }

    fn name(&self) -> &str {
        "write_texts"
    }
}

/// The text of a value.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Text(Signature);

impl ScalarUDFImpl for Text {
    fn name(&self) -> &str {
        "text"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        let [value] = args.args.as_slice() else { return Err(exec_datafusion_err!("a text of more than one value")) };
        let array = value.to_array(args.number_rows)?;
        let texts = match encode::texts(&array, zone)? {
            Some(texts) => Arc::new(texts),
            None => cast(&array, &DataType::Utf8)?,
        };
        debug_assert_eq!(texts.len(), array.len());
        Ok(ColumnarValue::Array(texts))
    }
}
