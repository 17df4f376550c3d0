//! Lengths, places and ranks: integers and bigints in PostgreSQL, numbers without a sign in the engine, which no client knows.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array};
use datafusion::arrow::compute::{SortOptions, cast};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::function::{ExpressionArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{
    ColumnarValue, LimitEffect, PartitionEvaluator, ReturnFieldArgs, ReversedUDWF, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    WindowUDF, WindowUDFImpl,
};
use datafusion::physical_plan::PhysicalExpr;

/// Functions of lists that are integers.
const SCALAR: [&str; 4] = ["array_length", "array_ndims", "array_position", "cardinality"];

/// Functions of windows, and their types.
const WINDOW: [(&str, DataType); 4] =
    [("dense_rank", DataType::Int64), ("ntile", DataType::Int32), ("rank", DataType::Int64), ("row_number", DataType::Int64)];

/// Puts the functions in the place of the engine's.
pub(crate) fn register(functions: &mut impl FunctionRegistry) -> Result<()> {
    for name in SCALAR {
        let engine = functions.udf(name)?;
        functions.register_udf(Arc::new(ScalarUDF::from(OfList { engine })))?;
    }
    for (name, data_type) in WINDOW {
        let engine = functions.udwf(name)?;
        functions.register_udwf(Arc::new(WindowUDF::from(OfWindow { engine, data_type })))?;
    }
    Ok(())
}

/// A function of a list, as an integer.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfList {
    engine: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for OfList {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn aliases(&self) -> &[String] {
        self.engine.aliases()
    }

    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.engine.coerce_types(types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Int32, true)))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        args.return_field = Arc::new(Field::new(self.name(), self.engine.return_type(&types)?, true));
        let number = self.engine.invoke_with_args(args)?.cast_to(&DataType::Int32, None)?;
        if self.name() != "array_length" {
            return Ok(number);
        }
        // a list without items has no length
        let or_none = |numbers: &ArrayRef| -> Int32Array {
            numbers.as_primitive::<Int32Type>().iter().map(|length| length.filter(|length| *length > 0)).collect()
        };
        Ok(match number {
            ColumnarValue::Scalar(ScalarValue::Int32(length)) => {
                ColumnarValue::Scalar(ScalarValue::Int32(length.filter(|length| *length > 0)))
            }
            ColumnarValue::Scalar(other) => ColumnarValue::Scalar(other),
            ColumnarValue::Array(numbers) => ColumnarValue::Array(Arc::new(or_none(&numbers))),
        })
    }
}

/// A function of a window, as a number of this type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfWindow {
    engine: Arc<WindowUDF>,
    data_type: DataType,
}

impl WindowUDFImpl for OfWindow {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn aliases(&self) -> &[String] {
        self.engine.aliases()
    }

    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.engine.coerce_types(types)
    }

    fn expressions(&self, args: ExpressionArgs<'_>) -> Vec<Arc<dyn PhysicalExpr>> {
        self.engine.expressions(args)
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        let engine = self.engine.partition_evaluator_factory(args)?;
        Ok(Box::new(Evaluator { engine, data_type: self.data_type.clone() }))
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        let field = self.engine.field(args)?;
        Ok(Arc::new(field.as_ref().clone().with_data_type(self.data_type.clone())))
    }

    fn sort_options(&self) -> Option<SortOptions> {
        self.engine.sort_options()
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        match self.engine.reverse_expr() {
            ReversedUDWF::Identical => ReversedUDWF::Identical,
            ReversedUDWF::NotSupported | ReversedUDWF::Reversed(_) => ReversedUDWF::NotSupported,
        }
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.engine.inner().limit_effect(args)
    }
}

/// What computes a function of a window.
#[derive(Debug)]
struct Evaluator {
    engine: Box<dyn PartitionEvaluator>,
    data_type: DataType,
}

impl PartitionEvaluator for Evaluator {
    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.engine.memoize(state)
    }

    fn get_range(&self, row: usize, rows: usize) -> Result<Range<usize>> {
        self.engine.get_range(row, rows)
    }

    fn is_causal(&self) -> bool {
        self.engine.is_causal()
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        Ok(cast(&self.engine.evaluate_all(values, rows)?, &self.data_type)?)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        self.engine.evaluate(values, range)?.cast_to(&self.data_type)
    }

    fn evaluate_all_with_rank(&self, rows: usize, ranks: &[Range<usize>]) -> Result<ArrayRef> {
        Ok(cast(&self.engine.evaluate_all_with_rank(rows, ranks)?, &self.data_type)?)
    }

    fn supports_bounded_execution(&self) -> bool {
        self.engine.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.engine.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.engine.include_rank()
    }
}
