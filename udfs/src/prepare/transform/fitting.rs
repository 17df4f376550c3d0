//! A transform while it learns, and after it.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Bound;
use super::columns::Column;
use super::plan::Plan;
use crate::error::Error;
use crate::prepare::fit::{Fitter, State};

/// A transform that is learning from the rows of its training query. Rows may come in any order and in parts that are merged.
#[derive(Debug)]
pub struct Fitting {
    plan: Arc<Plan>,
    fits: Vec<Box<dyn Fitter>>,
}

impl Fitting {
    pub(super) fn new(plan: Arc<Plan>) -> Result<Self, Error> {
        let fits = plan.calls.iter().map(|call| (call.learned.start)(&call.data_type, &call.options)).collect::<Result<_, Error>>()?;
        Ok(Self { plan, fits })
    }

    /// Learns from some rows, which have the columns of the training query.
    pub fn update(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.fits.is_empty() {
            return Ok(());
        }
        let narrow = self.plan.narrow(rows.num_rows(), |column| Some(Arc::clone(rows.column(column))))?;
        for (call, fit) in self.plan.calls.iter().zip(&mut self.fits) {
            fit.learn(&call.argument.evaluate(&narrow)?.into_array(rows.num_rows())?)?;
        }
        Ok(())
    }

    /// Takes over what another fitting of the same transform has learned from other rows.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        self.fits.iter_mut().zip(other.fits).try_for_each(|(fit, other)| fit.join(other))
    }

    /// The end of learning.
    pub fn finish(self) -> Result<Fitted> {
        let ends = self.fits.into_iter().map(Fitter::end).collect::<Result<Vec<_>>>()?;
        let (states, saved): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        Ok(Fitted { plan: self.plan, states: states.into(), saved: saved.into() })
    }
}

/// A transform that has learned. It is saved with a model and prepares the rows that the model scores.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct Fitted {
    pub(super) plan: Arc<Plan>,
    pub(super) states: Arc<[Arc<dyn State>]>,
    saved: Arc<[Value]>,
}

impl Fitted {
    /// The text inside `TRANSFORM (...)`.
    pub fn select(&self) -> &str {
        &self.plan.select
    }

    /// The columns that are read, as [`super::Transform::input_columns`] gives them.
    pub fn input_columns(&self, except: &[&str]) -> Vec<(&str, &str)> {
        self.plan.input_columns(except)
    }

    /// Finds the columns among the fields of a row, by name (further fields are left alone) or, for fields named `$1`, `$2`, ..., by position.
    /// Outputs named in `except`, such as the label when a model scores, are left out, and what only they read need not be there. `model` is
    /// named in errors.
    pub fn bind(&self, model: &str, fields: &[FieldRef], except: &[&str]) -> Result<Bound, Error> {
        Bound::new(self, model, fields, except)
    }
}

impl fmt::Debug for Fitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fitted").field("select", &self.plan.select).field("learned", &self.saved).finish_non_exhaustive()
    }
}

/// How a transform that has learned is saved.
#[derive(Serialize, Deserialize)]
struct Saved {
    select: String,
    columns: Vec<Column>,
    learned: Vec<Value>,
}

impl From<Fitted> for Saved {
    fn from(fitted: Fitted) -> Self {
        Self { select: fitted.plan.select.clone(), columns: fitted.plan.columns.clone(), learned: fitted.saved.to_vec() }
    }
}

impl TryFrom<Saved> for Fitted {
    type Error = String;

    fn try_from(saved: Saved) -> Result<Self, String> {
        let plan = Plan::new(&saved.select, saved.columns).map_err(|error| error.to_string())?;
        if plan.calls.len() != saved.learned.len() {
            return Err(format!("{} functions learn, but {} states are saved", plan.calls.len(), saved.learned.len()));
        }
        let states = plan.calls.iter().zip(&saved.learned).map(|(call, state)| (call.learned.load)(state.clone()));
        let states: Vec<_> = states.collect::<serde_json::Result<_>>().map_err(|error| error.to_string())?;
        Ok(Self { plan: Arc::new(plan), states: states.into(), saved: saved.learned.into() })
    }
}
