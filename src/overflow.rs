//! Sums, differences and products of whole numbers that do not fit their type are errors, as in PostgreSQL. The engine alone wraps around.

use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::kernels::numeric::{add, mul, neg, sub};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::parts;
use crate::sqlstate::{SqlError, SqlState};

/// Puts checked operations in the place of the engine's, once the types of their sides are settled.
#[derive(Debug)]
pub(crate) struct CheckOverflow {
    plus: Arc<ScalarUDF>,
    minus: Arc<ScalarUDF>,
    times: Arc<ScalarUDF>,
    negative: Arc<ScalarUDF>,
}

impl CheckOverflow {
    pub(crate) fn new() -> Self {
        let checked = |operation| Arc::new(ScalarUDF::from(Checked::new(operation)));
        Self {
            plus: checked(Operation::Plus),
            minus: checked(Operation::Minus),
            times: checked(Operation::Times),
            negative: checked(Operation::Negative),
        }
    }

    fn operation(&self, operator: Operator) -> Option<&Arc<ScalarUDF>> {
        match operator {
            Operator::Plus => Some(&self.plus),
            Operator::Minus => Some(&self.minus),
            Operator::Multiply => Some(&self.times),
            _ => None,
        }
    }

    fn checked(&self, expression: Expr, schema: &DFSchema) -> Transformed<Expr> {
        let whole = |side: &Expr| side.get_type(schema).ok().filter(DataType::is_integer);
        match expression {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let alike = self.operation(op).filter(|_| matches!((whole(&left), whole(&right)), (Some(l), Some(r)) if l == r));
                match alike {
                    Some(operation) => Transformed::yes(call(operation, vec![*left, *right])),
                    None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
                }
            }
            Expr::Negative(of) if whole(&of).is_some() => Transformed::yes(call(&self.negative, vec![*of])),
            other => Transformed::no(other),
        }
    }
}

fn call(operation: &Arc<ScalarUDF>, arguments: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(operation), arguments))
}

impl AnalyzerRule for CheckOverflow {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        parts::rewrite(plan, |part, schema| self.checked(part, schema))
    }

    fn name(&self) -> &str {
        "check_overflow"
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Plus,
    Minus,
    Times,
    Negative,
}

/// An operation on whole numbers of one type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operation: Operation,
    signature: Signature,
}

