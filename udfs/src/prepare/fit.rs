//! What the functions that learn share: a fit over many rows, merged from parts, whose result maps each row.

use std::any::Any;
use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::function::{ExpressionArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::declaration::Function;
use crate::error::Error;
use crate::options::Options;

/// A function while it learns from its first argument; the others are constants. What is learned does not depend on the order of the rows.
pub(super) trait Fit: Debug + Send + Sized + 'static {
    /// Its declaration.
    const DECLARATION: &'static Function;
    /// What it learns.
    type State: State + Serialize + DeserializeOwned;

    /// The type of the results for an argument of a type.
    fn returns(argument: &DataType) -> DataType;
    /// Begins, with checked constants.
    fn start(argument: &DataType, options: &Options) -> Result<Self, Error>;
    /// Learns from some rows.
    fn update(&mut self, values: &ArrayRef) -> Result<()>;
    /// Takes over what a fit of other rows has learned.
    fn merge(&mut self, other: Self) -> Result<()>;
    /// The end.
    fn finish(self) -> Result<Self::State>;
}

/// What a function has learned.
pub(super) trait State: Debug + Send + Sync + 'static {
    /// The results of some rows.
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef>;
}

/// Begins to learn from values of a type.
type Begin = fn(&DataType, &Options) -> Result<Box<dyn Fitter>, Error>;

/// A function that learns, whichever it is.
pub(super) struct Learned {
    pub(super) declaration: &'static Function,
    pub(super) returns: fn(&DataType) -> DataType,
    pub(super) start: Begin,
    pub(super) load: fn(Value) -> serde_json::Result<Arc<dyn State>>,
    pub(super) window: fn() -> WindowUDF,
}

impl Learned {
    pub(super) const fn of<F: Fit>() -> Self {
        Self { declaration: F::DECLARATION, returns: F::returns, start: start::<F>, load: load::<F>, window: FitFunction::<F>::function }
    }
}

impl Debug for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Learned").field(&self.declaration.name).finish()
    }
}

fn start<F: Fit>(argument: &DataType, options: &Options) -> Result<Box<dyn Fitter>, Error> {
    Ok(Box::new(F::start(argument, options)?))
}

fn load<F: Fit>(saved: Value) -> serde_json::Result<Arc<dyn State>> {
    Ok(Arc::new(serde_json::from_value::<F::State>(saved)?))
}

/// A fit, whichever it is.
pub(super) trait Fitter: Debug + Send {
    /// Learns from some rows.
    fn learn(&mut self, values: &ArrayRef) -> Result<()>;
    /// Takes over what another fit of the same call has learned.
    fn join(&mut self, other: Box<dyn Fitter>) -> Result<()>;
    /// What was learned, and how it is saved.
    fn end(self: Box<Self>) -> Result<(Arc<dyn State>, Value)>;
    fn any(self: Box<Self>) -> Box<dyn Any>;
}

impl<F: Fit> Fitter for F {
    fn learn(&mut self, values: &ArrayRef) -> Result<()> {
        self.update(values)
    }

    fn join(&mut self, other: Box<dyn Fitter>) -> Result<()> {
        match other.any().downcast::<F>() {
            Ok(other) => self.merge(*other),
            Err(_) => unreachable!("fits of one call are of one function"),
        }
    }

    fn end(self: Box<Self>) -> Result<(Arc<dyn State>, Value)> {
        let state = self.finish()?;
        let saved = serde_json::to_value(&state).map_err(|error| datafusion::common::DataFusionError::External(Box::new(error)))?;
        Ok((Arc::new(state), saved))
    }

    fn any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The SQL window function: it learns from all rows of a partition and maps them.
struct FitFunction<F> {
    signature: Signature,
    fit: PhantomData<fn() -> F>,
}

impl<F: Fit> FitFunction<F> {
    fn function() -> WindowUDF {
        WindowUDF::from(Self { signature: F::DECLARATION.engine_signature(Volatility::Immutable), fit: PhantomData })
    }
}

impl<F: Fit> Debug for FitFunction<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FitFunction").field(&F::DECLARATION.name).finish()
    }
}

impl<F: Fit> PartialEq for FitFunction<F> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<F: Fit> Eq for FitFunction<F> {}

impl<F: Fit> Hash for FitFunction<F> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        F::DECLARATION.name.hash(state);
    }
}

impl<F: Fit> WindowUDFImpl for FitFunction<F> {
    fn name(&self) -> &str {
        F::DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn expressions(&self, args: ExpressionArgs<'_>) -> Vec<Arc<dyn PhysicalExpr>> {
        args.input_exprs()[..1].to_vec()
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        let constant = |argument: &Arc<dyn PhysicalExpr>| argument.downcast_ref::<Literal>().map(|literal| literal.value().clone());
        let options = Options::new(F::DECLARATION, args.input_exprs().iter().map(constant));
        let argument = args.input_fields()[0].data_type().clone();
        F::start(&argument, &options)?;
        Ok(Box::new(Partition::<F> { argument, options, fit: PhantomData }))
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        let argument = args.input_fields()[0].data_type();
        F::DECLARATION.check_types([argument])?;
        Ok(Arc::new(Field::new(args.name(), F::returns(argument), true)))
    }
}

/// One partition of a window.
#[derive(Debug)]
struct Partition<F> {
    argument: DataType,
    options: Options,
    fit: PhantomData<fn() -> F>,
}

impl<F: Fit> PartitionEvaluator for Partition<F> {
    fn evaluate_all(&mut self, values: &[ArrayRef], _: usize) -> Result<ArrayRef> {
        let mut fit = F::start(&self.argument, &self.options)?;
        fit.update(&values[0])?;
        fit.finish()?.apply(&values[0])
    }
}
