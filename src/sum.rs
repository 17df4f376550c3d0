//! `sum` of whole numbers as in PostgreSQL: a bigint of integers, a numeric of bigints. The engine's own wraps around where it does not fit.

mod distinct;
mod groups;
mod shifted;
mod total;

use std::sync::Arc;

use datafusion::arrow::array::ArrowPrimitiveType;
use datafusion::arrow::array::types::{Decimal128Type, Int32Type, Int64Type, UInt64Type};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_datafusion_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility};

use crate::sqlstate::{SqlError, SqlState};
use distinct::Distinct;
use groups::Groups;
pub(crate) use shifted::ShareSums;
use total::Total;

/// The type of a sum of bigints.
const NUMERIC: DataType = DataType::Decimal128(38, 0);

/// Puts the function in the place of the engine's.
pub(crate) fn register(functions: &mut impl FunctionRegistry) -> Result<()> {
    let engine = functions.udaf("sum")?;
    functions.register_udaf(Arc::new(AggregateUDF::from(Sum { engine, signature: Signature::user_defined(Volatility::Immutable) })))?;
    Ok(())
}

/// Whole numbers of one type and the type that holds their sums.
trait Summed: std::fmt::Debug + Send + Sync + 'static {
    type Number: ArrowPrimitiveType<Native: std::hash::Hash + Eq> + std::fmt::Debug;
    type Sum: ArrowPrimitiveType + std::fmt::Debug;

    fn widen(number: <Self::Number as ArrowPrimitiveType>::Native) -> <Self::Sum as ArrowPrimitiveType>::Native;
}

#[derive(Debug)]
struct Integers;
impl Summed for Integers {
    type Number = Int32Type;
    type Sum = Int64Type;
    fn widen(number: i32) -> i64 {
        number.into()
    }
}

#[derive(Debug)]
struct Bigints;
impl Summed for Bigints {
    type Number = Int64Type;
    type Sum = Decimal128Type;
    fn widen(number: i64) -> i128 {
        number.into()
    }
}

#[derive(Debug)]
struct Unsigned;
impl Summed for Unsigned {
    type Number = UInt64Type;
    type Sum = Decimal128Type;
    fn widen(number: u64) -> i128 {
        number.into()
    }
}

/// The type of the sums of a type of whole numbers; none of other numbers.
fn of_whole(number: &DataType) -> Option<DataType> {
    match number {
        DataType::Int32 => Some(DataType::Int64),
        DataType::Int64 | DataType::UInt64 => Some(NUMERIC),
        _ => None,
    }
}

fn out_of_range(error: ArrowError) -> DataFusionError {
    match error {
        ArrowError::ArithmeticOverflow(_) => SqlError::new(SqlState::NumericValueOutOfRange, "bigint out of range").into(),
        other => other.into(),
    }
}

/// `sum(number)`; of what is no whole number it is the engine's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    engine: Arc<AggregateUDF>,
    signature: Signature,
}

/// The kind of whole numbers that the arguments are, for `$call` of it.
macro_rules! by_number {
    ($args:expr, $call:ident, $otherwise:expr) => {
        match $args.expr_fields.first().map(|field| field.data_type()) {
            Some(DataType::Int32) => Ok($call::<Integers>()),
            Some(DataType::Int64) => Ok($call::<Bigints>()),
            Some(DataType::UInt64) => Ok($call::<Unsigned>()),
            _ => $otherwise,
        }
    };
}

fn total<S: Summed>() -> Box<dyn Accumulator> {
    Box::new(Total::<S>::default())
}

fn distinct<S: Summed>() -> Box<dyn Accumulator> {
    Box::new(Distinct::<S>::default())
}

fn groups<S: Summed>() -> Box<dyn GroupsAccumulator> {
    Box::new(Groups::<S>::default())
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [number] = types else { return Err(plan_datafusion_err!("sum takes one argument")) };
        Ok(vec![match number {
            DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
            DataType::UInt32 | DataType::Null => DataType::Int64,
            DataType::Float16 | DataType::Float32 => DataType::Float64,
            number if number.is_numeric() => number.clone(),
            time @ (DataType::Duration(_) | DataType::Interval(_)) => time.clone(),
            other => return Err(plan_datafusion_err!("sum takes numbers or intervals, not {other}")),
        }])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(DataType::Decimal128(_, scale)) => Ok(DataType::Decimal128(38, *scale)),
            Some(number) => of_whole(number).map_or_else(|| self.engine.return_type(types), Ok),
            None => Err(exec_datafusion_err!("a sum of nothing")),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        match args.input_fields.first().map(|field| field.data_type()) {
            Some(number) if of_whole(number).is_some() && args.is_distinct => {
                let item = Field::new_list_field(number.clone(), true);
                Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "sum distinct"), item, false))])
            }
            _ => self.engine.inner().state_fields(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return by_number!(args, distinct, self.engine.accumulator(args));
        }
        by_number!(args, total, self.engine.accumulator(args))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        by_number!(args, groups, self.engine.create_groups_accumulator(args))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return by_number!(args, distinct, self.engine.create_sliding_accumulator(args));
        }
        by_number!(args, total, self.engine.create_sliding_accumulator(args))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