impl Checked {
    fn new(operation: Operation) -> Self {
        let arguments = if operation == Operation::Negative { 1 } else { 2 };
        Self { operation, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Plus => "+",
            Operation::Minus | Operation::Negative => "-",
            Operation::Times => "*",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        arguments.first().cloned().ok_or_else(|| exec_datafusion_err!("an operation without a side"))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let out_of_range = |error: ArrowError| -> DataFusionError {
            match error {
                ArrowError::ArithmeticOverflow(_) => {
                    let message = format!("{} out of range", type_name(args.return_field.data_type()));
                    SqlError::new(SqlState::NumericValueOutOfRange, message).into()
                }
                other => other.into(),
            }
        };
        let values = match args.args.as_slice() {
            [of] => neg(&of.to_array(if scalar { 1 } else { args.number_rows })?),
            [left, right] => {
                let operation = match self.operation {
                    Operation::Plus => add,
                    Operation::Minus | Operation::Negative => sub,
                    Operation::Times => mul,
                };
                match (left, right) {
                    (ColumnarValue::Array(left), ColumnarValue::Array(right)) => operation(left, right),
                    (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => operation(left, &right.to_scalar()?),
                    (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => operation(&left.to_scalar()?, right),
                    (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => operation(&left.to_scalar()?, &right.to_scalar()?),
                }
            }
            _ => return Err(exec_datafusion_err!("an operation has one side or two")),
        };
        let values: ArrayRef = values.map_err(out_of_range)?;
        Ok(if scalar { ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?) } else { ColumnarValue::Array(values) })
    }
}

/// The expression that a constant is added to or taken from, and what is added.
pub(crate) fn shifted(expression: &Expr) -> Option<(&Expr, i128)> {
    let Expr::ScalarFunction(call) = expression else { return None };
    let checked = call.func.inner().downcast_ref::<Checked>()?;
    let [left, right] = call.args.as_slice() else { return None };
    match (checked.operation, constant(left), constant(right)) {
        (Operation::Plus, None, Some(by)) => Some((left, by)),
        (Operation::Plus, Some(by), None) => Some((right, by)),
        (Operation::Minus, None, Some(by)) => Some((left, -by)),
        _ => None,
    }
}

/// A whole number that stands in the statement.
fn constant(expression: &Expr) -> Option<i128> {
    fn value(expression: &Expr) -> Option<ScalarValue> {
        match expression {
            Expr::Literal(value, _) => Some(value.clone()),
            Expr::Cast(cast) => value(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
            _ => None,
        }
    }
    match value(expression)? {
        ScalarValue::Int16(number) => number.map(i128::from),
        ScalarValue::Int32(number) => number.map(i128::from),
        ScalarValue::Int64(number) => number.map(i128::from),
        _ => None,
    }
}

/// The numbers of a type, and what PostgreSQL calls it.
pub(crate) fn range(data_type: &DataType) -> Option<(RangeInclusive<i128>, &'static str)> {
    let range = match data_type {
        DataType::Int16 => i16::MIN.into()..=i16::MAX.into(),
        DataType::Int32 => i32::MIN.into()..=i32::MAX.into(),
        DataType::Int64 => i64::MIN.into()..=i64::MAX.into(),
        _ => return None,
    };
    Some((range, type_name(data_type)))
}

/// A text of the engine in which checked operations stand as PostgreSQL shows operations: `(a + b)` for `+(a, b)`.
pub(crate) fn infix(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['+', '-', '*']) {
        let (before, from) = rest.split_at(at);
        shown.push_str(before);
        let stands_alone = shown.ends_with([' ', '(', '[', ',', '=']) || shown.is_empty();
        match arguments(&from[1..]).filter(|_| stands_alone) {
            Some((sides, after)) => {
                let sides: Vec<String> = sides.into_iter().map(infix).collect();
                match sides.as_slice() {
                    [side] => shown.extend(["(", &from[..1], " ", side, ")"]),
                    sides => shown.extend(["(", &sides.join(&format!(" {} ", &from[..1])), ")"]),
                }
                rest = after;
            }
            None => {
                shown.push_str(&from[..1]);
                rest = &from[1..];
            }
        }
    }
    shown.push_str(rest);
    shown
}

/// The arguments of a call that a text begins with, and what follows them.
fn arguments(text: &str) -> Option<(Vec<&str>, &str)> {
    let inner = text.strip_prefix('(')?;
    let (mut depth, mut from, mut found) = (0_usize, 0, Vec::new());
    for (at, character) in inner.char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' if depth == 0 => {
                found.push(&inner[from..at]);
                return Some((found, &inner[at + 1..]));
            }
            ')' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(&inner[from..at]);
                from = at + 1;
                // the engine puts a space there
                from += usize::from(inner[from..].starts_with(' '));
            }
            _ => {}
        }
    }
    None
}

fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        _ => "bigint",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_shown_between_their_sides() {
        for (text, shown) in [
            ("+(id@0, 1)", "(id@0 + 1)"),
            ("expr=[*(+(a@0, b@1), -(c@2)) as x, +(1, 2) as y]", "expr=[((a@0 + b@1) * (- c@2)) as x, (1 + 2) as y]"),
            ("a@0 + (b@1) > -(abs(x@2, [1, 2]), 3)", "a@0 + (b@1) > (abs(x@2, [1, 2]) - 3)"),
            ("x@0 - 1 = y+(2", "x@0 - 1 = y+(2"),
        ] {
            assert_eq!(infix(text), shown);
        }
    }
}
